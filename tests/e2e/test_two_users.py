"""Sender and receiver as two system users with a directory each: they share the network only."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crx_institutions import TENANTS, House, enrol, found
from free_ports import free_port

LAUNCHER = Path(__file__).parent / "e2e_as_user.py"
RECEIVER, SENDER = "daemon", "nobody"
INI = """[app:main]
use = egg:medportal
medportal.production = false
medportal.tenants = {tenant}
medportal.tenants_dir = %(here)s/tenants
medportal.state_dir = %(here)s/state
medportal.variable.exchange_port = {port}
medportal.variable.mail_port = 2525
medportal.variable.hospital_port = 8443
medportal.variable.laboratory_port = 8444
"""


@pytest.fixture
def root(want_present):
    """Skip where there are no two users to become."""
    want_present(os.geteuid() == 0, "not root: cannot run processes as other system users")
    names = {user.pw_name for user in pwd.getpwall()}
    want_present({RECEIVER, SENDER} <= names, f"no system users {RECEIVER} and {SENDER}")


@pytest.fixture
def hosts(root) -> Iterator[tuple[House, House]]:
    """Give two institutions in directories that only one system user each may enter."""
    # Not below pytest's own directory: that is for root only.
    place = Path(tempfile.mkdtemp(prefix="medportal-users-"))
    place.chmod(0o711)
    port = free_port()
    houses = []
    for name in ("hospital", "laboratory"):
        host = place / name
        (host / "tenants").mkdir(parents=True)
        shutil.copy(TENANTS / f"{name}.toml", host / "tenants")
        (host / "medportal.ini").write_text(INI.format(tenant=name, port=port))
        houses.append(found(host / "state", name, port))
    hospital, laboratory = houses
    enrol(hospital, laboratory, port)
    yield hospital, laboratory
    for house in houses:
        house.engine.dispose()
    shutil.rmtree(place)


def give(house: House, user: str) -> Path:
    """Make a host's directory the user's own and nobody else's."""
    host = house.home.parent.parent
    for path in [host, *host.rglob("*")]:
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
    host.chmod(0o700)
    return host


@contextmanager
def process(user: str, host: Path, log: Path, *words: str) -> Iterator[subprocess.Popen]:
    """Run a command as a user; at the end stop it in good order."""
    config = str(host / "medportal.ini")
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(LAUNCHER), user, "--config", config, *words],
            stdout=output,
            stderr=output,
            cwd="/",
        )
    try:
        yield running
    except BaseException:
        running.kill()
        running.wait()
        raise
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=30) == 0, log.read_text()


def can_read(user: str, path: Path) -> bool:
    """Tell whether a user can read a file, or list a directory."""
    program = "/bin/ls" if path.is_dir() else "/bin/cat"
    tried = subprocess.run(
        [program, str(path)],
        user=user,
        group=pwd.getpwnam(user).pw_gid,
        extra_groups=[],
        capture_output=True,
        cwd="/",
    )
    return tried.returncode == 0


def uids_of(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("Uid:"))
    return set(line.split()[1:])


def test_a_record_passes_between_users_who_cannot_read_each_other(hosts, tmp_path):
    hospital, laboratory = hosts
    hospital.register()
    (tid,) = laboratory.queue("hospital")
    hospital.engine.dispose()
    laboratory.engine.dispose()
    at_hospital, at_laboratory = give(hospital, RECEIVER), give(laboratory, SENDER)
    logs = tmp_path / "receiver.log", tmp_path / "sender.log"
    with (
        process(RECEIVER, at_hospital, logs[0], "transfer", "receive", "hospital") as receiver,
        process(SENDER, at_laboratory, logs[1], "transfer", "send", "laboratory") as sender,
    ):
        end = time.monotonic() + 60
        while laboratory.outbox()[tid].state != "delivered":
            told = "\n".join(log.read_text() for log in logs)
            assert receiver.poll() is None and sender.poll() is None, told
            assert time.monotonic() < end, told
            time.sleep(0.2)
        assert uids_of(receiver.pid) == {str(pwd.getpwnam(RECEIVER).pw_uid)}
        assert uids_of(sender.pid) == {str(pwd.getpwnam(SENDER).pw_uid)}
    assert [(row.tid, row.outcome) for row in hospital.inbox()] == [(tid, "registered")]

    for user, own, other in (
        (RECEIVER, at_hospital, at_laboratory),
        (SENDER, at_laboratory, at_hospital),
    ):
        mine = [own, own / "medportal.ini", *own.rglob("*.pem")]
        theirs = [other, other / "medportal.ini", *other.rglob("*.pem"), *other.rglob("*.sqlite")]
        assert len(mine) > 2 and len(theirs) > 3
        assert all(can_read(user, path) for path in mine)
        assert not any(can_read(user, path) for path in theirs)
