"""Admit a patient to a ward and bed, move them, discharge them."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access import stays
from medportal.access.care import carers, planned
from medportal.access.errors import AssignmentRefused
from medportal.access.forms_care import CARE_WORDS, admission_schema
from medportal.access.resources import PatientContext
from medportal.access.views.care import REFUSALS as CARE_REFUSALS
from medportal.access.views.care import tell_ended
from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.patients import admissions
from medportal.patients import service as patients
from medportal.patients.admissions import Place
from medportal.patients.errors import AdmissionRefused
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

REFUSALS = {
    "bed-taken": _("Somebody lies in this bed. Choose another one, or leave it empty."),
    "there-already": _("The patient is in this bed already."),
    "deceased": _("This patient has died. Correct the details first, if that is wrong."),
}
#: The fields to which refusals belong; the others belong to the form as a whole.
FIELDS = {"bed-taken": "bed", "there-already": "bed"}


@view_config(
    route_name="admission",
    permission=Permission.CARE_MANAGE,
    renderer="medportal.access:templates/admission.pt",
)
def admission(context: PatientContext, request: Request) -> Any:
    """Show where a patient is and was, and put them into a ward and bed."""
    _require_wards(request)
    form = make_form(request, admission_schema(request.tenant), submit=_("Save ward and bed"))
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and _admit(context, request, form, values):
            flash(request, _("Ward and bed are saved."))
            return HTTPSeeOther(request.route_path("patient", patient=context.patient_id))
    request.audit(Action.PATIENT_VIEWED, **context.why(Permission.CARE_MANAGE))
    patient = _patient(context, request)
    if request.method != "POST":
        # A ward that the institution has no longer is no choice any more.
        known = patient.ward if patient.ward in request.tenant.wards else ""
        form.fill({"ward": known, "bed": patient.bed, "with_team": True})
    return {
        "form": form,
        "patient": patient,
        "stays": admissions.stays(request.db, context.patient_id),
    }


def _admit(context: PatientContext, request: Request, form: Form, values: dict[str, Any]) -> bool:
    place = Place(values["ward"], values["bed"])
    try:
        with request.db.begin_nested():
            done = stays.admit(
                request.db,
                context.patient_id,
                place,
                with_team=values["with_team"],
                by=request.identity.person_id,
                now=request.now,
            )
    except AdmissionRefused as error:
        form.fail(FIELDS.get(error.code), REFUSALS[error.code])
        return False
    except AssignmentRefused as error:
        form.fail("with_team", CARE_REFUSALS[error.code])
        return False
    request.audit(
        Action.PATIENT_ADMITTED,
        patient=context.patient_id,
        object=done.stay,
        reasons=context.decision.because[Permission.CARE_MANAGE],
        details={"ward": place.ward},
    )
    tell_ended(request, context.patient_id, *done.ended)
    if done.assignment:
        request.audit(
            Action.CARE_ASSIGNED,
            patient=context.patient_id,
            reasons=context.decision.because[Permission.CARE_MANAGE],
            details={"assignment": done.assignment, "ward": place.ward, "kind": "team"},
        )
    return True


@view_config(
    route_name="discharge",
    permission=Permission.CARE_MANAGE,
    renderer="medportal.access:templates/discharge.pt",
)
def discharge(context: PatientContext, request: Request) -> Any:
    """Say what a discharge ends; then discharge."""
    _require_wards(request)
    here = request.route_path("patient", patient=context.patient_id)
    if request.method == "POST":
        try:
            place, ended = stays.discharge(
                request.db, context.patient_id, by=request.identity.person_id, now=request.now
            )
        except AdmissionRefused:
            # Sent twice, or a colleague was faster: it is so already.
            flash(request, _("The patient is in no ward."), "info")
            return HTTPSeeOther(here)
        request.audit(
            Action.PATIENT_DISCHARGED,
            patient=context.patient_id,
            reasons=context.decision.because[Permission.CARE_MANAGE],
            details={"ward": place.ward, "ended": len(ended)},
        )
        tell_ended(request, context.patient_id, *ended)
        flash(request, _("Discharged. Nobody is assigned to this patient any more."))
        return HTTPSeeOther(here)
    request.audit(Action.PATIENT_VIEWED, **context.why(Permission.CARE_MANAGE))
    return {
        "patient": _patient(context, request),
        "carers": carers(request.db, context.patient_id, request.now)
        + planned(request.db, context.patient_id, request.now),
        "words": CARE_WORDS,
    }


def _patient(context: PatientContext, request: Request) -> patients.PatientDetails:
    return patients.details(request.db, context.patient_id, request.tenant.identifiers.scheme)


def _require_wards(request: Request) -> None:
    """An institution without wards admits nobody: there is no such page then."""
    if not request.tenant.wards:
        raise HTTPNotFound()
