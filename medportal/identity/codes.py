"""Choosing a password, for the first time or anew: what it takes, and using it up.

What it takes has two halves that go different ways: a code that the desk hands over after a
look at the citizen card, and a link that is mailed. Whoever has a mail address needs both, so
that neither a mailbox nor a desk opens an account alone; whoever has none needs the code.
The halves are renewed one without the other, kept as hashes, and used up together.

A code has sixty random bits: nobody guesses it within its two weeks, so that no counter of
failed tries is needed by which a stranger could lock the person out. With less than 112 bits
a plain hash would not keep whoever has the database from trying them all, so codes are kept
as argon2id hashes with a salt (ASVS 5.0, 6.5.2). That takes a moment: callers hash before
the transaction that writes. Links have 256 bits, for which SHA-256 does.
"""

import hmac
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from argon2 import Type
from argon2.low_level import hash_secret_raw
from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from medportal.core.reasons import Reason
from medportal.db.dialect import insert_or
from medportal.identity.accounts import lock
from medportal.identity.errors import ActivationRefused, CodeNotIssued, LinkNeeded
from medportal.identity.links import link_hash, send_link
from medportal.identity.models import (
    Account,
    AccountStatus,
    Activation,
    Person,
    PersonIdentifier,
)
from medportal.identity.passwords import TURNS
from medportal.identity.people import roles_of
from medportal.identity.powers import is_staff
from medportal.identity.recovery import ALPHABET, LENGTH, read_code
from medportal.identity.sessions import end_sessions
from medportal.mail.kinds import MailKind
from medportal.tenancy.tenant import REPRESENTATIVE_ROLE, Tenant

CODE_LIFETIME = timedelta(days=14)
# Parameters of the recovery codes, which are as long and as random.
_SALT_BYTES = 8
_HASH_BYTES = 24
_TIME_COST = 2
_MEMORY_KIB = 19_456


@dataclass(frozen=True, slots=True)
class FreshCode:
    """A code that was made and is not stored yet, and what the database will hold."""

    code: str = field(repr=False)
    hashed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the desk does next for somebody who was registered.

    ``code`` is to be handed over; ``None`` for an account that has a password already.
    """

    code: str | None
    mail_sent: bool


class WayIn(StrEnum):
    """What somebody does with a code from the desk."""

    #: They have no mail address: the code is enough.
    CODE = "code"
    #: They open the link that was mailed to them at registration.
    FIRST_LINK = "first-link"
    #: They have a password that they have forgotten, and ask for a link.
    NEW_LINK = "new-link"


@dataclass(frozen=True, slots=True)
class Shown:
    """Whose account it is, and the hashes of the halves that were shown and found right.

    ``is_new`` says that the account has no password so far.
    """

    person_id: str
    is_new: bool
    code_hash: bytes | None = None
    link_hash: bytes | None = None


def needs_link(tenant: Tenant, email: str) -> bool:
    """Tell whether somebody with this address needs the mailed link besides the code."""
    return bool(email) and tenant.mail is not None


def way_in(session: Session, tenant: Tenant, person_id: str) -> WayIn:
    """Return what a person does with a code from the desk, for the paper that it stands on."""
    email, password_hash = session.execute(
        select(Person.email, Account.password_hash)
        .join(Account, Account.person_id == Person.id)
        .where(Person.id == person_id)
    ).one()
    if not needs_link(tenant, email):
        return WayIn.CODE
    return WayIn.FIRST_LINK if password_hash is None else WayIn.NEW_LINK


def welcome(
    session: Session,
    tenant: Tenant,
    person_id: str,
    now: datetime,
    *,
    by: str | None = None,
    made: FreshCode | None = None,
) -> Welcome:
    """Issue the first code and mail the first link to somebody who was just registered.

    ``made`` is a code from :func:`make_code`, as for :func:`issue_code`.
    """
    password_hash, email = session.execute(
        select(Account.password_hash, Person.email)
        .join(Person, Person.id == Account.person_id)
        .where(Account.person_id == person_id)
    ).one()
    if password_hash is not None:
        return Welcome(None, False)
    code = issue_code(session, person_id, by, now, made)
    return Welcome(code, needs_link(tenant, email) and send_link(session, person_id, now))


def make_code() -> FreshCode:
    """Return a new code; slow, and without any database."""
    code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    grouped = "-".join(code[i : i + 4] for i in range(0, LENGTH, 4))
    return FreshCode(grouped, _hash(code, secrets.token_bytes(_SALT_BYTES)))


def issue_code(
    session: Session,
    person_id: str,
    by: str | None,
    now: datetime,
    made: FreshCode | None = None,
) -> str:
    """Return a new one-use code to be handed over at the desk; an older one ends.

    ``made`` is a code from :func:`make_code`, made before the transaction: here it would take
    its time while others wait for the lock. Who may issue one for whom is the caller's business.
    """
    made = made or make_code()
    half: dict[str, Any] = {
        "code_hash": made.hashed,
        "code_expires_at": now + CODE_LIFETIME,
        "code_by": by,
    }
    insert = insert_or(session, Activation).values(person_id=person_id, **half)
    session.execute(insert.on_conflict_do_update(index_elements=[Activation.person_id], set_=half))
    return made.code


def require_alone(session: Session, tenant: Tenant, person_id: str, by: str) -> None:
    """Raise ``CodeNotIssued`` unless one person at the desk may issue this person's code.

    They may for patients where the code is half of what it takes, or where the account was
    never activated and opens no record but the patient's own. Whoever works here has powers to
    take over, and who registered them as a patient may have typed where the link goes.
    """
    email, used_since, status = session.execute(
        select(Person.email, Account.password_changed_at, Account.status)
        .join(Account, Account.person_id == Person.id)
        .where(Person.id == person_id)
    ).one()
    if person_id == by:
        raise CodeNotIssued(Reason.OWN_ACCOUNT)
    if status != AccountStatus.ACTIVE:
        raise CodeNotIssued(Reason.SUSPENDED)
    held = roles_of(session, person_id)
    # An account that began anew has no password, and was somebody's all the same.
    guarded = used_since is not None or REPRESENTATIVE_ROLE in held
    if is_staff(held) or (guarded and not needs_link(tenant, email)):
        raise CodeNotIssued(Reason.SECOND_PERSON_NEEDED)


def check_code(session: Session, tenant: Tenant, number: str, code: str, now: datetime) -> Shown:
    """Return whose code this is; slow, writes nothing.

    Raises ``ActivationRefused``, one answer whatever is wrong, or ``LinkNeeded``, which only
    somebody with the right code gets to hear.
    """
    named = select(PersonIdentifier.person_id).where(
        PersonIdentifier.scheme == tenant.identifiers.scheme, PersonIdentifier.value == number
    )
    found = _find(session, Account.person_id.in_(named))
    given = _fitting(found, code, now)
    if needs_link(tenant, found.email):
        raise LinkNeeded(found.person_id)
    return Shown(found.person_id, found.password_hash is None, code_hash=given)


def check_link(session: Session, kind: MailKind, token: str, now: datetime) -> Shown:
    """Return whose link this is; writes nothing.

    Raises ``ActivationRefused`` for one that is unknown, used, replaced, too old, or of another
    kind. It is not enough by itself.
    """
    given = link_hash(kind, token)
    found = _find(session, Activation.link_hash == given)
    if found is None or not _in_force(found.link_expires_at, now):
        raise ActivationRefused("activation refused")
    return Shown(found.person_id, found.password_hash is None, link_hash=given)


def check_link_and_code(
    session: Session, kind: MailKind, token: str, code: str, now: datetime
) -> Shown:
    """Return whose link and code these are; slow, writes nothing. Raises ``ActivationRefused``."""
    shown = check_link(session, kind, token, now)
    found = _find(session, Account.person_id == shown.person_id)
    return replace(shown, code_hash=_fitting(found, code, now))


def use(session: Session, shown: Shown, password_hash: str, now: datetime) -> None:
    """Use up what was shown, store the password and end the person's sessions.

    One statement decides: of two browsers that send the same, one gets in. Raises
    ``ActivationRefused`` if a half was used or replaced since the check, or ran out, or if
    the account was suspended.
    """
    # Everybody who changes what opens an account takes this lock first.
    lock(session, shown.person_id)
    used = session.scalar(
        delete(Activation)
        .where(Activation.person_id == shown.person_id, *_still_there(shown, now))
        .returning(Activation.person_id)
    )
    stored = session.scalar(
        update(Account)
        .where(Account.person_id == used, Account.status == AccountStatus.ACTIVE)
        .values(password_hash=password_hash, password_changed_at=now)
        .returning(Account.person_id)
    )
    if stored is None:
        raise ActivationRefused("activation refused")
    end_sessions(session, shown.person_id)


def forget_old_halves(session: Session, now: datetime) -> None:
    """Delete codes and links that ran out."""
    session.execute(
        update(Activation)
        .where(Activation.code_expires_at <= now)
        .values(code_hash=None, code_expires_at=None, code_by=None)
    )
    session.execute(
        update(Activation)
        .where(Activation.link_expires_at <= now)
        .values(link_hash=None, link_expires_at=None)
    )
    session.execute(
        delete(Activation).where(Activation.code_hash.is_(None), Activation.link_hash.is_(None))
    )


def _find(session: Session, whose: ColumnElement[bool]) -> Any:
    """Return the row of an active account with what it waits for, or ``None``."""
    return session.execute(
        select(
            Account.person_id,
            Account.password_hash,
            Person.email,
            Activation.code_hash,
            Activation.code_expires_at,
            Activation.link_expires_at,
        )
        .join(Person, Person.id == Account.person_id)
        .join(Activation, Activation.person_id == Account.person_id)
        .where(Account.status == AccountStatus.ACTIVE, whose)
    ).one_or_none()


def _still_there(shown: Shown, now: datetime) -> list[ColumnElement[bool]]:
    conditions = []
    if shown.code_hash is not None:
        conditions += [Activation.code_hash == shown.code_hash, Activation.code_expires_at > now]
    if shown.link_hash is not None:
        conditions += [Activation.link_hash == shown.link_hash, Activation.link_expires_at > now]
    if not conditions:
        raise ActivationRefused("nothing was shown")
    return conditions


def _fitting(found: Any, code: str, now: datetime) -> bytes:
    """Return the hash of a code that is this account's and in force.

    Raises ``ActivationRefused``, after one hash and one comparison, whether there is such an
    account and such a code or not.
    """
    stored: bytes | None = found and found.code_hash
    given = _hash(read_code(code) or "", _salt_of(stored))
    fits = hmac.compare_digest(stored or b"", given)
    if not fits or not _in_force(found.code_expires_at, now):
        raise ActivationRefused("activation refused")
    return given


def _in_force(expires_at: datetime | None, now: datetime) -> bool:
    return expires_at is not None and expires_at > now


def _salt_of(stored: bytes | None) -> bytes:
    # Whoever waits for no code takes as long as others.
    return (stored or bytes(_SALT_BYTES))[:_SALT_BYTES]


def _hash(code: str, salt: bytes) -> bytes:
    with TURNS:
        hashed = hash_secret_raw(
            b"medportal desk code\0" + code.encode("ascii"),
            salt,
            time_cost=_TIME_COST,
            memory_cost=_MEMORY_KIB,
            parallelism=1,
            hash_len=_HASH_BYTES,
            type=Type.ID,
        )
    return salt + hashed
