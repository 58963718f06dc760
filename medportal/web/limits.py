"""How large and how odd a request may be.

Checked before a session or a database is read. A form of this portal is a few kilobytes;
whoever sends more is told so and the rest is not read.

The body is read once, here, into memory. ``pyramid_retry`` would otherwise copy it, however
long, before any tween runs; so its ``activate_hook`` is :func:`retry_attempts`, and the tween
looks at what that found.
"""

import re
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPError,
    HTTPMethodNotAllowed,
    HTTPRequestEntityTooLarge,
)
from pyramid.request import Request
from pyramid.response import Response

METHODS = ("GET", "HEAD", "POST")
DEFAULT_BODY_BYTES = 256 * 1024
MAX_FIELDS = 500
#: Forms with a file are short, and each part of one may become a file of its own on its way.
MAX_PARTS = 20
CHUNK = 64 * 1024
TAKEN = "medportal.body_problem"
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)


def includeme(config: Any) -> None:
    """Read bodies before pyramid_retry does."""
    config.registry.settings.setdefault(
        "retry.activate_hook", "medportal.web.limits.retry_attempts"
    )


def retry_attempts(request: Request) -> int | None:
    """Take the body; return how often pyramid_retry may try (``None``: as often as usual)."""
    return None if take_body(request) is None else 1


def limits_tween_factory(
    handler: Callable[[Request], Response], registry: object
) -> Callable[[Request], Response]:
    """Make the tween that refuses what no page of ours sends: 400, 405 or 413.

    It raises the HTTP exception, and the tween above makes the page.
    """

    def limits_tween(request: Request) -> Response:
        check_method(request)
        problem = take_body(request)
        if problem is not None:
            raise problem
        check_text(request)
        return handler(request)

    return limits_tween


def check_method(request: Request) -> None:
    """Raise ``HTTPMethodNotAllowed`` for a method that no page of ours uses."""
    if request.method not in METHODS:
        raise HTTPMethodNotAllowed(headers={"Allow": ", ".join(METHODS)})


def take_body(request: Request) -> HTTPError | None:
    """Read the body into memory, once, and return what was wrong with it, if anything.

    Whoever read it before (:mod:`medportal.web.gateway`) may have found something already.
    """
    environ = request.environ
    if TAKEN not in environ:
        try:
            body, environ[TAKEN] = read_body(environ, body_limit(request.registry)), None
        except HTTPError as problem:
            body, environ[TAKEN] = b"", problem
        environ["wsgi.input"] = BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["webob.is_body_seekable"] = True
    found: HTTPError | None = environ[TAKEN]
    return found


def body_limit(registry: Any) -> int:
    """Return the bytes of the largest body accepted: ``medportal.max_body_bytes``."""
    return int(registry.settings.get("medportal.max_body_bytes", DEFAULT_BODY_BYTES))


def forget_unreadable_cookies(request: Request) -> None:
    """Take cookies that are no text as not sent: even an error page asks for some of them.

    Somebody whose browser keeps a broken one is signed out, and not shut out.
    """
    try:
        request.cookies.items()
    except ValueError:
        request.environ["HTTP_COOKIE"] = ""


def read_body(environ: dict[str, Any], limit: int) -> bytes:
    """Return a request's body of at most ``limit`` bytes.

    Raises ``HTTPRequestEntityTooLarge`` for a longer one, unread if it says so beforehand, and
    ``HTTPBadRequest`` for a malformed length or a body that ends before it.
    """
    length = declared_length(environ)
    if length is None and not environ.get("wsgi.input_terminated"):
        return b""
    if length is not None and length > limit:
        raise HTTPRequestEntityTooLarge()
    wanted = limit + 1 if length is None else length
    body = _read(environ["wsgi.input"], wanted)
    if length is not None and len(body) < length:
        raise HTTPBadRequest()
    if len(body) > limit:
        raise HTTPRequestEntityTooLarge()
    return body


def check_text(request: Request) -> None:
    """Raise ``HTTPBadRequest`` unless path, query, cookies and form can be read as text.

    Neither a path nor a field may hold a NUL, which PostgreSQL cannot store.
    """
    try:
        fields = [request.path_info, *_flat(request.GET), *_flat(request.cookies)]
        if request.method == "POST":
            content_type = request.headers.get("Content-Type", "")
            _check_charset(content_type)
            _check_count(content_type, request.body)
            fields.extend(_flat(request.POST))
    except (ValueError, TypeError, LookupError, OSError) as error:
        # UnicodeError is a ValueError; LookupError is an unknown character set.
        raise HTTPBadRequest() from error
    if any("\x00" in text for text in fields):
        raise HTTPBadRequest()


def posted_text(request: Request, name: str, default: str = "") -> str:
    """Return a field of the form that was sent, or ``default`` where there is none.

    Raises ``HTTPBadRequest`` for a file in its place, which no page of ours sends.
    """
    value = request.POST.get(name, default)
    if not isinstance(value, str):
        raise HTTPBadRequest()
    return value


def sent_text(request: Request, name: str, default: str = "") -> str:
    """Return a field of the form that was sent, or of the address where none was.

    Raises ``HTTPBadRequest`` as :func:`posted_text` does.
    """
    if request.method == "POST":
        return posted_text(request, name, default)
    asked: str = request.GET.get(name, default)
    return asked


def declared_length(environ: dict[str, Any]) -> int | None:
    """Return what ``Content-Length`` says. Raises ``HTTPBadRequest`` for what is no number."""
    declared = environ.get("CONTENT_LENGTH") or None
    if declared is None:
        return None
    if not _DIGITS.fullmatch(declared):
        raise HTTPBadRequest()
    return int(declared)


def _read(source: Any, wanted: int) -> bytes:
    chunks = []
    while wanted > 0:
        try:
            chunk = source.read(min(CHUNK, wanted))
        except OSError as error:
            # The client went away in the middle.
            raise HTTPBadRequest() from error
        if not chunk:
            break
        chunks.append(chunk)
        wanted -= len(chunk)
    return b"".join(chunks)


def _check_charset(content_type: str) -> None:
    """Our pages are UTF-8 and so is what they send; WebOb would convert anything else."""
    named = _CHARSET.search(content_type)
    if named and named[1].lower() not in {"utf-8", "utf8"}:
        raise HTTPBadRequest()


def _check_count(content_type: str, body: bytes) -> None:
    """Count before anything is taken apart; a file may hold any number of ampersands."""
    if content_type.lower().startswith("multipart/"):
        too_many = (
            max(body.count(b"\n--"), body.lower().count(b"\ncontent-disposition:")) > MAX_PARTS
        )
    else:
        too_many = body.count(b"&") >= MAX_FIELDS
    if too_many:
        raise HTTPBadRequest()


def _flat(fields: Any) -> list[str]:
    return [text for pair in fields.items() for text in pair if isinstance(text, str)]
