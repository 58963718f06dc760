"""The clock of a machine that may go wrong: every Python there takes the time from a file.

All of the product takes the time from one function; what it measures (deadlines, waits) is measured
by the monotonic clock, which does not jump on a real machine either. The function is replaced as
soon as an interpreter starts, by a ``sitecustomize`` that only that machine's processes find, and
whatever they start.
"""

import struct
from datetime import timedelta
from pathlib import Path

from medportal.core import clock

_AHEAD = struct.Struct("<d")
_SITE = """
from pathlib import Path
from faults.clocked import follow
follow(Path({file!r}))
"""


def set_up(directory: Path) -> Path:
    """Make a clock in a new directory; return its file. The directory goes into PYTHONPATH."""
    directory.mkdir()
    file = directory / "ahead"
    write(file, 0)
    (directory / "sitecustomize.py").write_text(_SITE.format(file=str(file)), "utf-8")
    return file


def write(file: Path, seconds: float) -> None:
    """Let the clock of a machine be ahead by so many seconds, or behind."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(_AHEAD.pack(seconds))
    fresh.replace(file)


def read(file: Path) -> timedelta:
    """Return by how much the clock of a machine is ahead."""
    (seconds,) = _AHEAD.unpack(file.read_bytes())
    return timedelta(seconds=seconds)


def follow(file: Path) -> None:
    """Let the product in this process go by that clock, before anything else of it is imported."""
    true_now = clock.utcnow
    clock.utcnow = lambda: true_now() + read(file)
