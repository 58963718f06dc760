"""What ends with an account, or with the last role for it: emergency access and ward teams.

Otherwise both would only sleep, and open patients again to whoever is reinstated or given a
role anew. Assignments stay: they name a patient and an end, and a ward clerk sees them.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from medportal.access.forms_care import care_roles
from medportal.access.models import BrokenGlass, WardTeamMember
from medportal.access.wards import leave
from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.people import roles_of
from medportal.tenancy.tenant import Tenant


@dataclass(frozen=True, slots=True)
class Ending:
    """By whom and why an account or a role ends, and when."""

    by: str
    reason: Reason
    now: datetime


def end_all(session: Session, staff_id: str, ending: Ending) -> None:
    """End what somebody has open by emergency access, and their place in every team."""
    _end_glass(session, staff_id, ending)
    _leave_teams(session, staff_id, ending)


def end_without_role(session: Session, tenant: Tenant, staff_id: str, ending: Ending) -> None:
    """End what no role that is left to somebody stands for."""
    left = roles_of(session, staff_id)
    breaking = {r.id for r in tenant.roles.values() if Permission.GLASS_BREAK in r.grants}
    if left.isdisjoint(breaking):
        _end_glass(session, staff_id, ending)
    if left.isdisjoint(care_roles(tenant)):
        _leave_teams(session, staff_id, ending)


def _end_glass(session: Session, staff_id: str, ending: Ending) -> None:
    ended = session.execute(
        update(BrokenGlass)
        .where(BrokenGlass.staff_id == staff_id, BrokenGlass.until > ending.now)
        .values(until=ending.now)
        .returning(BrokenGlass.id, BrokenGlass.patient_id)
    )
    roles = ",".join(sorted(roles_of(session, ending.by)))
    for step, patient in sorted((row.id, row.patient_id) for row in ended):
        details = {"basis": step, "roles": roles}
        _tell(session, Action.GLASS_CLOSED, ending, patient=patient, object=step, details=details)


def _leave_teams(session: Session, staff_id: str, ending: Ending) -> None:
    mine = session.execute(
        select(WardTeamMember.id, WardTeamMember.ward)
        .where(
            WardTeamMember.staff_id == staff_id,
            or_(WardTeamMember.until.is_(None), WardTeamMember.until > ending.now),
        )
        .order_by(WardTeamMember.id)
    ).all()
    for member in mine:
        leave(session, member.ward, member.id, ending.now)
        details = {"ward": member.ward, "member": member.id, "change": "left"}
        _tell(session, Action.TEAM_CHANGED, ending, object=staff_id, details=details)


def _tell(
    session: Session,
    action: Action,
    ending: Ending,
    *,
    object: str,
    details: dict[str, str | int],
    patient: str | None = None,
) -> None:
    event = Event.create(
        action,
        now=ending.now,
        actor=ending.by,
        patient=patient,
        object=object,
        reasons=[ending.reason],
        details=details,
    )
    append(session, event)
