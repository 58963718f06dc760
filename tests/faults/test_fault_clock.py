"""A clock that goes wrong: all of the product takes its time from it, at any moment."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

import medportal.cli
from faults import clocked
from medportal.core import clock

DAY = 86_400


def test_the_product_is_run_by_the_clock_of_its_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, true_now, seen = tmp_path / "clock", clock.utcnow, []

    def product(words: list[str], prog_name: str) -> None:
        assert (words, prog_name) == (["jobs", "hospital"], "medportal")
        for ahead in (DAY, -DAY, 0):
            clocked.write(file, ahead)
            seen.append((ahead, clock.utcnow() - true_now()))

    clocked.write(file, 0)
    # What is changed in this process is put back.
    monkeypatch.setattr(clock, "utcnow", true_now)
    monkeypatch.setattr(medportal.cli, "main", product)
    monkeypatch.setattr(sys, "argv", ["clocked", str(file), "jobs", "hospital"])
    clocked.main()
    assert len(seen) == 3
    for ahead, difference in seen:
        assert abs(difference - timedelta(seconds=ahead)) < timedelta(seconds=5)
