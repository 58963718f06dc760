"""Document stores of an institution: look at one, check it, sweep it, move to the other.

All of it runs while the portal serves: the index is read in short transactions, batch by
batch by document id, and what was done is never needed to go on: a command that was
interrupted is run again and finds it done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.clock import utcnow
from medportal.core.errors import ConfigurationError
from medportal.records.pins import Pin, count_pins, named, pins
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant
from medportal.vault import mongo
from medportal.vault.documents import BATCH, DocumentKeeper, Kept
from medportal.vault.stores import KINDS, MONGODB, SQL, documents_of, keeper_of, uses_mongodb

#: A document is written before the row that names it: younger ones may be waiting for theirs.
GRACE = timedelta(days=1)
#: How long a document that no row names is kept set aside before it is removed.
KEEP = timedelta(days=30)
#: Documents of one step of a copy: together a few megabytes.
COPY_BATCH = 200
#: How many documents that are wrong are named, however many there are.
WRONG_NAMED = 20
#: A copy looks again for what was filed meanwhile; more rounds mean that it cannot keep up.
MOST_ROUNDS = 20

#: Told how many of how many documents were looked at.
Progress = Callable[[int, int], None]


class Finding(StrEnum):
    """What can be wrong with a document that the index names."""

    MISSING = "missing"
    OTHER_BYTES = "other-bytes"


@dataclass(slots=True)
class Checked:
    """What a look at every document found; ``erased`` are those of erased patients.

    ``wrong`` names the first :data:`WRONG_NAMED` of those that are not as they were filed.
    """

    looked_at: int = 0
    fits: int = 0
    erased: int = 0
    wrong_ones: int = 0
    wrong: list[tuple[str, Finding]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Tell whether every document that should be there is, as it was filed."""
        return not self.wrong_ones

    def note(self, pin: Pin, sealed: bytes | None) -> None:
        """Count one document."""
        self.looked_at += 1
        if pin.fits(sealed):
            self.fits += 1
        elif pin.is_erased:
            self.erased += 1
        else:
            self.wrong_ones += 1
            what = Finding.MISSING if sealed is None else Finding.OTHER_BYTES
            if len(self.wrong) < WRONG_NAMED:
                self.wrong.append((pin.document_id, what))


@dataclass(slots=True)
class Copied:
    """What a copy did, and what the destination then holds."""

    copied: int = 0
    mended: int = 0
    removed: int = 0
    result: Checked = field(default_factory=Checked)

    @property
    def changed(self) -> bool:
        """Tell whether any document was written or removed."""
        return bool(self.copied or self.mended or self.removed)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did."""

    looked_at: int
    set_aside: int
    taken_back: int
    removed: int

    def plus(self, more: "Swept") -> "Swept":
        """Return what both did together."""
        return Swept(
            self.looked_at + more.looked_at,
            self.set_aside + more.set_aside,
            self.taken_back + more.taken_back,
            self.removed + more.removed,
        )

    @property
    def changed(self) -> bool:
        """Tell whether any document was set aside, taken back or removed."""
        return bool(self.set_aside or self.taken_back or self.removed)


class Stores:
    """The document stores of one institution."""

    def __init__(self, tenant: Tenant, database: Database) -> None:
        """Bind to the institution and its database."""
        self._tenant = tenant
        self._database = database

    def status(self) -> list[dict[str, object]]:
        """Return a row for each store that the tenant's file names."""
        with self._database.reader() as session:
            pinned = count_pins(session)
        return [self._row(kind, pinned) for kind in KINDS if self._is_known(kind)]

    def check(self, progress: Progress) -> Checked:
        """Read every document that the index names, as pages do, and compare its hash."""
        checked = Checked()
        for part in self._pinned(checked, progress):
            with self._database.reader() as session:
                documents = documents_of(self._tenant, session)
                found = documents.get_many(pin.document_id for pin in part)
            for pin in part:
                checked.note(pin, found.get(pin.document_id))
        return checked

    def copy(
        self, source: str, destination: str, progress: Progress, actor: str, *, clear: bool = False
    ) -> Copied:
        """Bring every document that the index names into the other store.

        Rounds are made until one finds nothing left to do: what that one saw is the result.
        Other bytes than the index pins are replaced by those that it pins, and never copied.
        With ``clear`` the source is emptied then, if all is whole. The audit log hears of it
        however it ends: Ctrl-C and a store that fails leave what they changed.
        Raises ``ConfigurationError`` to clear a store that pages still look into.
        """
        done, is_finished = Copied(), False
        try:
            self._copy(source, destination, done, progress)
            if clear and done.result.is_whole:
                self._clear(source, done, progress)
            is_finished = True
        finally:
            if is_finished or done.changed:
                self._note_copy(source, destination, done, actor, is_finished=is_finished)
        return done

    def _copy(self, source: str, destination: str, done: Copied, progress: Progress) -> None:
        if destination == MONGODB:
            mongo.migrate(self._tenant.id, self._tenant.documents)
        for _round in range(MOST_ROUNDS):
            before = done.copied + done.mended
            done.result = self._round(source, destination, done, progress)
            if done.copied + done.mended == before:
                break

    def _clear(self, kind: str, done: Copied, progress: Progress) -> None:
        """Remove from a store that is not in use what the one in use holds as it was filed."""
        named_ones = self._tenant.documents
        if kind in {named_ones.store, named_ones.fallback}:
            raise ConfigurationError(
                f"{self._tenant.id}.toml: documents: {kind} is still in use: set documents.store "
                "to the other one, take documents.fallback out, restart, then move"
            )
        checked = Checked()
        for part in self._pinned(checked, progress):
            held = self._read(named_ones.store, part)
            safe = [p.document_id for p in part if p.is_erased or p.fits(held.get(p.document_id))]
            checked.looked_at += len(part)
            with self._keeper(kind) as keeper:
                removed = keeper.remove(safe)
            done.removed += removed

    def sweep(self, kind: str, now: datetime, actor: str) -> Swept:
        """Set aside what no row names, take back what one names again, remove what waited.

        Only documents older than :data:`GRACE` are looked at; what is set aside can be read as
        before, for :data:`KEEP`.
        """
        swept, after = self.sweep_part(kind, "", now, actor)
        while after is not None:
            more, after = self.sweep_part(kind, after, now, actor)
            swept = swept.plus(more)
        return swept

    def sweep_part(
        self, kind: str, after: str, now: datetime, actor: str
    ) -> tuple[Swept, str | None]:
        """Sweep one batch, of the documents behind an id; ``None`` where it was the last.

        The audit log hears of each batch that changed something, so that a sweep which ends
        early is told of up to there.
        """
        with self._keeper(kind) as keeper:
            part = keeper.listing(after)
            deeds = self._deeds(part, now)
            keeper.set_aside(deeds.set_aside, now)
            keeper.take_back(deeds.take_back)
            removed = keeper.remove(deeds.remove)
        swept = Swept(len(part), len(deeds.set_aside), len(deeds.take_back), removed)
        if swept.changed:
            self._note_sweep(kind, swept, actor, now)
        return swept, part[-1].id if len(part) >= BATCH else None

    def _note_sweep(self, kind: str, swept: Swept, actor: str, now: datetime) -> None:
        counts = {
            "set_aside": swept.set_aside,
            "taken_back": swept.taken_back,
            "removed": swept.removed,
        }
        self._note(Action.DOCUMENTS_SWEPT, {"store": kind, **counts}, actor, now)

    def _note_copy(
        self, source: str, to: str, done: Copied, actor: str, *, is_finished: bool
    ) -> None:
        said: dict[str, str | int] = {
            "from": source,
            "to": to,
            "copied": done.copied,
            "mended": done.mended,
            "removed": done.removed,
            "wrong": done.result.wrong_ones,
        }
        if not is_finished:
            said["ended"] = "early"
        # Documents may have been copied for hours: the moment is that of the end.
        self._note(Action.DOCUMENTS_COPIED, said, actor, utcnow())

    def _note(self, action: Action, said: dict[str, str | int], actor: str, now: datetime) -> None:
        with self._database.writer() as session, session.begin():
            append(session, Event.create(action, now=now, actor=actor, details=said))

    def _deeds(self, part: list[Kept], now: datetime) -> "_Deeds":
        # Asked after the listing: a row that was committed meanwhile is seen.
        with self._database.reader() as session:
            wanted = named(session, (kept.id for kept in part))
        nobodys = [k for k in part if k.id not in wanted and k.created_at < now - GRACE]
        return _Deeds(
            [k.id for k in nobodys if k.set_aside_at is None],
            [k.id for k in part if k.id in wanted and k.set_aside_at is not None],
            [k.id for k in nobodys if k.set_aside_at is not None and k.set_aside_at < now - KEEP],
        )

    def _round(self, source: str, destination: str, done: Copied, progress: Progress) -> Checked:
        checked = Checked()
        for part in self._pinned(checked, progress):
            held = self._read(destination, part)
            # What nobody can open any more is not carried on.
            wanted = [p for p in part if not (p.is_erased or p.fits(held.get(p.document_id)))]
            offered = self._read(source, wanted) if wanted else {}
            good = {p.document_id: p for p in wanted if p.fits(offered.get(p.document_id))}
            self._replace(destination, {i: offered[i] for i in good}, set(held), done)
            for pin in part:
                given = offered if pin.document_id in good else held
                checked.note(pin, given.get(pin.document_id))
        return checked

    def _replace(
        self, destination: str, good: dict[str, bytes], held: set[str], done: Copied
    ) -> None:
        """Put documents into the destination, instead of what it holds under their ids."""
        if not good:
            return
        broken = held & set(good)
        with self._keeper(destination) as keeper:
            keeper.remove(broken)
            keeper.put_many(good)
        done.mended += len(broken)
        done.copied += len(good) - len(broken)

    def _pinned(self, checked: Checked, progress: Progress) -> Iterator[list[Pin]]:
        """Return every pin, in batches; progress is told after each."""
        with self._database.reader() as session:
            total = count_pins(session)
        after = ""
        while True:
            with self._database.reader() as session:
                part = pins(session, after, COPY_BATCH)
            if not part:
                return
            yield part
            progress(checked.looked_at, max(total, checked.looked_at))
            after = part[-1].document_id

    def _read(self, kind: str, part: list[Pin]) -> dict[str, bytes]:
        with self._database.reader() as session:
            keeper = keeper_of(self._tenant, kind, session)
            return keeper.get_many(pin.document_id for pin in part)

    @contextmanager
    def _keeper(self, kind: str) -> Iterator[DocumentKeeper]:
        """Give a store for writing, in a short transaction of its own."""
        if kind == SQL:
            with self._database.writer() as session, session.begin():
                yield keeper_of(self._tenant, kind, session)
        else:
            with self._database.reader() as session:
                yield keeper_of(self._tenant, kind, session)

    def _is_known(self, kind: str) -> bool:
        return kind == SQL or bool(self._tenant.documents.url)

    def _row(self, kind: str, pinned: int) -> dict[str, object]:
        with self._database.reader() as session:
            held = keeper_of(self._tenant, kind, session).count()
        servers = mongo.describe(self._tenant.id, self._tenant.documents) if kind == MONGODB else {}
        return {
            "store": kind,
            "use": self._use(kind),
            "documents": held,
            "named": pinned,
            "set": "",
            "servers": "",
            "version": "",
            **servers,
        }

    def _use(self, kind: str) -> str:
        documents = self._tenant.documents
        uses = {documents.store: "in use", documents.fallback: "read while documents move"}
        return uses.get(kind, "not in use")


@dataclass(frozen=True, slots=True)
class _Deeds:
    """What a sweep does with one batch of documents."""

    set_aside: list[str]
    take_back: list[str]
    remove: list[str]


def migrate_documents(tenant: Tenant) -> bool:
    """Make MongoDB's collection, rules and indexes where it is used; tell whether it is."""
    if not uses_mongodb(tenant):
        return False
    mongo.migrate(tenant.id, tenant.documents)
    return True


def direction(tenant: Tenant, to: str | None, source: str | None) -> tuple[str, str]:
    """Return (source, destination) of a copy of which one may be left out.

    Raises ``ConfigurationError``.
    """
    if to is None and source is None:
        raise ConfigurationError(f"say which way: --to {SQL} or --to {MONGODB}")
    other = {SQL: MONGODB, MONGODB: SQL}
    destination = to or other[source or ""]
    begin = source or other[destination]
    if begin == destination:
        raise ConfigurationError("a store is not copied into itself")
    if not tenant.documents.url:
        raise ConfigurationError(
            f"{tenant.id}.toml: documents.url: says where MongoDB is; give it, documents.user and "
            "documents.password_file before documents are copied"
        )
    return begin, destination
