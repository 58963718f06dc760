"""Endings written in groups: who still holds a claim, and who does not, on both engines."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from medportal.delivery import claims, outbox, settling
from medportal.delivery.claims import Claim
from medportal.delivery.models import Outbox, PartnerMark
from medportal.delivery.outbox import Outgoing
from medportal.delivery.settling import ReceiptFacts
from medportal.delivery.states import DeliveryReason, Outcome

Make = Callable[..., Outgoing]
Begin = sessionmaker[Session]
EPOCH = "e" * 32


@pytest.fixture
def held(begin: Begin, clock: Any, outgoing: Make) -> list[Claim]:
    """Five claims of one worker, in the order in which they were queued."""
    with begin.begin() as session:
        session.add(PartnerMark(partner="hospital", epoch=EPOCH, sequence=0, stated_at=clock.now))
        for _ in range(5):
            outbox.enqueue(session, outgoing(), clock.now)
    with begin.begin() as session:
        return claims.claim(session, "w1", "hospital", clock.now)


def rows(begin: Begin) -> dict[str, Outbox]:
    with begin(expire_on_commit=False) as session:
        return {row.tid: row for row in session.query(Outbox)}


def facts(clock: Any, sequence: int) -> ReceiptFacts:
    return ReceiptFacts(Outcome.REGISTERED, sequence, clock.now, b"signed %d" % sequence)


def test_every_kind_of_ending_is_written_in_one_group(begin, clock, held):
    one, two, three, four, _five = held
    now = clock.forward(seconds=1)
    endings = [
        settling.completed(one, facts(clock, 1), now),
        settling.unheard(two, now, lambda: 0.0),
        settling.retried(three, DeliveryReason.BUSY, now, random=lambda: 0.0),
        settling.released(four, now),
    ]
    with begin.begin() as session:
        assert settling.settle(session, endings, now) == endings
    found = rows(begin)
    states = [(found[each.tid].state, found[each.tid].reason) for each in held]
    assert states == [
        ("delivered", "registered"),
        ("unknown-patient", "patient-unknown"),
        ("retrying", "busy"),
        ("waiting", "created"),
        ("waiting", "created"),
    ]
    assert [found[each.tid].lease_owner for each in held] == [None, None, None, None, "w1"]
    assert found[one.tid].settled_at == now
    assert (found[one.tid].receipt, found[one.tid].receipt_epoch) == (b"signed 1", EPOCH)
    assert found[two.tid].next_at == endings[1].next_at > now
    assert (found[four.tid].attempts, found[four.tid].next_at) == (0, now)


def test_what_another_holds_now_is_left_to_it_and_the_rest_is_written(begin, clock, held):
    now = clock.forward(seconds=60)
    with begin.begin() as session:
        taken = claims.claim(session, "w2", "hospital", now, 2, timedelta(seconds=30))
    endings = [settling.completed(each, facts(clock, at), now) for at, each in enumerate(held, 1)]
    with begin.begin() as session:
        written = settling.settle(session, endings, now)
    lost = {each.tid for each in taken}
    assert [each.claim.tid for each in written] == [t.tid for t in held if t.tid not in lost]
    found = rows(begin)
    assert {tid for tid, row in found.items() if row.settled_at is None} == lost
    assert {found[tid].lease_owner for tid in lost} == {"w2"}
    assert all(found[tid].receipt is None for tid in lost)


def test_a_claim_of_the_same_worker_from_before_is_not_its_claim_of_now(begin, clock, held):
    now = clock.forward(seconds=60)
    with begin.begin() as session:
        again = claims.claim(session, "w1", "hospital", now)
    with begin.begin() as session:
        before = [settling.completed(each, facts(clock, 1), now) for each in held]
        assert settling.settle(session, before, now) == []
        assert settling.renew_held(session, held, now) == []
        assert settling.renew_held(session, again, now) == again


def test_what_is_settled_is_not_settled_again(begin, clock, held):
    ending = settling.completed(held[0], facts(clock, 7), clock.now)
    other = settling.completed(held[0], facts(clock, 8), clock.now)
    with begin.begin() as session:
        assert settling.settle(session, [ending], clock.now) == [ending]
        assert settling.settle(session, [other], clock.now) == []
    assert rows(begin)[held[0].tid].receipt_sequence == 7


def test_no_endings_are_no_work(begin, clock):
    with begin.begin() as session:
        assert settling.settle(session, [], clock.now) == []
        assert settling.renew_held(session, [], clock.now) == []
