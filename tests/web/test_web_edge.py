"""Whose address a request came from: the edge's single hop, and never what a client writes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from medportal.web import edge
from medportal.web.edge import canonical, client_address, is_within

EDGE = "10.0.0.2"
EDGES = frozenset({EDGE, "2001:db8::2"})


@pytest.mark.parametrize("forged", ["10.0.0.1", "127.0.0.1", "::1", EDGE, "", None, "x"])
def test_a_client_that_says_where_it_is_is_not_believed(forged: str | None) -> None:
    assert client_address("203.0.113.9", forged, EDGES) == "203.0.113.9"


def test_the_edge_is_believed() -> None:
    assert client_address(EDGE, "203.0.113.9", EDGES) == "203.0.113.9"
    assert client_address("2001:db8::2", "2001:db8::9", EDGES) == "2001:db8::9"
    # A listener of both families, and the other ways in which an address can be written.
    assert client_address("::ffff:10.0.0.2", "203.0.113.9", EDGES) == "203.0.113.9"
    assert client_address("2001:0db8:0::0002", "203.0.113.9", EDGES) == "203.0.113.9"


@pytest.mark.parametrize(
    "forwarded",
    [
        None,
        "",
        # An edge that appends, and does not overwrite, leaves what the client wrote.
        "10.0.0.1, 203.0.113.9",
        "203.0.113.9,",
        "203.0.113.9 10.0.0.1",
        " 203.0.113.9",
        "203.0.113.9:443",
        "[2001:db8::9]",
        "unknown",
        "203.0.113.256",
        "0203.0.113.9",
        "٢٠٣.0.113.9",
        "203.0.113.9\n",
    ],
)
def test_an_edge_that_says_anything_else_has_said_nothing(forwarded: str | None) -> None:
    address = client_address(EDGE, forwarded, EDGES)
    assert address == ""
    assert not is_within(address, ["0.0.0.0/0", "::/0"])


def test_without_edges_the_peer_is_who_asks() -> None:
    assert client_address(EDGE, "203.0.113.9", frozenset()) == EDGE
    assert client_address("", "10.0.0.1", frozenset()) == ""


@pytest.mark.parametrize(
    ("written", "one_form"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0a00:0001", "10.0.0.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%" + "x" * 500, "fe80::1"),
        ("10.1", ""),
        ("0x0a000001", ""),
        ("localhost", ""),
        ("", ""),
    ],
)
def test_one_form_of_an_address(written: str, one_form: str) -> None:
    assert canonical(written) == one_form


@given(st.ip_addresses())
def test_every_address_has_one_form_that_fits_its_column(address: Any) -> None:
    form = canonical(str(address))
    assert form
    assert canonical(form) == form
    assert len(form) <= 45


@given(st.text(max_size=60))
def test_no_text_is_a_crash(text: str) -> None:
    for peer in (EDGE, text):
        assert len(client_address(peer, text, EDGES)) <= 45
    assert isinstance(is_within(text, ["10.0.0.0/8"]), bool)


@pytest.mark.parametrize(
    ("address", "networks", "inside"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:11.1.2.3", ["10.0.0.0/8"], False),
        ("2001:db8::1", ["10.0.0.0/8", "2001:db8::/32"], True),
        ("::a01:203", ["10.0.0.0/8"], False),
        ("10.1.2.3", ["::/0"], False),
        ("192.0.2.7", ["192.0.2.7"], True),
        ("192.0.2.8", ["192.0.2.7"], False),
        ("10.1.2.3", [], False),
        ("", ["0.0.0.0/0"], False),
        ("nowhere", ["0.0.0.0/0"], False),
    ],
)
def test_who_is_within(address: str, networks: list[str], inside: bool) -> None:
    assert is_within(address, networks) is inside


def answer(peer: str, headers: dict[str, str], edges: str) -> str:
    """Return the address that a whole application sees."""
    config = Configurator(settings={edge.SETTING: edges})
    config.include("medportal.web.edge")
    config.add_route("who", "/")
    config.add_view(
        lambda request: Response(request.client_address),
        route_name="who",
        permission=NO_PERMISSION_REQUIRED,
    )
    request = Request.blank("/", headers=headers, environ={"REMOTE_ADDR": peer})
    found: str = request.get_response(config.make_wsgi_app()).text
    return found


def test_requests_know_whose_they_are() -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "10.9.9.9", "Forwarded": "for=10.9"}
    assert answer("10.0.0.2", headers, "10.0.0.2 2001:DB8::2") == "203.0.113.9"
    assert answer("2001:db8::2", headers, "10.0.0.2 2001:DB8::2") == "203.0.113.9"
    assert answer("10.0.0.3", headers, "10.0.0.2 2001:DB8::2") == "10.0.0.3"
    assert answer("10.0.0.2", headers, "") == "10.0.0.2"
    # Sent twice, a header comes joined: two addresses.
    twice = {"X-Forwarded-For": "10.9.9.9, 203.0.113.9"}
    assert answer("10.0.0.2", twice, "10.0.0.2") == ""
