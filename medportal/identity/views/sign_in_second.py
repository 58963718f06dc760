"""The second step of sign-in: after the password, a second factor."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from medportal.audit.events import Action, Outcome
from medportal.core.identity import Method
from medportal.identity import recovery, signing_in
from medportal.identity.errors import CodeRefused, Throttled
from medportal.identity.factors import second_factors
from medportal.identity.forms.second_factor import second_step_schema
from medportal.identity.views.answers import throttled
from medportal.identity.views.second_code import (
    UsedCode,
    method_of,
    remember_device,
    use_second_code,
    words_of,
)
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _
from medportal.web.limits import posted_text
from medportal.web.navigation import safe_path

TEMPLATE = "medportal.identity:templates/sign_in_second.pt"


@view_config(
    route_name="sign-in-second",
    renderer=TEMPLATE,
    permission=NO_PERMISSION_REQUIRED,
    request_method="GET",
)
def second_page(request: Request) -> Any:
    """Ask for the second factor of whoever gave a right password in this browser."""
    next_path = safe_path(request.GET.get("next"))
    if request.half_login is None:
        return _elsewhere(request, next_path)
    return _page(request, next_path)


@view_config(
    route_name="sign-in-second",
    renderer=TEMPLATE,
    permission=NO_PERMISSION_REQUIRED,
    request_method="POST",
)
def second_step(request: Request) -> Any:
    """Check a code and open the session."""
    next_path = safe_path(posted_text(request, "next"))
    half = request.half_login
    if half is None:
        return _too_late(request, next_path)
    page = _page(request, next_path)
    form: Form = page["form"]
    values = form.validate(request.POST.items())
    if values is None:
        return page
    try:
        used = use_second_code(request, half.person_id, values["code"])
    except Throttled as error:
        return page | throttled(request, form, error.seconds)
    except CodeRefused as error:
        _refuse(request, form, error, values["code"])
        return page
    _tell_codes_left(request, used)
    response = signing_in.complete(request, used.method, next_path)
    remember_device(request, response, half.person_id)
    return response


def _page(request: Request, next_path: str) -> dict[str, Any]:
    with request.database.reader() as session:
        factors = second_factors(session, request.half_login.person_id)
    has_app = Method.TOTP in factors
    return {
        "form": make_form(request, second_step_schema(next_path, has_app), submit=_("Continue")),
        "has_app": has_app,
        "has_passkey": Method.PASSKEY in factors,
        "next_path": next_path,
    }


def _refuse(request: Request, form: Form, error: CodeRefused, typed: str) -> None:
    request.audit(
        Action.SIGN_IN_FAILED,
        Outcome.DENIED,
        actor=request.half_login.person_id,
        reasons=[error.reason],
        details={"method": str(method_of(typed))},
    )
    form.fail("code", words_of(error))
    request.response.status_int = 401


def _tell_codes_left(request: Request, used: UsedCode) -> None:
    if used.left is None:
        return
    words = _(
        "You used a recovery code: ${left} left. Cross it out on your paper.",
        mapping={"left": used.left},
    )
    if used.left <= recovery.FEW:
        words = _(
            "You used a recovery code: ${left} left. Make new ones soon, under My account, "
            "Second proof.",
            mapping={"left": used.left},
        )
    flash(request, words, "warn" if used.left <= recovery.FEW else "info")


def _elsewhere(request: Request, next_path: str) -> Response:
    if request.identity is not None:
        return HTTPSeeOther(next_path)
    query = {"next": next_path} if next_path != "/" else {}
    return HTTPSeeOther(request.route_path("sign-in", _query=query))


def _too_late(request: Request, next_path: str) -> Response:
    if request.identity is None:
        flash(request, _("That took too long, for your safety. Sign in again."), "warn")
    return _elsewhere(request, next_path)
