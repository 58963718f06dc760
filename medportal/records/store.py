"""Queries on the index of records."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session, aliased

from medportal.access.question import RecordFacts
from medportal.records.content import ClinicalRecord, RecordStatus
from medportal.records.models import Record, RecordVersion
from medportal.records.succession import Held

PAGE = 20
#: A version in an address; no database has a number larger than this.
VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One version of one record as the index knows it.

    ``is_newest`` tells whether it is what the record says now. ``replaces`` is the digest of the
    version before, if there was one. ``local_author_id`` wrote the first version, which lets one
    read; ``local_signer_id`` signed this one. The rest is for :mod:`medportal.records.head`: what
    the index says of the newest version, and the lowest and the highest that are held.
    """

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
    local_signer_id: str | None
    status: str
    replaces: bytes | None
    head: bytes | None
    newest: int
    newest_digest: bytes
    newest_status: str
    newest_replaces: bytes | None
    lowest: int
    highest: int

    @property
    def is_newest(self) -> bool:
        """Tell whether this version is what the record says now."""
        return self.version == self.newest

    @property
    def is_taken_back_since(self) -> bool:
        """Tell whether this is what a record said before it was taken back."""
        return not self.is_newest and self.newest_status == RecordStatus.ENTERED_IN_ERROR

    @property
    def is_taken_back(self) -> bool:
        """Tell whether the record should never have been, and says nothing any more."""
        return self.status == RecordStatus.ENTERED_IN_ERROR


def record_facts(
    session: Session, patient_id: str, record_id: str, version: str | None = None
) -> RecordFacts:
    """Return what a decision needs about a record of this patient, existing or not.

    ``version`` is what an address says of it; without one, the newest is asked about.
    """
    if version is not None:
        return _version_facts(session, patient_id, record_id, version)
    row = session.execute(
        select(Record.local_author_id, Record.category, Record.origin).where(
            Record.id == record_id, Record.patient_id == patient_id
        )
    ).one_or_none()
    if row is None:
        return RecordFacts(record_id, exists=False)
    return RecordFacts(record_id, True, row.local_author_id, row.category, row.origin)


def _version_facts(session: Session, patient_id: str, record_id: str, version: str) -> RecordFacts:
    if VERSION.fullmatch(version) is None:
        return RecordFacts(record_id, exists=False)
    found = find_version(session, patient_id, record_id, int(version))
    return RecordFacts(record_id, exists=False) if found is None else facts_of(found)


def exists(session: Session, record_id: str) -> bool:
    """Tell whether a record has this id here."""
    return session.get(Record, record_id) is not None


def held(session: Session, origin: str, record: ClinicalRecord) -> Held | None:
    """Return what is held of a record of a partner beside one version of it, and lock it.

    ``None`` if no version of it is here.
    """
    row = session.execute(
        select(Record.id, Record.patient_id, Record.kind)
        .where(Record.origin == origin, Record.origin_record_id == record.id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return None
    beside = {
        version.version: version
        for version in session.execute(
            select(
                RecordVersion.version, RecordVersion.content_digest, RecordVersion.replaces
            ).where(
                RecordVersion.record_id == row.id,
                RecordVersion.version.between(record.version - 1, record.version + 1),
            )
        )
    }
    before, same, after = (beside.get(record.version + step) for step in (-1, 0, 1))
    return Held(
        id=row.id,
        patient_id=row.patient_id,
        kind=row.kind,
        before=before.content_digest if before else None,
        replaced_after=after.replaces if after else None,
        is_here=same is not None,
        is_beside=before is not None or after is not None,
    )


def facts_of(entry: IndexEntry) -> RecordFacts:
    """Return what a decision needs about an entry of the index."""
    return RecordFacts(entry.id, True, entry.local_author_id, entry.category, entry.origin)


def find(session: Session, patient_id: str, record_id: str) -> IndexEntry | None:
    """Return the index entry of one record of one patient: its newest version."""
    return next(iter(_entries(session, _query(patient_id).where(Record.id == record_id))), None)


def find_version(
    session: Session, patient_id: str, record_id: str, version: int
) -> IndexEntry | None:
    """Return the index entry of one version of one record of one patient."""
    query = _versions(patient_id, record_id).where(RecordVersion.version == version)
    return next(iter(_entries(session, query)), None)


def versions(
    session: Session,
    patient_id: str,
    record_id: str,
    *,
    before: int | None = None,
    limit: int = PAGE,
) -> list[IndexEntry]:
    """Return the versions of one record, newest first; ``before`` is the last one seen."""
    query = _versions(patient_id, record_id)
    if before is not None:
        query = query.where(RecordVersion.version < before)
    return _entries(session, query.order_by(RecordVersion.version.desc()).limit(limit))


def lock(session: Session, patient_id: str, record_id: str) -> IndexEntry | None:
    """Return the newest version of a record, which nobody else changes until the commit."""
    # The row is locked by itself first: what is read after that is what others committed.
    locked = session.scalar(
        select(Record.id)
        .where(Record.id == record_id, Record.patient_id == patient_id)
        .with_for_update()
    )
    if locked is None:
        return None
    # What this transaction read before it waited may be old.
    query = _query(patient_id).where(Record.id == record_id)
    fresh = query.execution_options(populate_existing=True)
    return next(iter(_entries(session, fresh)), None)


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


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What a timeline is narrowed to; days are included, empty texts and ``None`` do not narrow."""

    category: str = ""
    origin: str = ""
    first: date | None = None
    last: date | None = None


NOT_NARROWED = Narrowed()


def timeline(
    session: Session,
    patient_id: str,
    *,
    before: tuple[date, str] | None = None,
    limit: int = PAGE,
    narrowed: Narrowed = NOT_NARROWED,
) -> list[IndexEntry]:
    """Return a patient's records, newest first; ``before`` is (date, id) of the last one seen."""
    query = _narrow(_query(patient_id), narrowed)
    query = query.order_by(Record.effective_on.desc(), Record.id.desc())
    if before is not None:
        query = query.where(tuple_(Record.effective_on, Record.id) < before)
    return _entries(session, query.limit(limit))


#: A version of the index, its record, what the newest one says, and the lowest and highest held.
_Row = tuple[Record, RecordVersion, RecordVersion, int, int]
_Newest = aliased(RecordVersion)
_Any = aliased(RecordVersion)


def _narrow(query: Select[*_Row], narrowed: Narrowed) -> Select[*_Row]:
    if narrowed.category:
        query = query.where(Record.category == narrowed.category)
    if narrowed.origin:
        query = query.where(Record.origin == narrowed.origin)
    if narrowed.first is not None:
        query = query.where(Record.effective_on >= narrowed.first)
    if narrowed.last is not None:
        query = query.where(Record.effective_on <= narrowed.last)
    return query


def _query(patient_id: str) -> Select[*_Row]:
    newest = RecordVersion.version == Record.current_version
    return _every_version().where(Record.patient_id == patient_id, newest)


def _versions(patient_id: str, record_id: str) -> Select[*_Row]:
    return _every_version().where(Record.patient_id == patient_id, Record.id == record_id)


def _every_version() -> Select[*_Row]:
    held = _Any.record_id == Record.id
    return (
        select(
            Record,
            RecordVersion,
            _Newest,
            select(func.min(_Any.version)).where(held).scalar_subquery(),
            select(func.max(_Any.version)).where(held).scalar_subquery(),
        )
        .join(RecordVersion, RecordVersion.record_id == Record.id)
        .join(
            _Newest,
            (_Newest.record_id == Record.id) & (_Newest.version == Record.current_version),
        )
    )


def _entries(session: Session, query: Select[*_Row]) -> list[IndexEntry]:
    return [_entry(*row) for row in session.execute(query)]


def _entry(
    record: Record, version: RecordVersion, newest: RecordVersion, lowest: int, highest: int
) -> IndexEntry:
    # Decisions about the newest version are made from the record's own row, and what is opened
    # is held against what they were made from.
    says = record if version.version == record.current_version else version
    return IndexEntry(
        id=record.id,
        patient_id=record.patient_id,
        origin=record.origin,
        origin_record_id=record.origin_record_id,
        kind=record.kind,
        category=says.category,
        effective_on=says.effective_on,
        local_author_id=record.local_author_id,
        version=version.version,
        document_id=version.document_id,
        document_digest=version.document_digest,
        content_digest=version.content_digest,
        kept_since=version.created_at,
        local_signer_id=version.local_signer_id,
        status=says.status,
        replaces=version.replaces,
        head=record.head,
        newest=record.current_version,
        newest_digest=newest.content_digest,
        newest_status=record.status,
        newest_replaces=newest.replaces,
        lowest=lowest,
        highest=highest,
    )
