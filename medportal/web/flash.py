"""One-time messages across a redirect, without a session.

A ``__Host-`` cookie carries ids of sentences, never text: only sentences of our own
catalogue are shown, so a cookie that somebody made up can say nothing new, and nothing about
a person is kept in a browser. Numbers may be part of a sentence; names may not.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from pyramid.request import Request
from pyramid.response import Response
from translationstring import TranslationString

from medportal.web.i18n import DOMAIN, known_messages, translate

COOKIE = "__Host-flash"
SECONDS = 300
MOST = 5
LONGEST_COOKIE = 3000
KINDS = frozenset({"ok", "info", "warn"})


@dataclass(frozen=True, slots=True)
class Flash:
    """A message to show once: its kind (ok, info, warn) and the translated text."""

    kind: str
    text: str


def flash(request: Request, message: TranslationString, kind: str = "ok") -> None:
    """Show ``message`` on the next page. It is made with ``_`` and its mapping holds integers.

    Raises ``ValueError`` for a message that is not from our catalogue's domain, an unknown kind
    or a value that is not an integer: those are mistakes in the code that calls.
    """
    mapping = dict(message.mapping or {}) if isinstance(message, TranslationString) else None
    if mapping is None or message.domain != DOMAIN:
        raise ValueError("a flash message is made with _()")
    if kind not in KINDS or not all(type(value) is int for value in mapping.values()):
        raise ValueError("a flash message has a known kind and holds only integers")
    queue = request.__dict__.setdefault("flash_queue", [])
    if not queue:
        request.add_response_callback(_send)
    queue.append([kind, str(message), mapping])


def take(request: Request) -> list[Flash]:
    """Return the messages that this page has to show, and forget them."""
    raw = request.cookies.get(COOKIE)
    if raw is None:
        return []
    request.add_response_callback(_forget)
    return [
        Flash(kind, translate(request, TranslationString(text, domain=DOMAIN, mapping=mapping)))
        for kind, text, mapping in _parse(raw)
    ]


def _parse(raw: str) -> list[tuple[str, str, dict[str, int]]]:
    if len(raw) > LONGEST_COOKIE:
        return []
    try:
        entries = json.loads(base64.urlsafe_b64decode(raw.encode("ascii")))
    except (ValueError, RecursionError, binascii.Error):
        # Not ours, or cut short: there is nothing to show and nobody to tell.
        return []
    return [tuple(e) for e in entries[:MOST] if _is_ours(e)] if isinstance(entries, list) else []


def _is_ours(entry: Any) -> bool:
    match entry:
        case [str(kind), str(text), dict(mapping)]:
            numbers = all(type(value) is int for value in mapping.values())
            return kind in KINDS and numbers and text in known_messages()
        case _:
            return False


def _send(request: Request, response: Response) -> None:
    data = json.dumps(request.flash_queue[-MOST:], separators=(",", ":")).encode()
    response.set_cookie(
        COOKIE,
        base64.urlsafe_b64encode(data).decode(),
        max_age=SECONDS,
        path="/",
        secure=True,
        httponly=True,
        samesite="Lax",
    )


def _forget(request: Request, response: Response) -> None:
    if "flash_queue" not in request.__dict__:
        # Without Secure a browser would ignore this: the name's prefix demands it.
        response.set_cookie(COOKIE, None, path="/", secure=True, httponly=True, samesite="Lax")
