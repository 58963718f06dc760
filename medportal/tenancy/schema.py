"""The schema of a tenant's database: migrate it, and refuse one that is not current."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from medportal.tenancy.errors import TenantBehind

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def alembic_config() -> Config:
    """Return the configuration of the migrations, without an ini file."""
    config = Config()
    # Alembic reads its options with interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


@cache
def wanted_revision() -> str | None:
    """Return the revision that this code was written for."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def current_revision(engine: Engine) -> str | None:
    """Return the revision that a database is at, ``None`` for an empty one."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def require_current(tenant_id: str, engine: Engine) -> None:
    """Raise ``TenantBehind`` unless a database is at the revision of this code."""
    found = current_revision(engine)
    if found != wanted_revision():
        raise TenantBehind(tenant_id, found, wanted_revision())


def migrate(engine: Engine) -> None:
    """Bring a database to the revision of this code, in one transaction."""
    with engine.begin() as connection:
        upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring a database to a revision, in the caller's transaction."""
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def knows_revision(revision: str) -> bool:
    """Tell whether this code has a revision; it has none that a newer program made."""
    known = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    return any(each.revision == revision for each in known)
