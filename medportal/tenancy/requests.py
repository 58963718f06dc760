"""What a request gets from its tenant: ``tenant``, ``db``, ``tail``.

``tenant`` is the institution with what its admins changed, ``file_tenant`` as its file alone
has it: the host is looked up there, and a static file is sent, without a database.

Safe methods read on a snapshot. What they still have to write (audit events, the time a
session was last used) is put on ``request.tail`` and written at the end, in one short
transaction that commits before the body leaves: a page whose audit event cannot be
written is an error and shows nothing. What only inserts rows of its own (:func:`inserting`: the
audit events) shares that transaction with what other requests write at the same time
(:mod:`medportal.tenancy.together`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from pyramid.request import Request
from pyramid.response import Response
from pyramid.tweens import EXCVIEW, INGRESS
from sqlalchemy.orm import Session

from medportal.tenancy.errors import TenantBehind
from medportal.tenancy.joined import ReadingSession, WritingSession
from medportal.tenancy.registry import Database, TenantRegistry
from medportal.tenancy.tenant import Tenant
from medportal.tenancy.together import Write
from medportal.web.errors import misdirected_page, unavailable_page
from medportal.web.gateway import LISTENER

log = structlog.get_logger()
Handler = Callable[[Request], Response]
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def includeme(config: Any) -> None:
    """Register the request attributes and the two tweens."""
    config.add_request_method(_file_tenant, "file_tenant", reify=True)
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


def _tenant(request: Request) -> Tenant | None:
    file: Tenant | None = request.file_tenant
    return file and tenants_of(request.registry).effective(file.id).current()


def _file_tenant(request: Request) -> Tenant | None:
    """Return the tenant of the Host header, if it is that of the listener as well.

    Each institution has an address and a certificate of its own: who comes to another's with
    this one's name is misdirected.
    """
    tenant = tenants_of(request.registry).for_host(request.host)
    listener = request.environ.get(LISTENER)
    return tenant if tenant and listener in {None, tenant.id} else None


def _database(request: Request) -> Database:
    return tenants_of(request.registry).database(request.file_tenant.id)


def _session(request: Request) -> Session:
    if request.method in SAFE_METHODS:
        return ReadingSession(request.database.for_reading, request.tm, autoflush=False)
    return writing_session(request)


def writing_session(request: Request) -> Session:
    """Return a new session that commits with the request's transaction."""
    return WritingSession(request.database.engine, request.tm)


def note_saved(request: Request, version: int) -> None:
    """Let a version of the settings count in this process as soon as it is committed."""
    effective = tenants_of(request.registry).effective(request.file_tenant.id)

    def committed(succeeded: bool) -> None:
        if succeeded:
            effective.saved(version)

    request.tm.get().addAfterCommitHook(committed)


def host_tween_factory(handler: Handler, registry: object) -> Handler:
    """Answer 421 to a host that is no tenant's, before anything else is looked at.

    A tenant whose database is behind the code is refused (503); the log names the command
    that mends it.
    """

    def host_tween(request: Request) -> Response:
        if request.file_tenant is None:
            return misdirected_page(request)
        try:
            return handler(request)
        except TenantBehind as behind:
            log.error("tenant-behind", tenant=behind.tenant_id, problem=str(behind))
            return unavailable_page(request)

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


def inserting(write: Write) -> Write:
    """Mark a write of a tail that inserts rows of its own, and neither reads nor changes any."""
    return _Inserting(write)


class _Inserting:
    __slots__ = ("_write",)

    def __init__(self, write: Write) -> None:
        self._write = write

    def __call__(self, session: Session) -> None:
        self._write(session)


def _write_tail(request: Request) -> None:
    if request.method not in SAFE_METHODS:
        _write_all(request, request.db)
        return
    # The snapshot ends here, so that the writing transaction begins afresh.
    request.tm.commit()
    request.tm.begin()
    if all(isinstance(write, _Inserting) for write in request.tail):
        request.database.together.write(request.tail)
    else:
        _write_all(request, writing_session(request))


def _write_all(request: Request, session: Session) -> None:
    for write in request.tail:
        write(session)


def tenants_of(registry: Mapping[str, Any]) -> TenantRegistry:
    """Return the process's tenants from a Pyramid registry."""
    found: TenantRegistry = registry["tenants"]
    return found
