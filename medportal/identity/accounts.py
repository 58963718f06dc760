"""What administrators do with accounts: roles, suspension, and why it was done.

Each of these acts at the next request of the person concerned: their sessions end. Each tells
them by mail. Nobody does any of it to their own account, and one administrator who can sign in
is always left.
"""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from medportal.audit.events import Action
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.identity.email_change import cancel_all
from medportal.identity.errors import AccountRefused
from medportal.identity.factors import remove_all_factors, second_factors
from medportal.identity.models import (
    Account,
    AccountNote,
    AccountStatus,
    Activation,
    RecoveryCode,
    RoleGrant,
    Totp,
)
from medportal.identity.models_approvals import ApprovalKind
from medportal.identity.notices import notify
from medportal.identity.sessions import end_sessions
from medportal.identity.waiting import withdraw_about
from medportal.mail.kinds import MailKind

LONGEST_NOTE = 500
SALT_BYTES = 32
CLOSED = (AccountStatus.SUSPENDED, AccountStatus.HELD)
_MAY_BE_SUSPENDED = (AccountStatus.ACTIVE, AccountStatus.HELD)
#: What opens an account, or says where the link to it goes.
OPENING = frozenset(ApprovalKind) - {ApprovalKind.GRANT_ROLE}


@dataclass(frozen=True, slots=True)
class Why:
    """Who changes an account, and why: a code, and words for colleagues that may be empty."""

    by: str
    reason: Reason
    note: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """A note that was written: its id, its reason, and what tells of its text."""

    id: str
    reason: Reason
    commitment: str

    @property
    def details(self) -> dict[str, str | int]:
        """Return what the audit event carries: neither tells a word of the text."""
        return {"note": self.id, "commitment": self.commitment}


def write_note(session: Session, person_id: str, action: Action, why: Why, now: datetime) -> Noted:
    """Keep why an account was changed.

    The commitment is SHA-256 of a random salt and the text. Whoever has both can show that
    the text is what was written then; whoever has the audit log alone can guess nothing.
    """
    salt = secrets.token_bytes(SALT_BYTES)
    note = AccountNote(
        id=new_id(),
        person_id=person_id,
        at=now,
        by=why.by,
        action=str(action),
        reason=str(why.reason),
        note=why.note,
        salt=salt,
    )
    session.add(note)
    return Noted(note.id, why.reason, commitment(salt, why.note))


def commitment(salt: bytes, text: str) -> str:
    """Return the salted commitment to a note's text, in hexadecimal digits."""
    return hashlib.sha256(salt + text.encode("utf-8")).hexdigest()


def grant_role(session: Session, person_id: str, role: str, *, by: str, now: datetime) -> None:
    """Give a role; sessions end, so that nothing goes on under the powers of before.

    Raises ``AccountRefused``. Whether ``by`` may give this role alone is the caller's to know.
    """
    require_active(session, person_id, by=by)
    if session.get(RoleGrant, (person_id, role)) is not None:
        raise AccountRefused(Reason.NOTHING_NEW)
    session.add(RoleGrant(person_id=person_id, role=role, granted_at=now, granted_by=by))
    end_sessions(session, person_id)
    # Whoever has not activated the account yet hears of it by the mail that asks them to.
    if has_password(session, person_id):
        notify(session, person_id, MailKind.ROLES_CHANGED, now, added=role)


def revoke_role(
    session: Session,
    person_id: str,
    role: str,
    *,
    managing: Collection[str],
    by: str,
    now: datetime,
) -> None:
    """Take a role away. Raises ``AccountRefused``.

    ``managing`` are the roles that manage people: one who holds such a role is always left.
    """
    _require_other(person_id, by)
    if role in managing:
        _require_manager_besides(session, person_id, managing)
    lock(session, person_id)
    gone = session.execute(
        delete(RoleGrant)
        .where(RoleGrant.person_id == person_id, RoleGrant.role == role)
        .returning(RoleGrant.role)
    )
    if gone.one_or_none() is None:
        raise AccountRefused(Reason.NOTHING_NEW)
    end_sessions(session, person_id)
    withdraw_about(session, person_id, by, now)
    notify(session, person_id, MailKind.ROLES_CHANGED, now, removed=role)


def suspend(
    session: Session, person_id: str, *, managing: Collection[str], by: str, now: datetime
) -> None:
    """Close an account until it is reinstated. Raises ``AccountRefused``.

    Roles and care assignments stay as they are: they give nothing meanwhile. Emergency access
    and ward teams end (:mod:`medportal.access.endings`, called by administration).
    """
    _require_other(person_id, by)
    _require_manager_besides(session, person_id, managing)
    _set_status(session, person_id, _MAY_BE_SUSPENDED, AccountStatus.SUSPENDED)
    end_sessions(session, person_id)
    # What was handed over or mailed to open the account opens it no longer.
    session.execute(delete(Activation).where(Activation.person_id == person_id))
    # Nor does anything happen meanwhile that was asked for before.
    cancel_all(session, person_id, now)
    withdraw_about(session, person_id, by, now)
    notify(session, person_id, MailKind.ACCOUNT_SUSPENDED, now)


def reinstate(session: Session, person_id: str, *, by: str, now: datetime) -> None:
    """Open a suspended or held account again. Raises ``AccountRefused``."""
    _require_other(person_id, by)
    _set_status(session, person_id, CLOSED, AccountStatus.ACTIVE)
    notify(session, person_id, MailKind.ACCOUNT_REINSTATED, now)


def sign_out_everywhere(session: Session, person_id: str, *, by: str) -> int:
    """End every session of somebody else; return how many. Raises ``AccountRefused``."""
    _require_other(person_id, by)
    return end_sessions(session, person_id)


def begin_anew(session: Session, person_id: str, now: datetime, by: str | None) -> None:
    """Let nothing that opened an account until now open it any longer.

    Its person activates it again, with a code from whoever handed it over. Other addresses
    that were asked for do not become theirs, by whomever, nor is anything approved that would
    open the account: only a role may still be given, to which the account begins anew, or has.
    """
    session.execute(
        update(Account)
        .where(Account.person_id == person_id)
        .values(password_hash=None, password_changed_at=now)
    )
    session.execute(delete(Activation).where(Activation.person_id == person_id))
    if second_factors(session, person_id):
        remove_all_factors(session, person_id, now)
    # Also what was begun and never finished: nobody need be told of it.
    for model in (Totp, RecoveryCode):
        session.execute(delete(model).where(model.person_id == person_id))
    cancel_all(session, person_id, now)
    withdraw_about(session, person_id, by, now, OPENING)
    end_sessions(session, person_id)


def has_password(session: Session, person_id: str) -> bool:
    """Tell whether an account was activated."""
    return bool(
        session.scalar(
            select(Account.password_hash.is_not(None)).where(Account.person_id == person_id)
        )
    )


def lock(session: Session, person_id: str) -> str | None:
    """Let nobody else change this account meanwhile; return its status."""
    return session.scalar(
        select(Account.status).where(Account.person_id == person_id).with_for_update()
    )


def require_active(session: Session, person_id: str, *, by: str) -> None:
    """Lock an account that ``by`` is about to change.

    Raises ``AccountRefused`` for the own one and for one that is suspended.
    """
    _require_other(person_id, by)
    if lock(session, person_id) != AccountStatus.ACTIVE:
        raise AccountRefused(Reason.SUSPENDED)


def _require_other(person_id: str, by: str) -> None:
    if person_id == by:
        raise AccountRefused(Reason.OWN_ACCOUNT)


def _set_status(
    session: Session, person_id: str, before: Collection[AccountStatus], after: AccountStatus
) -> None:
    changed = session.execute(
        update(Account)
        .where(Account.person_id == person_id, Account.status.in_(before))
        .values(status=after)
        .returning(Account.person_id)
    )
    if changed.one_or_none() is None:
        raise AccountRefused(Reason.NOTHING_NEW)


def _require_manager_besides(session: Session, person_id: str, managing: Collection[str]) -> None:
    """Raise ``AccountRefused`` if nobody else would be left to manage people.

    Two administrators who remove each other at one moment: the second waits here for the
    first, and then finds that there is nobody else.
    """
    holders = select(RoleGrant.person_id).where(RoleGrant.role.in_(sorted(managing)))
    # In one order, whoever does it, so that nobody waits in a circle.
    session.execute(
        select(Account.person_id)
        .where(or_(Account.person_id.in_(holders), Account.person_id == person_id))
        .order_by(Account.person_id)
        .with_for_update()
    )
    others = session.scalars(
        select(Account.person_id).where(
            Account.person_id.in_(holders),
            Account.person_id != person_id,
            Account.status == AccountStatus.ACTIVE,
            Account.password_hash.is_not(None),
        )
    )
    if others.first() is None and person_id in session.scalars(holders).all():
        raise AccountRefused(Reason.LAST_ADMIN)
