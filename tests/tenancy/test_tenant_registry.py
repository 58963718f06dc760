"""From a Host header to a tenant, and from a tenant to its own database."""

from dataclasses import replace

import pytest
from functional_helpers import PORTS
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from medportal.core.errors import ConfigurationError
from medportal.tenancy.errors import TenantBehind
from medportal.tenancy.loader import load_tenants
from medportal.tenancy.registry import Database, TenantRegistry


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request, new_database, tenant_directory):
    tenants = load_tenants(
        tenant_directory,
        ["hospital", "laboratory"],
        {"state": "x", **PORTS},
    )
    made = TenantRegistry(
        {
            name: replace(tenant, database_url=new_database(request.param))
            for name, tenant in tenants.items()
        }
    )
    yield made
    made.dispose()


@pytest.mark.parametrize(
    ("host", "tenant"),
    [
        ("hospital.localhost", "hospital"),
        ("hospital.localhost:8443", "hospital"),
        ("HOSPITAL.LocalHost:8443", "hospital"),
        ("laboratory.localhost", "laboratory"),
        ("", None),
        (":8443", None),
        ("localhost", None),
        ("hospital.localhost.evil.example", None),
        ("evil.hospital.localhost", None),
        ("hospital.localhost:8443:1", None),
        ("[::1]:8443", None),
        ("hospital.localhost@evil.example", None),
        ("hospital.localhost ", None),
    ],
)
def test_hosts(tenant_directory, host, tenant):
    tenants = load_tenants(
        tenant_directory,
        ["hospital", "laboratory"],
        {"state": "x", **PORTS},
    )
    found = TenantRegistry(tenants).for_host(host)
    assert (found.id if found else None) == tenant


def test_each_tenant_has_a_database_of_its_own(registry):
    with registry.database("hospital").writer() as session, session.begin():
        session.execute(text("CREATE TABLE only_here (id INTEGER)"))
    with registry.database("laboratory").reader() as session, pytest.raises(DBAPIError):
        session.execute(text("SELECT * FROM only_here"))
    with registry.database("hospital").reader() as session:
        assert session.execute(text("SELECT * FROM only_here")).all() == []


def test_a_tenant_that_is_not_served(registry):
    with pytest.raises(KeyError):
        registry.database("clinic")


def test_a_reader_cannot_write_on_postgresql(registry):
    database = registry.database("hospital")
    with database.reader() as session:
        if database.engine.dialect.name == "sqlite":
            assert session.scalar(text("SELECT 1")) == 1
            return
        with pytest.raises(DBAPIError, match="read-only"):
            session.execute(text("CREATE TABLE written (id INTEGER)"))


def test_the_engine_is_made_once_and_anew_after_disposal(registry):
    database = registry.database("hospital")
    engine = database.engine
    assert database.engine is engine
    database.dispose()
    assert database.engine is not engine
    database.require_current()


def test_nothing_is_opened_before_it_is_used(tmp_path, tenant_directory):
    tenants = load_tenants(
        tenant_directory,
        ["hospital"],
        {"state": str(tmp_path / "s"), **PORTS},
    )
    registry = TenantRegistry(tenants)
    registry.for_host("hospital.localhost")
    registry.dispose()
    assert not (tmp_path / "s").exists()


def test_an_address_that_is_none_is_not_repeated(tenant_directory):
    (tenant,) = load_tenants(
        tenant_directory,
        ["hospital"],
        {"state": "x", **PORTS},
    ).values()
    database = Database(replace(tenant, database_url="postgresql://portal:hunter2@db:x/y"))
    with pytest.raises(ConfigurationError) as refused:
        database.require_current()
    assert str(refused.value) == "hospital.toml: database.url: is not an address"
    assert refused.value.__cause__ is None


def test_a_database_that_is_behind_is_refused_each_time_until_it_is_mended(
    tmp_path, tenant_directory
):
    tenants = load_tenants(
        tenant_directory,
        ["hospital"],
        {"state": str(tmp_path / "s"), **PORTS},
    )
    database = Database(tenants["hospital"])
    for _ in range(2):
        with pytest.raises(TenantBehind, match="medportal tenant migrate hospital"):
            database.writer()
        with pytest.raises(TenantBehind):
            database.require_current()
    assert (tmp_path / "s" / "hospital").stat().st_mode & 0o777 == 0o700
