"""Register a patient, find one by exact number."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.identity.numbers import normal_number
from medportal.identity.service import Profile, issue_activation
from medportal.patients import service
from medportal.patients.errors import AlreadyRegistered, RegistrationRefused
from medportal.patients.forms import find_schema, registration_schema
from medportal.patients.pseudonyms import MalformedIdentifier, normal_name
from medportal.patients.pseudonyms import normal_number as pseudonym_number
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

REFUSALS = {
    "oneself": _("You cannot register yourself. Ask a colleague to do it."),
    "somebody-else": _(
        "Somebody with this number is known here under another name or date of birth. "
        "Check the citizen card, then ask the administration."
    ),
}


def usable_number(request: Request, typed: str) -> str | None:
    """Return a number in its one form, or ``None`` if nobody can have it here."""
    number = normal_number(request.tenant.identifiers, typed)
    try:
        return number and pseudonym_number(number)
    except MalformedIdentifier:
        return None


def _is_name(typed: str) -> bool:
    try:
        return bool(normal_name(typed)) and typed.isprintable()
    except MalformedIdentifier:
        return False


def _form(request: Request) -> Form:
    language = request.locale_name
    partners = [
        (partner.institution, partner.names.get(language) or partner.institution)
        for partner in request.keys.partners()
        if partner.kind != request.tenant.kind and partner.endpoint
    ]
    today = request.now.astimezone(ZoneInfo(request.tenant.time_zone)).date()
    schema = registration_schema(
        request.tenant,
        today,
        language,
        partners,
        is_number=lambda typed: usable_number(request, typed) is not None,
        is_name=_is_name,
    )
    return make_form(request, schema, submit=_("Register"))


@view_config(
    route_name="patient-register",
    renderer="templates/register.pt",
    permission=Permission.PATIENTS_REGISTER,
)
def register(request: Request) -> Any:
    """Register somebody as a patient and show the code for the desk to hand over."""
    form = _form(request)
    if request.method != "POST":
        return {"form": form}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    try:
        patient_id, created = service.register_patient(
            request.db,
            _registration(request, values),
            request.keys.partner_keys(),
            by=request.identity.person_id,
            now=request.now,
        )
    except IntegrityError as error:
        # Somebody else registered the same number at this moment: tried again, it is found.
        mark_error_retryable(error)
        raise
    except RegistrationRefused as error:
        form.fail("number", REFUSALS[error.code])
        return {"form": form}
    except AlreadyRegistered:
        form.fail("number", _("Somebody with this number is registered as a patient already."))
        return {"form": form}
    request.audit(
        Action.PATIENT_REGISTERED, patient=patient_id, details={"new-person": int(created)}
    )
    request.override_renderer = "templates/registered.pt"
    return _receipt(request, patient_id, created, request.now)


def _registration(request: Request, values: dict[str, Any]) -> service.Registration:
    return service.Registration(
        scheme=request.tenant.identifiers.scheme,
        number=usable_number(request, values["number"]) or "",
        profile=Profile(
            name=values["name"],
            birth_date=values["birth_date"],
            sex=values["sex"],
            email=values["email"],
            phone=values["phone"],
            city=values["city"],
            language=values["language"],
        ),
        ward=values.get("ward", ""),
        bed=values.get("bed", ""),
        destinations=tuple(sorted(values.get("destinations", ()))),
    )


def _receipt(request: Request, patient_id: str, created: bool, now: datetime) -> dict[str, Any]:
    """Return what the desk hands over.

    Somebody who was known already has an account, or a code: neither is touched here.
    """
    code = issue_activation(request.db, patient_id, now) if created else None
    return {"patient_id": patient_id, "code": code}


@view_config(
    route_name="patient-find",
    renderer="templates/find.pt",
    permission=Permission.PATIENTS_REGISTER,
)
def find(request: Request) -> Any:
    """Find a patient by exact number; a miss says so, and is audited like a hit."""
    schema = find_schema(
        request.tenant, is_number=lambda typed: usable_number(request, typed) is not None
    )
    form = make_form(request, schema, submit=_("Find"))
    if request.method != "POST":
        return {"form": form}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    number = usable_number(request, values["number"]) or ""
    patient_id = service.find_patient(request.db, request.tenant.identifiers.scheme, number)
    request.audit(
        Action.PATIENT_SOUGHT, patient=patient_id, details={"found": int(patient_id is not None)}
    )
    if patient_id is None:
        form.fail("number", _("Nobody with this number is registered as a patient here."))
        return {"form": form}
    return HTTPSeeOther(request.route_path("patient", patient=patient_id))
