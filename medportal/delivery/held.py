"""What came in and waits for a person: read without a lock, paged by key.

Deciding about it is in :mod:`medportal.delivery.inbox` (``approve``, ``decline``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Row, Select, select, tuple_, update
from sqlalchemy.orm import Session

from medportal.delivery.inbox import Awaiting
from medportal.delivery.models import Inbox
from medportal.delivery.states import DeliveryReason, reason_of

PAGE = 25


@dataclass(frozen=True, slots=True)
class HeldItem:
    """One result that was held back, without its content.

    ``patient_id`` is for whom it was accepted, if for anybody; ``told`` opens with the vault.
    ``declined_at`` is when somebody decided that it is nobody's here, which can be undone still.
    """

    sender: str
    tid: str
    patient_id: str | None
    reason: DeliveryReason
    received_at: datetime
    told: bytes | None = field(repr=False)
    declined_at: datetime | None


def held_items(
    session: Session,
    *,
    after: tuple[datetime, str, str] | None = None,
    limit: int = PAGE,
    awaiting: Awaiting = Awaiting.PERSON,
) -> list[HeldItem]:
    """Return what waits for a person, the longest waiting first, from behind ``after``.

    With ``Awaiting.UNDOING``, what was declined instead.
    """
    query = _waiting(awaiting).order_by(Inbox.received_at, Inbox.sender, Inbox.tid).limit(limit)
    if after is not None:
        query = query.where(tuple_(Inbox.received_at, Inbox.sender, Inbox.tid) > tuple_(*after))
    return [_item(row) for row in session.execute(query)]


def find_held(session: Session, sender: str, tid: str) -> HeldItem | None:
    """Return what waits for a person, or was declined, under a sender's transfer id."""
    query = _waiting(Awaiting.PERSON, Awaiting.UNDOING).where(
        Inbox.sender == sender, Inbox.tid == tid
    )
    row = session.execute(query).one_or_none()
    return _item(row) if row is not None else None


def place_of(session: Session, sender: str, tid: str) -> tuple[datetime, str, str] | None:
    """Return where a transfer stands among others, whether it still waits for a person or not."""
    query = select(Inbox.received_at).where(Inbox.sender == sender, Inbox.tid == tid)
    received_at = session.scalar(query)
    return (received_at, sender, tid) if received_at is not None else None


def was_held(session: Session, sender: str, tid: str) -> bool:
    """Tell whether there is such a transfer about which nobody can decide (any more)."""
    known = place_of(session, sender, tid) is not None
    return known and find_held(session, sender, tid) is None


def untold(session: Session, limit: int) -> Sequence[tuple[str, str, bytes]]:
    """Return (sender, transfer id, sealed) of what waits and says nothing of whom it is about."""
    rows = session.execute(
        select(Inbox.sender, Inbox.tid, Inbox.sealed)
        .where(
            Inbox.awaiting == Awaiting.PERSON.value,
            Inbox.told.is_(None),
            Inbox.sealed.is_not(None),
        )
        .order_by(Inbox.received_at, Inbox.sender, Inbox.tid)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Inbox)
    )
    return [(row.sender, row.tid, row.sealed or b"") for row in rows]


def has_untold(session: Session) -> bool:
    """Tell whether :func:`untold` would return anything."""
    query = select(Inbox.tid).where(
        Inbox.awaiting == Awaiting.PERSON.value, Inbox.told.is_(None), Inbox.sealed.is_not(None)
    )
    return session.scalar(query.limit(1)) is not None


def set_told(session: Session, sender: str, tid: str, told: bytes) -> None:
    """Keep what a person is to be told of an item that waits for one."""
    session.execute(
        update(Inbox)
        .where(Inbox.sender == sender, Inbox.tid == tid, Inbox.awaiting == Awaiting.PERSON.value)
        .values(told=told)
        .execution_options(synchronize_session=False)
    )


def _waiting(
    *awaiting: Awaiting,
) -> Select[str, str, str | None, str, datetime, bytes | None, datetime | None]:
    return select(
        Inbox.sender,
        Inbox.tid,
        Inbox.patient_id,
        Inbox.reason,
        Inbox.received_at,
        Inbox.told,
        Inbox.filed_at,
    ).where(Inbox.awaiting.in_([each.value for each in awaiting]))


def _item(
    row: Row[str, str, str | None, str, datetime, bytes | None, datetime | None],
) -> HeldItem:
    sender, tid, patient_id, reason, received_at, told, declined_at = row
    return HeldItem(sender, tid, patient_id, reason_of(reason), received_at, told, declined_at)
