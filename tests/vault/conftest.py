"""Databases for the tests of the vault."""

import pytest

from medportal.vault.passphrase import Cost


@pytest.fixture
def cheap() -> Cost:
    """Give passphrase parameters that cost no time."""
    return Cost(iterations=1, lanes=1, memory_kib=8)
