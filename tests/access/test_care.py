"""Care assignments, on both engines."""

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medportal.access.care import assign, assignable_staff, carers, end_assignment
from medportal.access.decisions import AccessFacts, decide
from medportal.access.errors import AssignmentRefused
from medportal.access.facts import held_permissions, patient_facts
from medportal.access.models import CareAssignment, CareKind
from medportal.core.identity import Identity
from medportal.core.permissions import Permission
from medportal.identity.models import Account, AccountStatus
from medportal.identity.people import Profile, register_person
from medportal.patients.service import Registration, register_patient

CARING = ("doctor", "nurse", "porter")
TREATING = ("doctor",)
HOUR = timedelta(hours=1)


@pytest.fixture
def put(session, now):
    """Give a function that assigns; returns the assignment's id."""

    def made(patient_id, staff_id, kind=CareKind.TREATING, by=None, at=now):
        return assign(
            session,
            patient_id=patient_id,
            staff_id=staff_id,
            kind=kind,
            assignable_roles=CARING,
            treating_roles=TREATING,
            by=by,
            now=at,
        )

    return made


def reads(session, tenant, staff_id, patient_id, at):
    """Tell whether somebody may read a patient's records, from the database to the decision."""
    who = Identity(staff_id, tenant.id, frozenset({"doctor"}), "s", at)
    facts = AccessFacts(held_permissions(tenant, who), patient_facts(session, who, patient_id))
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
    assert end_assignment(session, patient, made, end) == doctor
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
        session, Identity(doctor, "hospital", frozenset(), "s", now), patient
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
    missing = patient_facts(session, who, "0" * 32)
    assert (missing.exists, missing.is_self, missing.assignments) == (False, False, ())
    # Somebody who is staff and no patient: neither are they their own patient here.
    myself = patient_facts(session, who, doctor)
    assert (myself.exists, myself.is_self) == (False, True)
    nobody = patient_facts(session, None, person("patient"))
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
