"""Pages that anybody may read: help, privacy, accessibility."""

from typing import Any

from pyramid.request import Request
from pyramid.security import NO_PERMISSION_REQUIRED

PAGES = ("help", "privacy", "accessibility")


def includeme(config: Any) -> None:
    """Register the pages."""
    for name in PAGES:
        config.add_view(
            show,
            route_name=name,
            request_method="GET",
            renderer=f"medportal.web:templates/{name}.pt",
            permission=NO_PERMISSION_REQUIRED,
        )


def show(request: Request) -> dict[str, Any]:
    """Show a page of words."""
    return {}
