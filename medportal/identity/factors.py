"""Which second factors an account has, and what goes with the removal of one."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from medportal.core.identity import SECOND_FACTORS, Method
from medportal.identity.errors import LastSecondFactor, SessionOver
from medportal.identity.models import Account, AccountStatus, Passkey, RecoveryCode, Totp
from medportal.identity.notices import notify
from medportal.identity.sessions import OpenSession, end_sessions, lock_session, set_methods
from medportal.mail.kinds import MailKind
from medportal.tenancy.tenant import Tenant

_PASSWORDS = frozenset({Method.PASSWORD, Method.SHORT_PASSWORD})
_OWN_FACTORS = frozenset({Method.TOTP, Method.PASSKEY})


def second_factors(session: Session, person_id: str) -> frozenset[Method]:
    """Return the second factors that a person has set up: any one of them is asked for."""
    has_totp, has_passkey = session.execute(
        select(
            exists().where(Totp.person_id == person_id, Totp.confirmed_at.is_not(None)),
            exists().where(Passkey.person_id == person_id),
        )
    ).one()
    found = {Method.TOTP: has_totp, Method.PASSKEY: has_passkey}
    return frozenset(method for method, present in found.items() if present)


def lock_account(session: Session, person_id: str) -> None:
    """Let whoever else does this for the same account wait until this transaction is over."""
    session.execute(
        select(Account.person_id).where(Account.person_id == person_id).with_for_update()
    )


def require_live(session: Session, login: OpenSession) -> OpenSession:
    """Return a session as it is now, in the transaction that is about to change credentials.

    A request finds its session on a snapshot. Until it writes, the session may have been ended
    by its owner or the institution, and the account suspended or begun anew: then nothing that
    is under way counts any more. From here on, whoever does such a thing waits. Raises
    ``SessionOver``, also for a session without a second factor while the account has one.
    """
    status = session.scalar(
        select(Account.status).where(Account.person_id == login.person_id).with_for_update()
    )
    methods = lock_session(session, login.id)
    if status != AccountStatus.ACTIVE or methods is None:
        raise SessionOver("ended meanwhile")
    factors = second_factors(session, login.person_id)
    counting = _counting(methods, factors)
    if factors and not counting & SECOND_FACTORS:
        raise SessionOver("signed in without the second factor that there is")
    return replace(login, methods=counting)


def roles_that_require(tenant: Tenant, held: Iterable[str]) -> list[str]:
    """Return those of the ``held`` roles that count only with a second factor."""
    known = (tenant.roles[role] for role in sorted(held) if role in tenant.roles)
    return [role.id for role in known if role.second_factor]


def remove_factor(
    session: Session,
    login: OpenSession,
    factor: Method,
    removal: Callable[[], bool],
    now: datetime,
    *,
    long_password: bool,
) -> bool:
    """Remove one of the second factors of whoever holds this session, and tell them by mail.

    ``removal`` deletes it and says whether it was there; the password was asked for just now
    and is a ``long_password`` if it may be the only factor. Every other session ends, and this
    one no longer counts as having what was removed. Recovery codes go with the last factor.
    Returns whether it was there. Raises ``LastSecondFactor``, and has changed nothing, if a
    short password would be left alone, and ``SessionOver`` as :func:`require_live` does.
    """
    person_id = login.person_id
    # Two removals at once, of the app and of a passkey, must not each take the other for
    # what is left.
    login = require_live(session, login)
    with session.begin_nested():
        if not removal():
            return False
        left = second_factors(session, person_id)
        if not left and not long_password:
            raise LastSecondFactor("the password is too short to be the only factor")
    if not left:
        _delete_recovery_codes(session, person_id)
    set_methods(session, login.id, _remaining(login.methods, left, long_password))
    end_sessions(session, person_id, but=login.id)
    notify(session, person_id, MailKind.SECOND_FACTOR_REMOVED, now, factor=str(factor))
    return True


def remove_all_factors(session: Session, person_id: str, now: datetime) -> None:
    """Remove every second factor and recovery code, end every session, tell the person by mail.

    For the institution, after a second member of staff has approved it.
    """
    for model in (Totp, Passkey):
        session.execute(delete(model).where(model.person_id == person_id))
    _delete_recovery_codes(session, person_id)
    end_sessions(session, person_id)
    notify(session, person_id, MailKind.SECOND_FACTOR_REMOVED, now, factor="all")


def _delete_recovery_codes(session: Session, person_id: str) -> None:
    session.execute(delete(RecoveryCode).where(RecoveryCode.person_id == person_id))


def _counting(methods: frozenset[Method], factors: frozenset[Method]) -> frozenset[Method]:
    """Return which methods still count for an account that has these second factors."""
    return methods - (_OWN_FACTORS - factors if factors else SECOND_FACTORS)


def _remaining(
    methods: frozenset[Method], left: frozenset[Method], long_password: bool
) -> frozenset[Method]:
    """Return how a session counts as authenticated after a factor was removed."""
    rest = _counting(methods, left)
    if rest & SECOND_FACTORS:
        return rest
    password = Method.PASSWORD if long_password else Method.SHORT_PASSWORD
    return (rest - _PASSWORDS) | {password}
