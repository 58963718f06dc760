"""Who stands for a patient: named by one at the desk, agreed to by another, ended by any."""

from datetime import datetime, timedelta
from typing import Any

import colander
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.access import representatives
from medportal.access.errors import RepresentativeRefused
from medportal.access.forms_care import day_node, midnight
from medportal.access.representatives import Contact, Ground, Named
from medportal.access.resources import PatientContext
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.identity import codes
from medportal.identity.forms.email import email_field
from medportal.identity.fresh import require_fresh
from medportal.identity.people import Profile
from medportal.patients import service as patients
from medportal.patients.forms import (
    birth_date_node,
    language_node,
    name_node,
    number_node,
    optional_node,
    sex_node,
)
from medportal.patients.views import is_name, today_of, usable_number
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form, radios
from medportal.web.i18n import _

GROUNDS = {
    Ground.PARENT: _("Parent of a child"),
    Ground.COURT: _("Guardian named by a court"),
    Ground.CHOSEN: _("Chosen by the patient, in writing"),
}
REFUSALS = {
    "not-yourself": _("You cannot stand for this patient by your own hand. Ask two colleagues."),
    "not-themselves": _("Nobody stands for themselves: choose somebody else."),
    "somebody-else": _(
        "Somebody with this number is known here under another name or date of birth. "
        "Check the citizen card, then ask the administration."
    ),
    "named-already": _("This person was named for the patient already."),
    "over-already": _("This day is over."),
    "second-person-needed": _("You named this person, so a colleague has to agree."),
    "suspended": _("This account is suspended. The administration can reinstate it."),
}
#: The fields to which refusals belong; the others belong to the number.
FIELDS = {"over-already": "until"}


@view_config(
    route_name="representatives",
    permission=Permission.DEMOGRAPHICS_KEEP,
    renderer="medportal.access:templates/representatives.pt",
)
def representative_list(context: PatientContext, request: Request) -> Any:
    """Show who stands for a patient, and name somebody."""
    require_fresh(request)
    form = make_form(request, _schema(request), submit=_("Name this person"))
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and _name(context, request, form, values):
            flash(request, _("Named. A colleague has to agree before anything is opened."))
            return HTTPSeeOther(_here(context, request))
    return _page(context, request, form)


def _page(context: PatientContext, request: Request, form: Form) -> dict[str, Any]:
    request.audit(Action.PATIENT_VIEWED, **context.why(Permission.DEMOGRAPHICS_KEEP))
    scheme = request.tenant.identifiers.scheme
    return {
        "form": form,
        "patient": patients.details(request.db, context.patient_id, scheme),
        "standing": representatives.standing_for(request.db, context.patient_id, request.now),
        "grounds": GROUNDS,
        "me": request.identity.person_id,
    }


def _name(context: PatientContext, request: Request, form: Form, values: dict[str, Any]) -> bool:
    try:
        with request.db.begin_nested():
            made, person_id = representatives.name(
                request.db,
                patient_id=context.patient_id,
                scheme=request.tenant.identifiers.scheme,
                number=usable_number(request, values["number"]) or "",
                profile=_profile(values),
                ground=Ground(values["ground"]),
                until=_until(request, values),
                by=request.identity.person_id,
                now=request.now,
            )
    except IntegrityError as error:
        # Somebody else registered the number at this moment: tried again, it is found.
        mark_error_retryable(error)
        raise
    except RepresentativeRefused as error:
        form.fail(FIELDS.get(error.code, "number"), REFUSALS[error.code])
        return False
    _tell(context, request, person_id, made, "named")
    return True


def _profile(values: dict[str, Any]) -> Profile:
    return Profile(
        name=values["name"],
        birth_date=values["birth_date"],
        sex=values["sex"],
        language=values["language"],
    )


def _until(request: Request, values: dict[str, Any]) -> datetime | None:
    """Return when the last day is over at the institution's clock."""
    last = values["until"]
    return None if last is None else midnight(request.tenant, last + timedelta(days=1))


@view_config(
    route_name="representative-agree",
    permission=Permission.DEMOGRAPHICS_KEEP,
    renderer="medportal.access:templates/representative_agree.pt",
)
def representative_agree(context: PatientContext, request: Request) -> Any:
    """Show whom a colleague has named; agree, and show the code if the person needs one."""
    require_fresh(request, _here(context, request))
    representative_id = _id(request)
    # Slow, so before anything is locked.
    made = codes.make_code() if request.method == "POST" else None
    named = representatives.named(
        request.db, request.tenant, context.patient_id, representative_id, request.now
    )
    if named is None:
        raise HTTPNotFound()
    form = make_form(
        request, _contact_schema(named), submit=_("I have checked the papers and agree")
    )
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is not None:
        return _agree(context, request, representative_id, values, made)
    request.audit(Action.PATIENT_VIEWED, **context.why(Permission.DEMOGRAPHICS_KEEP))
    scheme = request.tenant.identifiers.scheme
    return {
        "form": form,
        "named": named,
        "grounds": GROUNDS,
        "patient": patients.details(request.db, context.patient_id, scheme),
    }


def _agree(
    context: PatientContext,
    request: Request,
    representative_id: str,
    values: dict[str, Any],
    made: codes.FreshCode | None,
) -> Any:
    try:
        agreed = representatives.agree(
            request.db,
            request.tenant,
            context.patient_id,
            representative_id,
            contact=Contact(values.get("email", ""), values.get("phone", "")),
            by=request.identity.person_id,
            now=request.now,
            made=made,
        )
    except RepresentativeRefused as error:
        request.audit(
            Action.REPRESENTATIVE_MADE,
            Outcome.DENIED,
            **context.why(Permission.DEMOGRAPHICS_KEEP),
            details={"representation": representative_id, "why": error.code},
        )
        flash(request, REFUSALS[error.code], "warn")
        return HTTPSeeOther(_here(context, request))
    if agreed is None:
        raise HTTPNotFound()
    _tell(context, request, agreed.person_id, representative_id, "agreed")
    request.override_renderer = "medportal.patients:templates/representative.pt"
    return {
        "patient_id": context.patient_id,
        "anew": agreed.anew,
        "code": agreed.welcome.code if agreed.welcome else None,
        "way_in": str(codes.way_in(request.db, request.tenant, agreed.person_id)),
        "activate_url": request.route_url("activate"),
        "reset_url": request.route_url("reset"),
    }


def _contact_schema(named: Named) -> colander.Schema:
    """Return the schema with which whoever agrees says how to reach the person."""
    schema = colander.Schema()
    if not named.vouched:
        schema.add(optional_node("phone", _("Phone"), 40, kind="tel"))
        schema.add(email_field(missing=""))
    return schema


@view_config(
    route_name="representative-end",
    permission=Permission.DEMOGRAPHICS_KEEP,
    request_method="POST",
)
def representative_end(context: PatientContext, request: Request) -> Any:
    """End a representation; what it opened is closed at once."""
    representative_id = _id(request)
    person_id = representatives.end(
        request.db,
        context.patient_id,
        representative_id,
        by=request.identity.person_id,
        now=request.now,
    )
    if person_id is None:
        raise HTTPNotFound()
    request.audit(
        Action.REPRESENTATIVE_ENDED,
        patient=context.patient_id,
        object=person_id,
        reasons=context.decision.because[Permission.DEMOGRAPHICS_KEEP],
        details={"representation": representative_id},
    )
    flash(request, _("Ended."))
    return HTTPSeeOther(_here(context, request))


def _tell(
    context: PatientContext, request: Request, person_id: str, representative_id: str, step: str
) -> None:
    request.audit(
        Action.REPRESENTATIVE_MADE,
        patient=context.patient_id,
        object=person_id,
        reasons=context.decision.because[Permission.DEMOGRAPHICS_KEEP],
        details={"representation": representative_id, "step": step},
    )


def _id(request: Request) -> str:
    found: str = request.matchdict["representative"]
    if not is_id(found):
        raise HTTPNotFound()
    return found


def _here(context: PatientContext, request: Request) -> str:
    path: str = request.route_path("representatives", patient=context.patient_id)
    return path


def _schema(request: Request) -> colander.Schema:
    tenant = request.tenant
    schema = colander.Schema()
    schema.add(number_node(tenant, lambda typed: usable_number(request, typed) is not None))
    schema.add(name_node(is_name))
    schema.add(birth_date_node(today_of(request)))
    schema.add(sex_node())
    schema.add(language_node(tenant))
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="ground",
            title=_("Why this person stands for the patient"),
            validator=colander.OneOf([str(ground) for ground in Ground]),
            widget=radios([(str(ground), words) for ground, words in GROUNDS.items()]),
        )
    )
    schema.add(day_node("until", _("Until"), _("For a parent, the day before the 18th birthday.")))
    return schema
