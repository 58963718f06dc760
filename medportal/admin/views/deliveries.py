"""What waits to go out, what was refused, what came in: for those who see to it."""

from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from medportal.admin.partner_words import why
from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.delivery import holds, inbox, outbox
from medportal.delivery.inbox import Awaiting
from medportal.delivery.states import DeliveryState
from medportal.records.presentation import KINDS, institution_name
from medportal.web.i18n import _

STATE_WORDS = {
    DeliveryState.WAITING: _("Waiting to be sent"),
    DeliveryState.RETRYING: _("Not delivered yet"),
    DeliveryState.UNKNOWN_PATIENT: _("No such patient there"),
    DeliveryState.HELD_FOR_REVIEW: _("Arrived, held for review"),
    DeliveryState.REJECTED: _("Refused"),
    DeliveryState.WITHHELD: _("Not sent: a rule of the patient"),
}
AWAITING_WORDS = {
    Awaiting.INTAKE: _("Received, being filed"),
    Awaiting.PERSON: _("Received, held for review"),
    Awaiting.UNDOING: _("Received, decided not to be ours"),
}


@view_config(
    route_name="deliveries",
    permission=Permission.DELIVERIES_VIEW,
    request_method="GET",
    renderer="medportal.admin:templates/deliveries.pt",
)
def deliveries(request: Request) -> dict[str, Any]:
    """Show what waits to go out, what was refused, and what came in and waits."""
    request.audit(Action.DELIVERIES_VIEWED)
    partners = request.keys.trusted.partners()
    return {
        "held": [
            (institution_name(request, each.partner), each.since)
            for each in holds.holds(request.db).values()
        ],
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
        ]
        + [
            (
                institution_name(request, partner),
                KINDS[DeliveryState.WITHHELD],
                STATE_WORDS[DeliveryState.WITHHELD],
                count,
                oldest,
            )
            for partner, count, oldest in outbox.withheld_summary(request.db)
        ],
        "refused": [
            (institution_name(request, view.partner), why(view.reason), view.settled_at)
            for view in outbox.troubled(request.db, DeliveryState.REJECTED, request.now)
        ],
        "incoming": [
            (AWAITING_WORDS[awaiting], count)
            for awaiting, count in sorted(inbox.awaiting_counts(request.db).items())
            if count
        ],
    }
