"""The world of the seven hosts: what it is made of ends with its runner, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.topology.plan import PATIENT, load_plan
from deploy.topology.walk import blocks

pytestmark = [pytest.mark.root]
ROOT = Path(__file__).resolve().parents[2]
RUNNER = """
import time
from deploy.topology.network import lay
from deploy.topology.plan import load_plan
from deploy.topology.world import begin
world = begin()
lay(world, load_plan())
print(world.pid, flush=True)
time.sleep(600)
"""


def processes_in(pid_namespace: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            if os.readlink(entry) == pid_namespace:
                found.append(entry.parts[2])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_kill_9_of_the_runner_leaves_nothing(able):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER], stdout=subprocess.PIPE, env=environment
    )
    try:
        pid = int(runner.stdout.readline())
        namespace = os.readlink(f"/proc/{pid}/ns/pid")
        # The first process, a sleeper on each host, and the router's server of addresses.
        assert len(processes_in(namespace)) > len(load_plan().namespaces)
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        runner.stdout.close()
    until = time.monotonic() + 30
    while processes_in(namespace):
        assert time.monotonic() < until, "processes of the world are left"
        time.sleep(0.1)
    mounts = Path("/proc/self/mountinfo").read_text()
    assert "/run/mp" not in mounts and "/mnt/app" not in mounts
    names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert "mp-" not in names


def test_every_block_of_the_document_names_hosts_that_there_are():
    known = {*load_plan().hosts, "everywhere"}
    found = list(blocks())
    assert len(found) > 10
    assert {host for block in found for host in block.hosts} == known
    assert PATIENT not in known
    # What is for another day comes after what is for the first.
    assert [block.is_later for block in found] == sorted(block.is_later for block in found)
