"""Which keys of inbox and outbox are kept, and which were destroyed, as the database knows them.

Files alone cannot tell: a receiver on another machine, or a request under way, may seal to a
public half whose private half is destroyed a moment later, and a partner would hold our receipt
for what never opens. So whoever puts something into a box looks here, in the transaction that puts
it there, after :func:`hold`; and whoever destroys a key counts what is sealed to it after
:func:`hold_all`, in the transaction that says here that it is destroyed. One waits for the other.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import cast

from sqlalchemy import Table, bindparam, select, text, update
from sqlalchemy.orm import Session

from medportal.core.errors import ConfigurationError
from medportal.db.dialect import insert_or
from medportal.db.prepared import Prepared
from medportal.delivery.models import BoxKey
from medportal.keys import TenantKeys
from medportal.vault.boxes import key_of
from medportal.vault.errors import KeyNotHere

_HOLD = {
    "inbox": Prepared(text("LOCK TABLE inbox IN ROW EXCLUSIVE MODE")),
    "outbox": Prepared(text("LOCK TABLE outbox IN ROW EXCLUSIVE MODE")),
}
_HOLD_ALL = text("LOCK TABLE outbox, inbox IN SHARE ROW EXCLUSIVE MODE")
_KEYS = cast(Table, BoxKey.__table__).c
_DESTROYED = Prepared(
    select(_KEYS.key_id).where(_KEYS.box == bindparam("box"), _KEYS.destroyed_at.is_not(None))
)


def hold(session: Session, box: str) -> None:
    """Keep keys from being destroyed until the caller's transaction ends; waits if one is now.

    It is the lock that an INSERT takes, only before the look at the keys. SQLite has one writer
    at a time.
    """
    if session.get_bind().dialect.name == "postgresql":
        _HOLD[box].run(session, {})


def hold_all(session: Session) -> None:
    """Wait until nobody is putting anything into a box, and keep everybody from it."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_HOLD_ALL)


def destroyed(session: Session, box: str) -> frozenset[str]:
    """Return the ids of the keys of a box that were destroyed."""
    return frozenset(key_id for (key_id,) in _DESTROYED.rows(session, {"box": box}))


def is_kept(session: Session, box: str, key_id: str) -> bool:
    """Tell whether there is such a key that was not destroyed, on whichever machine."""
    query = select(BoxKey.key_id).where(
        BoxKey.box == box, BoxKey.key_id == key_id, BoxKey.destroyed_at.is_(None)
    )
    return session.scalar(query) is not None


def note(session: Session, box: str, key_ids: Iterable[str], now: datetime) -> None:
    """Make keys known; those that are known already stay as they are."""
    for key_id in key_ids:
        row = {"box": box, "key_id": key_id, "since": now}
        session.execute(insert_or(session, BoxKey).values(**row).on_conflict_do_nothing())


def note_destroyed(
    session: Session, box: str, key_ids: Iterable[str], current: str, now: datetime
) -> None:
    """Say that keys are destroyed, and every other that is known beside the current one."""
    note(session, box, [current, *key_ids], now)
    session.execute(
        update(BoxKey)
        .where(BoxKey.box == box, BoxKey.key_id != current, BoxKey.destroyed_at.is_(None))
        .values(destroyed_at=now)
        .execution_options(synchronize_session=False)
    )


def seal(session: Session, keys: TenantKeys, box: str, plain: bytes, info: bytes) -> bytes:
    """Seal to a box, in the transaction in which that is put there.

    Raises ``ConfigurationError`` if the public half on this machine is that of a destroyed key,
    or what sealing raises.
    """
    hold(session, box)
    sealed = keys.sealer(box).seal(plain, info)
    if key_of(sealed) in destroyed(session, box):
        raise ConfigurationError(
            f"{keys.places.vault}/{box}.pub is that of a key which was destroyed: carry the "
            f"{box}.pub here that belongs to the {box}.key of now"
        )
    return sealed


def open_incoming(session: Session, keys: TenantKeys, sealed: bytes, info: bytes) -> bytes:
    """Open an item of the inbox.

    Raises ``Tampered`` for what no key of this institution opens, and ``ConfigurationError`` where
    the key files of this machine are at fault, also for a key that is kept on another.
    """
    try:
        return keys.open_incoming(sealed, info)
    except KeyNotHere as error:
        if is_kept(session, "inbox", error.key_id):
            raise ConfigurationError(
                f"the inbox key {error.key_id} is not in {keys.places.vault}: copy the inbox key "
                "files here from the machine on which medportal keys rekey ran"
            ) from error
        raise
