"""One-time messages say only what our own catalogue says."""

import base64
import json
from typing import Any

import pytest
from pyramid.request import Request

from medportal.web.flash import COOKIE, flash, take
from medportal.web.i18n import _, known_messages


def asking(wsgi: Any, cookie: str = "") -> Request:
    request = Request.blank("/", headers={"Cookie": f"{COOKIE}={cookie}"} if cookie else {})
    request.registry = wsgi.registry
    request.locale_name = "en"
    return request


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def shown(wsgi: Any, value: object) -> list[str]:
    return [message.text for message in take(asking(wsgi, encoded(value)))]


def test_a_message_survives_one_redirect_in_the_language_of_the_next_page(wsgi: Any) -> None:
    request = asking(wsgi)
    flash(request, _("Save"))
    flash(request, _("Help"), "info")
    request._process_response_callbacks(request.response)
    header = request.response.headers["Set-Cookie"]
    assert "secure" in header
    assert "HttpOnly" in header
    following = asking(wsgi, header.split(";")[0].split("=", 1)[1])
    following.locale_name = "pt"
    assert [(m.kind, m.text) for m in take(following)] == [("ok", "Guardar"), ("info", "Ajuda")]
    following._process_response_callbacks(following.response)
    assert "Max-Age=0" in following.response.headers["Set-Cookie"]
    assert "secure" in following.response.headers["Set-Cookie"]


def test_no_cookie_no_message(wsgi: Any) -> None:
    assert take(asking(wsgi)) == []


def test_only_sentences_of_our_own_are_shown(wsgi: Any) -> None:
    assert "Save" in known_messages()
    assert shown(wsgi, [["ok", "Save", {}]]) == ["Save"]
    assert shown(wsgi, [["ok", "You have won, call 0900", {}]]) == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "text",
        [["ok", "Save"]],
        [["loud", "Save", {}]],
        [["ok", "Save", {"n": "<b>"}]],
        [["ok", "Save", []]],
        [["ok", ["Save"], {}]],
        [1, None],
    ],
)
def test_other_shapes_are_ignored(wsgi: Any, value: object) -> None:
    assert shown(wsgi, value) == []


@pytest.mark.parametrize("raw", ["!", "AAAA", "W1td" * 1000, "W1tbW1tb"])
def test_broken_cookies_are_ignored(wsgi: Any, raw: str) -> None:
    assert take(asking(wsgi, raw)) == []


def test_at_most_five(wsgi: Any) -> None:
    assert len(shown(wsgi, [["ok", "Save", {}]] * 9)) == 5


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("plain text", "ok"),
        (_("Save"), "loud"),
        (_("Save", mapping={"name": "Maria"}), "ok"),
    ],
)
def test_mistakes_of_the_caller_are_loud(wsgi: Any, message: Any, kind: str) -> None:
    with pytest.raises(ValueError, match="flash message"):
        flash(asking(wsgi), message, kind)
