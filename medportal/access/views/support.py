"""Support needs: what nurses and clerks note for those who move and feed a patient."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import PatientContext
from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.identity.people import names_of
from medportal.patients import service as patients
from medportal.patients import support
from medportal.patients.errors import SupportRefused
from medportal.patients.forms_support import needs_of, support_schema, values_of
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _


@view_config(
    route_name="support",
    permission=Permission.SUPPORT_KEEP,
    renderer="medportal.access:templates/support.pt",
)
def support_page(context: PatientContext, request: Request) -> Any:
    """Show and keep transport note, diet and allergies."""
    form = make_form(request, support_schema(), submit=_("Save"))
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and _keep(context, request, form, values):
            return HTTPSeeOther(request.route_path("patient", patient=context.patient_id))
    request.audit(Action.PATIENT_VIEWED, **context.why(Permission.SUPPORT_KEEP))
    noted = support.current(request.db, request.keys.vault, context.patient_id)
    if request.method != "POST":
        form.fill(values_of(noted))
    scheme = request.tenant.identifiers.scheme
    return {
        "form": form,
        "patient": patients.details(request.db, context.patient_id, scheme),
        "noted": noted,
        "by": names_of(request.db, [noted.by] if noted.by else []).get(noted.by or "", ""),
        "changed": form.is_submitted and request.failed_form is form and bool(noted.version),
    }


def _keep(context: PatientContext, request: Request, form: Form, values: dict[str, Any]) -> bool:
    try:
        kept = support.keep(
            request.db,
            request.keys.vault,
            context.patient_id,
            needs_of(values),
            seen=values["seen"],
            by=request.identity.person_id,
            now=request.now,
        )
    except SupportRefused:
        form.fail(
            None,
            _(
                "Somebody changed this while you were writing. What stands there now is shown "
                "below. Open the page again and add what is missing."
            ),
        )
        return False
    if kept is None:
        flash(request, _("This stands there already."), "info")
        return True
    request.audit(
        Action.SUPPORT_CHANGED,
        **{**context.why(Permission.SUPPORT_KEEP), "object": kept.version},
        details={"commitment": kept.commitment},
    )
    flash(request, _("Saved."))
    return True
