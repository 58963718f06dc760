"""Bringing an institution back on an empty machine.

In this order, so that a restore that dies leaves nothing that serves:

1. Both files are read to their ends and verified, and have to belong together.
2. Neither keys nor a database may be there.
3. Key files are put in place, under a mark that a restore is at work.
4. In one transaction of the database: schema, rows, documents, migrations since; then whoever is in
   the ledger of erasures is erased again, the storage epoch is renewed, so that partners send again
   what was lost, and the audit log is told. Until it commits the database has no schema, and every
   process refuses it.

Documents in another store than the database are there before the commit; those of a restore that
failed are harmless, and named again by the next one.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Table, select
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.backup import checking, tables
from medportal.backup.checking import Checked, check
from medportal.backup.container import DATA, KEYS
from medportal.backup.errors import (
    BackupDamaged,
    LedgerBehind,
    NotABackup,
    PartsDiffer,
    TargetNotEmpty,
)
from medportal.backup.files import MARK, Placing, require_bare
from medportal.backup.frames import File, Frame, Heading, Rows, SealedDocument
from medportal.backup.keys import Opener
from medportal.backup.making import Institution
from medportal.core.clock import to_micros
from medportal.delivery.receipts import renew_epoch
from medportal.erasure.ledger import ledger_path, replay
from medportal.pki.files import PRIVATE, write_file
from medportal.tenancy.schema import knows_revision, upgrade
from medportal.vault.documents import DocumentKeeper
from medportal.vault.stores import keeper_of

#: Documents, and bytes of them, that are stored at a time.
_BATCH = 200
_MOST_BYTES = 8 * 1024 * 1024
#: Told the newest head in the backup when the rows are there; what it does is part of the restore.
Settle = Callable[[Session, bytes], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files of a backup, or data with the keys of a later one."""

    data: Path
    keys: Path


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored. ``held`` counts accounts that were closed for review.
    ``erased`` counts patients whom the backup had brought back.

    ``ledger`` is the digest of the ledger of erasures that counted, ``lines`` how many it has,
    ``is_newer`` whether it was given apart. ``shut`` counts secrets of accounts and words of held
    transfers that no tenant key in the keys file opens; ``None``: the keystore was not opened.
    """

    data: Checked
    keys: Checked
    erased: int
    ledger: bytes
    lines: int
    is_newer: bool
    shut: int | None = None
    held: int = 0


def restore(
    target: Institution,
    pair: Pair,
    opener: Opener,
    now: datetime,
    settle: Settle,
    ledger: Path | None = None,
) -> Restored:
    """Restore a backup. ``ledger`` is a newer ledger of erasures than the keys file's; without
    it whoever was erased after the keys file was made comes back.

    Raises a ``BackupError`` or ``LedgerDamaged``; then nothing is there that was not before.
    """
    data, keys = check(pair.data, opener), check(pair.keys, opener)
    _require_pair(target, data, keys)
    require_bare(target.home)
    with Placing(target.home) as placing, target.engine.begin() as connection:
        _require_empty(connection, target.home)
        with Session(connection) as session:
            documents = keeper_of(target.tenant, target.tenant.documents.store, session)
            _fill(connection, _Sinks(documents, placing), data, keys, opener)
            if ledger is not None:
                _continue_ledger(target.home, ledger)
            place = ledger_path(target.home / "pki")
            erased = replay(session, documents, place)
            renew_epoch(session, now)
            found = place.read_bytes() if place.exists() else b""
            done = Restored(
                data,
                keys,
                erased,
                hashlib.sha256(found).digest(),
                found.count(b"\n"),
                ledger is not None,
            )
            append(session, _event(done, now))
            # What follows may read the event, and reads past the session's memory.
            session.flush()
            settle(session, data.manifest.head)
            session.flush()
    return done


def _require_pair(target: Institution, data: Checked, keys: Checked) -> None:
    if (data.label.part, keys.label.part) != (DATA, KEYS):
        raise NotABackup("name a data file and a keys file, each in its place")
    if not data.label.tenant == keys.label.tenant == target.tenant.id:
        raise PartsDiffer(f"these files are not both backups of {target.tenant.id}")
    if keys.label.made < data.label.made:
        raise PartsDiffer(
            "the keys file is older than the data file, so that keys would be missing: take the "
            "one that was made with it, or a later one"
        )
    for part in (data, keys):
        if not knows_revision(part.manifest.revision):
            raise PartsDiffer("the backup was made by a newer program: install that one first")


def _require_empty(connection: Connection, home: Path) -> None:
    if tables.is_empty(connection):
        return
    done = " If an earlier restore ended just before its mark was taken away, remove " + str(
        home / MARK
    )
    raise TargetNotEmpty(
        "the database is not empty: a backup is restored into a new one. Name another in the "
        "tenant's file (database.url)" + (done if (home / MARK).exists() else "")
    )


def _continue_ledger(home: Path, newer: Path) -> None:
    """Put a newer ledger in the place of the restored one, which it has to continue."""
    place = ledger_path(home / "pki")
    known = place.read_bytes() if place.exists() else b""
    found = newer.read_bytes()
    if not found.startswith(known):
        raise LedgerBehind("the ledger does not continue the one in the backup")
    write_file(place, found, PRIVATE)


@dataclass(frozen=True, slots=True)
class _Sinks:
    """Where goes what is no row."""

    documents: DocumentKeeper
    placing: Placing


def _fill(
    connection: Connection, sinks: _Sinks, data: Checked, keys: Checked, opener: Opener
) -> None:
    """Bring rows, documents and files in, each at the schema that they were taken from."""
    for part, choose in ((data, tables.data_tables), (keys, tables.key_tables)):
        upgrade(connection, part.manifest.revision)
        metadata = tables.reflect(connection)
        pins = metadata.tables["record_version"]
        _load(part, opener, _Loader(connection, choose(metadata), pins, sinks))
    upgrade(connection)


class _Loader(tables.Loader):
    """Loads documents and files besides rows."""

    def __init__(
        self, connection: Connection, allowed: list[Table], pins: Table, sinks: _Sinks
    ) -> None:
        super().__init__(connection, allowed)
        self._pins = pins
        self._sinks = sinks
        self._waiting: dict[str, bytes] = {}
        self._bytes = 0

    def take(self, frame: Frame) -> None:
        """Load one frame. Raises ``BackupDamaged``."""
        match frame:
            case Heading():
                self.heading(frame)
            case Rows():
                self.rows(frame)
            case SealedDocument():
                self._document(frame)
            case File():
                self._sinks.placing.put(frame)

    def _document(self, document: SealedDocument) -> None:
        self._waiting[document.id] = document.sealed
        self._bytes += len(document.sealed)
        if len(self._waiting) >= _BATCH or self._bytes >= _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Store what waits. Raises ``BackupDamaged`` for a document that its row does not pin."""
        query = select(self._pins.c.document_id, self._pins.c.document_digest)
        rows = self._connection.execute(query.where(self._pins.c.document_id.in_(self._waiting)))
        pinned = {row.document_id: row.document_digest for row in rows}
        for doc_id, sealed in self._waiting.items():
            if pinned.get(doc_id) != hashlib.sha256(sealed).digest():
                raise BackupDamaged("a document of the backup is not the one that its row names")
        if self._waiting:
            self._sinks.documents.put_many(self._waiting)
        self._waiting = {}
        self._bytes = 0


def _load(part: Checked, opener: Opener, loader: _Loader) -> None:
    # The file may have been exchanged since it was checked: it is checked again.
    with checking.opened(part.path, opener) as (label, frames, ending):
        for frame in frames:
            loader.take(frame)
        loader.flush()
        checking.verify(label, ending, opener.authority)
    if label != part.label:
        raise BackupDamaged("the file was exchanged while it was read")


def _event(done: Restored, now: datetime) -> Event:
    details: dict[str, str | int] = {
        "made": to_micros(done.data.label.made),
        "keys": done.keys.label.backup,
        "erased": done.erased,
        # Whoever chose an old list of the erased has said so here, for good.
        "ledger": done.ledger.hex(),
        "ledger-lines": done.lines,
        "ledger-from": "elsewhere" if done.is_newer else "backup",
    }
    return Event.create(
        Action.RESTORED, now=now, actor=COMMAND_LINE, object=done.data.label.backup, details=details
    )
