"""From the database to the facts: only what is about the asker, the same questions for all."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event

from medportal.access.facts import departments_of, patient_facts, patients_facts, rules_of
from medportal.access.models import (
    BrokenGlass,
    CareAssignment,
    PatientRule,
    Representative,
    WardTeamMember,
)
from medportal.access.question import AssignmentFacts, GlassFacts, PatientFacts, Term
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.identity import Identity
from medportal.core.ids import new_id

HOUR = timedelta(hours=1)
WARD = frozenset({"Cardiology"})


@pytest.fixture
def patient(session, person):
    made = person("patient")
    session.flush()
    return made


@pytest.fixture
def me(session, person, now):
    made = person("doctor")
    session.flush()
    return Identity(made, "hospital", frozenset({"doctor", "patient"}), "s", now)


@pytest.fixture
def ruled(session, patient, now):
    """Give a function that stores a rule of the patient and returns it as decisions see it."""

    def made(whom, whom_id, **more):
        values = {"effect": "block", "what": "everything", "what_id": "", "until": None, **more}
        since = values.setdefault("since", now)
        row = PatientRule(
            id=new_id(),
            patient_id=patient,
            whom=whom,
            whom_id=whom_id,
            made_at=now,
            made_by=patient,
            **values,
        )
        session.add(row)
        session.flush()
        until = values["until"]
        kind = (Effect(values["effect"]), Whom(whom), whom_id, What(values["what"]))
        return Rule(row.id, *kind, values["what_id"], since, until)

    return made


def test_the_rules_that_can_name_the_asker_and_no_others(session, patient, me, ruled, now):
    mine = {
        ruled("person", me.person_id, effect="allow", what="category", what_id="genetics"),
        ruled("department", "Cardiology", until=now + HOUR),
        ruled("role", "doctor"),
        ruled("institution", "hospital", what="record", what_id="d" * 32),
        # One that is to come is a fact as well: what is in force is decided with the rest.
        ruled("person", me.person_id, since=now + HOUR),
    }
    others = {
        # What is over counts for nothing any more, and is not read.
        ruled("person", me.person_id, until=now),
        ruled("person", new_id()),
        ruled("department", "Maternity"),
        ruled("role", "nurse"),
        ruled("institution", "laboratory"),
        # An id in the place of a role's, and the other way round, names nobody.
        ruled("role", me.person_id),
        ruled("person", "doctor"),
    }
    ended = ruled("person", me.person_id, ended_at=now, ended_by=patient)
    assert set(patient_facts(session, me, patient, now, WARD).rules) == mine
    assert set(rules_of(session, patient)) == mine | others
    assert ended not in set(rules_of(session, patient))
    assert {r.whom for r in patient_facts(session, me, patient, now).rules} == {
        Whom.PERSON,
        Whom.ROLE,
        Whom.INSTITUTION,
    }
    assert patient_facts(session, None, patient, now).rules == ()
    elsewhere = replace(me, tenant_id="laboratory", roles=frozenset(), person_id=new_id())
    assert {r.whom_id for r in patient_facts(session, elsewhere, patient, now).rules} == {
        "laboratory"
    }


def test_assignments_of_oneself_and_of_ones_wards(session, person, patient, me, now):
    other = person("nurse")
    session.flush()
    rows = [
        CareAssignment(id=new_id(), staff_id=me.person_id, kind="treating", since=now),
        CareAssignment(
            id=new_id(), ward="Cardiology", kind="team", since=now, opens_sensitive=True
        ),
        CareAssignment(id=new_id(), ward="Maternity", kind="team", since=now),
        CareAssignment(id=new_id(), staff_id=other, kind="team", since=now),
    ]
    for row in rows:
        row.patient_id = patient
    session.add_all(rows)
    session.flush()
    own = AssignmentFacts(True, now, None, rows[0].id)
    team = AssignmentFacts(False, now, None, rows[1].id, opens_sensitive=True, team="Cardiology")
    assert set(patient_facts(session, me, patient, now, WARD).assignments) == {own, team}
    assert patient_facts(session, me, patient, now).assignments == (own,)
    # No identity is nobody's: rows of wards have no member of staff.
    assert patient_facts(session, None, patient, now).assignments == ()


def test_what_one_stands_for_and_what_one_broke(session, person, patient, me, now):
    other = person("nurse")
    session.flush()
    for who in (me.person_id, other):
        for agreed, until in ((other, None), (None, now + HOUR)):
            # What no second person agreed to opens nothing.
            session.add(
                Representative(
                    id=new_id(),
                    patient_id=patient,
                    person_id=who,
                    ground="parent",
                    since=now,
                    until=until,
                    approved_by=agreed,
                )
            )
        session.add(
            BrokenGlass(
                id=who,
                patient_id=patient,
                staff_id=who,
                sensitive=who == other,
                reason="emergency",
                text=b"sealed",
                since=now,
                until=now + HOUR,
            )
        )
    session.flush()
    facts = patient_facts(session, me, patient, now)
    assert facts.represents == (Term(now, None),)
    assert facts.glass == (GlassFacts(me.person_id, now, now + HOUR),)
    nobody = patient_facts(session, None, patient, now)
    assert (nobody.represents, nobody.glass) == ((), ())


def test_the_wards_of_a_moment(session, me, now):
    for ward, since, until in (
        ("Cardiology", now, None),
        ("Maternity", now - HOUR, now),
        ("Paediatrics", now - HOUR, now + HOUR),
        ("Orthopaedics", now + HOUR, None),
    ):
        session.add(
            WardTeamMember(id=new_id(), ward=ward, staff_id=me.person_id, since=since, until=until)
        )
    session.flush()
    assert departments_of(session, me.person_id, now) == {"Cardiology", "Paediatrics"}
    assert departments_of(session, "", now) == frozenset()


def test_a_patient_who_is_not_there_takes_the_same_questions(session, patient, me, ruled, now):
    ruled("role", "nurse")
    asked = []
    engine = session.get_bind()

    def note(_connection, _cursor, statement, *_rest):
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        found = patient_facts(session, me, patient, now, WARD)
        there = list(asked)
        asked.clear()
        absent = patient_facts(session, me, "0" * 32, now, WARD)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert there
    assert there == asked
    assert absent == PatientFacts("0" * 32, exists=False)
    assert found == PatientFacts(patient, exists=True)


def test_a_rule_about_a_role_that_is_withheld_is_read(session, patient, me, ruled, now):
    about = ruled("role", "nurse")
    weak = replace(me, withheld_roles=frozenset({"nurse"}))
    assert patient_facts(session, me, patient, now).rules == ()
    assert patient_facts(session, weak, patient, now).rules == (about,)


def test_a_page_of_patients_takes_as_many_questions_as_one(session, person, me, now):
    patients = [person("patient") for _ in range(6)]
    session.flush()
    for each in patients[:3]:
        session.add(
            CareAssignment(
                id=new_id(), patient_id=each, staff_id=me.person_id, kind="team", since=now
            )
        )
    session.flush()
    asked = []
    engine = session.get_bind()

    def note(_connection, _cursor, statement, *_rest):
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        page = patients_facts(session, me, [*patients, "0" * 32], now, WARD)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(asked) == 1
    assert page == {
        each: patient_facts(session, me, each, now, WARD) for each in [*patients, "0" * 32]
    }
    assert [bool(page[each].assignments) for each in patients] == [True] * 3 + [False] * 3
