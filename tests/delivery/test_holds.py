"""Administrators hold what goes to a partner, and let it go."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.delivery import holds, outbox, waiting
from medportal.delivery.models import Outbox
from medportal.delivery.outbox import Outgoing
from medportal.delivery.states import DeliveryReason

ADMIN = "a" * 32


@pytest.fixture
def now():
    return utcnow()


def put(session, now, partner="hospital", **more):
    record = new_id()
    values = {"record_id": record, "chain": record, "version": 1, "patient_id": new_id(), **more}
    outgoing = Outgoing(
        partner=partner,
        pseudonym=b"p" * 32,
        key_id="k",
        digest=b"d" * 32,
        sealed=b"s",
        **values,
    )
    return outbox.enqueue(session, outgoing, now)


def claimed(session, now, partner="hospital"):
    return [each.tid for each in outbox.claim(session, "w", partner, now)]


def test_what_is_held_is_not_claimed_and_others_are(session, now):
    put(session, now)
    other = put(session, now, "clinic")
    assert holds.hold(session, "hospital", ADMIN, Reason.OTHER, now)
    assert claimed(session, now) == []
    assert claimed(session, now, "clinic") == [other]


def test_what_is_let_go_is_claimed_in_its_order(session, now):
    tids = [put(session, now + timedelta(seconds=place)) for place in range(3)]
    holds.hold(session, "hospital", ADMIN, Reason.OTHER, now)
    seen = holds.find_hold(session, "hospital")
    assert (seen.by, seen.reason, seen.since) == (ADMIN, Reason.OTHER, now)
    assert holds.let_go(session, seen)
    assert claimed(session, now + timedelta(minutes=1)) == tids


def test_a_second_hold_changes_nothing(session, now):
    assert holds.hold(session, "hospital", ADMIN, Reason.OTHER, now)
    later = now + timedelta(hours=1)
    assert not holds.hold(session, "hospital", "b" * 32, Reason.PARTNER_ASKED, later)
    assert holds.find_hold(session, "hospital").by == ADMIN


def test_a_hold_made_anew_is_another_one(session, now):
    holds.hold(session, "hospital", ADMIN, Reason.OTHER, now)
    stale = holds.find_hold(session, "hospital")
    assert holds.let_go(session, stale)
    holds.hold(session, "hospital", ADMIN, Reason.OTHER, now + timedelta(seconds=1))
    assert not holds.let_go(session, stale)
    assert set(holds.holds(session)) == {"hospital"}


def test_trying_again_begins_the_back_off_anew(session, now):
    tid = put(session, now)
    (claim,) = outbox.claim(session, "w", "hospital", now)
    outbox.retry(
        session, claim, DeliveryReason.UNREACHABLE, now, not_before=now + timedelta(hours=1)
    )
    assert claimed(session, now) == []
    assert waiting.hurry(session, "hospital", tid, now)
    (line,) = waiting.waiting(session, "hospital", now)
    assert (line.attempts, line.next_at, line.sending) == (0, now, False)
    assert claimed(session, now) == [tid]


def test_what_a_worker_holds_is_left_to_it(session, now):
    tid = put(session, now)
    assert claimed(session, now) == [tid]
    fence = session.scalar(select(Outbox.fence))
    assert not waiting.hurry(session, "hospital", tid, now)
    assert waiting.hurry_all(session, "hospital", now) == 0
    assert session.scalar(select(Outbox.fence)) == fence
    (line,) = waiting.waiting(session, "hospital", now)
    assert line.sending


def test_no_more_is_made_due_at_once_than_asked_for(session, now):
    for _each in range(5):
        put(session, now)
    for claim in outbox.claim(session, "w", "hospital", now):
        outbox.retry(session, claim, DeliveryReason.BUSY, now, not_before=now + timedelta(hours=1))
    assert waiting.hurry_all(session, "hospital", now, limit=3) == 3
    assert len(claimed(session, now)) == 3
    assert waiting.hurry_all(session, "clinic", now) == 0


def test_a_transfer_of_another_partner_is_not_found_under_this_one(session, now):
    tid = put(session, now, "clinic")
    assert waiting.place_of(session, "hospital", tid) is None
    assert not waiting.hurry(session, "hospital", tid, now)
