"""The audit log, for those who oversee access."""

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
from medportal.identity.people import names_of


@view_config(
    route_name="audit-log",
    permission=Permission.AUDIT_VIEW,
    renderer="medportal.admin:templates/audit.pt",
)
def audit_log(request: Request) -> dict[str, Any]:
    """Show the log, newest first; looking at it is an event too."""
    query = Query(
        action=request.GET.get("action") or None, outcome=request.GET.get("outcome") or None
    )
    page = find(request.db, query, after=_cursor(request))
    people = {who for e in page.events for who in (e.actor, e.patient, e.object)}
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
