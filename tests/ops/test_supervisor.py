"""The supervisor stops what it started, and what that started, whatever happens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys
from medportal.ops.demonstration import Supervisor
script, *names = sys.argv[1:]
commands = {name: [sys.executable, script, name] for name in names}
supervisor = Supervisor(commands, say=lambda line: print(line, flush=True))
try:
    supervisor.start()
    status = supervisor.wait()
finally:
    supervisor.stop()
sys.exit(status)
"""
CHILD = """
import os, pathlib, signal, subprocess, sys, time
name, here = sys.argv[1], pathlib.Path(sys.argv[0]).parent
if name == "parent":
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
    (here / "grandchild").write_text(str(grandchild.pid))
if name == "missing":
    # Its end stops the others: whoever is awaited has to have begun.
    while not (here / "one").exists():
        time.sleep(0.02)
    sys.exit(3)
(here / name).write_text(str(os.getpid()))
time.sleep(99)
"""


@pytest.fixture
def supervise(tmp_path: Path):
    """Start a supervisor over children of these names; wait until they run."""
    (tmp_path / "child.py").write_text(CHILD)
    started = []

    def start(*names: str) -> tuple[subprocess.Popen, list[int]]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "child.py"), *names]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(running)
        awaited = [tmp_path / name for name in names if name != "missing"]
        awaited += [tmp_path / "grandchild"] if "parent" in names else []
        end = time.monotonic() + 30
        while not all(path.exists() and path.read_text() for path in awaited):
            assert time.monotonic() < end
            time.sleep(0.02)
        return running, [int(path.read_text()) for path in awaited]

    yield start
    for running in started:
        if running.poll() is None:
            running.kill()
        running.communicate()


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, if only just (nobody may have noticed yet)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all(supervise, number):
    running, pids = supervise("one", "two")
    running.send_signal(number)
    assert running.wait(30) == 0
    assert all(is_gone(pid) for pid in pids)


def test_a_child_that_dies_takes_all_others_and_its_own_children_along(supervise):
    running, pids = supervise("one", "parent")
    assert len(pids) == 3
    os.kill(pids[1], signal.SIGKILL)
    said, _ = running.communicate(timeout=30)
    assert running.returncode == 1
    assert said == "The parent ended by itself; stopping the others.\n"
    assert all(is_gone(pid) for pid in pids)


def test_a_child_that_cannot_start_is_named(supervise):
    running, pids = supervise("one", "missing")
    said, _ = running.communicate(timeout=30)
    assert running.returncode == 1
    assert said == "The missing ended by itself; stopping the others.\n"
    assert all(is_gone(pid) for pid in pids)
