"""Emergency access to one patient: ask for it, take the second step, end it."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access import glass as service
from medportal.access.errors import GlassRefused
from medportal.access.forms_glass import glass_schema
from medportal.access.glass import Broken, Stated, Step
from medportal.access.resources import PatientContext
from medportal.audit.events import Action, Outcome
from medportal.core.clock import to_micros
from medportal.core.ids import is_id
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.errors import NotFresh
from medportal.identity.fresh import require_fresh
from medportal.patients import finding
from medportal.patients import service as patients
from medportal.tenancy.requests import SAFE_METHODS
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

#: The forms of the two steps, by what they open.
FORMS = {False: "form", True: "sensitive"}
REFUSED_AS = {
    "not-to-yourself": Reason.OWN_RECORD_ONLY_AS_PATIENT,
    "first-step": Reason.GLASS_NOT_BROKEN,
}


@view_config(
    route_name="glass",
    permission=Permission.GLASS_BREAK,
    renderer="medportal.access:templates/glass.pt",
)
def glass(context: PatientContext, request: Request) -> Any:
    """Say what emergency access is, ask why it is needed, and open it."""
    _require_fresh(context, request)
    me = request.identity.person_id
    steps = service.steps_of(request.db, context.patient_id, me, request.now)
    if request.method == "POST":
        return _send(context, request, steps)
    request.audit(
        Action.PATIENT_VIEWED,
        **context.why(Permission.GLASS_BREAK),
        # For whoever reads of it: this page shows less than the patient's own.
        details={"route": "glass"},
    )
    is_second = _next_is_second(steps)
    form = None if is_second is None else _form(request, is_second=is_second)
    return _page(context, request, steps, form)


def _next_is_second(steps: list[Step]) -> bool | None:
    """Tell whether the next step is the second one; ``None`` if none is left."""
    if any(step.sensitive for step in steps):
        return None
    return bool(steps)


def _send(context: PatientContext, request: Request, steps: list[Step]) -> Any:
    is_second = _form(request, is_second=True).is_submitted
    form = _form(request, is_second=is_second)
    values = form.validate(request.POST.items())
    if values is not None:
        why = Stated(Reason(values["reason"]), values["words"])
        return _break(context, request, why, is_second=is_second)
    if is_second is not _next_is_second(steps):
        # From a page of before: what it asks for is open already, or not any more.
        return HTTPSeeOther(request.route_path("glass", patient=context.patient_id))
    return _page(context, request, steps, form)


def _require_fresh(context: PatientContext, request: Request) -> None:
    """Ask who it is where the decision demands it; a form may be open for longer, as always."""
    demanded = context.decision.demands(Permission.GLASS_BREAK, Obligation.CONFIRM_FIRST)
    if request.method not in SAFE_METHODS:
        require_fresh(request)
    elif demanded:
        raise NotFresh()


def _form(request: Request, *, is_second: bool) -> Form:
    words = _("Open sensitive records too") if is_second else _("Open the record now")
    return make_form(request, glass_schema(), submit=words, form_id=FORMS[is_second], danger=True)


def _break(
    context: PatientContext, request: Request, why: Stated, *, is_second: bool
) -> HTTPSeeOther:
    me = request.identity.person_id
    try:
        broken = service.break_glass(
            request.db,
            request.keys.vault,
            context.patient_id,
            me,
            why,
            request.now,
            lasts=request.tenant.access.glass,
            sensitive=is_second,
        )
    except GlassRefused as error:
        return _refused(context, request, error.code)
    # Whoever opens what was found does so loudly: that is no search any more.
    finding.forget_hits(request.db, me, context.patient_id)
    _audit_broken(context, request, broken, why)
    minutes = int(request.tenant.access.glass.total_seconds() // 60)
    flash(request, _("Emergency access is open for ${n} minutes.", mapping={"n": minutes}), "warn")
    return HTTPSeeOther(request.route_path("patient", patient=context.patient_id))


def _refused(context: PatientContext, request: Request, code: str) -> HTTPSeeOther:
    if code == "already-open":
        # The same form sent twice, by a double click or the back button: one step.
        flash(request, _("Emergency access is open already."))
        return HTTPSeeOther(request.route_path("patient", patient=context.patient_id))
    request.audit(
        Action.GLASS_BROKEN,
        Outcome.DENIED,
        patient=context.patient_id,
        reasons=[REFUSED_AS[code]],
    )
    flash(request, _("The emergency access has ended. Say again why you need it."), "warn")
    return HTTPSeeOther(request.route_path("glass", patient=context.patient_id))


def _audit_broken(context: PatientContext, request: Request, broken: Broken, why: Stated) -> None:
    step = broken.step
    request.audit(
        Action.GLASS_BROKEN,
        patient=context.patient_id,
        object=step.id,
        # The patient is told the reason that was given, not that the role allows to give one.
        reasons=[why.reason],
        basis=step.id,
        details={
            "sensitive": int(step.sensitive),
            "until": to_micros(step.until),
            "commitment": broken.commitment,
        },
    )


def _page(
    context: PatientContext, request: Request, steps: list[Step], form: Form | None
) -> dict[str, Any]:
    """Return the page; whoever has not opened anything yet sees nothing but the number.

    With it they compare what they typed with the card: the glass of a wrong patient broken by
    a slip of the keyboard would be a breach. It tells nothing that they did not know.
    """
    found = patients.details(request.db, context.patient_id, request.tenant.identifiers.scheme)
    sees = context.decision.allows(Permission.PATIENT_SEE)
    return {
        "form": form,
        "steps": steps,
        "patient_id": context.patient_id,
        "number": found.number,
        "name": found.name if sees else None,
        "minutes": int(request.tenant.access.glass.total_seconds() // 60),
        "back": "patient" if sees else "patient-find",
    }


@view_config(route_name="glass-end", permission=Permission.GLASS_BREAK, request_method="POST")
def glass_end(context: PatientContext, request: Request) -> HTTPSeeOther:
    """End one's own emergency access to the patient before its time."""
    step_id, me = request.matchdict["glass"], request.identity.person_id
    ended = (
        service.end_glass(request.db, context.patient_id, me, step_id, request.now)
        if is_id(step_id)
        else None
    )
    if ended is None:
        raise HTTPNotFound()
    for step in ended:
        request.audit(
            Action.GLASS_CLOSED,
            patient=context.patient_id,
            object=step,
            reasons=[Reason.PERSON_ASKED],
            basis=step,
        )
    flash(request, _("Emergency access has ended."))
    return HTTPSeeOther(request.route_path("home"))
