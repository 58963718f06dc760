"""Queries on the index of records."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from medportal.access.question import RecordFacts
from medportal.records.models import Record, RecordVersion

PAGE = 20


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One record as the index knows it, with its current version."""

    id: str
    patient_id: str
    origin: str
    origin_record_id: str
    kind: str
    category: str
    effective_on: date
    local_author_id: str | None
    version: int
    document_id: str
    document_digest: bytes
    content_digest: bytes
    kept_since: datetime


def record_facts(session: Session, patient_id: str, record_id: str) -> RecordFacts:
    """Return what a decision needs about a record of this patient, existing or not."""
    row = session.execute(
        select(Record.local_author_id, Record.category, Record.origin).where(
            Record.id == record_id, Record.patient_id == patient_id
        )
    ).one_or_none()
    if row is None:
        return RecordFacts(record_id, exists=False)
    return RecordFacts(record_id, True, row.local_author_id, row.category, row.origin)


def exists(session: Session, record_id: str) -> bool:
    """Tell whether a record has this id here."""
    return session.get(Record, record_id) is not None


def is_filed(session: Session, origin: str, origin_record_id: str) -> bool:
    """Tell whether a record of that origin is here already."""
    return (
        session.scalar(
            select(Record.id).where(
                Record.origin == origin, Record.origin_record_id == origin_record_id
            )
        )
        is not None
    )


def facts_of(entry: IndexEntry) -> RecordFacts:
    """Return what a decision needs about an entry of the index."""
    return RecordFacts(entry.id, True, entry.local_author_id, entry.category, entry.origin)


def find(session: Session, patient_id: str, record_id: str) -> IndexEntry | None:
    """Return the index entry of one record of one patient."""
    return next(iter(_entries(session, _query(patient_id).where(Record.id == record_id))), None)


@dataclass(frozen=True, slots=True)
class Brief:
    """As much of a record as its name on a list needs, and a decision about it."""

    id: str
    category: str
    effective_on: date
    local_author_id: str | None


def briefs(session: Session, patient_id: str, ids: Iterable[str]) -> list[Brief]:
    """Return those of the records that are this patient's."""
    rows = session.execute(
        select(Record.id, Record.category, Record.effective_on, Record.local_author_id).where(
            Record.id.in_(sorted(set(ids))), Record.patient_id == patient_id
        )
    )
    return [Brief(*row) for row in rows]


def timeline(
    session: Session,
    patient_id: str,
    *,
    before: tuple[date, str] | None = None,
    limit: int = PAGE,
) -> list[IndexEntry]:
    """Return a patient's records, newest first; ``before`` is (date, id) of the last one seen."""
    query = _query(patient_id).order_by(Record.effective_on.desc(), Record.id.desc())
    if before is not None:
        query = query.where(tuple_(Record.effective_on, Record.id) < before)
    return _entries(session, query.limit(limit))


def _query(patient_id: str) -> Select[Record, RecordVersion]:
    return (
        select(Record, RecordVersion)
        .join(
            RecordVersion,
            (RecordVersion.record_id == Record.id)
            & (RecordVersion.version == Record.current_version),
        )
        .where(Record.patient_id == patient_id)
    )


def _entries(session: Session, query: Select[Record, RecordVersion]) -> list[IndexEntry]:
    return [
        IndexEntry(
            id=record.id,
            patient_id=record.patient_id,
            origin=record.origin,
            origin_record_id=record.origin_record_id,
            kind=record.kind,
            category=record.category,
            effective_on=record.effective_on,
            local_author_id=record.local_author_id,
            version=version.version,
            document_id=version.document_id,
            document_digest=version.document_digest,
            content_digest=version.content_digest,
            kept_since=version.created_at,
        )
        for record, version in session.execute(query)
    ]
