"""What waits for a second person, and deciding it."""

from datetime import datetime
from typing import Any

import colander
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import root_of
from medportal.admin import approvals, words
from medportal.admin.approvals import Granted, Shown
from medportal.admin.errors import ApprovalRefused
from medportal.admin.forms_deeds import checked_schema, deed_schema
from medportal.admin.models import ApprovalKind, ApprovalState
from medportal.admin.views.answers import audit_deed, code_beforehand, handed_over, patient_id
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import codes, directory, powers
from medportal.identity.accounts import Why
from medportal.identity.directory import PersonDetails
from medportal.identity.fresh import require_fresh
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

PAGE = approvals.PAGE
REFUSED = (Reason.WRONG_DATA, Reason.NOT_ASKED_FOR, Reason.NOT_AGREED)
#: The event of what a request that was granted does.
ACTIONS = {
    ApprovalKind.GRANT_ROLE: Action.ROLES_CHANGED,
    ApprovalKind.RESET_SECOND_FACTOR: Action.SECOND_FACTOR_REMOVED,
    ApprovalKind.CHANGE_EMAIL: Action.EMAIL_CHANGE_REQUESTED,
    ApprovalKind.ISSUE_CODE: Action.CODE_ISSUED,
}
#: The event of a form of a request, by the form's name.
DECISIONS = {
    "approve": Action.APPROVAL_GRANTED,
    "refuse": Action.APPROVAL_REFUSED,
    "withdraw": Action.APPROVAL_WITHDRAWN,
}


@view_config(
    route_name="approvals",
    permission=Permission.APPROVALS_DECIDE,
    renderer="medportal.admin:templates/approvals.pt",
    request_method="GET",
)
def approval_list(request: Request) -> dict[str, Any]:
    """List what waits for a decision, and what was decided of late."""
    found = approvals.waiting(request.db, request.now, after=_cursor(request), limit=PAGE + 1)
    waiting, more = found[:PAGE], len(found) > PAGE
    is_first = "after" not in request.GET
    recent = approvals.recent(request.db, request.now, PAGE) if is_first else []
    request.audit(Action.APPROVALS_VIEWED, details={"count": len(waiting)})
    return {
        "waiting": [_line(request, shown) for shown in waiting],
        "recent": [_line(request, shown) for shown in recent],
        "is_first": is_first,
        "next": waiting[-1].id if more else None,
        "me": request.identity.person_id,
        "states": words.STATES,
    }


def _cursor(request: Request) -> tuple[datetime, str] | None:
    """Return the key of the last request of the page before. Raises ``HTTPNotFound``."""
    after = request.GET.get("after")
    if after is None:
        return None
    key = approvals.list_key(request.db, after) if is_id(after) else None
    if key is None:
        raise HTTPNotFound()
    return key


def _line(request: Request, shown: Shown) -> tuple[str, Any, str, Shown]:
    """Return address, kind and role of a line, and the line; an address stands on no list."""
    is_role = shown.kind is ApprovalKind.GRANT_ROLE
    role = words.role_words(request, shown.value) if is_role else ""
    path = request.route_path("approval", approval=shown.id)
    return path, words.kind_words(shown.kind), role, shown


@view_config(
    route_name="approval",
    permission=Permission.APPROVALS_DECIDE,
    renderer="medportal.admin:templates/approval.pt",
)
def approval(request: Request) -> Any:
    """Show one request with what there is to check; approve, refuse or withdraw it."""
    require_fresh(request)
    made = code_beforehand(request)
    shown = _shown(request)
    person = _person(request, shown)
    why_not = approvals.why_not(request.db, request.tenant, shown, request.identity.person_id)
    forms = _forms(request, shown)
    if request.method == "POST":
        answer = _decide(request, shown, person, forms, made)
        if answer is not None:
            return answer
        # What is shown again is how it is now, and so is the form.
        person = _person(request, shown)
    else:
        request.audit(
            Action.APPROVALS_VIEWED,
            object=person.id,
            patient=patient_id(person),
            details={"approval": shown.id},
        )
    return _page(request, shown, person, why_not, forms)


def _shown(request: Request) -> Shown:
    approval_id = request.matchdict["approval"]
    found = approvals.find(request.db, approval_id, request.now) if is_id(approval_id) else None
    if found is None:
        raise HTTPNotFound()
    return found


def _person(request: Request, shown: Shown) -> PersonDetails:
    found = directory.details(request.db, request.tenant.identifiers.scheme, shown.person_id)
    if found is None:
        raise HTTPNotFound()
    return found


def _approve_form(request: Request, shown: Shown) -> Form:
    form = make_form(request, checked_schema(), submit=_("Approve"), form_id="approve")
    return form.fill({"seen": approvals.seal(request.db, shown)})


def _forms(request: Request, shown: Shown) -> dict[str, Form]:
    return {
        "approve": _approve_form(request, shown),
        "refuse": make_form(
            request, deed_schema(REFUSED), submit=_("Refuse"), form_id="refuse", danger=True
        ),
        "withdraw": make_form(
            request, colander.Schema(), submit=_("Withdraw this request"), form_id="withdraw"
        ),
    }


def _decide(
    request: Request,
    shown: Shown,
    person: PersonDetails,
    forms: dict[str, Form],
    made: codes.FreshCode | None,
) -> Any | None:
    """Do what was sent; ``None`` if the page has to be shown again."""
    name = next((name for name, form in forms.items() if form.is_submitted), "approve")
    values = forms[name].validate(request.POST.items())
    if values is None:
        return None
    try:
        match name:
            case "refuse":
                return _refuse(request, shown, person, values)
            case "withdraw":
                return _withdraw(request, shown, person)
            case _:
                return _approve(request, shown, person, made, values["seen"])
    except ApprovalRefused as error:
        request.audit(
            DECISIONS[name],
            Outcome.DENIED,
            object=person.id,
            patient=patient_id(person),
            reasons=[error.reason],
            details={"approval": shown.id, "kind": str(shown.kind)},
        )
        if error.reason is Reason.CHANGED_MEANWHILE:
            forms[name] = _approve_form(request, shown)
        forms[name].fail(None, words.REFUSALS[error.reason])
        return None


def _approve(
    request: Request,
    shown: Shown,
    person: PersonDetails,
    made: codes.FreshCode | None,
    seen: str,
) -> Any:
    by = request.identity.person_id
    granted = approvals.grant(
        request.db, request.tenant, shown.id, by, request.now, made, seen=seen
    )
    _audit_granted(request, shown, person, granted)
    if granted.welcome and granted.welcome.code:
        request.override_renderer = "medportal.admin:templates/code.pt"
        return {
            "name": person.name,
            "next": (request.route_path("approvals"), _("Go to the approvals")),
            **handed_over(request, person.id, granted.welcome),
        }
    flash(request, _("Approved."), "ok")
    return HTTPSeeOther(request.route_path("approvals"))


def _audit_granted(request: Request, shown: Shown, person: PersonDetails, granted: Granted) -> None:
    role = granted.value if granted.kind is ApprovalKind.GRANT_ROLE else ""
    what: dict[str, str | int] = {"added": role} if role else {}
    if granted.anew or role:
        what["anew"] = int(granted.anew)
    about = {"approval": shown.id, "kind": str(shown.kind), "requested-by": shown.requested_by}
    audit_deed(
        request, person, Action.APPROVAL_GRANTED, granted.note, granted.reason, **about, **what
    )
    actions = [ACTIONS[granted.kind]]
    has_code = granted.welcome is not None and granted.welcome.code is not None
    if has_code and granted.kind is not ApprovalKind.ISSUE_CODE:
        actions.append(Action.CODE_ISSUED)
    for action in actions:
        request.audit(
            action,
            object=person.id,
            patient=patient_id(person),
            reasons=[granted.reason, Reason.APPROVED_BY_SECOND_PERSON],
            details={"approval": shown.id, **what},
        )


def _refuse(request: Request, shown: Shown, person: PersonDetails, values: dict[str, Any]) -> Any:
    why = Why(request.identity.person_id, Reason(values["reason"]), values["note"])
    note = approvals.refuse(request.db, request.tenant, shown.id, why, request.now)
    about = {"approval": shown.id, "kind": str(shown.kind)}
    audit_deed(request, person, Action.APPROVAL_REFUSED, note, **about)
    flash(request, _("Refused."), "ok")
    return HTTPSeeOther(request.route_path("approvals"))


def _withdraw(request: Request, shown: Shown, person: PersonDetails) -> Any:
    approvals.withdraw(request.db, shown.id, request.identity.person_id, request.now)
    request.audit(
        Action.APPROVAL_WITHDRAWN,
        object=person.id,
        patient=patient_id(person),
        reasons=[Reason.PERSON_ASKED],
        details={"approval": shown.id, "kind": str(shown.kind)},
    )
    flash(request, _("Your request has been withdrawn."), "ok")
    return HTTPSeeOther(request.route_path("approvals"))


def _page(
    request: Request,
    shown: Shown,
    person: PersonDetails,
    why_not: Reason | None,
    forms: dict[str, Form],
) -> dict[str, Any]:
    waits = shown.state is ApprovalState.WAITING
    is_own = shown.requested_by == request.identity.person_id
    may_manage = root_of(request).decision.allows(Permission.PEOPLE_MANAGE)
    path = request.route_path("person", person=person.id)
    return {
        "shown": shown,
        "kind": words.kind_words(shown.kind),
        "state": words.STATES[shown.state],
        "reason": words.why_words(shown.reason),
        "person": person,
        "person_path": path if may_manage else None,
        "checks": _checks(request, shown, person, may_decide=why_not is None),
        "notices": _notices(request, shown, person) if waits else [],
        "why_not": words.REFUSALS[why_not] if waits and why_not else None,
        "approve": forms["approve"] if why_not is None else None,
        "refuse": forms["refuse"] if why_not is None else None,
        "withdraw": forms["withdraw"] if waits and is_own else None,
    }


def _checks(
    request: Request, shown: Shown, person: PersonDetails, *, may_decide: bool
) -> list[tuple[Any, Any]]:
    """Return (label, value) of what is to be compared with what the person says.

    Only to whoever may decide: somebody who asks for one thing or another must not learn in
    this way how a patient is reached.
    """
    rows: list[tuple[Any, Any]] = []
    if shown.kind is ApprovalKind.GRANT_ROLE:
        rows.append((_("Role"), words.role_words(request, shown.value)))
    if not may_decide:
        return rows
    rows.append((_("Date of birth"), person.birth_date))
    if shown.kind is ApprovalKind.CHANGE_EMAIL:
        rows.append((_("New email address"), shown.value))
    elif shown.kind in approvals.WITH_CODE:
        rows.append((_("Email address to which the link goes"), person.email))
    return rows


def _notices(request: Request, shown: Shown, person: PersonDetails) -> list[Any]:
    """Return what comes of an approval, in words."""
    match shown.kind:
        case ApprovalKind.GRANT_ROLE:
            if powers.is_vouched_for(request.tenant, person.role_ids):
                return [_("The person keeps the account as it is, and is signed out everywhere.")]
            return [
                _(
                    "You get a code to hand over, after a look at the citizen card. What opened "
                    "the account until now opens it no longer."
                )
            ]
        case ApprovalKind.RESET_SECOND_FACTOR:
            return [
                _(
                    "App, passkeys, recovery codes and the password stop working. You get a code "
                    "to hand over, after a look at the citizen card: with it the person begins "
                    "anew."
                )
            ]
        case ApprovalKind.CHANGE_EMAIL:
            hours = int(request.tenant.email_delay.total_seconds() // 3600)
            return [
                _(
                    "The address changes after ${hours} hours, unless the person objects. They "
                    "are told at the old address now.",
                    mapping={"hours": hours},
                )
            ]
        case ApprovalKind.ISSUE_CODE:
            return [_("You get a code to hand over, after a look at the citizen card.")]
