"""What a patient is shown of who could open what: the same as the decisions would be."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event

from medportal.access import preview, rule_choices
from medportal.access.decisions import decide
from medportal.access.facts import asker_facts, departments_of, patient_facts
from medportal.access.models import (
    BrokenGlass,
    CareAssignment,
    PatientRule,
    Representative,
    WardTeamMember,
)
from medportal.access.preview import Opens
from medportal.access.question import RecordFacts
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.categories import ORDINARY, Category
from medportal.core.identity import Identity
from medportal.core.ids import new_id
from medportal.core.permissions import Permission
from medportal.identity.models import Account, AccountStatus, RoleGrant

HOUR = timedelta(hours=1)
ALL = frozenset(str(each) for each in Category)
PLAIN = frozenset(str(each) for each in ORDINARY)


@pytest.fixture
def house(session, tenants, person, now):
    """Give a patient and staff in every position; returns ids by what they are."""
    ids = {
        name: person(role, f"Dr {name}")
        for name, role in {
            "patient": "patient",
            "treating": "doctor",
            "team": "nurse",
            "open_nurse": "nurse",
            "ward_nurse": "nurse",
            "porter": "porter",
            "volunteer": "volunteer",
            "assistant": "clinical_assistant",
            "clerk": "ward_clerk",
            "glass": "doctor",
            "stranger": "doctor",
            "other_stranger": "doctor",
            "future": "doctor",
            "guardian": "representative",
            "admin": "admin",
            "suspended": "doctor",
        }.items()
    }
    patient = ids["patient"]

    def care(who, kind="team", since=now - HOUR, **more):
        session.add(
            CareAssignment(
                id=new_id(), patient_id=patient, staff_id=who, kind=kind, since=since, **more
            )
        )

    care(ids["treating"], "treating")
    care(ids["open_nurse"], opens_sensitive=True)
    for name in ("team", "porter", "volunteer", "assistant", "suspended"):
        care(ids[name])
    care(ids["future"], since=now + HOUR)
    care(None, ward="Cardiology")
    session.add(
        WardTeamMember(id=new_id(), ward="Cardiology", staff_id=ids["ward_nurse"], since=now - HOUR)
    )
    session.add(
        BrokenGlass(
            id=new_id(),
            patient_id=patient,
            staff_id=ids["glass"],
            sensitive=False,
            reason="emergency",
            text=b"sealed",
            since=now - HOUR,
            until=now + HOUR,
        )
    )
    session.add(
        Representative(
            id=new_id(),
            patient_id=patient,
            person_id=ids["guardian"],
            ground="parent",
            approved_by=ids["clerk"],
            since=now - HOUR,
        )
    )
    session.get(Account, ids["suspended"]).status = AccountStatus.SUSPENDED
    session.flush()
    return ids


def rule(effect=Effect.BLOCK, whom=Whom.ROLE, whom_id="doctor", what=What.EVERYTHING, what_id=""):
    return effect, whom, whom_id, what, what_id


def put(session, patient, now, made):
    effect, whom, whom_id, what, what_id = made
    row = PatientRule(
        id=new_id(),
        patient_id=patient,
        effect=effect,
        whom=whom,
        whom_id=whom_id,
        what=what,
        what_id=what_id,
        since=now - HOUR,
        made_at=now,
        made_by=patient,
    )
    session.add(row)
    session.flush()
    return row


def really(session, tenant, ids, name, now):
    """Return what somebody can open by the decisions that pages ask for."""
    roles = session.query(RoleGrant.role).filter_by(person_id=ids[name])
    held = frozenset(role for (role,) in roles)
    who = Identity(ids[name], tenant.id, held, "s", now, on_site=True, confirmed_at=now)
    departments = departments_of(session, ids[name], now)
    facts = replace(
        asker_facts(tenant, who),
        patient=patient_facts(session, who, ids["patient"], now, departments),
        departments=departments,
    )
    categories = set()
    for category in ALL:
        record = RecordFacts("f" * 32, True, None, category)
        decision = decide(who, replace(facts, record=record), now)
        vitals = category == "vital-signs" and decision.allows(Permission.PATIENT_VITALS)
        if decision.allows(Permission.RECORD_READ) or vitals:
            categories.add(category)
    return Opens(decide(who, facts, now).allows(Permission.PATIENT_SEE), frozenset(categories))


def shown(session, tenant, ids, now):
    """Return what the preview says of each person, by name, and of groups by role."""
    loaded = preview.load(session, tenant, ids["patient"], now)
    found = preview.today(loaded, preview.things_of(What.EVERYTHING, "", None), now)
    named = {r.name.removeprefix("Dr "): r.opens for r in found.readers if r.name}
    return named, {(r.role, r.count): r.opens for r in found.readers if not r.name}


def test_everybody_is_shown_as_they_are(session, tenants, house, now):
    named, groups = shown(session, tenants["hospital"], house, now)
    assert named == {
        "treating": Opens(True, ALL),
        "open_nurse": Opens(True, ALL),
        "team": Opens(True, PLAIN),
        "ward_nurse": Opens(True, PLAIN),
        "glass": Opens(True, PLAIN),
        "assistant": Opens(True, frozenset({"vital-signs"})),
        "porter": Opens(True),
        "volunteer": Opens(True),
        "guardian": Opens(True, ALL),
    }
    assert groups == {("ward_clerk", 1): Opens(True)}


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [rule()],
        [rule(whom_id="nurse"), rule(whom=Whom.DEPARTMENT, whom_id="Cardiology")],
        [rule(whom=Whom.INSTITUTION, whom_id="hospital")],
        [
            rule(whom=Whom.INSTITUTION, whom_id="hospital"),
            rule(Effect.ALLOW, what=What.CATEGORY, what_id="genetics"),
        ],
        [rule(Effect.ALLOW)],
        [rule(Effect.ALLOW, whom_id="porter"), rule(Effect.ALLOW, whom_id="nurse")],
        [rule(Effect.ALLOW, Whom.PERSON, "stranger", What.CATEGORY, "mental-health")],
        [rule(Effect.BLOCK, Whom.PERSON, "treating"), rule(Effect.ALLOW)],
        [rule(Effect.BLOCK, whom_id="ward_clerk"), rule(Effect.BLOCK, whom_id="representative")],
        [rule(Effect.BLOCK, Whom.PERSON, "guardian")],
    ],
    ids=range(11),
)
def test_the_preview_agrees_with_the_decisions(session, tenants, house, now, rules):
    tenant = tenants["hospital"]
    for made in rules:
        effect, whom, whom_id, what, what_id = made
        named = house.get(whom_id, whom_id)
        put(session, house["patient"], now, (effect, whom, named, what, what_id))
    named, groups = shown(session, tenant, house, now)
    counted = {}
    for name in house:
        if name in {"patient", "suspended"}:
            continue
        opens = really(session, tenant, house, name, now)
        if name in named or (opens and name in {"treating", "team", "guardian", "glass"}):
            assert named.get(name) == opens, name
        elif opens:
            (role,) = (r for (r,) in session.query(RoleGrant.role).filter_by(person_id=house[name]))
            counted[role, opens] = counted.get((role, opens), 0) + 1
    assert {(role, opens): count for (role, count), opens in groups.items()} == counted


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            rule(Effect.BLOCK, Whom.PERSON, "treating", What.CATEGORY, "genetics"),
            {"treating": (Opens(False, frozenset({"genetics"})), Opens())},
        ),
        (
            rule(whom=Whom.DEPARTMENT, whom_id="Cardiology"),
            {"ward_nurse": (Opens(True, PLAIN), Opens())},
        ),
        (rule(Effect.ALLOW, whom_id="porter"), {}),
        (
            rule(Effect.ALLOW, Whom.PERSON, "stranger"),
            {"stranger": (Opens(), Opens(True, PLAIN))},
        ),
        (
            rule(Effect.ALLOW, whom_id="doctor"),
            {
                "doctor": (Opens(), Opens(True, PLAIN)),
                "future": (Opens(), Opens(True, PLAIN)),
            },
        ),
    ],
    ids=["person-category", "department", "ceiling", "named", "role"],
)
def test_what_a_rule_changes(session, tenants, house, now, made, expected):
    effect, whom, whom_id, what, what_id = made
    ident = house.get(whom_id, whom_id)
    new = Rule(new_id(), effect, whom, ident, what, what_id, now, None)
    tenant = tenants["hospital"]
    loaded = preview.load(session, tenant, house["patient"], now, besides=[new])
    things = preview.things_of(what, what_id, None)
    found = preview.changes(loaded, things, new=new, now=now, sight=what is What.EVERYTHING)
    assert {
        (c.name.removeprefix("Dr ") or c.role): (c.before, c.after) for c in found.changes
    } == expected


def test_a_rule_that_begins_later_is_judged_as_of_then(session, tenants, house, now):
    later = now + 2 * HOUR
    new = Rule(new_id(), Effect.BLOCK, Whom.ROLE, "doctor", What.EVERYTHING, "", later, None)
    loaded = preview.load(session, tenants["hospital"], house["patient"], now, besides=[new])
    things = preview.things_of(What.EVERYTHING, "", None)
    found = preview.changes(loaded, things, new=new, now=now)
    # The glass is whole again by then, and the assignment to come has begun.
    assert {change.name for change in found.changes} == {"Dr treating", "Dr future"}


def test_the_author_of_a_record_goes_on_reading_it(session, tenants, house, now):
    record = RecordFacts("f" * 32, True, house["stranger"], "laboratory")
    loaded = preview.load(
        session, tenants["hospital"], house["patient"], now, author_id=house["stranger"]
    )
    things = preview.things_of(What.RECORD, record.id, record)
    found = preview.today(loaded, things, now, sight=False)
    assert "Dr stranger" in {reader.name for reader in found.readers}
    assert "Dr porter" not in {reader.name for reader in found.readers}


def test_a_thousand_in_one_position_cost_one_decision_and_no_names(
    session, tenants, house, person, now, monkeypatch
):
    asked = []
    monkeypatch.setattr(preview, "decide", lambda *args: asked.append(args) or decide(*args))
    for _ in range(40):
        person("nurse", "One of many")
    put(session, house["patient"], now, rule(Effect.ALLOW, whom_id="nurse"))
    statements = []
    event.listen(session.get_bind(), "before_cursor_execute", lambda *a: statements.append(a[2]))
    named, groups = shown(session, tenants["hospital"], house, now)
    assert groups["nurse", 40] == Opens(True, PLAIN)
    assert "One of many" not in named
    assert len(asked) < 20 * 8
    assert len(statements) < 15


def test_more_people_than_are_looked_at_are_told_as_such(session, tenants, house, now, monkeypatch):
    monkeypatch.setattr(preview, "MOST_PEOPLE", 3)
    monkeypatch.setattr(preview, "MOST_NAMES", 1)
    tenant = tenants["hospital"]
    loaded = preview.load(session, tenant, house["patient"], now)
    found = preview.today(loaded, preview.things_of(What.EVERYTHING, "", None), now)
    assert found.is_partial and len(found.readers) <= 1


def test_who_is_offered_by_name(session, tenants, house, now):
    known = rule_choices.known_people(session, tenants["hospital"], house["patient"], now)
    names = {one.name.removeprefix("Dr ") for one in known}
    assert names == {
        *("treating", "open_nurse", "team", "ward_nurse", "porter", "volunteer", "assistant"),
        *("future", "guardian"),
    }


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Dr stranger", ["stranger"]),
        ("  dr   STRANGER ", ["stranger"]),
        ("Dr", []),
        ("stranger", []),
        ("Dr s", []),
        ("", []),
        ("...", []),
        ("Dr patient", []),
        ("Dr admin", []),
        ("Dr suspended", []),
    ],
    ids=range(10),
)
def test_a_name_is_found_whole_or_not_at_all(session, tenants, house, typed, found):
    people = rule_choices.named_exactly(session, tenants["hospital"], typed, {house["patient"]})
    assert [one.person_id for one in people] == [house[name] for name in found]


def test_people_who_are_not_written_out_are_counted_and_not_rows(
    session, tenants, house, person, now, monkeypatch
):
    for _ in range(5):
        person("ward_clerk", "One of many")
    tenant = tenants["hospital"]
    loaded = preview.load(session, tenant, house["patient"], now)
    things = preview.things_of(What.EVERYTHING, "", None)
    everybody = preview.today(loaded, things, now)
    monkeypatch.setattr(preview, "MOST_NAMES", len(everybody.readers) - 1)
    # The clerks are the last row, of six people.
    assert preview.today(loaded, things, now).unnamed == 6
    new = Rule(new_id(), Effect.BLOCK, Whom.ROLE, "nurse", What.EVERYTHING, "", now, None)
    monkeypatch.setattr(preview, "MOST_NAMES", 1)
    assert preview.changes(loaded, things, new=new, now=now).unnamed == 2


def test_staff_to_whom_nothing_opens_are_not_even_loaded(session, tenants, house, person, now):
    many = {person("nurse", "One of many") for _ in range(5)}
    tenant, patient = tenants["hospital"], house["patient"]
    assert not many & set(preview.load(session, tenant, patient, now).people)
    new = Rule(new_id(), Effect.ALLOW, Whom.ROLE, "nurse", What.EVERYTHING, "", now, None)
    assert many <= set(preview.load(session, tenant, patient, now, besides=[new]).people)


def test_the_care_team_comes_before_who_looked_and_of_these_the_newest(
    session, tenants, house, person, now, monkeypatch
):
    tenant, patient = tenants["hospital"], house["patient"]
    looked = [person("doctor", f"A looker {number}") for number in range(4)]
    for minutes, who in enumerate(looked):
        at = now - timedelta(minutes=minutes)
        append(session, Event.create(Action.PATIENT_VIEWED, now=at, actor=who, patient=patient))
    session.flush()
    known = [one.person_id for one in rule_choices.known_people(session, tenant, patient, now)]
    assert known[-4:] == looked and house["treating"] in known[:-4]
    monkeypatch.setattr(rule_choices, "MOST_OFFERED", len(known) - 2)
    monkeypatch.setattr(rule_choices, "NEWEST_EVENTS", 3)
    fewer = [one.person_id for one in rule_choices.known_people(session, tenant, patient, now)]
    assert fewer == known[:-2]
