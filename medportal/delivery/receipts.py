"""Receipt marks: how both sides notice that the receiver was restored from a backup.

The receiver states ``(storage epoch, last receipt sequence for this sender)`` in every
handshake. Whatever the sender holds a receipt for above that sequence, the receiver has lost;
the sender asks about it again. The epoch is the random name of the receiver's database life:
a restore renews it, so that a receipt which was under way during the restore is not believed.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, insert, literal, select, update
from sqlalchemy.orm import Session

from medportal.core.ids import is_id, new_id
from medportal.db.dialect import insert_or
from medportal.delivery.errors import HeadWentBack, MalformedDelivery
from medportal.delivery.models import (
    Outbox,
    PartnerHead,
    PartnerHeadPast,
    PartnerMark,
    RecalledReceipt,
    ReceiptCounter,
    StorageEpoch,
)
from medportal.delivery.states import DeliveryReason, DeliveryState

_ONLY = 1


@dataclass(frozen=True, slots=True)
class ReceiptMark:
    """What a receiver states: its storage epoch and its last sequence for one sender."""

    epoch: str
    sequence: int


@dataclass(frozen=True, slots=True)
class HeldHead:
    """The newest verified log head held of a partner; ``body`` is its signed form."""

    size: int
    root: bytes
    body: bytes


# The receiver's side


def storage_epoch(session: Session, now: datetime) -> str:
    """Return this database's epoch, named on first use."""
    session.execute(
        insert_or(session, StorageEpoch)
        .values(only=_ONLY, epoch=new_id(), since=now)
        .on_conflict_do_nothing()
    )
    return session.scalars(select(StorageEpoch.epoch)).one()


def renew_epoch(session: Session, now: datetime) -> str:
    """Name a new epoch; whoever restores this database from a backup must call it."""
    storage_epoch(session, now)
    epoch = new_id()
    session.execute(
        update(StorageEpoch)
        .values(epoch=epoch, since=now)
        .execution_options(synchronize_session=False)
    )
    return epoch


def mark(session: Session, sender: str, now: datetime) -> ReceiptMark:
    """Return the receipt mark to state to ``sender``."""
    last = session.scalar(select(ReceiptCounter.last).where(ReceiptCounter.sender == sender))
    return ReceiptMark(storage_epoch(session, now), last or 0)


# The sender's side


def held_mark(session: Session, partner: str) -> ReceiptMark | None:
    """Return the mark that ``partner`` stated last, if any."""
    row = session.execute(
        select(PartnerMark.epoch, PartnerMark.sequence).where(PartnerMark.partner == partner)
    ).one_or_none()
    return ReceiptMark(*row) if row else None


def requeue_above(
    session: Session,
    partner: str,
    epoch: str,
    sequence: int,
    now: datetime,
    *,
    as_of: datetime | None = None,
) -> int:
    """Take note of a partner's mark; make due again what its receipts no longer cover.

    ``as_of`` is when our HELLO left: within the same epoch, receipts taken after it are newer
    than the mark and stay. Under a new epoch every lease on this partner's rows is recalled
    too, because a receipt still under way may come from the life before.

    Returns how many deliveries were recalled. Raises ``MalformedDelivery`` for a mark that
    cannot be one.
    """
    if not is_id(epoch) or sequence < 0:
        raise MalformedDelivery("a receipt mark has the wrong shape")
    before = _take_mark(session, partner, ReceiptMark(epoch, sequence), now)
    if before.epoch != epoch:
        _recall_leases(session, partner, now)
    return _recall(session, _lost(partner, epoch, sequence, as_of), now)


def _take_mark(session: Session, partner: str, stated: ReceiptMark, now: datetime) -> ReceiptMark:
    values = {"epoch": stated.epoch, "sequence": stated.sequence, "stated_at": now}
    session.execute(
        insert_or(session, PartnerMark).values(partner=partner, **values).on_conflict_do_nothing()
    )
    # Claims hold this row shared: from here on to the commit no row of the partner is claimed.
    before = session.execute(
        select(PartnerMark.epoch, PartnerMark.sequence)
        .where(PartnerMark.partner == partner)
        .with_for_update()
    ).one()
    session.execute(
        update(PartnerMark)
        .where(PartnerMark.partner == partner)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return ReceiptMark(*before)


def _recall_leases(session: Session, partner: str, now: datetime) -> None:
    session.execute(
        update(Outbox)
        .where(
            Outbox.partner == partner,
            Outbox.settled_at.is_(None),
            Outbox.lease_owner.is_not(None),
        )
        .values(fence=Outbox.fence + 1, lease_owner=None, lease_until=None, next_at=now)
        .execution_options(synchronize_session=False)
    )


def _lost(
    partner: str, epoch: str, sequence: int, as_of: datetime | None
) -> tuple[ColumnElement[bool], ...]:
    above = (Outbox.partner == partner, Outbox.receipt_sequence > sequence)
    if as_of is None:
        return above
    another_life = Outbox.receipt_epoch.is_distinct_from(epoch)
    return (*above, another_life | (Outbox.settled_at <= as_of))


def _recall(session: Session, lost: tuple[ColumnElement[bool], ...], now: datetime) -> int:
    session.execute(
        insert(RecalledReceipt).from_select(
            ["tid", "fence", "partner", "sequence", "receipt", "recalled_at"],
            select(
                Outbox.tid,
                Outbox.fence,
                Outbox.partner,
                Outbox.receipt_sequence,
                Outbox.receipt,
                literal(now, RecalledReceipt.recalled_at.type),
            ).where(*lost),
        )
    )
    recalled = session.execute(
        update(Outbox)
        .where(*lost)
        .values(
            state=DeliveryState.WAITING.value,
            reason=DeliveryReason.RECEIVER_RESTORED.value,
            attempts=0,
            next_at=now,
            settled_at=None,
            receipt=None,
            receipt_sequence=None,
            receipt_at=None,
            receipt_epoch=None,
            lease_owner=None,
            lease_until=None,
            fence=Outbox.fence + 1,
        )
        .returning(Outbox.tid)
        .execution_options(synchronize_session=False)
    )
    return len(recalled.all())


def wake_unknown(session: Session, partner: str, now: datetime) -> int:
    """Make "no such patient" deliveries due after the partner's CHANGED; return how many.

    Rows that a worker holds are left to it.
    """
    woken = session.execute(
        update(Outbox)
        .where(
            Outbox.partner == partner,
            Outbox.settled_at.is_(None),
            Outbox.next_at > now,
            Outbox.state == DeliveryState.UNKNOWN_PATIENT.value,
            Outbox.lease_owner.is_(None),
        )
        .values(next_at=now)
        .returning(Outbox.tid)
        .execution_options(synchronize_session=False)
    )
    return len(woken.all())


# Heads of partners' logs


def held_head(session: Session, partner: str) -> HeldHead | None:
    """Return the newest head held of a partner's log, if any."""
    row = session.execute(
        select(PartnerHead.size, PartnerHead.root, PartnerHead.body).where(
            PartnerHead.partner == partner
        )
    ).one_or_none()
    return HeldHead(*row) if row else None


def hold_head(
    session: Session, partner: str, head: HeldHead, since: HeldHead | None, now: datetime
) -> bool:
    """Keep a head whose signatures, and whose consistency with ``since``, the caller verified.

    ``since`` is the head held when the proof was asked for. Returns False, and keeps what is
    there, if another worker stored one meanwhile: the next handshake then proves consistency
    with that one. Raises ``HeadWentBack`` for a smaller log, or another root of the same size.
    """
    if since is not None and _contradicts(head, since):
        raise HeadWentBack("a partner's log head contradicts the one held")
    values = {"size": head.size, "root": head.root, "body": head.body, "held_at": now}
    _keep_past(session, partner, since, now)
    if since is None:
        write = insert_or(session, PartnerHead).values(partner=partner, **values)
        write = write.on_conflict_do_nothing()
    else:
        write = update(PartnerHead).where(
            PartnerHead.partner == partner,
            PartnerHead.size == since.size,
            PartnerHead.root == since.root,
        )
        write = write.values(**values).execution_options(synchronize_session=False)
    return session.scalar(write.returning(PartnerHead.partner)) is not None


def _keep_past(session: Session, partner: str, since: HeldHead | None, now: datetime) -> None:
    """Keep the head that is about to be replaced, unless one was kept today."""
    if since is None:
        return
    replaced = select(
        PartnerHead.partner,
        literal(now.date(), PartnerHeadPast.day.type),
        PartnerHead.size,
        PartnerHead.root,
        PartnerHead.body,
    ).where(
        PartnerHead.partner == partner,
        PartnerHead.size == since.size,
        PartnerHead.root == since.root,
    )
    session.execute(
        insert_or(session, PartnerHeadPast)
        .from_select(["partner", "day", "size", "root", "body"], replaced)
        .on_conflict_do_nothing()
    )


def fall_back(session: Session, partner: str, kept: HeldHead, now: datetime) -> HeldHead | None:
    """Hold what a partner's log was within the part that its restore kept; return it.

    That is the newest head held of it from then or, where none is that old, ``kept``, what the
    partner itself says: its next head has to continue it. Only where nothing was kept there
    is nothing to continue, and the next head is taken as the first.
    """
    past = PartnerHeadPast
    session.execute(
        update(past)
        .where(past.partner == partner, past.size > kept.size, past.lost_at.is_(None))
        .values(lost_at=now)
        .execution_options(synchronize_session=False)
    )
    row = session.execute(
        select(past.size, past.root, past.body)
        .where(past.partner == partner, past.lost_at.is_(None))
        .order_by(past.size.desc())
        .limit(1)
    ).one_or_none()
    if row is None and not kept.size:
        session.execute(delete(PartnerHead).where(PartnerHead.partner == partner))
        return None
    held = HeldHead(*row) if row else kept
    session.execute(
        update(PartnerHead)
        .where(PartnerHead.partner == partner)
        .values(size=held.size, root=held.root, body=held.body, held_at=now)
        .execution_options(synchronize_session=False)
    )
    return held


def _contradicts(head: HeldHead, since: HeldHead) -> bool:
    return head.size < since.size or (head.size == since.size and head.root != since.root)
