"""Sensitive actions ask for proof that it is still the same person at the keyboard.

A view that changes credentials, roles or other people's accounts calls :func:`require_fresh`
first. Whoever has not proved who they are of late is sent to the page that asks, and back.
The form may be open a while longer than the page that shows it, so that nobody loses what
they typed.
"""

from datetime import timedelta

from pyramid.request import Request

from medportal.identity.errors import NotFresh
from medportal.tenancy.requests import SAFE_METHODS

TO_OPEN = timedelta(minutes=10)
TO_SEND = timedelta(minutes=30)


def require_fresh(request: Request, back: str | None = None) -> None:
    """Raise ``NotFresh`` unless the person proved who they are a short while ago.

    ``back`` is the page to go to afterwards, if it is not this request's own.
    """
    limit = TO_OPEN if request.method in SAFE_METHODS else TO_SEND
    confirmed_at = request.identity.confirmed_at
    if confirmed_at is None or confirmed_at <= request.now - limit:
        raise NotFresh(back)
