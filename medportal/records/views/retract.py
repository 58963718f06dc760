"""Taking a record back that should never have been; what it said stays in its history."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import RecordContext
from medportal.core.permissions import Permission
from medportal.identity.errors import NotFresh
from medportal.records import amending
from medportal.records import catalogue as catalogues
from medportal.records.errors import NotAmendable, RecordDamaged, VersionChanged
from medportal.records.forms_versions import BASE, REASON, retract_schema
from medportal.records.presentation import rows_of
from medportal.records.views import mending
from medportal.web.flash import flash
from medportal.web.forms import make_form
from medportal.web.i18n import _


@view_config(
    route_name="record-retract",
    permission=Permission.RECORD_AMEND,
    renderer="medportal.records:templates/retract.pt",
)
def retract_record(context: RecordContext, request: Request) -> Any:
    """Ask once, with the consequences in words, beside what the record says; then take it back."""
    try:
        return _page(context, request)
    except NotAmendable as error:
        return mending.refused(context, request, error)
    except RecordDamaged as error:
        return mending.damaged(context, request, error)


def _page(context: RecordContext, request: Request) -> Any:
    entry = mending.mendable(context, request)
    page = mending.about(context, request, entry)
    form = make_form(
        request,
        retract_schema(entry.version),
        submit=_("Take this record back"),
        secondary=[(page["place"], _("Leave it as it is"))],
        danger=True,
    )
    page |= {"form": form, "opened": None, "rows": []}
    if request.method != "POST":
        opened = mending.opened_now(context, request)
        return {
            **page,
            "opened": opened,
            "rows": rows_of(request, opened.reading, catalogues.load()),
        }
    values = form.validate(request.POST.items())
    if values is None:
        return page
    try:
        return _retract(context, request, values)
    except NotFresh:
        return {**page, **mending.not_fresh(form)}
    except VersionChanged:
        return {**page, **mending.changed_meanwhile(context, request, form, values)}


def _retract(context: RecordContext, request: Request, values: dict[str, Any]) -> HTTPSeeOther:
    made = amending.retract(
        request.db,
        mending.desk_of(request),
        mending.amender_of(context, request),
        mending.person_of(request, context.patient_id),
        began_from=int(values[BASE]),
        reason=values[REASON],
    )
    mending.note_amended(context, request, made)
    flash(request, _("The record was taken back. What it said is kept in its history."))
    return HTTPSeeOther(mending.place_of(context, request))
