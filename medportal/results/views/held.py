"""Results that were held back: what waits for a person, one of them, deciding about it."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import colander
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import root_of
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.delivery.held import (
    PAGE,
    HeldItem,
    find_held,
    held_items,
    place_of,
    was_held,
)
from medportal.delivery.inbox import Awaiting
from medportal.identity.fresh import require_fresh
from medportal.records.presentation import institution_name
from medportal.results import held
from medportal.results.errors import HeldRefused
from medportal.results.held import Compared
from medportal.results.words import HELD_OTHERWISE, HELD_WORDS, NOT_OURS_WORDS
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form, radios
from medportal.web.i18n import _, format_date

REFUSALS = {
    "about-you": _("This is about yourself: a colleague decides about it."),
    "nobody-here": _("Nobody is registered here under this number. Register the patient first."),
    "decided-already": _("A colleague has decided about this already."),
}
REFUSED_AS = {
    "about-you": Reason.OWN_RECORD_ONLY_AS_PATIENT,
    "nobody-here": Reason.NO_SUCH_THING,
    "decided-already": Reason.NOTHING_NEW,
}
AGAIN, NOT_OURS, UNDO = "again", "not-ours", "undo"
DONE = {
    AGAIN: _("It is being tried again. If it does not fit yet, it is back here in a moment."),
    NOT_OURS: _("It is off the list, and is deleted here later. Tell the sender, who has it."),
    UNDO: _("It waits for a decision again."),
}


@view_config(
    route_name="held",
    permission=Permission.HELD_DECIDE,
    request_method="GET",
    renderer="medportal.results:templates/held.pt",
)
def held_list(request: Request) -> dict[str, Any]:
    """List what waits for a person, the longest waiting first; nobody is named here.

    On a list of its own, what was declined a short while ago.
    """
    is_declined = "declined" in request.GET
    found = held_items(
        request.db,
        after=_cursor(request),
        limit=PAGE + 1,
        awaiting=Awaiting.UNDOING if is_declined else Awaiting.PERSON,
    )
    page, more = found[:PAGE], len(found) > PAGE
    request.audit(Action.HELD_VIEWED, details={"count": len(page)})
    return {
        "items": [
            {
                "path": request.route_path("held-one", sender=item.sender, tid=item.tid),
                "sender": institution_name(request, item.sender),
                "received_at": item.received_at,
                "declined_at": item.declined_at,
                "why": HELD_WORDS.get(item.reason, HELD_OTHERWISE),
            }
            for item in page
        ],
        "is_declined": is_declined,
        "days": held.UNDONE_WITHIN.days,
        "is_first": "after" not in request.GET,
        "next": f"{page[-1].sender}.{page[-1].tid}" if more else None,
    }


def _cursor(request: Request) -> tuple[datetime, str, str] | None:
    """Return the key of the last item of the page before, decided about since or not.

    Raises ``HTTPNotFound`` for what never came.
    """
    after = request.GET.get("after")
    if after is None:
        return None
    sender, _dot, tid = after.rpartition(".")
    place = place_of(request.db, sender, tid) if is_id(tid) else None
    if place is None:
        raise HTTPNotFound()
    return place


def _find(request: Request, sender: str, tid: str) -> HeldItem:
    found = find_held(request.db, sender, tid) if is_id(tid) else None
    if found is None:
        raise HTTPNotFound()
    return found


@view_config(
    route_name="held-one",
    permission=Permission.HELD_DECIDE,
    renderer="medportal.results:templates/held_one.pt",
)
def held_one(request: Request) -> Any:
    """Show whom a held result is about, there and here; let it be tried again, or drop it."""
    require_fresh(request)
    sender, tid = request.matchdict["sender"], request.matchdict["tid"]
    if request.method == "POST" and is_id(tid) and was_held(request.db, sender, tid):
        # A colleague was faster, or the button was pressed twice: the list says what is left.
        flash(request, _("This does not wait for a decision any more."), "info")
        return HTTPSeeOther(request.route_path("held"))
    item = _find(request, sender, tid)
    shown = held.compare(request.db, request.keys.vault, item)
    forms = _forms(request)
    if request.method == "POST":
        answer = _decide(request, shown, forms)
        if answer is not None:
            return answer
    else:
        _audit(request, Action.HELD_VIEWED, shown)
    return _page(request, shown, forms)


def _forms(request: Request) -> dict[str, Form]:
    return {
        AGAIN: make_form(request, colander.Schema(), submit=_("Try again"), form_id=AGAIN),
        NOT_OURS: make_form(
            request,
            _not_ours_schema(),
            submit=_("Delete it here"),
            form_id=NOT_OURS,
            danger=True,
        ),
        UNDO: make_form(
            request, colander.Schema(), submit=_("Let it be decided again"), form_id=UNDO
        ),
    }


def _not_ours_schema() -> colander.Schema:
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="reason",
            title=_("Why is it not for us?"),
            validator=colander.OneOf([str(reason) for reason in NOT_OURS_WORDS]),
            widget=radios([(str(reason), words) for reason, words in NOT_OURS_WORDS.items()]),
        )
    )
    return schema


def _decide(request: Request, shown: Compared, forms: dict[str, Form]) -> HTTPSeeOther | None:
    """Do what was sent; ``None`` if the page has to be shown again."""
    name = next((each for each in (AGAIN, UNDO) if forms[each].is_submitted), NOT_OURS)
    values = forms[name].validate(request.POST.items())
    if values is None:
        return None
    reasons = [Reason(values["reason"])] if name == NOT_OURS else []
    me = request.identity.person_id
    try:
        if name == AGAIN:
            held.try_again(request.db, shown, me)
        elif name == UNDO:
            held.take_back(request.db, shown, me)
        else:
            held.give_up(request.db, shown, me, request.now)
    except HeldRefused as error:
        refused = [REFUSED_AS[error.code]]
        _audit(request, Action.HELD_DECIDED, shown, name, refused, Outcome.DENIED)
        if error.code == "decided-already":
            flash(request, REFUSALS[error.code], "info")
            return HTTPSeeOther(request.route_path("held"))
        forms[name].fail(None, REFUSALS[error.code])
        return None
    _audit(request, Action.HELD_DECIDED, shown, name, reasons)
    flash(request, DONE[name], "ok")
    return HTTPSeeOther(request.route_path("held"))


def _audit(
    request: Request,
    action: Action,
    shown: Compared,
    decision: str = "",
    reasons: Sequence[Reason] = (),
    outcome: Outcome = Outcome.ALLOWED,
) -> None:
    details = {"partner": shown.item.sender}
    if decision:
        details["decision"] = decision
    request.audit(
        action,
        outcome,
        patient=shown.patient_id,
        object=shown.item.tid,
        reasons=reasons or [Reason.ROLE_ANY],
        details=details,
    )


def _page(request: Request, shown: Compared, forms: dict[str, Form]) -> dict[str, Any]:
    is_own = held.is_own(request.db, shown, request.identity.person_id)
    declined_at = shown.item.declined_at
    is_open = declined_at is None and not is_own
    return {
        "shown": shown,
        # Nobody sees as staff what is about themselves.
        "told": None if is_own else shown.told,
        "known": None if is_own else shown.known,
        "birth": _birth(request, shown),
        "may_register": root_of(request).decision.allows(Permission.PATIENTS_REGISTER),
        "is_own": is_own,
        "sender": institution_name(request, shown.item.sender),
        "why": HELD_WORDS.get(shown.item.reason, HELD_OTHERWISE),
        "again": forms[AGAIN] if shown.known and is_open else None,
        "not_ours": forms[NOT_OURS] if is_open else None,
        "undo": None if is_own or is_open else forms[UNDO],
        "deleted_at": declined_at and declined_at + held.UNDONE_WITHIN,
        "days": held.UNDONE_WITHIN.days,
    }


def _birth(request: Request, shown: Compared) -> str:
    """Return the date of birth that the sender says, as dates stand here, or as it was written."""
    written = shown.told.birth if shown.told else ""
    try:
        day = date.fromisoformat(written)
    except ValueError:
        return written
    # Other ways to write the same day are not the same here, and must not look so.
    return format_date(request, day) if day.isoformat() == written else written
