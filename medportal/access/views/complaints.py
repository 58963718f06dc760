"""What looks wrong to patients: the privacy officer's queue, one complaint, its answer."""

from datetime import datetime
from typing import Any

import structlog
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access import complaints
from medportal.access.complaints import Held, Texts
from medportal.access.errors import ComplaintRefused
from medportal.access.forms_complaints import FINDING_WORDS, answer_schema
from medportal.access.lines import Line, Teller
from medportal.access.log import find_event
from medportal.access.resources import root_of, why_of
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.people import names_of
from medportal.vault.errors import VaultError
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

log = structlog.get_logger()
PAGE = complaints.PAGE
#: The list of what has been answered, in place of what waits.
ANSWERED = "answered"
REFUSALS = {
    "answered": _("A colleague has answered this already. You see the answer below."),
    "your-own": _("You have a part in this yourself. A colleague has to answer it."),
}


@view_config(
    route_name="complaints",
    permission=Permission.COMPLAINTS_ANSWER,
    renderer="medportal.access:templates/complaints.pt",
    request_method="GET",
)
def queue(request: Request) -> dict[str, Any]:
    """List what waits for an answer, the oldest first, or what has been answered."""
    shown = request.GET.get("show", "")
    if shown not in {"", ANSWERED}:
        raise HTTPNotFound()
    search = complaints.answered if shown else complaints.waiting
    found = search(request.db, after=_after(request, shown), limit=PAGE + 1)
    page, more = found[:PAGE], len(found) > PAGE
    request.audit(
        Action.OVERSIGHT_VIEWED,
        details={"list": "complaints", "count": len(page)},
        reasons=why_of(root_of(request).decision, Permission.COMPLAINTS_ANSWER)["reasons"],
    )
    names = names_of(request.db, [held.about.patient_id for held in page])
    return {
        "rows": [_row(request, held, names) for held in page],
        "shown": shown,
        "fields": {"show": shown} if shown else {},
        "next": page[-1].id if more else None,
        "is_first": "after" not in request.GET,
    }


def _after(request: Request, shown: str) -> tuple[datetime, str] | None:
    """Return where the page before ended. Raises ``HTTPNotFound`` for no complaint of the list."""
    complaint_id = request.GET.get("after")
    if complaint_id is None:
        return None
    found = complaints.find(request.db, complaint_id) if is_id(complaint_id) else None
    if found is None:
        raise HTTPNotFound()
    # What has been answered since the page before was drawn still says where that ended.
    at = found.answered_at if shown else found.made_at
    if at is None:
        raise HTTPNotFound()
    return at, found.id


def _row(request: Request, held: Held, names: dict[str, str]) -> dict[str, Any]:
    """Return a row of the list; one's own has neither a name nor a way to it."""
    is_own = complaints.has_part(request.db, held, request.identity.person_id)
    path = request.route_path("complaint", complaint=held.id)
    return {
        "path": None if is_own else path,
        "name": None if is_own else names.get(held.about.patient_id, ""),
        "made_at": held.made_at,
        "answered_at": held.answered_at,
        "finding": FINDING_WORDS[Reason(held.finding)] if held.finding else None,
    }


@view_config(
    route_name="complaint",
    permission=Permission.COMPLAINTS_ANSWER,
    renderer="medportal.access:templates/complaint.pt",
    request_method="GET",
)
def complaint(request: Request) -> dict[str, Any]:
    """Show one complaint: what looks wrong, and the entry as the patient reads it."""
    held = _held(request)
    _audit_look(request, held)
    return _page(request, held, _form(request))


@view_config(
    route_name="complaint",
    permission=Permission.COMPLAINTS_ANSWER,
    renderer="medportal.access:templates/complaint.pt",
    request_method="POST",
)
def answer(request: Request) -> Any:
    """Answer a complaint; who made it gets a mail."""
    held, form = _held(request), _form(request)
    values = form.validate(request.POST.items())
    if values is None or not _answered(request, held, form, values):
        _audit_look(request, held)
        return _page(request, _held(request), form)
    flash(request, _("Your answer has been sent."), "ok")
    return HTTPSeeOther(request.route_path("complaints"))


def _answered(request: Request, held: Held, form: Form, values: dict[str, Any]) -> bool:
    finding, officer = Reason(values["finding"]), request.identity.person_id
    try:
        written = complaints.answer(
            request.db,
            request.keys.vault,
            held.id,
            finding,
            values["answer"],
            officer,
            request.now,
        )
    except ComplaintRefused as error:
        request.audit(
            Action.COMPLAINT_ANSWERED,
            Outcome.DENIED,
            patient=held.about.patient_id,
            object=held.id,
            reasons=[Reason.OVERTAKEN],
        )
        form.fail(None, REFUSALS[error.code])
        return False
    request.audit(
        Action.COMPLAINT_ANSWERED,
        patient=held.about.patient_id,
        object=held.id,
        reasons=[finding],
        details={"entry": held.about.event_id, "commitment": written.commitment},
    )
    return True


def _held(request: Request) -> Held:
    """Return the complaint of a page; one's own is not there, as if it were none."""
    complaint_id = request.matchdict["complaint"]
    found = complaints.find(request.db, complaint_id) if is_id(complaint_id) else None
    if found is None or complaints.has_part(request.db, found, request.identity.person_id):
        raise HTTPNotFound()
    return found


def _form(request: Request) -> Form:
    return make_form(request, answer_schema(), submit=_("Send the answer"))


def _audit_look(request: Request, held: Held) -> None:
    request.audit(
        Action.OVERSIGHT_VIEWED,
        patient=held.about.patient_id,
        object=held.id,
        reasons=why_of(root_of(request).decision, Permission.COMPLAINTS_ANSWER)["reasons"],
        details={"entry": held.about.event_id},
    )


def _page(request: Request, held: Held, form: Form) -> dict[str, Any]:
    people = [held.about.patient_id, held.made_by, held.answered_by or ""]
    return {
        "held": held,
        "names": names_of(request.db, people),
        "line": _line(request, held),
        "finding": FINDING_WORDS[Reason(held.finding)] if held.finding else None,
        "texts": _texts(request, held),
        "form": form if held.answered_at is None else None,
        "links": _links(request, held),
    }


def _line(request: Request, held: Held) -> Line | None:
    """Return the entry as the patient reads it, without the names of records."""
    event = find_event(request.db, held.about.patient_id, held.about.event_id)
    if event is None:
        return None
    teller = Teller(request, held.about.patient_id)
    return teller.lines(request.db, [event])[0]


def _texts(request: Request, held: Held) -> Texts | None:
    try:
        return complaints.opened(request.db, request.keys.vault, held)
    except VaultError as error:
        log.error("words of a complaint cannot be opened", kind=type(error).__name__, id=held.id)
        return None


def _links(request: Request, held: Held) -> list[tuple[str, Any]]:
    """Return address and words of where to look further, for who may look there."""
    if not root_of(request).decision.allows(Permission.AUDIT_VIEW):
        return []
    found = [
        (
            request.route_path("audit-event", event=held.about.event_id),
            _("The entry in the audit log"),
        )
    ]
    if held.about.actor and is_id(held.about.actor):
        found.append(
            (
                request.route_path("looked-at", person=held.about.actor),
                _("Whom did this account look at?"),
            )
        )
    return found
