"""A brief run of faults with real processes, and that nothing of a run outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults import servers, world

pytestmark = [pytest.mark.root, pytest.mark.postgresql]
ROOT = Path(__file__).resolve().parents[2]
RECORDS = 80
#: A run is bounded by itself, and takes less than a minute where nothing else runs; this is for a
#: machine on which it hangs, and one with much else to do.
SECONDS = 540


@pytest.fixture(scope="module")
def able(want_present: Callable[[object, str], None]) -> None:
    """Skip where this machine cannot make the world of a run."""
    reason = world.missing()
    want_present(not reason, f"no run of faults here: {reason}")
    want_present(servers.postgres_programs(), "PostgreSQL's server programs are not installed")
    want_present(servers.document_program(), "SecantusDB (secantusd-py) is not installed")


def command(*words: str) -> list[str]:
    """Return the command of a run that ends with this process, however that ends."""
    python = [sys.executable, "-W", "ignore", "-m", "faults"]
    hospital = ["--hospital-database", "postgresql", "--documents", "mongodb"]
    return ["setpriv", "--pdeathsig", "KILL", *python, *hospital, *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.timeout(SECONDS + 60)
def test_every_record_arrives_once_whatever_is_done_meanwhile(able):
    words = ["--seeds", "20", "--records", str(RECORDS), "--rounds", "0", "--settle", "240"]
    words += ["--laboratories", "2"]
    done = subprocess.run(
        command(*words),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        umask=0o077,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(done.stdout)
    assert found["problems"] == []
    # It was about something: records and corrections, and every kind of fault came to pass.
    assert found["records"] >= RECORDS and found["corrections"] > 0
    laboratories = ("laboratory", "laboratory-2")
    for of_each in (found["transfers"], found["connections"]):
        assert set(of_each) == {f"{name} to hospital" for name in laboratories}
    assert min(found["transfers"].values()) >= RECORDS // 2
    struck = {where.split()[0] for where in found["struck"]}
    senders = {f"sender-{name}" for name in laboratories}
    assert struck == {*senders, "receiver-hospital", "cable"}
    assert "never struck" not in found["done"]
    jobs = {f"jobs-{name}" for name in (*laboratories, "hospital")}
    servers = {"database-hospital", "documents-hospital"}
    assert set(found["killed"]) == {*senders, *jobs, *servers, "receiver-hospital"}
    assert min(found["killed"].values()) >= 1
    for kind in ("cuts", "losses", "full disks", "power cuts"):
        assert found["done"][kind] == 1
    assert found["samples"] > 0 and min(found["connections"].values()) > 3


def processes_in(pid_namespace: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            if os.readlink(entry) == pid_namespace:
                found.append(entry.parts[2])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def child_of(pid: int) -> int:
    """Return the one process that another one started, once it has."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    until = time.monotonic() + 30
    while not (found := children.read_text().split()):
        assert time.monotonic() < until, "it started nothing"
        time.sleep(0.02)
    return int(found[0])


def test_kill_9_of_the_runner_leaves_nothing(able):
    runner = subprocess.Popen(
        command("--records", "50"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        first = child_of(child_of(runner.pid))
        namespace = os.readlink(f"/proc/{first}/ns/pid")
        assert namespace != os.readlink("/proc/self/ns/pid")
        until = time.monotonic() + 120
        # The first, the run, and servers and commands of both institutions.
        while len(processes_in(namespace)) < 4:
            assert time.monotonic() < until, "the run did not begin"
            time.sleep(0.05)
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    until = time.monotonic() + 30
    while processes_in(namespace):
        assert time.monotonic() < until, "processes of the world are left"
        time.sleep(0.1)
    assert str(world.PLACE) not in Path("/proc/self/mountinfo").read_text()
    links = subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    assert "to-house" not in links
    assert not Path("/run/netns/laboratory").exists()


def test_it_never_lays_its_cables_in_the_machines_own_network(able):
    with pytest.raises(world.WorldError, match="not in a world of its own"):
        world.lay(world.network(), ["hospital"])
