"""Two institutions in one application, on each of the two engines, and people who use it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import ROOT, TENANTS, Installation, install, raw_settings
from second_factor_helpers import Clock

from medportal.core.clock import utcnow
from medportal.ops.institution import create_keys, trust_each_other
from medportal.settings import parse_settings


@pytest.fixture(scope="session")
def key_material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the keys of both institutions once; each installation gets a copy."""
    state = tmp_path_factory.mktemp("keys")
    raw = raw_settings(ROOT / "tenants", state)
    settings = parse_settings(raw)
    for tenant in settings.tenants.values():
        create_keys(settings, tenant, utcnow())
    trust_each_other(settings, utcnow())
    return state


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def portal(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    key_material: Path,
    new_database: Any,
) -> Iterator[Installation]:
    """Give an installation on each engine; the tests of a module share it."""
    urls = {tenant: new_database(request.param) for tenant in TENANTS}
    made = install(tmp_path_factory.mktemp("portal") / "p", key_material, urls)
    yield made
    made.registry.dispose()
    made.app.registry["tenants"].dispose()


@pytest.fixture(scope="module")
def module_clock() -> Clock:
    """Time only goes forward, since the tests of a module share a database."""
    return Clock()


@pytest.fixture
def clock(module_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let requests tell the time by a clock that the test moves."""
    monkeypatch.setattr("medportal.identity.policy.utcnow", module_clock)
    return module_clock
