"""ASGI in front, WSGI behind: a request is whole before a thread is given to it.

A thread that reads a body waits for as long as whoever sends it likes, so a few people who
never finish would stop a portal of a few threads. Here the event loop collects bodies,
within a size and a time, and threads see whole requests only:

1. A body has a declared length (``Content-Length``, or HTTP/2's end of stream). A chunked one
   (411) is what no browser sends and what proxies and servers have disagreed about.
2. A body that says that it is too long is not kept; the application answers 413. As far as
   it is not out of all measure it is heard to its end: a browser that is cut off while it
   sends shows a broken connection, and not the page that says what was wrong.
3. A body that is not there in time is answered 408 and the connection closed.
4. Who goes away in the middle has asked for nothing: half a form reaches nobody.
5. What asks for no path ("*", or nothing) is refused: addresses are made from paths.
6. Header names with an underscore are left out: in WSGI they look like those with a hyphen.
7. A long answer leaves part by part. Whoever takes no part for a while, or takes parts for
   ever, is cut off: what is read for them (a transaction) must end some time.

What is wrong is passed on (:data:`medportal.web.limits.TAKEN`), and the application makes the
page. Nothing of the process's environment reaches a request.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from threading import Lock
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPError,
    HTTPLengthRequired,
    HTTPRequestTimeout,
)

from medportal.web.errors import kinds, places
from medportal.web.headers import ALWAYS
from medportal.web.limits import TAKEN, declared_length

log = structlog.get_logger()
#: The tenant whose listener took a request; another's host name is misdirected there.
LISTENER = "medportal.listener"
#: Forms are a few kilobytes; this is time for the largest one over a poor connection.
BODY_SECONDS = 15.0
#: How much too long a body may be, and for how long it is heard, before it is cut off.
DISCARDED_BYTES = 8 * 1024 * 1024
DISCARD_SECONDS = 5.0
#: How long one part of a long answer may take to leave, and how long all of them together.
PART_SECONDS = 30.0
STREAM_SECONDS = 30 * 60.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Stream:
    """A body that a view wants to have sent part by part, because it may be very long.

    No part is empty.

    Each part is fetched in a thread that is free again while the part is sent. If fetching
    fails, the connection is broken off: half a file must not look like a whole one.
    """

    def __init__(self, parts: Iterator[bytes]) -> None:
        """Take the parts; they are asked for one after the other, never at once."""
        self._parts = parts
        self._lock = Lock()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._lock:
            return next(self._parts)

    def close(self) -> None:
        """Give up whatever the parts hold: a transaction, for one.

        Waits for a part that is being fetched: nobody may be left who does, but the thread
        that fetches cannot be stopped.
        """
        close = getattr(self._parts, "close", None)
        if close is not None:
            with self._lock:
                close()


class Gone(Exception):
    """Whoever asked has gone away before the request was whole."""


@dataclass(slots=True)
class Answer:
    """What a WSGI application answers; the instance itself is its ``start_response``."""

    status: int = 500
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    stream: Stream | None = None

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: object = None
    ) -> None:
        """Take status and headers."""
        self.status = int(status.split(" ", 1)[0])
        self.headers = headers


class Gateway:
    """The ASGI application of one listener around a WSGI application."""

    def __init__(
        self,
        wsgi: Wsgi,
        listener: str,
        *,
        threads: int,
        most_bytes: int,
        seconds: float = BODY_SECONDS,
    ) -> None:
        """Prepare for the tenant ``listener``; ``threads`` requests are worked on at once."""
        self._wsgi = wsgi
        self._listener = listener
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="portal")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        environ = make_environ(scope) | {LISTENER: self._listener}
        if not environ["PATH_INFO"].startswith("/"):
            environ |= {"PATH_INFO": "/", TAKEN: HTTPBadRequest()}
        try:
            await self._fill(environ, receive)
        except Gone:
            return
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._pool, self._run, environ)
        headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.stream is not None:
            await self._send_parts(answer.stream, send)
        await send({"type": "http.response.body", "body": answer.body})

    async def _send_parts(self, stream: Stream, send: Send) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                while part := await loop.run_in_executor(self._pool, next, stream, b""):
                    async with asyncio.timeout(PART_SECONDS):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
        except Exception as error:
            log.error("stream-broken-off", kinds=kinds(error), places=places(error))
            raise
        finally:
            # Closed in any case, also if this is cancelled once more while it waits for that.
            await asyncio.shield(loop.run_in_executor(self._pool, stream.close))

    async def _fill(self, environ: dict[str, Any], receive: Receive) -> None:
        """Put the body into ``environ``, or what is wrong with it. Raises ``Gone``."""
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._body(environ, receive)
        except (HTTPError, TimeoutError) as problem:
            body = b""
            environ[TAKEN] = problem if isinstance(problem, HTTPError) else HTTPRequestTimeout()
        environ["wsgi.input"] = BytesIO(body)
        environ.setdefault("CONTENT_LENGTH", str(len(body)))

    async def _body(self, environ: dict[str, Any], receive: Receive) -> bytes:
        """Return the body; empty if it declares more than is taken. Raises ``HTTPError``."""
        if "HTTP_TRANSFER_ENCODING" in environ:
            raise HTTPLengthRequired()
        length = declared_length(environ)
        if length is not None and length > self._most_bytes:
            await _discard(length, receive)
            return b""
        if length == 0:
            return b""
        body, more = bytearray(), True
        while more and len(body) <= self._most_bytes:
            chunk, more = await _next(receive)
            body += chunk
        if length is not None and len(body) != length:
            raise HTTPBadRequest()
        return bytes(body)

    def _run(self, environ: dict[str, Any]) -> Answer:
        """Call the application, in a thread; nothing that it fails to catch gets further."""
        try:
            return call(self._wsgi, environ)
        except Exception as error:
            log.error("request-failed", kinds=kinds(error), places=places(error))
            headers = [("Content-Type", "text/plain"), *ALWAYS.items()]
            return Answer(500, headers, b"Something went wrong here. / Algo correu mal.\n")


async def _next(receive: Receive) -> tuple[bytes, bool]:
    """Return the next part of a body and whether there is more. Raises ``Gone``."""
    message = await receive()
    if message["type"] != "http.request":
        raise Gone
    return message.get("body", b""), message.get("more_body", False)


async def _discard(length: int, receive: Receive) -> None:
    """Hear a body that is too long to its end, within bounds. Raises ``Gone``."""
    more = length <= DISCARDED_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while more:
                _chunk, more = await _next(receive)


def call(wsgi: Wsgi, environ: dict[str, Any]) -> Answer:
    """Return the answer of a WSGI application, whole unless it is a stream."""
    answer = Answer()
    parts = wsgi(environ, answer)
    if isinstance(parts, Stream):
        answer.stream = parts
        return answer
    try:
        answer.body = b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return answer


def make_environ(scope: Scope) -> dict[str, Any]:
    """Return the WSGI environ of an ASGI request, without its body (PEP 3333)."""
    host, port = scope.get("server") or ("", None)
    client = scope.get("client") or ("", None)
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": str(client[0]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    return environ | _headers(scope["headers"])


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers under their WSGI names; repeated ones joined, cookies as HTTP/2 asks."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if b"_" in raw_name:
            continue
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        if name not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            name = f"HTTP_{name}"
        value = raw_value.decode("latin-1")
        joint = "; " if name == "HTTP_COOKIE" else ", "
        found[name] = f"{found[name]}{joint}{value}" if name in found else value
    return found
