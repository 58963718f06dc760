"""Which tenant a Host header means."""

from pathlib import Path

import pytest
from functional_helpers import PORTS

from medportal.tenancy.loader import load_tenants
from medportal.tenancy.registry import TenantRegistry

TENANTS = Path(__file__).resolve().parents[2] / "tenants"


@pytest.fixture(scope="module")
def registry() -> TenantRegistry:
    variables = {"state": "/nowhere", **PORTS}
    return TenantRegistry(load_tenants(TENANTS, ["hospital", "laboratory"], variables))


@pytest.mark.parametrize(
    "host", ["hospital.localhost", "hospital.localhost:8443", "HOSPITAL.LocalHost:1"]
)
def test_a_name_with_or_without_a_port_is_found(registry: TenantRegistry, host: str) -> None:
    found = registry.for_host(host)
    assert found is not None
    assert found.id == "hospital"


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":8443",
        "elsewhere.example",
        # What stands behind the colon would get into addresses that we send back.
        "hospital.localhost:x@elsewhere.example",
        "hospital.localhost:8443,elsewhere.example",
        "hospital.localhost:8443, hospital.localhost:8443",
        "hospital.localhost:",
        "hospital.localhost:123456",
        "hospital.localhost:٣",
        "hospital.localhost.",
        "hospital.localhost/x",
        "x@hospital.localhost",
        "hospital.localhost\n",
        "hospital.localhost:8443\n",
        " hospital.localhost",
        "laboratory.localhost:hospital.localhost",
    ],
)
def test_anything_else_is_nobodys(registry: TenantRegistry, host: str) -> None:
    assert registry.for_host(host) is None
