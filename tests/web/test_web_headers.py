"""Headers on every answer, and static files that may be kept."""

import gzip
import re
from typing import Any

import pytest
from pyramid.request import Request

from medportal.web.assets import load_assets

PAGES = ["/help", "/nothing-here", "/explode/crash", "/explode/elsewhere", "/plain", "/static/x/y"]


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_is_protected_and_kept_by_nobody(app: Any, path: str) -> None:
    app.set_cookie("person", "Ana")
    headers = app.get(path, status="*").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert "Strict-Transport-Security" not in headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_answers_of_the_outer_tweens_are_protected_too(app: Any, method: str) -> None:
    answer = app.request("/help", method=method, status=405)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Allow"] == "GET, HEAD, POST"
    assert "This page cannot be used that way" in answer.text


def test_transport_security_only_where_set(make_app: Any) -> None:
    headers = make_app({"medportal.hsts": "true"}).get("/help").headers
    assert headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"


def test_no_page_has_inline_script_or_style(app: Any) -> None:
    app.set_cookie("person", "Ana")
    for path in ("/gallery", "/form", "/section", "/help", "/privacy", "/accessibility"):
        text = app.get(path).text
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), path
        assert re.findall(r"<script[^>]*>", text) == re.findall(r"<script[^>]* src=[^>]*>", text)
        assert "<script" in text


def test_static_files_are_kept_for_a_year_under_their_fingerprint(app: Any) -> None:
    sheets = re.findall(r'href="(/(?:static|theme)/[^"]+)"', app.get("/help").text)
    assert len(sheets) == 4
    for address in sheets:
        answer = app.get(address)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert "Set-Cookie" not in answer.headers
        assert "Content-Encoding" not in answer.headers


def test_static_files_are_compressed_for_whoever_can_read_that(wsgi: Any) -> None:
    address = load_assets().url("bootstrap.css")
    # The test client would undo the compression and take the header away.
    packed = Request.blank(address, headers={"Accept-Encoding": "br, gzip"}).get_response(wsgi)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.body) < 40_000
    plain = Request.blank(address, headers={"Accept-Encoding": "gzip;q=0"}).get_response(wsgi)
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body


def test_a_file_of_another_release_is_sent_and_not_kept(app: Any) -> None:
    answer = app.get("/static/0123456789/portal.css")
    assert answer.status_int == 200
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["nothing.css", "..", "%2e%2e%2fcsrf.py", "csrf.py"])
def test_there_are_no_other_files(app: Any, name: str) -> None:
    answer = app.get(f"/static/{load_assets().fingerprint}/{name}", status="*")
    assert answer.status_int in {303, 404}
    assert "import" not in answer.text


def test_an_unknown_file_has_no_address() -> None:
    with pytest.raises(KeyError):
        load_assets().url("nothing.css")


def test_the_fingerprint_is_of_the_content() -> None:
    assert load_assets() == load_assets()


def test_each_institution_has_its_own_theme(app: Any) -> None:
    ours = app.get("/help").text
    theirs = app.get("/help", extra_environ={"HTTP_HOST": "laboratory.localhost:8444"}).text
    pattern = r"/theme/([0-9a-f]+)/theme.css"
    first, second = re.findall(pattern, ours), re.findall(pattern, theirs)
    assert first != second
    assert "--brand: #0f5c5c;" in app.get(f"/theme/{first[0]}/theme.css").text
