"""The security policy: cookie -> ``Identity``; a context's ``__acl__`` -> permitted or not."""

from datetime import datetime, timedelta
from typing import Any

from pyramid.authorization import ACLHelper, Authenticated, Everyone
from pyramid.request import Request
from sqlalchemy.orm import Session

from medportal.core.clock import utcnow
from medportal.core.identity import Identity
from medportal.identity.assurance import assure
from medportal.identity.models import SessionStage
from medportal.identity.sessions import (
    TOUCH_AFTER,
    Browser,
    OpenSession,
    find_session,
    touch_session,
)
from medportal.tenancy.requests import SAFE_METHODS
from medportal.tenancy.tenant import Tenant
from medportal.web.edge import is_within

#: What pages ask by themselves: it must not keep a session alive that nobody uses.
BACKGROUND_ROUTES = frozenset({"record-delivery"})


def includeme(config: Any) -> None:
    """Install the policy and the request attributes."""
    policy = PortalSecurityPolicy()
    config.set_security_policy(policy)
    for name, value in {
        "now": lambda request: utcnow(),
        # Kept with the request: a page asks some dozens of times.
        "identity": policy.identity,
        "found_session": _found_session,
        "login": lambda request: _at_stage(request, SessionStage.OPEN),
        "half_login": lambda request: _at_stage(request, SessionStage.SECOND_FACTOR),
        "on_site": _on_site,
        "browser": _browser,
    }.items():
        config.add_request_method(value, name, reify=True)
    config.add_request_method(_person_name, "person_name", property=True)
    config.add_request_method(_language, "language_preference", property=True)


class PortalSecurityPolicy:
    """Who is asking, and whether the context lets them."""

    def __init__(self) -> None:
        self._acl = ACLHelper()

    def identity(self, request: Request) -> Identity | None:
        """Return the signed-in identity at this request's tenant, or ``None``.

        Made anew at each call: ``request.identity`` keeps it.
        """
        login: OpenSession | None = request.login
        if login is None:
            return None
        assured = assure(request.tenant, login.roles, login.methods, on_site=request.on_site)
        return Identity(
            person_id=login.person_id,
            tenant_id=request.tenant.id,
            roles=assured.roles,
            session_id=login.id,
            authenticated_at=login.created_at,
            methods=login.methods,
            on_site=request.on_site,
            confirmed_at=login.confirmed_at,
            withheld=assured.withheld,
            withheld_roles=assured.withheld_roles,
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
        return _cookie(request, kw["token"], max_age=longest_session(request.tenant))

    def forget(self, request: Request, **kw: Any) -> list[tuple[str, str]]:
        """Return the header that takes the cookie back."""
        return _cookie(request, None)


def longest_session(tenant: Tenant) -> timedelta:
    """Return how long a browser keeps the cookie; the server decides how long it is good."""
    own = [role.sessions for role in tenant.roles.values() if role.sessions]
    return max(policy.absolute for policy in (tenant.sessions, *own))


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


def _found_session(request: Request) -> OpenSession | None:
    """Return the session of the cookie, at whatever stage it is."""
    token = request.cookies.get(cookie_name(request.tenant.id))
    if not token:
        return None
    now: datetime = request.now
    if request.method in SAFE_METHODS:
        return find_session(request.db, request.tenant, token, now)
    # An unsafe request holds the write lock from its first statement; looking the
    # session up on a snapshot keeps strangers from queueing for that lock.
    with request.database.reader() as session:
        return find_session(session, request.tenant, token, now)


def _at_stage(request: Request, stage: SessionStage) -> OpenSession | None:
    login: OpenSession | None = request.found_session
    if login is None or login.stage is not stage:
        return None
    if stage is SessionStage.OPEN:
        _touch(request, login, request.now)
    return login


def _touch(request: Request, login: OpenSession, now: datetime) -> None:
    route = request.matched_route.name if request.matched_route else None
    if route not in BACKGROUND_ROUTES and login.last_used_at < now - TOUCH_AFTER:
        request.tail.append(_toucher(login.id, now))


def _toucher(session_id: str, now: datetime) -> Any:
    def touch(session: Session) -> None:
        touch_session(session, session_id, now)

    return touch


def _on_site(request: Request) -> bool:
    return is_within(request.client_address, request.tenant.staff_networks)


def _browser(request: Request) -> Browser:
    return Browser(request.user_agent or "", request.client_address, request.on_site)


def _person_name(request: Request) -> str | None:
    return request.login.person_name if request.login else None


def _language(request: Request) -> str | None:
    return request.login.language if request.login else None
