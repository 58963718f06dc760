"""Making a backup while the portal serves.

SQL is read in one transaction that sees one moment (SQLite in WAL mode, PostgreSQL at REPEATABLE
READ), so nobody waits and nothing is half there. Documents never change and are in their store
before the rows that pin them are. In a store outside of SQL an erasure or a rekey meanwhile may
take some away that this moment's rows name: each is compared with its pin, and what is missing is
counted. Key files are read after the rows: a key that they need is among them, and
an erasure that happened meanwhile is in the ledger, which wins at a restore.

Data and keys go into two files. The data can be kept for years, the keys file for a short time:
whoever was erased is gone for good only when the last keys file from before is.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.audit.store import last_head
from medportal.backup import checking, tables
from medportal.backup.container import DATA, KEYS, Label, SealedWriter
from medportal.backup.errors import KeysChanged, SamePlace
from medportal.backup.files import key_files
from medportal.backup.frames import Counts, FrameWriter, Manifest, SealedDocument
from medportal.backup.seals import Measured, draft_of, name_of, seal_of, write_seal
from medportal.core.ids import new_id
from medportal.pki.files import PRIVATE, make_directory
from medportal.pki.signers import Signer
from medportal.records.models import Record, RecordVersion
from medportal.tenancy.engines import reading
from medportal.tenancy.schema import current_revision
from medportal.tenancy.tenant import Tenant
from medportal.vault.kdf import KEY_LENGTH
from medportal.vault.models import PatientKey
from medportal.vault.sealing import BoxPublicKey
from medportal.vault.stores import documents_of

#: Documents held in memory at a time.
_BATCH = 100
Progress = Callable[[Counts], None]


@dataclass(frozen=True, slots=True)
class Institution:
    """What a backup is made of, and restored to."""

    tenant: Tenant
    home: Path
    engine: Engine


@dataclass(frozen=True, slots=True)
class Places:
    """The directories for the two files."""

    data: Path
    keys: Path


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup. ``damaged`` counts documents that are missing or not as pinned."""

    backup: str
    data: Path
    keys: Path
    counts: Counts
    damaged: int


def make(
    source: Institution,
    key: BoxPublicKey,
    signers: Sequence[Signer],
    places: Places,
    now: datetime,
    progress: Progress,
) -> Made:
    """Make a backup: two files, there when both are whole and the audit log tells of them.

    Raises ``SamePlace``, ``KeysChanged``, ``UnknownColumn``, or ``OSError`` naming the file.
    """
    if places.data.resolve() == places.keys.resolve():
        raise SamePlace(
            "data and keys in one directory are one theft away from each other: name two"
        )
    label = Label(new_id(), DATA, source.tenant.id, now)
    before = _vault_digest(source.home)
    with ExitStack() as stack:
        data = stack.enter_context(_part(places.data, label, key))
        keys = stack.enter_context(_part(places.keys, replace(label, part=KEYS), key))
        damaged = _write_rows(source, data.frames, keys.frames, progress)
        for file in key_files(source.home):
            keys.frames.write(file)
        if _vault_digest(source.home) != before:
            raise KeysChanged("keys were changed while the backup was made: make it again")
        for part in (data, keys):
            part.finish(signers)
            # Before the file has its name: one that was published has its seal.
            write_seal(part.path, part.measured, part.label, signers)
        made = Made(label.backup, data.path, keys.path, data.frames.counts, damaged)
        # Who copies everything is audited before the copy is there to be taken.
        _tell(source.engine, made, now)
        for part in (data, keys):
            part.publish()
    return made


def _write_rows(
    source: Institution, data: FrameWriter, keys: FrameWriter, progress: Progress
) -> int:
    revision = current_revision(source.engine) or ""
    with _snapshot(source.engine) as session:
        connection = session.connection()
        metadata = tables.reflect(connection)
        head = last_head(session)
        manifest = Manifest(revision, head.to_bytes() if head else b"")
        for part, wanted in (
            (data, tables.data_tables(metadata)),
            (keys, tables.key_tables(metadata)),
        ):
            part.write(manifest)
            for table in wanted:
                for frame in tables.dump(connection, table):
                    part.write(frame)
                progress(part.counts)
        return _write_documents(source.tenant, session, data, progress)


def _write_documents(
    tenant: Tenant, session: Session, data: FrameWriter, progress: Progress
) -> int:
    """Write every document that a living patient's record names; return how many are damaged."""
    store, damaged = documents_of(tenant, session), 0
    for pins in _pins(session):
        found = store.get_many(pins)
        for doc_id, digest in pins.items():
            sealed = found.get(doc_id)
            if sealed is None or hashlib.sha256(sealed).digest() != digest:
                damaged += 1
            else:
                data.write(SealedDocument(doc_id, sealed))
        progress(data.counts)
    return damaged


def _pins(session: Session) -> Iterator[dict[str, bytes]]:
    """Yield document ids with their digests, in batches; none of patients who were erased.

    One query for all of them: asked batch by batch, a database sorts anew each time.
    """
    query = (
        select(RecordVersion.document_id, RecordVersion.document_digest)
        .join(Record, Record.id == RecordVersion.record_id)
        .outerjoin(PatientKey, PatientKey.patient_id == Record.patient_id)
        .where(PatientKey.destroyed_at.is_(None))
    )
    options = {"stream_results": True, "yield_per": _BATCH}
    for part in session.execute(query, execution_options=options).partitions():
        yield {row.document_id: row.document_digest for row in part}


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Session]:
    """Give a session that sees one moment of the database, while others go on writing."""
    with Session(reading(engine), autoflush=False) as session:
        yield session


def _vault_digest(home: Path) -> bytes:
    """Return what changes when keys of the vault do: other files change as the portal serves."""
    found = hashlib.sha256()
    for file in key_files(home):
        if file.path.startswith("vault/"):
            found.update(hashlib.sha256(file.path.encode() + b"\0" + file.data).digest())
    return found.digest()


def _tell(engine: Engine, made: Made, now: datetime) -> None:
    details: dict[str, str | int] = {
        "rows": made.counts.rows,
        "documents": made.counts.documents,
        "damaged": made.damaged,
    }
    event = Event.create(
        Action.BACKUP_MADE, now=now, actor=COMMAND_LINE, object=made.backup, details=details
    )
    with Session(engine) as session, session.begin():
        append(session, event)


@dataclass(slots=True)
class _Part:
    """One file in the making, under another name until it is whole."""

    label: Label
    path: Path
    draft: Path
    file: BinaryIO
    measured: Measured
    sealed: SealedWriter
    frames: FrameWriter

    def finish(self, signers: Sequence[Signer]) -> None:
        digest = self.frames.end()
        self.frames.signed(checking.sign(self.label, digest, signers))
        self.sealed.finish()
        self.file.flush()
        os.fsync(self.file.fileno())

    def publish(self) -> None:
        self.draft.replace(self.path)
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _part(directory: Path, label: Label, key: BoxPublicKey) -> Iterator[_Part]:
    make_directory(directory)
    place = directory / name_of(label)
    draft = draft_of(place)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            measured = Measured(file)
            sealed = SealedWriter(measured, label, key, secrets.token_bytes(KEY_LENGTH))
            yield _Part(label, place, draft, file, measured, sealed, FrameWriter(sealed))
    finally:
        draft.unlink(missing_ok=True)
        if not place.exists():
            seal_of(place).unlink(missing_ok=True)
