"""Reviews of emergency access: what waits, one of them, closing it."""

from datetime import datetime
from typing import Any

import colander
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access import reviews
from medportal.access.errors import ReviewRefused
from medportal.access.forms_glass import FINDING_WORDS, STATED_WORDS, finding_schema
from medportal.access.resources import root_of
from medportal.access.reviews import Review, Surroundings
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.fresh import require_fresh
from medportal.identity.people import names_of, roles_of
from medportal.tenancy.tenant import OWN_ROLES
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

PAGE = reviews.PAGE
REFUSALS = {
    "own-access": _("This was your own access: a colleague checks it."),
    "about-you": _("This is about your own record: a colleague checks it."),
    "represents": _("You represent this patient, or did: a colleague checks it."),
    "closed-already": _("A colleague has closed this already."),
    "still-open": _("This access still goes on. Wait until it has ended, or end it."),
    "no-words": _(
        "Words about this patient can no longer be kept, because the key was destroyed. Leave "
        "the note empty."
    ),
}
REFUSED_AS = {
    "own-access": Reason.OWN_ACCOUNT,
    "about-you": Reason.OWN_RECORD_ONLY_AS_PATIENT,
    "represents": Reason.OWN_RECORD_ONLY_AS_PATIENT,
    "closed-already": Reason.NOTHING_NEW,
    "still-open": Reason.OVERTAKEN,
    "no-words": Reason.NO_SUCH_THING,
}
#: What was done meanwhile, in words for the reviewer; the rest is counted together.
DEEDS = {
    Action.PATIENT_SOUGHT: _("Looked up by number"),
    Action.PATIENT_VIEWED: _("Pages about the patient opened"),
    Action.RECORDS_LISTED: _("List of records seen"),
    Action.RECORD_READ: _("Records read"),
    Action.RECORD_EXPORTED: _("Records exported"),
    Action.RECORD_CREATED: _("Records written"),
    Action.RECORD_AMENDED: _("Records amended"),
    Action.SUPPORT_CHANGED: _("Diet, allergies or transport notes changed"),
    Action.ACCESS_DENIED: _("Refused"),
}
OTHER_DEEDS = _("Other")
TAGS = {
    Reason.JUSTIFIED: "ok",
    Reason.NOT_JUSTIFIED: "bad",
    Reason.FOLLOWED_UP: "warn",
}


@view_config(
    route_name="reviews",
    permission=Permission.REVIEWS_DECIDE,
    renderer="medportal.access:templates/reviews.pt",
    request_method="GET",
)
def review_list(request: Request) -> dict[str, Any]:
    """List what waits, the oldest first, and what was closed last; no patient is named here."""
    found = reviews.waiting(request.db, after=_cursor(request), limit=PAGE + 1)
    waiting, more = found[:PAGE], len(found) > PAGE
    is_first = "after" not in request.GET and "closed" not in request.GET
    # Behind the first page of what is closed only that is shown.
    shows_waiting = "closed" not in request.GET
    closed = (
        reviews.closed(request.db, PAGE + 1, after=_closed_cursor(request))
        if is_first or not shows_waiting
        else []
    )
    request.audit(Action.OVERSIGHT_VIEWED, details={"count": len(waiting)})
    return {
        "waiting": waiting,
        "closed": closed[:PAGE],
        "shows_waiting": shows_waiting,
        "shows_closed": is_first or not shows_waiting,
        "next_closed": closed[PAGE - 1].id if len(closed) > PAGE else None,
        "is_first": is_first,
        "next": waiting[-1].id if more else None,
        "me": request.identity.person_id,
        "now": request.now,
        "stated": STATED_WORDS,
        "findings": FINDING_WORDS,
        "tags": TAGS,
    }


def _cursor(request: Request) -> tuple[datetime, str] | None:
    """Return the key of the last review of the page before. Raises ``HTTPNotFound``."""
    after = request.GET.get("after")
    if after is None:
        return None
    key = reviews.list_key(request.db, after) if is_id(after) else None
    if key is None:
        raise HTTPNotFound()
    return key


def _closed_cursor(request: Request) -> tuple[datetime, str] | None:
    """Return the key of the last closed one of the page before. Raises ``HTTPNotFound``."""
    after = request.GET.get("closed")
    if after is None:
        return None
    key = reviews.closed_key(request.db, after) if is_id(after) else None
    if key is None:
        raise HTTPNotFound()
    return key


@view_config(
    route_name="review",
    permission=Permission.REVIEWS_DECIDE,
    renderer="medportal.access:templates/review.pt",
)
def review(request: Request) -> Any:
    """Show one emergency access with what there is to compare; close it, or end it at once."""
    require_fresh(request)
    shown = _shown(request)
    forms = _forms(request)
    if request.method == "POST":
        answer = _decide(request, shown, forms)
        if answer is not None:
            return answer
        # Somebody else may have closed it meanwhile.
        shown = _shown(request)
    else:
        _audit(request, Action.OVERSIGHT_VIEWED, shown, ())
    return _page(request, shown, forms)


def _shown(request: Request) -> Review:
    review_id = request.matchdict["review"]
    found = reviews.find(request.db, review_id) if is_id(review_id) else None
    if found is None:
        raise HTTPNotFound()
    return found


def _forms(request: Request) -> dict[str, Form]:
    return {
        "form": make_form(request, finding_schema(), submit=_("Close this review")),
        "stop": make_form(
            request,
            colander.Schema(),
            submit=_("End this access now"),
            form_id="stop",
            danger=True,
        ),
    }


def _decide(request: Request, shown: Review, forms: dict[str, Form]) -> HTTPSeeOther | None:
    """Do what was sent; ``None`` if the page has to be shown again."""
    name = "stop" if forms["stop"].is_submitted else "form"
    values = forms[name].validate(request.POST.items())
    if values is None:
        return None
    try:
        if name == "stop":
            return _stop(request, shown)
        return _close(request, shown, Reason(values["finding"]), values["words"])
    except ReviewRefused as error:
        action = Action.GLASS_CLOSED if name == "stop" else Action.GLASS_REVIEWED
        _audit(request, action, shown, [REFUSED_AS[error.code]], Outcome.DENIED)
        forms[name].fail(None, REFUSALS[error.code])
        return None


def _close(request: Request, shown: Review, finding: Reason, words: str) -> HTTPSeeOther:
    closed = reviews.close(
        request.db,
        request.keys.vault,
        shown,
        finding,
        words,
        request.identity.person_id,
        request.now,
    )
    committed = {"commitment": closed.commitment} if closed.commitment else {}
    request.audit(
        Action.GLASS_REVIEWED,
        patient=closed.patient_id,
        object=shown.id,
        reasons=[closed.finding],
        basis=shown.id,
        details=committed,
    )
    flash(request, _("The review is closed."), "ok")
    return HTTPSeeOther(request.route_path("reviews"))


def _stop(request: Request, shown: Review) -> HTTPSeeOther:
    me = request.identity.person_id
    for step in reviews.stop(request.db, shown, me, request.now):
        request.audit(
            Action.GLASS_CLOSED,
            patient=shown.patient_id,
            object=step,
            reasons=root_of(request).decision.because[Permission.REVIEWS_DECIDE],
            basis=step,
        )
    flash(request, _("The access has ended."), "ok")
    return HTTPSeeOther(request.route_path("review", review=shown.id))


def _audit(
    request: Request,
    action: Action,
    shown: Review,
    reasons: Any,
    outcome: Outcome = Outcome.ALLOWED,
) -> None:
    because = root_of(request).decision.because[Permission.REVIEWS_DECIDE]
    request.audit(
        action, outcome, patient=shown.patient_id, object=shown.id, reasons=[*because, *reasons]
    )


def _page(request: Request, shown: Review, forms: dict[str, Form]) -> dict[str, Any]:
    session, vault = request.db, request.keys.vault
    why_not = reviews.why_not(session, shown, request.identity.person_id)
    is_open = shown.is_open(request.now)
    # Whoever may not check it need not read what a colleague wrote about the patient.
    may_read = why_not in (None, "closed-already")
    names = names_of(session, [shown.patient_id])
    return {
        "review": shown,
        "patient_name": names.get(shown.patient_id, ""),
        "staff_roles": _roles(request, shown.staff_id),
        "is_open": is_open,
        "stated": STATED_WORDS[shown.reason],
        "told": reviews.stated(session, vault, shown) if may_read else None,
        "finding": FINDING_WORDS[shown.finding] if shown.finding else None,
        "tag": TAGS[shown.finding] if shown.finding else None,
        "found": reviews.found_words(session, vault, shown) if may_read else None,
        "around": _around(reviews.surroundings(session, shown, request.tenant.id))
        if may_read
        else None,
        "looked_at": request.route_path("looked-at", person=shown.staff_id)
        if may_read and root_of(request).decision.allows(Permission.AUDIT_VIEW)
        else None,
        "why_not": REFUSALS[why_not] if why_not and not shown.finding else None,
        "close": forms["form"] if why_not is None and not is_open else None,
        "stop": forms["stop"] if why_not is None and is_open else None,
    }


def _roles(request: Request, person_id: str) -> str:
    held = [request.tenant.roles.get(role) for role in sorted(roles_of(request.db, person_id))]
    # Whether a colleague is a patient too, or represents one, is nobody's business here.
    staff = [role for role in held if role is not None and role.id not in OWN_ROLES]
    return ", ".join(role.names[request.locale_name] for role in staff)


def _around(found: Surroundings) -> dict[str, Any]:
    """Return what was done meanwhile in words, with how often, and the rest as it is."""
    counts: dict[Any, int] = {}
    for action, outcome, count in found.deeds:
        refused = outcome is not Outcome.ALLOWED or action is Action.ACCESS_DENIED
        words = DEEDS[Action.ACCESS_DENIED] if refused else DEEDS.get(action, OTHER_DEEDS)
        counts[words] = counts.get(words, 0) + count
    return {
        "deeds": list(counts.items()),
        "in_care": found.in_care,
        "blocked": found.blocked,
        "others": found.others,
        "unjustified": found.unjustified,
        "days": reviews.BEFORE.days,
    }
