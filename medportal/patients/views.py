"""Register a patient, hand a new code over, find a patient by exact number."""

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason
from medportal.identity import codes
from medportal.identity.accounts import lock
from medportal.identity.errors import CodeNotIssued, Throttled
from medportal.identity.fresh import require_fresh
from medportal.identity.numbers import normal_number
from medportal.identity.people import Profile, roles_of
from medportal.identity.powers import desk_vouching_roles, is_staff
from medportal.identity.views.answers import throttled
from medportal.patients import finding, service
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
    "bed-taken": _("Somebody lies in this bed. Choose another one, or leave it empty."),
    "bed-without-ward": _("Choose the ward of this bed too."),
}
#: The fields to which refusals belong; the others belong to the number.
FIELDS = {"bed-taken": "bed", "bed-without-ward": "ward"}

NOT_ISSUED = {
    Reason.OWN_ACCOUNT: _("You cannot issue a code for yourself. Ask a colleague to do it."),
    Reason.SUSPENDED: _(
        "This account is suspended, or held for review after a restore. The administration can "
        "reinstate it."
    ),
    Reason.SECOND_PERSON_NEEDED: _(
        "A new code for this account takes two people: the code alone would open it, or the "
        "person works here. Ask the administration for one."
    ),
}


def usable_number(request: Request, typed: str) -> str | None:
    """Return a number in its one form, or ``None`` if nobody can have it here."""
    number = normal_number(request.tenant.identifiers, typed)
    try:
        return number and pseudonym_number(number)
    except MalformedIdentifier:
        return None


def is_name(typed: str) -> bool:
    """Tell whether a name can be a person's: with a letter, and nothing that is not shown."""
    try:
        return bool(normal_name(typed)) and typed.isprintable()
    except MalformedIdentifier:
        return False


def receivers(request: Request) -> list[tuple[str, str]]:
    """Return (id, name) of the institutions that can be named to get a patient's results."""
    language = request.locale_name
    return [
        (partner.institution, partner.names.get(language) or partner.institution)
        for partner in request.keys.partners()
        if partner.kind != request.tenant.kind and partner.endpoint
    ]


def today_of(request: Request) -> date:
    """Return the day that it is at the institution."""
    today: date = request.now.astimezone(ZoneInfo(request.tenant.time_zone)).date()
    return today


def _form(request: Request) -> Form:
    schema = registration_schema(
        request.tenant,
        today_of(request),
        request.locale_name,
        receivers(request),
        is_number=lambda typed: usable_number(request, typed) is not None,
        is_name=is_name,
    )
    return make_form(request, schema, submit=_("Register"))


@view_config(
    route_name="patient-register",
    renderer="templates/register.pt",
    permission=Permission.PATIENTS_REGISTER,
)
def register(request: Request) -> Any:
    """Register somebody as a patient and show the code for the desk to hand over."""
    require_fresh(request)
    form = _form(request)
    if request.method != "POST":
        return {"form": form}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    # Slow, so before the transaction that writes.
    made = codes.make_code()
    try:
        patient_id, created = service.register_patient(
            request.db,
            _registration(request, values),
            request.keys.partner_keys(),
            by=request.identity.person_id,
            now=request.now,
            vouching_roles=desk_vouching_roles(request.tenant),
        )
    except IntegrityError as error:
        # Somebody else registered the same number at this moment: tried again, it is found.
        mark_error_retryable(error)
        raise
    except RegistrationRefused as error:
        form.fail(FIELDS.get(error.code, "number"), REFUSALS[error.code])
        return {"form": form}
    except AlreadyRegistered:
        form.fail("number", _("Somebody with this number is registered as a patient already."))
        return {"form": form}
    held = roles_of(request.db, patient_id)
    vouched = not desk_vouching_roles(request.tenant).isdisjoint(held)
    anew = not created and not vouched
    welcome = codes.Welcome(None, False)
    if not vouched and not is_staff(held):
        by = request.identity.person_id
        welcome = codes.welcome(
            request.db, request.tenant, patient_id, request.now, by=by, made=made
        )
    request.audit(
        Action.PATIENT_REGISTERED,
        patient=patient_id,
        details={
            "new-person": int(created),
            "anew": int(anew),
            "code": int(welcome.code is not None),
        },
    )
    request.override_renderer = "templates/registered.pt"
    return {
        "patient_id": patient_id,
        "created": created,
        "anew": anew,
        "mail_sent": welcome.mail_sent,
        **_handed_over(request, patient_id, welcome.code),
    }


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


def _handed_over(request: Request, patient_id: str, code: str | None) -> dict[str, Any]:
    """Return what stands on the paper with the code."""
    return {
        "code": code,
        "way_in": str(codes.way_in(request.db, request.tenant, patient_id)),
        "activate_url": request.route_url("activate"),
        "reset_url": request.route_url("reset"),
    }


@view_config(
    route_name="patient-code",
    renderer="templates/code.pt",
    permission=Permission.PATIENTS_REGISTER,
)
def new_code(context: Any, request: Request) -> dict[str, Any]:
    """Ask whether the citizen card was checked; then issue a new code and show it once.

    Whoever may register people may learn that somebody is registered; who is not is missing.
    """
    require_fresh(request)
    made = _code_outside(request) if request.method == "POST" else None
    if not context.patient.exists:
        raise HTTPNotFound()
    patient_id, scheme = context.patient_id, request.tenant.identifiers.scheme
    if request.method == "POST":
        # Nobody shall activate the account between the look at it and the code.
        lock(request.db, patient_id)
    refused = _refused(request, patient_id)
    page = {
        "patient": service.details(request.db, patient_id, scheme),
        "refused": NOT_ISSUED[refused] if refused else None,
        **_handed_over(request, patient_id, None),
    }
    if request.method != "POST":
        request.audit(
            Action.PATIENT_VIEWED,
            patient=patient_id,
            reasons=context.decision.because[Permission.PATIENTS_REGISTER],
        )
    elif refused:
        request.audit(Action.CODE_ISSUED, Outcome.DENIED, patient=patient_id, reasons=[refused])
        request.response.status_int = 422
    else:
        by = request.identity.person_id
        page["code"] = codes.issue_code(request.db, patient_id, by, request.now, made)
        request.audit(Action.CODE_ISSUED, patient=patient_id)
    return page


def _code_outside(request: Request) -> codes.FreshCode:
    """Return a code, made while this request holds no lock.

    To decide whether the page may be seen took a transaction already; nothing is written in it.
    """
    request.tm.abort()
    request.tm.begin()
    return codes.make_code()


def _refused(request: Request, patient_id: str) -> Reason | None:
    """Return why whoever asks may not issue this patient's code alone, ``None`` if they may."""
    by = request.identity.person_id
    try:
        codes.require_alone(request.db, request.tenant, patient_id, by)
    except CodeNotIssued as error:
        return error.reason
    return None


@view_config(
    route_name="patient-find",
    renderer="templates/find.pt",
    permission=Permission.PATIENTS_FIND,
)
def find(context: Any, request: Request) -> Any:
    """Find a patient by exact number; a miss says so, and is audited like a hit.

    Whoever may see the patient goes to their page. Who may not, and may break the glass, goes
    to the page for that, and so learns that the patient is registered. Both are counted.
    """
    schema = find_schema(
        request.tenant, is_number=lambda typed: usable_number(request, typed) is not None
    )
    form = make_form(request, schema, submit=_("Find"))
    sees_all = Reach.ANY in context.facts().held.get(Permission.PATIENT_SEE, frozenset())
    page = {"form": form, "sees_all": sees_all}
    if request.method != "POST":
        return page
    values = form.validate(request.POST.items())
    if values is None:
        return page
    if not sees_all:
        try:
            finding.refuse_searching(
                request.db, request.identity.person_id, request.now, in_turn=True
            )
        except Throttled as error:
            request.audit(Action.PATIENT_SOUGHT, Outcome.DENIED, reasons=[Reason.THROTTLED])
            return {**page, **throttled(request, form, error.seconds)}
    found = _found(context, request, usable_number(request, values["number"]) or "", sees_all)
    if found is None:
        form.fail("number", _("Nobody with this number is registered as a patient here."))
        return page
    return HTTPSeeOther(found)


def _found(context: Any, request: Request, number: str, sees_all: bool) -> str | None:
    """Return the address of the page to go to, ``None`` for nobody or nothing to be seen."""
    scheme, now = request.tenant.identifiers.scheme, request.now
    patient_id = service.find_patient(request.db, scheme, number)
    seeker = request.identity.person_id
    target = context[patient_id] if patient_id is not None else None
    if target is not None and target.decision.allows(Permission.PATIENT_SEE):
        _audit_sought(request, target.why(Permission.PATIENT_SEE))
        return str(request.route_path("patient", patient=patient_id))
    if target is not None and target.decision.allows(Permission.GLASS_BREAK):
        _audit_sought(request, target.why(Permission.GLASS_BREAK))
        finding.note_hit(request.db, seeker, str(patient_id), now)
        return str(request.route_path("glass", patient=patient_id))
    # Somebody whom one may learn nothing about is sought like nobody, but for the log.
    _audit_sought(request, {"patient": patient_id})
    if not sees_all:
        finding.note_miss(request.db, seeker, now)
    return None


def _audit_sought(request: Request, about: dict[str, Any]) -> None:
    found = int(about["patient"] is not None)
    request.audit(Action.PATIENT_SOUGHT, **about, details={"found": found})
