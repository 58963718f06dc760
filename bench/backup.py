"""How fast a backup is made, checked and restored: one JSON line for each.

Run as ``python -m bench.backup [PATIENTS]``; ten records a patient. SQLite, and PostgreSQL where
its programs are installed. ``rate`` is megabytes of backup file a second; ``against_aes`` compares
it with bare AES-256-GCM over as many bytes in the same run, ``against_copy`` with copying the files
durably.
"""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import create_engine, insert, text
from sqlalchemy.orm import Session

from bench.postgres import programs, server
from medportal.backup.making import Made, Places
from medportal.backup.restoring import Pair
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.identity.models import Person
from medportal.ops import backup
from medportal.ops.institution import create_keys, migrate_database
from medportal.patients.models import Patient
from medportal.records.models import Record, RecordVersion
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import Database
from medportal.vault.models import Document, PatientKey

ROOT = Path(__file__).resolve().parents[1]
PATIENTS = 2_000
RECORDS = 10
SEALED = 4_096
BATCH = 500
START = datetime(2026, 3, 1, tzinfo=UTC)


def main(arguments: list[str]) -> None:
    """Measure on each engine."""
    patients = int(arguments[0]) if arguments else PATIENTS
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medportal-")))
        measure(
            "sqlite", directory / "s", patients, lambda name: f"sqlite:///{directory}/{name}.db"
        )
        found = programs()
        if found is None:
            return
        address = stack.enter_context(server(found))
        measure("postgresql", directory / "p", patients, lambda name: made_in(address, name))


def made_in(address: str, name: str) -> str:
    """Make an empty database of a server; return its address."""
    url = address.replace("postgresql:", "postgresql+psycopg:")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return address.replace("/postgres?", f"/{name}?")


def measure(engine: str, home: Path, patients: int, new: Callable[[str], str]) -> None:
    """Fill an institution, back it up, check the backup and restore it."""
    here, there = settings(home / "here", new("here")), settings(home / "there", new("there"))
    tenant = here.tenant("hospital")
    create_keys(here, tenant, utcnow())
    migrate_database(tenant)
    database = Database(tenant)
    fill(database, patients)
    passphrase = home / "backup.passphrase"
    passphrase.write_text(secrets.token_urlsafe(32) + "\n")
    passphrase.chmod(0o600)
    backup.create_backup_key(here, tenant, home / "away", passphrase)
    opener = backup.opener(home / "away", passphrase)
    places = Places(home / "data", home / "keys")
    made: list[Made] = []
    create = lambda: made.append(  # noqa: E731
        backup.create(here, tenant, database, places, utcnow(), lambda counts: None)
    )
    taken = timed(create)
    done = made[0]
    size = done.data.stat().st_size + done.keys.stat().st_size
    database.dispose()
    facts = {"engine": engine, "patients": patients, "records": patients * RECORDS}
    bare, copied = timed(lambda: encrypt(size)), timed(lambda: copy(done, home))
    for what, seconds in (
        ("create", taken),
        ("verify", timed(lambda: backup.verify([done.data, done.keys], opener, utcnow()))),
        (
            "restore",
            timed(
                lambda: backup.restore(
                    there, there.tenant("hospital"), Pair(done.data, done.keys), opener, utcnow()
                )
            ),
        ),
    ):
        line = facts | {
            "bench": f"backup {what}",
            "megabytes": round(size / 1e6, 1),
            "seconds": round(seconds, 2),
            "rate": round(size / 1e6 / seconds, 1),
            "records_a_second": round(patients * RECORDS / seconds),
            "against_aes": round(bare / seconds, 4),
            "against_copy": round(copied / seconds, 4),
        }
        print(json.dumps(line), flush=True)


def settings(home: Path, url: str) -> Settings:
    """Return the settings of an installation of its own."""
    tenants = home / "tenants"
    tenants.mkdir(parents=True)
    shipped = (ROOT / "tenants" / "hospital.toml").read_text("utf-8")
    known = "sqlite:///{state}/hospital/portal.sqlite"
    (tenants / "hospital.toml").write_text(shipped.replace(known, url), "utf-8")
    ports = {"exchange_port": "4000", "mail_port": "2525"}
    ports |= {"hospital_port": "8443", "laboratory_port": "8444"}
    return parse_settings(
        {
            "medportal.production": "false",
            "medportal.tenants": "hospital",
            "medportal.tenants_dir": str(tenants),
            "medportal.state_dir": str(home / "state"),
        }
        | {f"medportal.variable.{name}": port for name, port in ports.items()}
    )


def random_bytes(_patient: str, _record: str) -> bytes:
    """Return as many bytes as a sealed record has; to a backup it does not matter which."""
    return secrets.token_bytes(SEALED)


def fill(
    database: Database,
    patients: int,
    key: Callable[[str], bytes] = lambda _patient: secrets.token_bytes(40),
    seal: Callable[[str, str], bytes] = random_bytes,
) -> None:
    """Write rows of usual size: ``key`` gives a patient's wrapped key, ``seal`` a document."""
    for start in range(0, patients, BATCH):
        people = [new_id() for _ in range(min(BATCH, patients - start))]
        with Session(database.engine) as session, session.begin():
            for table, make in ((Person, person), (Patient, patient)):
                session.execute(insert(table), [make(each) for each in people])
            session.execute(insert(PatientKey), [patient_key(each, key(each)) for each in people])
            for each in people:
                records(session, each, seal)


def person(each: str) -> dict[str, Any]:
    """Return a person's row."""
    return {
        "id": each,
        "name": f"Person {each}",
        "birth_date": date(1980, 2, 3),
        "sex": "female",
        "email": "",
        "phone": "",
        "city": "",
        "language": "en",
        "created_at": START,
    }


def patient(each: str) -> dict[str, Any]:
    """Return a patient's row."""
    return {
        "person_id": each,
        "status": "registered",
        "ward": "",
        "bed": "",
        "registered_at": START,
        "registered_by": None,
    }


def patient_key(each: str, wrapped: bytes) -> dict[str, Any]:
    """Return a patient key's row."""
    return {"patient_id": each, "tenant_key_version": 1, "wrapped": wrapped, "created_at": START}


def records(session: Session, each: str, seal: Callable[[str, str], bytes]) -> None:
    """Write a patient's records and their documents."""
    rows: list[list[dict[str, Any]]] = [[], [], []]
    for _ in range(RECORDS):
        record, doc_id = new_id(), new_id()
        sealed = seal(each, record)
        says = {
            "category": "laboratory",
            "status": "final",
            "effective_on": date(2026, 3, 1),
            "created_at": START,
        }
        rows[0].append(
            says
            | {
                "id": record,
                "patient_id": each,
                "origin": "hospital",
                "origin_record_id": record,
                "kind": "clinical",
                "current_version": 1,
            }
        )
        rows[1].append(
            says
            | {
                "record_id": record,
                "version": 1,
                "document_id": doc_id,
                "document_digest": sha256(sealed).digest(),
                "content_digest": secrets.token_bytes(32),
            }
        )
        rows[2].append({"id": doc_id, "sealed": sealed, "created_at": START})
    for table, values in zip((Record, RecordVersion, Document), rows, strict=True):
        session.execute(insert(table), values)


def encrypt(size: int) -> None:
    """Encrypt so many bytes, a megabyte at a time."""
    cipher, chunk = AESGCM(secrets.token_bytes(32)), bytes(1024 * 1024)
    for number in range(size // len(chunk) + 1):
        cipher.encrypt(number.to_bytes(12, "big"), chunk, None)


def copy(made: Made, home: Path) -> None:
    """Copy both files durably."""
    for path in (made.data, made.keys):
        target = home / f"{path.name}.copy"
        with path.open("rb") as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1024 * 1024)
            file.flush()
            os.fsync(file.fileno())
        target.unlink()


def timed(run: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
