"""Two institutions in one application, on each of the two engines, and people who use it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import TENANTS, Installation, install
from second_factor_helpers import Clock


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
