"""``python -m faults``: runs, one after another; a line of JSON for each."""

import argparse
import subprocess
import sys
from pathlib import Path

from faults import world
from faults.cast import MOST_LABORATORIES


def main() -> int:
    """Run the command line; return 1 if a run found a problem, 2 if none can be made here."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--seeds", default="1", help="one or more, separated by commas")
    parser.add_argument("--records", type=int, default=2000, help="versions, of all institutions")
    parser.add_argument("--rounds", type=int, default=3, help="0: a brief plan")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--hospital-database", choices=["sqlite", "postgresql"])
    parser.add_argument("--documents", choices=["sql", "mongodb"], default="sql")
    counts = range(1, MOST_LABORATORIES + 1)
    parser.add_argument("--laboratories", type=int, choices=counts, default=1)
    parser.add_argument("--both-ways", action="store_true", help="the hospital sends as well")
    parser.add_argument("--clocks", action="store_true", help="clocks go wrong as well")
    parser.add_argument(
        "--senders", type=int, default=1, help="of each laboratory; more than one: PostgreSQL only"
    )
    parser.add_argument("--settle", type=float, default=600, help="seconds that healing may take")
    parser.add_argument("--keep", type=Path, help="where to put the logs of the runs")
    said = parser.parse_args()
    if said.senders < 1:
        parser.error("there is one sender at least")
    if said.senders > 1 and said.database == "sqlite":
        parser.error("several senders of one institution need --database postgresql")
    if reason := world.missing():
        print(f"faults: {reason}", file=sys.stderr)
        return 2
    return max(_run(said, seed) for seed in said.seeds.split(","))


def _run(said: argparse.Namespace, seed: str) -> int:
    words = [sys.executable, "-m", "faults.inside", "--outside", world.network(), "--seed", seed]
    for name in (
        *("records", "rounds", "database", "documents"),
        *("settle", "senders", "laboratories"),
    ):
        words += [f"--{name}", str(getattr(said, name))]
    words += ["--hospital-database", said.hospital_database or said.database]
    words += ["--both-ways"] * said.both_ways + ["--clocks"] * said.clocks
    if said.keep:
        words += ["--keep", str((said.keep / f"seed-{seed}").resolve())]
    command = world.enter(words)
    done = subprocess.run(command, cwd=world.ROOT, env=world.environment(), check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
