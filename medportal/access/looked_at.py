"""Whom did this account look at? For the report of a breach.

Counted from the audit log, patient by patient, found by the index on actor and time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, case, distinct, func, select, tuple_
from sqlalchemy.orm import Session

from medportal.audit.events import Action, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.ids import is_id
from medportal.identity.models import Person
from medportal.patients.models import Patient

PAGE = 25
#: How many rows of a download are held in memory.
BATCH = 500
#: What shows the content of a record, or hands out a copy of it.
CONTENT = (Action.RECORD_READ, Action.RECORD_EXPORTED)


@dataclass(frozen=True, slots=True)
class Search:
    """Whose account, and between which instants; ``since`` is included, ``until`` not."""

    person_id: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one account did about one patient; ``records`` are different ones that were read."""

    patient_id: str
    name: str
    done: int
    records: int
    refused: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Totals:
    """What one account did about all patients together.

    ``lists`` are lists of patients that were opened: who stood on them is not noted.
    ``nobody`` are tries at patients who do not exist.
    """

    patients: int
    events: int
    lists: int
    nobody: int


def seen(
    session: Session, search: Search, *, after: tuple[str, str] | None = None, limit: int = PAGE
) -> list[Seen]:
    """Return the patients whom an account looked at, by name, from behind (name, id)."""
    query = _by_patient(search)
    if after is not None:
        query = query.where(tuple_(Person.name, Person.id) > tuple_(*after))
    return [Seen(*row) for row in session.execute(query.limit(limit))]


def all_seen(session: Session, search: Search) -> Iterator[Seen]:
    """Give all of them, a few at a time."""
    rows = session.execute(_by_patient(search).execution_options(yield_per=BATCH))
    return (Seen(*row) for row in rows)


def everybody(session: Session, search: Search) -> list[str]:
    """Return the ids of all of them."""
    return list(session.scalars(_by_patient(search).with_only_columns(Person.id)))


def patients_among(session: Session, ids: Iterable[str]) -> list[str]:
    """Return which of these ids are patients'."""
    wanted = sorted({each for each in ids if is_id(each)})
    found = select(Patient.person_id).where(Patient.person_id.in_(wanted))
    return sorted(session.scalars(found))


def key_of(session: Session, search: Search, patient_id: str) -> tuple[str, str] | None:
    """Return where a patient stands on the list; ``None`` for one who is not on it."""
    on_it = select(AuditEvent.id).where(*_of(search), AuditEvent.patient == patient_id).limit(1)
    if session.scalar(on_it) is None:
        return None
    name = session.scalar(select(Person.name).where(Person.id == patient_id))
    return (name, patient_id) if name is not None else None


def totals(session: Session, search: Search) -> Totals:
    """Return what an account did about all patients together."""
    known = select(
        func.count(distinct(AuditEvent.patient)).filter(Person.id.is_not(None)),
        func.count(Person.id),
        func.count().filter(AuditEvent.action == Action.PATIENTS_LISTED),
        func.count(AuditEvent.patient).filter(Person.id.is_(None)),
    )
    query = known.select_from(AuditEvent).outerjoin(Person, Person.id == AuditEvent.patient)
    return Totals(*session.execute(query.where(*_of(search))).one())


def _by_patient(search: Search) -> Select[str, str, int, int, int, datetime, datetime]:
    allowed = AuditEvent.outcome == Outcome.ALLOWED
    read = case((allowed & AuditEvent.action.in_(CONTENT), AuditEvent.object))
    return (
        select(
            Person.id,
            Person.name,
            func.count().filter(allowed),
            func.count(distinct(read)),
            func.count().filter(AuditEvent.outcome == Outcome.DENIED),
            func.min(AuditEvent.at),
            func.max(AuditEvent.at),
        )
        .select_from(AuditEvent)
        .join(Person, Person.id == AuditEvent.patient)
        .where(*_of(search))
        .group_by(Person.id, Person.name)
        .order_by(Person.name, Person.id)
    )


def _of(search: Search) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [AuditEvent.actor == search.person_id]
    if search.since is not None:
        found.append(AuditEvent.at >= search.since)
    if search.until is not None:
        found.append(AuditEvent.at < search.until)
    return found
