"""Searching the log."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.errors import MalformedEvent
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.models import AuditEvent
from medportal.audit.search import Cursor, Query, find

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Maker = Callable[..., Event]


@pytest.fixture
def events(session: Session, make_event: Maker) -> list[Event]:
    """Give ten events, newest first, the last five of one instant."""
    made = [make_event(number, now=NOW + timedelta(seconds=min(number, 5))) for number in range(10)]
    for event in made:
        append(session, event)
    return sorted(made, key=lambda event: (event.at, event.id), reverse=True)


def test_newest_come_first(session: Session, events: list[Event]) -> None:
    page = find(session, Query())
    assert list(page.events) == events
    assert page.next is None


@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11])
def test_pages_join_without_gap_or_double(
    session: Session, events: list[Event], limit: int
) -> None:
    found: list[Event] = []
    after: Cursor | None = None
    while True:
        page = find(session, Query(), after=after, limit=limit)
        assert 0 < len(page.events) <= limit
        found.extend(page.events)
        after = page.next
        if after is None:
            break
    assert found == events


def test_each_condition_narrows(session: Session, events: list[Event]) -> None:
    patient = f"{1:032x}"
    odd = Event.create(
        Action.ACCESS_DENIED,
        Outcome.DENIED,
        now=NOW + timedelta(hours=1),
        actor="7" * 32,
        object="8" * 32,
    )
    append(session, odd)
    of_patient = [event for event in events if event.patient == patient]
    assert list(find(session, Query(patient=patient)).events) == of_patient
    for query in (
        Query(actor="7" * 32),
        Query(object="8" * 32),
        Query(action=Action.ACCESS_DENIED),
        Query(outcome=Outcome.DENIED),
        Query(since=NOW + timedelta(hours=1)),
    ):
        assert find(session, query).events == (odd,)
    assert list(find(session, Query(until=NOW + timedelta(hours=1))).events) == events
    assert find(session, Query(patient=patient, outcome="denied")).events == ()


def test_a_body_that_cannot_be_read_is_not_skipped(session: Session, events: list[Event]) -> None:
    row = session.get_one(AuditEvent, events[0].id)
    row.body = b"noise"
    with pytest.raises(MalformedEvent):
        find(session, Query())
