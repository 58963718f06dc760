"""The people of an institution as administrators see them: found, listed, one at a time.

Listed is who holds a role of staff, or none at all. Who is a patient and nothing else is on no
list here, and is found by the exact number alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from itertools import pairwise

from sqlalchemy import ColumnElement, Row, Select, and_, exists, or_, select, tuple_
from sqlalchemy.orm import Session

from medportal.audit.events import Action
from medportal.audit.search import Query, find
from medportal.identity.factors import second_factors
from medportal.identity.models import (
    Account,
    AccountNote,
    AccountStatus,
    Passkey,
    Person,
    PersonIdentifier,
    RoleGrant,
    Totp,
)
from medportal.identity.names import begins, folded
from medportal.identity.people import names_of
from medportal.tenancy.tenant import OWN_ROLES, PATIENT_ROLE

PAGE = 25
_Query = Select[str, str, str, str | None]
_Row = Row[str, str, str, str | None]
#: How many names are looked through at a time, when somebody searches by name: each time, the
#: database sorts all staff anew.
BATCH = 5000
#: How many notes a person's page shows, newest first.
NOTES = 50


class Standing(StrEnum):
    """What a list of people may be narrowed to."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    HELD = "held"
    NOT_ACTIVATED = "not-activated"
    WITHOUT_SECOND_FACTOR = "without-second-factor"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom a list shows; what is empty does not matter.

    ``name`` is how a name, or one of its words, begins: case and accents do not matter.
    """

    name: str = ""
    role: str = ""
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class PersonLine:
    """Somebody as lists show them."""

    id: str
    name: str
    roles: tuple[str, ...]
    active: bool
    held: bool
    activated: bool


@dataclass(frozen=True, slots=True)
class HeldRole:
    """A role, and since when and by whose hand somebody holds it."""

    role: str
    since: datetime
    by: str | None


@dataclass(frozen=True, slots=True)
class PersonDetails:
    """What is known of somebody and of their account."""

    id: str
    name: str
    number: str
    birth_date: date
    email: str
    phone: str
    city: str
    language: str
    active: bool
    held: bool
    activated: bool
    roles: tuple[HeldRole, ...]
    has_second_factor: bool

    @property
    def role_ids(self) -> frozenset[str]:
        """Return the ids of the roles held."""
        return frozenset(held.role for held in self.roles)

    @property
    def is_patient(self) -> bool:
        """Tell whether this is a patient here, whatever else they are."""
        return PATIENT_ROLE in self.role_ids


@dataclass(frozen=True, slots=True)
class NoteLine:
    """Why an account was changed: codes, who, when, and what they wrote."""

    at: datetime
    by: str
    action: str
    reason: str
    note: str


def list_people(
    session: Session, wanted: Wanted, *, after: tuple[str, str] | None, limit: int = PAGE
) -> list[PersonLine]:
    """Return people by name, paged by key.

    ``after`` is the (name, id) of the last one on the page before.
    """
    query = (
        select(Person.id, Person.name, Account.status, Account.password_hash)
        .join(Account, Account.person_id == Person.id)
        .where(*_conditions(wanted))
        .order_by(Person.name, Person.id)
    )
    found = []
    for row in _rows(session, query, after, BATCH if wanted.name else limit):
        if not wanted.name or begins(folded(row.name), folded(wanted.name)):
            found.append(row)
        if len(found) == limit:
            break
    held = _roles_of_all(session, [row.id for row in found])
    return [
        PersonLine(
            row.id,
            row.name,
            held.get(row.id, ()),
            row.status == AccountStatus.ACTIVE,
            row.status == AccountStatus.HELD,
            row.password_hash is not None,
        )
        for row in found
    ]


def list_key(session: Session, person_id: str) -> tuple[str, str] | None:
    """Return the key (name, id) by which lists are ordered, for somebody who is on them."""
    name = session.scalar(select(Person.name).where(Person.id == person_id, _is_listed()))
    return None if name is None else (name, person_id)


def details(session: Session, scheme: str, person_id: str) -> PersonDetails | None:
    """Return what is known of somebody, or ``None`` for nobody.

    As the database has it now, not as the session may remember it.
    """
    row = session.execute(
        select(
            Person.id,
            Person.name,
            Person.birth_date,
            Person.email,
            Person.phone,
            Person.city,
            Person.language,
            Account.status,
            Account.password_hash,
            PersonIdentifier.value,
        )
        .join(Account, Account.person_id == Person.id)
        .outerjoin(
            PersonIdentifier,
            (PersonIdentifier.person_id == Person.id) & (PersonIdentifier.scheme == scheme),
        )
        .where(Person.id == person_id)
    ).first()
    if row is None:
        return None
    return PersonDetails(
        id=row.id,
        name=row.name,
        number=row.value or "",
        birth_date=row.birth_date,
        email=row.email,
        phone=row.phone,
        city=row.city,
        language=row.language,
        active=row.status == AccountStatus.ACTIVE,
        held=row.status == AccountStatus.HELD,
        activated=row.password_hash is not None,
        roles=_held(session, person_id),
        has_second_factor=bool(second_factors(session, person_id)),
    )


def notes_of(session: Session, person_id: str, limit: int = NOTES) -> list[NoteLine]:
    """Return why an account was changed, newest first."""
    rows = session.scalars(
        select(AccountNote)
        .where(AccountNote.person_id == person_id)
        .order_by(AccountNote.at.desc(), AccountNote.id.desc())
        .limit(limit)
    ).all()
    names = names_of(session, [row.by for row in rows if row.by])
    return [
        NoteLine(row.at, names.get(row.by or "", ""), row.action, row.reason, row.note)
        for row in rows
    ]


def last_sign_in(session: Session, person_id: str) -> datetime | None:
    """Return when somebody last signed in, as the audit log has it."""
    page = find(session, Query(actor=person_id, action=Action.SIGN_IN), limit=1)
    return page.events[0].at if page.events else None


def _rows(
    session: Session, query: _Query, after: tuple[str, str] | None, batch: int
) -> Iterator[_Row]:
    """Give the rows of a query in order, a batch at a time."""
    while True:
        place = tuple_(Person.name, Person.id)
        following = query if after is None else query.where(place > after)
        rows = session.execute(following.limit(batch)).all()
        yield from rows
        if len(rows) < batch:
            return
        after = (rows[-1].name, rows[-1].id)


def _is_listed() -> ColumnElement[bool]:
    # Not "other than": ranges of the index on roles, in place of a walk over every patient.
    own = sorted(OWN_ROLES)
    between = [and_(RoleGrant.role > low, RoleGrant.role < high) for low, high in pairwise(own)]
    staff = select(RoleGrant.person_id).where(
        or_(RoleGrant.role < own[0], RoleGrant.role > own[-1], *between)
    )
    # Who holds no role has a note: from their registration, or from when the last one was taken.
    without = select(AccountNote.person_id).where(
        ~exists().where(RoleGrant.person_id == AccountNote.person_id)
    )
    return Person.id.in_(staff.union(without))


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions = [_is_listed()]
    if wanted.role:
        conditions.append(
            Person.id.in_(select(RoleGrant.person_id).where(RoleGrant.role == wanted.role))
        )
    if wanted.standing is not None:
        conditions += _standing(wanted.standing)
    return conditions


def _standing(standing: Standing) -> Sequence[ColumnElement[bool]]:
    match standing:
        case Standing.ACTIVE:
            return [Account.status == AccountStatus.ACTIVE, Account.password_hash.is_not(None)]
        case Standing.SUSPENDED:
            return [Account.status == AccountStatus.SUSPENDED]
        case Standing.HELD:
            return [Account.status == AccountStatus.HELD]
        case Standing.NOT_ACTIVATED:
            return [Account.status == AccountStatus.ACTIVE, Account.password_hash.is_(None)]
        case Standing.WITHOUT_SECOND_FACTOR:
            has_app = exists().where(Totp.person_id == Person.id, Totp.confirmed_at.is_not(None))
            has_passkey = exists().where(Passkey.person_id == Person.id)
            return [Account.status == AccountStatus.ACTIVE, ~has_app, ~has_passkey]


def _held(session: Session, person_id: str) -> tuple[HeldRole, ...]:
    rows = session.execute(
        select(RoleGrant.role, RoleGrant.granted_at, RoleGrant.granted_by)
        .where(RoleGrant.person_id == person_id)
        .order_by(RoleGrant.role)
    )
    return tuple(HeldRole(row.role, row.granted_at, row.granted_by) for row in rows)


def _roles_of_all(session: Session, person_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    held: dict[str, tuple[str, ...]] = {}
    rows = session.execute(
        select(RoleGrant.person_id, RoleGrant.role)
        .where(RoleGrant.person_id.in_(person_ids))
        .order_by(RoleGrant.role)
    )
    for row in rows:
        held[row.person_id] = (*held.get(row.person_id, ()), row.role)
    return held
