"""The tenants that a process serves, by id and by host, each with its own database."""

import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from medportal.core.errors import ConfigurationError
from medportal.tenancy.effective import Clock, EffectiveTenant
from medportal.tenancy.engines import make_engine, reading
from medportal.tenancy.schema import require_current
from medportal.tenancy.tenant import Tenant
from medportal.tenancy.together import Together

#: A Host header: a name or address, and perhaps a port (RFC 9110, section 7.2).
_HOST = re.compile(r"([a-zA-Z0-9.-]+)(?::[0-9]{1,5})?")


class Database:
    """One tenant's database; the engine is made, and its schema checked, when first used."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._lock = threading.Lock()
        self._engines: tuple[Engine, Engine] | None = None
        self.together = Together(self.writer)

    @property
    def engine(self) -> Engine:
        """Return the engine. Raises ``TenantBehind`` for a schema that is not current."""
        return self._made()[0]

    @property
    def for_reading(self) -> Engine:
        """Return the engine for transactions that only read; raises as :attr:`engine` does."""
        return self._made()[1]

    def _made(self) -> tuple[Engine, Engine]:
        with self._lock:
            if self._engines is None:
                engine = self.unchecked()
                try:
                    require_current(self._tenant.id, engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engines = engine, reading(engine)
            return self._engines

    def require_current(self) -> None:
        """Raise ``TenantBehind`` for a schema that is not current; for use at a process's start."""
        _ = self.engine

    def unchecked(self) -> Engine:
        """Return a new engine without a look at the schema: for migrations only."""
        url = self._url()
        if url.get_backend_name() == "sqlite" and url.database:
            _make_private(Path(url.database))
        return make_engine(self._tenant.database_url)

    def _url(self) -> URL:
        try:
            return make_url(self._tenant.database_url)
        except (ArgumentError, ValueError):
            # What went wrong quotes a part of the address, which may be the password.
            message = f"{self._tenant.id}.toml: database.url: is not an address"
            raise ConfigurationError(message) from None

    def reader(self) -> Session:
        """Return a session whose transactions only read."""
        return Session(self.for_reading, autoflush=False)

    def writer(self) -> Session:
        """Return a session whose transactions may write, and begin so."""
        return Session(self.engine)

    def dispose(self) -> None:
        """Close every connection."""
        with self._lock:
            if self._engines is not None:
                self._engines[0].dispose()
                self._engines = None


def _make_private(path: Path) -> None:
    """Make a database's file, if it is missing, and the directories above for its owner only.

    SQLite gives the files beside it (journal, shared memory) the mode of the database.
    """
    for missing in reversed([d for d in path.parents if not d.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)


class TenantRegistry:
    """Tenants by id and by host name."""

    def __init__(self, tenants: Mapping[str, Tenant], clock: Clock = time.monotonic) -> None:
        self.tenants = dict(tenants)
        self._by_host = {host: t for t in tenants.values() for host in t.hostnames}
        self._databases = {name: Database(t) for name, t in tenants.items()}
        self._effective = {
            name: EffectiveTenant(tenant, self._databases[name].reader, clock)
            for name, tenant in tenants.items()
        }

    def for_host(self, host: str) -> Tenant | None:
        """Return the tenant of a Host header, as its file has it, or ``None``.

        Its port is left aside, but has to be one: what stands behind the colon gets into
        addresses that we send back, and "host:x@elsewhere" is an address elsewhere.
        """
        named = _HOST.fullmatch(host)
        return self._by_host.get(named[1].lower()) if named else None

    def effective(self, tenant_id: str) -> EffectiveTenant:
        """Return a tenant with what its admins changed, which stays up to date."""
        return self._effective[tenant_id]

    def database(self, tenant_id: str) -> Database:
        """Return a tenant's database."""
        return self._databases[tenant_id]

    def dispose(self) -> None:
        """Close every connection of every tenant."""
        for database in self._databases.values():
            database.dispose()
