"""Everything that is sealed under a patient's key, to be sealed anew under another one.

What :data:`NOTES` and the documents leave out would be lost when the old key goes: a test looks
for columns of sealed bytes that nobody named here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medportal.access import complaints, glass, patient_rules, reviews
from medportal.access.models import BrokenGlass, Complaint, PatientRule
from medportal.core.ids import new_id
from medportal.db import Base
from medportal.delivery.models import Inbox
from medportal.patients import support
from medportal.patients.models import SupportNeeds
from medportal.records import head, news
from medportal.records.models import Record, RecordVersion
from medportal.records.models_results import Result
from medportal.results import held
from medportal.vault.documents import DocumentStore
from medportal.vault.errors import VaultError
from medportal.vault.service import Rekeying, Vault


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column of words sealed under the patient's key, and the name that they are bound to."""

    model: type[Base]
    column: str
    purpose: str
    name: Callable[[Any], str] = lambda row: str(row.id)


NOTES = (
    Sealed(SupportNeeds, "sealed", support.PURPOSE),
    Sealed(PatientRule, "note", patient_rules.PURPOSE),
    Sealed(BrokenGlass, "text", glass.REASON_NOTE),
    Sealed(BrokenGlass, "finding_text", reviews.FINDING_NOTE),
    Sealed(Complaint, "text", complaints.TEXT),
    Sealed(Complaint, "answer", complaints.ANSWER),
    Sealed(Record, "head", head.PURPOSE),
    Sealed(Result, "urgency", news.PURPOSE, lambda row: news.note_name(row.record_id, row.version)),
)


@dataclass(frozen=True, slots=True)
class Resealed:
    """What was done for one patient: ``left`` are the documents that nothing names any more.

    ``damaged`` counts what did not open under the old key either, and would stay as it was: once
    the old key is gone it opens never again, so the caller says whether this is to stand.
    """

    done: int
    damaged: int
    left: tuple[str, ...]


def reseal_patient(session: Session, documents: DocumentStore, rekeying: Rekeying) -> Resealed:
    """Seal all that is kept of a patient under the new key, and put it in the old one's place.

    In the caller's transaction, which holds the patient's key. Documents are written anew under
    new ids: readers of a moment ago still find the old ones, until the caller removes them.
    """
    done, damaged, left = _documents(session, documents, rekeying)
    for kind in NOTES:
        more, broken = _notes(session, rekeying, kind)
        done, damaged = done + more, damaged + broken
    rekeying.finish(session)
    return Resealed(done, damaged, tuple(left))


def reseal_told(session: Session, vault: Vault) -> tuple[int, int]:
    """Bring what partners say of transfers that are held back under the current tenant key.

    Return how many were, and how many do not open. They are few: each waits for a person.
    """
    rows = session.execute(
        select(Inbox.sender, Inbox.tid, Inbox.told).where(Inbox.told.is_not(None))
    ).all()
    done = damaged = 0
    for sender, tid, sealed in rows:
        if sealed is None:
            continue
        try:
            fresh = vault.reseal_secret(held.PURPOSE, held.owner_of(sender, tid), sealed)
        except VaultError:
            damaged += 1
            continue
        if fresh is not None:
            own = (Inbox.sender == sender, Inbox.tid == tid, Inbox.told == sealed)
            session.execute(update(Inbox).where(*own).values(told=fresh))
            done += 1
    return done, damaged


def _documents(
    session: Session, documents: DocumentStore, rekeying: Rekeying
) -> tuple[int, int, list[str]]:
    rows = session.execute(
        select(
            RecordVersion.record_id,
            RecordVersion.version,
            RecordVersion.document_id,
            RecordVersion.document_digest,
        )
        .join(Record, Record.id == RecordVersion.record_id)
        .where(Record.patient_id == rekeying.patient_id)
        .order_by(RecordVersion.record_id, RecordVersion.version)
    ).all()
    damaged, left = 0, []
    for record_id, version, document_id, digest in rows:
        # One at a time: hundreds of records of one patient shall not all lie in memory.
        sealed = documents.get_many([document_id]).get(document_id, b"")
        if sha256(sealed).digest() != digest:
            # Missing, or not what the index pins: the new pin must not make it right.
            damaged += 1
            continue
        try:
            fresh = rekeying.document(record_id, version, sealed)
        except VaultError:
            damaged += 1
            continue
        fresh_id = new_id()
        documents.put(fresh_id, fresh)
        session.execute(
            update(RecordVersion)
            .where(RecordVersion.record_id == record_id, RecordVersion.version == version)
            .values(document_id=fresh_id, document_digest=sha256(fresh).digest())
        )
        left.append(document_id)
    return len(left), damaged, left


def _notes(session: Session, rekeying: Rekeying, kind: Sealed) -> tuple[int, int]:
    rows = session.scalars(
        select(kind.model)
        .where(kind.model.__table__.c.patient_id == rekeying.patient_id)
        .execution_options(populate_existing=True)
    ).all()
    done = damaged = 0
    for row in rows:
        sealed = getattr(row, kind.column)
        if not sealed:
            continue
        try:
            setattr(row, kind.column, rekeying.note(kind.purpose, kind.name(row), sealed))
        except VaultError:
            damaged += 1
            continue
        done += 1
    return done, damaged
