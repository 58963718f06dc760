"""Searching the log, newest first, by key and never by offset."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; what is ``None`` does not matter. ``since`` is included, ``until`` not."""

    patient: str | None = None
    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    object: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event of a page: the next page begins after it."""

    at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first, and where to go on, if anything follows."""

    events: tuple[Event, ...]
    next: Cursor | None


def find(session: Session, query: Query, *, after: Cursor | None = None, limit: int = 50) -> Page:
    """Return a page of events that match.

    Raises ``MalformedEvent`` if a stored body cannot be read.
    """
    statement = select(AuditEvent.at, AuditEvent.id, AuditEvent.body).where(*_conditions(query))
    if after is not None:
        place = tuple_(AuditEvent.at, AuditEvent.id)
        statement = statement.where(place < tuple_(after.at, after.id))
    newest_first = statement.order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
    # One row more than asked for tells whether anything follows.
    rows = session.execute(newest_first.limit(limit + 1)).all()
    shown = rows[:limit]
    more = Cursor(shown[-1].at, shown[-1].id) if shown and len(rows) > limit else None
    return Page(tuple(Event.from_bytes(row.body) for row in shown), more)


@dataclass(frozen=True, slots=True)
class Stored:
    """One event and its number in the log, if it has one yet."""

    event: Event
    sequence: int | None


def one(session: Session, event_id: str) -> Stored | None:
    """Return the event with this id, if there is one. Raises ``MalformedEvent``."""
    row = session.execute(
        select(AuditEvent.body, AuditEvent.sequence).where(AuditEvent.id == event_id)
    ).one_or_none()
    return Stored(Event.from_bytes(row.body), row.sequence) if row else None


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    equal = (
        (AuditEvent.patient, query.patient),
        (AuditEvent.actor, query.actor),
        (AuditEvent.action, query.action),
        (AuditEvent.outcome, query.outcome),
        (AuditEvent.object, query.object),
    )
    conditions: list[ColumnElement[bool]] = [
        column == str(value) for column, value in equal if value is not None
    ]
    if query.since is not None:
        conditions.append(AuditEvent.at >= query.since)
    if query.until is not None:
        conditions.append(AuditEvent.at < query.until)
    return conditions
