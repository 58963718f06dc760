"""Who could open a patient's records today, and what a rule would change.

The answers are those of the decision table, for everybody who works here at once: people in
the same position (roles, wards, nothing of their own with the patient) get one decision
between them, so that a thousand nurses cost as much as one. Names are told only of those whom
the patient has to do with; of others, how many there are in which role.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from medportal.access.decisions import Decision, decide
from medportal.access.facts import asker_facts, rules_of
from medportal.access.models import (
    BrokenGlass,
    CareAssignment,
    CareKind,
    Representative,
    WardTeamMember,
)
from medportal.access.question import (
    AssignmentFacts,
    GlassFacts,
    PatientFacts,
    RecordFacts,
    Term,
)
from medportal.access.rule_choices import known_people, seeing_roles, told_roles
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.categories import Category
from medportal.core.identity import Identity
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason
from medportal.identity.models import Account, AccountStatus, RoleGrant
from medportal.identity.people import names_of
from medportal.tenancy.tenant import Tenant

#: More people than this are not looked at; the answer says so.
MOST_PEOPLE = 5_000
#: More names than this are not written out.
MOST_NAMES = 60
Told = TypeVar("Told")
ASKED = (Permission.PATIENT_SEE, Permission.RECORD_READ, Permission.PATIENT_VITALS)


@dataclass(frozen=True, slots=True)
class Opens:
    """What somebody could open: that the patient is here, and records of which categories.

    For one record, its category stands for it. ``because`` is the reason of the widest of it.
    """

    sees: bool = False
    categories: frozenset[str] = frozenset()
    because: Reason | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        return self.sees or bool(self.categories)


@dataclass(frozen=True, slots=True)
class Reader:
    """One person by name, or ``count`` people in a role who are not named."""

    name: str
    role: str
    opens: Opens
    count: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule would change for one person, or for ``count`` in a role."""

    name: str
    role: str
    before: Opens
    after: Opens
    count: int = 1


@dataclass(frozen=True, slots=True)
class Today:
    """Who could open something; ``is_partial`` if more people work here than were looked at.

    ``unnamed`` is how many more there are than have been written out.
    """

    readers: tuple[Reader, ...]
    unnamed: int = 0
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What a rule would change, as in :class:`Today`."""

    changes: tuple[Change, ...]
    unnamed: int = 0
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class _Person:
    """Somebody as decisions see them, as far as it concerns one patient."""

    roles: frozenset[str]
    departments: frozenset[str] = frozenset()
    assignments: tuple[AssignmentFacts, ...] = ()
    represents: tuple[Term, ...] = ()
    glass: tuple[GlassFacts, ...] = ()
    #: Their id, if a rule, a record or a name on the page is about them; empty otherwise.
    alone: str = ""


@dataclass(frozen=True, slots=True)
class House:
    """Everybody for whom something can open or close, loaded once.

    ``known`` may be named to the patient. Staff who have nothing to do with the patient, whose
    roles reach only those assigned to them and whom no rule lets in are not here: nothing opens
    to them, whatever else is decided.
    """

    tenant: Tenant
    patient_id: str
    people: Mapping[str, _Person]
    known: Mapping[str, str]
    rules: tuple[Rule, ...]
    is_partial: bool = False


def load(
    session: Session,
    tenant: Tenant,
    patient_id: str,
    now: datetime,
    *,
    besides: Iterable[Rule] = (),
    author_id: str | None = None,
) -> House:
    """Load everybody who might open something, with what decisions look at.

    ``besides`` are rules that may come, ``author_id`` who wrote the record that is asked about.
    """
    standing = rules_of(session, patient_id)
    known = {one.person_id for one in known_people(session, tenant, patient_id, now)}
    care = _care(session, patient_id, now)
    represents, glass = _represents(session, patient_id), _glass(session, patient_id, now)
    about = [*standing, *besides]
    named = {rule.whom_id for rule in about if rule.whom is Whom.PERSON}
    wards = {rule.whom_id for rule in about if rule.whom is Whom.DEPARTMENT} | set(care.by_ward)
    departments = _departments(session, wards, now)
    known |= {*care.by_person, *represents, *glass, *named, author_id or ""}
    roles, is_partial = _roles(session, tenant, patient_id, about, known | set(departments))
    people = {}
    for person_id, held in roles.items():
        own = departments.get(person_id, frozenset())
        teams = [a for ward in sorted(own) for a in care.by_ward.get(ward, ())]
        if teams:
            known.add(person_id)
        people[person_id] = _Person(
            roles=held,
            departments=own,
            assignments=(*care.by_person.get(person_id, ()), *teams),
            represents=tuple(represents.get(person_id, ())),
            glass=tuple(glass.get(person_id, ())),
            alone=person_id if person_id in known else "",
        )
    names = names_of(session, [person_id for person_id in people if person_id in known])
    return House(tenant, patient_id, people, names, standing, is_partial)


def things_of(what: What, what_id: str, record: RecordFacts | None) -> list[RecordFacts]:
    """Return what is asked about: one record, or one for each category that counts."""
    if what is What.RECORD and record is not None:
        return [record]
    asked = [what_id] if what is What.CATEGORY else [str(each) for each in Category]
    return [RecordFacts("", True, None, category) for category in asked]


def today(
    house: House, things: Sequence[RecordFacts], now: datetime, *, sight: bool = True
) -> Today:
    """Tell who could open something now.

    With ``sight``, also who may see that the patient is here, and no record.
    """
    found = _opens(house, house.rules, things, now, sight)
    named, groups = _split(house, {p: opens for p, opens in found.items() if opens})
    readers = [
        *(Reader(house.known[p], _role(house, p), opens) for p, opens in named),
        *(Reader("", role, opens, count) for (role, opens), count in groups),
    ]
    return Today(tuple(readers[:MOST_NAMES]), _unnamed(readers), house.is_partial)


def changes(
    house: House,
    things: Sequence[RecordFacts],
    *,
    without: Collection[str] = (),
    new: Rule | None = None,
    now: datetime,
    sight: bool = True,
) -> Changes:
    """Tell what ending the rules ``without`` and making ``new`` would change.

    For a rule that begins later, at that moment.
    """
    at = max(now, new.since) if new else now
    kept = tuple(rule for rule in house.rules if rule.id not in without)
    rules = (*kept, new) if new else kept
    before = _opens(house, house.rules, things, at, sight)
    after = _opens(house, rules, things, at, sight)
    moved = {p: (before[p], after[p]) for p in before if before[p] != after[p]}
    named, groups = _split(house, moved)
    found = [
        *(Change(house.known[p], _role(house, p), *both) for p, both in named),
        *(Change("", role, *both, count=count) for (role, both), count in groups),
    ]
    return Changes(tuple(found[:MOST_NAMES]), _unnamed(found), house.is_partial)


def _unnamed(rows: Sequence[Reader | Change]) -> int:
    """Count the people, not the rows, that are not written out."""
    return sum(row.count for row in rows[MOST_NAMES:])


def _opens(
    house: House,
    rules: tuple[Rule, ...],
    things: Sequence[RecordFacts],
    at: datetime,
    sight: bool,
) -> dict[str, Opens]:
    """Decide for everybody, once for all who are in the same position."""
    decided: dict[_Person, Opens] = {}
    found = {}
    for person_id, person in house.people.items():
        if person not in decided:
            opens = _decided(house, person_id, person, rules, things, at)
            decided[person] = opens if sight else replace(opens, sees=False)
        found[person_id] = decided[person]
    return found


def _decided(
    house: House,
    person_id: str,
    person: _Person,
    rules: tuple[Rule, ...],
    things: Sequence[RecordFacts],
    at: datetime,
) -> Opens:
    # As if at their desk: from where somebody comes changes what they are asked, not what opens.
    who = Identity(
        person_id, house.tenant.id, person.roles, "preview", at, on_site=True, confirmed_at=at
    )
    patient = PatientFacts(
        house.patient_id,
        True,
        assignments=person.assignments,
        represents=person.represents,
        rules=rules,
        glass=person.glass,
    )
    asker = replace(asker_facts(house.tenant, who), patient=patient, departments=person.departments)
    seen = decide(who, asker, at, ASKED[:1])
    categories, because = set(), None
    for thing in things:
        decision = decide(who, replace(asker, record=thing), at, ASKED[1:])
        permission = _way_in(decision, thing)
        if permission is not None:
            categories.add(thing.category)
            because = because or decision.because[permission][0]
    sees = seen.allows(Permission.PATIENT_SEE)
    if because is None and sees:
        because = seen.because[Permission.PATIENT_SEE][0]
    return Opens(sees, frozenset(categories), because)


def _way_in(decision: Decision, thing: RecordFacts) -> Permission | None:
    if decision.allows(Permission.RECORD_READ):
        return Permission.RECORD_READ
    is_vitals = thing.category == Category.VITAL_SIGNS
    if is_vitals and decision.allows(Permission.PATIENT_VITALS):
        return Permission.PATIENT_VITALS
    return None


def _split(
    house: House, found: Mapping[str, Told]
) -> tuple[list[tuple[str, Told]], list[tuple[tuple[str, Told], int]]]:
    """Part those who may be named, by name, from the others, who are counted by role."""
    named = sorted(
        ((p, what) for p, what in found.items() if p in house.known),
        key=lambda item: (house.known[item[0]], item[0]),
    )
    groups = Counter((_role(house, p), what) for p, what in found.items() if p not in house.known)
    return named, sorted(groups.items(), key=lambda item: (-item[1], item[0][0]))


def _role(house: House, person_id: str) -> str:
    """Return the role by which somebody is told: of those that see patients, the first."""
    held = house.people[person_id].roles
    return next((role for role in told_roles(house.tenant) if role in held), "")


def _roles(
    session: Session,
    tenant: Tenant,
    patient_id: str,
    rules: Iterable[Rule],
    concerned: Collection[str],
) -> tuple[dict[str, frozenset[str]], bool]:
    """Return the roles of everybody who might see a patient, and whether there are more people.

    ``concerned`` are those whom it may hang on who they are; of the others, what their roles
    reach, and which roles ``rules`` let in.
    """
    standing_for = select(Representative.person_id).where(Representative.patient_id == patient_id)
    asked = (
        select(RoleGrant.person_id)
        .join(Account, Account.person_id == RoleGrant.person_id)
        .where(
            or_(
                RoleGrant.role.in_(_wide_roles(tenant, rules)),
                and_(
                    RoleGrant.role.in_(seeing_roles(tenant)),
                    RoleGrant.person_id.in_(sorted(concerned)),
                ),
                RoleGrant.person_id.in_(standing_for),
            ),
            RoleGrant.person_id != patient_id,
            Account.status == AccountStatus.ACTIVE,
        )
        .distinct()
        .order_by(RoleGrant.person_id)
        .limit(MOST_PEOPLE + 1)
    )
    ids = session.scalars(asked).all()
    rows = session.execute(
        select(RoleGrant.person_id, RoleGrant.role).where(RoleGrant.person_id.in_(asked))
    )
    held: defaultdict[str, set[str]] = defaultdict(set)
    for person_id, role in rows:
        held[person_id].add(role)
    return {p: frozenset(held[p]) for p in ids[:MOST_PEOPLE]}, len(ids) > MOST_PEOPLE


def _wide_roles(tenant: Tenant, rules: Iterable[Rule]) -> list[str]:
    """Return the roles to which something may open whoever has them: by reach, or by a rule."""
    allowing = [rule for rule in rules if rule.effect is Effect.ALLOW]
    if any(rule.whom is Whom.INSTITUTION and rule.whom_id == tenant.id for rule in allowing):
        return seeing_roles(tenant)
    named = {rule.whom_id for rule in allowing if rule.whom is Whom.ROLE}
    return [
        role
        for role in seeing_roles(tenant)
        if role in named or any(tenant.roles[role].grants.get(p) is Reach.ANY for p in ASKED)
    ]


@dataclass(frozen=True, slots=True)
class _Care:
    by_person: Mapping[str, Sequence[AssignmentFacts]]
    by_ward: Mapping[str, Sequence[AssignmentFacts]]


def _care(session: Session, patient_id: str, now: datetime) -> _Care:
    rows = session.scalars(
        select(CareAssignment).where(
            CareAssignment.patient_id == patient_id,
            or_(CareAssignment.until.is_(None), CareAssignment.until > now),
        )
    )
    by_person: defaultdict[str, list[AssignmentFacts]] = defaultdict(list)
    by_ward: defaultdict[str, list[AssignmentFacts]] = defaultdict(list)
    for row in rows:
        facts = AssignmentFacts(
            row.kind == CareKind.TREATING,
            row.since,
            row.until,
            row.id,
            row.opens_sensitive,
            row.ward or "",
        )
        (by_ward if row.ward else by_person)[row.ward or row.staff_id or ""].append(facts)
    return _Care(by_person, by_ward)


def _departments(
    session: Session, wards: Collection[str], now: datetime
) -> Mapping[str, frozenset[str]]:
    """Return of everybody the wards that matter here and to whose teams they belong now."""
    rows = session.execute(
        select(WardTeamMember.staff_id, WardTeamMember.ward).where(
            WardTeamMember.ward.in_(sorted(wards)),
            WardTeamMember.since <= now,
            or_(WardTeamMember.until.is_(None), WardTeamMember.until > now),
        )
    )
    found: defaultdict[str, set[str]] = defaultdict(set)
    for staff_id, ward in rows:
        found[staff_id].add(ward)
    return {staff_id: frozenset(wards) for staff_id, wards in found.items()}


def _represents(session: Session, patient_id: str) -> Mapping[str, Sequence[Term]]:
    rows = session.scalars(
        select(Representative).where(
            Representative.patient_id == patient_id, Representative.approved_by.is_not(None)
        )
    )
    found: defaultdict[str, list[Term]] = defaultdict(list)
    for row in rows:
        found[row.person_id].append(Term(row.since, row.until))
    return found


def _glass(session: Session, patient_id: str, now: datetime) -> Mapping[str, Sequence[GlassFacts]]:
    rows = session.scalars(
        select(BrokenGlass).where(BrokenGlass.patient_id == patient_id, BrokenGlass.until > now)
    )
    found: defaultdict[str, list[GlassFacts]] = defaultdict(list)
    for row in rows:
        found[row.staff_id].append(GlassFacts(row.id, row.since, row.until, row.sensitive))
    return found
