"""The last steps of every way to sign in: open a session, or raise the one that is half open.

Each writes its audit event, gives the browser new tokens (session and CSRF) and says where
to go.
"""

from pyramid.csrf import new_csrf_token
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import remember

from medportal.audit.events import Action
from medportal.core.identity import Method
from medportal.identity.errors import SessionOver
from medportal.identity.factors import require_live
from medportal.identity.models import SessionStage
from medportal.identity.sessions import (
    OpenSession,
    end_session,
    end_sessions,
    open_session,
    rotate_session,
)


def sign_in(
    request: Request, person_id: str, methods: frozenset[Method], next_path: str
) -> Response:
    """Open a session for somebody who proved enough; whoever was signed in here no longer is."""
    _end_present(request)
    session_id, token = open_session(
        request.db, person_id, request.now, methods=methods, browser=request.browser
    )
    _audit(request, Action.SIGN_IN, person_id, session_id, methods)
    return _go_on(request, person_id, token, next_path)


def ask_for_second_factor(
    request: Request, person_id: str, methods: frozenset[Method], next_path: str
) -> Response:
    """Open a session that is nobody's yet, and go to the page that asks for the second factor."""
    _end_present(request)
    session_id, token = open_session(
        request.db,
        person_id,
        request.now,
        methods=methods,
        browser=request.browser,
        stage=SessionStage.SECOND_FACTOR,
    )
    _audit(request, Action.SECOND_FACTOR_AWAITED, person_id, session_id, methods)
    second = request.route_path("sign-in-second", _query={"next": next_path})
    return _go_on(request, person_id, token, second)


def complete(request: Request, method: Method, next_path: str) -> Response:
    """Open the half-open session of this request, after its second factor was right."""
    half = request.half_login
    token = rotate_session(request.db, half, request.now, add=frozenset({method}))
    if token is None:
        return HTTPSeeOther(request.route_path("sign-in"))
    _audit(request, Action.SIGN_IN, half.person_id, half.id, half.methods | {method})
    return _go_on(request, half.person_id, token, next_path)


def confirm(request: Request, methods: frozenset[Method], next_path: str) -> Response:
    """Note that whoever is signed in has just proved again who they are, and go on.

    Raises ``SessionOver``.
    """
    login = require_live(request.db, request.login)
    token = rotate_session(request.db, login, request.now, add=methods)
    if token is None:
        raise SessionOver("ended meanwhile")
    details = {"method": " ".join(sorted(methods))}
    request.audit(Action.IDENTITY_CONFIRMED, object=login.id, details=details)
    return _go_on(request, login.person_id, token, next_path)


def renew(
    request: Request, login: OpenSession, method: Method, *, confirmed: bool = True
) -> list[tuple[str, str]]:
    """Count what somebody has just set up or chosen for the session they are in, and no other.

    ``login`` is what ``require_live`` returned. Every other session of theirs ends: it did not
    see what the account has now. Returns the headers that give the browser its new token, to be
    put on whatever answers. Raises ``SessionOver``.
    """
    token = rotate_session(
        request.db, login, request.now, add=frozenset({method}), confirmed=confirmed
    )
    if token is None:
        raise SessionOver("ended meanwhile")
    end_sessions(request.db, login.person_id, but=login.id)
    new_csrf_token(request)
    headers: list[tuple[str, str]] = remember(request, login.person_id, token=token)
    return headers


def _end_present(request: Request) -> None:
    present = request.found_session
    if present is not None:
        end_session(request.db, present.id)


def _audit(
    request: Request,
    action: Action,
    person_id: str,
    session_id: str,
    methods: frozenset[Method],
) -> None:
    request.audit(
        action,
        actor=person_id,
        object=session_id,
        details={
            "method": " ".join(sorted(methods)),
            "on-site": int(request.on_site),
        },
    )


def _go_on(request: Request, person_id: str, token: str, next_path: str) -> Response:
    new_csrf_token(request)
    return HTTPSeeOther(next_path, headers=remember(request, person_id, token=token))
