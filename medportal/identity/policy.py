"""The security policy: cookie -> ``Identity``; a context's ``__acl__`` -> permitted or not."""

from datetime import datetime
from typing import Any

from pyramid.authorization import ACLHelper, Authenticated, Everyone
from pyramid.request import Request
from sqlalchemy.orm import Session

from medportal.core.clock import utcnow
from medportal.core.identity import Identity
from medportal.identity.service import TOUCH_AFTER, OpenSession, find_session, touch_session
from medportal.tenancy.requests import SAFE_METHODS

#: What pages ask by themselves: it must not keep a session alive that nobody uses.
BACKGROUND_ROUTES = frozenset({"record-delivery"})


def includeme(config: Any) -> None:
    """Install the policy and the request attributes."""
    config.set_security_policy(PortalSecurityPolicy())
    config.add_request_method(lambda request: utcnow(), "now", reify=True)
    config.add_request_method(_open_session, "login", reify=True)
    config.add_request_method(_person_name, "person_name", property=True)
    config.add_request_method(_language, "language_preference", property=True)


class PortalSecurityPolicy:
    """Who is asking, and whether the context lets them."""

    def __init__(self) -> None:
        self._acl = ACLHelper()

    def identity(self, request: Request) -> Identity | None:
        """Return the signed-in identity at this request's tenant, or ``None``."""
        login: OpenSession | None = request.login
        if login is None:
            return None
        return Identity(
            person_id=login.person_id,
            tenant_id=request.tenant.id,
            roles=login.roles,
            session_id=login.id,
            authenticated_at=login.created_at,
        )

    def authenticated_userid(self, request: Request) -> str | None:
        """Return the person's internal id, or ``None``."""
        identity = request.identity
        return identity.person_id if identity else None

    def permits(self, request: Request, context: object, permission: str) -> Any:
        """Read the context's projected decision; no side effects."""
        principals = {Everyone}
        if request.identity is not None:
            principals |= {Authenticated, request.identity.person_id}
        return self._acl.permits(context, principals, permission)

    def remember(self, request: Request, userid: str, **kw: Any) -> list[tuple[str, str]]:
        """Return the cookie header for a session token given as ``token``."""
        return _cookie(request, kw["token"], max_age=request.tenant.sessions.absolute)

    def forget(self, request: Request, **kw: Any) -> list[tuple[str, str]]:
        """Return the header that takes the cookie back."""
        return _cookie(request, None)


def cookie_name(tenant_id: str) -> str:
    """Return the name of a tenant's session cookie."""
    return f"__Host-{tenant_id}-session"


def _cookie(request: Request, value: str | None, max_age: Any = None) -> list[tuple[str, str]]:
    response = request.response.__class__()
    response.set_cookie(
        cookie_name(request.tenant.id),
        value,
        max_age=max_age,
        path="/",
        secure=True,
        httponly=True,
        samesite="Lax",
    )
    return [(k, v) for k, v in response.headerlist if k == "Set-Cookie"]


def _open_session(request: Request) -> OpenSession | None:
    token = request.cookies.get(cookie_name(request.tenant.id))
    if not token:
        return None
    now: datetime = request.now
    if request.method in SAFE_METHODS:
        login = find_session(request.db, request.tenant.sessions, token, now)
    else:
        # An unsafe request holds the write lock from its first statement; looking the
        # session up on a snapshot keeps strangers from queueing for that lock.
        with request.database.reader() as session:
            login = find_session(session, request.tenant.sessions, token, now)
    route = request.matched_route.name if request.matched_route else None
    is_used = login is not None and route not in BACKGROUND_ROUTES
    if login is not None and is_used and login.last_used_at < now - TOUCH_AFTER:
        request.tail.append(_toucher(login.id, now))
    return login


def _toucher(session_id: str, now: datetime) -> Any:
    def touch(session: Session) -> None:
        touch_session(session, session_id, now)

    return touch


def _person_name(request: Request) -> str | None:
    return request.login.person_name if request.login else None


def _language(request: Request) -> str | None:
    return request.login.language if request.login else None
