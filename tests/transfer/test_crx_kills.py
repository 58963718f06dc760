"""kill -9 of sender and of receiver in mid-transfer: no record is lost, none is doubled."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from crx_institutions import House, enrol, found
from free_ports import free_port

PROCESS = Path(__file__).parent / "crx_process.py"
RECORDS, KILLS = 51, 3


@pytest.fixture
def houses(tmp_path: Path) -> tuple[House, House, int]:
    port = free_port()
    hospital, laboratory = found(tmp_path, "hospital"), found(tmp_path, "laboratory")
    enrol(hospital, laboratory, port)
    hospital.register()
    return hospital, laboratory, port


class Process:
    """A sender or receiver that can be killed and started again."""

    def __init__(self, role: str, house: House, port: int) -> None:
        self.command = [
            *(sys.executable, "-W", "ignore", str(PROCESS), role),
            *(str(house.home.parent), house.id, str(port)),
        ]
        self.log = (house.home / f"{role}.log").open("ab")
        self.start()

    def start(self) -> None:
        self.running = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)

    def kill(self) -> None:
        self.running.send_signal(signal.SIGKILL)
        self.running.wait()

    def stop(self) -> int:
        self.running.send_signal(signal.SIGTERM)
        code = self.running.wait(timeout=30)
        self.log.close()
        return code


@contextmanager
def process(role: str, house: House, port: int) -> Iterator[Process]:
    """Start a process; at the end stop it in good order and expect that it does."""
    started = Process(role, house, port)
    try:
        yield started
    except BaseException:
        started.kill()
        started.log.close()
        raise
    assert started.stop() == 0


def wait_for(done, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def _check(hospital: House, laboratory: House, tids: list[str]) -> None:
    rows = hospital.inbox()
    assert Counter(row.tid for row in rows) == Counter(tids)
    assert [row.sequence for row in rows] == list(range(1, len(tids) + 1))
    assert {row.outcome for row in rows} == {"registered"}
    sequences = {row.receipt_sequence for row in laboratory.outbox().values()}
    assert sequences == set(range(1, len(tids) + 1))


@pytest.mark.parametrize("victim", ["sender", "receiver"])
def test_fifty_records_survive_kills_of_one_side(houses, victim):
    hospital, laboratory, port = houses
    with (
        process("receive", hospital, port) as receiver,
        process("send", laboratory, port) as sender,
    ):
        killed = {"sender": sender, "receiver": receiver}[victim]
        tids: list[str] = []
        for _ in range(KILLS):
            tids += laboratory.queue("hospital", count=RECORDS // KILLS)
            reached = len(hospital.inbox())
            wait_for(lambda reached=reached: len(hospital.inbox()) > reached)
            killed.kill()
            killed.start()
        # One record more, so that the process started last is known to be up when it is stopped.
        tids += laboratory.queue("hospital")
        wait_for(lambda: {row.state for row in laboratory.outbox().values()} == {"delivered"})
    _check(hospital, laboratory, tids)


def test_what_was_entered_while_the_receiver_was_down_arrives_when_it_is_back(houses):
    hospital, laboratory, port = houses
    tids = laboratory.queue("hospital", count=3)
    with process("send", laboratory, port):
        wait_for(lambda: {row.reason for row in laboratory.outbox().values()} == {"unreachable"})
        with process("receive", hospital, port):
            wait_for(lambda: {row.state for row in laboratory.outbox().values()} == {"delivered"})
    _check(hospital, laboratory, tids)


def test_logs_hold_nothing_personal(houses):
    hospital, laboratory, port = houses
    laboratory.queue("hospital")
    with process("receive", hospital, port), process("send", laboratory, port):
        wait_for(lambda: {row.state for row in laboratory.outbox().values()} == {"delivered"})
    logs = [path.read_text() for path in hospital.home.parent.glob("*/*.log")]
    assert all(log for log in logs)
    assert not any(word in log for log in logs for word in ("17645234", "Amanda", "1980-02-03"))


def test_a_receiver_that_is_killed_leaves_no_opener_behind(houses):
    hospital, laboratory, port = houses
    with (
        process("receive", hospital, port) as receiver,
        process("send", laboratory, port),
    ):
        laboratory.queue("hospital")
        wait_for(lambda: len(hospital.inbox()) == 1)
        (opener,) = children_of(receiver.running.pid)
        receiver.kill()
        wait_for(lambda: not Path(f"/proc/{opener}").exists())
        receiver.start()
        laboratory.queue("hospital")
        wait_for(lambda: len(hospital.inbox()) == 2)


def children_of(parent: int) -> list[int]:
    """Return the processes that a process has started and that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # It ended while we looked.
            pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
            if int(rest[1]) == parent:
                found.append(int(pid))
    return found
