"""Pages that show the demonstration's mails. Other institutions have no such pages."""

import re
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.security import NO_PERMISSION_REQUIRED

from medportal.demo.mail_store import MailStore, store_of

SHOWN = 100
_ADDRESS = re.compile(r"(https://\S+)")


def includeme(config: Any) -> None:
    """Register the pages; they are public, as everything in a demonstration's mails is."""
    for view, route, template in (
        (mails, "demonstration-mail", "mails"),
        (mail, "demonstration-mail-one", "mail"),
    ):
        config.add_view(
            view,
            route_name=route,
            request_method="GET",
            renderer=f"medportal.demo:templates/{template}.pt",
            permission=NO_PERMISSION_REQUIRED,
        )


def mails(request: Request) -> dict[str, Any]:
    """List the last mails of this institution."""
    return {"mails": _store(request).newest(SHOWN), "shown": SHOWN}


def mail(request: Request) -> dict[str, Any]:
    """Show one mail as text, in which links to this institution's portal work."""
    found = _store(request).get(request.matchdict["mail"])
    if found is None:
        raise HTTPNotFound()
    return {"mail": found, "parts": _parts(found.text, request.tenant.address)}


def _store(request: Request) -> MailStore:
    """Return the institution's mails; outside of a demonstration the page does not exist."""
    if not request.tenant.demonstration:
        raise HTTPNotFound()
    return store_of(request.registry["settings"], request.tenant.id)


def _parts(text: str, address: str) -> list[tuple[str, bool]]:
    """Return a text in parts, and of each whether it is a link into the portal."""
    parts = [part for part in _ADDRESS.split(text) if part]
    return [(part, part.startswith(f"{address}/")) for part in parts]
