"""Load the facts of a decision: identifiers, dates and categories, never content."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from medportal.access.models import (
    BrokenGlass,
    CareAssignment,
    CareKind,
    PatientRule,
    Representative,
    WardTeamMember,
)
from medportal.access.question import (
    OVER_OTHERS,
    AccessFacts,
    AssignmentFacts,
    GlassFacts,
    PatientFacts,
    Term,
)
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.identity import Identity
from medportal.core.permissions import Permission, Reach
from medportal.patients.models import Patient
from medportal.tenancy.tenant import Tenant


def held_permissions(
    tenant: Tenant, identity: Identity | None
) -> Mapping[Permission, frozenset[Reach]]:
    """Return what the identity's roles give by this tenant's catalogue."""
    held: defaultdict[Permission, set[Reach]] = defaultdict(set)
    for role_id in identity.roles if identity else ():
        role = tenant.roles.get(role_id)
        for permission, reach in role.grants.items() if role else ():
            held[permission].add(reach)
    return {permission: frozenset(reaches) for permission, reaches in held.items()}


def asker_facts(tenant: Tenant, identity: Identity | None) -> AccessFacts:
    """Return what the catalogue says about the asker, without a patient in view."""
    held = held_permissions(tenant, identity)
    roles = [tenant.roles[r] for r in (identity.roles if identity else ()) if r in tenant.roles]
    return AccessFacts(
        held,
        fresh_for=tenant.access.fresh_for,
        by_role={
            permission: frozenset(r.id for r in roles if r.grants.get(permission) in OVER_OTHERS)
            for permission in held
        },
        treats=any(role.treating for role in roles),
    )


def departments_of(session: Session, person_id: str, now: datetime) -> frozenset[str]:
    """Return the wards to whose teams somebody belongs now."""
    rows = session.scalars(
        select(WardTeamMember.ward).where(
            WardTeamMember.staff_id == person_id,
            WardTeamMember.since <= now,
            or_(WardTeamMember.until.is_(None), WardTeamMember.until > now),
        )
    )
    return frozenset(rows)


def patient_facts(
    session: Session,
    identity: Identity | None,
    patient_id: str,
    departments: frozenset[str] = frozenset(),
) -> PatientFacts:
    """Return the facts about one patient.

    The same queries run whether the patient exists or not, and they return only what is about
    the asker: a stranger waits no longer for a patient with many rules than for one who is not
    there. ``departments`` are the asker's.
    """
    asker = identity.person_id if identity else ""
    exists = session.scalar(select(Patient.person_id).where(Patient.person_id == patient_id))
    return PatientFacts(
        id=patient_id,
        exists=exists is not None,
        is_self=asker == patient_id,
        assignments=_assignments(session, patient_id, asker, departments),
        represents=_representations(session, patient_id, asker),
        rules=_rules_about(session, patient_id, identity, departments),
        glass=_glass(session, patient_id, asker),
    )


def _assignments(
    session: Session, patient_id: str, asker: str, departments: frozenset[str]
) -> tuple[AssignmentFacts, ...]:
    rows = session.execute(
        select(
            CareAssignment.id,
            CareAssignment.kind,
            CareAssignment.ward,
            CareAssignment.opens_sensitive,
            CareAssignment.since,
            CareAssignment.until,
        ).where(
            CareAssignment.patient_id == patient_id,
            or_(CareAssignment.staff_id == asker, CareAssignment.ward.in_(sorted(departments))),
        )
    )
    return tuple(
        AssignmentFacts(
            treating=a.kind == CareKind.TREATING,
            since=a.since,
            until=a.until,
            id=a.id,
            opens_sensitive=a.opens_sensitive,
            team=a.ward or "",
        )
        for a in rows
    )


def _representations(session: Session, patient_id: str, asker: str) -> tuple[Term, ...]:
    rows = session.execute(
        select(Representative.since, Representative.until).where(
            Representative.patient_id == patient_id,
            Representative.person_id == asker,
            # What was named, and not agreed to by a second person, opens nothing.
            Representative.approved_by.is_not(None),
        )
    )
    return tuple(Term(row.since, row.until) for row in rows)


def _rules_about(
    session: Session, patient_id: str, identity: Identity | None, departments: frozenset[str]
) -> tuple[Rule, ...]:
    """Return those of the patient's rules that can name the asker."""
    named = {
        Whom.PERSON: [identity.person_id] if identity else [],
        Whom.DEPARTMENT: sorted(departments),
        Whom.ROLE: sorted(identity.roles) if identity else [],
        Whom.INSTITUTION: [identity.tenant_id] if identity else [],
    }
    return _rules(
        session,
        PatientRule.patient_id == patient_id,
        or_(*(and_(PatientRule.whom == k, PatientRule.whom_id.in_(v)) for k, v in named.items())),
    )


def rules_of(session: Session, patient_id: str) -> tuple[Rule, ...]:
    """Return all the patient's rules that were not ended, also those still to come."""
    return _rules(session, PatientRule.patient_id == patient_id)


def _rules(session: Session, *where: ColumnElement[bool]) -> tuple[Rule, ...]:
    rows = session.execute(
        select(
            PatientRule.id,
            PatientRule.effect,
            PatientRule.whom,
            PatientRule.whom_id,
            PatientRule.what,
            PatientRule.what_id,
            PatientRule.since,
            PatientRule.until,
        ).where(PatientRule.ended_at.is_(None), *where)
    )
    return tuple(
        Rule(
            id=r.id,
            effect=Effect(r.effect),
            whom=Whom(r.whom),
            whom_id=r.whom_id,
            what=What(r.what),
            what_id=r.what_id,
            since=r.since,
            until=r.until,
        )
        for r in rows
    )


def rule_of(row: PatientRule) -> Rule:
    """Return a stored rule as decisions see it."""
    return Rule(
        id=row.id,
        effect=Effect(row.effect),
        whom=Whom(row.whom),
        whom_id=row.whom_id,
        what=What(row.what),
        what_id=row.what_id,
        since=row.since,
        until=row.until,
    )


def _glass(session: Session, patient_id: str, asker: str) -> tuple[GlassFacts, ...]:
    rows = session.execute(
        select(BrokenGlass.id, BrokenGlass.since, BrokenGlass.until, BrokenGlass.sensitive).where(
            BrokenGlass.patient_id == patient_id, BrokenGlass.staff_id == asker
        )
    )
    return tuple(GlassFacts(g.id, g.since, g.until, g.sensitive) for g in rows)
