"""The tenants that a process serves, by id and by host, each with its own database."""

import threading
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from medportal.tenancy.engines import make_engine, reading
from medportal.tenancy.schema import require_current
from medportal.tenancy.tenant import Tenant


class Database:
    """One tenant's database; the engine is made, and its schema checked, when first used."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """Return the engine. Raises ``TenantBehind`` for a schema that is not current."""
        with self._lock:
            if self._engine is None:
                engine = self.unchecked()
                try:
                    require_current(self._tenant.id, engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def require_current(self) -> None:
        """Raise ``TenantBehind`` for a schema that is not current; for use at a process's start."""
        _ = self.engine

    def unchecked(self) -> Engine:
        """Return a new engine without a look at the schema: for migrations only."""
        url = make_url(self._tenant.database_url)
        if url.get_backend_name() == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return make_engine(self._tenant.database_url)

    def reader(self) -> Session:
        """Return a session whose transactions only read."""
        return Session(reading(self.engine), autoflush=False)

    def writer(self) -> Session:
        """Return a session whose transactions may write, and begin so."""
        return Session(self.engine)

    def dispose(self) -> None:
        """Close every connection."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None


class TenantRegistry:
    """Tenants by id and by host name."""

    def __init__(self, tenants: Mapping[str, Tenant]) -> None:
        self.tenants = dict(tenants)
        self._by_host = {host: t for t in tenants.values() for host in t.hostnames}
        self._databases = {name: Database(t) for name, t in tenants.items()}

    def for_host(self, host: str) -> Tenant | None:
        """Return the tenant of a Host header (its port is left aside), or ``None``."""
        name = host.rsplit(":", 1)[0] if ":" in host else host
        return self._by_host.get(name.lower())

    def database(self, tenant_id: str) -> Database:
        """Return a tenant's database."""
        return self._databases[tenant_id]

    def dispose(self) -> None:
        """Close every connection of every tenant."""
        for database in self._databases.values():
            database.dispose()
