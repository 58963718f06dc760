"""Receipt marks, epochs and heads: a restored partner gets again what it lost."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from medportal.delivery import outbox, receipts
from medportal.delivery.errors import HeadWentBack, LostLease, MalformedDelivery
from medportal.delivery.models import RecalledReceipt
from medportal.delivery.outbox import Claim, Outgoing, ReceiptFacts
from medportal.delivery.receipts import HeldHead, ReceiptMark
from medportal.delivery.states import DeliveryState, Outcome

Make = Callable[..., Outgoing]
Begin = sessionmaker[Session]
EPOCH, LATER = "1" * 32, "2" * 32


def state_mark(begin: Begin, clock: Any, epoch: str, sequence: int, **more: Any) -> int:
    with begin.begin() as session:
        return receipts.requeue_above(session, "hospital", epoch, sequence, clock.now, **more)


def deliver(
    begin: Begin,
    clock: Any,
    *items: Outgoing,
    start: int = 1,
    outcome: Outcome = Outcome.REGISTERED,
) -> None:
    for sequence, item in enumerate(items, start):
        with begin.begin() as session:
            outbox.enqueue(session, item, clock.now)
        (claim,) = take(begin, clock)
        assert claim.tid == item.tid
        settle(begin, clock, claim, sequence, outcome)


def take(begin: Begin, clock: Any) -> list[Claim]:
    with begin.begin() as session:
        return outbox.claim(session, "w1", "hospital", clock.now)


def settle(
    begin: Begin, clock: Any, claim: Claim, sequence: int, outcome: Outcome = Outcome.REGISTERED
) -> None:
    facts = ReceiptFacts(outcome, sequence, clock.now, f"receipt {sequence}".encode())
    with begin.begin() as session:
        outbox.complete(session, claim, facts, clock.now)


def chain_of(outgoing: Make, length: int) -> list[Outgoing]:
    first = outgoing()
    later = [outgoing(record_id=first.record_id, version=n) for n in range(2, length + 1)]
    return [first, *later]


def test_an_epoch_is_named_once_and_anew_after_a_restore(begin: Begin, clock: Any) -> None:
    with begin.begin() as session:
        first = receipts.storage_epoch(session, clock.now)
    with begin.begin() as session:
        assert receipts.storage_epoch(session, clock.now) == first
        assert receipts.mark(session, "laboratory", clock.now) == ReceiptMark(first, 0)
        renewed = receipts.renew_epoch(session, clock.now)
    with begin.begin() as session:
        assert receipts.storage_epoch(session, clock.now) == renewed != first


@pytest.mark.parametrize(("epoch", "sequence"), [("", 1), ("X" * 32, 1), (EPOCH, -1)])
def test_a_malformed_mark_is_refused(begin: Begin, clock: Any, epoch: str, sequence: int) -> None:
    with pytest.raises(MalformedDelivery):
        state_mark(begin, clock, epoch, sequence)


def test_a_mark_that_covers_everything_recalls_nothing(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    assert state_mark(begin, clock, EPOCH, 0) == 0
    deliver(begin, clock, *chain_of(outgoing, 3))
    assert state_mark(begin, clock, EPOCH, 3) == 0
    assert state_mark(begin, clock, LATER, 3) == 0
    with begin.begin() as session:
        assert receipts.held_mark(session, "hospital") == ReceiptMark(LATER, 3)
        assert receipts.held_mark(session, "clinic") is None


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("epoch", [EPOCH, LATER])
def test_what_a_restored_partner_lost_is_sent_again_in_order(
    begin: Begin, clock: Any, outgoing: Make, epoch: str, outcome: Outcome
) -> None:
    state_mark(begin, clock, EPOCH, 0)
    items = chain_of(outgoing, 5)
    deliver(begin, clock, *items, outcome=outcome)
    clock.forward(hours=1)
    assert state_mark(begin, clock, epoch, 2) == 3
    with begin.begin() as session:
        views = outbox.state_of(session, items[0].record_id, clock.now)
        kept = session.scalars(select(RecalledReceipt).order_by(RecalledReceipt.sequence)).all()
        assert [(one.tid, one.receipt) for one in kept] == [
            (item.tid, f"receipt {sequence}".encode()) for sequence, item in enumerate(items[2:], 3)
        ]
    assert [one.version for one in views if one.state is DeliveryState.WAITING] == [5, 4, 3]
    assert {one.reason for one in views[:3]} == {"receiver-restored"}
    assert {one.receipt_sequence for one in views[:3]} == {None}
    for sequence, item in enumerate(items[2:], 3):
        (claim,) = take(begin, clock)
        assert claim.tid == item.tid
        settle(begin, clock, claim, sequence)
    assert state_mark(begin, clock, epoch, 5) == 0


def test_the_same_mark_stated_twice_recalls_once(begin: Begin, clock: Any, outgoing: Make) -> None:
    state_mark(begin, clock, EPOCH, 0)
    deliver(begin, clock, outgoing(), outgoing())
    assert state_mark(begin, clock, EPOCH, 1) == 1
    assert state_mark(begin, clock, EPOCH, 1) == 0


def test_other_partners_receipts_are_left_alone(begin: Begin, clock: Any, outgoing: Make) -> None:
    deliver(begin, clock, outgoing(), outgoing())
    with begin.begin() as session:
        assert receipts.requeue_above(session, "clinic", EPOCH, 0, clock.now) == 0


def test_receipts_newer_than_our_hello_stay_unless_the_epoch_is_another(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    state_mark(begin, clock, EPOCH, 0)
    deliver(begin, clock, outgoing())
    hello = clock.now
    clock.forward(seconds=1)
    deliver(begin, clock, outgoing(), start=2)
    assert state_mark(begin, clock, EPOCH, 1, as_of=hello) == 0
    assert state_mark(begin, clock, EPOCH, 0, as_of=hello) == 1
    assert state_mark(begin, clock, LATER, 1, as_of=hello) == 1


def test_a_receipt_under_way_during_a_restore_is_not_believed(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    state_mark(begin, clock, EPOCH, 0)
    with begin.begin() as session:
        outbox.enqueue(session, outgoing(), clock.now)
    (claim,) = take(begin, clock)
    assert state_mark(begin, clock, EPOCH, 0) == 0
    assert state_mark(begin, clock, LATER, 0) == 0
    with pytest.raises(LostLease):
        settle(begin, clock, claim, 1)
    (again,) = take(begin, clock)
    settle(begin, clock, again, 1)


def test_changed_wakes_the_unknown_of_that_partner_and_nothing_else(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    items = [outgoing(), outgoing(), outgoing()]
    with begin.begin() as session:
        for item in items:
            outbox.enqueue(session, item, clock.now)
    unknown, faulty, _sending = take(begin, clock)
    with begin.begin() as session:
        outbox.unknown(session, unknown, clock.now)
        outbox.retry(session, faulty, outbox.DeliveryReason.NO_ANSWER, clock.now)
    with begin.begin() as session:
        assert receipts.wake_unknown(session, "clinic", clock.now) == 0
        assert receipts.wake_unknown(session, "hospital", clock.now) == 1
        assert receipts.wake_unknown(session, "hospital", clock.now) == 0
    (claim,) = take(begin, clock)
    assert claim.tid == unknown.tid
    with begin.begin() as session:
        assert receipts.wake_unknown(session, "hospital", clock.now) == 0


def test_heads_only_grow(begin: Begin, clock: Any) -> None:
    heads = [HeldHead(size, bytes([size]) * 32, b"signed") for size in (3, 5, 9)]
    since = None
    for head in heads:
        with begin.begin() as session:
            assert receipts.held_head(session, "hospital") == since
            assert receipts.hold_head(session, "hospital", head, since, clock.now)
        since = head
    for contradiction in (heads[0], HeldHead(9, bytes(32), b"signed")):
        with pytest.raises(HeadWentBack), begin.begin() as session:
            receipts.hold_head(session, "hospital", contradiction, since, clock.now)
    with begin.begin() as session:
        assert receipts.hold_head(session, "hospital", heads[2], since, clock.now)
        assert receipts.held_head(session, "hospital") == heads[2]


def test_a_head_proven_against_an_older_one_does_not_replace_a_newer_one(
    begin: Begin, clock: Any
) -> None:
    first, mine, theirs = (HeldHead(n, bytes([n]) * 32, b"signed") for n in (3, 5, 7))
    with begin.begin() as session:
        assert receipts.hold_head(session, "hospital", first, None, clock.now)
        assert receipts.hold_head(session, "hospital", theirs, first, clock.now)
        assert not receipts.hold_head(session, "hospital", mine, first, clock.now)
        assert not receipts.hold_head(session, "hospital", mine, None, clock.now)
        assert receipts.held_head(session, "hospital") == theirs
