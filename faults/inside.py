"""The first processes of a world: one takes in what others leave behind, its child runs.

Started by ``python -m faults``, never by hand.
"""

import argparse
import os
import sys
from pathlib import Path

from faults import run, world
from faults.houses import Wanted


def main() -> int:
    """Carry out one run; return 1 if it found a problem."""
    parser = argparse.ArgumentParser(prog="faults.inside")
    for name in ("outside", "database", "hospital-database", "documents"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("seed", "records", "rounds", "senders", "laboratories"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--settle", type=float, required=True)
    for name in ("both-ways", "clocks"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--keep", type=Path)
    said = parser.parse_args()
    # Databases run as other users: whoever starts a run may have a mask that shuts them out.
    os.umask(0o022)
    order = run.Order(
        said.seed,
        said.records,
        said.rounds,
        Wanted(said.database),
        Wanted(said.hospital_database, said.documents),
        said.settle,
        said.keep,
        said.senders,
        said.laboratories,
        said.both_ways,
        said.clocks,
    )
    world.lay(said.outside, list(order.wanted))
    child = os.fork()
    if child:
        return _take_in(child)
    figures = run.run(order, lambda line: print(line, file=sys.stderr, flush=True))
    print(run.line(figures), flush=True)
    return 1 if figures["problems"] else 0


def _take_in(child: int) -> int:
    """Wait for every process whose parent died; return the status of the child when it ends."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
