"""Denials are written after the abort, from a tween over the transaction.

Hidden and missing are audited alike. If the denial cannot be written, the answer is 503: a
portal that cannot keep its log gives no answers about what it hides.
"""

from collections.abc import Callable
from typing import Any

import structlog
from pyramid.httpexceptions import HTTPForbidden, HTTPNotFound, HTTPServiceUnavailable
from pyramid.request import Request
from pyramid.response import Response
from sqlalchemy.exc import SQLAlchemyError

from medportal.access.resources import Root, why_of
from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.requests import event_of
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason

log = structlog.get_logger()
Handler = Callable[[Request], Response]


def includeme(config: Any) -> None:
    """Put the tween over the transaction's."""
    config.add_tween(
        "medportal.access.denials.denial_tween_factory", over="pyramid_tm.tm_tween_factory"
    )


def denial_tween_factory(handler: Handler, registry: object) -> Handler:
    """Write an event for every refusal that a signed-in person met."""

    def denial_tween(request: Request) -> Response:
        response = handler(request)
        refused = isinstance(getattr(request, "exception", None), HTTPForbidden | HTTPNotFound)
        # Reading the identity here would open a session; it was read if anything was decided.
        if refused and request.__dict__.get("login") is not None:
            _write(request)
        return response

    return denial_tween


def _write(request: Request) -> None:
    event = _event(request)
    try:
        with request.database.writer() as session, session.begin():
            append(session, event)
    except SQLAlchemyError as error:
        log.error("denial not written", kind=type(error).__name__)
        raise HTTPServiceUnavailable() from error


def _event(request: Request) -> Event:
    context = getattr(request, "context", None)
    about: dict[str, Any] = {"reasons": (Reason.NO_SUCH_THING,)}
    if isinstance(context, Root):
        about |= {
            "patient": getattr(context, "patient_id", None),
            "object": getattr(context, "record_id", None),
            **_why(context, request),
        }
    route = request.matched_route.name if request.matched_route else "none"
    return event_of(
        request,
        Action.ACCESS_DENIED,
        Outcome.DENIED,
        **about,
        details={"route": route, "method": request.method[:8]},
    )


def _why(context: Root, request: Request) -> dict[str, Any]:
    """Return why the permission was not given that the refused view asked for.

    The patient's rule on which it rests is named for them; the person refused is not told.
    """
    result = getattr(request.exception, "result", None)
    name = getattr(result, "permission", None)
    # The decision was made before the abort and is kept by the context.
    if name is None or name not in set(Permission) or name not in context.decision.because:
        return {}
    return why_of(context.decision, Permission(name))
