"""The gateway: threads see whole requests only, and no more than they should."""

import asyncio
from threading import Event
from typing import Any

import pytest
from pyramid.httpexceptions import HTTPBadRequest, HTTPLengthRequired, HTTPRequestTimeout

from medportal.access.downloads import attachment, csv_pieces
from medportal.web import gateway
from medportal.web.gateway import LISTENER, Gateway
from medportal.web.limits import TAKEN

LIMIT = 1000


class Application:
    """A WSGI application that keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.closed = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> "Application":
        self.seen.append({**environ, "body": environ["wsgi.input"].read()})
        start_response("201 Created", [("Content-Type", "text/plain"), ("X-Ours", "é")])
        return self

    def __iter__(self) -> Any:
        return iter([b"one", b"two"])

    def close(self) -> None:
        self.closed += 1


class Broken:
    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise RuntimeError("Qwyzel's secret")


def scope(headers: list[tuple[bytes, bytes]] = (), **more: Any) -> dict[str, Any]:
    """Return a request as the server hands it over."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "raw_path": b"/x%2Fy%ff",
        "query_string": b"a=%20",
        "http_version": "1.1",
        "scheme": "https",
        "client": ("192.0.2.7", 999),
        "server": ("127.0.0.1", 8443),
        "headers": headers,
        **more,
    }


async def nothing_more() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def ask(
    application: Any,
    headers: list[tuple[bytes, bytes]] = (),
    *messages: dict[str, Any],
    seconds: float = 5,
    send: Any = None,
    **more: Any,
) -> list[dict[str, Any]]:
    """Send one request to a gateway; return what it sent back."""
    waiting = list(messages or [{"type": "http.request", "body": b"", "more_body": False}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def keep(message: dict[str, Any]) -> None:
        sent.append(message)

    asgi = Gateway(application, "hospital", threads=1, most_bytes=LIMIT, seconds=seconds)
    asyncio.run(asgi(scope(headers, **more), receive, send or keep))
    return sent


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def length(number: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(number).encode())]


def seen(*arguments: Any, **more: Any) -> dict[str, Any]:
    application = Application()
    ask(application, *arguments, **more)
    assert application.closed == len(application.seen) == 1
    return application.seen[0]


def test_a_request_arrives_whole_and_its_answer_leaves_whole() -> None:
    application = Application()
    sent = ask(application, length(6), part(b"abc", True), part(b"def"))
    environ = application.seen[0]
    assert environ["body"] == b"abcdef"
    assert TAKEN not in environ
    assert environ["PATH_INFO"] == "/x/y\xff"
    assert environ["QUERY_STRING"] == "a=%20"
    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["wsgi.url_scheme"] == "https"
    assert environ[LISTENER] == "hospital"
    assert sent == [
        {
            "type": "http.response.start",
            "status": 201,
            "headers": [(b"content-type", b"text/plain"), (b"x-ours", b"\xe9")],
        },
        {"type": "http.response.body", "body": b"onetwo"},
    ]


def test_a_body_without_a_length_ends_where_the_stream_does() -> None:
    environ = seen([], part(b"abc", True), part(b""))
    assert (environ["body"], environ["CONTENT_LENGTH"]) == (b"abc", "3")


def test_nothing_of_the_environment_of_the_process_is_in_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_HOST", "x")
    assert "A_SECRET_OF_THE_HOST" not in seen()


def test_headers_are_joined_and_none_can_pose_as_another() -> None:
    environ = seen(
        [
            (b"host", b"a"),
            (b"host", b"b"),
            (b"cookie", b"c=1"),
            (b"cookie", b"d=2"),
            (b"sec-fetch-site", b"cross-site"),
            (b"sec_fetch_site", b"same-origin"),
        ]
    )
    assert environ["HTTP_HOST"] == "a, b"
    assert environ["HTTP_COOKIE"] == "c=1; d=2"
    assert environ["HTTP_SEC_FETCH_SITE"] == "cross-site"


def test_what_does_not_arrive_in_time_is_given_up() -> None:
    environ = seen(length(6), part(b"abc", True), seconds=0.05)
    assert isinstance(environ[TAKEN], HTTPRequestTimeout)
    assert environ["body"] == b""


def test_who_goes_away_in_the_middle_has_asked_for_nothing() -> None:
    application = Application()
    sent = ask(application, length(6), part(b"abc", True), {"type": "http.disconnect"})
    assert sent == application.seen == []


@pytest.mark.parametrize("body", [b"", b"abc"])
def test_a_chunked_body_is_refused_unread(body: bytes) -> None:
    environ = seen([(b"transfer-encoding", b"chunked"), *length(3)], part(body))
    assert isinstance(environ[TAKEN], HTTPLengthRequired)
    assert environ["body"] == b""


@pytest.mark.parametrize("declared", ["4", "2", "-1", "3, 3", "+3"])
def test_a_length_that_is_not_true_or_no_number_is_refused(declared: str) -> None:
    environ = seen([(b"content-length", declared.encode())], part(b"abc"))
    assert isinstance(environ[TAKEN], HTTPBadRequest)


@pytest.mark.parametrize("parts", [[part(b"x" * 600, True), part(b"x" * 401)], [part(b"x", True)]])
def test_a_body_that_says_it_is_too_long_is_heard_and_not_kept(
    parts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "DISCARD_SECONDS", 0.05)
    environ = seen(length(LIMIT + 1), *parts)
    assert (environ["body"], environ["CONTENT_LENGTH"]) == (b"", str(LIMIT + 1))
    assert TAKEN not in environ


def test_a_body_out_of_all_measure_is_not_heard() -> None:
    never = {"type": "http.disconnect"}
    environ = seen(length(gateway.DISCARDED_BYTES + 1), never)
    assert environ["body"] == b""


def test_what_asks_for_no_path_is_refused() -> None:
    environ = seen(raw_path=b"*")
    assert isinstance(environ[TAKEN], HTTPBadRequest)
    assert environ["PATH_INFO"] == "/"


def test_of_a_body_that_becomes_too_long_no_more_is_read_than_shows_it() -> None:
    environ = seen([], *[part(b"x" * 600, True)] * 5)
    assert len(environ["body"]) == 1200
    assert environ["CONTENT_LENGTH"] == "1200"


def test_what_the_application_lets_escape_gets_no_further(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = ask(Broken())
    assert sent[0]["status"] == 500
    assert b"content-security-policy" in dict(sent[0]["headers"])
    assert b"Qwyzel" not in sent[1]["body"]
    logged = capsys.readouterr()
    assert "Qwyzel" not in logged.out + logged.err
    assert "RuntimeError" in logged.out + logged.err


class Streaming:
    """An application whose answer is a stream of parts, perhaps one that breaks off."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.closed = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> gateway.Stream:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return gateway.Stream(self.parts())

    def parts(self) -> Any:
        try:
            yield b"one"
            if self.fails:
                raise RuntimeError("Qwyzel's secret")
            yield b"two"
        finally:
            self.closed = True


def test_a_stream_leaves_part_by_part() -> None:
    application = Streaming()
    sent = ask(application)[1:]
    assert [message["body"] for message in sent] == [b"one", b"two", b""]
    assert [message.get("more_body", False) for message in sent] == [True, True, False]
    assert application.closed


def test_a_stream_that_breaks_off_does_not_look_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    application = Streaming(fails=True)
    with pytest.raises(RuntimeError):
        ask(application)
    assert application.closed
    assert "Qwyzel" not in capsys.readouterr().out


class Endless:
    """A stream without an end, whose parts can be held back; it says when it was given up."""

    def __init__(self) -> None:
        self.asked, self.go_on, self.closed = Event(), Event(), Event()
        self.go_on.set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> gateway.Stream:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return gateway.Stream(self.parts())

    def parts(self) -> Any:
        try:
            while True:
                self.asked.set()
                self.go_on.wait()
                yield b"part"
        finally:
            self.closed.set()


async def never(message: dict[str, Any]) -> None:
    """Take the beginning of an answer, and no part of it."""
    if message["type"] != "http.response.start":
        await asyncio.Event().wait()


async def always(message: dict[str, Any]) -> None:
    """Take whatever comes, at once."""
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("limit", "send"), [("PART_SECONDS", never), ("STREAM_SECONDS", always)], ids=["part", "whole"]
)
def test_who_takes_for_ever_is_cut_off_and_nothing_is_held_for_them(
    monkeypatch: pytest.MonkeyPatch, limit: str, send: Any
) -> None:
    monkeypatch.setattr(gateway, limit, 0.05)
    application = Endless()
    with pytest.raises(TimeoutError):
        ask(application, send=send)
    assert application.closed.is_set()


def test_who_goes_while_a_part_is_fetched_leaves_nothing_open() -> None:
    application = Endless()
    application.go_on.clear()

    async def cancelled() -> None:
        asgi = Gateway(application, "hospital", threads=2, most_bytes=LIMIT)
        task = asyncio.create_task(asgi(scope(), nothing_more, always))
        await asyncio.to_thread(application.asked.wait)
        task.cancel()
        # The generator is at work: closing it has to wait for that.
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done
        application.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert application.closed.is_set()


def test_a_table_to_take_along_leaves_part_by_part() -> None:
    made = 0

    def rows() -> Any:
        nonlocal made
        for number in range(20_000):
            made += 1
            yield [str(number)]

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        answer = attachment(csv_pieces(["n"], rows()), "text/csv", "n.csv")
        return answer(environ, start_response)

    sent: list[tuple[int, dict[str, Any]]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append((made, message))

    ask(application, send=send, method="GET")
    assert sent[0] == (0, sent[0][1]), "status and headers leave before any row is made"
    assert len(sent) > 3
    assert 0 < sent[1][0] < made == 20_000
    body = b"".join(message["body"] for _made, message in sent[1:])
    assert body.startswith('\ufeff"n"\r\n"0"\r\n'.encode()) and body.endswith(b'"19999"\r\n')
