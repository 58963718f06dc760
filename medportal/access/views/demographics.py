"""A patient's details, kept by the desk."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.access.resources import PatientContext
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.identity.fresh import require_fresh
from medportal.patients import details
from medportal.patients.errors import DetailsRefused
from medportal.patients.forms_details import details_schema, filled_with
from medportal.patients.views import is_name, receivers, today_of, usable_number
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

REFUSALS = {
    "changed-meanwhile": _(
        "Somebody changed these details while you were writing. Open the page again."
    ),
    "works-here": _(
        "This person works here too: name, number and date of birth are not changed at the desk. "
        "Ask the administration."
    ),
    "number-taken": _("Somebody else is known here by this number. Check the citizen card."),
    "second-person-needed": _("You asked for this change, so a colleague has to agree."),
}
#: The fields to which refusals belong; the others belong to the form as a whole.
FIELDS = {"number-taken": "number"}


@view_config(
    route_name="demographics",
    permission=Permission.DEMOGRAPHICS_KEEP,
    renderer="medportal.access:templates/demographics.pt",
)
def demographics(context: PatientContext, request: Request) -> Any:
    """Show and correct a patient's details; the sensitive ones take a fresh proof of identity."""
    require_fresh(request)
    partners = receivers(request)
    schema = details_schema(
        request.tenant,
        today_of(request),
        partners,
        is_number=lambda typed: usable_number(request, typed) is not None,
        is_name=is_name,
    )
    form = make_form(request, schema, submit=_("Save"))
    before = details.read(request.db, context.patient_id, request.tenant.identifiers.scheme)
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and _change(context, request, form, values, before):
            return HTTPSeeOther(request.route_path("patient", patient=context.patient_id))
    else:
        form.fill(filled_with(before))
    request.audit(Action.PATIENT_VIEWED, **context.why(Permission.DEMOGRAPHICS_KEEP))
    return {
        "form": form,
        "patient_id": context.patient_id,
        "name": before.name,
        "now": before,
        "waiting": details.waiting(request.db, context.patient_id),
        "me": request.identity.person_id,
    }


def _change(
    context: PatientContext,
    request: Request,
    form: Form,
    values: dict[str, Any],
    before: details.Details,
) -> bool:
    try:
        changed = details.change(
            request.db,
            context.patient_id,
            _wanted(request, values, before),
            request.keys.partner_keys(),
            scheme=request.tenant.identifiers.scheme,
            seen=values["seen"],
            by=request.identity.person_id,
            now=request.now,
        )
    except IntegrityError as error:
        # Somebody else took the number at this moment: tried again, that is found.
        mark_error_retryable(error)
        raise
    except DetailsRefused as error:
        form.fail(FIELDS.get(error.code), REFUSALS[error.code])
        return False
    if changed.now:
        _audit(context, request, Action.PATIENT_CHANGED, fields=_listed(changed.now))
        flash(request, _("Saved."))
    if changed.asked is not None:
        fields = _listed(changed.waiting)
        _audit(context, request, Action.PATIENT_CHANGE_ASKED, fields=fields, asked=changed.asked)
        flash(request, _("A colleague has to agree before this makes another person of the entry."))
    if changed == details.Changed():
        flash(request, _("Nothing was changed."), "info")
    return True


@view_config(
    route_name="details-agree",
    permission=Permission.DEMOGRAPHICS_KEEP,
    request_method="POST",
)
def details_agree(context: PatientContext, request: Request) -> Any:
    """Agree to another number, name or date of birth that a colleague has asked for."""
    require_fresh(request, _here(context, request))
    asked = _asked(request)
    try:
        changed = details.agree(
            request.db,
            context.patient_id,
            asked,
            request.keys.partner_keys(),
            scheme=request.tenant.identifiers.scheme,
            by=request.identity.person_id,
            now=request.now,
        )
    except IntegrityError as error:
        # Somebody else took the number at this moment: tried again, that is found.
        mark_error_retryable(error)
        raise
    except DetailsRefused as error:
        request.audit(
            Action.PATIENT_CHANGED,
            Outcome.DENIED,
            **context.why(Permission.DEMOGRAPHICS_KEEP),
            details={"asked": asked, "why": error.code},
        )
        flash(request, REFUSALS[error.code], "warn")
        return HTTPSeeOther(_here(context, request))
    if changed is None:
        raise HTTPNotFound()
    _audit(context, request, Action.PATIENT_CHANGED, fields=_listed(changed), asked=asked)
    flash(request, _("Saved."))
    return HTTPSeeOther(request.route_path("patient", patient=context.patient_id))


@view_config(
    route_name="details-withdraw",
    permission=Permission.DEMOGRAPHICS_KEEP,
    request_method="POST",
)
def details_withdraw(context: PatientContext, request: Request) -> Any:
    """Take back what waits for a second person; whoever asked may, and any colleague."""
    asked = _asked(request)
    if not details.withdraw(request.db, context.patient_id, asked):
        raise HTTPNotFound()
    _audit(context, request, Action.PATIENT_CHANGE_WITHDRAWN, asked=asked)
    flash(request, _("Nothing was changed."), "info")
    return HTTPSeeOther(_here(context, request))


def _audit(context: PatientContext, request: Request, action: Action, **told: str) -> None:
    request.audit(action, **context.why(Permission.DEMOGRAPHICS_KEEP), details=told)


def _listed(names: frozenset[str]) -> str:
    return ",".join(sorted(names))


def _asked(request: Request) -> str:
    found: str = request.matchdict["asked"]
    if not is_id(found):
        raise HTTPNotFound()
    return found


def _here(context: PatientContext, request: Request) -> str:
    path: str = request.route_path("demographics", patient=context.patient_id)
    return path


def _wanted(request: Request, values: dict[str, Any], before: details.Details) -> details.Details:
    """Return what was typed; who gets results and cannot be chosen any more stays named."""
    offered = {partner for partner, _name in receivers(request)}
    kept = {partner for partner in before.destinations if partner not in offered}
    return details.Details(
        number=usable_number(request, values["number"]) or "",
        name=values["name"],
        birth_date=values["birth_date"],
        sex=values["sex"],
        city=values["city"],
        phone=values["phone"],
        language=values["language"],
        status=values["status"],
        destinations=tuple(sorted(kept | set(values.get("destinations", ())))),
    )
