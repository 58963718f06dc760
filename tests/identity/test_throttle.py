"""Delays that grow with failures, and lock nobody out."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from medportal.identity import throttle
from medportal.identity.models import SignInThrottle

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"


def second(count):
    return timedelta(seconds=count)


def fail(session, keys, now, times):
    for _ in range(times):
        throttle.note_failure(session, keys, now)


def test_the_first_tries_are_free_then_the_delay_doubles(session, now):
    keys = throttle.keys("17645234", HOME)
    waits = []
    for _ in range(throttle.FREE_TRIES_PAIR + 9):
        throttle.note_failure(session, keys, now)
        waits.append(throttle.seconds_to_wait(session, keys, now))
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300]


def test_the_delay_passes(session, now):
    keys = throttle.keys("17645234", HOME)
    fail(session, keys, now, throttle.FREE_TRIES_PAIR + 2)
    wait = throttle.seconds_to_wait
    assert wait(session, keys, now) == 4
    assert wait(session, keys, now + timedelta(seconds=3.2)) == 1
    assert wait(session, keys, now + second(4)) == 0
    assert wait(session, keys, now + second(400)) == 0


def test_a_stranger_locks_nobody_out(session, now):
    fail(session, throttle.keys("17645234", ELSEWHERE), now, 200)
    assert throttle.seconds_to_wait(session, throttle.keys("17645234", HOME), now) == 0


def test_one_address_over_many_numbers_is_slowed(session, now):
    for number in range(throttle.FREE_TRIES_ADDRESS + 1):
        throttle.note_failure(session, throttle.keys(f"{number:08}", ELSEWHERE), now)
    fresh = throttle.keys("99999999", ELSEWHERE)
    assert throttle.seconds_to_wait(session, fresh, now) == 2
    assert throttle.seconds_to_wait(session, throttle.keys("99999999", HOME), now) == 0


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
        ("no address", "no address", True),
        ("no address", "", False),
    ],
)
def test_an_ipv6_customer_is_one_network(one, other, is_same):
    assert (throttle.keys("1", one) == throttle.keys("1", other)) is is_same
    assert (throttle.keys("1", one).address == throttle.keys("2", other).address) is is_same


def test_success_forgets_the_pair_and_not_the_address(session, now):
    keys = throttle.keys("17645234", HOME)
    fail(session, keys, now, throttle.FREE_TRIES_ADDRESS + 1)
    throttle.forget(session, keys)
    assert throttle.seconds_to_wait(session, keys, now) == 2
    rows = session.scalars(select(SignInThrottle.key)).all()
    assert rows == [keys.address]


def test_an_hour_without_failures_is_a_new_beginning(session, now):
    keys = throttle.keys("17645234", HOME)
    fail(session, keys, now, 20)
    later = now + throttle.FORGET_AFTER + second(1)
    assert throttle.seconds_to_wait(session, keys, later) == 0
    throttle.note_failure(session, keys, later)
    assert throttle.seconds_to_wait(session, keys, later) == 0
    assert set(session.scalars(select(SignInThrottle.failures))) == {1}


def test_old_counters_are_deleted_and_young_ones_stay(session, now):
    throttle.note_failure(session, throttle.keys("1", HOME), now)
    later = now + throttle.FORGET_AFTER + second(1)
    throttle.note_failure(session, throttle.keys("2", ELSEWHERE), later)
    session.flush()
    throttle.forget_old(session, later)
    assert session.scalar(select(func.count()).select_from(SignInThrottle)) == 2


@pytest.mark.parametrize("number", ["17645234", "", "\ud83d\ude00", "x" * 10_000, "a\0b"])
def test_the_table_names_nobody(session, now, number):
    keys = throttle.keys(number, HOME)
    throttle.note_failure(session, keys, now)
    session.flush()
    for key in session.scalars(select(SignInThrottle.key)):
        assert len(key) == 32
    assert keys.pair != keys.address
    assert keys == throttle.keys(number, HOME)
