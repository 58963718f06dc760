"""Searching the records of a patient: the words travel in the body of a form, in no address."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import PatientContext
from medportal.core.permissions import Permission
from medportal.patients import service as patients
from medportal.records import timeline
from medportal.records.glance import words_of
from medportal.records.views.patient import NARROWING, narrow_form
from medportal.records.views.subjects import scheme_of
from medportal.web.i18n import _
from medportal.web.limits import posted_text

#: Nobody looks for more than that in one go.
LONGEST = 100


@view_config(
    route_name="record-find",
    permission=Permission.RECORD_LIST,
    request_method="POST",
    renderer="medportal.records:templates/find.pt",
)
def find(context: PatientContext, request: Request) -> Any:
    """Show the records in which some words stand, or the narrowed timeline if there are none."""
    typed = {name: posted_text(request, name) for name in (*NARROWING, "words", "before")}
    asked = timeline.asked_for(request, typed)
    words = words_of(typed["words"])
    if not words and not asked.problem:
        return HTTPSeeOther(
            request.route_path("patient", patient=context.patient_id, _query=asked.fields)
        )
    problem = asked.problem
    if len(typed["words"]) > LONGEST:
        problem = _("Look for at most ${limit} characters.", mapping={"limit": LONGEST})
        request.response.status_int = 422
    page = timeline.Page([], None)
    if not problem:
        before = timeline.before_of(typed["before"])
        page = timeline.search(context, request, words, before, asked.narrowed)
        entries = [one.entry for one in page.looked]
        timeline.note_listed(
            context, request, entries, part="search", opened=page.opened, damaged=page.damaged
        )
    return {
        "patient_id": context.patient_id,
        "is_self": context.patient.is_self,
        "patient": patients.details(request.db, context.patient_id, scheme_of(request)),
        "cards": timeline.cards_of(context, request, page.looked),
        "page": page,
        "problem": problem,
        "is_more": bool(typed["before"]),
        **narrow_form(request, asked, typed),
    }


@view_config(route_name="record-find", permission=Permission.RECORD_LIST, request_method="GET")
def not_sought(context: PatientContext, request: Request) -> HTTPSeeOther:
    """Go to the timeline: words that were sought are in no address to come back to."""
    return HTTPSeeOther(request.route_path("patient", patient=context.patient_id))
