"""A file where a page of ours sends a text: refused as such, and never our fault."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from pyramid.interfaces import IRoutesMapper

SOURCE = Path(__file__).parents[2] / "medportal"
NOBODY = "0" * 32
#: Names by which several pages read a text.
FIELDS = ("__formid__", "csrf_token", "link", "name", "next", "number")
#: What a view reads by itself, besides its form: (who, path, field).
READ = [
    (None, "/activate", "link"),
    (None, "/reset/finish", "link"),
    (None, "/language", "language"),
    (None, "/language", "next"),
    (None, "/sign-in", "next"),
    (None, "/sign-in/second", "next"),
    (None, "/sign-in/passkey", "credential"),
    (None, "/sign-in/passkey/options", "purpose"),
    ("admin", "/account/confirm", "next"),
    ("admin", "/account/email/cancel", "change"),
    ("admin", "/account/second-factor/app", "__formid__"),
    ("admin", "/email/confirm", "link"),
    ("admin", "/people", "after"),
    ("admin", "/settings/versions/0", "seen"),
]
SENT = pytest.mark.parametrize(("name", "data"), [("a.txt", b"text"), ("a.txt", b""), ("", b"")])


def send(browser, token, path, field, name="a.txt", data=b"text"):
    fields = {"csrf_token": token, "language": "en", "__formid__": "form"}
    fields.pop(field, None)
    return browser.app.post(path, fields, upload_files=[(field, name, data)], expect_errors=True)


def browser_of(portal, role):
    return portal.browser() if role is None else portal.signed_in(role)


def pages_with_forms(portal):
    """Return the path of every route that takes a form, with ids of the porter or of nobody."""
    taken = {
        item["introspectable"]["route_name"]
        for item in portal.app.registry.introspector.get_category("views")
        if "POST" in (item["introspectable"]["request_methods"] or ("POST",))
    }
    names = defaultdict(lambda: NOBODY, fingerprint="x", name="x", version="0", ward="Cardiology")
    names |= {"person": portal.person("porter"), "patient": portal.person("patient")}
    mapper = portal.app.registry.getUtility(IRoutesMapper)
    return [r.pattern.format_map(names) for r in mapper.get_routes() if r.name in taken]


@SENT
@pytest.mark.parametrize(("role", "path", "field"), READ)
def test_what_a_view_reads_by_itself_has_to_be_a_text(portal, role, path, field, name, data):
    browser = browser_of(portal, role)
    assert send(browser, browser.token(), path, field, name, data).status_int == 400


@pytest.mark.parametrize("role", [None, "admin"])
def test_no_file_in_a_field_of_any_page_is_our_fault(portal, role):
    browser = browser_of(portal, role)
    paths = [path for path in pages_with_forms(portal) if path != "/sign-out"]
    assert len(paths) > 40
    token, refused = browser.token(), 0
    for path in paths:
        for field in FIELDS:
            status = send(browser, token, path, field).status_int
            assert status < 500, (path, field)
            refused += status == 400
    assert refused > 20


def test_views_read_what_was_sent_as_text_or_through_a_form():
    """A table of pages is never whole: whoever reads a field does it by what checks it."""
    raw = re.compile(r"request\.(?:POST|params)\s*(?:\.get\w*\(|\[)")
    found = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if raw.search(path.read_text("utf-8"))
    ]
    assert found == ["web/limits.py"]
