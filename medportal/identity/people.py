"""People and their roles: register, find, name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from medportal.core.ids import new_id
from medportal.identity.errors import NotTheSamePerson
from medportal.identity.models import (
    Account,
    AccountStatus,
    Person,
    PersonIdentifier,
    RoleGrant,
)
from medportal.identity.names import folded
from medportal.identity.notices import notify_at
from medportal.mail.kinds import MailKind


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a person at registration."""

    name: str
    birth_date: date
    sex: str
    email: str = ""
    phone: str = ""
    city: str = ""
    language: str = "pt"


@dataclass(frozen=True, slots=True)
class Registered:
    """Whom a registration concerned, and whether they were new here."""

    person_id: str
    created: bool


def find_person(session: Session, scheme: str, number: str) -> str | None:
    """Return the id of the person who has a number, or ``None``."""
    return session.scalar(
        select(PersonIdentifier.person_id).where(
            PersonIdentifier.scheme == scheme, PersonIdentifier.value == number
        )
    )


def register_person(
    session: Session,
    *,
    scheme: str,
    number: str,
    profile: Profile,
    role: str,
    by: str | None,
    now: datetime,
) -> Registered:
    """Register somebody in a role.

    Whoever is known already gets the role added; their data is neither shown nor touched.
    The unique constraint on identifiers decides between two registrations at once.
    """
    person_id = find_person(session, scheme, number)
    created = person_id is None
    if person_id is None:
        person_id = add_person(session, scheme, number, profile, now)
    if session.get(RoleGrant, (person_id, role)) is None:
        session.add(RoleGrant(person_id=person_id, role=role, granted_at=now, granted_by=by))
    return Registered(person_id, created)


def require_same_person(session: Session, person_id: str, profile: Profile) -> None:
    """Raise ``NotTheSamePerson`` unless somebody known has the name and birth date given.

    A slip of the keyboard must not give the wrong person a role.
    """
    known = session.execute(
        select(Person.name, Person.birth_date).where(Person.id == person_id)
    ).one()
    if (folded(known.name), known.birth_date) != (folded(profile.name), profile.birth_date):
        raise NotTheSamePerson("another name or date of birth")


def add_person(session: Session, scheme: str, number: str, profile: Profile, now: datetime) -> str:
    """Add somebody who is new here, with an account and no role; return their id."""
    person_id = new_id()
    session.add(
        Person(
            id=person_id,
            name=profile.name,
            birth_date=profile.birth_date,
            sex=profile.sex,
            email=profile.email,
            phone=profile.phone,
            city=profile.city,
            language=profile.language,
            created_at=now,
        )
    )
    # Models have no relationships, so the unit of work does not know that the rows below
    # refer to the person; PostgreSQL and SQLite check foreign keys at each statement.
    session.flush()
    session.add_all(
        [
            PersonIdentifier(id=new_id(), person_id=person_id, scheme=scheme, value=number),
            Account(
                person_id=person_id,
                password_hash=None,
                password_changed_at=None,
                status=AccountStatus.ACTIVE,
                created_at=now,
            ),
        ]
    )
    return person_id


_ROLES = select(RoleGrant.role).where(RoleGrant.person_id == bindparam("person"))


def roles_of(session: Session, person_id: str) -> frozenset[str]:
    """Return the roles that a person holds."""
    return frozenset(session.scalars(_ROLES, {"person": person_id}))


def names_of(session: Session, person_ids: Iterable[str]) -> dict[str, str]:
    """Return names by person id."""
    ids: Sequence[str] = sorted(set(person_ids))
    rows = session.execute(select(Person.id, Person.name).where(Person.id.in_(ids)))
    return {row.id: row.name for row in rows}


@dataclass(frozen=True, slots=True)
class Contact:
    """How the institution reaches a person."""

    name: str
    email: str
    phone: str
    language: str


def contact_of(session: Session, person_id: str) -> Contact:
    """Return how to reach a person who exists."""
    row = session.execute(
        select(Person.name, Person.email, Person.phone, Person.language).where(
            Person.id == person_id
        )
    ).one()
    return Contact(row.name, row.email, row.phone, row.language)


def replace_contact(
    session: Session, person_id: str, email: str, phone: str, now: datetime
) -> None:
    """Put what was typed in the place of what was known; the old address is told of it."""
    old = contact_of(session, person_id).email
    session.execute(update(Person).where(Person.id == person_id).values(email=email, phone=phone))
    if old != email:
        notify_at(session, person_id, old, MailKind.EMAIL_CHANGED, now)


def set_language(session: Session, person_id: str, language: str) -> None:
    """Store the language in which a person wants pages and mails."""
    session.execute(update(Person).where(Person.id == person_id).values(language=language))
