"""A directory of tenant files that tests change."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "tenants"
Edit = Callable[[str, str, str], None]


@pytest.fixture
def tenant_directory(tmp_path: Path) -> Path:
    """Give a copy of the demonstration's tenant files."""
    return Path(shutil.copytree(FILES, tmp_path / "tenants"))


@pytest.fixture
def edit(tenant_directory: Path) -> Edit:
    """Give a function that replaces text, which must be there, in one tenant's file."""

    def change(name: str, old: str, new: str) -> None:
        path = tenant_directory / f"{name}.toml"
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    return change
