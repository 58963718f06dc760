"""Activate: choose a first password, with the mailed link and the code from the desk.

Whoever has no mail address comes without a link and gives number and code. The page says
nothing about a person before the code was right: neither their name nor whether they have an
address.
"""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from medportal.audit.events import Action, Outcome
from medportal.core.reasons import Reason
from medportal.identity import codes, throttle
from medportal.identity.credentials import check_choice
from medportal.identity.errors import ActivationRefused, LinkNeeded, Throttled, WeakPassword
from medportal.identity.forms.activation import activation_schema, linked_activation_schema
from medportal.identity.numbers import normal_number
from medportal.identity.passwords import hash_password
from medportal.identity.reset import finish
from medportal.identity.views.answers import refuse_throttled, throttled, weak_words
from medportal.mail.kinds import MailKind
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _
from medportal.web.limits import posted_text

TEMPLATE = "medportal.identity:templates/activate.pt"
REFUSED = _(
    "The number and the code do not fit together, or the code has been used or is older than "
    "two weeks. Check both, or ask at the desk for a new code."
)
REFUSED_WITH_LINK = _(
    "The code is not right, or it has been used or is older than two weeks. Check it, or ask at "
    "the desk for a new code. If we have emailed you a newer link since, use that one."
)
LINK_NEEDED = _(
    "The code is right. You also need the link that we emailed to you: open it, and enter the "
    "code there."
)


@view_config(
    route_name="activate",
    renderer=TEMPLATE,
    permission=NO_PERMISSION_REQUIRED,
    request_method="GET",
)
def activation_page(request: Request) -> dict[str, Any]:
    """Show the form; with a link that is no longer good, show what to do instead."""
    token = request.GET.get("link", "")
    if token and not _is_good(request, token):
        request.response.status_int = 410
        return {"form": None, "with_link": True, "link_needed": False}
    return _page(request, token)


@view_config(
    route_name="activate",
    renderer=TEMPLATE,
    permission=NO_PERMISSION_REQUIRED,
    request_method="POST",
)
def activate(request: Request) -> Any:
    """Let somebody who was registered choose a first password."""
    token = posted_text(request, "link")
    page = _page(request, token)
    form: Form = page["form"]
    values = form.validate(request.POST.items())
    if values is None:
        return page
    number = normal_number(request.tenant.identifiers, values.get("number", "")) or ""
    try:
        keys = _keys(request, token, number)
    except ActivationRefused:
        # Nothing is written of links that are made up, used or old: anybody can send as many
        # of those as they like, and nobody guesses one.
        form.fail(None, REFUSED_WITH_LINK)
        return page
    try:
        shown, hashed = _check(request, token, number, values, keys)
        _use(request, shown, hashed)
    except Throttled as error:
        return page | throttled(request, form, error.seconds)
    except WeakPassword as error:
        form.fail("new", weak_words(request, error))
    except LinkNeeded as error:
        throttle.note_failure(request.db, keys, request.now)
        _audit_denial(request, Reason.LINK_NEEDED, error.person_id)
        form.fail(None, LINK_NEEDED)
        page["link_needed"] = True
    except ActivationRefused:
        throttle.note_failure(request.db, keys, request.now)
        _audit_denial(request, Reason.WRONG_CODE, None)
        form.fail(None, REFUSED_WITH_LINK if token else REFUSED)
    else:
        throttle.forget(request.db, keys)
        return _done(request, shown)
    return page


def _page(request: Request, token: str) -> dict[str, Any]:
    policy = request.tenant.passwords
    schema = linked_activation_schema(policy, token) if token else activation_schema(policy)
    # The address of the form is without the token, which would stand in logs and histories.
    action = request.route_path("activate")
    form = make_form(request, schema, submit=_("Activate my account"), action=action)
    return {"form": form, "with_link": bool(token), "link_needed": False}


def _is_good(request: Request, token: str) -> bool:
    try:
        _whose_link(request, token)
    except ActivationRefused:
        return False
    return True


def _whose_link(request: Request, token: str) -> str:
    with request.database.reader() as session:
        return codes.check_link(session, MailKind.ACTIVATION, token, request.now).person_id


def _keys(request: Request, token: str, number: str) -> throttle.Keys:
    """Return what a try is counted under. Raises ``ActivationRefused`` for no link of ours."""
    account = _whose_link(request, token) if token else number
    return throttle.keys("code", account, request.client_address)


def _check(
    request: Request, token: str, number: str, values: dict[str, Any], keys: throttle.Keys
) -> tuple[codes.Shown, str]:
    """Check on a snapshot and hash, both slow, before anything is written."""
    code, password, now = values["code"], values["new"], request.now
    with request.database.reader() as session:
        refuse_throttled(session, keys, now)
        if token:
            kind = MailKind.ACTIVATION
            shown = codes.check_link_and_code(session, kind, token, code, now)
        else:
            shown = codes.check_code(session, request.tenant, number, code, now)
        check_choice(session, request.tenant, shown.person_id, password)
    return shown, hash_password(request.tenant.passwords, password)


def _use(request: Request, shown: codes.Shown, hashed: str) -> None:
    if shown.is_new:
        codes.use(request.db, shown, hashed, request.now)
    else:
        finish(request.db, shown, hashed, request.now)


def _audit_denial(request: Request, reason: Reason, person_id: str | None) -> None:
    request.audit(Action.ACCOUNT_ACTIVATED, Outcome.DENIED, object=person_id, reasons=[reason])


def _done(request: Request, shown: codes.Shown) -> Response:
    if shown.is_new:
        request.audit(Action.ACCOUNT_ACTIVATED, actor=shown.person_id)
        flash(request, _("Your account is ready. Sign in with your new password."), "ok")
    else:
        request.audit(Action.PASSWORD_CHANGED, actor=shown.person_id, details={"by": "desk-code"})
        flash(request, _("Your password has been changed. Sign in with the new one."), "ok")
    return HTTPSeeOther(request.route_path("sign-in"))
