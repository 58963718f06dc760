"""The page of one patient: as much as the person may see, with the timeline."""

from collections.abc import Mapping
from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.care import carers
from medportal.access.forms_care import CARE_WORDS
from medportal.access.representatives import Standing, standing_for
from medportal.access.resources import PatientContext
from medportal.access.summaries import sees_of
from medportal.access.ways import ways_on
from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.patients import service as patients
from medportal.patients import support
from medportal.patients.forms import SEX_WORDS
from medportal.patients.models import PatientStatus
from medportal.records import timeline, vitals
from medportal.records.presentation import CATEGORY_WORDS, institution_name
from medportal.records.views.noting import new_to_patient
from medportal.records.views.subjects import scheme_of

#: The fields that narrow a timeline, in an address as on a form.
NARROWING = ("category", "origin", "from", "until")


@view_config(
    route_name="patient",
    permission=Permission.PATIENT_SEE,
    request_method="GET",
    renderer="medportal.records:templates/patient.pt",
)
def patient_page(context: PatientContext, request: Request) -> dict[str, Any]:
    """Show a patient, as much as the person may see."""
    decision = context.decision
    sees = sees_of(decision)
    noted = support.current(request.db, request.keys.vault, context.patient_id)
    needs = sees.of(noted.needs)
    request.audit(
        Action.PATIENT_VIEWED,
        **context.why(Permission.PATIENT_SEE),
        details={"damaged": 1} if noted.damaged else None,
    )
    is_self = context.patient.is_self
    patient = patients.details(request.db, context.patient_id, scheme_of(request))
    sees_carers = is_self or decision.allows(Permission.CARE_MANAGE)
    return {
        "is_self": is_self,
        "patient": patient,
        "sees": sees,
        "needs": needs,
        "needs_damaged": noted.damaged and (sees.transport or sees.alerts),
        "news": new_to_patient(context, request) if sees.records else [],
        "vitals": vitals.latest(context, request) if sees.vitals else vitals.Vitals(),
        "ways": ways_on(context, request),
        "owes_a_proof": sees.records and context.owes_a_proof,
        "has_list": decision.allows(Permission.PATIENTS_LIST) and not is_self,
        "may_add": decision.allows(Permission.RECORD_CREATE),
        "may_assign": decision.allows(Permission.CARE_MANAGE),
        "carers": carers(request.db, context.patient_id, request.now) if sees_carers else [],
        "sees_carers": sees_carers,
        "standing": _standing_for(context, request),
        "care_words": CARE_WORDS,
        "sex_words": SEX_WORDS,
        "is_deceased": PatientStatus.DECEASED,
        "destinations": [institution_name(request, each) for each in patient.destinations],
        **(_timeline(context, request) if sees.records else {"cards": [], "next": None}),
    }


def _standing_for(context: PatientContext, request: Request) -> list[Standing]:
    """Return who stands for the patient now, for those who may rule over the record."""
    if not context.decision.allows(Permission.RULES_MANAGE):
        return []
    found = standing_for(request.db, context.patient_id, request.now)
    return [one for one in found if one.agreed]


def _timeline(context: PatientContext, request: Request) -> dict[str, Any]:
    """Return a page of the records that the person may read, and nothing about the others."""
    asked = timeline.asked_for(request, request.GET)
    before = timeline.before_of(request.GET.get("before"))
    page = timeline.page_of(context, request, before, asked.narrowed)
    timeline.note_listed(context, request, [one.entry for one in page.looked])
    after = {**asked.fields, "before": page.next} if page.next else None
    return {
        "cards": timeline.cards_of(context, request, page.looked),
        "next": after,
        "has_trends": bool(page.looked),
        **narrow_form(request, asked, request.GET),
    }


def narrow_form(
    request: Request, asked: timeline.Asked, typed: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the form shows that narrows a timeline, with what was typed into it."""
    return {
        "asked": asked,
        "typed": {name: typed.get(name, "") for name in (*NARROWING, "words")},
        "categories": list(CATEGORY_WORDS.items()),
        "origins": timeline.origins(request),
    }
