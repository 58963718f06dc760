"""The product's program on a machine whose clock may go wrong.

``python -m faults.clocked FILE WORDS``: by how many seconds the clock is ahead stands in FILE, and
may change at any moment. All of the product takes the time from one function; what it measures
(deadlines, waits) is measured by the monotonic clock, which does not jump on a real machine either.
"""

import struct
import sys
from datetime import timedelta
from pathlib import Path

from medportal.core import clock

_AHEAD = struct.Struct("<d")


def write(file: Path, seconds: float) -> None:
    """Let the clock of a machine be ahead by so many seconds, or behind."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(_AHEAD.pack(seconds))
    fresh.replace(file)


def read(file: Path) -> timedelta:
    """Return by how much the clock of a machine is ahead."""
    (seconds,) = _AHEAD.unpack(file.read_bytes())
    return timedelta(seconds=seconds)


def main() -> None:
    """Run the product's command line by that clock."""
    file, words, true_now = Path(sys.argv[1]), sys.argv[2:], clock.utcnow
    # Before anything else of the product is imported.
    clock.utcnow = lambda: true_now() + read(file)
    from medportal.cli import main as product

    product(words, prog_name="medportal")


if __name__ == "__main__":
    main()
