"""Care assignments: of a person or of the team of a ward, from and until; made by ward clerks.

An assignment opens a patient's record, so nobody assigns themselves, neither by name nor by
the team that they are in. Access through an assignment ends at the moment of its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from medportal.access.errors import AssignmentRefused
from medportal.access.models import CareAssignment, CareKind
from medportal.access.wards import is_member
from medportal.core.ids import new_id
from medportal.identity.models import Account, AccountStatus, Person, RoleGrant
from medportal.identity.notices import notify
from medportal.identity.people import names_of, roles_of
from medportal.mail.kinds import MailKind
from medportal.patients.models import Patient


@dataclass(frozen=True, slots=True)
class Carer:
    """Somebody who looks after a patient, or the team of a ward that does.

    Of a person ``ward`` is empty; of a team ``staff_id`` and ``name`` are. ``until`` is
    ``None`` for an assignment without an end.
    """

    assignment_id: str
    staff_id: str
    name: str
    kind: CareKind
    since: datetime
    until: datetime | None = None
    ward: str = ""
    opens_sensitive: bool = False

    def is_to_come(self, now: datetime) -> bool:
        """Tell whether it has not begun."""
        return now < self.since


@dataclass(frozen=True, slots=True)
class Ended:
    """An assignment that was ended: whose it was, a person's or a ward's team."""

    assignment_id: str
    staff_id: str | None
    ward: str | None


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
    since: datetime | None = None,
    until: datetime | None = None,
    opens_sensitive: bool = False,
) -> str:
    """Put a member of staff in charge of a patient; return the assignment's id.

    It counts from ``since`` (from now, if ``None``) until ``until``. Raises
    ``AssignmentRefused``: nobody assigns themselves, staff are not put in charge of
    themselves, only roles that care for patients are assigned, only doctors as treating,
    nobody twice at one time, and nothing that has begun or ended before now.
    """
    if staff_id == by:
        raise AssignmentRefused("not-yourself")
    if staff_id == patient_id:
        raise AssignmentRefused("not-to-themselves")
    held = roles_of(session, staff_id)
    if held.isdisjoint(assignable_roles):
        raise AssignmentRefused("not-care-staff")
    _lock(session, patient_id)
    if kind is CareKind.TREATING and held.isdisjoint(treating_roles):
        raise AssignmentRefused("not-a-doctor")
    begin = _begin(now, since, until)
    _refuse_twice(session, patient_id, CareAssignment.staff_id == staff_id, begin, until)
    return _add(
        session,
        CareAssignment(
            id=new_id(),
            patient_id=patient_id,
            staff_id=staff_id,
            kind=kind,
            opens_sensitive=opens_sensitive,
            since=begin,
            until=until,
            assigned_by=by,
        ),
        now,
    )


def assign_team(
    session: Session,
    *,
    patient_id: str,
    ward: str,
    by: str | None,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    opens_sensitive: bool = False,
) -> str:
    """Put the team of a ward in charge of a patient; return the assignment's id.

    Whoever is in the team at a moment looks after the patient then. Raises
    ``AssignmentRefused``: nobody assigns a team that they are in, or will be, no team twice at
    one time, and nothing that has begun or ended before now.
    """
    if by is not None and is_member(session, ward, by, now):
        raise AssignmentRefused("your-own-team")
    _lock(session, patient_id)
    begin = _begin(now, since, until)
    _refuse_twice(session, patient_id, CareAssignment.ward == ward, begin, until)
    return _add(
        session,
        CareAssignment(
            id=new_id(),
            patient_id=patient_id,
            ward=ward,
            kind=CareKind.TEAM,
            opens_sensitive=opens_sensitive,
            since=begin,
            until=until,
            assigned_by=by,
        ),
        now,
    )


def _add(session: Session, assignment: CareAssignment, now: datetime) -> str:
    session.add(assignment)
    if assignment.opens_sensitive:
        # What the patient would hardly expect, they hear of at once.
        notify(session, assignment.patient_id, MailKind.CARE_CHANGED, now)
    return assignment.id


def _lock(session: Session, patient_id: str) -> None:
    """Let two clerks at once come one after the other: the second sees what the first did."""
    session.execute(
        select(Patient.person_id).where(Patient.person_id == patient_id).with_for_update()
    )


def _begin(now: datetime, since: datetime | None, until: datetime | None) -> datetime:
    begin = since or now
    if begin < now:
        raise AssignmentRefused("begins-in-the-past")
    if until is not None and until <= begin:
        raise AssignmentRefused("ends-before-it-begins")
    return begin


def _refuse_twice(
    session: Session,
    patient_id: str,
    whose: ColumnElement[bool],
    begin: datetime,
    until: datetime | None,
) -> None:
    """Refuse a second assignment at one time: to end one would leave the other in force."""
    overlaps = or_(CareAssignment.until.is_(None), CareAssignment.until > begin)
    if until is not None:
        overlaps = overlaps & (CareAssignment.since < until)
    # One that was ended before it began never was.
    real = or_(CareAssignment.until.is_(None), CareAssignment.until > CareAssignment.since)
    found = session.scalar(
        select(CareAssignment.id)
        .where(CareAssignment.patient_id == patient_id, whose, overlaps, real)
        .limit(1)
    )
    if found is not None:
        raise AssignmentRefused("already-assigned")


def end_assignment(
    session: Session, patient_id: str, assignment_id: str, now: datetime
) -> Ended | None:
    """End an assignment now, or before it begins; return it, ``None`` if there is none."""
    found = session.execute(
        select(CareAssignment.staff_id, CareAssignment.ward).where(
            CareAssignment.id == assignment_id, CareAssignment.patient_id == patient_id
        )
    ).one_or_none()
    if found is None:
        return None
    _end(session, CareAssignment.id == assignment_id, now)
    return Ended(assignment_id, found.staff_id, found.ward)


def end_all(session: Session, patient_id: str, now: datetime) -> list[Ended]:
    """End every assignment of a patient, also those to come; return them."""
    return _end(session, CareAssignment.patient_id == patient_id, now)


def end_team(session: Session, patient_id: str, ward: str, now: datetime) -> list[Ended]:
    """End the assignments of a ward's team to a patient; return them."""
    mine = (CareAssignment.patient_id == patient_id) & (CareAssignment.ward == ward)
    return _end(session, mine, now)


def _end(session: Session, which: ColumnElement[bool], now: datetime) -> list[Ended]:
    """End what is in force or to come. What has not begun ends where it would have begun."""
    ended: list[Ended] = []
    for to_come in (True, False):
        begun = CareAssignment.since > now if to_come else CareAssignment.since <= now
        end = CareAssignment.since if to_come else now
        open_ = or_(CareAssignment.until.is_(None), CareAssignment.until > end)
        rows = session.execute(
            update(CareAssignment)
            .where(which, begun, open_)
            .values(until=end)
            .returning(CareAssignment.id, CareAssignment.staff_id, CareAssignment.ward)
            .execution_options(synchronize_session="fetch")
        )
        ended += [Ended(row.id, row.staff_id, row.ward) for row in rows]
    return sorted(ended, key=lambda one: one.assignment_id)


def carers(session: Session, patient_id: str, now: datetime) -> list[Carer]:
    """Return who looks after a patient now, by name; the teams of wards after the people."""
    return _carers(session, _of(patient_id).where(in_force(now)))


def planned(session: Session, patient_id: str, now: datetime) -> list[Carer]:
    """Return who will look after a patient later, in the order in which that begins."""
    ahead = or_(CareAssignment.until.is_(None), CareAssignment.until > CareAssignment.since)
    found = _carers(session, _of(patient_id).where(CareAssignment.since > now, ahead))
    return sorted(found, key=lambda carer: carer.since)


def _of(patient_id: str) -> Select[CareAssignment]:
    return select(CareAssignment).where(CareAssignment.patient_id == patient_id)


def _carers(session: Session, query: Select[CareAssignment]) -> list[Carer]:
    rows = session.scalars(query).all()
    names = names_of(session, [row.staff_id for row in rows if row.staff_id])
    found = [
        Carer(
            row.id,
            row.staff_id or "",
            names.get(row.staff_id or "", ""),
            CareKind(row.kind),
            row.since,
            row.until,
            row.ward or "",
            row.opens_sensitive,
        )
        for row in rows
    ]
    return sorted(found, key=lambda c: (bool(c.ward), c.ward, c.name, c.assignment_id))


def patients_of(staff_id: str, departments: Sequence[str], now: datetime) -> Select[str]:
    """Return the query of the patients whom somebody looks after now, through a team or not.

    Nobody looks after themselves. ``departments`` are the wards in whose teams they are.
    """
    whose = CareAssignment.staff_id == staff_id
    if departments:
        whose = whose | CareAssignment.ward.in_(sorted(departments))
    return select(CareAssignment.patient_id).where(
        whose, CareAssignment.patient_id != staff_id, in_force(now)
    )


def assignable_staff(session: Session, roles: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (person id, name, role) of everybody who can be put in charge of patients.

    Whoever has several such roles is there once, in the one that ``roles`` names first.
    """
    rows = session.execute(
        select(Person.id, Person.name, RoleGrant.role)
        .join(RoleGrant, RoleGrant.person_id == Person.id)
        .join(Account, Account.person_id == Person.id)
        .where(RoleGrant.role.in_(roles), Account.status == AccountStatus.ACTIVE)
        .order_by(RoleGrant.role, Person.name, Person.id)
    ).all()
    first: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: roles.index(row.role)):
        first.setdefault(row.id, row.role)
    return [(row.id, row.name, row.role) for row in rows if first[row.id] == row.role]


def counts_by_ward(session: Session) -> dict[str, int]:
    """Return how many patients lie in each ward."""
    rows = session.execute(
        select(Patient.ward, func.count()).where(Patient.ward != "").group_by(Patient.ward)
    )
    return {row[0]: row[1] for row in rows}


def in_force(now: datetime) -> ColumnElement[bool]:
    """Return the SQL condition under which an assignment is in force."""
    return (CareAssignment.since <= now) & or_(
        CareAssignment.until.is_(None), CareAssignment.until > now
    )
