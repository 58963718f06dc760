"""Passwords of accounts: what sign-in compares with, setting and changing them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.orm import Session

from medportal.identity.errors import WrongPassword
from medportal.identity.factors import second_factors
from medportal.identity.models import Account, AccountStatus, Activation, Person, PersonIdentifier
from medportal.identity.notices import notify
from medportal.identity.passwords import (
    check_new_password,
    hash_password,
    minimum_for,
    verify_password,
)
from medportal.identity.sessions import end_sessions
from medportal.mail.kinds import MailKind
from medportal.tenancy.tenant import PasswordPolicy, Tenant

#: How people write a day of birth into a password.
_DAYS = ("%d%m%Y", "%Y%m%d", "%m%d%Y", "%d%m%y", "%y%m%d", "%m%d%y", "%d%m", "%m%d", "%Y")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What sign-in compares with."""

    person_id: str
    password_hash: str | None = field(repr=False)
    active: bool


def credentials(session: Session, scheme: str, number: str) -> Credentials | None:
    """Return what sign-in compares with, or ``None`` for an unknown number."""
    row = session.execute(
        select(Account.person_id, Account.password_hash, Account.status)
        .join(PersonIdentifier, PersonIdentifier.person_id == Account.person_id)
        .where(PersonIdentifier.scheme == scheme, PersonIdentifier.value == number)
    ).one_or_none()
    if row is None:
        return None
    return Credentials(row.person_id, row.password_hash, row.status == AccountStatus.ACTIVE)


def set_password(
    session: Session, person_id: str, policy: PasswordPolicy, password: str, now: datetime
) -> None:
    """Hash and store a password: for programs, not for requests (it hashes while it writes)."""
    store_hash(session, person_id, hash_password(policy, password), now)


def store_hash(session: Session, person_id: str, password_hash: str, now: datetime) -> None:
    """Store the hash of a new password."""
    session.execute(
        update(Account)
        .where(Account.person_id == person_id)
        .values(password_hash=password_hash, password_changed_at=now)
    )


def renew_hash(session: Session, person_id: str, old: str, new: str) -> None:
    """Store the same password's hash under today's parameters, unless it changed meanwhile."""
    session.execute(
        update(Account)
        .where(Account.person_id == person_id, Account.password_hash == old)
        .values(password_hash=new)
    )


def check_choice(session: Session, tenant: Tenant, person_id: str, password: str) -> None:
    """Raise ``WeakPassword`` for a password that this person may not choose; writes nothing."""
    minimum = minimum_for(tenant.passwords, bool(second_factors(session, person_id)))
    check_new_password(minimum, password, guessable_words(session, tenant, person_id))


def check_password_change(
    session: Session, tenant: Tenant, person_id: str, old: str, new: str
) -> str:
    """Check the old password and the new one; return the stored hash; writes nothing.

    Raises ``WrongPassword`` or ``WeakPassword``. The caller hashes the new password before
    the transaction in which it calls :func:`replace_password`.
    """
    stored = session.scalar(select(Account.password_hash).where(Account.person_id == person_id))
    if not verify_password(tenant.passwords, stored, old) or stored is None:
        raise WrongPassword("old password")
    check_choice(session, tenant, person_id, new)
    return stored


def replace_password(
    session: Session,
    person_id: str,
    stored: str,
    password_hash: str,
    now: datetime,
    *,
    but: str | None = None,
) -> None:
    """Store a new password, end every session except the one with id ``but``, tell the person.

    ``stored`` is the hash with which the old password was compared. Raises ``WrongPassword``
    if that is no longer the one: of two changes at once, one wins and the other hears of it.
    """
    changed = session.execute(
        update(Account)
        .where(Account.person_id == person_id, Account.password_hash == stored)
        .values(password_hash=password_hash, password_changed_at=now)
    )
    if not cast("CursorResult[Any]", changed).rowcount:
        raise WrongPassword("changed meanwhile")
    end_sessions(session, person_id, but=but)
    # A link or a code for choosing another password is for the one that was forgotten.
    session.execute(delete(Activation).where(Activation.person_id == person_id))
    notify(session, person_id, MailKind.PASSWORD_CHANGED, now)


def still_holds(session: Session, found: Credentials) -> bool:
    """Tell, in the transaction that opens a session, whether what was verified is still so.

    The password was verified on a snapshot; a change of password or a suspension that was
    committed since must win.
    """
    row = session.execute(
        select(Account.password_hash, Account.status)
        .where(Account.person_id == found.person_id)
        .with_for_update()
    ).one_or_none()
    return row is not None and (row.password_hash, row.status) == (
        found.password_hash,
        AccountStatus.ACTIVE,
    )


def guessable_words(session: Session, tenant: Tenant, person_id: str) -> list[str]:
    """Return the words and numbers that an acquaintance of this person would try."""
    person = session.execute(
        select(Person.name, Person.birth_date, Person.email, Person.phone, Person.city).where(
            Person.id == person_id
        )
    ).one_or_none()
    numbers = session.scalars(
        select(PersonIdentifier.value).where(PersonIdentifier.person_id == person_id)
    )
    own = _about(*person) if person else ()
    return [*own, *numbers, *tenant.names.values(), *tenant.hostnames, *tenant.wards]


def _about(name: str, born: date, email: str, phone: str, city: str) -> Iterator[str]:
    yield from (name, email, email.partition("@")[0], city)
    digits = "".join(ch for ch in phone if ch.isdigit())
    # With the code of the country in front of it, or without.
    yield from (digits, digits[-9:])
    for form in _DAYS:
        yield born.strftime(form)
