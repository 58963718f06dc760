"""An installation to back up, on each engine, and empty places to restore to."""

import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before what follows is imported from beside this file.
sys.path.insert(0, str(Path(__file__).parent))

from backup_helpers import Site
from installation import TENANTS, Installation, install
from sqlalchemy import create_engine, text


@pytest.fixture(scope="session")
def bare_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Return a maker of databases without a table: kind -> address."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('bare')}/new/portal.sqlite"
        server = request.getfixturevalue("postgres_url")
        name = f"b{secrets.token_hex(8)}"
        admin = create_engine(
            server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return str(server.replace("/postgres?", f"/{name}?"))

    return make


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    key_material: Path,
    new_database: Any,
    bare_database: Callable[[str], str],
) -> Iterator[Site]:
    """Give an installation with two tenants and records, which the tests of a module share."""
    urls = {tenant: new_database(request.param) for tenant in TENANTS}
    directory = tmp_path_factory.mktemp("site")
    portal: Installation = install(directory / "p", key_material, urls)
    made = Site(portal, directory, request.param, bare_database)
    made.begin()
    yield made
    made.close()
    portal.registry.dispose()
    portal.app.registry["tenants"].dispose()
    shutil.rmtree(directory)
