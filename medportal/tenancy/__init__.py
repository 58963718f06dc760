"""Which institution a request is for, and the way to its database.

Holds: the frozen ``Tenant`` read from ``tenants/*.toml`` (:mod:`tenant`, :mod:`reader` and
:mod:`parsing` are PURE), the loader, what admins changed of it (:mod:`overlay` and :mod:`logo` are
PURE) and how that is kept up to date (:mod:`effective`), the registry from host name to tenant,
lazy engines, turns of SQLite's writers (:mod:`sqlite_turns`), statements that PostgreSQL has
planned (:mod:`postgres_plans`), sessions that end with a request (:mod:`joined`), one commit for
the events of several (:mod:`together`), ``request.tenant``, ``request.db`` and ``request.tail``.
May import: web, db, core.
Never does: a tenant column. Each tenant has an engine of its own, so there is nothing
to forget in a ``WHERE``.
Invariants: an unknown host is answered 421 before any database is touched; what admins
change makes the policies of the file stricter, never looser.
Start reading at :mod:`medportal.tenancy.tenant`, then :mod:`medportal.tenancy.requests`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Give requests their tenant and their database session."""
    config.include("medportal.tenancy.requests")
