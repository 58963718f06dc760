"""What waits and why; the audit log for those who oversee access."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config

from medportal.admin import words
from medportal.audit.events import Action
from medportal.audit.search import Cursor, Query, find
from medportal.audit.store import last_head
from medportal.core.clock import from_micros, to_micros
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.delivery import inbox, outbox
from medportal.delivery.inbox import Awaiting
from medportal.delivery.states import DeliveryState
from medportal.identity.service import names_of
from medportal.records.presentation import KINDS, institution_name
from medportal.web.i18n import _

STATE_WORDS = {
    DeliveryState.WAITING: _("Waiting to be sent"),
    DeliveryState.RETRYING: _("Not delivered yet"),
    DeliveryState.UNKNOWN_PATIENT: _("No such patient there"),
    DeliveryState.HELD_FOR_REVIEW: _("Arrived, held for review"),
    DeliveryState.REJECTED: _("Refused"),
}
AWAITING_WORDS = {
    Awaiting.INTAKE: _("Received, being filed"),
    Awaiting.PERSON: _("Received, held for review"),
}


@view_config(
    route_name="deliveries",
    permission=Permission.DELIVERIES_VIEW,
    renderer="templates/deliveries.pt",
)
def deliveries(request: Request) -> dict[str, Any]:
    """Show what waits to go out, what was refused, and what came in and waits."""
    request.audit(Action.DELIVERIES_VIEWED)
    partners = request.keys.trusted.partners()
    return {
        "partners": [
            (
                partner.names.get(request.locale_name) or partner.institution,
                partner.revoked,
                partner.trusted_at,
                partner.fingerprint,
            )
            for partner in partners
        ],
        "lines": [
            (
                institution_name(request, line.partner),
                KINDS[line.state],
                STATE_WORDS[line.state],
                line.count,
                line.oldest,
            )
            for line in outbox.queue_summary(request.db)
        ],
        "refused": [
            (institution_name(request, view.partner), view)
            for view in outbox.troubled(request.db, DeliveryState.REJECTED, request.now)
        ],
        "incoming": [
            (AWAITING_WORDS[awaiting], count)
            for awaiting, count in sorted(inbox.awaiting_counts(request.db).items())
            if count
        ],
    }


@view_config(
    route_name="audit-log", permission=Permission.AUDIT_VIEW, renderer="templates/audit.pt"
)
def audit_log(request: Request) -> dict[str, Any]:
    """Show the log, newest first; looking at it is an event too."""
    query = Query(
        action=request.GET.get("action") or None, outcome=request.GET.get("outcome") or None
    )
    page = find(request.db, query, after=_cursor(request))
    people = {e.actor for e in page.events} | {e.patient for e in page.events}
    names = names_of(request.db, [person for person in people if person])
    request.audit(Action.AUDIT_VIEWED, details={"count": len(page.events)})
    following = page.next and f"{to_micros(page.next.at)}.{page.next.id}"
    return {
        "events": page.events,
        "names": names,
        "next": following,
        "filters": {"action": query.action, "outcome": query.outcome},
        "actions": [(str(action), words.action_words(action)) for action in Action],
        "words": words,
        "head": last_head(request.db),
    }


def _cursor(request: Request) -> Cursor | None:
    text = request.GET.get("after")
    if text is None:
        return None
    micros, _dot, event_id = text.partition(".")
    try:
        if is_id(event_id) and micros.isdigit() and len(micros) < 20:
            return Cursor(from_micros(int(micros)), event_id)
    except ValueError:
        pass
    raise HTTPNotFound()
