"""Evidence that a partner's log does not continue: two things that it signed, side by side.

One row a head held: the first head that contradicts it is kept with what came along, later
ones are counted. The caller has checked both signatures; what is not signed proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medportal.core import canonical
from medportal.db.dialect import insert_or
from medportal.delivery.models import PartnerHead, PartnerHeadConflict
from medportal.delivery.receipts import HeldHead

#: Kinds: the new head is of a shorter log, of another one, or there is none any more.
SHORTER, OTHER, NONE = "shorter", "other", "none"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A conflict as it is shown to people."""

    partner: str
    kind: str
    held_size: int
    held_root: bytes
    shown_size: int
    first_at: datetime
    last_at: datetime
    times: int
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Holding:
    """A partner's head as it is shown to people."""

    partner: str
    size: int
    root: bytes
    held_at: datetime


def note_conflict(
    session: Session,
    partner: str,
    held: HeldHead,
    shown: HeldHead | None,
    proof: Sequence[bytes],
    now: datetime,
) -> bool:
    """Keep the evidence; return whether it is new. ``shown`` is ``None`` if nothing was shown."""
    values = {
        "partner": partner,
        "held_root": held.root,
        "held_size": held.size,
        "held": held.body,
        "kind": _kind(held, shown),
        "shown_size": shown.size if shown else 0,
        "shown": shown.body if shown else b"",
        "proof": canonical.encode(list(proof)),
        "first_at": now,
        "last_at": now,
        "times": 0,
        "settled_at": None,
    }
    insert = insert_or(session, PartnerHeadConflict).values(**values)
    made = session.scalar(insert.on_conflict_do_nothing().returning(PartnerHeadConflict.partner))
    session.execute(
        update(PartnerHeadConflict)
        .where(PartnerHeadConflict.partner == partner, PartnerHeadConflict.held_root == held.root)
        .values(times=PartnerHeadConflict.times + 1, last_at=now)
        .execution_options(synchronize_session=False)
    )
    return made is not None


def _kind(held: HeldHead, shown: HeldHead | None) -> str:
    if shown is None:
        return NONE
    return SHORTER if shown.size < held.size else OTHER


def settle(session: Session, partner: str, now: datetime) -> None:
    """Note that people have looked into what is open with a partner."""
    session.execute(
        update(PartnerHeadConflict)
        .where(PartnerHeadConflict.partner == partner, PartnerHeadConflict.settled_at.is_(None))
        .values(settled_at=now)
        .execution_options(synchronize_session=False)
    )


def conflicts(session: Session) -> list[Conflict]:
    """Return every conflict, open ones first, then the newest."""
    row = PartnerHeadConflict
    found = session.execute(
        select(
            row.partner,
            row.kind,
            row.held_size,
            row.held_root,
            row.shown_size,
            row.first_at,
            row.last_at,
            row.times,
            row.settled_at,
        ).order_by(row.settled_at.is_not(None), row.last_at.desc(), row.partner)
    )
    return [Conflict(*each) for each in found]


def holdings(session: Session) -> list[Holding]:
    """Return the newest head held of each partner."""
    found = session.execute(
        select(
            PartnerHead.partner, PartnerHead.size, PartnerHead.root, PartnerHead.held_at
        ).order_by(PartnerHead.partner)
    )
    return [Holding(*each) for each in found]
