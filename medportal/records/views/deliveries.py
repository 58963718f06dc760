"""How the deliveries of a record stand: on its page, and for the module that asks again."""

from collections.abc import Sequence
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import PatientContext, RecordContext
from medportal.core.permissions import Permission
from medportal.delivery import outbox
from medportal.delivery.outbox import DeliveryView
from medportal.records.presentation import DeliveryLine, delivery_line
from medportal.records.store import IndexEntry


def deliveries_of(
    context: PatientContext | RecordContext, request: Request, record_ids: Sequence[str]
) -> dict[str, list[DeliveryLine]]:
    """Return the deliveries of records, in words, for those who may follow them.

    To each partner, that of the newest version: those of older ones stand on their own pages.
    """
    if not context.decision.allows(Permission.DELIVERY_FOLLOW):
        return {}
    found = outbox.states_of(request.db, record_ids, request.now)
    return {
        record_id: [delivery_line(request, view) for view in _newest(views)]
        for record_id, views in found.items()
    }


def of_version(context: RecordContext, request: Request, entry: IndexEntry) -> list[DeliveryLine]:
    """Return the deliveries of one version of a record, for those who may follow them."""
    if not context.decision.allows(Permission.DELIVERY_FOLLOW):
        return []
    views = outbox.state_of(request.db, entry.id, request.now)
    return [delivery_line(request, view) for view in views if view.version == entry.version]


def _newest(views: Sequence[DeliveryView]) -> list[DeliveryView]:
    """Return the first to each partner of views that have the newest version first."""
    first: dict[str, DeliveryView] = {}
    for view in views:
        first.setdefault(view.partner, view)
    return list(first.values())


@view_config(
    route_name="record-delivery",
    permission=Permission.DELIVERY_FOLLOW,
    request_method="GET",
    renderer="json",
)
def delivery_state(context: RecordContext, request: Request) -> dict[str, Any]:
    """Tell how one delivery of a record stands; the record's page asks while it changes."""
    tid = request.matchdict["tid"]
    views = outbox.state_of(request.db, context.record_id, request.now)
    found = next((view for view in views if view.tid == tid), None)
    if found is None:
        raise HTTPNotFound()
    line = delivery_line(request, found)
    return {
        "state": str(found.state),
        "kind": line.kind,
        "text": line.state,
        "detail": line.detail,
        "final": line.final,
    }
