"""Pages of erasure: what waits, asking for one, deciding, calling off."""

from datetime import datetime
from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.access.resources import PatientContext, root_of, why_of
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.erasure import service
from medportal.erasure.errors import (
    AlreadyAsked,
    AlreadyErased,
    ErasureError,
    NothingAsked,
    NotOffered,
    SamePerson,
    StillToBeKept,
    TooEarly,
)
from medportal.erasure.forms import REASON_WORDS, agree_schema, ask_schema
from medportal.erasure.models import ErasureState
from medportal.erasure.service import Shown
from medportal.identity.errors import Throttled
from medportal.identity.fresh import require_fresh
from medportal.identity.people import names_of
from medportal.identity.views.answers import throttled
from medportal.patients import finding
from medportal.patients import service as patients
from medportal.patients.forms import find_schema
from medportal.patients.views import usable_number
from medportal.vault.errors import PatientKeyDestroyed
from medportal.web.errors import error_page
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _
from medportal.web.limits import posted_text

PAGE = service.PAGE
STATES = {
    ErasureState.ASKED: ("info", _("Waits for a second person")),
    ErasureState.AGREED: ("warn", _("Agreed: being carried out")),
    ErasureState.ERASED: ("plain", _("Erased")),
    ErasureState.WITHDRAWN: ("plain", _("Called off")),
    ErasureState.REFUSED: ("plain", _("Refused")),
    ErasureState.STOPPED: ("warn", _("Stopped: nothing was erased")),
}


@view_config(
    route_name="erasures",
    permission=Permission.APPROVALS_DECIDE,
    renderer="medportal.erasure:templates/erasures.pt",
    request_method="GET",
)
def erasure_list(request: Request) -> dict[str, Any]:
    """List what waits to be decided, and what was settled of late."""
    # An erasure begins with a number; whoever only decides is not asked for one.
    may_ask = root_of(request).decision.allows(Permission.ERASURE_DECIDE)
    return _list_page(request, _find_form(request) if may_ask else None)


@view_config(
    route_name="erasures",
    permission=Permission.ERASURE_DECIDE,
    renderer="medportal.erasure:templates/erasures.pt",
    request_method="POST",
)
def find(request: Request) -> Any:
    """Find the patient whose erasure is asked for, by exact number; a miss counts and says so."""
    form = _find_form(request)
    values = form.validate(request.POST.items())
    if values is None:
        return _list_page(request, form)
    seeker = request.identity.person_id
    try:
        finding.refuse_searching(request.db, seeker, request.now, in_turn=True)
    except Throttled as error:
        request.audit(Action.PATIENT_SOUGHT, Outcome.DENIED, reasons=[Reason.THROTTLED])
        return {**_list_page(request, form), **throttled(request, form, error.seconds)}
    number = usable_number(request, values["number"]) or ""
    scheme = request.tenant.identifiers.scheme
    patient_id = patients.find_patient(request.db, scheme, number)
    request.audit(
        Action.PATIENT_SOUGHT, patient=patient_id, details={"found": int(patient_id is not None)}
    )
    if patient_id is None:
        finding.note_miss(request.db, seeker, request.now)
        form.fail("number", _("Nobody with this number is registered as a patient here."))
        return _list_page(request, form)
    finding.note_hit(request.db, seeker, patient_id, request.now)
    return HTTPSeeOther(request.route_path("erasure", patient=patient_id))


def _find_form(request: Request) -> Form:
    schema = find_schema(
        request.tenant, is_number=lambda typed: usable_number(request, typed) is not None
    )
    return make_form(request, schema, submit=_("Find"))


def _list_page(request: Request, form: Form | None) -> dict[str, Any]:
    found = service.waiting(request.db, _cursor(request), PAGE + 1)
    waiting, more = found[:PAGE], len(found) > PAGE
    is_first = "after" not in request.GET
    settled = service.settled(request.db) if is_first else []
    request.audit(
        Action.ERASURES_VIEWED,
        details={"count": len(waiting)},
        reasons=why_of(root_of(request).decision, Permission.APPROVALS_DECIDE)["reasons"],
    )
    ids = [each.patient_id for each in (*waiting, *settled)]
    names = names_of(request.db, ids)
    return {
        "form": form,
        "waiting": [_row(request, each, names) for each in waiting],
        "settled": [_row(request, each, names) for each in settled],
        "next": waiting[-1].id if more else None,
        "is_first": is_first,
    }


def _cursor(request: Request) -> tuple[datetime, str] | None:
    """Return where the page before ended. Raises ``HTTPNotFound`` for no erasure."""
    after = request.GET.get("after")
    if after is None:
        return None
    found = service.find(request.db, after) if is_id(after) else None
    if found is None:
        raise HTTPNotFound()
    return found.asked_at, found.id


def _row(request: Request, shown: Shown, names: dict[str, str]) -> dict[str, Any]:
    """Return a row; one's own has neither a name nor a way to it."""
    is_own = shown.patient_id == request.identity.person_id
    return {
        "path": None if is_own else request.route_path("erasure-decide", erasure=shown.id),
        "name": None if is_own else names.get(shown.patient_id, ""),
        "shown": shown,
        "state": STATES[shown.state],
        "reason": REASON_WORDS.get(shown.reason, ""),
    }


@view_config(
    route_name="erasure",
    permission=Permission.ERASURE_DECIDE,
    renderer="medportal.erasure:templates/ask.pt",
)
def ask(context: PatientContext, request: Request) -> Any:
    """Ask for the erasure of a patient's records; say first what it takes away and what not."""
    require_fresh(request)
    if context.patient_id == request.identity.person_id:
        raise HTTPNotFound()
    if not service.is_patient(request.db, context.patient_id):
        raise HTTPNotFound()
    gets_mail = service.gets_mail(request.db, request.tenant, context.patient_id)
    form = make_form(request, ask_schema(gets_mail), submit=_("Ask for the erasure"), danger=True)
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is not None:
        try:
            return _asked(context, request, Reason(values["reason"]), "on_paper" in values)
        except IntegrityError as error:
            # A colleague asked at this moment: tried again, theirs is found.
            mark_error_retryable(error)
            raise
        except ErasureError as error:
            _audit_refusal(context, request, error)
            form.fail(None, _why_not(request, error))
    elif request.method == "GET":
        why = context.why(Permission.ERASURE_DECIDE)
        request.audit(Action.ERASURES_VIEWED, **why)
    return {**_ask_page(context, request, form), "gets_mail": gets_mail}


def _asked(
    context: PatientContext, request: Request, reason: Reason, on_paper: bool
) -> HTTPSeeOther:
    me, patient_id = request.identity.person_id, context.patient_id
    made = service.ask(
        request.db, request.tenant, patient_id, reason, me, request.now, on_paper=on_paper
    )
    request.audit(
        Action.ERASURE_ASKED,
        patient=patient_id,
        object=made,
        reasons=[reason],
        details={"told": "on-paper" if on_paper else "by-mail"},
    )
    flash(request, _("A colleague has to agree, in a week at the earliest."), "ok")
    return HTTPSeeOther(request.route_path("erasure", patient=context.patient_id))


def _ask_page(context: PatientContext, request: Request, form: Form) -> dict[str, Any]:
    patient_id = context.patient_id
    scheme = request.tenant.identifiers.scheme
    shown = service.current(request.db, patient_id)
    erased_at = service.erased_at(request.db, patient_id)
    until = service.kept_until(request.db, request.tenant, patient_id)
    duty = until is not None and service.is_kept(request.tenant, until, request.now)
    return {
        "patient": patients.details(request.db, patient_id, scheme),
        "shown": shown,
        "state": STATES[shown.state] if shown else None,
        "can_withdraw": shown is not None and shown.state is ErasureState.ASKED,
        "erased_at": erased_at,
        "until": until if duty else None,
        "form": None if shown or erased_at or duty else form,
        "days": request.tenant.retention.backup_days,
        "wait": service.WAIT.days,
    }


@view_config(
    route_name="erasure-withdraw", permission=Permission.ERASURE_DECIDE, request_method="POST"
)
def withdraw(context: PatientContext, request: Request) -> HTTPSeeOther:
    """Call an erasure off that nobody has agreed to."""
    if context.patient_id == request.identity.person_id:
        raise HTTPNotFound()
    if not service.is_patient(request.db, context.patient_id):
        raise HTTPNotFound()
    try:
        shown = service.withdraw(request.db, context.patient_id, request.now)
    except NothingAsked:
        flash(request, _("Nothing waits here any more: it was decided or called off."), "warn")
    else:
        why = context.why(Permission.ERASURE_DECIDE)
        request.audit(Action.ERASURE_WITHDRAWN, object=shown.id, **why)
        flash(request, _("The erasure is called off. Nothing was erased."), "ok")
    return HTTPSeeOther(request.route_path("erasure", patient=context.patient_id))


@view_config(
    route_name="erasure-decide",
    permission=Permission.APPROVALS_DECIDE,
    renderer="medportal.erasure:templates/decide.pt",
)
def decide(request: Request) -> Any:
    """Show one erasure; a second person agrees or refuses."""
    require_fresh(request)
    shown = _shown(request)
    form = make_form(request, agree_schema(), submit=_("Erase the records"), danger=True)
    if request.method == "POST":
        answer = _decided(request, shown, form)
        if answer is not None:
            return answer
        shown = _shown(request)
    else:
        request.audit(
            Action.ERASURES_VIEWED,
            patient=shown.patient_id,
            object=shown.id,
            reasons=why_of(root_of(request).decision, Permission.APPROVALS_DECIDE)["reasons"],
        )
    return _decide_page(request, shown, form)


def _shown(request: Request) -> Shown:
    """Return the erasure; nobody sees one of their own record here."""
    erasure_id = request.matchdict["erasure"]
    found = service.find(request.db, erasure_id) if is_id(erasure_id) else None
    if found is None or found.patient_id == request.identity.person_id:
        raise HTTPNotFound()
    return found


def _decided(request: Request, shown: Shown, form: Form) -> HTTPSeeOther | None:
    me, is_refusal = request.identity.person_id, posted_text(request, "deed") == "refuse"
    if not is_refusal and form.validate(request.POST.items()) is None:
        return None
    try:
        if is_refusal:
            service.refuse(request.db, shown.id, me, request.now)
            _audit_decision(request, shown, Action.ERASURE_REFUSED)
            flash(request, _("The erasure is refused. Nothing was erased."), "ok")
        else:
            service.agree(request.db, request.tenant, shown.id, me, request.now)
            _audit_decision(request, shown, Action.ERASURE_AGREED)
            flash(request, _("Agreed. The records are erased in a moment."), "ok")
    except ErasureError as error:
        action = Action.ERASURE_REFUSED if is_refusal else Action.ERASURE_AGREED
        _audit_decision(request, shown, action, Outcome.DENIED, REFUSED_AS[type(error)])
        form.fail(None, _why_not(request, error))
        return None
    return HTTPSeeOther(request.route_path("erasures"))


def _audit_decision(
    request: Request,
    shown: Shown,
    action: Action,
    outcome: Outcome = Outcome.ALLOWED,
    reason: Reason | None = None,
) -> None:
    reasons = [reason] if reason else [shown.reason]
    request.audit(action, outcome, patient=shown.patient_id, object=shown.id, reasons=reasons)


def _audit_refusal(context: PatientContext, request: Request, error: ErasureError) -> None:
    request.audit(
        Action.ERASURE_ASKED,
        Outcome.DENIED,
        patient=context.patient_id,
        reasons=[REFUSED_AS[type(error)]],
    )


#: Why the log says that somebody could not.
REFUSED_AS: dict[type[ErasureError], Reason] = {
    StillToBeKept: Reason.KEPT_BY_DUTY,
    AlreadyAsked: Reason.NOTHING_NEW,
    AlreadyErased: Reason.NOTHING_NEW,
    NothingAsked: Reason.OVERTAKEN,
    SamePerson: Reason.SECOND_PERSON_NEEDED,
    TooEarly: Reason.TOO_EARLY,
    NotOffered: Reason.TOO_EARLY,
}


def _why_not(request: Request, error: ErasureError) -> Any:
    """Return what to say to somebody who could not."""
    match error:
        case StillToBeKept():
            return _(
                "These records must be kept until ${day}. Until then nobody can erase them.",
                mapping={"day": error.until.isoformat()},
            )
        case AlreadyErased():
            return _("The records of this patient are erased already.")
        case AlreadyAsked():
            return _("The erasure of these records is asked for already.")
        case SamePerson():
            return _("Somebody else has to decide: whoever asks does not agree.")
        case NotOffered():
            return _("No mail reaches this patient: tell them in writing first.")
        case TooEarly():
            return _("The patient still has time to take the records along. Come back later.")
        case _:
            return _("Somebody else decided this at the same moment. You see below how it stands.")


def _decide_page(request: Request, shown: Shown, form: Form) -> dict[str, Any]:
    me = request.identity.person_id
    scheme = request.tenant.identifiers.scheme
    is_second = me != shown.asked_by
    waits = shown.state is ErasureState.ASKED
    is_time = request.now >= shown.decidable_at
    return {
        "shown": shown,
        "state": STATES[shown.state],
        "reason": REASON_WORDS.get(shown.reason, ""),
        "patient": patients.details(request.db, shown.patient_id, scheme),
        "names": names_of(request.db, [n for n in (shown.asked_by, shown.decided_by) if n]),
        "form": form if waits and is_second and is_time else None,
        "can_refuse": waits and is_second,
        "is_asker": waits and not is_second,
        "is_early": waits and is_second and not is_time,
        "days": request.tenant.retention.backup_days,
    }


@exception_view_config(context=PatientKeyDestroyed)
def erased(problem: PatientKeyDestroyed, request: Request) -> Response:
    """Say that what was kept about a patient is erased, where a page would have opened it."""
    return error_page(request, 410)
