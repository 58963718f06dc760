"""An installation on SQLite, and the command line run on it."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before what follows is imported from beside this file.
sys.path.insert(0, str(Path(__file__).parent))

from cli_helpers import Commands
from installation import TENANTS, install


@pytest.fixture(scope="module")
def commands(
    tmp_path_factory: pytest.TempPathFactory, key_material: Path, new_database: Any
) -> Iterator[Commands]:
    """Give two institutions with people and some patients, which a module's tests share."""
    directory = tmp_path_factory.mktemp("cli")
    urls = {tenant: new_database("sqlite") for tenant in TENANTS}
    made = Commands(install(directory / "p", key_material, urls), directory)
    made.begin()
    yield made
    made.close()
    shutil.rmtree(directory)
