"""Changing keys: how many patients a second ``keys rotate`` and ``keys rekey`` do.

Run as ``python -m bench.rotation [PATIENTS [REKEYED]]``: two JSON lines an engine, SQLite and
PostgreSQL (where its programs are installed), each with keys of their own, then the table. Nothing
is waited for at the end (``--settle 0``), which is how the commands run where nothing serves.

``to_bare``: the rate by that of the database alone, in the same run: for a rotation, the same rows
updated with ready bytes, in the same batches and transactions; for a rekey, as many documents
inserted, pinned and removed, one patient a transaction. ``computing``: what share of the seconds
the processor was at it here. ``grown_mib``: by how much the process's largest size grew.
"""

import json
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from bench.backup import BATCH, RECORDS, SEALED, START, fill, made_in, patient_key, settings
from bench.postgres import programs, server
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.ops import rotation
from medportal.ops.institution import create_keys, migrate_database
from medportal.ops.rotation import Change, change_of, rekey, rotate
from medportal.records.models import Record, RecordVersion
from medportal.tenancy.registry import Database
from medportal.vault import envelope, keystore
from medportal.vault.keyring import new_key
from medportal.vault.models import Document, PatientKey
from medportal.vault.service import record_context

PATIENTS, REKEYED = 100_000, 1_000
TENANT = "hospital"


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds on the clock and of the processor, and megabytes that the process grew by."""

    seconds: float
    computed: float
    grown: float


def main(arguments: list[str]) -> None:
    """Measure on each engine."""
    patients, rekeyed = [*map(int, arguments), *(PATIENTS, REKEYED)[len(arguments) :]]
    lines = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medportal-bench-")))
        engines: dict[str, Callable[[str], str]] = {
            "sqlite": lambda name: f"sqlite:///{home}/{name}.db"
        }
        found = programs()
        if found is not None:
            address = stack.enter_context(server(found))
            engines["postgresql"] = lambda name: made_in(address, name)
        for engine, new in engines.items():
            lines.append(rotated(engine, home / engine / "rotate", new("rotate"), patients))
            lines.append(rekeyed_all(engine, home / engine / "rekey", new("rekey"), rekeyed))
    print(table(lines))


@contextmanager
def institution(home: Path, url: str) -> Iterator[Change]:
    """Make an institution with keys and an empty database; give what changes its keys."""
    installed = settings(home, url)
    tenant = installed.tenant(TENANT)
    create_keys(installed, tenant, utcnow())
    migrate_database(tenant)
    database = Database(tenant)
    try:
        yield change_of(installed, tenant, database, lambda _progress: None, timedelta(0))
    finally:
        database.dispose()


def rotated(engine: str, home: Path, url: str, patients: int) -> dict[str, Any]:
    """Rotate the tenant key of so many patients."""
    with institution(home, url) as change:
        ring = keystore.load(change.path, change.passphrase)
        for start in range(0, patients, BATCH):
            people = [new_id() for _ in range(min(BATCH, patients - start))]
            rows = [
                patient_key(each, ring.wrap_patient_key(each, new_key()).wrapped) for each in people
            ]
            with change.database.writer() as session, session.begin():
                session.execute(insert(PatientKey), rows)
        before = spent(lambda: bare_updates(change.database))
        taken = spent(lambda: expect(rotate(change).patients, patients))
        after = spent(lambda: bare_updates(change.database))
    bare = (before.seconds + after.seconds) / 2
    return told(engine, "rotate", patients, taken, bare, {"batch": rotation.BATCH})


def bare_updates(database: Database) -> None:
    """Write every row's bytes again, in the batches and transactions of a rotation."""
    keys = PatientKey.__table__
    statement = (
        update(PatientKey)
        .where(keys.c.patient_id == bindparam("whose"), keys.c.wrapped == bindparam("expected"))
        .values(wrapped=bindparam("fresh"), tenant_key_version=bindparam("version"))
    )
    with database.reader() as session:
        found = session.execute(
            select(keys.c.patient_id, keys.c.wrapped, keys.c.tenant_key_version).order_by(
                keys.c.patient_id
            )
        ).all()
    rows = [
        {"whose": whose, "expected": wrapped, "fresh": wrapped, "version": version}
        for whose, wrapped, version in found
    ]
    for start in range(0, len(rows), rotation.BATCH):
        with database.writer() as session, session.begin():
            session.connection().execute(statement, rows[start : start + rotation.BATCH])


def rekeyed_all(engine: str, home: Path, url: str, patients: int) -> dict[str, Any]:
    """Give so many patients of ten records each another key."""
    with institution(home, url) as change:
        ring = keystore.load(change.path, change.passphrase)
        keys: dict[str, bytes] = {}

        def key(patient: str) -> bytes:
            keys[patient] = new_key()
            return ring.wrap_patient_key(patient, keys[patient]).wrapped

        def seal(patient: str, record: str) -> bytes:
            content = secrets.token_bytes(SEALED - envelope.OVERHEAD)
            context = record_context(TENANT, patient, record, 1)
            return envelope.seal_document(keys[patient], content, context)

        fill(change.database, patients, key, seal)
        taken = spent(lambda: expect(rekey(change).patients, patients))
        bare = spent(lambda: bare_documents(change.database)).seconds
    more = {"records_a_second": round(patients * RECORDS / taken.seconds)}
    return told(engine, "rekey", patients, taken, bare, more)


def bare_documents(database: Database) -> None:
    """Put other bytes in the place of every document, one patient a transaction."""
    with database.reader() as session:
        whose: dict[str, list[tuple[str, str]]] = {}
        for patient, record, document in session.execute(
            select(Record.patient_id, Record.id, RecordVersion.document_id).join(
                RecordVersion, RecordVersion.record_id == Record.id
            )
        ):
            whose.setdefault(patient, []).append((record, document))
        documents = session.execute(select(Document.id, Document.sealed))
        kept: dict[str, bytes] = {row.id: row.sealed for row in documents}
    for rows in whose.values():
        with database.writer() as session, session.begin():
            replaced(session, [(record, kept[document]) for record, document in rows])
        with database.writer() as session, session.begin():
            gone = [document for _record, document in rows]
            session.execute(delete(Document).where(Document.id.in_(gone)))


def replaced(session: Session, rows: list[tuple[str, bytes]]) -> None:
    """Insert one patient's documents under new ids, and pin them."""
    versions = RecordVersion.__table__
    pin = (
        update(RecordVersion)
        .where(versions.c.record_id == bindparam("whose"), versions.c.version == 1)
        .values(document_id=bindparam("fresh"), document_digest=bindparam("digest"))
    )
    fresh = [(record, new_id(), sealed) for record, sealed in rows]
    session.execute(
        insert(Document),
        [{"id": each, "sealed": sealed, "created_at": START} for _record, each, sealed in fresh],
    )
    session.connection().execute(
        pin,
        [
            {"whose": record, "fresh": each, "digest": sha256(sealed).digest()}
            for record, each, sealed in fresh
        ],
    )


def expect(done: int, wanted: int) -> None:
    """Make sure that what was timed was done."""
    if done != wanted:
        raise RuntimeError(f"{done} of {wanted} patients have another key")


def spent(run: Callable[[], object]) -> Spent:
    """Return what something takes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, computed = time.perf_counter(), time.process_time()
    run()
    seconds, busy = time.perf_counter() - began, time.process_time() - computed
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size
    return Spent(seconds, busy, grown / 1024)


def told(
    engine: str, deed: str, patients: int, taken: Spent, bare: float, more: dict[str, Any]
) -> dict[str, Any]:
    """Print and return one line."""
    line = {
        "bench": deed,
        "engine": engine,
        "patients": patients,
        "seconds": round(taken.seconds, 2),
        "patients_a_second": round(patients / taken.seconds),
        "to_bare": round(bare / taken.seconds, 2),
        "computing": round(taken.computed / taken.seconds, 2),
        "grown_mib": round(taken.grown, 1),
        **more,
    }
    print(json.dumps(line), flush=True)
    return line


def table(lines: list[dict[str, Any]]) -> str:
    """Return the figures for people."""
    rows = [f"{'engine':<12}{'deed':<8}{'patients':>9}{'a second':>10}{'to bare':>9}{'MiB':>7}"]
    rows += [
        f"{each['engine']:<12}{each['bench']:<8}{each['patients']:>9}"
        f"{each['patients_a_second']:>10}{each['to_bare']:>9}{each['grown_mib']:>7}"
        for each in lines
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
