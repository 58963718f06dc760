"""Makes the simulator importable by the tests of this folder, and founds institutions for them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

sys.path.insert(0, str(Path(__file__).parent))

from crx_attackers import (  # noqa: E402
    Trio,
    check_nothing_personal,
    found_trio,
    remember_partners,
)


@pytest.fixture(scope="session")
def _founded_trio(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[str], str]
) -> Iterator[Trio]:
    trio = found_trio(tmp_path_factory.mktemp("trio"), lambda: new_database("sqlite"))
    yield trio
    for house in trio.houses:
        house.engine.dispose()


@pytest.fixture
def logbook() -> Iterator[list[Any]]:
    """Give what is logged during a test, as entries."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def trio(_founded_trio: Trio, logbook: list[Any]) -> Iterator[Trio]:
    """Give three institutions that trust each other, as new.

    After the test nothing personal may stand in any log or audit event, whatever the attack was.
    """
    _founded_trio.begin()
    put_back = [remember_partners(house) for house in _founded_trio.houses]
    try:
        yield _founded_trio
        check_nothing_personal(logbook, _founded_trio.houses)
    finally:
        for each in put_back:
            each()
