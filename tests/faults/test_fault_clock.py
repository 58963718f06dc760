"""A clock that goes wrong: all processes of a machine take their time from it, at any moment."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from faults import clocked
from faults.world import ROOT

DAY = 86_400
#: Says the time of the product, for every line that comes, and starts another who does the same.
SAYS = """
import subprocess, sys
from medportal.core.clock import utcnow
for line in sys.stdin:
    print(utcnow().timestamp(), flush=True)
    if line.strip() == "child":
        subprocess.run([sys.executable, "-c", "from medportal.core.clock import utcnow;"
                        "print(utcnow().timestamp(), flush=True)"], check=True)
"""


def test_a_process_and_whoever_it_starts_go_by_the_clock_of_their_machine(tmp_path: Path) -> None:
    file = clocked.set_up(tmp_path / "clock")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SAYS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{file.parent}:{ROOT}"},
    )
    with process:
        assert process.stdin and process.stdout
        for ahead in (DAY, -DAY, 0):
            clocked.write(file, ahead)
            assert clocked.read(file) == timedelta(seconds=ahead)
            process.stdin.write("child\n")
            process.stdin.flush()
            for _ in ("itself", "its child"):
                said = datetime.fromtimestamp(float(process.stdout.readline()), UTC)
                off = said - datetime.now(UTC) - timedelta(seconds=ahead)
                assert abs(off) < timedelta(minutes=1)
        process.stdin.close()
        assert process.wait(60) == 0
