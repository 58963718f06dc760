"""Answers that several pages of identity give."""

from datetime import datetime
from typing import Any

from pyramid.request import Request
from sqlalchemy.orm import Session

from medportal.identity import throttle
from medportal.identity.errors import Throttled, WeakPassword
from medportal.web.i18n import _

WEAK = {
    "too-short": _("That password is too short: use at least ${minimum} characters."),
    "too-long": _("That password is too long: use at most 256 characters."),
    "too-simple": _(
        "That password is easily guessed: it is made of very common words, repeats, or keys that "
        "lie side by side. Use four or five words that have nothing to do with each other."
    ),
    "guessable": _(
        "That password is mostly made of your name, your numbers or the institution's name: "
        "choose words that others do not connect with you."
    ),
}


def weak_words(request: Request, error: WeakPassword) -> Any:
    """Return what is wrong with a new password, in words."""
    return WEAK[error.code] % {"minimum": error.minimum}


def wait_words(seconds: int) -> str:
    """Return how long to wait before the next try, in words."""
    words: str = _(
        "Too many tries. Please wait ${seconds} seconds and try again.",
        mapping={"seconds": seconds},
    )
    return words


def throttled(request: Request, form: Any, seconds: int) -> dict[str, Any]:
    """Show the form again and say how long to wait."""
    form.fail(None, wait_words(seconds))
    request.response.status_int = 429
    request.response.headers["Retry-After"] = str(seconds)
    return {"form": form}


def refuse_throttled(
    session: Session, keys: throttle.Keys, now: datetime, *, in_turn: bool = False
) -> None:
    """Raise ``Throttled`` while the next try has to wait.

    ``in_turn`` is for the transaction that writes, before it tells how a try ended: see
    :func:`throttle.take_turn`.
    """
    look = throttle.take_turn if in_turn else throttle.seconds_to_wait
    seconds = look(session, keys, now)
    if seconds:
        raise Throttled(seconds)
