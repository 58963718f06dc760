"""Load the facts of a decision: identifiers, dates and categories, never content."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

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
    now: datetime,
    departments: frozenset[str] = frozenset(),
) -> PatientFacts:
    """Return the facts about one patient; ``departments`` are the asker's."""
    return patients_facts(session, identity, [patient_id], now, departments)[patient_id]


def patients_facts(
    session: Session,
    identity: Identity | None,
    patient_ids: Collection[str],
    now: datetime,
    departments: frozenset[str] = frozenset(),
) -> dict[str, PatientFacts]:
    """Return the facts about each of several patients, with as many queries as about one.

    The same queries run whether a patient exists or not, and they return only what is about
    the asker and not over: a stranger waits no longer for a patient with many rules than for
    one who is not there. Whether what they return is in force is for the decision to say.
    """
    asker = identity.person_id if identity else ""
    ids = sorted(set(patient_ids))
    there = set(session.scalars(select(Patient.person_id).where(_among(Patient.person_id, ids))))
    assignments = _assignments(session, ids, asker, departments, now)
    represents = _representations(session, ids, asker, now)
    rules = _rules_about(session, ids, identity, departments, now)
    glass = _glass(session, ids, asker, now)
    return {
        patient_id: PatientFacts(
            id=patient_id,
            exists=patient_id in there,
            is_self=asker == patient_id,
            assignments=tuple(assignments[patient_id]),
            represents=tuple(represents[patient_id]),
            rules=tuple(rules[patient_id]),
            glass=tuple(glass[patient_id]),
        )
        for patient_id in ids
    }


def _among(column: InstrumentedAttribute[str], ids: Sequence[str]) -> ColumnElement[bool]:
    # One id is asked for as one: a list is put together anew each time, which costs as much again.
    return column == ids[0] if len(ids) == 1 else column.in_(ids)


def _not_over(until: InstrumentedAttribute[datetime | None], now: datetime) -> ColumnElement[bool]:
    return or_(until.is_(None), until > now)


def _assignments(
    session: Session, ids: list[str], asker: str, departments: frozenset[str], now: datetime
) -> Mapping[str, list[AssignmentFacts]]:
    rows = session.execute(
        select(
            CareAssignment.patient_id,
            CareAssignment.id,
            CareAssignment.kind,
            CareAssignment.ward,
            CareAssignment.opens_sensitive,
            CareAssignment.since,
            CareAssignment.until,
        ).where(
            _among(CareAssignment.patient_id, ids),
            or_(CareAssignment.staff_id == asker, CareAssignment.ward.in_(sorted(departments))),
            _not_over(CareAssignment.until, now),
        )
    )
    found: defaultdict[str, list[AssignmentFacts]] = defaultdict(list)
    for a in rows:
        found[a.patient_id].append(
            AssignmentFacts(
                treating=a.kind == CareKind.TREATING,
                since=a.since,
                until=a.until,
                id=a.id,
                opens_sensitive=a.opens_sensitive,
                team=a.ward or "",
            )
        )
    return found


def _representations(
    session: Session, ids: list[str], asker: str, now: datetime
) -> Mapping[str, list[Term]]:
    rows = session.execute(
        select(Representative.patient_id, Representative.since, Representative.until).where(
            _among(Representative.patient_id, ids),
            Representative.person_id == asker,
            # What was named, and not agreed to by a second person, opens nothing.
            Representative.approved_by.is_not(None),
            _not_over(Representative.until, now),
        )
    )
    found: defaultdict[str, list[Term]] = defaultdict(list)
    for row in rows:
        found[row.patient_id].append(Term(row.since, row.until))
    return found


def _rules_about(
    session: Session,
    ids: list[str],
    identity: Identity | None,
    departments: frozenset[str],
    now: datetime,
) -> Mapping[str, list[Rule]]:
    """Return those of the patients' rules that can name the asker."""
    named = {
        Whom.PERSON: [identity.person_id] if identity else [],
        Whom.DEPARTMENT: sorted(departments),
        # Also the roles that are withheld: who proves less is not past a block.
        Whom.ROLE: sorted(identity.all_roles) if identity else [],
        Whom.INSTITUTION: [identity.tenant_id] if identity else [],
    }
    rows = _rules(
        session,
        _among(PatientRule.patient_id, ids),
        or_(*(and_(PatientRule.whom == k, PatientRule.whom_id.in_(v)) for k, v in named.items())),
        _not_over(PatientRule.until, now),
    )
    found: defaultdict[str, list[Rule]] = defaultdict(list)
    for patient_id, rule in rows:
        found[patient_id].append(rule)
    return found


def rules_of(session: Session, patient_id: str) -> tuple[Rule, ...]:
    """Return all the patient's rules that were not ended, also those still to come."""
    return tuple(rule for _id, rule in _rules(session, PatientRule.patient_id == patient_id))


def _rules(session: Session, *where: ColumnElement[bool]) -> Iterator[tuple[str, Rule]]:
    """Give (patient's id, rule) of the rules that were not ended."""
    rows = session.execute(
        select(
            PatientRule.patient_id,
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
    for r in rows:
        yield (
            r.patient_id,
            Rule(
                id=r.id,
                effect=Effect(r.effect),
                whom=Whom(r.whom),
                whom_id=r.whom_id,
                what=What(r.what),
                what_id=r.what_id,
                since=r.since,
                until=r.until,
            ),
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


def _glass(
    session: Session, ids: list[str], asker: str, now: datetime
) -> Mapping[str, list[GlassFacts]]:
    rows = session.execute(
        select(
            BrokenGlass.patient_id,
            BrokenGlass.id,
            BrokenGlass.since,
            BrokenGlass.until,
            BrokenGlass.sensitive,
        ).where(
            _among(BrokenGlass.patient_id, ids),
            BrokenGlass.staff_id == asker,
            BrokenGlass.until > now,
        )
    )
    found: defaultdict[str, list[GlassFacts]] = defaultdict(list)
    for g in rows:
        found[g.patient_id].append(GlassFacts(g.id, g.since, g.until, g.sensitive))
    return found
