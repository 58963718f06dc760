"""Delays that grow with failures, bound a guesser with many networks, and lock nobody out."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.identity import throttle
from medportal.identity.models import SignInThrottle

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"
NUMBER = "17645234"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def keys(number=NUMBER, address=HOME, **kw):
    return throttle.keys("sign-in", number, address, **kw)


def second(count):
    return timedelta(seconds=count)


def fail(session, of, now, times):
    return [throttle.note_failure(session, of, now) for _ in range(times)]


def attack(session, now, times=throttle.MANY + 1, number=NUMBER):
    """Let strangers fail that often, each from a network of their own."""
    for stranger in range(times):
        throttle.note_failure(session, keys(number, f"203.0.113.{stranger}"), now)


def test_the_first_tries_are_free_then_the_delay_doubles(session, now):
    waits = []
    for _ in range(throttle.FREE_TRIES_PAIR + 9):
        throttle.note_failure(session, keys(), now)
        waits.append(throttle.seconds_to_wait(session, keys(), now))
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300]


def test_the_delay_passes(session, now):
    fail(session, keys(), now, throttle.FREE_TRIES_PAIR + 2)
    wait = throttle.seconds_to_wait
    assert wait(session, keys(), now) == 4
    assert wait(session, keys(), now + timedelta(seconds=3.2)) == 1
    assert wait(session, keys(), now + second(4)) == 0
    assert wait(session, keys(), now + second(400)) == 0


@pytest.mark.parametrize("minutes_past", [0, 8, 59])
def test_the_last_hour_counts_wherever_the_hour_of_the_clock_ends(session, minutes_past):
    start = datetime(2024, 5, 6, 7, minutes_past, 59, tzinfo=UTC)
    fail(session, keys(), start, 20)
    counted = [
        throttle._counted(session, (keys().pair,), start + second(60 * minutes))[keys().pair]
        for minutes in range(0, 121, 10)
    ]
    failures = [found.failures for found in counted]
    assert failures[0] == 20
    assert failures == sorted(failures, reverse=True), "it only ever becomes less"
    assert failures[-1] == 0, "after two hours nothing is left"


def test_old_failures_weigh_less_and_less(session):
    start = datetime(2024, 5, 6, 7, 0, tzinfo=UTC)
    fail(session, keys(), start, 20)
    at = {minutes: start + second(60 * minutes) for minutes in (59, 60, 90, 105, 119, 120)}
    found = {
        minutes: throttle._counted(session, (keys().pair,), time)[keys().pair].failures
        for minutes, time in at.items()
    }
    assert found == {59: 20, 60: 20, 90: 10, 105: 5, 119: 1, 120: 0}


def test_a_row_of_two_hours_ago_begins_anew(session, now):
    fail(session, keys(), now, 20)
    later = now + 2 * HOUR
    assert throttle.seconds_to_wait(session, keys(), later) == 0
    throttle.note_failure(session, keys(), later)
    assert throttle._counted(session, (keys().pair,), later)[keys().pair].failures == 1
    assert throttle.seconds_to_wait(session, keys(), later) == 0


# -- nobody is locked out ------------------------------------------------------------------------


def test_a_stranger_locks_nobody_out(session, now):
    fail(session, keys(address=ELSEWHERE), now, 200)
    assert throttle.seconds_to_wait(session, keys(), now) == 0


def test_an_attack_from_everywhere_leaves_each_network_a_try(session, now):
    attack(session, now, 500)
    assert throttle.seconds_to_wait(session, keys(), now) == 0
    throttle.note_failure(session, keys(), now)
    assert throttle.seconds_to_wait(session, keys(), now) == throttle.LONGEST_SECONDS
    assert throttle.seconds_to_wait(session, keys(), now + second(300)) == 0
    assert throttle.seconds_to_wait(session, keys("12345678"), now) == 0


def test_just_under_an_attack_everything_is_as_ever(session, now):
    attack(session, now, throttle.MANY - 1)
    throttle.note_failure(session, keys(), now)
    assert throttle.seconds_to_wait(session, keys(), now) == 0
    throttle.note_failure(session, keys(address="203.0.113.200"), now)
    assert throttle.seconds_to_wait(session, keys(), now) == throttle.LONGEST_SECONDS


def test_a_known_browser_is_counted_by_itself(session, now):
    """Not even a colleague behind the same address, and with many others, delays its owner."""
    mine = keys(browser="b" * 32)
    attack(session, now, 500)
    fail(session, keys(), now, 25)
    assert throttle.seconds_to_wait(session, keys(), now) == throttle.LONGEST_SECONDS
    assert throttle.seconds_to_wait(session, mine, now) == 0
    waits = []
    for _ in range(throttle.FREE_TRIES_PAIR + 3):
        throttle.note_failure(session, mine, now)
        waits.append(throttle.seconds_to_wait(session, mine, now))
    assert waits[:4] == [0, 0, 0, 0]
    assert max(waits) == 8, "as if there was no attack"
    other = keys("12345678", browser="b" * 32)
    assert other.pair != mine.pair


def test_a_browser_is_no_address(session, now):
    fail(session, keys(browser=HOME), now, 20)
    assert throttle.seconds_to_wait(session, keys(), now) == 0


TEN = datetime(2024, 5, 6, 7, 10, tzinfo=UTC)


def test_a_program_behind_the_same_address_keeps_nobody_waiting_who_did_not_fail(session):
    """It tries numbers on and on, always as soon as it may: each moment a person gets in."""
    person = keys("99999999", ELSEWHERE)
    tries = 0
    for moment in range(600):
        at = TEN + second(moment)
        of = keys(f"{tries % 100:08}", ELSEWHERE)
        if throttle.seconds_to_wait(session, of, at) == 0:
            throttle.note_failure(session, of, at)
        tries += 1
        assert throttle.seconds_to_wait(session, person, at) == 0
    assert tries == 600


def test_whoever_mistyped_waits_for_no_failure_of_others(session):
    person = keys("99999999", ELSEWHERE)
    throttle.note_failure(session, person, TEN)
    for number in range(throttle.FIRST_FAILURES):
        throttle.note_failure(session, keys(f"{number:08}", ELSEWHERE), TEN)
    assert throttle.seconds_to_wait(session, person, TEN) == 0


def test_the_budgets_of_an_address_end_and_begin_with_ten_minutes(session):
    for number in range(throttle.FIRST_FAILURES):
        fresh = keys(f"{number:08}", ELSEWHERE)
        assert throttle.seconds_to_wait(session, fresh, TEN) == 0
        throttle.note_failure(session, fresh, TEN)
    fresh = keys("99999999", ELSEWHERE)
    assert throttle.seconds_to_wait(session, fresh, TEN) == 600
    assert throttle.seconds_to_wait(session, fresh, TEN + timedelta(seconds=599.5)) == 1
    assert throttle.seconds_to_wait(session, fresh, TEN + second(600)) == 0
    # Somebody who failed before has the other budget, other networks have theirs.
    assert throttle.seconds_to_wait(session, keys("00000001", ELSEWHERE), TEN) == 0
    assert throttle.seconds_to_wait(session, keys("99999999", HOME), TEN) == 0
    for number in range(throttle.FURTHER_FAILURES):
        throttle.note_failure(session, keys(f"{number:08}", ELSEWHERE), TEN)
    failed = keys("00000001", ELSEWHERE)
    assert throttle.seconds_to_wait(session, failed, TEN) == 600
    assert throttle.seconds_to_wait(session, failed, TEN + second(600)) == 0
    # A known browser is not concerned, and counts for no network.
    known = keys("99999999", ELSEWHERE, browser="1")
    assert throttle.seconds_to_wait(session, known, TEN) == 0
    later = TEN + second(600)
    for number in range(throttle.FIRST_FAILURES):
        throttle.note_failure(session, keys(f"{number}", ELSEWHERE, browser="1"), later)
    assert throttle.seconds_to_wait(session, fresh, later) == 0


def test_one_network_gets_so_many_tries_over_all_accounts(session):
    """Somebody with a long list of numbers, for twenty minutes, two tries a second."""
    done = 0
    for moment in range(1200):
        at = TEN + second(moment)
        # Numbers anew, and those of a minute ago once more.
        for number in (moment, moment - 60):
            of = keys(f"{number:08}", ELSEWHERE)
            if throttle.seconds_to_wait(session, of, at) == 0:
                throttle.note_failure(session, of, at)
                done += 1
    # Six times ten minutes are an hour, with 2,700 failures.
    each = throttle.FIRST_FAILURES + throttle.FURTHER_FAILURES
    assert done == 2 * each == 900


def test_tries_from_anywhere_are_counted_together_and_for_the_network(session):
    def code(number, address, **kw):
        return throttle.keys("code", number, address, anywhere=True, **kw)

    fail(session, code(NUMBER, HOME), TEN, 6)
    assert throttle.seconds_to_wait(session, code(NUMBER, ELSEWHERE), TEN) == 4
    assert throttle.seconds_to_wait(session, code("12345678", HOME), TEN) == 0
    assert throttle.seconds_to_wait(session, code(NUMBER, HOME, browser="1"), TEN) == 0
    for number in range(throttle.FIRST_FAILURES):
        throttle.note_failure(session, code(f"{number:08}", HOME), TEN)
    assert throttle.seconds_to_wait(session, code("99999999", HOME), TEN) == 600
    assert throttle.seconds_to_wait(session, code("99999999", ELSEWHERE), TEN) == 0


@given(st.integers(0, 3), st.lists(st.integers(0, 30), max_size=60))
def test_whoever_did_not_fail_is_let_try_at_once(free_network, strangers):
    """The rule itself, over every mix of strangers' failures: nothing is shared with them."""
    assert free_network < 4
    mine = keys(address=f"192.0.2.{free_network}")
    theirs = {keys(address=f"203.0.113.{stranger}").pair for stranger in strangers}
    theirs |= {keys(address=f"203.0.113.{stranger}").wide for stranger in strangers}
    assert not {mine.pair, mine.wide} & theirs


# -- what a guesser gets -------------------------------------------------------------------------


@dataclass
class Guesser:
    """Somebody with many networks who tries one account whenever they may."""

    session: Session
    networks: list[str]
    tries: int = 0
    clock: datetime = field(default=datetime(2024, 5, 6, tzinfo=UTC))

    def run(self, until: datetime) -> None:
        """Try whenever the longest wait is over, and as often at once as is let."""
        while self.clock < until:
            for network in self.networks:
                while self._try(keys(address=network)):
                    pass
            self.clock += second(throttle.LONGEST_SECONDS)

    def _try(self, of) -> bool:
        if throttle.take_turn(self.session, of, self.clock):
            return False
        throttle.note_failure(self.session, of, self.clock)
        self.tries += 1
        return True


def most_tries(hours, networks):
    """What the module says: those that do not look like an attack, and one each five minutes."""
    each = int(hours * HOUR / second(throttle.LONGEST_SECONDS)) + 1
    return hours * (throttle.MANY + 1) + networks * each


@pytest.mark.simulation
@pytest.mark.parametrize(("count", "hours"), [(1, 24), (5, 24), (12, 6)])
def test_a_guesser_with_some_networks_gets_so_many_tries(session, count, hours):
    start = datetime(2024, 5, 6, tzinfo=UTC)
    guesser = Guesser(session, [f"203.0.113.{n}" for n in range(count)], clock=start)
    guesser.run(start + hours * HOUR)
    assert hours < guesser.tries <= most_tries(hours, count)
    if count == 1:
        assert guesser.tries < 350, "one network: far from what looks like an attack"
    # The person, on a network that did not fail, is let try at any time of that day.
    for minutes in range(0, hours * 60, 97):
        assert throttle.seconds_to_wait(session, keys(), start + second(60 * minutes)) == 0


def test_a_guesser_with_a_whole_ipv6_site_has_one_network(session):
    """A /48 has 65,536 networks of one customer, and is to be had for nothing."""
    start = datetime(2024, 5, 6, tzinfo=UTC)
    guesser = Guesser(session, [f"2001:db8:7:{n:x}::1" for n in range(30)], clock=start)
    guesser.run(start + 3 * HOUR)
    assert throttle.MANY < guesser.tries <= most_tries(3, 1) < most_tries(3, 30) / 5


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
        ("no address", "no address", True),
        ("no address", "", False),
    ],
)
def test_an_ipv6_customer_is_one_network(one, other, is_same):
    assert (keys("1", one) == keys("1", other)) is is_same
    assert (keys("1", one).address == keys("2", other).address) is is_same


def test_what_is_wide_is_wide_only_in_ipv6():
    one, other = keys(address="2001:db8:1:2::1"), keys(address="2001:db8:1:3::1")
    assert one.wide == other.wide != keys(address="2001:db8:2:2::1").wide
    four = keys(address="192.0.2.1")
    assert four.wide == four.pair != keys(address="192.0.2.2").wide


# -- telling -------------------------------------------------------------------------------------


def test_the_owner_is_told_once_a_day(session, now):
    told = [
        throttle.note_failure(session, keys(address=f"203.0.113.{n}"), now)
        for n in range(throttle.MANY + 5)
    ]
    assert told == [0] * throttle.MANY + [throttle.MANY + 1, 0, 0, 0, 0]
    day = now + DAY
    for at, is_told in ((day, False), (day + second(1), True), (day + second(2), False)):
        attack(session, at - second(1), throttle.MANY + 1)
        assert (throttle.note_failure(session, keys(), at) > throttle.MANY) is is_told


def test_telling_is_of_one_account(session, now):
    attack(session, now)
    assert max(fail(session, keys("12345678"), now, throttle.MANY)) == 0
    assert throttle.note_failure(session, keys("12345678"), now) == throttle.MANY + 1


# -- success and housekeeping --------------------------------------------------------------------


def test_success_forgets_the_pair_and_neither_the_address_nor_the_account(session):
    now = TEN
    fail(session, keys(), now - HOUR, 3)
    fail(session, keys(), now, throttle.FURTHER_FAILURES + 1)
    throttle.forget(session, keys())
    counted = throttle._counted(session, (keys().pair, keys().account), now)
    assert counted[keys().pair].failures == 0
    assert counted[keys().account].failures > throttle.FURTHER_FAILURES
    throttle.note_failure(session, keys(), now - second(1))
    throttle.note_failure(session, keys(), now)
    assert throttle.seconds_to_wait(session, keys(), now) == 600, "the budget of the address"


def test_success_forgets_the_wide_network_too(session, now):
    mine = keys(address="2001:db8:1:2::1")
    attack(session, now)
    throttle.note_failure(session, mine, now)
    assert throttle.seconds_to_wait(session, mine, now) == throttle.LONGEST_SECONDS
    throttle.forget(session, mine)
    assert throttle.seconds_to_wait(session, mine, now) == 0


def rows(session):
    session.flush()
    return session.scalar(select(func.count()).select_from(SignInThrottle))


def test_failures_of_one_account_from_one_network_take_few_rows(session, now):
    for hour in range(30):
        fail(session, keys(), now + hour * HOUR, 3)
    assert rows(session) == 6, "two for each key, whatever the time"


def test_old_counters_are_deleted_and_young_ones_stay(session, now):
    throttle.note_failure(session, keys("1", HOME), now)
    throttle.take_turn(session, keys("3", HOME), now)
    later = now + 2 * HOUR + second(1)
    throttle.note_failure(session, keys("2", ELSEWHERE), later)
    throttle.forget_old(session, later)
    assert rows(session) == 3
    throttle.forget_old(session, later + DAY)
    assert rows(session) == 0


def test_whoever_was_told_is_not_told_again_for_housekeeping(session, now):
    attack(session, now)
    later = now + DAY - HOUR
    throttle.forget_old(session, later)
    attack(session, later, throttle.MANY)
    assert throttle.note_failure(session, keys(), later) == 0


@pytest.mark.parametrize("number", [NUMBER, "", "\ud83d\ude00", "x" * 10_000, "a\0b", "\ud800"])
def test_the_table_names_nobody(session, now, number):
    of = keys(number)
    throttle.note_failure(session, of, now)
    session.flush()
    for key in session.scalars(select(SignInThrottle.key)):
        assert len(key) == 32
        assert number.encode("utf-8", "replace") not in key or not number
    assert len({of.pair, of.address, of.account}) == 3
    assert of == keys(number)


def test_kinds_are_counted_apart(session, now):
    fail(session, keys(), now, 20)
    other = throttle.keys("code", NUMBER, HOME)
    assert throttle.seconds_to_wait(session, other, now) == 0


# -- many at once --------------------------------------------------------------------------------


def test_a_try_that_waits_for_its_turn_leaves_no_failure(session, now):
    fail(session, keys(), now - HOUR, 20)
    before = throttle.seconds_to_wait(session, keys(), now)
    assert throttle.take_turn(session, keys(), now) == before
    assert throttle.seconds_to_wait(session, keys(), now) == before
    throttle.note_failure(session, keys("2"), now)
    throttle.take_turn(session, keys("2"), now)
    counted = throttle._counted(session, (keys("2").pair,), now)[keys("2").pair]
    assert (counted.failures, counted.last_at) == (1, now)


def at_once(count, work):
    """Run ``work(number)`` in so many threads that begin together; raise what one raised."""
    barrier, problems = threading.Barrier(count), []

    def run(number):
        barrier.wait(30)
        try:
            work(number)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


def test_failures_at_once_are_counted_exactly(engine, now):
    """Workers of two kinds: many networks at one account, and one network at many accounts."""

    def work(number):
        for _ in range(5):
            for of in (keys(address=f"203.0.113.{number}"), keys(f"{number:08}")):
                with Session(engine) as session, session.begin():
                    throttle.note_failure(session, of, now)

    at_once(8, work)
    with Session(engine) as session:
        counted = throttle._counted(session, (keys().account,), now)
        assert counted[keys().account].failures == 40
        of_network = throttle._rows(keys().first) + throttle._rows(keys().further)
        counts = session.scalars(
            select(SignInThrottle.failures).where(SignInThrottle.key.in_(of_network))
        )
        assert sorted(counts) == [8, 32]


def test_the_owner_is_told_once_though_many_cross_the_line_together(engine, now):
    with Session(engine) as session, session.begin():
        attack(session, now, throttle.MANY)
    told = []

    def work(number):
        with Session(engine) as session, session.begin():
            told.append(throttle.note_failure(session, keys(address=f"192.0.2.{number}"), now))

    at_once(8, work)
    assert sum(count > 0 for count in told) == 1


def test_tries_at_once_are_no_more_than_tries_in_a_row(engine, now):
    """Each passed the first look while none had failed; each is looked at again in its turn."""
    answered = []

    def work(_number):
        with Session(engine) as session, session.begin():
            if throttle.take_turn(session, keys(), now) == 0:
                throttle.note_failure(session, keys(), now)
                answered.append(1)

    at_once(12, work)
    assert len(answered) == throttle.FREE_TRIES_PAIR + 1


def test_counters_survive_the_process(engine, now):
    with Session(engine) as session, session.begin():
        fail(session, keys(), now, 20)
    engine.dispose()
    with Session(engine) as session:
        assert throttle.seconds_to_wait(session, keys(), now) == throttle.LONGEST_SECONDS
