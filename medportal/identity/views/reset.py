"""A forgotten password: ask for a link, choose another with it."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from medportal.audit.events import Action, Outcome
from medportal.core.identity import Method
from medportal.core.reasons import Reason
from medportal.identity import codes, reset, throttle
from medportal.identity.credentials import check_choice
from medportal.identity.errors import (
    ActivationRefused,
    CodeRefused,
    Throttled,
    WeakPassword,
)
from medportal.identity.factors import second_factors
from medportal.identity.forms.reset import finish_schema, reset_schema
from medportal.identity.numbers import normal_number
from medportal.identity.passwords import hash_password
from medportal.identity.views.answers import refuse_throttled, throttled, weak_words
from medportal.identity.views.second_code import KNOWN_ONLY, refuse_early, use_second_code
from medportal.mail.kinds import MailKind
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _
from medportal.web.limits import posted_text

ASK = "medportal.identity:templates/reset.pt"
FINISH = "medportal.identity:templates/reset_finish.pt"
#: One answer for a wrong, a used and an old code: a thief learns nothing from it.
REFUSED = _(
    "That code is not right, has been used already, or is too old. Check it and try again. "
    "After several wrong codes the link stops working."
)


@view_config(
    route_name="reset",
    renderer=ASK,
    permission=NO_PERMISSION_REQUIRED,
    request_method="GET",
)
def reset_page(request: Request) -> dict[str, Any]:
    """Ask for the number of whoever wants a link."""
    return _asking(request)


@view_config(
    route_name="reset",
    renderer=ASK,
    permission=NO_PERMISSION_REQUIRED,
    request_method="POST",
)
def ask(request: Request) -> dict[str, Any]:
    """Mail a link, if there is somebody it can go to; say the same in any case."""
    page = _asking(request)
    form: Form = page["form"]
    values = form.validate(request.POST.items())
    if values is None:
        return page
    number = normal_number(request.tenant.identifiers, values["number"]) or ""
    keys = throttle.keys("reset", number or values["number"], request.client_address)
    try:
        with request.database.reader() as session:
            refuse_throttled(session, keys, request.now)
    except Throttled as error:
        return page | throttled(request, form, error.seconds)
    # Every time counts: there is no success here that a stranger could tell from a failure.
    throttle.note_failure(request.db, keys, request.now)
    asked = reset.request_link(request.db, request.tenant, number, request.now)
    request.audit(
        Action.LINK_REQUESTED, object=asked.person_id, details={"mail": int(asked.mail_sent)}
    )
    return page | {"asked": True}


@view_config(
    route_name="reset-finish",
    renderer=FINISH,
    permission=NO_PERMISSION_REQUIRED,
    request_method="GET",
)
def finish_page(request: Request) -> dict[str, Any]:
    """Show the form to whoever has a link, or what to do with one that is no longer good."""
    token = request.GET.get("link", "")
    try:
        with request.database.reader() as session:
            shown = codes.check_link(session, MailKind.RESET, token, request.now)
            factors = second_factors(session, shown.person_id)
    except ActivationRefused:
        return _no_longer_good(request)
    return _page(request, token, factors)


@view_config(
    route_name="reset-finish",
    renderer=FINISH,
    permission=NO_PERMISSION_REQUIRED,
    request_method="POST",
)
def finish(request: Request) -> Any:
    """Check the second half and store the password."""
    token, now = posted_text(request, "link"), request.now
    try:
        with request.database.reader() as session:
            shown = codes.check_link(session, MailKind.RESET, token, now)
            factors = second_factors(session, shown.person_id)
    except ActivationRefused:
        # Nothing is written of links that are made up, used or old: anybody can send as many
        # of those as they like, and nobody guesses one.
        return _no_longer_good(request)
    page = _page(request, token, factors)
    form: Form = page["form"]
    values = form.validate(request.POST.items())
    if values is None:
        return page
    keys = throttle.keys("link", shown.person_id, request.client_address)
    try:
        second = _finish(request, shown, token, bool(factors), values, keys)
    except Throttled as error:
        return page | throttled(request, form, error.seconds)
    except WeakPassword as error:
        form.fail("new", weak_words(request, error))
        return page
    except CodeRefused as error:
        throttle.note_failure(request.db, keys, now)
        reset.count_wrong_answer(request.db, shown)
        _audit_denial(request, error.reason, shown.person_id)
        form.fail("code", KNOWN_ONLY if error.reason is Reason.TOO_MANY else REFUSED)
        return page
    except ActivationRefused:
        _audit_denial(request, Reason.EXPIRED, shown.person_id)
        return _no_longer_good(request)
    throttle.forget(request.db, keys)
    return _done(request, shown.person_id, second)


def _asking(request: Request) -> dict[str, Any]:
    form = make_form(request, reset_schema(), submit=_("Send me a link"))
    return {"form": form, "asked": False, "has_mail": request.tenant.mail is not None}


def _page(request: Request, token: str, factors: frozenset[Method]) -> dict[str, Any]:
    schema = finish_schema(
        request.tenant.passwords,
        token,
        has_factor=bool(factors),
        has_app=Method.TOTP in factors,
    )
    # The address of the form is without the token, which would stand in logs and histories.
    action = request.route_path("reset-finish")
    form = make_form(request, schema, submit=_("Change my password"), action=action)
    return {"form": form, "has_factor": bool(factors)}


def _no_longer_good(request: Request) -> dict[str, Any]:
    request.response.status_int = 410
    return {"form": None, "has_factor": False}


def _finish(
    request: Request,
    shown: codes.Shown,
    token: str,
    has_factor: bool,
    values: dict[str, Any],
    keys: throttle.Keys,
) -> str:
    """Do what is slow first, then check the second half, use everything up; return which it was.

    Of a second factor's code it is known only in the transaction that writes whether it was
    used before. Whoever has to wait costs no hash.
    """
    password = values["new"]
    with request.database.reader() as session:
        refuse_throttled(session, keys, request.now)
        if has_factor:
            refuse_early(session, request, shown.person_id, values["code"])
        check_choice(session, request.tenant, shown.person_id, password)
        if not has_factor:
            shown = _with_desk_code(request, session, token, values["code"])
    hashed = hash_password(request.tenant.passwords, password)
    second = "desk-code"
    if has_factor:
        second = str(use_second_code(request, shown.person_id, values["code"]).method)
    reset.finish(request.db, shown, hashed, request.now)
    return second


def _with_desk_code(request: Request, session: Any, token: str, code: str) -> codes.Shown:
    """Return the link and the code that somebody without a second factor has shown."""
    try:
        return codes.check_link_and_code(session, MailKind.RESET, token, code, request.now)
    except ActivationRefused:
        raise CodeRefused(Reason.WRONG_CODE) from None


def _audit_denial(request: Request, reason: Reason, person_id: str | None) -> None:
    request.audit(Action.PASSWORD_CHANGED, Outcome.DENIED, object=person_id, reasons=[reason])


def _done(request: Request, person_id: str, second: str) -> Response:
    request.audit(Action.PASSWORD_CHANGED, actor=person_id, details={"by": "link", "and": second})
    flash(request, _("Your password has been changed. Sign in with the new one."), "ok")
    return HTTPSeeOther(request.route_path("sign-in"))
