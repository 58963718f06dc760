"""The hospital and the laboratory, made once: nothing here changes their directories."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from export_files import NAMES, Institution, found  # noqa: E402


@pytest.fixture(scope="session")
def institutions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Institution]:
    root = tmp_path_factory.mktemp("exports")
    return {name: found(root / name, name) for name in NAMES}


@pytest.fixture
def hospital(institutions: dict[str, Institution]) -> Institution:
    return institutions["hospital"]


@pytest.fixture
def laboratory(institutions: dict[str, Institution]) -> Institution:
    return institutions["laboratory"]
