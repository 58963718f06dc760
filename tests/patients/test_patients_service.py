"""Registering, finding and listing patients, on both engines."""

import threading
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from medportal.identity.models import Account, Person, PersonIdentifier
from medportal.identity.people import Profile, find_person, register_person, roles_of
from medportal.patients import service
from medportal.patients.errors import AlreadyRegistered, RegistrationRefused
from medportal.patients.models import Destination, Patient, PatientStatus
from medportal.patients.models_index import PartnerIndex
from medportal.patients.partner_index import Hit, IndexIncomplete, lookup
from medportal.patients.pseudonyms import PartnerKey, demographic_tag, pseudonym

NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
CARD = "citizen-card"
LAB = PartnerKey("laboratory", "k1", bytes(range(32)))
CLINIC = PartnerKey("clinic", "k1", bytes(range(1, 33)))
CLERK = "e" * 32


def profile(name="Amanda Júlio", born=date(1980, 2, 3)):
    return Profile(name, born, "female", "a@example.org", "910000000", "Lisboa", "pt")


def registration(number="17645234", name="Amanda Júlio", **more):
    return service.Registration(CARD, number, profile(name), **more)


def register(session, *arguments, keys=(), **more):
    return service.register_patient(
        session, registration(*arguments, **more), keys, by=CLERK, now=NOW
    )


def count(session, model):
    return session.scalar(select(func.count()).select_from(model))


def test_everything_that_was_entered_is_kept(session):
    patient, created = register(
        session, ward="Cardiology", bed="12A", destinations=("hospital", "clinic")
    )
    assert created
    found = service.details(session, patient, CARD)
    assert found == service.PatientDetails(
        id=patient,
        name="Amanda Júlio",
        birth_date=date(1980, 2, 3),
        sex="female",
        email="a@example.org",
        phone="910000000",
        city="Lisboa",
        scheme=CARD,
        number="17645234",
        ward="Cardiology",
        bed="12A",
        status=PatientStatus.ACTIVE,
        destinations=("clinic", "hospital"),
    )
    kept = session.get(Patient, patient)
    assert (kept.registered_by, kept.registered_at) == (CLERK, NOW)
    assert set(session.scalars(select(Destination.named_by))) == {CLERK}
    assert roles_of(session, patient) == {"patient"}
    assert service.details(session, patient, "passport").number == ""


def test_a_patient_is_found_by_exactly_their_number(session):
    patient, _ = register(session)
    assert service.find_patient(session, CARD, "17645234") == patient
    for number in ("1764523", "17645235", "%", "1764523_", ""):
        assert service.find_patient(session, CARD, number) is None
    assert service.find_patient(session, "passport", "17645234") is None


def test_registered_twice_is_told_and_changes_nothing(session):
    patient, _ = register(session, ward="Cardiology")
    with pytest.raises(AlreadyRegistered) as refused:
        register(session, name="Somebody Else", ward="Maternity", destinations=("clinic",))
    assert refused.value.patient_id == patient
    assert str(refused.value) == "already registered"
    found = service.details(session, patient, CARD)
    assert (found.name, found.ward, found.destinations) == ("Amanda Júlio", "Cardiology", ())


def test_staff_become_patients_with_the_data_that_they_have(session):
    doctor = register_person(
        session,
        scheme=CARD,
        number="17645234",
        profile=profile("Amanda JÚLIO"),
        role="doctor",
        by=None,
        now=NOW,
    ).person_id
    assert service.find_patient(session, CARD, "17645234") is None, "staff is no patient"
    patient, created = register(session, name="amanda  julio")
    assert (patient, created) == (doctor, False)
    assert roles_of(session, doctor) == {"doctor", "patient"}
    assert service.details(session, doctor, CARD).name == "Amanda JÚLIO"
    assert count(session, Account) == 1


def test_contact_data_that_somebody_planted_do_not_stay(session):
    """Unless two people vouched for the account: then they are the person's own."""
    for number, role, kept in (("17645234", "porter", False), ("17645235", "nurse", True)):
        planted = Profile("Amanda Júlio", date(1980, 2, 3), "female", "planted@example.org", "1")
        register_person(
            session, scheme=CARD, number=number, profile=planted, role=role, by=None, now=NOW
        )
        session.flush()
        patient, _ = service.register_patient(
            session, registration(number), [], by=CLERK, now=NOW, vouching_roles=["nurse"]
        )
        found = service.details(session, patient, CARD)
        wanted = ("planted@example.org", "1") if kept else ("a@example.org", "910000000")
        assert (found.email, found.phone) == wanted


def test_a_number_of_somebody_else_is_refused(session):
    """A slip of the keyboard must not make the wrong person a patient."""
    register_person(
        session,
        scheme=CARD,
        number="17645234",
        profile=profile("Duarte Figueira"),
        role="doctor",
        by=None,
        now=NOW,
    )
    with pytest.raises(RegistrationRefused) as refused:
        register(session, name="Amanda Júlio")
    assert refused.value.code == "somebody-else"
    assert count(session, Patient) == 0


def test_nobody_registers_themselves(session):
    clerk = register_person(
        session,
        scheme=CARD,
        number="17645234",
        profile=profile("Amanda Júlio"),
        role="ward_clerk",
        by=None,
        now=NOW,
    ).person_id
    registration = service.Registration(CARD, "17645234", profile("Amanda Júlio"))
    with pytest.raises(RegistrationRefused) as refused:
        service.register_patient(session, registration, [], by=clerk, now=NOW)
    assert refused.value.code == "oneself"


def test_a_registration_is_indexed_for_every_partner(session):
    patient, _ = register(session, keys=[LAB, CLINIC])
    for key in (LAB, CLINIC):
        asked = pseudonym(key.key, CARD, "17645234")
        tag = demographic_tag(key.key, "Amanda Júlio", date(1980, 2, 3))
        assert lookup(session, key.partner, key.key_id, asked) == Hit(patient, tag)
        other = pseudonym(key.key, CARD, "99999999")
        assert lookup(session, key.partner, key.key_id, other) == IndexIncomplete()
    assert (
        lookup(session, LAB.partner, LAB.key_id, pseudonym(CLINIC.key, CARD, "17645234"))
        == IndexIncomplete()
    )


def test_the_index_is_built_for_those_who_were_there_before(engine):
    from medportal.patients import partner_index

    with Session(engine) as session, session.begin():
        made = {
            register(session, f"{n:08}", f"Person {n}")[0] for n in range(10_000_000, 10_000_007)
        }
    with Session(engine) as session, session.begin():
        build = partner_index.begin_index(session, LAB)
    after, batches = "", []
    while after is not None:
        with Session(engine) as session, session.begin():
            after = service.build_partner_index(session, build, after, limit=3)
        batches.append(after)
    assert len(batches) == 4, "three, three, one, none"
    with Session(engine) as session, session.begin():
        partner_index.finish_index(session, build, NOW)
    with Session(engine) as session:
        assert set(session.scalars(select(PartnerIndex.patient_id))) == made
        assert lookup(session, "laboratory", "k1", pseudonym(LAB.key, CARD, "99999999")) is None


# -- lists ---------------------------------------------------------------------------------------


def test_lists_are_paged_by_key_and_show_everybody_once(session):
    names = ["Ana", "Ana", "Ana", "Berta", "Carla", "Zita", "Ana"]
    made = [register(session, f"{i:08}", name)[0] for i, name in enumerate(names)]
    session.flush()
    seen, after = [], None
    while page := service.list_patients(session, among=None, after=after, limit=2):
        seen.extend(page)
        after = (page[-1].name, page[-1].id)
        assert after == service.list_key(session, page[-1].id, None)
    assert sorted(card.id for card in seen) == sorted(made)
    assert [(card.name, card.id) for card in seen] == sorted((c.name, c.id) for c in seen)


def test_a_list_keeps_to_those_who_are_asked_for(session):
    one, _ = register(session, "10000000", "Ana", ward="Cardiology", bed="1")
    register(session, "10000001", "Berta")
    among = select(Patient.person_id).where(Patient.ward == "Cardiology")
    assert service.list_patients(session, among=among, after=None) == [
        service.PatientCard(one, "Ana", date(1980, 2, 3), "Cardiology", "1")
    ]
    nobody = select(Patient.person_id).where(Patient.ward == "nowhere")
    assert service.list_patients(session, among=nobody, after=None) == []
    assert service.list_key(session, one, among) == ("Ana", one)
    assert service.list_key(session, one, nobody) is None


def test_staff_do_not_stand_in_the_list_of_patients(session):
    doctor = register_person(
        session,
        scheme=CARD,
        number="10000002",
        profile=profile("Dr. A"),
        role="doctor",
        by=None,
        now=NOW,
    ).person_id
    assert service.list_patients(session, among=None, after=None) == []
    assert service.list_key(session, doctor, None) is None


# -- two at once ---------------------------------------------------------------------------------


def race(engine, first, second):
    """Run ``second`` in a thread while ``first``'s transaction is open; return its outcome."""
    begun, outcomes = threading.Event(), []

    def other():
        with Session(engine) as session:
            begun.set()
            try:
                with session.begin():
                    outcomes.append(second(session))
            except (IntegrityError, AlreadyRegistered) as error:
                outcomes.append(type(error))

    thread = threading.Thread(target=other)
    with Session(engine) as session, session.begin():
        mine = first(session)
        session.flush()
        thread.start()
        begun.wait(10)
        # Long enough for the second to get as far as it can.
        thread.join(0.5)
    thread.join(30)
    assert len(outcomes) == 1
    return mine, outcomes[0]


def test_two_clerks_who_register_one_citizen_at_once(engine):
    (patient, created), outcome = race(
        engine, lambda s: register(s, keys=[LAB]), lambda s: register(s, keys=[LAB])
    )
    assert created
    # SQLite lets the second begin after the first; PostgreSQL finds the number taken.
    wanted = AlreadyRegistered if engine.dialect.name == "sqlite" else IntegrityError
    assert outcome is wanted
    with Session(engine) as session:
        assert session.scalars(select(Patient.person_id)).all() == [patient]
        assert count(session, Person) == count(session, PersonIdentifier) == 1
        assert count(session, PartnerIndex) == 1
        with pytest.raises(AlreadyRegistered):
            register(session)


def test_two_clerks_who_register_two_citizens_at_once(engine):
    (one, _), outcome = race(
        engine,
        lambda s: register(s, "10000000", keys=[LAB]),
        lambda s: register(s, "10000001", keys=[LAB]),
    )
    assert outcome[1] is True
    with Session(engine) as session:
        assert set(session.scalars(select(Patient.person_id))) == {one, outcome[0]}


def test_a_registration_that_fails_leaves_nothing(engine):
    with pytest.raises(ZeroDivisionError), Session(engine) as session, session.begin():
        register(session, keys=[LAB], destinations=("hospital",))
        session.flush()
        raise ZeroDivisionError
    with Session(engine) as session:
        for model in (Person, PersonIdentifier, Patient, Destination, PartnerIndex):
            assert count(session, model) == 0
        assert find_person(session, CARD, "17645234") is None
