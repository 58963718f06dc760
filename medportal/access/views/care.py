"""Who looks after a patient: assign a person or the team of a ward, end an assignment."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.care import (
    Ended,
    assign,
    assign_team,
    carers,
    end_assignment,
    planned,
)
from medportal.access.errors import AssignmentRefused
from medportal.access.forms_care import (
    CARE_WORDS,
    TEAM,
    care_roles,
    care_schema,
    span,
    treating_roles,
)
from medportal.access.models import CareKind
from medportal.access.resources import PatientContext
from medportal.audit.events import Action
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.patients import service as patients
from medportal.web.flash import flash
from medportal.web.forms import make_form
from medportal.web.i18n import _

REFUSALS = {
    "not-yourself": _("You cannot assign yourself. Ask a colleague to do it."),
    "your-own-team": _("You are in this team, so this would assign you. Ask a colleague to do it."),
    "not-to-themselves": _("Nobody looks after themselves: choose somebody else."),
    "not-care-staff": _("This person has no role that looks after patients."),
    "not-a-doctor": _("Only a doctor can be the treating doctor."),
    "already-assigned": _("They look after the patient already at that time."),
    "begins-in-the-past": _("This day is over. Leave it empty to begin now."),
    "ends-before-it-begins": _("The last day is before the first, or over already."),
}
#: The fields to which refusals belong; the others belong to who is assigned.
FIELDS = {
    "not-a-doctor": "kind",
    "begins-in-the-past": "from",
    "ends-before-it-begins": "until",
}


@view_config(
    route_name="care",
    permission=Permission.CARE_MANAGE,
    renderer="medportal.access:templates/care.pt",
)
def care(context: PatientContext, request: Request) -> Any:
    """Show who looks after a patient, and put somebody in charge."""
    form = make_form(request, care_schema(request), submit=_("Assign"))
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and _assign(context, request, form, values):
            flash(request, _("Assigned."))
            return HTTPSeeOther(request.route_path("care", patient=context.patient_id))
    request.audit(Action.PATIENT_VIEWED, **context.why(Permission.CARE_MANAGE))
    scheme = request.tenant.identifiers.scheme
    return {
        "form": form,
        "patient": patients.details(request.db, context.patient_id, scheme),
        "carers": carers(request.db, context.patient_id, request.now),
        "planned": planned(request.db, context.patient_id, request.now),
        "words": CARE_WORDS,
    }


def _assign(context: PatientContext, request: Request, form: Any, values: dict[str, Any]) -> bool:
    try:
        whose = _put_in_charge(context, request, values)
    except AssignmentRefused as error:
        form.fail(FIELDS.get(error.code, "staff"), REFUSALS[error.code])
        return False
    request.audit(
        Action.CARE_ASSIGNED,
        patient=context.patient_id,
        reasons=context.decision.because[Permission.CARE_MANAGE],
        **whose,
    )
    return True


def _put_in_charge(
    context: PatientContext, request: Request, values: dict[str, Any]
) -> dict[str, Any]:
    """Assign whoever was chosen; return what the event says of it."""
    dates = span(request.tenant, values, request.now)
    common = {
        "patient_id": context.patient_id,
        "by": request.identity.person_id,
        "now": request.now,
        "since": dates.since,
        "until": dates.until,
        "opens_sensitive": values["opens_sensitive"],
    }
    kind, chosen = CareKind(values["kind"]), values["staff"]
    details: dict[str, str | int] = {
        "kind": str(kind),
        "opens-sensitive": int(values["opens_sensitive"]),
    }
    if chosen.startswith(TEAM):
        if kind is CareKind.TREATING:
            raise AssignmentRefused("not-a-doctor")
        ward = chosen.removeprefix(TEAM)
        details |= {"assignment": assign_team(request.db, ward=ward, **common), "ward": ward}
        return {"details": details}
    details["assignment"] = assign(
        request.db,
        staff_id=chosen,
        kind=kind,
        assignable_roles=care_roles(request.tenant),
        treating_roles=treating_roles(request.tenant),
        **common,
    )
    return {"object": chosen, "details": details}


@view_config(route_name="care-end", permission=Permission.CARE_MANAGE, request_method="POST")
def care_end(context: PatientContext, request: Request) -> Any:
    """End one assignment; access through it ends at once."""
    assignment_id = request.matchdict["assignment"]
    ended = None
    if is_id(assignment_id):
        ended = end_assignment(request.db, context.patient_id, assignment_id, request.now)
    if ended is None:
        raise HTTPNotFound()
    tell_ended(request, context.patient_id, ended)
    flash(request, _("The assignment has ended."))
    return HTTPSeeOther(request.route_path("care", patient=context.patient_id))


def tell_ended(request: Request, patient_id: str, *ended: Ended) -> None:
    """Write the event of each assignment that was ended."""
    for one in ended:
        details = {"assignment": one.assignment_id}
        if one.ward:
            details["ward"] = one.ward
        request.audit(Action.CARE_ENDED, patient=patient_id, object=one.staff_id, details=details)
