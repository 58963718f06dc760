"""Forged requests are refused before anybody is asked who is there."""

import re
from typing import Any

import pytest

ORIGIN = "https://hospital.localhost:8443"
COOKIE = "__Host-csrf"


def token_of(page: Any) -> str:
    return str(re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1])  # type: ignore[index]


def test_the_token_cookie_is_bound_to_this_host_and_hidden_from_scripts(app: Any) -> None:
    cookie = app.get("/help").headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    attributes = {part.strip() for part in cookie.split(";")[1:]}
    assert {"secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= attributes
    assert not any(part.lower().startswith("domain") for part in attributes)


def test_the_token_stays_from_page_to_page(app: Any) -> None:
    first = token_of(app.get("/help"))
    second = app.get("/help")
    assert token_of(second) == first
    assert "Set-Cookie" not in second.headers


def test_a_form_with_its_token_passes(app: Any) -> None:
    data = {"csrf_token": token_of(app.get("/help"))}
    assert app.post("/plain", data).status_int == 200
    assert app.post("/plain", data, headers={"Sec-Fetch-Site": "same-origin"}).status_int == 200
    assert app.post("/plain", data, headers={"Origin": ORIGIN}).status_int == 200
    # Our pages send no referrer, and browsers then write this on their forms.
    assert app.post("/plain", data, headers={"Origin": "null"}).status_int == 200


def test_the_header_serves_modules(app: Any) -> None:
    token = token_of(app.get("/help"))
    assert app.post_json("/plain", {}, headers={"X-CSRF-Token": token}).status_int == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin, same-origin"},
        {"Origin": "https://laboratory.localhost:8444"},
        {"Origin": "https://hospital.localhost"},
        {"Origin": "http://hospital.localhost:8443"},
    ],
)
def test_a_stranger_s_page_is_refused_even_with_the_token(app: Any, headers: Any) -> None:
    data = {"csrf_token": token_of(app.get("/help"))}
    answer = app.post("/plain", data, headers=headers, status=403)
    assert "Your page was open too long" in answer.text


@pytest.mark.parametrize("supplied", [None, "", "x", "é", "A" * 43])
def test_a_wrong_token_is_refused_before_the_session_is_read(
    wsgi: Any, app: Any, supplied: Any
) -> None:
    app.get("/help")
    app.set_cookie("person", "Ana")
    wsgi.registry["asked"].clear()
    data = {} if supplied is None else {"csrf_token": supplied}
    answer = app.post("/explode/crash", data, status=403)
    assert wsgi.registry["asked"] == []
    assert "Nothing was saved" in answer.text


def test_a_token_without_its_cookie_is_refused(app: Any) -> None:
    token = token_of(app.get("/help"))
    app.reset()
    app.post("/plain", {"csrf_token": token}, status=403)


@pytest.mark.parametrize("cookie", ["short", "a" * 200, '"quoted"'])
def test_a_malformed_cookie_is_replaced_and_does_not_count(app: Any, cookie: str) -> None:
    headers = {"Cookie": f"{COOKIE}={cookie}"}
    app.post("/plain", {"csrf_token": cookie.strip('"')}, headers=headers, status=403)
    page = app.get("/help", headers=headers)
    assert page.headers["Set-Cookie"].startswith(f"{COOKIE}=")


def test_the_token_is_replaced_on_demand_as_at_sign_in(wsgi: Any) -> None:
    from pyramid.csrf import get_csrf_token, new_csrf_token
    from pyramid.request import Request

    request = Request.blank("/", headers={"Cookie": f"{COOKIE}={'A' * 43}"})
    request.registry = wsgi.registry
    assert get_csrf_token(request) == "A" * 43
    fresh = new_csrf_token(request)
    assert fresh != "A" * 43
    assert get_csrf_token(request) == fresh
    assert new_csrf_token(request) != fresh
    assert len(request.response_callbacks) == 1


def test_pyramid_checks_again_at_the_view(wsgi: Any) -> None:
    from pyramid.interfaces import IDefaultCSRFOptions

    assert wsgi.registry.getUtility(IDefaultCSRFOptions).require_csrf
