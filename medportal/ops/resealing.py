"""Everything that is sealed under a patient's key, to be sealed anew under another one.

What :data:`NOTES` and the documents leave out would be lost when the old key goes: a test looks
for columns of sealed bytes that nobody named here.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sqlalchemy import Select, bindparam, select, update
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
    #: Finds the rows of ``:patient``; made once, since it is asked for every patient.
    of_patient: Select[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the query."""
        rows = select(self.model).where(self.model.__table__.c.patient_id == bindparam("patient"))
        object.__setattr__(self, "of_patient", rows.execution_options(populate_existing=True))


#: Documents that lie in memory together: hundreds of records of one patient shall not.
TOGETHER = 16
_VERSIONS = (
    select(
        RecordVersion.record_id,
        RecordVersion.version,
        RecordVersion.document_id,
        RecordVersion.document_digest,
    )
    .join(Record, Record.id == RecordVersion.record_id)
    .where(Record.patient_id == bindparam("patient"))
    .order_by(RecordVersion.record_id, RecordVersion.version)
)
_PIN = (
    update(RecordVersion)
    .where(
        RecordVersion.__table__.c.record_id == bindparam("whose"),
        RecordVersion.__table__.c.version == bindparam("which"),
    )
    .values(document_id=bindparam("id"), document_digest=bindparam("digest"))
)

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
    rows = session.execute(_VERSIONS, {"patient": rekeying.patient_id}).all()
    damaged, left = 0, []
    for at in range(0, len(rows), TOGETHER):
        part = [_Version(*row) for row in rows[at : at + TOGETHER]]
        fresh = _resealed(documents.get_many([each.document_id for each in part]), part, rekeying)
        documents.put_many({fresh_id: sealed for _old, fresh_id, sealed in fresh})
        _pin(session, fresh)
        damaged += len(part) - len(fresh)
        left += [old.document_id for old, _fresh_id, _sealed in fresh]
    return len(left), damaged, left


@dataclass(frozen=True, slots=True)
class _Version:
    record_id: str
    version: int
    document_id: str
    digest: bytes


_Fresh = tuple[_Version, str, bytes]


def _resealed(
    found: Mapping[str, bytes], part: Sequence[_Version], rekeying: Rekeying
) -> list[_Fresh]:
    """Return those that open with new ids and new bytes; what is left out is damaged."""
    fresh = []
    for each in part:
        sealed = found.get(each.document_id, b"")
        if sha256(sealed).digest() != each.digest:
            # Missing, or not what the index pins: the new pin must not make it right.
            continue
        with suppress(VaultError):
            again = rekeying.document(each.record_id, each.version, sealed)
            fresh.append((each, new_id(), again))
    return fresh


def _pin(session: Session, fresh: Sequence[_Fresh]) -> None:
    rows = [
        {
            "whose": old.record_id,
            "which": old.version,
            "id": fresh_id,
            "digest": sha256(sealed).digest(),
        }
        for old, fresh_id, sealed in fresh
    ]
    if rows:
        # On the connection: the session would take this for a bulk update by primary key.
        session.connection().execute(_PIN, rows)


def _notes(session: Session, rekeying: Rekeying, kind: Sealed) -> tuple[int, int]:
    rows = session.scalars(kind.of_patient, {"patient": rekeying.patient_id}).all()
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
