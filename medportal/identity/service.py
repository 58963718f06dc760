"""Use-cases of identity: register, activate, sign in, sign out, change a password."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.orm import Session

from medportal.core.ids import new_id
from medportal.identity.errors import ActivationRefused, WrongPassword
from medportal.identity.models import (
    Account,
    AccountStatus,
    Activation,
    LoginSession,
    Person,
    PersonIdentifier,
    RoleGrant,
)
from medportal.identity.passwords import check_new_password, hash_password, verify_password
from medportal.tenancy.tenant import PasswordPolicy, SessionPolicy, Tenant

ACTIVATION_LIFETIME = timedelta(days=14)
#: How often the time of a session's last use is written, at most.
TOUCH_AFTER = timedelta(minutes=1)
# Crockford's alphabet: no letter that is taken for a digit when read aloud or copied.
_CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 12


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


@dataclass(frozen=True, slots=True)
class Credentials:
    """What sign-in compares with."""

    person_id: str
    password_hash: str | None
    active: bool


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that is in force."""

    id: str
    person_id: str
    person_name: str
    language: str
    roles: frozenset[str]
    created_at: datetime
    last_used_at: datetime


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
        person_id = new_id()
        _add_person(session, person_id, scheme, number, profile, now)
    if session.get(RoleGrant, (person_id, role)) is None:
        session.add(RoleGrant(person_id=person_id, role=role, granted_at=now, granted_by=by))
    return Registered(person_id, created)


def _add_person(
    session: Session, person_id: str, scheme: str, number: str, profile: Profile, now: datetime
) -> None:
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


def set_password(
    session: Session, person_id: str, policy: PasswordPolicy, password: str, now: datetime
) -> None:
    """Hash and store a password: for programs, not for requests (see :func:`activate`)."""
    _store_hash(session, person_id, hash_password(policy, password), now)


def _store_hash(session: Session, person_id: str, password_hash: str, now: datetime) -> None:
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


def issue_activation(session: Session, person_id: str, now: datetime) -> str:
    """Return a new one-use code to be handed over at the desk; an older one ends.

    Sixty random bits: nobody guesses it within its two weeks, so that no counter of failed
    tries is needed by which a stranger could lock the person out.
    """
    code = "".join(secrets.choice(_CODE_ALPHABET) for _ in range(_CODE_LENGTH))
    session.execute(delete(Activation).where(Activation.person_id == person_id))
    session.add(
        Activation(
            person_id=person_id, code_hash=_code_hash(code), expires_at=now + ACTIVATION_LIFETIME
        )
    )
    return "-".join(code[i : i + 4] for i in range(0, _CODE_LENGTH, 4))


def check_activation(
    session: Session, tenant: Tenant, number: str, code: str, password: str, now: datetime
) -> str:
    """Return whose code this is, if the new password is good too; writes nothing.

    Raises ``ActivationRefused`` (one answer whatever is wrong) or ``WeakPassword``. The
    caller hashes the password before the transaction in which it calls :func:`activate`.
    """
    row = session.execute(
        select(Activation.person_id, Activation.code_hash, Activation.expires_at)
        .join(PersonIdentifier, PersonIdentifier.person_id == Activation.person_id)
        .where(
            PersonIdentifier.scheme == tenant.identifiers.scheme,
            PersonIdentifier.value == number,
        )
    ).one_or_none()
    # One query and one comparison for known and unknown numbers alike.
    fits = hmac.compare_digest(row.code_hash if row else b"\0" * 32, _code_hash(code))
    if row is None or not fits or row.expires_at <= now:
        raise ActivationRefused("activation refused")
    person_id: str = row.person_id
    check_new_password(tenant.passwords, password, _guessable(session, tenant, person_id))
    return person_id


def activate(
    session: Session, person_id: str, code: str, password_hash: str, now: datetime
) -> None:
    """Use up the code and store the first password.

    Raises ``ActivationRefused`` if the code was used or replaced meanwhile.
    """
    used = session.execute(
        delete(Activation)
        .where(
            Activation.person_id == person_id,
            Activation.code_hash == _code_hash(code),
            Activation.expires_at > now,
        )
        .returning(Activation.person_id)
    )
    if used.one_or_none() is None:
        raise ActivationRefused("activation refused")
    _store_hash(session, person_id, password_hash, now)
    end_sessions(session, person_id)


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


def check_password_change(
    session: Session, tenant: Tenant, person_id: str, old: str, new: str
) -> None:
    """Check the old password and the new one; writes nothing.

    Raises ``WrongPassword`` or ``WeakPassword``. The caller hashes the new password before
    the transaction in which it calls :func:`replace_password`.
    """
    stored = session.scalar(select(Account.password_hash).where(Account.person_id == person_id))
    if not verify_password(tenant.passwords, stored, old):
        raise WrongPassword("old password")
    check_new_password(tenant.passwords, new, _guessable(session, tenant, person_id))


def replace_password(session: Session, person_id: str, password_hash: str, now: datetime) -> None:
    """Store a new password and end every session; the caller opens a new one."""
    _store_hash(session, person_id, password_hash, now)
    end_sessions(session, person_id)


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


def open_session(session: Session, person_id: str, now: datetime) -> tuple[str, str]:
    """Open a session; return its id and the token for the cookie (256 random bits)."""
    token = secrets.token_urlsafe(32)
    session_id = new_id()
    session.add(
        LoginSession(
            id=session_id,
            token_hash=_token_hash(token),
            person_id=person_id,
            created_at=now,
            last_used_at=now,
        )
    )
    return session_id, token


def find_session(
    session: Session, policy: SessionPolicy, token: str, now: datetime
) -> OpenSession | None:
    """Return the session of a token if it is in force and its account is active."""
    row = session.execute(
        select(LoginSession, Person.name, Person.language)
        .join(Account, Account.person_id == LoginSession.person_id)
        .join(Person, Person.id == LoginSession.person_id)
        .where(
            LoginSession.token_hash == _token_hash(token),
            LoginSession.created_at > now - policy.absolute,
            LoginSession.last_used_at > now - policy.idle,
            Account.status == AccountStatus.ACTIVE,
        )
    ).one_or_none()
    if row is None:
        return None
    login = row[0]
    return OpenSession(
        id=login.id,
        person_id=login.person_id,
        person_name=row.name,
        language=row.language,
        roles=roles_of(session, login.person_id),
        created_at=login.created_at,
        last_used_at=login.last_used_at,
    )


def roles_of(session: Session, person_id: str) -> frozenset[str]:
    """Return the roles that a person holds."""
    return frozenset(
        session.scalars(select(RoleGrant.role).where(RoleGrant.person_id == person_id))
    )


def touch_session(session: Session, session_id: str, now: datetime) -> None:
    """Note that a session was used."""
    session.execute(
        update(LoginSession).where(LoginSession.id == session_id).values(last_used_at=now)
    )


def end_session(session: Session, session_id: str) -> None:
    """End one session."""
    session.execute(delete(LoginSession).where(LoginSession.id == session_id))


def end_sessions(session: Session, person_id: str) -> None:
    """End every session of a person."""
    session.execute(delete(LoginSession).where(LoginSession.person_id == person_id))


def forget_stale_sessions(session: Session, policy: SessionPolicy, now: datetime) -> int:
    """Delete sessions that are over; return how many."""
    gone = session.execute(
        delete(LoginSession).where(
            (LoginSession.created_at <= now - policy.absolute)
            | (LoginSession.last_used_at <= now - policy.idle)
        )
    )
    return cast("CursorResult[Any]", gone).rowcount


def names_of(session: Session, person_ids: Iterable[str]) -> dict[str, str]:
    """Return names by person id."""
    ids: Sequence[str] = sorted(set(person_ids))
    rows = session.execute(select(Person.id, Person.name).where(Person.id.in_(ids)))
    return {row.id: row.name for row in rows}


def _guessable(session: Session, tenant: Tenant, person_id: str) -> list[str]:
    name = session.scalar(select(Person.name).where(Person.id == person_id)) or ""
    numbers = session.scalars(
        select(PersonIdentifier.value).where(PersonIdentifier.person_id == person_id)
    )
    words = [word for text in tenant.names.values() for word in text.split()]
    return [*name.split(), *numbers, *words, "password", "palavra-passe", "medportal"]


def _code_hash(code: str) -> bytes:
    text = code.upper().replace("-", "").replace(" ", "")
    text = text.replace("O", "0").replace("I", "1").replace("L", "1")
    return hashlib.sha256(b"medportal activation" + text.encode("utf-8", "replace")).digest()


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
