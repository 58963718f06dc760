"""The outbox as a table: one claim at a time, waits that grow, nothing kept longer than needed."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from medportal.core.ids import new_id
from medportal.mail import outbox
from medportal.mail.errors import LostClaim, Problem
from medportal.mail.kinds import MailKind
from medportal.mail.models import MailState, OutgoingMail
from medportal.mail.outbox import LEASE, LONGEST_WAIT, MOST_ATTEMPTS, claim, post, queue, wait_after

ONE, OTHER = new_id(), new_id()
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


# Posting


def test_a_mail_is_committed_with_its_cause_or_not_at_all(begin, now):
    class Undone(Exception):
        pass

    with pytest.raises(Undone), begin() as session:
        post(session, MailKind.PASSWORD_CHANGED, to="a@mail.example", language="en", now=now)
        raise Undone
    with begin() as session:
        assert queue(session).waiting == 0


def test_without_an_address_nothing_is_posted(begin, now):
    with begin() as session:
        assert post(session, MailKind.RESET, to="", language="en", now=now, person_id=ONE) is None
        assert queue(session).waiting == 0


def test_what_a_kind_does_not_know_is_refused(session, now):
    for kind, values in (
        (MailKind.PASSWORD_CHANGED, {"params": {"password": "x"}}),
        (MailKind.ACTIVATION, {"person_id": None}),
    ):
        with pytest.raises(ValueError, match=r"knows no|is for a person"):
            post(session, kind, to="a@mail.example", language="en", now=now, **values)


# Claiming


def test_a_claim_holds_until_its_lease_ends(begin, posted, now):
    (mail_id,) = posted()
    with begin() as session:
        first = claim(session, ONE, now)
    assert first is not None
    assert (first.letter.id, first.letter.to, first.attempts) == (
        mail_id,
        "person0@mail.example",
        1,
    )
    with begin() as session:
        assert claim(session, OTHER, now + LEASE - MINUTE) is None
        assert not outbox.has_due(session, now + LEASE - MINUTE)
    with begin() as session:
        assert outbox.has_due(session, now + LEASE)
        second = claim(session, OTHER, now + LEASE)
    assert second is not None
    assert (second.letter.id, second.attempts) == (mail_id, 2)


def test_a_claim_is_undone_with_its_transaction(begin, posted, row, now):
    class Undone(Exception):
        pass

    (mail_id,) = posted()
    with pytest.raises(Undone), begin() as session:
        assert claim(session, ONE, now) is not None
        raise Undone
    assert row(mail_id).state == MailState.WAITING
    assert row(mail_id).attempts == 0


def test_the_longest_due_comes_first_and_what_a_dead_sender_left_before_it(begin, posted, now):
    ids = [posted(now=now + n * MINUTE)[0] for n in (2, 0, 1)]
    later = now + 5 * MINUTE
    with begin() as session:
        assert claim(session, ONE, later).letter.id == ids[1]
    with begin() as session:
        assert claim(session, ONE, later + LEASE).letter.id == ids[1]
        assert claim(session, ONE, later + LEASE).letter.id == ids[2]


def test_nothing_is_due_before_its_time(begin, posted, now):
    posted(now=now + MINUTE)
    with begin() as session:
        assert claim(session, ONE, now) is None


def test_a_kind_that_a_newer_program_posted_waits_for_one(begin, posted, now):
    (mail_id,) = posted()
    with begin() as session:
        session.execute(
            update(OutgoingMail).where(OutgoingMail.id == mail_id).values(kind="carrier-pigeon")
        )
    with begin() as session:
        assert not outbox.has_due(session, now)
        assert claim(session, ONE, now) is None
        assert queue(session).waiting == 1


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_locked_mail_is_passed_over_and_not_waited_for(begin, posted, now):
    """Two claims overlap in time. (SQLite has one writer: there they come one after the other.)"""
    posted(2)
    with begin() as first, begin() as second:
        one, other = claim(first, ONE, now), claim(second, OTHER, now)
        assert one is not None
        assert other is not None
        assert one.letter.id != other.letter.id


def test_many_claimers_at_once_take_each_mail_once(begin, posted, now):
    ids = posted(60)
    taken: list[str] = []

    def work(sender_id: str) -> None:
        misses = 0
        while misses < 3:
            with begin() as session:
                held = claim(session, sender_id, now)
            if held is None:
                misses += 1
            else:
                taken.append(held.letter.id)

    threads = [threading.Thread(target=work, args=(new_id(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


# Settling


@pytest.fixture
def held(begin, posted, now):
    posted()
    with begin() as session:
        found = claim(session, ONE, now)
    assert found is not None
    return found


def test_a_sent_mail_keeps_no_address(begin, held, row, now):
    with begin() as session:
        outbox.sent(session, held, now)
    found = row(held.letter.id)
    assert (found.state, found.address, found.sent_at) == (MailState.SENT, "", now)


def test_a_mail_given_up_keeps_no_address(begin, held, row, now):
    with begin() as session:
        outbox.fail(session, held, Problem.RECIPIENT_REFUSED, now)
    found = row(held.letter.id)
    assert (found.state, found.address, found.problem) == (
        MailState.FAILED,
        "",
        "recipient-refused",
    )


def test_a_released_mail_is_as_if_never_claimed(begin, held, row, now):
    with begin() as session:
        outbox.release(session, held, Problem.SENDER_REFUSED, now)
    found = row(held.letter.id)
    assert (found.state, found.attempts, found.next_at) == (MailState.WAITING, 0, now)
    assert found.problem == "sender-refused"


def test_a_dropped_mail_is_gone(begin, held):
    with begin() as session:
        outbox.drop(session, held)
    with begin() as session:
        assert queue(session) == outbox.Queue(0, 0, 0, 0, None, None)


@pytest.mark.parametrize(
    "write",
    [
        lambda s, held, now: outbox.sent(s, held, now),
        lambda s, held, now: outbox.fail(s, held, Problem.TIMED_OUT, now),
        lambda s, held, now: outbox.retry_later(s, held, Problem.TIMED_OUT, now),
        lambda s, held, now: outbox.release(s, held, Problem.TIMED_OUT, now),
        lambda s, held, now: outbox.drop(s, held),
    ],
    ids=["sent", "fail", "retry", "release", "drop"],
)
@pytest.mark.parametrize("by", [ONE, OTHER], ids=["the same sender", "another sender"])
def test_who_comes_back_after_the_lease_writes_nothing(begin, held, row, now, write, by):
    with begin() as session:
        again = claim(session, by, now + LEASE)
    assert again is not None
    with pytest.raises(LostClaim), begin() as session:
        write(session, held, now + LEASE)
    assert row(held.letter.id).claimed_by == by
    with begin() as session:
        outbox.sent(session, again, now + LEASE)
    with pytest.raises(LostClaim), begin() as session:
        write(session, again, now + LEASE)
    assert row(held.letter.id).state == MailState.SENT


def test_waits_grow_to_four_hours():
    waits = [wait_after(attempts) for attempts in range(1, 12)]
    assert waits[:4] == [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT == wait_after(10_000)


def put_off(begin, now, *, for_ever):
    """Claim and put off until nobody claims any more; return how long that took, and how often."""
    moment, times = now, 0
    while times < 2 * MOST_ATTEMPTS:
        with begin() as session:
            held = claim(session, ONE, moment)
            if held is None:
                break
            outbox.retry_later(session, held, Problem.RECIPIENT_DEFERRED, moment, for_ever=for_ever)
        times += 1
        moment += wait_after(times)
    return moment - now, times


def test_a_mail_that_is_put_off_again_and_again_is_given_up_after_three_days(
    begin, posted, row, now
):
    (mail_id,) = posted()
    took, times = put_off(begin, now, for_ever=False)
    assert times == MOST_ATTEMPTS
    assert 3 * DAY <= took <= 4 * DAY
    assert row(mail_id).state == MailState.FAILED
    assert row(mail_id).address == ""


def test_a_mail_of_which_nothing_is_known_is_not_given_up(begin, posted, row, now):
    (mail_id,) = posted()
    _took, times = put_off(begin, now, for_ever=True)
    assert times == 2 * MOST_ATTEMPTS
    assert row(mail_id).state == MailState.WAITING


# Keeping house


@pytest.mark.parametrize(
    ("age", "has_server", "problem"),
    [
        (timedelta(days=29), True, None),
        (timedelta(days=31), True, "too-old"),
        (timedelta(hours=23), False, None),
        (timedelta(hours=25), False, "no-server"),
    ],
)
def test_what_waited_too_long_is_given_up(begin, posted, row, now, age, has_server, problem):
    (mail_id,) = posted()
    with begin() as session:
        outbox.keep_house(session, now + age, has_server=has_server)
    found = row(mail_id)
    assert found.problem == problem
    assert (found.state == MailState.FAILED) == (found.address == "") == (problem is not None)


def test_what_was_settled_long_ago_is_deleted(begin, posted, now):
    posted(3)
    with begin() as session:
        outbox.sent(session, claim(session, ONE, now), now)
        outbox.fail(session, claim(session, ONE, now), Problem.RECIPIENT_REFUSED, now)
        outbox.release(session, claim(session, ONE, now), Problem.TIMED_OUT, now)
    with begin() as session:
        outbox.keep_house(session, now + timedelta(days=89), has_server=True)
        found = queue(session)
        assert (found.sent, found.failed) == (1, 2)
    with begin() as session:
        outbox.keep_house(session, now + timedelta(days=91), has_server=True)
        found = queue(session)
        # What was given up only at the first look is kept for its own ninety days.
        assert (found.sent, found.failed) == (0, 1)


# Looking


def test_the_queue_in_figures(begin, posted, now):
    posted(5)
    with begin() as session:
        outbox.sent(session, claim(session, ONE, now), now)
        outbox.fail(session, claim(session, ONE, now), Problem.RECIPIENT_REFUSED, now)
        assert queue(session).problem == "recipient-refused"
        outbox.retry_later(session, claim(session, ONE, now), Problem.CONTENT_DEFERRED, now)
        claim(session, ONE, now)
    with begin() as session:
        assert queue(session) == outbox.Queue(
            waiting=2, sending=1, sent=1, failed=1, oldest=now, problem="content-deferred"
        )


def test_why_nothing_is_sent_is_noted_with_the_next_mail(begin, posted, now):
    posted(2)
    with begin() as session:
        outbox.note_fault(session, Problem.CERTIFICATE_NOT_VALID, now)
    with begin() as session:
        found = queue(session)
        assert (found.waiting, found.problem) == (2, "certificate-not-valid")
        outbox.sent(session, claim(session, ONE, now), now)
        assert queue(session).problem is None


def test_a_fault_with_nothing_due_is_noted_nowhere(begin, now):
    with begin() as session:
        outbox.note_fault(session, Problem.TIMED_OUT, now)
        assert queue(session).problem is None
