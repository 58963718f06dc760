"""Care assignments: made by ward clerks, ended by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from medportal.access.errors import AssignmentRefused
from medportal.access.models import CareAssignment, CareKind
from medportal.core.ids import new_id
from medportal.identity.models import Account, AccountStatus, Person, RoleGrant
from medportal.patients.models import Patient


@dataclass(frozen=True, slots=True)
class Carer:
    """Somebody who looks after a patient now."""

    assignment_id: str
    staff_id: str
    name: str
    kind: CareKind
    since: datetime


def assign(
    session: Session,
    *,
    patient_id: str,
    staff_id: str,
    kind: CareKind,
    assignable_roles: Sequence[str],
    treating_roles: Sequence[str],
    by: str | None,
    now: datetime,
) -> str:
    """Put a member of staff in charge of a patient; return the assignment's id.

    Raises ``AssignmentRefused``: nobody assigns themselves, staff are not put in charge of
    themselves, only roles that care for patients are assigned, only doctors as treating, and
    nobody twice.
    """
    if staff_id == by:
        raise AssignmentRefused("not-yourself")
    if staff_id == patient_id:
        raise AssignmentRefused("not-to-themselves")
    if not _holds_one_of(session, staff_id, assignable_roles):
        raise AssignmentRefused("not-care-staff")
    # Two clerks at once: the second waits here and then sees what the first assigned.
    session.execute(
        select(Patient.person_id).where(Patient.person_id == patient_id).with_for_update()
    )
    if kind is CareKind.TREATING and not _holds_one_of(session, staff_id, treating_roles):
        raise AssignmentRefused("not-a-doctor")
    if any(carer.staff_id == staff_id for carer in carers(session, patient_id, now)):
        raise AssignmentRefused("already-assigned")
    assignment = CareAssignment(
        id=new_id(),
        patient_id=patient_id,
        staff_id=staff_id,
        kind=kind,
        since=now,
        until=None,
        assigned_by=by,
    )
    session.add(assignment)
    return assignment.id


def end_assignment(
    session: Session, patient_id: str, assignment_id: str, now: datetime
) -> str | None:
    """End an assignment now; return whose it was, ``None`` if none was in force."""
    staff_id = session.scalar(
        select(CareAssignment.staff_id).where(
            CareAssignment.id == assignment_id, CareAssignment.patient_id == patient_id
        )
    )
    if staff_id is None:
        return None
    session.execute(
        update(CareAssignment)
        .where(CareAssignment.id == assignment_id, in_force(now))
        .values(until=now)
    )
    return staff_id


def carers(session: Session, patient_id: str, now: datetime) -> list[Carer]:
    """Return who looks after a patient now, by name."""
    rows = session.execute(
        select(CareAssignment, Person.name)
        .join(Person, Person.id == CareAssignment.staff_id)
        .where(CareAssignment.patient_id == patient_id, in_force(now))
        .order_by(Person.name, CareAssignment.id)
    )
    return [Carer(a.id, a.staff_id, name, CareKind(a.kind), a.since) for a, name in rows]


def assignable_staff(session: Session, roles: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (person id, name, role) of everybody who can be put in charge of patients."""
    rows = session.execute(
        select(Person.id, Person.name, RoleGrant.role)
        .join(RoleGrant, RoleGrant.person_id == Person.id)
        .join(Account, Account.person_id == Person.id)
        .where(RoleGrant.role.in_(roles), Account.status == AccountStatus.ACTIVE)
        .order_by(RoleGrant.role, Person.name)
    )
    return [(row.id, row.name, row.role) for row in rows]


def in_force(now: datetime) -> ColumnElement[bool]:
    """Return the SQL condition under which an assignment is in force."""
    return (CareAssignment.since <= now) & or_(
        CareAssignment.until.is_(None), CareAssignment.until > now
    )


def _holds_one_of(session: Session, person_id: str, roles: Sequence[str]) -> bool:
    return (
        session.scalar(
            select(RoleGrant.role)
            .where(RoleGrant.person_id == person_id, RoleGrant.role.in_(roles))
            .limit(1)
        )
        is not None
    )
