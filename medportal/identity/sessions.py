"""Sessions: the server's side of a signed-in browser.

The cookie holds 256 random bits and the database their hash. A session is first *open* when
every factor that the account has was given; until then it only knows whose second factor is
asked for. Roles, suspension and lifetimes are looked up at each request, so that a change
acts at the next one.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

from sqlalchemy import CursorResult, Select, bindparam, delete, select, update
from sqlalchemy.orm import Session

from medportal.core.identity import Method
from medportal.core.ids import new_id
from medportal.db.reading import rows_of, table
from medportal.identity.models import (
    Account,
    AccountStatus,
    LoginSession,
    Person,
    RoleGrant,
    SessionStage,
)
from medportal.identity.people import roles_of
from medportal.tenancy.tenant import Tenant

#: How often the time of a session's last use is written, at most.
TOUCH_AFTER = timedelta(minutes=1)
#: How long a second factor is waited for.
SECOND_STEP = timedelta(minutes=10)
#: How many sessions a person has at once, of those that are open and of those that wait for a
#: second factor; the one unused for longest gives way to a new one of its kind. Whoever knows
#: no more than the password ends nobody's open session by trying it over and over.
MOST_SESSIONS = {SessionStage.OPEN: 20, SessionStage.SECOND_FACTOR: 3}
_PASSWORDS = frozenset({Method.PASSWORD, Method.SHORT_PASSWORD})
_LONGEST_USER_AGENT = 200


@dataclass(frozen=True, slots=True)
class Browser:
    """What is known of the browser that signs in: shown to its owner, never trusted."""

    user_agent: str
    address: str
    on_site: bool

    def __post_init__(self) -> None:
        """Cut what a browser says of itself to what a page can show."""
        kept = "".join(ch for ch in self.user_agent if ch.isprintable())[:_LONGEST_USER_AGENT]
        object.__setattr__(self, "user_agent", kept)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that is in force, open or waiting for a second factor."""

    id: str
    person_id: str
    person_name: str
    language: str
    roles: frozenset[str]
    created_at: datetime
    last_used_at: datetime
    stage: SessionStage
    methods: frozenset[Method]
    confirmed_at: datetime


@dataclass(frozen=True, slots=True)
class SessionLine:
    """One of a person's sessions, as a list shows it."""

    id: str
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    address: str
    on_site: bool
    methods: frozenset[Method]


def open_session(
    session: Session,
    person_id: str,
    now: datetime,
    *,
    methods: frozenset[Method],
    browser: Browser,
    stage: SessionStage = SessionStage.OPEN,
) -> tuple[str, str]:
    """Open a session; return its id and the token for the cookie."""
    _make_room(session, person_id, stage)
    token = secrets.token_urlsafe(32)
    session_id = new_id()
    session.add(
        LoginSession(
            id=session_id,
            token_hash=_token_hash(token),
            person_id=person_id,
            created_at=now,
            last_used_at=now,
            stage=stage,
            methods=_codes(methods),
            confirmed_at=now,
            user_agent=browser.user_agent,
            address=browser.address,
            on_site=browser.on_site,
        )
    )
    return session_id, token


def _make_room(session: Session, person_id: str, stage: SessionStage) -> None:
    surplus = (
        select(LoginSession.id)
        .where(LoginSession.person_id == person_id, LoginSession.stage == stage)
        .order_by(LoginSession.last_used_at.desc(), LoginSession.id)
        .offset(MOST_SESSIONS[stage] - 1)
    )
    for session_id in session.scalars(surplus).all():
        end_session(session, session_id)


def rotate_session(
    session: Session,
    login: OpenSession,
    now: datetime,
    *,
    add: frozenset[Method],
    confirmed: bool = True,
) -> str | None:
    """Give a session a new token after somebody proved who they are; the old one is void.

    The session is open from then on, with the methods of before and those in ``add``; a
    password takes the place of the one before. Unless all that the account has was shown, it
    is not ``confirmed`` anew. Returns the token, or ``None`` if the session was ended meanwhile.
    """
    if login.stage is SessionStage.SECOND_FACTOR:
        _make_room(session, login.person_id, SessionStage.OPEN)
    held = login.methods - _PASSWORDS if add & _PASSWORDS else login.methods
    token = secrets.token_urlsafe(32)
    changed = session.execute(
        update(LoginSession)
        .where(LoginSession.id == login.id)
        .values(
            token_hash=_token_hash(token),
            stage=SessionStage.OPEN,
            methods=_codes(held | add),
            confirmed_at=now if confirmed else login.confirmed_at,
            last_used_at=now,
        )
    )
    return token if cast("CursorResult[Any]", changed).rowcount else None


def lock_session(session: Session, session_id: str) -> frozenset[Method] | None:
    """Let nobody end an open session until this transaction is over; return its methods.

    ``None`` if it was ended already.
    """
    codes = session.scalar(
        select(LoginSession.methods)
        .where(LoginSession.id == session_id, LoginSession.stage == SessionStage.OPEN)
        .with_for_update()
    )
    return None if codes is None else _methods(codes)


def set_methods(session: Session, session_id: str, methods: frozenset[Method]) -> None:
    """Set how a session counts as authenticated, after a factor of its account was removed."""
    session.execute(
        update(LoginSession).where(LoginSession.id == session_id).values(methods=_codes(methods))
    )


def find_session(session: Session, tenant: Tenant, token: str, now: datetime) -> OpenSession | None:
    """Return the session of a token if it is in force and its account is active."""
    rows = rows_of(session, _in_force(), {"token_hash": _token_hash(token)})
    if not rows:
        return None
    login = rows[0]
    roles = frozenset(row.role for row in rows if row.role is not None)
    if _is_over(login, roles, tenant, now):
        return None
    return OpenSession(
        id=login.id,
        person_id=login.person_id,
        person_name=login.name,
        language=login.language,
        roles=roles,
        created_at=login.created_at,
        last_used_at=login.last_used_at,
        stage=SessionStage(login.stage),
        methods=_methods(login.methods),
        confirmed_at=login.confirmed_at,
    )


@cache
def _in_force() -> Select[*tuple[Any, ...]]:
    """Return the session of a token with its person, once for each of the person's roles."""
    login, account, person = (table(model) for model in (LoginSession, Account, Person))
    role = table(RoleGrant)
    return (
        select(
            login.c.id,
            login.c.person_id,
            login.c.created_at,
            login.c.last_used_at,
            login.c.stage,
            login.c.methods,
            login.c.confirmed_at,
            person.c.name,
            person.c.language,
            role.c.role,
        )
        .join_from(login, account, account.c.person_id == login.c.person_id)
        .join(person, person.c.id == login.c.person_id)
        .outerjoin(role, role.c.person_id == login.c.person_id)
        .where(
            login.c.token_hash == bindparam("token_hash"),
            account.c.status == AccountStatus.ACTIVE.value,
        )
    )


def _is_over(login: Any, roles: frozenset[str], tenant: Tenant, now: datetime) -> bool:
    """Tell whether a session, or the row of one, has had its time."""
    created_at: datetime = login.created_at
    if login.stage == SessionStage.SECOND_FACTOR:
        return created_at <= now - SECOND_STEP
    policy, last_used_at = tenant.sessions_of(roles), login.last_used_at
    return created_at <= now - policy.absolute or bool(last_used_at <= now - policy.idle)


def sessions_of(
    session: Session, tenant: Tenant, person_id: str, now: datetime
) -> list[SessionLine]:
    """Return a person's open sessions that are in force, last used first."""
    roles = roles_of(session, person_id)
    rows = session.scalars(
        select(LoginSession)
        .where(LoginSession.person_id == person_id, LoginSession.stage == SessionStage.OPEN)
        .order_by(LoginSession.last_used_at.desc(), LoginSession.id)
    )
    return [
        SessionLine(
            row.id,
            row.created_at,
            row.last_used_at,
            row.user_agent,
            row.address,
            row.on_site,
            _methods(row.methods),
        )
        for row in rows
        if not _is_over(row, roles, tenant, now)
    ]


def touch_session(session: Session, session_id: str, now: datetime) -> None:
    """Note that a session was used."""
    session.execute(
        update(LoginSession).where(LoginSession.id == session_id).values(last_used_at=now)
    )


def end_session(session: Session, session_id: str, person_id: str | None = None) -> bool:
    """End one session, if it is that person's where one is named; tell whether it was there."""
    query = delete(LoginSession).where(LoginSession.id == session_id)
    if person_id is not None:
        query = query.where(LoginSession.person_id == person_id)
    return cast("CursorResult[Any]", session.execute(query)).rowcount > 0


def end_sessions(session: Session, person_id: str, *, but: str | None = None) -> int:
    """End every session of a person, except the one with id ``but``; return how many."""
    query = delete(LoginSession).where(LoginSession.person_id == person_id)
    if but is not None:
        query = query.where(LoginSession.id != but)
    return cast("CursorResult[Any]", session.execute(query)).rowcount


def end_everybodys_sessions(session: Session) -> int:
    """End every session of the institution; return how many.

    Those that wait for a second factor go too: somebody may have a stolen password.
    """
    return cast("CursorResult[Any]", session.execute(delete(LoginSession))).rowcount


def forget_stale_sessions(session: Session, tenant: Tenant, now: datetime) -> int:
    """Delete sessions that are over for everybody; return how many.

    Those that are over by a role's shorter times are refused when used, and go later.
    """
    policies = [tenant.sessions, *(r.sessions for r in tenant.roles.values() if r.sessions)]
    gone = session.execute(
        delete(LoginSession).where(
            (LoginSession.created_at <= now - max(policy.absolute for policy in policies))
            | (LoginSession.last_used_at <= now - max(policy.idle for policy in policies))
        )
    )
    return cast("CursorResult[Any]", gone).rowcount


def _codes(methods: frozenset[Method]) -> str:
    return " ".join(sorted(methods))


def _methods(codes: str) -> frozenset[Method]:
    return frozenset(Method(code) for code in codes.split())


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
