"""A patient's details, kept by the desk."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.access.resources import PatientContext
from medportal.audit.events import Action
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
    return {"form": form, "patient_id": context.patient_id, "name": before.name}


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
    if changed:
        request.audit(
            Action.PATIENT_CHANGED,
            **context.why(Permission.DEMOGRAPHICS_KEEP),
            details={"fields": ",".join(sorted(changed))},
        )
        flash(request, _("Saved."))
    else:
        flash(request, _("Nothing was changed."), "info")
    return True


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
