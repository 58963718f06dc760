"""Forged requests: three checks on every unsafe method, before any session or database.

1. ``Sec-Fetch-Site``, which a browser sets and a page cannot, says that one of our own
   pages sent this (or the person, through the browser itself).
2. Where a browser sends none, ``Origin`` must be ours. Our pages send no referrer, and a
   browser then writes ``Origin: null`` on their forms: only the token decides about those.
3. The token in the form or in ``X-CSRF-Token`` equals the one in a ``__Host-`` cookie. The
   prefix means that no other host and no plain-text page can have set that cookie.

The cookie exists before anybody signs in, so that the sign-in form is covered too, and is
replaced at sign-in (``pyramid.csrf.new_csrf_token``): a page from before cannot be used after.
Pyramid checks the token again at the view (``require_csrf``), in case a tween is left out.
"""

import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any

from pyramid.csrf import check_csrf_token
from pyramid.interfaces import ICSRFStoragePolicy
from pyramid.request import Request
from pyramid.response import Response
from zope.interface import implementer

from medportal.web.errors import forgery_page

COOKIE = "__Host-csrf"
FIELD = "csrf_token"
HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD"})
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def includeme(config: Any) -> None:
    """Register the storage and require the token by default."""
    config.set_csrf_storage_policy(HostCookieToken())
    # The origin is checked by the tween, which knows Sec-Fetch-Site; Pyramid's own check
    # would refuse the "Origin: null" of our own forms.
    config.set_default_csrf_options(
        require_csrf=True, token=FIELD, header=HEADER, check_origin=False
    )


@implementer(ICSRFStoragePolicy)
class HostCookieToken:
    """Keeps the token in a ``__Host-`` cookie that lasts as long as the browser runs."""

    def new_csrf_token(self, request: Request) -> str:
        """Make a new token, send it with the response and return it."""
        token = secrets.token_urlsafe(32)
        if "csrf_token_made" not in request.__dict__:
            request.add_response_callback(_send)
        request.csrf_token_made = token
        return token

    def get_csrf_token(self, request: Request) -> str:
        """Return the token in force, making one if the browser has none that is well formed."""
        made: str | None = request.__dict__.get("csrf_token_made")
        return made or _sent(request) or self.new_csrf_token(request)

    def check_csrf_token(self, request: Request, supplied_token: str) -> bool:
        """Tell whether the request carries the token of the browser's own cookie."""
        expected = _sent(request)
        if expected is None or not isinstance(supplied_token, str):
            return False
        return hmac.compare_digest(expected.encode(), supplied_token.encode("utf-8", "replace"))


def forgery_tween_factory(
    handler: Callable[[Request], Response], registry: object
) -> Callable[[Request], Response]:
    """Make the tween that refuses forged requests; the page is made by the errors module."""

    def forgery_tween(request: Request) -> Response:
        if request.method not in SAFE_METHODS and not is_genuine(request):
            return forgery_page(request)
        return handler(request)

    return forgery_tween


def is_genuine(request: Request) -> bool:
    """Tell whether an unsafe request came from one of our own pages (checks 1 to 3)."""
    return _is_own_origin(request) and bool(check_csrf_token(request, raises=False))


def _is_own_origin(request: Request) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin in {None, "null", request.host_url}


def _sent(request: Request) -> str | None:
    token = request.cookies.get(COOKIE)
    return token if token and _TOKEN.fullmatch(token) else None


def _send(request: Request, response: Response) -> None:
    response.set_cookie(
        COOKIE, request.csrf_token_made, path="/", secure=True, httponly=True, samesite="Lax"
    )
