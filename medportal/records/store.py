"""Queries on the index of records."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Date,
    Integer,
    Label,
    Select,
    String,
    bindparam,
    case,
    func,
    select,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from medportal.access.question import RecordFacts
from medportal.db.reading import rows_of
from medportal.records.content import ClinicalRecord, RecordStatus
from medportal.records.models import Record, RecordVersion
from medportal.records.succession import Held

PAGE = 20
NOTHING: Mapping[str, Any] = MappingProxyType({})
#: A version in an address; no database has a number larger than this.
VERSION = re.compile(r"[1-9][0-9]{0,8}")


class IndexEntry(NamedTuple):
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
    query = _newest_of_patient().where(Record.id == record_id)
    return next(iter(_entries(session, query, {"patient": patient_id})), None)


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
    return find(session, patient_id, record_id)


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
    asked: dict[str, Any] = {
        "patient": patient_id,
        "category": narrowed.category,
        "origin": narrowed.origin,
        "first": narrowed.first,
        "last": narrowed.last,
        "limit": limit,
    }
    given = frozenset(name for name in _NARROWING if asked[name])
    if before is not None:
        asked["before_day"], asked["before_id"] = before
    return _entries(session, _timeline(given, before is not None), asked)


_Newest = aliased(RecordVersion)
_Any = aliased(RecordVersion)
#: What narrows a timeline, by the name of its parameter.
_NARROWING: Mapping[str, ColumnElement[bool]] = {
    "category": Record.category == bindparam("category"),
    "origin": Record.origin == bindparam("origin"),
    "first": Record.effective_on >= bindparam("first"),
    "last": Record.effective_on <= bindparam("last"),
}


@cache
def _timeline(given: frozenset[str], goes_on: bool) -> Select[*tuple[Any, ...]]:
    # Built once for each way to ask: that takes longer than the database to answer.
    query = _newest_of_patient().where(*(_NARROWING[name] for name in sorted(given)))
    if goes_on:
        seen = tuple_(bindparam("before_day", type_=Date), bindparam("before_id", type_=String))
        query = query.where(tuple_(Record.effective_on, Record.id) < seen)
    newest_first = query.order_by(Record.effective_on.desc(), Record.id.desc())
    return newest_first.limit(bindparam("limit", type_=Integer))


def _newest_of_patient() -> Select[*tuple[Any, ...]]:
    newest = RecordVersion.version == Record.current_version
    return _every_version().where(Record.patient_id == bindparam("patient"), newest)


def _versions(patient_id: str, record_id: str) -> Select[*tuple[Any, ...]]:
    return _every_version().where(Record.patient_id == patient_id, Record.id == record_id)


def _labelled(**columns: ColumnElement[Any] | InstrumentedAttribute[Any]) -> list[Label[Any]]:
    """Return columns labelled with the fields of :class:`IndexEntry` that they fill."""
    return [column.label(field) for field, column in columns.items()]


def _every_version() -> Select[*tuple[Any, ...]]:
    """Return the columns of :class:`IndexEntry` in its order, each under the field's name."""
    held = _Any.record_id == Record.id
    # Decisions about the newest version are made from the record's own row, and what is opened
    # is held against what they were made from.
    is_newest = RecordVersion.version == Record.current_version
    return (
        select(
            *_labelled(
                id=Record.id,
                patient_id=Record.patient_id,
                origin=Record.origin,
                origin_record_id=Record.origin_record_id,
                kind=Record.kind,
                category=case((is_newest, Record.category), else_=RecordVersion.category),
                effective_on=case(
                    (is_newest, Record.effective_on), else_=RecordVersion.effective_on
                ),
                local_author_id=Record.local_author_id,
                version=RecordVersion.version,
                document_id=RecordVersion.document_id,
                document_digest=RecordVersion.document_digest,
                content_digest=RecordVersion.content_digest,
                kept_since=RecordVersion.created_at,
                local_signer_id=RecordVersion.local_signer_id,
                status=case((is_newest, Record.status), else_=RecordVersion.status),
                replaces=RecordVersion.replaces,
                head=Record.head,
                newest=Record.current_version,
                newest_digest=_Newest.content_digest,
                newest_status=Record.status,
                newest_replaces=_Newest.replaces,
                lowest=select(func.min(_Any.version)).where(held).scalar_subquery(),
                highest=select(func.max(_Any.version)).where(held).scalar_subquery(),
            )
        )
        .join(RecordVersion, RecordVersion.record_id == Record.id)
        .join(
            _Newest,
            (_Newest.record_id == Record.id) & (_Newest.version == Record.current_version),
        )
    )


def _entries(
    session: Session, query: Select[*tuple[Any, ...]], asked: Mapping[str, Any] = NOTHING
) -> list[IndexEntry]:
    # By position, since this is how pages get their lists; the labels were compared at import.
    return [IndexEntry._make(row) for row in rows_of(session, query, asked)]


def _require_its_columns() -> None:
    """Raise ``TypeError`` if the index would be read into other fields than those it fills."""
    asked = tuple(column.key for column in _every_version().selected_columns)
    wanted = IndexEntry._fields
    if asked != wanted:
        wrong = next(pair for pair in zip_longest(asked, wanted) if pair[0] != pair[1])
        raise TypeError(f"the columns of the index are not the fields of IndexEntry: {wrong}")


_require_its_columns()
