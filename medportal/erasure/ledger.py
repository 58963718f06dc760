"""The ledger of erasures: a file that lies with the keys, and outlives every backup of data.

A backup brings back the rows of a patient who was erased after it was made. So what was erased
stands here, apart from the data, and is replayed before anything restored serves.

One line for each erasure: a statement signed with the key of the log's heads, in base64. It names
the patient by internal id, and the digest of the line before, so that a line cannot be changed,
moved or taken out of the middle. Lines cut off at the end are told by the audit log, which has an
event for each erasure. A line without its end was being written when the machine stopped: what it
tells of had not been done, and is done, and written, again.
"""

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros
from medportal.core.ids import is_id
from medportal.erasure.errors import LedgerDamaged
from medportal.erasure.models import Erasure, ErasureState
from medportal.erasure.removal import remove
from medportal.pki.ca import authorities, lists
from medportal.pki.errors import PkiError
from medportal.pki.files import PRIVATE, locked, make_directory, read_private
from medportal.pki.layout import load_profiles
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import Signed, sign_statement, verify_kept
from medportal.pki.signers import Signer
from medportal.pki.verify import institution_of
from medportal.vault.documents import DocumentStore

FILE_NAME = "erasures.ledger"
LABEL = "medportal erasure 1"
_MEMBERS = {
    "erasure",
    "patient",
    "reason",
    "asked_by",
    "asked_at",
    "offered_at",
    "decided_by",
    "decided_at",
    "erased_at",
    "before",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One erasure: whose, who asked and decided, and when. Ids, codes and moments, no words."""

    erasure_id: str
    patient_id: str
    reason: str
    asked_by: str
    asked_at: datetime
    offered_at: datetime
    decided_by: str
    decided_at: datetime
    erased_at: datetime


def ledger_path(pki: Path) -> Path:
    """Return where the ledger lies in an institution's key directory."""
    return pki / FILE_NAME


def append(path: Path, signer: Signer, entry: Entry) -> Entry:
    """Write an entry durably, unless that erasure has one; return the one that stands.

    Called before anything is destroyed: an erasure that a crash interrupts is done again, one that
    the ledger does not know would come back with a backup. Raises ``LedgerDamaged``.
    """
    with locked(path.with_name(f".{path.name}.lock")):
        lines = _lines(path)
        for known in _entries(path, lines):
            if known.erasure_id == entry.erasure_id:
                return known
        fields = _fields(entry, _digest(lines[-1] if lines else b""))
        signed = sign_statement(signer, LABEL, fields)
        _write(path, sum(len(line) + 1 for line in lines), signed)
    return entry


def is_in(path: Path, erasure_id: str) -> bool:
    """Tell whether an erasure has its line. Raises ``LedgerDamaged``."""
    return any(entry.erasure_id == erasure_id for entry in read(path))


def read(path: Path) -> list[Entry]:
    """Return the entries of a ledger, oldest first; none where there is no file.

    The authority that certified the signer lies in the same directory. Raises ``LedgerDamaged``.
    """
    return _entries(path, _lines(path))


def replay(session: Session, documents: DocumentStore, ledger_path: Path) -> int:
    """Erase again whoever is in the ledger, in a database that was restored from a backup.

    Return how many of them the backup had brought back. May be repeated. In the caller's
    transaction, before anything serves. Raises ``LedgerDamaged``: then nothing may serve.
    """
    back = 0
    for entry in read(ledger_path):
        back += remove(session, documents, entry.patient_id, entry.erased_at)
        _note(session, entry)
    return back


def _note(session: Session, entry: Entry) -> None:
    """Let the database say what the ledger says, also where the backup is older than the wish."""
    row = session.get(Erasure, entry.erasure_id)
    if row is None:
        row = Erasure(id=entry.erasure_id, patient_id=entry.patient_id)
        session.add(row)
    row.state = ErasureState.ERASED
    row.reason = entry.reason
    row.asked_by = entry.asked_by
    row.asked_at = entry.asked_at
    row.offered_at = entry.offered_at
    row.decided_by = entry.decided_by
    row.decided_at = entry.decided_at
    row.settled_at = entry.erased_at


def _fields(entry: Entry, before: bytes) -> dict[str, object]:
    return {
        "erasure": entry.erasure_id,
        "patient": entry.patient_id,
        "reason": entry.reason,
        "asked_by": entry.asked_by,
        "asked_at": to_micros(entry.asked_at),
        "offered_at": to_micros(entry.offered_at),
        "decided_by": entry.decided_by,
        "decided_at": to_micros(entry.decided_at),
        "erased_at": to_micros(entry.erased_at),
        "before": before,
    }


def _write(path: Path, end: int, signed: Signed) -> None:
    make_directory(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, PRIVATE)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        # A line that a crash cut short is overwritten.
        file.truncate(end)
        file.seek(end)
        file.write(base64.b64encode(signed.to_bytes()) + b"\n")
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[bytes]:
    """Return the whole lines of the file, without their ends."""
    if not path.exists():
        return []
    return read_private(path).split(b"\n")[:-1]


def _entries(path: Path, lines: list[bytes]) -> list[Entry]:
    before = _digest(b"")
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            fields = _verified(path, line)
            entry = _entry(fields)
        except (PkiError, binascii.Error, canonical.NotCanonical, KeyError, TypeError, ValueError):
            raise LedgerDamaged(f"{path.name}: line {number} is not what was signed") from None
        if fields["before"] != before:
            raise LedgerDamaged(f"{path.name}: a line before line {number} is missing or moved")
        before = _digest(line)
        entries.append(entry)
    return entries


def _verified(path: Path, line: bytes) -> dict[str, Any]:
    signed = Signed.from_bytes(base64.b64decode(line, validate=True))
    # The moment of signing is the signer's own word: a ledger is written by nobody else, and
    # whoever holds that key and this directory could as well destroy the data.
    claimed = from_micros(canonical.decode(signed.payload)["erased_at"])
    trusted = authorities(path.parent)
    return verify_kept(
        signed,
        LABEL,
        ca=trusted,
        purpose=Purpose.HEAD,
        institution=institution_of(trusted[0]),
        crl_limits=load_profiles().crl_limits,
        taken_in=claimed,
        known_crl_der=lists(path.parent),
    )


def _entry(fields: dict[str, Any]) -> Entry:
    ids = [fields[name] for name in ("erasure", "patient", "asked_by", "decided_by")]
    if set(fields) != _MEMBERS or not all(is_id(each) for each in ids):
        raise ValueError("not an entry of the ledger")
    return Entry(
        erasure_id=fields["erasure"],
        patient_id=fields["patient"],
        reason=str(fields["reason"]),
        asked_by=fields["asked_by"],
        asked_at=from_micros(fields["asked_at"]),
        offered_at=from_micros(fields["offered_at"]),
        decided_by=fields["decided_by"],
        decided_at=from_micros(fields["decided_at"]),
        erased_at=from_micros(fields["erased_at"]),
    )


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()
