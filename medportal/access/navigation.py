"""The navigation of a page: the places where the person's work is, and the account."""

from typing import Any

from pyramid.events import BeforeRender
from pyramid.interfaces import IRequest

from medportal.access.views.home import destinations_of
from medportal.web.i18n import _, translate


def includeme(config: Any) -> None:
    """Fill the navigation before a page is rendered."""
    config.add_subscriber(fill, BeforeRender)


def fill(event: Any) -> None:
    """Put (words, address, is this page) into ``request.nav``, once a request."""
    request = event.get("request")
    if not IRequest.providedBy(request) or not str(event.get("renderer_name")).endswith(".pt"):
        return
    if getattr(request, "is_plain", False) or request.nav or request.identity is None:
        return
    here = request.path
    places = [*destinations_of(request), (_("My account"), request.route_path("account"))]
    request.nav.extend((translate(request, w), address, address == here) for w, address in places)
