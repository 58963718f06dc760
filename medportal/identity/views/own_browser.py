"""Browsers in which somebody has given their password before.

Failed sign-ins are counted for a person and a network. A colleague behind the same address
could therefore keep somebody waiting all day, were it not that a browser in which the person
has signed in is counted by itself (:mod:`medportal.identity.throttle`). It is known by a
cookie sealed for that person. It opens nothing; and since it is given for a password alone, it
is no browser that is known for a second factor. With another password it is a stranger's.
"""

from pyramid.request import Request
from pyramid.response import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.identity import known_device
from medportal.identity.models import Account


def own_browser(session: Session, request: Request, person_id: str) -> str | None:
    """Return the id of this browser, if the person has given their password in it before."""
    cookie = request.cookies.get(cookie_name(request))
    if not cookie:
        return None
    since = _since(session, person_id)
    vault, owner = request.keys.vault, _owner(person_id)
    return known_device.read_cookie(vault, owner, since, cookie, request.now)


def remember_browser(request: Request, response: Response, person_id: str) -> None:
    """Let this browser be known as one in which the person gave their password."""
    known = own_browser(request.db, request, person_id)
    since = _since(request.db, person_id)
    vault, owner = request.keys.vault, _owner(person_id)
    cookie = known_device.new_cookie(vault, owner, since, request.now, known)
    set_known_cookie(response, cookie_name(request), cookie)


def set_known_cookie(response: Response, name: str, value: str) -> None:
    """Set a cookie by which a browser is known: as the session's, and as long as it is good."""
    response.set_cookie(
        name,
        value,
        max_age=known_device.LIFETIME,
        path="/",
        secure=True,
        httponly=True,
        samesite="Lax",
    )


def cookie_name(request: Request) -> str:
    """Return the name of the cookie by which a browser is known."""
    return f"__Host-{request.tenant.id}-browser"


def _since(session: Session, person_id: str) -> str:
    changed_at = session.scalar(
        select(Account.password_changed_at).where(Account.person_id == person_id)
    )
    return known_device.of_when(changed_at)


def _owner(person_id: str) -> str:
    return f"{person_id} password"
