"""Whose address a request came from.

A header is what anybody writes. The one exception is the edge in front of the portal, which
overwrites ``X-Forwarded-For`` with the one address that it saw itself: believed only from a
peer that the ini file names under ``medportal.trusted_edges``, and only with one address in it.
"""

import ipaddress
from collections.abc import Collection, Iterable
from typing import Any

from pyramid.request import Request

SETTING = "medportal.trusted_edges"


def includeme(config: Any) -> None:
    """Give requests ``client_address``; settings were checked when they were parsed."""
    named = config.registry.settings.get(SETTING, "").split()
    edges = frozenset(canonical(address) for address in named) - {""}
    config.add_request_method(
        lambda request: _of_request(request, edges), "client_address", reify=True
    )


def _of_request(request: Request, edges: frozenset[str]) -> str:
    peer = request.environ.get("REMOTE_ADDR", "")
    return client_address(peer, request.headers.get("X-Forwarded-For"), edges)


def is_edge_itself(request: Request) -> bool:
    """Tell whether a trusted edge asks for itself and not for a browser behind it.

    An edge sets ``X-Forwarded-For`` in whatever it passes on, and no browser can take it away.
    """
    named = request.registry.settings.get(SETTING, "").split()
    edges = frozenset(canonical(address) for address in named) - {""}
    peer = canonical(request.environ.get("REMOTE_ADDR", ""))
    return peer in edges and "X-Forwarded-For" not in request.headers


def client_address(peer: str, forwarded: str | None, edges: Collection[str]) -> str:
    """Return the address of who asks; empty if the edge did not say it in its one way.

    ``peer`` is the other end of the connection, ``forwarded`` the header's value, ``edges``
    are canonical.
    """
    own = canonical(peer)
    return canonical(forwarded or "") if own in edges else own


def canonical(address: str) -> str:
    """Return an address in its one form, empty for what is none.

    A listener of both families sees IPv4 as IPv6 ("::ffff:10.0.0.1"). An edge that is not
    recognised for that would lend its own address, and its place in the house, to everybody.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        # Without the name of an interface, which is of this machine and no part of the address.
        return str(mapped or ipaddress.IPv6Address(int(parsed)))
    return str(parsed)


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Tell whether an address is in one of the networks (CIDR); an empty one is in none."""
    plain = canonical(address)
    if not plain:
        return False
    parsed = ipaddress.ip_address(plain)
    return any(parsed in ipaddress.ip_network(network) for network in networks)
