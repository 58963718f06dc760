"""One record with its origin and signature."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import RecordContext
from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission
from medportal.patients import service as patients
from medportal.records import catalogue as catalogues
from medportal.records import service, store
from medportal.records.errors import RecordDamaged
from medportal.records.presentation import CATEGORY_WORDS, STATUSES, institution_name, rows_of
from medportal.records.views import mending
from medportal.records.views.deliveries import deliveries_of
from medportal.records.views.noting import noting_of
from medportal.web.i18n import _


@view_config(
    route_name="record",
    permission=Permission.RECORD_READ,
    request_method="GET",
    renderer="medportal.records:templates/record.pt",
)
def record_page(context: RecordContext, request: Request) -> dict[str, Any]:
    """Show one record with its origin and signature, or say that it is damaged."""
    entry = store.find(request.db, context.patient_id, context.record_id)
    if entry is None:
        raise HTTPNotFound()
    scheme = request.tenant.identifiers.scheme
    page = {
        "entry": entry,
        "title": CATEGORY_WORDS[entry.category],
        "origin": institution_name(request, entry.origin),
        "is_foreign": entry.origin != request.tenant.id,
        "patient": patients.details(request.db, context.patient_id, scheme),
        "is_self": context.patient_context.patient.is_self,
        "sees_patient": context.patient_context.decision.allows(Permission.PATIENT_SEE),
        "deliveries": deliveries_of(context, request, [entry.id]).get(entry.id, []),
        "tag": STATUSES.get(entry.status),
        "follows_nothing": _follows_nothing(context, request, entry),
        "mending": _ways_to_mend(context, request, entry),
    }
    grant = context.grant(Permission.RECORD_READ)
    try:
        opened = service.open_record(request.db, request.documents, request.keys, grant, entry)
    except RecordDamaged as error:
        request.audit(
            Action.RECORD_READ,
            Outcome.FAILED,
            **context.why(Permission.RECORD_READ),
            details={"damaged": error.code},
        )
        noting = noting_of(context, request, entry.version, is_shown=False)
        return {**page, "opened": None, "rows": [], "noting": noting}
    # Whoever notes that they have seen a version must have read this one.
    details = {"version": entry.version}
    request.audit(Action.RECORD_READ, **context.why(Permission.RECORD_READ), details=details)
    rows = rows_of(request, opened.reading, catalogues.load())
    noting = noting_of(context, request, entry.version, is_shown=True)
    # What was signed tells how it stands; the index did not always know.
    tag = STATUSES.get(opened.reading.record.status)
    return {**page, "opened": opened, "rows": rows, "noting": noting, "tag": tag}


def _follows_nothing(context: RecordContext, request: Request, entry: store.IndexEntry) -> bool:
    """Tell whether the version before this one never came."""
    if entry.version == 1:
        return False
    before = entry.version - 1
    return store.find_version(request.db, context.patient_id, entry.id, before) is None


def _ways_to_mend(
    context: RecordContext, request: Request, entry: store.IndexEntry
) -> list[tuple[str, str]]:
    """Return (words, address) of what may be done about a record that was made here."""
    made_here = entry.origin == request.tenant.id
    if entry.is_taken_back or not made_here or not context.decision.allows(Permission.RECORD_AMEND):
        return []
    ways = [
        (_("Correct it, or add to it"), "record-amend"),
        (_("Take it back"), "record-retract"),
    ]
    if mending.may_move(context):
        ways.append((_("It belongs to another person"), "record-move"))
    where = {"patient": context.patient_id, "record": entry.id}
    return [(words, request.route_path(route, **where)) for words, route in ways]
