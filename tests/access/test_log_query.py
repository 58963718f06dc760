"""The query of the access log: what it finds, what it does not, and by which index."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, text

from medportal.access.explanations import Topic, topic_actions
from medportal.access.log import Wanted, bases_of, cursor_of, events_of, find_event, newest
from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.ids import new_id

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME, OTHER, NURSE, DOCTOR = (digit * 32 for digit in "abcd")
INDEX = "ix_audit_event_patient_time"


def note(session, patient=ME, seconds=0, action=Action.PATIENT_VIEWED, **more):
    event = Event.create(
        action, now=NOW + timedelta(seconds=seconds), patient=patient, **{"actor": NURSE, **more}
    )
    append(session, event)
    return event


def ids(events):
    return [event.id for event in events]


def test_newest_first_and_of_this_patient_alone(session):
    mine = [note(session, seconds=number) for number in range(3)]
    note(session, patient=OTHER)
    note(session, patient=None)
    assert ids(events_of(session, ME, Wanted())) == ids(mine[::-1])


def test_nothing_is_found_by_a_part_of_an_id(session):
    note(session)
    assert events_of(session, "%", Wanted()) == [] and events_of(session, ME[:-1], Wanted()) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11])
def test_pages_join_without_gap_or_double(session, limit):
    # Five of one instant: there the id decides.
    made = [note(session, seconds=max(0, number - 5)) for number in range(10)]
    wanted = ids(sorted(made, key=lambda e: (e.at, e.id), reverse=True))
    found, after = [], None
    while page := events_of(session, ME, Wanted(), after=after, limit=limit):
        found += ids(page)
        after = cursor_of(session, ME, page[-1].id)
    assert found == wanted


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(actions=("record-read",)), ["read"]),
        (Wanted(outcomes=("denied",)), ["denied"]),
        (Wanted(actor=DOCTOR), ["read"]),
        (Wanted(but=NURSE), ["nobody", "read"]),
        (Wanted(since=NOW + timedelta(seconds=2)), ["nobody", "denied"]),
        (Wanted(until=NOW + timedelta(seconds=1)), ["seen"]),
        (Wanted(actor=NURSE, outcomes=("allowed",)), ["seen"]),
        (Wanted(actor="' OR ''='"), []),
    ],
    ids=["action", "outcome", "actor", "but", "since", "until", "two", "hostile"],
)
def test_narrowed(session, wanted, expected):
    made = {
        note(session).id: "seen",
        note(session, seconds=1, action=Action.RECORD_READ, actor=DOCTOR).id: "read",
        note(session, seconds=2, outcome=Outcome.DENIED).id: "denied",
        note(session, seconds=3, actor=None).id: "nobody",
    }
    assert [made[event.id] for event in events_of(session, ME, wanted)] == expected


def test_events_of_others_are_none(session):
    mine, foreign = note(session), note(session, patient=OTHER)
    assert find_event(session, ME, mine.id) == mine
    assert cursor_of(session, ME, mine.id) == (mine.at, mine.id)
    for event_id in (foreign.id, new_id(), ""):
        assert find_event(session, ME, event_id) is None
        assert cursor_of(session, ME, event_id) is None


def test_without_a_basis_nothing_is_asked(session):
    assert bases_of(session, ME, [note(session)]) == {}


def fill(session, count=4000):
    """A log in which the patient has few events, and the nurse nearly all."""
    rows = [
        {
            "id": new_id(),
            "at": NOW + timedelta(seconds=number),
            "action": "record-read",
            "outcome": "allowed",
            "actor": NURSE,
            "patient": ME if number % 100 == 0 else f"{number % 97:032x}",
            "object": None,
            "body": b"body",
            "sequence": None,
        }
        for number in range(count)
    ]
    session.execute(insert(AuditEvent), rows)
    session.execute(text("ANALYZE audit_event"))


def plan_of(session, query):
    bind = session.get_bind()
    words = str(query.compile(bind, compile_kwargs={"literal_binds": True}))
    explain = "EXPLAIN QUERY PLAN" if bind.dialect.name == "sqlite" else "EXPLAIN"
    found = session.connection().exec_driver_sql(f"{explain} {words}".replace("%", "%%"))
    return "\n".join(" ".join(map(str, row)) for row in found)


EMERGENCY = tuple(str(action) for action in topic_actions(Topic.EMERGENCY))


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(actor=NURSE),
        Wanted(but=ME),
        Wanted(actions=EMERGENCY),
        Wanted(outcomes=("denied",)),
        Wanted(since=NOW, until=NOW + timedelta(days=1)),
    ],
    ids=["all", "actor", "but", "actions", "outcomes", "period"],
)
@pytest.mark.parametrize("after", [None, (NOW + timedelta(seconds=2000), "f" * 32)], ids=["", "on"])
def test_found_by_the_index_on_patient_and_time(session, wanted, after):
    """However many events others have: whom a filter names must not lure to another index."""
    fill(session)
    plan = plan_of(session, newest(ME, wanted, after=after))
    assert INDEX in plan, plan
    assert "Seq Scan" not in plan and "SCAN audit_event" not in plan, plan


@pytest.mark.parametrize("after", [None, (NOW + timedelta(seconds=2000), "f" * 32)], ids=["", "on"])
def test_the_index_gives_the_order_too(session, after):
    """SQLite says when it sorts; PostgreSQL may sort a handful, which is no worse."""
    fill(session)
    plan = plan_of(session, newest(ME, Wanted(actor=NURSE), after=after))
    assert "TEMP B-TREE" not in plan, plan
