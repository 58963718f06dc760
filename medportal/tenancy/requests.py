"""What a request gets from its tenant: ``tenant``, ``db``, ``tail``.

Safe methods read on a snapshot. What they still have to write (audit events, the time a
session was last used) is put on ``request.tail`` and written at the end, in one short
transaction that commits before the body leaves: a page whose audit event cannot be
written is an error and shows nothing.
"""

from collections.abc import Callable

import structlog
import zope.sqlalchemy
from pyramid.request import Request
from pyramid.response import Response
from pyramid.tweens import EXCVIEW, INGRESS
from sqlalchemy.orm import Session

from medportal.tenancy.registry import Database, TenantRegistry
from medportal.web.errors import misdirected_page

log = structlog.get_logger()
Handler = Callable[[Request], Response]
TailWrite = Callable[[Session], None]
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def includeme(config):  # type: ignore[no-untyped-def]
    """Register the request attributes and the two tweens."""
    config.add_request_method(_tenant, "tenant", reify=True)
    config.add_request_method(_database, "database", reify=True)
    config.add_request_method(_session, "db", reify=True)
    config.add_request_method(lambda request: [], "tail", reify=True)
    config.add_tween(
        "medportal.tenancy.requests.host_tween_factory",
        under=INGRESS,
        over="pyramid_tm.tm_tween_factory",
    )
    config.add_tween(
        "medportal.tenancy.requests.tail_tween_factory",
        under="pyramid_tm.tm_tween_factory",
        over=EXCVIEW,
    )


def _tenant(request):  # type: ignore[no-untyped-def]
    return request.registry["tenants"].for_host(request.host)


def _database(request):  # type: ignore[no-untyped-def]
    return request.registry["tenants"].database(request.tenant.id)


def _session(request):  # type: ignore[no-untyped-def]
    if request.method in SAFE_METHODS:
        session = request.database.reader()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session
    return writing_session(request)


def writing_session(request: Request) -> Session:
    """Return a new session that commits with the request's transaction."""
    database: Database = request.database
    session = database.writer()
    zope.sqlalchemy.register(session, "changed", transaction_manager=request.tm)
    return session


def host_tween_factory(handler: Handler, registry: object) -> Handler:
    """Answer 421 to a host that is no tenant's, before anything else is looked at."""

    def host_tween(request: Request) -> Response:
        if request.tenant is None:
            return misdirected_page(request)
        return handler(request)

    return host_tween


def tail_tween_factory(handler: Handler, registry: object) -> Handler:
    """Write what a request left for its end."""

    def tail_tween(request: Request) -> Response:
        response = handler(request)
        failed = getattr(request, "exc_info", None) is not None
        if request.tail and not failed:
            _write_tail(request)
        return response

    return tail_tween


def _write_tail(request: Request) -> None:
    if request.method in SAFE_METHODS:
        # The snapshot ends here, so that the writing transaction begins afresh.
        request.tm.commit()
        request.tm.begin()
        session = writing_session(request)
    else:
        session = request.db
    for write in request.tail:
        write(session)


def tenants_of(registry: object) -> TenantRegistry:
    """Return the process's tenants from a Pyramid registry."""
    found: TenantRegistry = registry["tenants"]  # type: ignore[index]
    return found
