"""What the index says of every stored document: its id and the hash of its bytes.

The index is the authority over document stores: what it does not name is nobody's, and what
does not fit its hash is not what was filed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.records.models import Record, RecordVersion
from medportal.vault.documents import BATCH, in_batches
from medportal.vault.models import PatientKey


@dataclass(frozen=True, slots=True)
class Pin:
    """One version's document. That of an erased patient may be gone, and cannot be opened."""

    document_id: str
    digest: bytes
    is_erased: bool

    def fits(self, sealed: bytes | None) -> bool:
        """Tell whether these are the bytes that were filed."""
        return sealed is not None and hashlib.sha256(sealed).digest() == self.digest


def pins(session: Session, after: str = "", limit: int = BATCH) -> list[Pin]:
    """Return the pins behind the document id ``after``, in the order of the ids."""
    statement = (
        select(
            RecordVersion.document_id,
            RecordVersion.document_digest,
            PatientKey.destroyed_at.is_not(None),
        )
        .join(Record, Record.id == RecordVersion.record_id)
        .outerjoin(PatientKey, PatientKey.patient_id == Record.patient_id)
        .where(RecordVersion.document_id > after)
        .order_by(RecordVersion.document_id)
        .limit(limit)
    )
    return [
        Pin(document_id, digest, bool(is_erased))
        for document_id, digest, is_erased in session.execute(statement)
    ]


def count_pins(session: Session) -> int:
    """Return how many documents the index names."""
    return session.scalar(select(func.count()).select_from(RecordVersion)) or 0


def named(session: Session, document_ids: Iterable[str]) -> set[str]:
    """Return those of the ids that the index names and whose patient was not erased."""
    found: set[str] = set()
    for part in in_batches(document_ids):
        statement = (
            select(RecordVersion.document_id)
            .join(Record, Record.id == RecordVersion.record_id)
            .outerjoin(PatientKey, PatientKey.patient_id == Record.patient_id)
            .where(RecordVersion.document_id.in_(part), PatientKey.destroyed_at.is_(None))
        )
        found.update(session.scalars(statement))
    return found
