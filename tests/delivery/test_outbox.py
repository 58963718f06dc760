"""Claims, leases, fences, chains and what an attempt can come to, on both engines."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from medportal.delivery import outbox
from medportal.delivery.errors import LostLease, MalformedDelivery
from medportal.delivery.outbox import LEASE, Claim, Outgoing, ReceiptFacts
from medportal.delivery.schedule import BUSY, FAULTS, LONGEST_WISH, PERSON_AFTER, UNKNOWN
from medportal.delivery.states import DeliveryReason, DeliveryState, Outcome

Make = Callable[..., Outgoing]
Begin = sessionmaker[Session]


def put(begin: Begin, clock: Any, *items: Outgoing) -> None:
    with begin.begin() as session:
        for item in items:
            outbox.enqueue(session, item, clock.now)


def take(begin: Begin, clock: Any, worker: str = "w1", **more: Any) -> list[Claim]:
    with begin.begin() as session:
        return outbox.claim(session, worker, more.pop("partner", "hospital"), clock.now, **more)


def receipt(
    sequence: int = 1, outcome: Outcome = Outcome.REGISTERED, at: Any = None
) -> ReceiptFacts:
    return ReceiptFacts(outcome, sequence, at, b"signed receipt")


def settle(begin: Begin, clock: Any, claim: Claim, **more: Any) -> None:
    with begin.begin() as session:
        outbox.complete(session, claim, receipt(at=clock.now, **more), clock.now)


def view(begin: Begin, clock: Any, item: Outgoing) -> outbox.DeliveryView:
    with begin.begin() as session:
        views = outbox.state_of(session, item.record_id, clock.now)
    return next(one for one in views if one.tid == item.tid)


def test_a_delivery_is_waiting_then_sending_then_delivered(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = outgoing()
    put(begin, clock, item)
    before = view(begin, clock, item)
    assert (before.state, before.sending, before.reason) == ("waiting", False, "created")
    (claim,) = take(begin, clock)
    assert (claim.tid, claim.sealed, claim.digest) == (item.tid, item.sealed, item.digest)
    assert claim.pseudonym == item.pseudonym
    assert view(begin, clock, item).sending
    clock.forward(seconds=1)
    settle(begin, clock, claim, sequence=7)
    after = view(begin, clock, item)
    assert (after.state, after.sending, after.receipt_sequence) == ("delivered", False, 7)
    assert after.delivered_at == after.receipt_at == clock.now
    assert after.next_at is None
    assert not after.needs_person


def test_the_row_commits_or_rolls_back_with_its_record(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = outgoing()
    with pytest.raises(RuntimeError, match="the record failed"), begin.begin() as session:
        outbox.enqueue(session, item, clock.now)
        raise RuntimeError("the record failed")
    assert take(begin, clock) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"tid": "0"},
        {"record_id": "A" * 32, "chain": "a" * 32},
        {"chain": ""},
        {"patient_id": "../../etc/passwd"},
        {"digest": b"short"},
        {"pseudonym": b""},
        {"partner": ""},
        {"version": 0},
        {"sealed": b""},
    ],
)
def test_what_has_the_wrong_shape_is_refused(
    begin: Begin, clock: Any, outgoing: Make, wrong: dict[str, Any]
) -> None:
    with pytest.raises(MalformedDelivery):
        put(begin, clock, outgoing(**wrong))


def test_one_version_goes_to_one_partner_once(begin: Begin, clock: Any, outgoing: Make) -> None:
    item = outgoing()
    again = outgoing(record_id=item.record_id, chain=item.chain)
    with pytest.raises(IntegrityError):
        put(begin, clock, item, again)
    put(begin, clock, item, outgoing(record_id=item.record_id, partner="clinic"))
    assert len(take(begin, clock)) == len(take(begin, clock, partner="clinic")) == 1


def test_nothing_is_claimed_twice_while_its_lease_lasts(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    put(begin, clock, outgoing(), outgoing())
    first = take(begin, clock, limit=1)
    second = take(begin, clock, "w2")
    assert len(first) == len(second) == 1
    assert first[0].tid != second[0].tid
    clock.forward(seconds=LEASE.total_seconds() - 0.001)
    assert take(begin, clock, "w3") == []
    clock.forward(seconds=0.001)
    assert len(take(begin, clock, "w3")) == 2


def test_a_worker_that_comes_back_late_is_refused(begin: Begin, clock: Any, outgoing: Make) -> None:
    item = outgoing()
    put(begin, clock, item)
    (late,) = take(begin, clock, "w1")
    clock.forward(seconds=LEASE.total_seconds())
    (current,) = take(begin, clock, "w2")
    assert current.fence > late.fence
    for end in _ends(late, clock):
        with pytest.raises(LostLease), begin.begin() as session:
            end(session)
    settle(begin, clock, current, sequence=3)
    with pytest.raises(LostLease):
        settle(begin, clock, current, sequence=3)
    assert view(begin, clock, item).receipt_sequence == 3


def test_a_worker_is_late_against_its_own_later_claim_too(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    put(begin, clock, outgoing())
    (late,) = take(begin, clock, "w1")
    clock.forward(seconds=LEASE.total_seconds())
    (current,) = take(begin, clock, "w1")
    for end in _ends(late, clock):
        with pytest.raises(LostLease), begin.begin() as session:
            end(session)
    settle(begin, clock, current)


def _ends(claim: Claim, clock: Any) -> list[Callable[[Session], object]]:
    now, busy = clock.now, DeliveryReason.BUSY
    return [
        lambda session: outbox.complete(session, claim, receipt(at=now), now),
        lambda session: outbox.unknown(session, claim, now),
        lambda session: outbox.retry(session, claim, busy, now),
        lambda session: outbox.release(session, claim, now),
        lambda session: outbox.renew(session, [claim], now),
    ]


def test_a_lease_that_ran_out_unclaimed_still_takes_its_receipt(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = outgoing()
    put(begin, clock, item)
    (claim,) = take(begin, clock)
    clock.forward(hours=1)
    settle(begin, clock, claim)
    assert view(begin, clock, item).state is DeliveryState.DELIVERED


def test_a_slow_worker_keeps_its_lease_by_renewing(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    put(begin, clock, outgoing())
    claims = take(begin, clock)
    for _ in range(3):
        clock.forward(seconds=LEASE.total_seconds() - 1)
        with begin.begin() as session:
            outbox.renew(session, claims, clock.now)
    assert take(begin, clock, "w2") == []


def test_a_released_claim_is_due_at_once_and_counts_for_nothing(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = outgoing()
    put(begin, clock, item)
    (claim,) = take(begin, clock)
    with begin.begin() as session:
        outbox.release(session, claim, clock.now)
    assert view(begin, clock, item).attempts == 0
    (again,) = take(begin, clock, "w2")
    assert again.attempts == 1
    assert again.fence == claim.fence + 1


def test_corrections_wait_for_the_version_before_them_and_nothing_else_does(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    first = outgoing()
    chain = [outgoing(record_id=first.record_id, version=number) for number in (2, 3)]
    elsewhere = outgoing(record_id=first.record_id, version=2, partner="clinic")
    other = outgoing()
    put(begin, clock, first, *chain, elsewhere, other)
    claims = {claim.tid: claim for claim in take(begin, clock)}
    assert set(claims) == {first.tid, other.tid}
    assert [claim.tid for claim in take(begin, clock, partner="clinic")] == [elsewhere.tid]
    with begin.begin() as session:
        outbox.unknown(session, claims[first.tid], clock.now)
    settle(begin, clock, claims[other.tid])
    late = outgoing()
    put(begin, clock, late)
    assert [claim.tid for claim in take(begin, clock)] == [late.tid]
    clock.forward(minutes=1)
    for expected in (first, *chain):
        (claim,) = [one for one in take(begin, clock) if one.chain == first.chain]
        assert claim.tid == expected.tid
        settle(begin, clock, claim)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_receipt_lets_the_next_version_go(
    begin: Begin, clock: Any, outgoing: Make, outcome: Outcome
) -> None:
    first = outgoing()
    second = outgoing(record_id=first.record_id, version=2)
    put(begin, clock, first, second)
    (claim,) = take(begin, clock)
    settle(begin, clock, claim, outcome=outcome)
    assert [one.tid for one in take(begin, clock)] == [second.tid]


def test_faults_back_off_unknown_is_asked_on_a_schedule_and_each_starts_anew(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = outgoing()
    put(begin, clock, item)
    waits = []
    for kind in ("fault", "fault", "fault", "unknown", "unknown", "fault"):
        (claim,) = take(begin, clock)
        with begin.begin() as session:
            if kind == "fault":
                reason = DeliveryReason.UNREACHABLE
                at = outbox.retry(session, claim, reason, clock.now, random=lambda: 1.0)
            else:
                at = outbox.unknown(session, claim, clock.now, random=lambda: 1.0)
        assert take(begin, clock) == []
        waits.append(at - clock.now)
        clock.now = at
    base, asked = FAULTS.base, UNKNOWN.base
    assert waits == [base, base * 2, base * 4, asked, asked * 2, base]
    shown = view(begin, clock, item)
    assert (shown.state, shown.reason) == ("retrying", "unreachable")


def test_a_busy_partner_is_asked_when_it_said_within_reason(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    put(begin, clock, outgoing())
    for wish, expected in ((600, timedelta(seconds=600)), (10**9, LONGEST_WISH)):
        (claim,) = take(begin, clock)
        not_before = clock.now + timedelta(seconds=wish)
        with begin.begin() as session:
            at = outbox.retry(session, claim, DeliveryReason.BUSY, clock.now, not_before=not_before)
        assert at == clock.now + expected
        clock.now = at


def test_a_partner_that_was_long_busy_is_asked_within_a_minute(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    """Also after many failures of other kinds: whoever answers BUSY is there."""
    put(begin, clock, outgoing())
    kinds = [DeliveryReason.UNREACHABLE] * 12 + [DeliveryReason.BUSY]
    waits = []
    for reason in kinds:
        (claim,) = take(begin, clock)
        with begin.begin() as session:
            at = outbox.retry(session, claim, reason, clock.now, random=lambda: 1.0)
        waits.append(at - clock.now)
        clock.now = at
    assert waits[-2:] == [FAULTS.cap, BUSY.cap]


def test_the_summary_counts_what_is_open_only(begin: Begin, clock: Any, outgoing: Make) -> None:
    oldest = clock.now
    items = [outgoing() for _ in range(4)] + [outgoing(partner="clinic")]
    put(begin, clock, *items)
    claims = take(begin, clock, limit=2)
    settle(begin, clock, claims[0])
    with begin.begin() as session:
        at = outbox.unknown(session, claims[1], clock.now)
    with begin.begin() as session:
        lines = outbox.queue_summary(session)
    assert lines == [
        outbox.QueueLine("clinic", DeliveryState.WAITING, 1, oldest, oldest),
        outbox.QueueLine("hospital", DeliveryState.UNKNOWN_PATIENT, 1, oldest, at),
        outbox.QueueLine("hospital", DeliveryState.WAITING, 2, oldest, oldest),
    ]


def test_trouble_is_paged_by_key(begin: Begin, clock: Any, outgoing: Make) -> None:
    put(begin, clock, *(outgoing() for _ in range(7)))
    for claim in take(begin, clock):
        settle(begin, clock, claim, outcome=Outcome.REJECTED)
        clock.forward(seconds=1) if claim.tid < "8" else None
    seen: list[str] = []
    after = None
    while True:
        with begin.begin() as session:
            page = outbox.troubled(session, DeliveryState.REJECTED, clock.now, after, limit=3)
        if not page:
            break
        assert all(one.needs_person for one in page)
        seen += [one.tid for one in page]
        after = (page[-1].settled_at, page[-1].tid)
    assert len(seen) == len(set(seen)) == 7


def test_what_stays_open_for_long_is_shown_to_a_person(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = outgoing()
    put(begin, clock, item)
    assert not view(begin, clock, item).needs_person
    clock.forward(seconds=PERSON_AFTER.total_seconds())
    assert view(begin, clock, item).needs_person


def test_views_list_partners_and_newest_versions_first(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    first = outgoing()
    record = first.record_id
    put(begin, clock, first, outgoing(record_id=record, version=2))
    put(begin, clock, outgoing(record_id=record, partner="clinic"))
    with begin.begin() as session:
        views = outbox.state_of(session, record, clock.now)
    assert [(one.partner, one.version) for one in views] == [
        ("clinic", 1),
        ("hospital", 2),
        ("hospital", 1),
    ]
    assert {one.patient_id for one in views} >= {first.patient_id}


def test_no_content_and_no_pseudonym_is_in_a_repr_of_what_is_logged(outgoing: Make) -> None:
    assert "sealed to the outbox" not in repr(outgoing())
    assert "signed receipt" not in repr(receipt())
