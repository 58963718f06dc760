"""Proofs of the audit log: its signed head, heads held of partners, and what to do about them."""

from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from medportal.admin.views.audit import why
from medportal.audit.events import Action
from medportal.audit.statements import Restore
from medportal.audit.store import count_unsequenced, last_head, statements
from medportal.core.permissions import Permission
from medportal.delivery.conflicts import NONE, OTHER, SHORTER, Conflict, conflicts, holdings
from medportal.records.presentation import institution_name
from medportal.web.i18n import _

KINDS = {
    SHORTER: _("The partner's log became shorter: it may have been restored from a backup."),
    OTHER: _("The partner could not prove that its log continues the one it signed before."),
    NONE: _("The partner shows no log any more."),
}


@view_config(
    route_name="audit-proofs",
    permission=Permission.AUDIT_VIEW,
    renderer="medportal.admin:templates/audit_proofs.pt",
    request_method="GET",
)
def proofs(request: Request) -> dict[str, Any]:
    """Show on what the log can be checked, here and by partners."""
    request.audit(Action.AUDIT_VIEWED, details={"page": "proofs"}, **why(request))
    found = conflicts(request.db)
    return {
        "head": last_head(request.db),
        "waiting": count_unsequenced(request.db),
        "held": [
            (institution_name(request, held.partner), held.size, held.root.hex(), held.held_at)
            for held in holdings(request.db)
        ],
        "open": [_shown(request, each) for each in found if each.settled_at is None],
        "settled": [_shown(request, each) for each in found if each.settled_at is not None],
        "statements": [_told(signed) for signed in statements(request.db)],
    }


def _shown(request: Request, conflict: Conflict) -> dict[str, Any]:
    return {
        "partner": institution_name(request, conflict.partner),
        "what": KINDS[conflict.kind],
        "conflict": conflict,
    }


def _told(signed: Any) -> tuple[str, Any]:
    """Return kind and statement, for the page's own words; unreadable ones say so."""
    if signed is None:
        return "unreadable", None
    said = signed.statement
    return ("restore" if isinstance(said, Restore) else "checkpoint"), said
