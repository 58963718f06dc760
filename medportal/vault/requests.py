"""What a request is answered whose database or document store is gone, full or too slow: 503.

The exception passes the transaction first, so nothing of the request is kept. What the driver
said stays here: it may quote an address or a statement.
"""

from collections.abc import Callable
from typing import Any

import structlog
from pyramid.request import Request
from pyramid.response import Response
from pyramid_retry import is_error_retryable
from sqlalchemy.exc import InterfaceError, OperationalError

from medportal.vault.errors import DocumentsUnavailable
from medportal.web import HOST_TWEEN, TWEENS
from medportal.web.errors import kinds, unavailable_page

log = structlog.get_logger()
Handler = Callable[[Request], Response]


def includeme(config: Any) -> None:
    """Register the tween: above the transaction and the host, whose settings are in SQL too."""
    _headers, crash, *_rest = TWEENS
    config.add_tween(
        "medportal.vault.requests.unavailable_tween_factory", under=crash, over=HOST_TWEEN
    )


def unavailable_tween_factory(handler: Handler, registry: object) -> Handler:
    """Make the tween that answers for stores that cannot be used."""

    def unavailable_tween(request: Request) -> Response:
        try:
            return handler(request)
        except DocumentsUnavailable as error:
            return _unavailable(request, "documents-unavailable", str(error.problem))
        except (OperationalError, InterfaceError) as error:
            if is_error_retryable(request, error):
                raise
            return _unavailable(request, "database-unavailable", ", ".join(kinds(error)))

    return unavailable_tween


def _unavailable(request: Request, what: str, problem: str) -> Response:
    route = getattr(getattr(request, "matched_route", None), "name", None)
    tenant = request.file_tenant.id if request.file_tenant else None
    log.error(what, tenant=tenant, route=route, problem=problem)
    return unavailable_page(request)
