"""Whom a patient's rule may name: those the patient has to do with, or knows by name.

Nobody can read a list of the staff here: offered are the care team, the teams of the wards that
look after the patient, whoever looked or tried to, and who represents the patient. Others are
found by their exact name.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, case, func, or_, select
from sqlalchemy.orm import Session

from medportal.access.models import CareAssignment, Representative, WardTeamMember
from medportal.audit.events import Action
from medportal.audit.models import AuditEvent
from medportal.core.ids import is_id
from medportal.core.permissions import Permission, Reach
from medportal.identity.models import Account, AccountStatus, Person, RoleGrant
from medportal.identity.names import folded
from medportal.tenancy.tenant import REPRESENTATIVE_ROLE, Tenant

#: How many people are offered; whoever is not among them can be named exactly.
MOST_OFFERED = 200
#: So many of the patient's newest events are looked through for who looked: a log of years
#: costs no more than one of days.
NEWEST_EVENTS = 2_000
#: How many names one person may try in an hour.
TRIES = 20
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class StaffMember:
    """Somebody who works here or represents a patient, and one of the roles in which they do."""

    person_id: str
    name: str
    role: str


def seeing_roles(tenant: Tenant) -> list[str]:
    """Return the roles of staff that see patients at all, in the order of the catalogue."""
    return [
        role.id
        for role in tenant.roles.values()
        if role.grants.get(Permission.PATIENT_SEE) in {Reach.ANY, Reach.ASSIGNED}
    ]


def told_roles(tenant: Tenant) -> list[str]:
    """Return the roles by which people are told to a patient."""
    return [*seeing_roles(tenant), REPRESENTATIVE_ROLE]


def known_people(
    session: Session, tenant: Tenant, patient_id: str, now: datetime
) -> list[StaffMember]:
    """Return those whom a patient has to do with, at most ``MOST_OFFERED``.

    The care team comes first, by name; then who looked, the newest first; then who was in
    charge once.
    """
    now_in_care = _in_care(session, tenant, patient_id, now)
    ids = {one.person_id for one in now_in_care}
    others = [*_who_looked(session, patient_id), *_once_assigned(session, patient_id)]
    besides = [one for one in dict.fromkeys(others) if one not in ids]
    # Among who looked there are people of whom a rule can say nothing; a few more are tried.
    found = {one.person_id: one for one in people(session, tenant, besides[: 2 * MOST_OFFERED])}
    ordered = [found[one] for one in besides if one in found]
    return [*now_in_care, *ordered][:MOST_OFFERED]


def _in_care(session: Session, tenant: Tenant, patient_id: str, now: datetime) -> list[StaffMember]:
    """Return who is in charge of a patient now or soon, and who stands for them."""
    assigned = select(CareAssignment.staff_id).where(
        CareAssignment.patient_id == patient_id,
        CareAssignment.staff_id.is_not(None),
        or_(CareAssignment.until.is_(None), CareAssignment.until > now),
    )
    wards = select(CareAssignment.ward).where(
        CareAssignment.patient_id == patient_id,
        CareAssignment.ward.is_not(None),
        or_(CareAssignment.until.is_(None), CareAssignment.until > now),
    )
    team = select(WardTeamMember.staff_id).where(
        WardTeamMember.ward.in_(wards),
        or_(WardTeamMember.until.is_(None), WardTeamMember.until > now),
    )
    stands_for = select(Representative.person_id).where(
        Representative.patient_id == patient_id,
        Representative.approved_by.is_not(None),
        or_(Representative.until.is_(None), Representative.until > now),
    )
    of_theirs = or_(*(Person.id.in_(ids) for ids in (assigned, team, stands_for)))
    return _staff(session, tenant, of_theirs & (Person.id != patient_id), MOST_OFFERED)


def _who_looked(session: Session, patient_id: str) -> list[str]:
    """Return whom the patient's newest events are of, the newest first."""
    actors = session.scalars(newest_actors(patient_id))
    return [one for one in dict.fromkeys(actors) if one and is_id(one) and one != patient_id]


def newest_actors(patient_id: str) -> Select[str | None]:
    """Return the query of who looked; tests look at how it is carried out."""
    return (
        select(AuditEvent.actor)
        .where(AuditEvent.patient == patient_id)
        .order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
        .limit(NEWEST_EVENTS)
    )


def _once_assigned(session: Session, patient_id: str) -> list[str]:
    rows = session.scalars(
        select(CareAssignment.staff_id)
        .where(CareAssignment.patient_id == patient_id, CareAssignment.staff_id.is_not(None))
        .order_by(CareAssignment.since.desc(), CareAssignment.id)
        .limit(MOST_OFFERED)
    )
    return [staff_id for staff_id in rows if staff_id]


def people(session: Session, tenant: Tenant, person_ids: Collection[str]) -> list[StaffMember]:
    """Return those of some people who work here, or represent somebody, by name."""
    return _staff(session, tenant, Person.id.in_(sorted(person_ids)), len(person_ids))


def named_exactly(
    session: Session, tenant: Tenant, name: str, not_these: Collection[str]
) -> list[StaffMember]:
    """Return the staff whose whole name is this; case, accents and punctuation do not count.

    ``not_these`` are the patient and who asks. Nobody is found by a part of a name.
    """
    wanted = folded(name)
    if not any(character.isalpha() for character in wanted):
        return []
    rows = session.execute(
        select(Person.id, Person.name)
        .where(
            Person.id.in_(
                select(RoleGrant.person_id).where(RoleGrant.role.in_(seeing_roles(tenant)))
            ),
            Person.id.not_in(sorted(not_these)),
        )
        .order_by(Person.name, Person.id)
    )
    found = [row.id for row in rows if folded(row.name) == wanted]
    return people(session, tenant, found) if found else []


def may_try_a_name(session: Session, person_id: str, now: datetime) -> bool:
    """Tell whether somebody has tries left: each is in the audit log."""
    query = select(func.count()).where(
        AuditEvent.actor == person_id,
        AuditEvent.action == Action.PERSON_SOUGHT.value,
        AuditEvent.at > now - _HOUR,
    )
    return (session.scalar(query) or 0) < TRIES


def _staff(
    session: Session, tenant: Tenant, who: ColumnElement[bool], limit: int
) -> list[StaffMember]:
    """Return at most ``limit`` people, by name, each with the first of their roles."""
    roles = told_roles(tenant)
    order = case({role: place for place, role in enumerate(roles)}, value=RoleGrant.role)
    rows = session.execute(
        select(Person.id, Person.name, func.min(order))
        .join(RoleGrant, RoleGrant.person_id == Person.id)
        .join(Account, Account.person_id == Person.id)
        .where(who, RoleGrant.role.in_(roles), Account.status == AccountStatus.ACTIVE)
        .group_by(Person.id, Person.name)
        .order_by(Person.name, Person.id)
        .limit(limit)
    )
    return [StaffMember(person_id, name, roles[place]) for person_id, name, place in rows]
