"""The access log of one patient: events about them, and what each of them rested on.

Found by the index on patient and time alone, whatever the log holds about others; paged by
key. A page begins behind the id of an event of this patient, and of nobody else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.orm import Session

from medportal.access.models import BrokenGlass, CareAssignment, PatientRule
from medportal.audit.events import Event
from medportal.audit.models import AuditEvent

PAGE = 25
#: Where an event stands in the log: when, and its id.
Place = tuple[datetime, str]
#: How many events a download reads at a time.
BATCH = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are wanted; what is empty does not matter.

    ``actor`` is who did it, ``but`` who did not; ``since`` is included, ``until`` not.
    """

    actions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    actor: str = ""
    but: str = ""
    since: datetime | None = None
    until: datetime | None = None


class BasisKind(StrEnum):
    """What an answer can rest on."""

    ASSIGNMENT = "assignment"
    RULE = "rule"
    GLASS = "glass"


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer rested on: from when until when, by whom, for which ward, why."""

    id: str
    kind: BasisKind
    since: datetime
    until: datetime | None
    by: str | None = None
    ward: str = ""
    reason: str = ""


def events_of(
    session: Session,
    patient_id: str,
    wanted: Wanted,
    *,
    after: Place | None = None,
    limit: int = PAGE,
) -> list[Event]:
    """Return events about a patient, newest first, from behind ``after``."""
    bodies = session.scalars(newest(patient_id, wanted, after=after, limit=limit))
    return [Event.from_bytes(body) for body in bodies]


def newest(
    patient_id: str, wanted: Wanted, *, after: Place | None = None, limit: int = PAGE
) -> Select[bytes]:
    """Return the query of :func:`events_of`; benches and tests look at how it is carried out."""
    query = select(AuditEvent.body).where(AuditEvent.patient == patient_id, *_conditions(wanted))
    if after is not None:
        query = query.where(tuple_(AuditEvent.at, AuditEvent.id) < tuple_(*after))
    return query.order_by(AuditEvent.at.desc(), AuditEvent.id.desc()).limit(limit)


def cursor_of(session: Session, patient_id: str, event_id: str) -> Place | None:
    """Return where an event of this patient stands in the log; ``None`` for any other id."""
    at = session.scalar(
        select(AuditEvent.at).where(AuditEvent.id == event_id, AuditEvent.patient == patient_id)
    )
    return (at, event_id) if at is not None else None


def find_event(session: Session, patient_id: str, event_id: str) -> Event | None:
    """Return one event about this patient."""
    body = session.scalar(
        select(AuditEvent.body).where(AuditEvent.id == event_id, AuditEvent.patient == patient_id)
    )
    return Event.from_bytes(body) if body is not None else None


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    # As expressions, these columns cannot lure a database into another index than that of the
    # patient: a doctor has a hundred times the events of a patient.
    actor = func.coalesce(AuditEvent.actor, "")
    found: list[ColumnElement[bool]] = []
    if wanted.actions:
        found.append(func.coalesce(AuditEvent.action, "").in_(wanted.actions))
    if wanted.outcomes:
        found.append(AuditEvent.outcome.in_(wanted.outcomes))
    if wanted.actor:
        found.append(actor == wanted.actor)
    if wanted.but:
        found.append(actor != wanted.but)
    if wanted.since is not None:
        found.append(AuditEvent.at >= wanted.since)
    if wanted.until is not None:
        found.append(AuditEvent.at < wanted.until)
    return found


def bases_of(session: Session, patient_id: str, events: Iterable[Event]) -> dict[str, Basis]:
    """Return by its id what the events rested on, as far as it is this patient's."""
    ids = sorted({str(e.details["basis"]) for e in events if "basis" in e.details})
    if not ids:
        return {}
    found = (
        *_assignments(session, patient_id, ids),
        *_rules(session, patient_id, ids),
        *_glass(session, patient_id, ids),
    )
    return {basis.id: basis for basis in found}


def _assignments(session: Session, patient_id: str, ids: Sequence[str]) -> list[Basis]:
    rows = session.scalars(
        select(CareAssignment).where(
            CareAssignment.id.in_(ids), CareAssignment.patient_id == patient_id
        )
    )
    return [
        Basis(a.id, BasisKind.ASSIGNMENT, a.since, a.until, a.assigned_by, a.ward or "")
        for a in rows
    ]


def _rules(session: Session, patient_id: str, ids: Sequence[str]) -> list[Basis]:
    rows = session.scalars(
        select(PatientRule).where(PatientRule.id.in_(ids), PatientRule.patient_id == patient_id)
    )
    return [Basis(r.id, BasisKind.RULE, r.since, r.ended_at or r.until, r.made_by) for r in rows]


def _glass(session: Session, patient_id: str, ids: Sequence[str]) -> list[Basis]:
    rows = session.scalars(
        select(BrokenGlass).where(BrokenGlass.id.in_(ids), BrokenGlass.patient_id == patient_id)
    )
    return [
        Basis(g.id, BasisKind.GLASS, g.since, g.until, g.staff_id, reason=g.reason) for g in rows
    ]
