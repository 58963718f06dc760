"""Events: one encoding, read back exactly, nothing else accepted."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.audit.errors import MalformedEvent
from medportal.audit.events import MAX_ITEMS, MAX_TEXT, Action, Event, Outcome
from medportal.core import canonical
from medportal.core.reasons import Reason

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

texts = st.text(min_size=1, max_size=MAX_TEXT).filter(lambda text: text.isprintable())
details = st.one_of(texts, st.integers(-(2**63), 2**63))


@given(
    action=st.sampled_from(Action),
    outcome=st.sampled_from(Outcome),
    now=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    actor=st.none() | texts,
    session=st.none() | texts,
    patient=st.none() | texts,
    object=st.none() | texts,
    reasons=st.lists(texts, max_size=MAX_ITEMS),
    details=st.dictionaries(texts, details, max_size=MAX_ITEMS),
)
def test_round_trip(action: Action, outcome: Outcome, **rest: Any) -> None:
    event = Event.create(action, outcome, **rest)
    assert Event.from_bytes(event.to_bytes()) == event


def test_reasons_of_the_core_become_codes() -> None:
    event = Event.create(Action.RECORD_READ, now=NOW, reasons=[Reason.ASSIGNED_CARE])
    assert [type(reason) for reason in event.reasons] == [str]
    assert event.reasons == ("assigned-care",)


def test_the_same_instant_has_one_encoding() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    events = [Event("a" * 32, at, Action.SIGN_IN, Outcome.ALLOWED) for at in (NOW, there)]
    assert events[0].to_bytes() == events[1].to_bytes()


def test_two_events_are_never_the_same() -> None:
    first, second = (Event.create(Action.SIGN_IN, now=NOW) for _ in range(2))
    assert first.to_bytes() != second.to_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "short"},
        {"at": datetime(2026, 3, 1, 12)},
        {"actor": ""},
        {"session": "x" * (MAX_TEXT + 1)},
        {"patient": 7},
        {"object": b"bytes"},
        {"reasons": ("",)},
        {"reasons": ("x",) * (MAX_ITEMS + 1)},
        {"details": {"": 1}},
        {"details": {1: 1}},
        {"details": {"key": True}},
        {"details": {"key": None}},
        {"details": {"key": 1.5}},
        {"details": {"key": "x" * (MAX_TEXT + 1)}},
    ],
)
def test_unfit_events_are_refused(changes: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        "id": "a" * 32,
        "at": NOW,
        "action": Action.SIGN_IN,
        "outcome": Outcome.ALLOWED,
    }
    with pytest.raises(MalformedEvent):
        Event(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"id": 5},
        {"at": "now"},
        {"at": True},
        {"at": 2**63},
        {"at": None},
        {"action": "record-eaten"},
        {"outcome": "maybe"},
        {"reasons": "ab"},
        {"reasons": None},
        {"reasons": [1]},
        {"details": []},
        {"details": ["ab"]},
        {"details": {"a": [1]}},
        {"more": 1},
    ],
)
def test_other_bytes_are_no_event(
    changes: dict[str, Any], make_event: Callable[..., Event]
) -> None:
    fields = canonical.decode(make_event(1).to_bytes())
    with pytest.raises(MalformedEvent):
        Event.from_bytes(canonical.encode({**fields, **changes}))


def test_every_field_is_needed(make_event: Callable[..., Event]) -> None:
    fields = canonical.decode(make_event(1).to_bytes())
    for name in fields:
        rest = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(MalformedEvent):
            Event.from_bytes(canonical.encode(rest))


@given(st.binary(max_size=300))
def test_noise_is_no_event(data: bytes) -> None:
    with pytest.raises(MalformedEvent):
        Event.from_bytes(data)
