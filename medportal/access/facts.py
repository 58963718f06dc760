"""Load the facts of a decision: identifiers, dates and categories, never content."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, or_, select
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

#: The values of a statement's parameters: ``ids``, ``asker``, ``now``.
Asked = Mapping[str, Any]


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
    return frozenset(session.scalars(_departments(), {"person": person_id, "now": now}))


@cache
def _departments() -> Select[str]:
    return select(WardTeamMember.ward).where(
        WardTeamMember.staff_id == bindparam("person"),
        WardTeamMember.since <= bindparam("now"),
        _not_over(WardTeamMember.until),
    )


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
    alone = len(ids) == 1
    asked = {"ids": ids[0] if alone else ids, "asker": asker, "now": now}
    there = set(session.scalars(_there(alone), asked))
    assignments = _assignments(session, alone, asked, departments)
    represents = _representations(session, alone, asked)
    rules = _rules_about(session, alone, asked, identity, departments)
    glass = _glass(session, alone, asked)
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


# The statements are built once: putting one together costs more than SQLite takes to answer it.


@cache
def _there(alone: bool) -> Select[str]:
    return select(Patient.person_id).where(_among(Patient.person_id, alone))


def _among(column: InstrumentedAttribute[str], alone: bool) -> ColumnElement[bool]:
    # One id is asked for as one: a list is put together anew each time, which costs as much again.
    return column == bindparam("ids") if alone else column.in_(bindparam("ids", expanding=True))


def _not_over(until: InstrumentedAttribute[datetime | None]) -> ColumnElement[bool]:
    return or_(until.is_(None), until > bindparam("now"))


def _assignments(
    session: Session, alone: bool, asked: Asked, departments: frozenset[str]
) -> Mapping[str, list[AssignmentFacts]]:
    rows = session.execute(_assigned(alone), {**asked, "wards": sorted(departments)})
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


@cache
def _assigned(alone: bool) -> Select[*tuple[Any, ...]]:
    staff = CareAssignment.staff_id == bindparam("asker")
    return select(
        CareAssignment.patient_id,
        CareAssignment.id,
        CareAssignment.kind,
        CareAssignment.ward,
        CareAssignment.opens_sensitive,
        CareAssignment.since,
        CareAssignment.until,
    ).where(
        _among(CareAssignment.patient_id, alone),
        or_(staff, CareAssignment.ward.in_(bindparam("wards", expanding=True))),
        _not_over(CareAssignment.until),
    )


def _representations(session: Session, alone: bool, asked: Asked) -> Mapping[str, list[Term]]:
    found: defaultdict[str, list[Term]] = defaultdict(list)
    for row in session.execute(_represented(alone), asked):
        found[row.patient_id].append(Term(row.since, row.until))
    return found


@cache
def _represented(alone: bool) -> Select[*tuple[Any, ...]]:
    return select(Representative.patient_id, Representative.since, Representative.until).where(
        _among(Representative.patient_id, alone),
        Representative.person_id == bindparam("asker"),
        # What was named, and not agreed to by a second person, opens nothing.
        Representative.approved_by.is_not(None),
        _not_over(Representative.until),
    )


def _rules_about(
    session: Session,
    alone: bool,
    asked: Asked,
    identity: Identity | None,
    departments: frozenset[str],
) -> Mapping[str, list[Rule]]:
    """Return those of the patients' rules that can name the asker."""
    named: dict[str, list[str]] = {
        Whom.PERSON: [identity.person_id] if identity else [],
        Whom.DEPARTMENT: sorted(departments),
        # Also the roles that are withheld: who proves less is not past a block.
        Whom.ROLE: sorted(identity.all_roles) if identity else [],
        Whom.INSTITUTION: [identity.tenant_id] if identity else [],
    }
    found: defaultdict[str, list[Rule]] = defaultdict(list)
    for patient_id, rule in _rules(session, _ruling(alone), {**asked, **named}):
        found[patient_id].append(rule)
    return found


@cache
def _ruling(alone: bool) -> Select[*tuple[Any, ...]]:
    names = (
        and_(
            PatientRule.whom == whom,
            PatientRule.whom_id.in_(bindparam(str(whom.value), expanding=True)),
        )
        for whom in Whom
    )
    return _any_rule().where(
        _among(PatientRule.patient_id, alone), or_(*names), _not_over(PatientRule.until)
    )


def rules_of(session: Session, patient_id: str) -> tuple[Rule, ...]:
    """Return all the patient's rules that were not ended, also those still to come."""
    query = _any_rule().where(PatientRule.patient_id == patient_id)
    return tuple(rule for _id, rule in _rules(session, query, {}))


def _any_rule() -> Select[*tuple[Any, ...]]:
    return select(
        PatientRule.patient_id,
        PatientRule.id,
        PatientRule.effect,
        PatientRule.whom,
        PatientRule.whom_id,
        PatientRule.what,
        PatientRule.what_id,
        PatientRule.since,
        PatientRule.until,
    ).where(PatientRule.ended_at.is_(None))


def _rules(
    session: Session, query: Select[*tuple[Any, ...]], asked: Asked
) -> Iterator[tuple[str, Rule]]:
    """Give (patient's id, rule) of the rules that were not ended."""
    for r in session.execute(query, asked):
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


def _glass(session: Session, alone: bool, asked: Asked) -> Mapping[str, list[GlassFacts]]:
    found: defaultdict[str, list[GlassFacts]] = defaultdict(list)
    for g in session.execute(_broken(alone), asked):
        found[g.patient_id].append(GlassFacts(g.id, g.since, g.until, g.sensitive))
    return found


@cache
def _broken(alone: bool) -> Select[*tuple[Any, ...]]:
    return select(
        BrokenGlass.patient_id,
        BrokenGlass.id,
        BrokenGlass.since,
        BrokenGlass.until,
        BrokenGlass.sensitive,
    ).where(
        _among(BrokenGlass.patient_id, alone),
        BrokenGlass.staff_id == bindparam("asker"),
        BrokenGlass.until > bindparam("now"),
    )
