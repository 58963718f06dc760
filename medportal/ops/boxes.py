"""New key pairs for the inbox and the outbox, as part of the answer to a theft of keys.

New pairs first, then every item is sealed anew to them; the old private halves stay beside them
for what was sealed meanwhile, by processes that had the old public half in hand, and go when the
operator says so (``keys rekey --finish``): a receiver on another machine seals to the old pair
until somebody has carried the new public half there, and only people know when that was done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.clock import Clock
from medportal.core.errors import ConfigurationError, MedportalError
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.parcel import inbox_info, outbox_info
from medportal.keys import BOXES, TenantKeys
from medportal.tenancy.registry import Database
from medportal.vault import boxes
from medportal.vault.errors import VaultError

ACTOR = "process:command-line"
BATCH = 200
#: Of each box: its table, whose items they are, and what an item is bound to.
_TABLES: dict[str, tuple[Any, Any, Callable[[str, str, str], bytes]]] = {
    "inbox": (Inbox, Inbox.sender, inbox_info),
    "outbox": (Outbox, Outbox.partner, outbox_info),
}


class StillSealed(MedportalError):
    """Something is sealed to a key that should go."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """What became of one box. ``shut`` counts items that no key opens: they stay as they are."""

    box: str
    items: int
    shut: int


def can_renew(keys: TenantKeys, box: str) -> bool:
    """Tell whether the passphrase of a box is on this machine."""
    try:
        keys.passphrase(BOXES[box])
    except ConfigurationError:
        return False
    return True


def renew_all(
    keys: TenantKeys, database: Database, say: Callable[[str, int], None], clock: Clock
) -> list[Renewed]:
    """Put new pairs in place wherever the passphrase is here, and seal what lies there to them.

    May be interrupted: everything opens, and the next run makes other pairs. Raises a
    ``VaultError``.
    """
    here = [box for box in BOXES if can_renew(keys, box)]
    done = []
    for box in here:
        boxes.renew(keys.places.vault, box, keys.passphrase(BOXES[box]))
        done.append(reseal(keys, database, box, lambda number, box=box: say(box, number)))  # type: ignore[misc]
    with database.writer() as session, session.begin():
        append(session, _event("renewed", {one.box: one.items for one in done}, clock))
    return done


def reseal(keys: TenantKeys, database: Database, box: str, say: Callable[[int], None]) -> Renewed:
    """Seal every item of a box to the pair of now; each batch is a transaction of its own."""
    done = shut = 0
    after = ("", "")
    while True:
        with database.writer() as session, session.begin():
            part = _older(session, keys, box, after)
            for who, tid, sealed in part:
                if _reseal_one(session, keys, box, who, tid, sealed):
                    done += 1
                else:
                    shut += 1
        say(done)
        if len(part) < BATCH:
            return Renewed(box, done, shut)
        after = (part[-1][0], part[-1][1])


def count_older(session: Session, keys: TenantKeys, box: str) -> int:
    """Count the items of a box that are not sealed to the pair of now."""
    return session.scalar(select(func.count()).where(_is_older(keys, box))) or 0


def finish(keys: TenantKeys, database: Database, clock: Clock) -> dict[str, int]:
    """Destroy the private halves that were used before; return how many of each box.

    Raises ``StillSealed``, before anything is destroyed, while an item needs one of them.
    """
    with database.reader() as session:
        left = {box: count_older(session, keys, box) for box in BOXES}
    needed = [f"{number} items of the {box}" for box, number in left.items() if number]
    if needed:
        raise StillSealed(
            f"{' and '.join(needed)} are sealed to an older key: run medportal keys rekey "
            "--boxes, which seals them anew, then --finish again. An item that does not open "
            "has to be refused by a person first"
        )
    gone = {box: boxes.destroy_retired(keys.places.vault, box) for box in BOXES}
    with database.writer() as session, session.begin():
        append(session, _event("finished", gone, clock))
    return gone


def _event(step: str, numbers: dict[str, int], clock: Clock) -> Event:
    return Event.create(
        Action.KEYS_ROTATED,
        now=clock(),
        actor=ACTOR,
        details={"deed": "boxes", "step": step, **numbers},
    )


def _older(
    session: Session, keys: TenantKeys, box: str, after: tuple[str, str]
) -> list[tuple[str, str, bytes]]:
    model, who, _info = _TABLES[box]
    later = (who > after[0]) | and_(who == after[0], model.tid > after[1])
    rows = session.execute(
        select(who, model.tid, model.sealed)
        .where(_is_older(keys, box), later)
        .order_by(who, model.tid)
        .limit(BATCH)
    )
    return [(name, tid, sealed) for name, tid, sealed in rows if sealed is not None]


def _is_older(keys: TenantKeys, box: str) -> ColumnElement[bool]:
    model = _TABLES[box][0]
    header = keys.sealer(box).header
    begins = func.substr(model.sealed, 1, boxes.HEADER_LENGTH)
    return and_(model.sealed.is_not(None), begins != header)


def _reseal_one(
    session: Session, keys: TenantKeys, box: str, who: str, tid: str, sealed: bytes
) -> bool:
    model, owner, info_of = _TABLES[box]
    info = info_of(keys.tenant.id, who, tid)
    opening = keys.open_incoming if box == "inbox" else keys.open_outgoing
    try:
        fresh = keys.sealer(box).seal(opening(sealed, info), info)
    except VaultError:
        return False
    # Filed, refused or recalled meanwhile: whoever did that has the last word.
    own = (owner == who, model.tid == tid, model.sealed == sealed)
    session.execute(update(model).where(*own).values(sealed=fresh))
    return True
