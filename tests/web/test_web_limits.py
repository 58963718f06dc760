"""Size and shape of what comes in."""

from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyramid.httpexceptions import HTTPBadRequest, HTTPRequestEntityTooLarge
from pyramid.request import Request

from medportal.web.limits import MAX_FIELDS, read_body

FORM = "application/x-www-form-urlencoded"


class Counting(BytesIO):
    """A body that knows how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def ask(wsgi: Any, body: BytesIO, length: str) -> Any:
    """Post ``body`` with a length that need not be true; returns the response."""
    environ = {"wsgi.input": body, "CONTENT_LENGTH": length, "HTTP_HOST": "hospital.localhost"}
    return Request.blank("/plain", method="POST", environ=environ).get_response(wsgi)


def test_a_body_that_says_it_is_too_large_is_not_read(wsgi: Any) -> None:
    body = Counting(b"x" * 30_000)
    answer = ask(wsgi, body, "30000")
    assert answer.status_int == 413
    assert "That was too much at once" in answer.text
    assert body.taken == 0


def test_a_body_without_a_length_is_read_up_to_the_limit() -> None:
    body = Counting(b"x" * 30_000)
    with pytest.raises(HTTPRequestEntityTooLarge):
        read_body({"wsgi.input": body, "wsgi.input_terminated": True}, 1000)
    assert body.taken == 1001


def test_a_body_without_length_or_end_is_no_body() -> None:
    assert read_body({"wsgi.input": BytesIO(b"abc")}, 10) == b""
    assert read_body({"wsgi.input": BytesIO(b"abc"), "CONTENT_LENGTH": ""}, 10) == b""


@given(st.binary(max_size=300_000), st.integers(0, 300_000))
def test_what_fits_comes_through_whole(body: bytes, limit: int) -> None:
    for environ in ({"CONTENT_LENGTH": str(len(body))}, {"wsgi.input_terminated": True}):
        given_environ = {**environ, "wsgi.input": BytesIO(body)}
        if len(body) <= limit:
            assert read_body(given_environ, limit) == body
        else:
            with pytest.raises(HTTPRequestEntityTooLarge):
                read_body(given_environ, limit)


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "0x10", " 5", "٣", "9" * 30])
def test_a_malformed_length_is_refused(length: str) -> None:
    with pytest.raises(HTTPBadRequest):
        read_body({"wsgi.input": BytesIO(b"abc"), "CONTENT_LENGTH": length}, 10)


def test_a_client_that_goes_away_in_the_middle_is_no_crash() -> None:
    class Gone(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("gone")

    for source in (BytesIO(b"abc"), Gone()):
        with pytest.raises(HTTPBadRequest):
            read_body({"wsgi.input": source, "CONTENT_LENGTH": "5"}, 10)


@pytest.mark.parametrize("length", ["-5", "7"])
def test_a_malformed_length_is_a_page_and_not_a_crash(wsgi: Any, length: str) -> None:
    answer = ask(wsgi, BytesIO(b"abc"), length)
    assert answer.status_int == 400
    assert "could not be understood" in answer.text


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"&".join([b"a=1"] * (MAX_FIELDS + 1))),
        (FORM, b"a=%00"),
        (FORM, b"a%00=1"),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=\xff", b"--\xff\r\n"),
        ("multipart/form-data; boundary=", b"--\r\n\r\n"),
        (
            "multipart/form-data; boundary=x",
            b"".join(
                b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
                for _n in range(MAX_FIELDS + 1)
            ),
        ),
        ("application/x-www-form-urlencoded; charset=nonsense", b"a=1"),
    ],
)
def test_hostile_forms_are_refused(app: Any, content_type: str, body: bytes) -> None:
    answer = app.post(
        "/plain", body[:20_000], headers={"Content-Type": content_type}, expect_errors=True
    )
    assert answer.status_int in {400, 403}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=200), kind=st.sampled_from([FORM, "multipart/form-data; boundary=x"])
)
def test_no_body_at_all_is_a_crash(app: Any, body: bytes, kind: str) -> None:
    # The application keeps nothing between requests, so all examples may share one.
    answer = app.post("/plain", body, headers={"Content-Type": kind}, expect_errors=True)
    assert answer.status_int in {400, 403}
