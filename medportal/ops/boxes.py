"""New key pairs for the inbox and the outbox, as part of the answer to a theft of keys.

New pairs first, then every item is sealed anew to them; the old private halves stay beside them
for what was sealed meanwhile, by processes that had the old public half in hand, and go when the
operator says so (``keys rekey --finish``): a receiver on another machine seals to the old pair
until somebody has carried the new public half there.

A run makes one new pair a box, also if it is interrupted and goes on: the run is noted beside the
pair. Which keys were destroyed stands in the database too, so that a process that was forgotten
puts nothing more into a box that would never open (:mod:`medportal.delivery.boxkeys`).

Nothing is done without a trace: the audit log hears of each deed before it is done, and after.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.core.clock import Clock
from medportal.core.errors import ConfigurationError, MedportalError
from medportal.delivery import boxkeys
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.parcel import inbox_info, outbox_info
from medportal.keys import BOXES, TenantKeys
from medportal.pki.errors import PkiError
from medportal.tenancy.registry import Database
from medportal.vault import boxes
from medportal.vault.errors import Tampered, VaultError

BATCH = 200
#: How often what is sealed to an older key meanwhile is sealed anew before a finish is refused.
PASSES = 3
#: Of each box: its table, whose items they are, and what an item is bound to.
_TABLES: dict[str, tuple[Any, Any, Callable[[str, str, str], bytes]]] = {
    "inbox": (Inbox, Inbox.sender, inbox_info),
    "outbox": (Outbox, Outbox.partner, outbox_info),
}


class StillSealed(MedportalError):
    """Something is sealed to a key that should go."""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One transfer in a box: which box, of or for which partner, and its id."""

    box: str
    partner: str
    tid: str

    def __str__(self) -> str:
        """Return it as an operator is told."""
        return f"{self.box} {self.partner}/{self.tid}"


@dataclass(frozen=True, slots=True)
class Renewed:
    """What became of one box.

    ``is_new``: it has another pair than before. ``items`` counts what was sealed anew, ``shut``
    names what no key opens, which stays as it is. ``problem`` says why the box is not renewed, or
    not to the end; ``fingerprint`` is that of the public half of now, if it can be read.
    """

    box: str
    is_new: bool = False
    items: int = 0
    shut: tuple[Item, ...] = ()
    problem: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """How many private halves of each box were destroyed, and what was given up with them."""

    destroyed: dict[str, int]
    given_up: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class _Work:
    """The keys of one institution that hold no more than the group of one box, and its rows."""

    keys: TenantKeys
    database: Database
    box: str
    clock: Clock

    @property
    def directory(self) -> Path:
        return self.keys.places.vault

    @property
    def passphrase(self) -> bytes:
        return self.keys.passphrase(BOXES[self.box])

    def note(self, step: str, **details: str | int) -> None:
        """Tell the audit log, in a transaction of its own."""
        with self.database.writer() as session, session.begin():
            append(session, _event(self.clock, step, box=self.box, **details))


def _work(keys: TenantKeys, database: Database, box: str, clock: Clock) -> _Work:
    # Alone: what is wrong with the passphrase file of one box is no fault of the other's.
    return _Work(keys.only(BOXES[box]), database, box, clock)


# Renewing


def renew_all(
    keys: TenantKeys,
    database: Database,
    say: Callable[[str, int], None],
    clock: Clock,
    run: str = "",
    *,
    is_fresh: bool = False,
) -> list[Renewed]:
    """Put a new pair in the place of each box, and seal what lies there to it.

    With ``run``, a box whose pair was made in that run keeps it; without, one that was renewed and
    not finished; unless ``is_fresh``. May be interrupted: everything opens, and the next run goes
    on. What is wrong with one box is told with it and stops neither the other nor the caller.
    """
    done = []
    for box in BOXES:
        work = _work(keys, database, box, clock)
        found = _renew(work, run, lambda number, box=box: say(box, number), is_fresh=is_fresh)  # type: ignore[misc]
        done.append(replace(found, fingerprint=fingerprint_of(keys, box)))
    return done


def fingerprint_of(keys: TenantKeys, box: str) -> str:
    """Return the fingerprint of a public half, empty if it cannot be read."""
    try:
        return boxes.fingerprint(boxes.load_public(keys.places.vault, box))
    except VaultError:
        return ""


def _renew(work: _Work, run: str, say: Callable[[int], None], *, is_fresh: bool) -> Renewed:
    is_new, directory = False, work.directory
    try:
        passphrase = work.passphrase
        kept = boxes.was_renewed(directory, work.box, passphrase, run)
        if is_fresh or not kept or _is_destroyed(work):
            boxes.renew(
                directory,
                work.box,
                passphrase,
                run=run,
                begin=lambda older, new: _begin(work, older, new),
            )
            is_new = True
        made = reseal(work, say)
    except (ConfigurationError, PkiError, VaultError, OSError) as error:
        problem = _in_words(error)
        if not is_new:
            problem += _let_be_due(work)
        return Renewed(work.box, is_new, problem=problem)
    work.note("renewed" if is_new else "sealed-anew", items=made.items, shut=len(made.shut))
    return replace(made, is_new=is_new)


def _let_be_due(work: _Work) -> str:
    """Let the next run renew a box that this one could not, also if an earlier one had.

    Otherwise ``--boxes`` would take the pair of an earlier run, not finished, for that of this
    one. Returns what to add to the words for the operator where that cannot be noted.
    """
    try:
        boxes.forget_run(work.directory, work.box)
    except OSError as error:
        return f" ({_in_words(error)}: use --fresh then)"
    return ""


def _is_destroyed(work: _Work) -> bool:
    """Tell whether the pair of now was destroyed: it came back with an old backup."""
    current = boxes.key_of(work.keys.sealer(work.box).header)
    with work.database.reader() as session:
        return current in boxkeys.destroyed(session, work.box)


def _begin(work: _Work, older: list[str], new: str) -> None:
    now = work.clock()
    with work.database.writer() as session, session.begin():
        boxkeys.note(session, work.box, [*older, new], now)
        append(session, _event(work.clock, "begun", box=work.box, key=new))


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def reseal(work: _Work, say: Callable[[int], None]) -> Renewed:
    """Seal every item of a box to the pair of now; each batch is a transaction of its own.

    Raises ``ConfigurationError`` or a ``VaultError`` where key files are at fault.
    """
    done, after = 0, ("", "")
    shut: list[Item] = []
    while True:
        with work.database.writer() as session, session.begin():
            part = _older(session, work, after)
            for who, tid, sealed in part:
                if _reseal_one(session, work, who, tid, sealed):
                    done += 1
                else:
                    shut.append(Item(work.box, who, tid))
        say(done)
        if len(part) < BATCH:
            return Renewed(work.box, items=done, shut=tuple(shut))
        after = (part[-1][0], part[-1][1])


def _older(session: Session, work: _Work, after: tuple[str, str]) -> list[tuple[str, str, bytes]]:
    model, who, _info = _TABLES[work.box]
    later = (who > after[0]) | and_(who == after[0], model.tid > after[1])
    rows = session.execute(
        select(who, model.tid, model.sealed)
        .where(_is_older(work), later)
        .order_by(who, model.tid)
        .limit(BATCH)
    )
    return [(name, tid, sealed) for name, tid, sealed in rows]


def _is_older(work: _Work) -> ColumnElement[bool]:
    """Select what is sealed to another key than that of now; what was given up is empty."""
    model = _TABLES[work.box][0]
    header = work.keys.sealer(work.box).header
    begins = func.substr(model.sealed, 1, boxes.HEADER_LENGTH)
    return and_(model.sealed.is_not(None), func.length(model.sealed) > 0, begins != header)


def _reseal_one(session: Session, work: _Work, who: str, tid: str, sealed: bytes) -> bool:
    model, owner, info_of = _TABLES[work.box]
    info = info_of(work.keys.tenant.id, who, tid)
    opening = work.keys.open_incoming if work.box == "inbox" else work.keys.open_outgoing
    try:
        plain = opening(sealed, info)
    except Tampered:
        return False
    fresh = boxkeys.seal(session, work.keys, work.box, plain, info)
    # Filed, refused or recalled meanwhile: whoever did that has the last word.
    own = (owner == who, model.tid == tid, model.sealed == sealed)
    session.execute(update(model).where(*own).values(sealed=fresh))
    return True


# Destroying


def finish(
    keys: TenantKeys,
    database: Database,
    say: Callable[[str, int], None],
    clock: Clock,
    *,
    give_up_shut: bool = False,
) -> Finished:
    """Seal anew what is left, then destroy the private halves that were used before: all or none.

    Of every box that has such halves here. Raises ``StillSealed``, before anything is destroyed,
    while an item needs one of them; with ``give_up_shut`` not for those that no key opens, which
    are emptied. Raises ``ConfigurationError`` or a ``VaultError`` where the files of one of these
    boxes are not in order. Killed on the way it is run again: the database says that they are
    destroyed before the files go.
    """
    works = [
        _work(keys, database, box, clock) for box in BOXES if boxes.retired(keys.places.vault, box)
    ]
    doomed = {
        work.box: boxes.ready_to_destroy(work.directory, work.box, work.passphrase)
        for work in works
    }
    gone = {box: len(doomed.get(box, ())) for box in BOXES}
    if not works:
        return Finished(gone)
    given_up = _let_go(works, database, say, clock, give_up_shut=give_up_shut)
    for paths in doomed.values():
        boxes.destroy(paths)
    with database.writer() as session, session.begin():
        append(session, _event(clock, "finished", **gone))
    return Finished(gone, given_up)


def _let_go(
    works: list[_Work],
    database: Database,
    say: Callable[[str, int], None],
    clock: Clock,
    *,
    give_up_shut: bool,
) -> tuple[Item, ...]:
    """Say in the database that the older keys are destroyed, once nothing needs them."""
    left: set[Item] = set()
    for _ in range(PASSES):
        shut: set[Item] = set()
        for work in works:
            shut |= set(reseal(work, lambda number, box=work.box: say(box, number)).shut)  # type: ignore[misc]
        with database.writer() as session, session.begin():
            boxkeys.hold_all(session)
            left = {item for work in works for item in _left(session, work)}
            if left <= shut:
                if left and not give_up_shut:
                    raise _shut(left)
                _give_up(session, left, clock)
                for work in works:
                    _condemn(session, work)
                return tuple(sorted(left))
    raise StillSealed(
        f"{len(left)} items were sealed to an older key while this ran: a receiver or a portal on "
        "another machine has not got the new inbox.pub or outbox.pub yet. Carry it there, and run "
        "this again"
    )


def _left(session: Session, work: _Work) -> list[Item]:
    model, who, _info = _TABLES[work.box]
    rows = session.execute(select(who, model.tid).where(_is_older(work)))
    return [Item(work.box, name, tid) for name, tid in rows]


def _shut(left: Collection[Item]) -> StillSealed:
    shown = ", ".join(str(item) for item in sorted(left)[:10])
    more = f" and {len(left) - 10} more" if len(left) > 10 else ""
    return StillSealed(
        f"{len(left)} items do not open with any key that is here: {shown}{more}. Nothing was "
        "destroyed. Bring back the key file that they need, or, if they are damaged, lose them for "
        "ever: medportal keys rekey --finish --give-up-shut"
    )


def _give_up(session: Session, items: Collection[Item], clock: Clock) -> None:
    """Empty what nothing opens, and say of each that it was given up."""
    for item in sorted(items):
        model, owner, _info = _TABLES[item.box]
        own = (owner == item.partner, model.tid == item.tid)
        session.execute(update(model).where(*own).values(sealed=b""))
        append(
            session,
            Event.create(
                Action.KEYS_ROTATED,
                now=clock(),
                actor=COMMAND_LINE,
                object=item.tid,
                details={
                    "deed": "boxes",
                    "step": "given-up",
                    "box": item.box,
                    "partner": item.partner,
                },
            ),
        )


def _condemn(session: Session, work: _Work) -> None:
    older = boxes.kept_ids(work.directory, work.box)
    current = boxes.key_of(work.keys.sealer(work.box).header)
    boxkeys.note_destroyed(session, work.box, older, current, work.clock())
    append(session, _event(work.clock, "destroying", box=work.box, keys=len(older), kept=current))


def _event(clock: Clock, step: str, **details: str | int) -> Event:
    return Event.create(
        Action.KEYS_ROTATED,
        now=clock(),
        actor=COMMAND_LINE,
        details={"deed": "boxes", "step": step, **details},
    )
