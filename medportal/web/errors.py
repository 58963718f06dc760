"""Error pages, and what happens to errors that nobody expected.

Every refusal says what to do next, in the person's language, and nothing about the inside.
Two kinds of page: inside a request that was understood, the full layout; where the session
or the database may be what failed or must not be touched yet, a plain one that asks nobody
who is there.

Hidden and missing are one path, :func:`missing`: same page for both, and for people who are
not signed in the same way to the sign-in.
"""

import re
import secrets
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from pyramid.exceptions import BadCSRFOrigin, BadCSRFToken, URLDecodeError
from pyramid.httpexceptions import (
    HTTPError,
    HTTPException,
    HTTPForbidden,
    HTTPNotFound,
    HTTPSeeOther,
)
from pyramid.renderers import render
from pyramid.request import Request
from pyramid.response import Response
from pyramid_retry import IRetryableError, RetryableException, is_error_retryable

from medportal.web.i18n import _, settle_impersonally
from medportal.web.limits import forget_unreadable_cookies
from medportal.web.navigation import safe_path

log = structlog.get_logger()
TEMPLATE = "medportal.web:templates/error.pt"
#: Headers of an HTTP exception that mean something to a browser and are kept.
KEPT_HEADERS = ("Allow", "Retry-After")
#: Names of fields that hold what must not stand on a page; the form's own token does anyway.
_SECRET = re.compile(r"pass(word|key|phrase)|secret|credential|^(code|pin|current|new|again)$")


@dataclass(frozen=True, slots=True)
class Words:
    """What an error page says: title, what happened, what to do."""

    title: str
    happened: str
    advice: str


BAD_REQUEST = Words(
    _("This request could not be understood"),
    _("What your browser sent was not complete or not in the form that we expect."),
    _("Go back, reload the page and try again. Nothing was changed."),
)
FORGERY = Words(
    _("Your page was open too long"),
    _("For your safety, a page can be used only for a while and only in the session it was for."),
    _("Go back, reload the page and enter it again. Nothing was saved."),
)
UNEXPECTED = Words(
    _("Something went wrong here"),
    _("This is our mistake, not yours. What you were doing may not have been saved."),
    _("Try again in a few minutes."),
)
WORDS = {
    400: BAD_REQUEST,
    403: FORGERY,
    404: Words(
        _("Page not found"),
        _("There is nothing here that you can see with this sign-in."),
        _("Check the address, or go to the start page."),
    ),
    405: Words(
        _("This page cannot be used that way"),
        _("Your browser asked for something that this page does not do."),
        _("Go to the start page and try from there."),
    ),
    408: Words(
        _("This took too long"),
        _("What your browser sent did not arrive in time. Nothing was saved."),
        _("Check your connection, go back and try again."),
    ),
    410: Words(
        _("These records are erased"),
        _("What was kept about this patient was erased. Nothing can be read or added any more."),
        _("Other institutions may still hold copies of what they got. Ask there."),
    ),
    413: Words(
        _("That was too much at once"),
        _("What you sent is larger than this page accepts. Nothing was saved."),
        _("Go back, shorten what you entered and try again."),
    ),
    421: Words(
        _("This address is not served here"),
        _("No institution uses this address on this server."),
        _("Check the address that your institution gave you."),
    ),
    429: Words(
        _("Too many attempts"),
        _("There were too many attempts in a short time."),
        _("Wait a few minutes, then try again."),
    ),
    500: UNEXPECTED,
    503: Words(
        _("We cannot answer right now"),
        _("The service is busy or being looked after. Nothing was changed."),
        _("Try again in a minute."),
    ),
}


def includeme(config: Any) -> None:
    """Register the error views."""
    for context in (BadCSRFToken, BadCSRFOrigin):
        config.add_exception_view(forged, context=context)
    config.add_exception_view(refused, context=HTTPError)
    config.add_exception_view(undecodable, context=URLDecodeError)
    config.add_forbidden_view(missing)
    config.add_notfound_view(missing)


def missing(problem: HTTPForbidden | HTTPNotFound, request: Request) -> Response:
    """Answer for what is missing and for what is hidden, alike.

    ``request.refused`` keeps the exception, for whoever writes the audit log. Rooms above may
    give requests ``ways_on``, made of who asks and of nothing else.
    """
    request.refused = problem
    if request.identity is None:
        return _to_sign_in(request)
    return error_page(request, 404, ways_on=getattr(request, "ways_on", ()))


def refused(problem: HTTPException, request: Request) -> Response:
    """Show the page of an HTTP error that a view raised."""
    return _with_headers(error_page(request, problem.status_int), problem)


def forged(problem: Exception, request: Request) -> Response:
    """Show the page for a form whose token does not fit."""
    return error_page(request, 403)


def undecodable(problem: Exception, request: Request) -> Response:
    """Show the page for an address that is not text."""
    return error_page(request, 400)


def forgery_page(request: Request) -> Response:
    """Return the page for a forged or outdated form, without asking who sent it."""
    return error_page(request, 403, plain=True)


def misdirected_page(request: Request) -> Response:
    """Return the page for a host that no tenant has (421)."""
    return error_page(request, 421, plain=True)


def unavailable_page(request: Request) -> Response:
    """Return the page for a service that cannot answer now (503), without asking who is there.

    What somebody typed into a form stands on it, to be sent again as it was: browsers forget
    the forms of pages that may not be kept.
    """
    response = error_page(request, 503, plain=True, again=_sent(request))
    response.headers["Retry-After"] = "30"
    return response


def _sent(request: Request) -> Sequence[tuple[str, str]]:
    """Return the fields of a form that can be sent again, if they may stand on a page.

    Neither files nor secrets may, and what was no form of this portal's has no token.
    """
    if request.method != "POST":
        return ()
    try:
        fields = list(request.POST.items())
    except (ValueError, LookupError, OSError):
        return ()
    is_plain = all(isinstance(value, str) for _name, value in fields)
    named = {name for name, _value in fields}
    if not is_plain or "csrf_token" not in named or any(_SECRET.search(name) for name in named):
        return ()
    return fields


def error_page(
    request: Request,
    status: int,
    *,
    plain: bool = False,
    reference: str | None = None,
    ways_on: Sequence[tuple[Any, str, Any]] = (),
    again: Sequence[tuple[str, str]] = (),
) -> Response:
    """Return the error page of ``status``; a status without words of its own gets general ones.

    ``ways_on`` are (what to say, address, words of the link) of where else to go, ``again`` the
    fields of a form that can be sent once more.
    """
    words = WORDS.get(status) or (BAD_REQUEST if status < 500 else UNEXPECTED)
    if plain:
        settle_impersonally(request)
    request.is_asset = False
    request.failed_form = None
    request.is_plain = plain
    shown = {"words": words, "reference": reference, "ways_on": ways_on, "again": again}
    body = render(TEMPLATE, shown, request)
    return Response(body, status=f"{status} {HTTPStatus(status).phrase}", content_type="text/html")


def crash_tween_factory(
    handler: Callable[[Request], Response], registry: object
) -> Callable[[Request], Response]:
    """Make the tween above all others but the headers: nothing escapes it.

    The page carries a random reference which is also in the log. The log names the kinds of
    the exceptions and the places in the code, never a message: messages quote what people typed.
    """

    def crash_tween(request: Request) -> Response:
        forget_unreadable_cookies(request)
        try:
            return _answered(handler, request)
        except Exception as error:
            if is_error_retryable(request, error):
                # pyramid_retry, above all tweens, tries again.
                raise
            return _crashed(request, error)

    return crash_tween


def kinds(error: BaseException) -> list[str]:
    """Return the kinds of an exception and of those that led to it, the outermost first."""
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 10:
        chain.append(f"{type(current).__module__}.{type(current).__qualname__}")
        current = current.__cause__ or current.__context__
    return chain


def places(error: BaseException) -> list[str]:
    """Return where an exception passed, the innermost last, without values or messages."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.name} ({_short(frame.filename)}:{frame.lineno})" for frame in frames[-12:]]


def _answered(handler: Callable[[Request], Response], request: Request) -> Response:
    """Return the answer, also where a tween below raised it; what goes wrong here escapes."""
    try:
        return handler(request)
    except HTTPError as problem:
        return _with_headers(error_page(request, problem.status_int, plain=True), problem)
    except HTTPException as answer:
        return answer


def _crashed(request: Request, error: Exception) -> Response:
    reference = "-".join(secrets.token_hex(2) for _group in range(3))
    log.error(
        "unexpected-error",
        reference=reference,
        method=request.method,
        route=getattr(getattr(request, "matched_route", None), "name", None),
        kinds=kinds(error),
        places=places(error),
    )
    try:
        if IRetryableError.providedBy(error) or isinstance(error, RetryableException):
            # The last attempt met a busy database as the others did.
            return unavailable_page(request)
        return error_page(request, 500, plain=True, reference=reference)
    except Exception as second:
        log.error(
            "error-page-failed", reference=reference, kinds=kinds(second), places=places(second)
        )
        return _bare_page(reference)


def _bare_page(reference: str) -> Response:
    """Return what is left to say when even the error page cannot be made."""
    return Response(
        f"Something went wrong here. / Algo correu mal.\n{reference}\n",
        status="500 Internal Server Error",
        content_type="text/plain",
    )


def _to_sign_in(request: Request) -> Response:
    wanted = safe_path(request.path_qs) if request.method in {"GET", "HEAD"} else "/"
    query = {"next": wanted} if wanted != "/" else {}
    return HTTPSeeOther(request.route_path("sign-in", _query=query))


def _with_headers(response: Response, problem: HTTPException) -> Response:
    for name in KEPT_HEADERS:
        if name in problem.headers:
            response.headers[name] = problem.headers[name]
    return response


def _short(path: str) -> str:
    return "/".join(path.replace("\\", "/").split("/")[-2:])
