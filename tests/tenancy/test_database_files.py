"""The file of an SQLite database is for its owner only, whatever the umask."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from functional_helpers import PORTS

from medportal.tenancy.loader import load_tenants
from medportal.tenancy.registry import Database
from medportal.tenancy.schema import migrate

TENANTS = Path(__file__).resolve().parents[2] / "tenants"


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_new_database_is_for_its_owner_only(tmp_path, usual_umask):
    variables = {"state": str(tmp_path / "new" / "state"), **PORTS}
    tenant = load_tenants(TENANTS, ["hospital"], variables)["hospital"]
    engine = Database(tenant).unchecked()
    migrate(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        files = list((tmp_path / "new").rglob("portal.sqlite*"))
        assert {path.name for path in files} >= {"portal.sqlite", "portal.sqlite-wal"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    engine.dispose()
    for directory in ("new", "new/state", "new/state/hospital"):
        assert stat.S_IMODE((tmp_path / directory).stat().st_mode) == 0o700


def test_modes_that_somebody_has_set_are_left_alone(tmp_path, usual_umask):
    variables = {"state": str(tmp_path), **PORTS}
    tenant = load_tenants(TENANTS, ["hospital"], variables)["hospital"]
    path = tmp_path / "portal.sqlite"
    path.touch()
    path.chmod(0o660)
    tmp_path.chmod(0o750)
    Database(replace(tenant, database_url=f"sqlite:///{path}")).unchecked().dispose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750
