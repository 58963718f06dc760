"""What has not arrived at partners, for administrators: no patient, no record, no content.

Every question here is answered by the indexes of open rows, or of a state's settled ones: what
has been delivered over the years costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from medportal.delivery.models import Inbox, Outbox, PartnerMark, ReceiptCounter
from medportal.delivery.states import DeliveryReason, DeliveryState

PAGE = 25
#: At most so many are made due by one request.
HURRIED = 10_000


@dataclass(frozen=True, slots=True)
class Queue:
    """Transfers to one partner that are in one state for one reason.

    ``next_at`` is when the first of them is due; a state that rests has none.
    """

    partner: str
    state: DeliveryState
    reason: DeliveryReason
    count: int
    oldest: datetime
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer that has not arrived. ``sending`` says that a sender holds it right now."""

    tid: str
    state: DeliveryState
    reason: DeliveryReason
    attempts: int
    created_at: datetime
    next_at: datetime | None
    settled_at: datetime | None
    sending: bool


def queues(session: Session, partners: Sequence[str]) -> list[Queue]:
    """Count what waits for partners, by partner, state and reason."""
    grouped = (Outbox.partner, Outbox.state, Outbox.reason)
    rows = session.execute(
        select(*grouped, func.count(), func.min(Outbox.created_at), func.min(Outbox.next_at))
        .where(Outbox.partner.in_(partners), Outbox.settled_at.is_(None))
        .group_by(*grouped)
        .order_by(*grouped)
    )
    return [
        Queue(partner, DeliveryState(state), DeliveryReason(reason), count, oldest, next_at)
        for partner, state, reason, count, oldest, next_at in rows
    ]


def resting(session: Session, partners: Sequence[str]) -> list[Queue]:
    """Count what is not sent because of patients' rules, and what partners refused."""
    states = [DeliveryState.WITHHELD.value, DeliveryState.REJECTED.value]
    grouped = (Outbox.partner, Outbox.state, Outbox.reason)
    rows = session.execute(
        select(*grouped, func.count(), func.min(Outbox.created_at))
        # Of every partner: named here, one would be looked up among all that it was ever sent.
        .where(Outbox.state.in_(states))
        .group_by(*grouped)
        .order_by(*grouped)
    )
    return [
        Queue(partner, DeliveryState(state), DeliveryReason(reason), count, oldest, None)
        for partner, state, reason, count, oldest in rows
        if partner in partners
    ]


def waiting(
    session: Session,
    partner: str,
    now: datetime,
    after: tuple[datetime, str] | None = None,
    limit: int = PAGE,
) -> list[Transfer]:
    """Return what waits for a partner, the soonest due first, from behind ``after``.

    ``after`` is (next_at, tid) of the last one seen.
    """
    return _transfers(
        session,
        now,
        limit,
        (Outbox.partner == partner, Outbox.settled_at.is_(None)),
        Outbox.next_at,
        after,
    )


def refused(
    session: Session,
    partner: str,
    now: datetime,
    after: tuple[datetime, str] | None = None,
    limit: int = PAGE,
) -> list[Transfer]:
    """Return what a partner refused, the longest ago first, from behind ``after``.

    ``after`` is (settled_at, tid) of the last one seen.
    """
    conditions = (Outbox.state == DeliveryState.REJECTED.value, Outbox.partner == partner)
    return _transfers(session, now, limit, conditions, Outbox.settled_at, after)


def _transfers(
    session: Session,
    now: datetime,
    limit: int,
    conditions: tuple[ColumnElement[bool], ...],
    order: InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None],
    after: tuple[datetime, str] | None,
) -> list[Transfer]:
    if after is not None:
        at, tid = after
        conditions = (*conditions, or_(order > at, and_(order == at, Outbox.tid > tid)))
    rows = session.execute(
        select(
            Outbox.tid,
            Outbox.state,
            Outbox.reason,
            Outbox.attempts,
            Outbox.created_at,
            Outbox.next_at,
            Outbox.settled_at,
            Outbox.lease_until,
        )
        .where(*conditions)
        .order_by(order, Outbox.tid)
        .limit(limit)
    )
    return [
        Transfer(
            row.tid,
            DeliveryState(row.state),
            DeliveryReason(row.reason),
            row.attempts,
            row.created_at,
            row.next_at if row.settled_at is None else None,
            row.settled_at,
            row.lease_until is not None and row.lease_until > now,
        )
        for row in rows
    ]


def place_of(session: Session, partner: str, tid: str) -> tuple[datetime, str] | None:
    """Return where a transfer to a partner stands among those that wait, or waited."""
    query = select(Outbox.next_at).where(Outbox.tid == tid, Outbox.partner == partner)
    next_at = session.scalar(query)
    return (next_at, tid) if next_at is not None else None


def hurry(session: Session, partner: str, tid: str, now: datetime) -> bool:
    """Make one transfer due now; return False if it waits no more, or is being sent.

    Its back-off begins anew: somebody has reason to believe that it works now.
    """
    return _make_due(session, partner, now, Outbox.tid == tid) == 1


def hurry_all(session: Session, partner: str, now: datetime, limit: int = HURRIED) -> int:
    """Make due now what waits for a partner, at most ``limit`` of it; return how many."""
    soonest = (
        select(Outbox.tid)
        .where(
            Outbox.partner == partner,
            Outbox.settled_at.is_(None),
            Outbox.next_at > now,
            Outbox.lease_owner.is_(None),
        )
        .order_by(Outbox.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Outbox)
    )
    return _make_due(session, partner, now, Outbox.tid.in_(session.scalars(soonest).all()))


def _make_due(session: Session, partner: str, now: datetime, which: ColumnElement[bool]) -> int:
    rows = session.execute(
        update(Outbox)
        .where(
            Outbox.partner == partner,
            which,
            Outbox.settled_at.is_(None),
            or_(Outbox.lease_owner.is_(None), Outbox.lease_until <= now),
        )
        .values(next_at=now, attempts=0)
        .returning(Outbox.tid)
        .execution_options(synchronize_session=False)
    )
    return len(rows.all())


def last_sent(session: Session, partners: Sequence[str]) -> dict[str, datetime]:
    """Return when the newest receipt of partners was given, by their clocks.

    One look into the index of receipts for each partner, however much was sent.
    """
    newest = (
        select(Outbox.receipt_at)
        .where(Outbox.partner == PartnerMark.partner, Outbox.receipt_sequence.is_not(None))
        .order_by(Outbox.receipt_sequence.desc())
        .limit(1)
        .correlate(PartnerMark)
        .scalar_subquery()
    )
    rows = session.execute(
        select(PartnerMark.partner, newest).where(PartnerMark.partner.in_(partners))
    )
    return {partner: at for partner, at in rows if at is not None}


def last_received(session: Session, partners: Sequence[str]) -> dict[str, datetime]:
    """Return when partners were last given a receipt for something that came from them."""
    rows = session.execute(
        select(Inbox.sender, Inbox.received_at)
        .join(
            ReceiptCounter,
            and_(ReceiptCounter.sender == Inbox.sender, ReceiptCounter.last == Inbox.sequence),
        )
        .where(ReceiptCounter.sender.in_(partners))
    )
    return {row[0]: row[1] for row in rows}


def last_spoken(session: Session, partners: Sequence[str]) -> dict[str, datetime]:
    """Return when partners last answered a connection of ours."""
    rows = session.execute(
        select(PartnerMark.partner, PartnerMark.stated_at).where(PartnerMark.partner.in_(partners))
    )
    return {row[0]: row[1] for row in rows}
