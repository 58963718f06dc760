"""Care assignments, on both engines."""

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medportal.access.care import (
    Ended,
    assign,
    assign_team,
    assignable_staff,
    carers,
    end_all,
    end_assignment,
    end_team,
    patients_of,
    planned,
)
from medportal.access.decisions import decide
from medportal.access.errors import AssignmentRefused
from medportal.access.facts import departments_of, held_permissions, patient_facts
from medportal.access.models import CareAssignment, CareKind
from medportal.access.question import AccessFacts
from medportal.access.wards import join, leave
from medportal.core.identity import Identity
from medportal.core.permissions import Permission
from medportal.identity.models import Account, AccountStatus, Person, RoleGrant
from medportal.identity.people import Profile, register_person
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail
from medportal.patients.service import Registration, register_patient

CARING = ("doctor", "nurse", "porter")
TREATING = ("doctor",)
HOUR = timedelta(hours=1)


@pytest.fixture
def put(session, now):
    """Give a function that assigns; returns the assignment's id."""

    def made(patient_id, staff_id, kind=CareKind.TREATING, by=None, at=now, **more):
        return assign(
            session,
            patient_id=patient_id,
            staff_id=staff_id,
            kind=kind,
            assignable_roles=CARING,
            treating_roles=TREATING,
            by=by,
            now=at,
            **more,
        )

    return made


def reads(session, tenant, staff_id, patient_id, at):
    """Tell whether somebody may read a patient's records, from the database to the decision."""
    who = Identity(staff_id, tenant.id, frozenset({"doctor"}), "s", at)
    departments = departments_of(session, staff_id, at)
    facts = AccessFacts(
        held_permissions(tenant, who),
        patient_facts(session, who, patient_id, at, departments),
        departments=departments,
    )
    return decide(who, facts, at).allows(Permission.RECORD_READ)


def test_assigned_from_now_until_ended(session, tenants, person, put, now):
    hospital = tenants["hospital"]
    doctor, patient, clerk = person("doctor", "Dr. A"), person("patient"), person("ward_clerk")
    assert not reads(session, hospital, doctor, patient, now)
    made = put(patient, doctor, by=clerk)
    (carer,) = carers(session, patient, now)
    assert (carer.assignment_id, carer.staff_id, carer.name) == (made, doctor, "Dr. A")
    assert (carer.kind, carer.since) == (CareKind.TREATING, now)
    assert reads(session, hospital, doctor, patient, now)
    assert not reads(session, hospital, doctor, patient, now - timedelta(microseconds=1))
    end = now + HOUR
    assert end_assignment(session, patient, made, end) == Ended(made, doctor, None)
    assert reads(session, hospital, doctor, patient, end - timedelta(microseconds=1))
    assert not reads(session, hospital, doctor, patient, end)
    assert carers(session, patient, end) == []


def test_an_assignment_concerns_one_patient_and_one_member_of_staff(
    session, tenants, person, put, now
):
    doctor, other, patient, another = (
        person("doctor"),
        person("doctor"),
        person("patient"),
        person("patient"),
    )
    put(patient, doctor)
    session.flush()
    hospital = tenants["hospital"]
    assert reads(session, hospital, doctor, patient, now)
    assert not reads(session, hospital, doctor, another, now)
    assert not reads(session, hospital, other, patient, now)


def test_ending_twice_keeps_the_first_end(session, person, put, now):
    patient = person("patient")
    doctor = person()
    made = put(patient, doctor)
    session.flush()
    end_assignment(session, patient, made, now + HOUR)
    end_assignment(session, patient, made, now + 2 * HOUR)
    session.expire_all()
    assert session.get(CareAssignment, made).until == now + HOUR


def test_another_patients_assignment_is_not_ended(session, person, put, now):
    patient, another = person("patient"), person("patient")
    made = put(patient, person())
    session.flush()
    assert end_assignment(session, another, made, now + HOUR) is None
    assert end_assignment(session, patient, "0" * 32, now + HOUR) is None
    assert len(carers(session, patient, now + HOUR)) == 1


def test_refusals_have_codes(session, person, put, now):
    patient, doctor, clerk = person("patient"), person("doctor"), person("ward_clerk")
    put(patient, doctor)

    def code(*arguments, **more):
        with pytest.raises(AssignmentRefused) as refused:
            put(*arguments, **more)
        return refused.value.code

    assert code(patient, clerk, by=clerk) == "not-yourself"
    assert code(patient, patient) == "not-to-themselves"
    assert code(patient, clerk) == "not-care-staff"
    assert code(patient, person("admin")) == "not-care-staff"
    assert code(patient, "0" * 32) == "not-care-staff"
    assert code(patient, doctor, CareKind.TEAM) == "already-assigned"
    assert code(patient, person("nurse"), CareKind.TREATING) == "not-a-doctor"
    assert len(carers(session, patient, now)) == 1


def test_assigned_again_after_the_end(session, person, put, now):
    patient, doctor = person("patient"), person("doctor")
    end_assignment(session, patient, put(patient, doctor), now + HOUR)
    again = put(patient, doctor, CareKind.TEAM, at=now + HOUR)
    (carer,) = carers(session, patient, now + HOUR)
    assert (carer.assignment_id, carer.kind) == (again, CareKind.TEAM)
    facts = patient_facts(
        session, Identity(doctor, "hospital", frozenset(), "s", now), patient, now
    ).assignments
    assert sorted((a.treating, a.in_force(now + HOUR)) for a in facts) == [
        (False, True),
        (True, False),
    ]


def test_carers_are_listed_by_name(session, person, put, now):
    patient = person("patient")
    for role, name in (("nurse", "Zeferino"), ("doctor", "Ana"), ("porter", "Berta")):
        put(patient, person(role, name), CareKind.TEAM)
    assert [carer.name for carer in carers(session, patient, now)] == ["Ana", "Berta", "Zeferino"]


def test_who_can_be_assigned(session, person):
    made = {person(role, role) for role in CARING}
    person("admin")
    person("patient")
    found = assignable_staff(session, CARING)
    assert {row[0] for row in found} == made
    assert [row[2] for row in found] == ["doctor", "nurse", "porter"]
    assert assignable_staff(session, ()) == []


def test_who_is_suspended_is_not_offered(session, person):
    kept, gone = person("doctor"), person("doctor")
    session.execute(
        update(Account).where(Account.person_id == gone).values(status=AccountStatus.SUSPENDED)
    )
    assert [row[0] for row in assignable_staff(session, CARING)] == [kept]


def test_facts_of_a_patient_who_does_not_exist(session, person, now):
    doctor = person("doctor")
    who = Identity(doctor, "hospital", frozenset({"doctor"}), "s", now)
    missing = patient_facts(session, who, "0" * 32, now)
    assert (missing.exists, missing.is_self, missing.assignments) == (False, False, ())
    # Somebody who is staff and no patient: neither are they their own patient here.
    myself = patient_facts(session, who, doctor, now)
    assert (myself.exists, myself.is_self) == (False, True)
    nobody = patient_facts(session, None, person("patient"), now)
    assert (nobody.exists, nobody.is_self, nobody.assignments) == (True, False, ())


def _in_care(engine, now):
    """Register a patient and a doctor; return their ids."""
    profile = Profile("Somebody", date(1980, 1, 1), "female")
    with Session(engine) as session, session.begin():
        patient, _ = register_patient(
            session, Registration("citizen-card", "1", profile), [], by=None, now=now
        )
        doctor = register_person(
            session,
            scheme="citizen-card",
            number="2",
            profile=profile,
            role="doctor",
            by=None,
            now=now,
        ).person_id
    return patient, doctor


def test_two_clerks_at_once_assign_once(engine, now):
    """The second waits for the first: otherwise an end would leave the other one in force."""
    patient, doctor = _in_care(engine, now)
    begun, outcomes = threading.Event(), []

    def assign_in(session):
        assign(
            session,
            patient_id=patient,
            staff_id=doctor,
            kind=CareKind.TREATING,
            assignable_roles=CARING,
            treating_roles=TREATING,
            by=None,
            now=now,
        )

    def second():
        with Session(engine) as session:
            begun.set()
            try:
                with session.begin():
                    assign_in(session)
                    outcomes.append("assigned")
            except AssignmentRefused as refused:
                outcomes.append(refused.code)

    thread = threading.Thread(target=second)
    with Session(engine) as session, session.begin():
        assign_in(session)
        session.flush()
        thread.start()
        begun.wait(10)
        # Long enough for the second to get as far as it can; it cannot come past the first.
        thread.join(0.5)
        assert outcomes == []
    thread.join(30)
    assert outcomes == ["already-assigned"]
    with Session(engine) as session:
        assert len(session.scalars(select(CareAssignment)).all()) == 1


def refusal(call, *arguments, **more):
    """Return the code of a refusal."""
    with pytest.raises(AssignmentRefused) as refused:
        call(*arguments, **more)
    return refused.value.code


def test_from_a_day_until_a_day(session, tenants, person, put, now):
    hospital, doctor, patient = tenants["hospital"], person("doctor"), person("patient")
    begin, end = now + HOUR, now + 3 * HOUR
    made = put(patient, doctor, since=begin, until=end)
    session.flush()
    assert carers(session, patient, now) == []
    (ahead,) = planned(session, patient, now)
    assert (ahead.assignment_id, ahead.since, ahead.until) == (made, begin, end)
    assert ahead.is_to_come(now) and not ahead.is_to_come(begin)
    tick = timedelta(microseconds=1)
    moments = [begin - tick, begin, end - tick, end]
    assert [reads(session, hospital, doctor, patient, at) for at in moments] == [
        False,
        True,
        True,
        False,
    ]
    assert planned(session, patient, begin) == []


def test_dates_that_make_no_sense(session, person, put, now):
    patient, doctor = person("patient"), person("doctor")
    tick = timedelta(microseconds=1)
    assert refusal(put, patient, doctor, since=now - tick) == "begins-in-the-past"
    assert refusal(put, patient, doctor, until=now) == "ends-before-it-begins"
    assert refusal(put, patient, doctor, since=now + HOUR, until=now + HOUR) == (
        "ends-before-it-begins"
    )
    assert carers(session, patient, now) == []


@pytest.mark.parametrize(
    ("since", "until", "refused"),
    [
        (0, None, True),
        (0, 1, True),
        (0, 2, True),
        (2, 3, True),
        (3, None, False),
        (5, 6, False),
    ],
)
def test_two_times_of_one_person_do_not_overlap(session, person, put, now, since, until, refused):
    """There is one from the first hour to the third."""
    patient, doctor = person("patient"), person("doctor")
    put(patient, doctor, until=now + 3 * HOUR)
    session.flush()
    dates = {"since": now + since * HOUR, "until": until and now + until * HOUR}
    if refused:
        assert refusal(put, patient, doctor, **dates) == "already-assigned"
    else:
        put(patient, doctor, **dates)


def test_one_that_is_to_come_is_taken_back(session, tenants, person, put, now):
    patient, doctor = person("patient"), person("doctor")
    made = put(patient, doctor, since=now + 2 * HOUR)
    session.flush()
    assert end_assignment(session, patient, made, now + HOUR) == Ended(made, doctor, None)
    session.expire_all()
    assert planned(session, patient, now) == []
    for hours in (0, 1, 2, 3):
        assert not reads(session, tenants["hospital"], doctor, patient, now + hours * HOUR)
    # What never was stands in nobody's way.
    put(patient, doctor, since=now + 2 * HOUR)


@pytest.fixture
def team(session, now):
    """Give a function that puts somebody into a ward's team; returns the membership's id."""

    def made(staff_id, ward="Cardiology", at=now, **more):
        return join(
            session, ward=ward, staff_id=staff_id, assignable_roles=CARING, by=None, now=at, **more
        )

    return made


def test_a_ward_s_team_looks_after_a_patient(session, tenants, person, team, now):
    hospital, patient = tenants["hospital"], person("patient")
    doctor, later, outsider = person("doctor"), person("doctor"), person("doctor")
    member = team(doctor)
    team(outsider, "Maternity")
    made = assign_team(session, patient_id=patient, ward="Cardiology", by=None, now=now)
    session.flush()
    (carer,) = carers(session, patient, now)
    assert (carer.assignment_id, carer.ward, carer.staff_id) == (made, "Cardiology", "")
    assert reads(session, hospital, doctor, patient, now)
    assert not reads(session, hospital, later, patient, now)
    assert not reads(session, hospital, outsider, patient, now)
    team(later, at=now + HOUR)
    session.flush()
    assert reads(session, hospital, later, patient, now + HOUR)
    # Who leaves the team loses the patient at that moment, the others do not.
    assert leave(session, "Cardiology", member, now + HOUR) == doctor
    session.flush()
    assert not reads(session, hospital, doctor, patient, now + HOUR)
    assert end_team(session, patient, "Maternity", now + HOUR) == []
    assert end_team(session, patient, "Cardiology", now + 2 * HOUR) == [
        Ended(made, None, "Cardiology")
    ]
    assert not reads(session, hospital, later, patient, now + 2 * HOUR)


def test_nobody_assigns_the_team_that_they_are_in_or_will_be(session, person, team, now):
    patient, clerk, other = person("patient"), person("nurse"), person("nurse")
    team(clerk)
    team(other, since=now + HOUR)
    session.flush()
    call = {"patient_id": patient, "ward": "Cardiology", "now": now}
    assert refusal(assign_team, session, by=clerk, **call) == "your-own-team"
    assert refusal(assign_team, session, by=other, **call) == "your-own-team"
    assign_team(session, by=person("ward_clerk"), **call)
    session.flush()
    assert refusal(assign_team, session, by=None, **call) == "already-assigned"


def test_whom_somebody_looks_after(session, person, put, team, now):
    doctor, mine, teams, nobodys, over = (
        person("doctor"),
        person("patient"),
        person("patient"),
        person("patient"),
        person("patient"),
    )
    team(doctor)
    put(mine, doctor)
    put(over, doctor, until=now + HOUR)
    assign_team(session, patient_id=teams, ward="Cardiology", by=None, now=now)
    assign_team(session, patient_id=nobodys, ward="Maternity", by=None, now=now)
    session.flush()
    found = set(session.scalars(patients_of(doctor, ["Cardiology"], now + HOUR)))
    assert found == {mine, teams}
    assert set(session.scalars(patients_of(doctor, [], now))) == {mine, over}


def test_nobody_looks_after_themselves_through_a_team(session, person, team, now):
    me = person("patient")
    assign_team(session, patient_id=me, ward="Cardiology", by=None, now=now)
    session.flush()
    assert session.scalars(patients_of(me, ["Cardiology"], now)).all() == []


def test_all_end_at_once(session, tenants, person, put, team, now):
    hospital, patient, another = tenants["hospital"], person("patient"), person("patient")
    doctor, nurse, other = person("doctor"), person("nurse"), person("doctor")
    member = person("doctor")
    team(member)
    ids = {put(patient, doctor), put(patient, nurse, CareKind.TEAM, since=now + 2 * HOUR)}
    ids.add(assign_team(session, patient_id=patient, ward="Cardiology", by=None, now=now))
    over = put(patient, other, until=now + HOUR)
    kept = put(another, doctor)
    session.flush()
    ended = end_all(session, patient, now + HOUR)
    assert {one.assignment_id for one in ended} == ids
    assert over not in ids
    for who in (doctor, nurse, other, member):
        assert not reads(session, hospital, who, patient, now + HOUR)
        assert not reads(session, hospital, who, patient, now + 5 * HOUR)
    assert end_all(session, patient, now + HOUR) == []
    assert [carer.assignment_id for carer in carers(session, another, now + HOUR)] == [kept]


def test_somebody_with_two_roles_is_offered_once(session, person, now):
    both = person("nurse")
    session.add(RoleGrant(person_id=both, role="doctor", granted_at=now, granted_by=None))
    session.flush()
    assert [row[::2] for row in assignable_staff(session, CARING)] == [(both, "doctor")]


@pytest.mark.parametrize("opens", [False, True], ids=["usual", "sensitive"])
def test_a_patient_is_told_who_sees_sensitive_records(session, person, put, now, opens):
    patient = person("patient")
    session.execute(update(Person).where(Person.id == patient).values(email="ill@example.org"))
    put(patient, person(), opens_sensitive=opens)
    assign_team(session, patient_id=patient, ward="W", by=None, now=now, opens_sensitive=opens)
    session.flush()
    mails = session.scalars(select(OutgoingMail.kind).where(OutgoingMail.person_id == patient))
    assert list(mails) == [MailKind.CARE_CHANGED] * 2 * opens
