"""Where one is signed in: the list of one's sessions, and ending them."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.audit.events import Action
from medportal.core.identity import Method
from medportal.core.permissions import Permission
from medportal.identity.devices import device
from medportal.identity.fresh import require_fresh
from medportal.identity.sessions import SessionLine, end_session, end_sessions, sessions_of
from medportal.web.flash import flash
from medportal.web.i18n import _

METHOD_WORDS = {
    Method.PASSWORD: _("password"),
    Method.SHORT_PASSWORD: _("password"),
    Method.TOTP: _("code from the app"),
    Method.RECOVERY_CODE: _("recovery code"),
    Method.PASSKEY: _("passkey"),
}


@view_config(
    route_name="account-sessions",
    renderer="medportal.identity:templates/sessions.pt",
    permission=Permission.ACCOUNT_CHANGE,
    request_method="GET",
)
def sessions(request: Request) -> dict[str, Any]:
    """List the sessions of whoever asks; this one first."""
    require_fresh(request)
    identity = request.identity
    lines = sessions_of(request.db, request.tenant, identity.person_id, request.now)
    ordered = sorted(lines, key=lambda line: line.id != identity.session_id)
    return {
        "lines": [(line, *device(line.user_agent), methods_in_order(line)) for line in ordered],
        "current": identity.session_id,
        "others": len(ordered) > 1,
    }


def methods_in_order(line: SessionLine) -> list[Any]:
    """Return how a session was authenticated, in words and in the order of the steps."""
    return list(dict.fromkeys(METHOD_WORDS[m] for m in Method if m in line.methods))


@view_config(
    route_name="account-session-end",
    permission=Permission.ACCOUNT_CHANGE,
    request_method="POST",
)
def end_one(request: Request) -> HTTPSeeOther:
    """End one of one's own sessions; one that is over already, or another's, is simply not there.

    The answer is the same for both, so that nobody learns which ids exist.
    """
    require_fresh(request)
    session_id = request.matchdict["session"]
    if end_session(request.db, session_id, request.identity.person_id):
        request.audit(Action.SESSION_ENDED, object=session_id, details={"by": "holder"})
    flash(request, _("That device is signed out."), "ok")
    return HTTPSeeOther(request.route_path("account-sessions"))


@view_config(
    route_name="account-sessions-end",
    permission=Permission.ACCOUNT_CHANGE,
    request_method="POST",
)
def end_others(request: Request) -> HTTPSeeOther:
    """End every session of one's own but this one."""
    require_fresh(request)
    identity = request.identity
    ended = end_sessions(request.db, identity.person_id, but=identity.session_id)
    request.audit(
        Action.SESSION_ENDED,
        object=identity.person_id,
        details={"by": "holder", "count": ended},
    )
    flash(request, _("All your other devices are signed out."), "ok")
    return HTTPSeeOther(request.route_path("account-sessions"))
