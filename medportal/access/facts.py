"""Load the facts of a decision: identifiers, dates and categories, never content."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    and_,
    bindparam,
    cast,
    literal,
    null,
    or_,
    select,
    union_all,
)
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
from medportal.db import Id, UTCDateTime
from medportal.db.reading import rows_of, table
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
    return frozenset(
        ward for (ward,) in rows_of(session, _departments(), {"person": person_id, "now": now})
    )


@cache
def _departments() -> Select[str]:
    c = table(WardTeamMember).c
    return select(c.ward).where(
        c.staff_id == bindparam("person"),
        c.since <= bindparam("now", type_=UTCDateTime),
        _not_over(c.until),
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
    """Return the facts about each of several patients, with one query, as about one.

    The same query runs whether a patient exists or not, and it returns only what is about
    the asker and not over: a stranger waits no longer for a patient with many rules than for
    one who is not there. Whether what they return is in force is for the decision to say.
    """
    asker = identity.person_id if identity else ""
    ids = sorted(set(patient_ids))
    alone = len(ids) == 1
    asked = {
        "ids": ids[0] if alone else ids,
        "asker": asker,
        "now": now,
        "institution": identity.tenant_id if identity else "",
        "wards": sorted(departments),
        # Also the roles that are withheld: who proves less is not past a block.
        "roles": sorted(identity.all_roles) if identity else [],
    }
    found: dict[str, _Found] = {patient_id: _Found() for patient_id in ids}
    for row in rows_of(session, _facts(alone), asked):
        _READ[row.fact](found[row.patient_id], row)
    return {
        patient_id: PatientFacts(
            id=patient_id,
            exists=one.exists,
            is_self=asker == patient_id,
            assignments=tuple(one.assignments),
            represents=tuple(one.represents),
            rules=tuple(one.rules),
            glass=tuple(one.glass),
        )
        for patient_id, one in found.items()
    }


@dataclass(slots=True)
class _Found:
    """What was found of one patient so far."""

    exists: bool = False
    assignments: list[AssignmentFacts] = field(default_factory=list)
    represents: list[Term] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    glass: list[GlassFacts] = field(default_factory=list)


def _read_patient(found: _Found, row: Any) -> None:
    found.exists = True


def _read_care(found: _Found, row: Any) -> None:
    found.assignments.append(
        AssignmentFacts(
            treating=row.kind == CareKind.TREATING,
            since=row.since,
            until=row.until,
            id=row.id,
            opens_sensitive=row.flag,
            team=row.name or "",
        )
    )


def _read_standing(found: _Found, row: Any) -> None:
    found.represents.append(Term(row.since, row.until))


def _read_rule(found: _Found, row: Any) -> None:
    found.rules.append(
        Rule(
            id=row.id,
            effect=Effect(row.kind),
            whom=Whom(row.whom),
            whom_id=row.name,
            what=What(row.what),
            what_id=row.what_id,
            since=row.since,
            until=row.until,
        )
    )


def _read_glass(found: _Found, row: Any) -> None:
    found.glass.append(GlassFacts(row.id, row.since, row.until, row.flag))


_READ: Mapping[str, Callable[[_Found, Any], None]] = {
    "patient": _read_patient,
    "care": _read_care,
    "standing": _read_standing,
    "rule": _read_rule,
    "glass": _read_glass,
}


# Statements are built once: putting one together costs more than SQLite takes to answer it.


@cache
def _facts(alone: bool) -> CompoundSelect[*tuple[Any, ...]]:
    """Return the one statement for everything: a question each would take longer to ask."""
    return union_all(_care(alone), _patient(alone), _standing(alone), _rule(alone), _glass(alone))


def _columns(fact: str, patient_id: Any, **given: Any) -> list[Any]:
    """Return the columns that every part of the statement has, with those that one of them fills.

    Those that it does not fill have their type said: PostgreSQL infers it from no other part.
    """
    return [
        literal(fact).label("fact"),
        patient_id.label("patient_id"),
        *(given.get(name, cast(null(), kind)).label(name) for name, kind in _COLUMNS.items()),
    ]


_COLUMNS: Mapping[str, Any] = {
    "id": Id(),
    "kind": String(),
    "whom": String(),
    "name": String(),
    "what": String(),
    "what_id": String(),
    "flag": Boolean(),
    "since": UTCDateTime(),
    "until": UTCDateTime(),
}


def _among(column: Column[Any], alone: bool) -> ColumnElement[bool]:
    # One id is asked for as one: a list is put together anew each time, which costs as much again.
    return column == bindparam("ids") if alone else column.in_(bindparam("ids", expanding=True))


def _not_over(until: Any) -> ColumnElement[bool]:
    return or_(until.is_(None), until > bindparam("now", type_=UTCDateTime))


def _any_of(column: Column[Any], name: str) -> ColumnElement[bool]:
    return column.in_(bindparam(name, expanding=True))


def _patient(alone: bool) -> Select[*tuple[Any, ...]]:
    c = table(Patient).c
    return select(*_columns("patient", c.person_id)).where(_among(c.person_id, alone))


def _care(alone: bool) -> Select[*tuple[Any, ...]]:
    c = table(CareAssignment).c
    filled = _columns(
        "care",
        c.patient_id,
        id=c.id,
        kind=c.kind,
        name=c.ward,
        flag=c.opens_sensitive,
        since=c.since,
        until=c.until,
    )
    return select(*filled).where(
        _among(c.patient_id, alone),
        or_(c.staff_id == bindparam("asker"), _any_of(c.ward, "wards")),
        _not_over(c.until),
    )


def _standing(alone: bool) -> Select[*tuple[Any, ...]]:
    c = table(Representative).c
    return select(*_columns("standing", c.patient_id, since=c.since, until=c.until)).where(
        _among(c.patient_id, alone),
        c.person_id == bindparam("asker"),
        # What was named, and not agreed to by a second person, opens nothing.
        c.approved_by.is_not(None),
        _not_over(c.until),
    )


def _rule(alone: bool) -> Select[*tuple[Any, ...]]:
    """Return those of the patients' rules that can name the asker."""
    c = table(PatientRule).c
    named = {
        Whom.PERSON: c.whom_id == bindparam("asker"),
        Whom.DEPARTMENT: _any_of(c.whom_id, "wards"),
        Whom.ROLE: _any_of(c.whom_id, "roles"),
        Whom.INSTITUTION: c.whom_id == bindparam("institution"),
    }
    filled = _columns(
        "rule",
        c.patient_id,
        id=c.id,
        kind=c.effect,
        whom=c.whom,
        name=c.whom_id,
        what=c.what,
        what_id=c.what_id,
        since=c.since,
        until=c.until,
    )
    return select(*filled).where(
        c.ended_at.is_(None),
        _among(c.patient_id, alone),
        or_(*(and_(c.whom == whom.value, fits) for whom, fits in named.items())),
        _not_over(c.until),
    )


def _glass(alone: bool) -> Select[*tuple[Any, ...]]:
    c = table(BrokenGlass).c
    filled = _columns(
        "glass", c.patient_id, id=c.id, flag=c.sensitive, since=c.since, until=c.until
    )
    return select(*filled).where(
        _among(c.patient_id, alone),
        c.staff_id == bindparam("asker"),
        c.until > bindparam("now", type_=UTCDateTime),
    )


def rules_of(session: Session, patient_id: str) -> tuple[Rule, ...]:
    """Return all the patient's rules that were not ended, also those still to come."""
    found = select(PatientRule).where(
        PatientRule.patient_id == patient_id, PatientRule.ended_at.is_(None)
    )
    return tuple(map(rule_of, session.scalars(found)))


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
