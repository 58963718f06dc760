"""Ask again who it is, before something that changes who can get in."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.interfaces import IRoutesMapper
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import forget
from pyramid.view import exception_view_config, view_config

from medportal.audit.append import append
from medportal.audit.events import Action, Outcome
from medportal.audit.requests import event_of
from medportal.core.identity import Method
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import signing_in
from medportal.identity.errors import (
    CodeRefused,
    NotFresh,
    SessionOver,
    Throttled,
    WrongPassword,
)
from medportal.identity.factors import require_live, second_factors
from medportal.identity.forms.confirm import confirm_schema
from medportal.identity.passwords import method_of
from medportal.identity.sessions import end_session
from medportal.identity.views.answers import throttled
from medportal.identity.views.own_password import check_own_password
from medportal.identity.views.second_code import use_second_code, words_of
from medportal.tenancy.requests import SAFE_METHODS, writing_session
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _
from medportal.web.limits import sent_text
from medportal.web.navigation import safe_path

ACCOUNT = "/account"


@exception_view_config(context=NotFresh)
def ask_again(error: NotFresh, request: Request) -> Response:
    """Go to the page that asks, and from there back to the page that somebody wanted."""
    if request.method not in SAFE_METHODS:
        flash(
            request,
            _(
                "You had the page open for more than half an hour, so nothing was changed. Show "
                "that it is you, then do it again."
            ),
            "warn",
        )
    wanted = safe_path(error.back or nearest_page(request), ACCOUNT)
    return HTTPSeeOther(request.route_path("account-confirm", _query={"next": wanted}))


@exception_view_config(context=SessionOver)
def sign_in_again(_error: SessionOver, request: Request) -> Response:
    """Take back what was under way, end the session if it is still there, and ask to sign in."""
    request.tm.abort()
    request.tm.begin()
    login, session = request.login, writing_session(request)
    if end_session(session, login.id):
        reasons = [Reason.SECOND_FACTOR_NEEDED]
        ended = event_of(
            request, Action.SESSION_ENDED, Outcome.ALLOWED, object=login.id, reasons=reasons
        )
        append(session, ended)
    # What a request leaves behind that ended in an exception is taken back.
    request.tm.commit()
    request.tm.begin()
    words = _("You were signed out meanwhile, so nothing was changed. Sign in again.")
    flash(request, words, "warn")
    return HTTPSeeOther(request.route_path("sign-in"), headers=forget(request))


@view_config(
    route_name="account-confirm",
    renderer="medportal.identity:templates/confirm.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def confirm(request: Request) -> Any:
    """Ask for all proofs again, and go on to the page that was wanted."""
    page = _page(request, safe_path(sent_text(request, "next"), ACCOUNT))
    form: Form = page["form"]
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is None:
        return page
    try:
        methods = _check(request, values)
    except Throttled as error:
        return page | throttled(request, form, error.seconds)
    except WrongPassword:
        _denied(request, Reason.WRONG_CREDENTIALS)
        form.fail("password", _("That is not your password. Check it and try again."))
        return page
    except CodeRefused as error:
        _denied(request, error.reason)
        form.fail("code", words_of(error))
        return page
    return signing_in.confirm(request, methods, page["next_path"])


def _check(request: Request, values: dict[str, str]) -> frozenset[Method]:
    """Return what was shown. Raises ``Throttled``, ``WrongPassword`` or ``CodeRefused``.

    The password comes first: whoever does not know it gets no try of the second factor.
    """
    check_own_password(request, values["password"])
    shown = method_of(request.tenant.passwords, values["password"])
    if "code" not in values:
        return frozenset({shown})
    # Before the code is spent, and in the order in which others lock: the account comes first.
    require_live(request.db, request.login)
    used = use_second_code(request, request.identity.person_id, values["code"])
    return frozenset({shown, used.method})


def _denied(request: Request, reason: Reason) -> None:
    request.audit(Action.IDENTITY_CONFIRMED, Outcome.DENIED, reasons=[reason])


def nearest_page(request: Request) -> str:
    """Return the address of this request's page, or of the nearest one above it.

    What was sent to an address that only takes forms cannot be opened there.
    """
    if request.method in SAFE_METHODS:
        return str(request.path_qs)
    pages = _routes_with_pages(request)
    path = str(request.path)
    while path and _route_of(request, path) not in pages:
        path = path.rpartition("/")[0]
    return path or "/"


def _page(request: Request, next_path: str) -> dict[str, Any]:
    with request.database.reader() as session:
        factors = second_factors(session, request.identity.person_id)
    return {
        "form": make_form(request, confirm_schema(next_path, factors), submit=_("Continue")),
        "has_passkey": Method.PASSKEY in factors,
        "next_path": next_path,
    }


def _route_of(request: Request, path: str) -> str | None:
    mapper = request.registry.getUtility(IRoutesMapper)
    route = mapper(Request.blank(path))["route"]
    return None if route is None else str(route.name)


def _routes_with_pages(request: Request) -> set[str]:
    """Return the routes that have a view for GET."""
    views = request.registry.introspector.get_category("views", ())
    found = (item["introspectable"] for item in views)
    return {
        view["route_name"]
        for view in found
        if view["route_name"] and "GET" in (view["request_methods"] or ("GET",))
    }
