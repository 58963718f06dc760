"""An installation on SQLite, and the command line run on it as processes of their own."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before what follows is imported from beside this file.
sys.path.insert(0, str(Path(__file__).parent))

from cli_helpers import Commands
from installation import ROOT, TENANTS, install, raw_settings

from medportal.core.clock import utcnow
from medportal.ops.institution import create_keys, trust_each_other
from medportal.settings import parse_settings


@pytest.fixture(scope="session")
def cli_key_material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the keys of both institutions once; each installation gets a copy."""
    state = tmp_path_factory.mktemp("cli-keys")
    settings = parse_settings(raw_settings(ROOT / "tenants", state))
    for tenant in settings.tenants.values():
        create_keys(settings, tenant, utcnow())
    trust_each_other(settings, utcnow())
    return state


@pytest.fixture(scope="module")
def commands(
    tmp_path_factory: pytest.TempPathFactory, cli_key_material: Path, new_database: Any
) -> Iterator[Commands]:
    """Give two institutions with people and some patients, which a module's tests share."""
    directory = tmp_path_factory.mktemp("cli")
    urls = {tenant: new_database("sqlite") for tenant in TENANTS}
    made = Commands(install(directory / "p", cli_key_material, urls), directory)
    made.begin()
    yield made
    made.close()
    shutil.rmtree(directory)
