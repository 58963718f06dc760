"""Refusals: one page for hidden and missing, nothing of the inside in any of them."""

from typing import Any
from urllib.parse import unquote

import pytest
from pyramid.exceptions import BadCSRFOrigin, BadCSRFToken
from pyramid.request import Request
from structlog.testing import capture_logs

from medportal.web.errors import kinds, places

SECRET = "secret-marker"


def test_hidden_and_missing_are_the_same_page(app: Any) -> None:
    app.set_cookie("person", "Ana")
    pages = [
        app.get(path, status=404)
        for path in ("/explode/missing", "/explode/hidden", "/guarded", "/nowhere", "/nowhere/")
    ]
    # The address itself stands in the language switch; nothing else may differ.
    texts = {p.text.replace(p.request.path, "/") for p in pages}
    assert len(texts) == 1
    assert "Page not found" in texts.pop()
    assert len({tuple(sorted(set(p.headers) - {"Set-Cookie"})) for p in pages}) == 1


def test_whoever_is_not_signed_in_goes_to_the_sign_in_for_both(app: Any) -> None:
    for path in ("/guarded", "/nowhere", "/explode/missing"):
        answer = app.get(path, status=303)
        start, wanted = answer.location.split("?next=")
        assert start == "https://hospital.localhost:8443/sign-in"
        assert unquote(wanted) == path
    answer = app.get("/nowhere?a=/b&c", status=303)
    assert unquote(answer.location.split("?next=")[1]) == "/nowhere?a=/b&c"
    assert "&" not in answer.location


def test_after_the_sign_in_nobody_is_sent_to_a_stranger(app: Any) -> None:
    answer = app.get("//evil.example/path", status=303)
    assert answer.location == "https://hospital.localhost:8443/sign-in"


def test_a_crash_shows_a_reference_that_is_in_the_log_and_nothing_else(app: Any) -> None:
    app.set_cookie("person", "Ana")
    with capture_logs() as logs:
        page = app.get("/explode/crash", status=500)
    (entry,) = logs
    assert entry["reference"] in page.text
    assert entry["kinds"] == ["builtins.RuntimeError", "builtins.KeyError"]
    assert entry["route"] == "explode"
    assert "explode (web/conftest.py:" in entry["places"][-1]
    for text in (page.text, str(entry)):
        assert SECRET not in text
    assert "Traceback" not in page.text
    assert "RuntimeError" not in page.text


def test_two_crashes_have_two_references(app: Any) -> None:
    with capture_logs() as logs:
        app.get("/explode/crash", status=500)
        app.get("/explode/crash", status=500)
    assert logs[0]["reference"] != logs[1]["reference"]


def test_the_page_of_a_crash_asks_nobody_who_is_there(wsgi: Any, app: Any) -> None:
    app.set_cookie("person", "Ana")
    with capture_logs():
        page = app.get("/explode/crash", status=500)
    assert wsgi.registry["asked"] == ["view"]
    assert "Sign out" not in page.text


def test_a_busy_database_is_tried_again_and_then_said_to_be_busy(wsgi: Any, app: Any) -> None:
    with capture_logs() as logs:
        page = app.get("/explode/busy", status=503)
    assert wsgi.registry["asked"] == ["view"] * 3
    assert page.headers["Retry-After"] == "30"
    assert "We cannot answer right now" in page.text
    assert logs[0]["kinds"][0].endswith("Busy")


def test_headers_that_help_a_browser_are_kept(app: Any) -> None:
    page = app.get("/explode/away", status=503)
    assert page.headers["Retry-After"] == "7"


def test_a_redirect_from_a_view_is_no_error(app: Any) -> None:
    assert app.get("/explode/elsewhere", status=303).location.endswith("/help")


def test_an_unknown_host_gets_a_page_without_an_institution(app: Any) -> None:
    page = app.get("/help", extra_environ={"HTTP_HOST": "evil.example"})
    assert "medportal" in page.text
    assert "Saint Luke" not in page.text


def test_a_page_that_cannot_be_made_still_becomes_an_answer(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medportal.web.errors.TEMPLATE", "medportal.web:templates/none.pt")
    with capture_logs() as logs:
        page = app.get("/explode/crash", status=500)
    assert [entry["event"] for entry in logs] == ["unexpected-error", "error-page-failed"]
    assert logs[0]["reference"] in page.text
    assert page.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/%ff", "/help?%ff=1", "/help?a=%ff", "/%00", "/help?a=%00"])
def test_an_address_that_is_no_text_is_refused(wsgi: Any, path: str) -> None:
    # The test client cannot tell such an address itself, so it does not get to see it.
    page = Request.blank(path, base_url="https://hospital.localhost:8443").get_response(wsgi)
    assert page.status_int == 400
    assert page.headers["Cache-Control"] == "no-store"
    assert "This request could not be understood" in page.text


def test_cookies_that_are_no_text_are_refused_or_ignored(app: Any) -> None:
    for value in ("a=\xff\xfe", "__Host-lang=\xff", "__Host-csrf=\xc3", "=;;;=", "a" * 9000):
        assert app.get("/help", headers={"Cookie": value}, status="*").status_int in {200, 400}


def test_kinds_end_even_if_exceptions_go_in_circles() -> None:
    first, second = ValueError(SECRET), TypeError(SECRET)
    first.__cause__, second.__cause__ = second, first
    assert len(kinds(first)) == 10
    assert places(first) == []


@pytest.mark.parametrize("context", [BadCSRFToken, BadCSRFOrigin])
def test_a_token_refused_at_the_view_gets_the_same_words(app: Any, context: Any) -> None:
    page = app.get(f"/explode/{context.__name__}", status=403)
    assert "Your page was open too long" in page.text


def test_an_address_that_pyramid_cannot_decode_gets_the_page_for_it(app: Any) -> None:
    page = app.get("/explode/undecodable", status=400)
    assert "could not be understood" in page.text


def test_a_host_that_nobody_has_gets_words_too(app: Any) -> None:
    page = app.get("/explode/misdirected", extra_environ={"HTTP_HOST": "evil.example"}, status=421)
    assert "This address is not served here" in page.text


def test_cookies_that_are_no_text_are_taken_as_not_sent(app: Any) -> None:
    # Even the error page asks for the cookie of the language.
    cookies = {"Cookie": '__Host-language="\\000\\377"; x=1'}
    assert app.get("/plain", headers=cookies).status_int == 200
    missing = app.get("/nowhere", headers=cookies, expect_errors=True)
    assert missing.status_int in {303, 404}
