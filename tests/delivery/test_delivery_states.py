"""The state table and the schedule, over everything they can be asked."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.delivery.errors import NoSuchTransition
from medportal.delivery.schedule import (
    BUSY,
    FAULTS,
    LONGEST_WISH,
    PERSON_AFTER,
    UNKNOWN,
    BackOff,
    delay,
    needs_person,
    next_try,
)
from medportal.delivery.states import (
    ARRIVED,
    OPEN,
    RECEIPTED,
    TRANSITIONS,
    DeliveryEvent,
    DeliveryReason,
    DeliveryState,
    Outcome,
    event_of,
    reason_of,
    transition,
    usual_reason,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECEIPT_EVENTS = {event_of(outcome) for outcome in Outcome}

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
policies = st.builds(
    lambda base, factor: BackOff(
        timedelta(milliseconds=base), timedelta(milliseconds=base * factor)
    ),
    st.integers(1, 10_000),
    st.integers(1, 100_000),
)
chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(("state", "event"), list(product(DeliveryState, DeliveryEvent)))
def test_every_pair_either_is_in_the_table_or_is_refused(
    state: DeliveryState, event: DeliveryEvent
) -> None:
    if (state, event) in TRANSITIONS:
        assert transition(state, event) in DeliveryState
    else:
        with pytest.raises(NoSuchTransition, match=event.value):
            transition(state, event)


def test_every_open_state_takes_every_answer_of_a_partner() -> None:
    answers = {*RECEIPT_EVENTS, DeliveryEvent.UNKNOWN, DeliveryEvent.FAILED}
    assert all((state, event) in TRANSITIONS for state, event in product(OPEN, answers))


def test_only_a_receipt_leads_to_a_state_that_claims_one() -> None:
    claiming = {event for (_, event), after in TRANSITIONS.items() if after in RECEIPTED}
    assert claiming == RECEIPT_EVENTS


def test_a_rejection_is_never_shown_as_an_arrival() -> None:
    rejected = {
        after for (_, event), after in TRANSITIONS.items() if event is DeliveryEvent.REJECTED
    }
    assert rejected == {DeliveryState.REJECTED}
    assert rejected.isdisjoint(ARRIVED)


def test_a_settled_state_is_left_only_by_a_restore_or_a_lifted_rule() -> None:
    leaving = {event for (state, event) in TRANSITIONS if state not in OPEN}
    assert leaving == {DeliveryEvent.RULE_LIFTED, DeliveryEvent.RECEIVER_RESTORED}


def test_every_state_can_be_reached_and_from_every_state_an_arrival_can() -> None:
    reached, before = {DeliveryState.WAITING}, set()
    while reached != before:
        before = set(reached)
        reached |= {after for (state, _), after in TRANSITIONS.items() if state in reached}
    assert reached == set(DeliveryState)
    arriving, before = {DeliveryState.DELIVERED}, set()
    while arriving != before:
        before = set(arriving)
        arriving |= {state for (state, _), after in TRANSITIONS.items() if after in arriving}
    assert arriving == set(DeliveryState)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_reason_in_words(outcome: Outcome) -> None:
    assert usual_reason(outcome) is not DeliveryReason.UNSPECIFIED


@given(st.text())
def test_a_partners_code_is_a_known_reason_or_unspecified(code: str) -> None:
    known = code in {reason.value for reason in DeliveryReason}
    assert reason_of(code) == (code if known else DeliveryReason.UNSPECIFIED)


@pytest.mark.parametrize("reason", DeliveryReason)
def test_a_known_code_is_understood(reason: DeliveryReason) -> None:
    assert reason_of(reason.value) is reason


@given(policies, st.integers(1, 10**9), chances)
def test_a_delay_lies_in_the_upper_half_under_the_cap(
    policy: BackOff, attempts: int, chance: float
) -> None:
    wait = delay(policy, attempts, lambda: chance)
    highest = delay(policy, attempts, lambda: 1.0)
    assert highest <= policy.cap
    assert highest / 2 <= wait <= highest
    assert wait > timedelta(0)


@given(policies, st.integers(1, 60))
def test_delays_double_until_the_cap_and_stay_there(policy: BackOff, attempts: int) -> None:
    now, later = (delay(policy, attempts + more, lambda: 1.0) for more in (0, 1))
    assert later == min(policy.cap, now * 2)


@pytest.mark.parametrize("policy", [BUSY, FAULTS, UNKNOWN])
def test_the_cap_is_reached_within_a_day_of_attempts(policy: BackOff) -> None:
    waits = [delay(policy, attempts, lambda: 0.0) for attempts in range(1, 40)]
    first_capped = next(n for n, wait in enumerate(waits) if wait >= policy.cap / 2)
    assert sum(waits[:first_capped], timedelta(0)) < timedelta(days=1)


@pytest.mark.parametrize("attempts", [0, -1])
def test_there_is_no_delay_before_the_first_attempt(attempts: int) -> None:
    with pytest.raises(ValueError, match="first attempt"):
        delay(FAULTS, attempts, lambda: 0.5)


@given(policies, st.integers(1, 50), chances, moments, st.none() | moments)
def test_a_partners_wish_is_honoured_within_reason(
    policy: BackOff, attempts: int, chance: float, now: datetime, wish: datetime | None
) -> None:
    at = next_try(policy, attempts, lambda: chance, now, wish)
    assert at > now
    assert at <= now + max(policy.cap, LONGEST_WISH)
    if wish is not None and wish <= now + LONGEST_WISH:
        assert at >= wish


@pytest.mark.parametrize("state", DeliveryState)
@pytest.mark.parametrize("age", [timedelta(0), PERSON_AFTER])
def test_a_person_is_shown_what_is_stuck_or_refused(state: DeliveryState, age: timedelta) -> None:
    always = state in {DeliveryState.REJECTED, DeliveryState.HELD_FOR_REVIEW}
    when_old = state in OPEN and age == PERSON_AFTER
    assert needs_person(state, NOW - age, NOW) is (always or when_old)
