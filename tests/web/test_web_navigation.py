"""Where a browser may be sent next."""

import pytest

from medportal.web.navigation import LONGEST, safe_path


@pytest.mark.parametrize(
    "path", ["/", "/patients/1?page=2", "/a%20b", "/x#part", "/sign-in?next=/a"]
)
def test_paths_of_this_portal_are_kept(path: str) -> None:
    assert safe_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        None,
        7,
        "",
        "patients",
        "//evil.example",
        "/\\evil.example",
        "/a\\b",
        "https://evil.example/",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: x=1",
        "/a b",
        "/\u00e9",
        "/\x00",
        "/" + "a" * LONGEST,
    ],
)
def test_everything_else_leads_home(path: object) -> None:
    assert safe_path(path) == "/"
    assert safe_path(path, "/help") == "/help"
