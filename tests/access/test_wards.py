"""Ward teams, wards and beds, on both engines."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.access import stays
from medportal.access.care import assign_team, carers, counts_by_ward
from medportal.access.errors import AssignmentRefused, TeamRefused
from medportal.access.facts import departments_of
from medportal.access.wards import is_member, join, leave, members, team_sizes
from medportal.patients import admissions
from medportal.patients.admissions import Place
from medportal.patients.errors import AdmissionRefused
from medportal.patients.models import Admission, Patient, PatientStatus

CARING = ("doctor", "nurse", "porter")
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)


@pytest.fixture
def put(session, now):
    """Give a function that puts somebody into a team; returns the membership's id."""

    def made(staff_id, ward="Cardiology", by=None, at=now, **more):
        return join(
            session, ward=ward, staff_id=staff_id, assignable_roles=CARING, by=by, now=at, **more
        )

    return made


def code(call, *arguments, **more):
    with pytest.raises((TeamRefused, AdmissionRefused, AssignmentRefused)) as refused:
        call(*arguments, **more)
    return refused.value.code


def test_in_the_team_from_until(session, person, put, now):
    nurse = person("nurse", "Ana")
    made = put(nurse, since=now + HOUR, until=now + 2 * HOUR)
    session.flush()
    (member,) = members(session, "Cardiology", now)
    assert (member.id, member.name, member.is_to_come(now)) == (made, "Ana", True)
    found = [
        departments_of(session, nurse, now + moment)
        for moment in (HOUR - TICK, HOUR, 2 * HOUR - TICK, 2 * HOUR)
    ]
    here = frozenset({"Cardiology"})
    assert found == [frozenset(), here, here, frozenset()]
    assert team_sizes(session, now) == {}
    assert team_sizes(session, now + HOUR) == {"Cardiology": 1}
    assert members(session, "Cardiology", now + 2 * HOUR) == []
    assert members(session, "Maternity", now) == []


def test_who_may_not_be_put_into_a_team(session, person, put, now):
    clerk, nurse = person("ward_clerk"), person("nurse")
    assert code(put, clerk, by=clerk) == "not-yourself"
    assert code(put, clerk) == "not-care-staff"
    assert code(put, "0" * 32) == "not-care-staff"
    assert code(put, nurse, since=now - TICK) == "begins-in-the-past"
    assert code(put, nurse, until=now) == "ends-before-it-begins"
    put(nurse, until=now + HOUR)
    session.flush()
    assert code(put, nurse) == "already-in-the-team"
    assert code(put, nurse, since=now + HOUR - TICK) == "already-in-the-team"
    put(nurse, since=now + HOUR)
    put(nurse, "Maternity")


def test_leaving(session, person, put, now):
    nurse = person("nurse")
    made, ahead = put(nurse, until=now + 5 * HOUR), put(nurse, since=now + 5 * HOUR)
    session.flush()
    assert leave(session, "Maternity", made, now + HOUR) is None
    assert leave(session, "Cardiology", "0" * 32, now + HOUR) is None
    assert leave(session, "Cardiology", made, now + HOUR) == nurse
    assert leave(session, "Cardiology", made, now + 2 * HOUR) == nurse
    session.expire_all()
    assert departments_of(session, nurse, now + HOUR - TICK)
    assert not departments_of(session, nurse, now + HOUR)
    # The second one is taken back before it begins.
    assert is_member(session, "Cardiology", nurse, now + HOUR)
    assert leave(session, "Cardiology", ahead, now + HOUR) == nurse
    session.expire_all()
    assert not is_member(session, "Cardiology", nurse, now + HOUR)
    assert not departments_of(session, nurse, now + 6 * HOUR)


def test_admitted_moved_and_discharged(session, person, now):
    patient, clerk = person("patient"), person("ward_clerk")
    first = stays.admit(
        session, patient, Place("Cardiology", "4"), with_team=True, by=clerk, now=now
    )
    session.flush()
    assert admissions.place_of(session, patient) == Place("Cardiology", "4")
    assert [carer.ward for carer in carers(session, patient, now)] == ["Cardiology"]
    assert counts_by_ward(session) == {"Cardiology": 1}
    # Another bed of the ward: the team stays.
    again = stays.admit(
        session, patient, Place("Cardiology", "5"), with_team=True, by=clerk, now=now + HOUR
    )
    assert (again.assignment, again.ended) == (None, ())
    # Another ward: the old team goes, the new one comes only where the clerk says so.
    moved = stays.admit(
        session, patient, Place("Maternity"), with_team=False, by=clerk, now=now + 2 * HOUR
    )
    assert [one.assignment_id for one in moved.ended] == [first.assignment]
    session.flush()
    assert carers(session, patient, now + 2 * HOUR) == []
    kept = assign_team(session, patient_id=patient, ward="Maternity", by=clerk, now=now + 2 * HOUR)
    place, ended = stays.discharge(session, patient, by=clerk, now=now + 3 * HOUR)
    assert (place, [one.assignment_id for one in ended]) == (Place("Maternity"), [kept])
    session.flush()
    session.expire_all()
    assert admissions.place_of(session, patient) == Place()
    assert [(s.ward, s.bed, s.since, s.until) for s in admissions.stays(session, patient)] == [
        ("Maternity", "", now + 2 * HOUR, now + 3 * HOUR),
        ("Cardiology", "5", now + HOUR, now + 2 * HOUR),
        ("Cardiology", "4", now, now + HOUR),
    ]
    assert code(stays.discharge, session, patient, by=clerk, now=now) == "not-admitted"


def test_a_bed_has_one_patient(session, person, now):
    one, other = person("patient"), person("patient")

    def admit(patient, ward, bed):
        admissions.admit(session, patient, Place(ward, bed), by=None, now=now)

    admit(one, "Cardiology", "4")
    assert code(admit, other, "Cardiology", "4") == "bed-taken"
    assert code(admit, one, "Cardiology", "4") == "there-already"
    admit(other, "Maternity", "4")
    # A ward may do without bed numbers; then nobody is in anybody's way.
    admit(one, "Cardiology", "")
    admit(other, "Cardiology", "")


def test_who_has_died_is_admitted_nowhere(session, person, now):
    patient = person("patient")
    session.get(Patient, patient).status = PatientStatus.DECEASED
    session.flush()
    call = (session, patient, Place("Cardiology", "4"))
    assert code(admissions.admit, *call, by=None, now=now) == "deceased"


def test_a_clerk_of_the_team_does_not_assign_it_by_admitting(session, person, put, now):
    patient, both = person("patient"), person("nurse")
    put(both)
    session.flush()
    with session.begin_nested() as point:
        assert (
            code(
                stays.admit,
                session,
                patient,
                Place("Cardiology", "4"),
                with_team=True,
                by=both,
                now=now,
            )
            == "your-own-team"
        )
        point.rollback()
    assert admissions.place_of(session, patient) == Place()


def test_two_at_once_get_one_bed(engine, now):
    """The second waits for the first, and then sees that the bed is taken."""
    from medportal.identity.people import Profile
    from medportal.patients.service import Registration, register_patient

    profile = Profile("Somebody", now.date(), "female")
    with Session(engine) as session, session.begin():
        one, other = (
            register_patient(
                session, Registration("citizen-card", number, profile), [], by=None, now=now
            )[0]
            for number in ("1", "2")
        )
    outcomes = []

    def second():
        with Session(engine) as session:
            try:
                with session.begin():
                    admissions.admit(
                        session, other, Place("Cardiology", "4"), by=None, now=now + TICK
                    )
                    outcomes.append("admitted")
            except AdmissionRefused as refused:
                outcomes.append(refused.code)

    thread = threading.Thread(target=second)
    with Session(engine) as session, session.begin():
        admissions.admit(session, one, Place("Cardiology", "4"), by=None, now=now)
        session.flush()
        thread.start()
        # Long enough for the second to get as far as it can; it cannot come past the first.
        thread.join(0.5)
        assert outcomes == []
    thread.join(30)
    assert outcomes == ["bed-taken"]
    with Session(engine) as session:
        assert session.scalars(select(Admission.patient_id)).all() == [one]
