"""Sealing and opening a version of a record, against bare AES-256-GCM of the same bytes.

Run as ``python -m bench.sealing``: one JSON line a size, then the table. One thread; times are
microseconds of the processor, the least of many rounds by turns, so that other work on the machine
matters little. The bare operation has its key scheduled and its nonce ready; ``fresh`` is the same
with a random key and nonce for each message, which is the least that an envelope needs.

``open page`` opens twenty records of one patient as the patient's page does: the patient's key read
from the database and unwrapped, then twenty envelopes; divided by twenty. ``box`` is the hybrid box
in which a record travels. The second size is that of a record filed by the portal's own code.
"""

import json
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select
from sqlalchemy.orm import Session

from bench.patient_page import fill
from bench.sign_ins import Portal
from medportal.core.ids import new_id
from medportal.keys import TenantKeys
from medportal.records.models import Record, RecordVersion
from medportal.tenancy.registry import Database
from medportal.vault import envelope, sealing
from medportal.vault.keyring import TenantKeyring
from medportal.vault.models import Document
from medportal.vault.service import Vault, record_context

LARGE = 4096
ROUNDS, TURNS = 40, 50

Deed = Callable[[], object]


def main() -> None:
    """Measure both sizes, and the page's records."""
    with tempfile.TemporaryDirectory(prefix="medportal-bench-") as name:
        directory = Path(name)
        portal = Portal(directory, f"sqlite:///{directory}/portal.sqlite")
        patient = fill(portal, 1)[0]
        keys = TenantKeys(portal.tenant, portal.settings.home(portal.tenant.id))
        database = Database(portal.tenant)
        with database.reader() as session:
            documents = documents_of_patient(session, patient)
            size = len(documents[0][2]) - envelope.OVERHEAD
            page = opening(keys.vault, session, patient, documents)
            lines = [line(LARGE, {}, 1), line(size, {"open page": page}, len(documents))]
        database.dispose()
    print(table(lines))


def documents_of_patient(session: Session, patient: str) -> list[tuple[str, int, bytes]]:
    """Return a patient's sealed records: id, version, bytes."""
    statement = (
        select(RecordVersion.record_id, RecordVersion.version, Document.sealed)
        .join(Document, Document.id == RecordVersion.document_id)
        .join(Record, Record.id == RecordVersion.record_id)
        .where(Record.patient_id == patient)
    )
    return [tuple(row) for row in session.execute(statement)]  # type: ignore[misc]


def opening(
    vault: Vault, session: Session, patient: str, documents: list[tuple[str, int, bytes]]
) -> Deed:
    """Return the opening of all of them, after a look that they do open."""
    found = vault.open_records(session, patient, documents)
    assert all(isinstance(each, bytes) for each in found)
    return lambda: vault.open_records(session, patient, documents)


def line(size: int, pages: Mapping[str, Deed], records: int) -> dict[str, object]:
    """Measure one size; print and return its line."""
    plaintext, key, nonce = secrets.token_bytes(size), secrets.token_bytes(32), bytes(12)
    context = record_context("hospital", new_id(), new_id(), 3)
    patient, ring = new_id(), TenantKeyring.generate()
    wrapped = ring.wrap_patient_key(patient, key)
    cipher, box = AESGCM(key), sealing.BoxPrivateKey.generate()
    bare = cipher.encrypt(nonce, plaintext, None)
    sealed = envelope.seal_document(key, plaintext, context)
    boxed = sealing.seal_to(box.public, plaintext, b"bench")
    deeds: dict[str, Deed] = {
        "aes seal": lambda: cipher.encrypt(nonce, plaintext, None),
        "fresh seal": lambda: AESGCM(secrets.token_bytes(32)).encrypt(
            secrets.token_bytes(12), plaintext, None
        ),
        "seal": lambda: envelope.seal_document(key, plaintext, context),
        "aes open": lambda: cipher.decrypt(nonce, bare, None),
        "open": lambda: envelope.open_document(key, sealed, context),
        "patient key": lambda: ring.unwrap_patient_key(patient, wrapped),
        "box seal": lambda: sealing.seal_to(box.public, plaintext, b"bench"),
        "box open": lambda: sealing.open_with(box, boxed, b"bench"),
    }
    micros = least(deeds, TURNS)
    micros |= {name: each / records for name, each in least(pages, 1).items()}
    found: dict[str, object] = {
        "bench": "sealing",
        "bytes": size,
        "overhead_bytes": envelope.OVERHEAD,
        "micros": {name: round(each, 1) for name, each in micros.items()},
        "ratio": {
            "seal to aes": round(micros["seal"] / micros["aes seal"], 1),
            "seal to fresh aes": round(micros["seal"] / micros["fresh seal"], 1),
            "open to aes": round(micros["open"] / micros["aes open"], 1),
        },
    }
    print(json.dumps(found), flush=True)
    return found


def least(deeds: Mapping[str, Deed], turns: int) -> dict[str, float]:
    """Return the microseconds of each deed in its best round, all of them by turns."""
    best = dict.fromkeys(deeds, float("inf"))
    for _ in range(ROUNDS):
        for name, deed in deeds.items():
            began = time.thread_time()
            for _ in range(turns):
                deed()
            best[name] = min(best[name], (time.thread_time() - began) / turns * 1e6)
    return best


def table(lines: list[dict[str, object]]) -> str:
    """Return the figures for people."""
    rows = [f"{'bytes':>8}  {'what':<12}{'µs':>8}"]
    for each in lines:
        micros = each["micros"]
        assert isinstance(micros, dict)
        rows += [f"{each['bytes']:>8}  {name:<12}{value:>8}" for name, value in micros.items()]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
