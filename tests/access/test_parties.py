"""Who has a part in a complaint or a review, and decides neither."""

from datetime import timedelta

import pytest

from medportal.access import complaints, reviews
from medportal.access.complaints import About
from medportal.access.errors import ComplaintRefused, ReviewRefused
from medportal.access.glass import Stated, break_glass
from medportal.access.models import CareAssignment, CareKind, Representative, WardTeamMember
from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.vault.keyring import TenantKeyring, new_key
from medportal.vault.service import Vault

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def vault():
    return Vault("hospital", TenantKeyring({1: new_key()}, 1))


@pytest.fixture
def asked(session, vault, now):
    """Give a function that writes an event and complains of it; returns the complaint's id."""

    def made(patient, action, actor, **more):
        event = Event.create(action, now=now, actor=actor, patient=patient, **more)
        append(session, event)
        about = About(patient, event.id, actor)
        written = complaints.make(session, vault, about, "Who is this?", patient, now)
        session.flush()
        return written.complaint_id

    return made


def has_part(session, complaint, person):
    return complaints.has_part(session, complaints.find(session, complaint), person)


def represented(session, patient, person, now, **more):
    row = Representative(
        id=new_id(), patient_id=patient, person_id=person, ground="parent", since=now, **more
    )
    session.add(row)
    session.flush()


def in_charge(session, patient, now, **more):
    row = CareAssignment(
        id=new_id(), patient_id=patient, kind=CareKind.TEAM, since=now - HOUR, **more
    )
    session.add(row)
    session.flush()
    return row.id


def test_whoever_is_put_in_charge_has_a_part_and_a_stranger_none(session, person, asked):
    patient, clerk, doctor = person("patient"), person("ward_clerk"), person()
    complaint = asked(patient, Action.CARE_ASSIGNED, clerk, object=doctor)
    parties = [clerk, doctor, patient]
    assert [has_part(session, complaint, each) for each in parties] == [True] * 3
    assert not has_part(session, complaint, person("privacy_officer"))


def test_whoever_made_what_it_rested_on_has_a_part(session, vault, person, asked, now):
    patient, doctor, officer = person("patient"), person(), person("privacy_officer")
    basis = in_charge(session, patient, now, staff_id=doctor, assigned_by=officer)
    complaint = asked(patient, Action.RECORD_READ, doctor, details={"basis": basis})
    assert has_part(session, complaint, officer)
    with pytest.raises(ComplaintRefused) as caught:
        complaints.answer(session, vault, complaint, Reason.JUSTIFIED, "Fine.", officer, now)
    assert caught.value.code == "your-own"


def test_whoever_put_the_reader_into_the_team_has_a_part(session, person, asked, now):
    patient, doctor, chief = person("patient"), person(), person()
    session.add(
        WardTeamMember(id=new_id(), ward="W", staff_id=doctor, since=now - HOUR, added_by=chief)
    )
    basis = in_charge(session, patient, now, ward="W", assigned_by=person())
    complaint = asked(patient, Action.RECORD_READ, doctor, details={"basis": basis})
    assert has_part(session, complaint, chief)


def test_representatives_of_now_and_before_have_a_part(session, person, asked, now):
    patient, mother, aunt = person("patient"), person(), person()
    represented(session, patient, mother, now - HOUR)
    represented(session, patient, aunt, now - 9 * HOUR, until=now - HOUR)
    complaint = asked(patient, Action.PATIENT_VIEWED, person())
    assert has_part(session, complaint, mother) and has_part(session, complaint, aunt)


def test_whoever_approved_a_representative_has_a_part_in_it(session, person, asked, now):
    patient, aunt, clerk, second = person("patient"), person(), person(), person()
    represented(session, patient, aunt, now - HOUR, made_by=clerk, approved_by=second)
    complaint = asked(patient, Action.REPRESENTATIVE_MADE, second, object=aunt)
    assert has_part(session, complaint, clerk)
    # In what the representative has nothing to do with, neither have those who made them one.
    other = asked(patient, Action.PATIENT_VIEWED, person())
    assert not has_part(session, other, second)


def test_a_representative_closes_no_review(session, vault, person, now):
    patient, doctor, officer = person("patient"), person(), person("privacy_officer")
    represented(session, patient, officer, now - 9 * HOUR, until=now - HOUR)
    why = Stated(Reason.EMERGENCY, "Found in the lift.")
    step = break_glass(session, vault, patient, doctor, why, now, lasts=HOUR).step.id
    session.flush()
    review = reviews.find(session, step)
    for refused in (
        lambda: reviews.stop(session, review, officer, now),
        lambda: reviews.close(session, vault, review, Reason.JUSTIFIED, "", officer, now + HOUR),
    ):
        with pytest.raises(ReviewRefused) as caught:
            refused()
        assert caught.value.code == "represents"


def test_questions_of_a_patient_page_by_key(session, person, asked):
    patient = person("patient")
    made = {asked(patient, Action.PATIENT_VIEWED, person()) for _one in range(3)}
    first = complaints.of_patient(session, patient, limit=2)
    place = (first[-1].made_at, first[-1].id)
    rest = complaints.of_patient(session, patient, after=place, limit=2)
    assert {held.id for held in [*first, *rest]} == made and len(rest) == 1
