"""A private world on this machine, and hosts in it.

The world is a process that is the first of its own process, mount, network, IPC and host-name
namespaces. It dies with the runner (``PR_SET_PDEATHSIG``), and with it, by the kernel, every
process in it; what they had mounted, written (to memory) and configured goes too.

A host is a network namespace ``mp-NAME`` in the world and a mount namespace with an /etc, /root,
/run, /tmp, /var/lib and /var/log of its own; the rest of the machine's files is seen, read as they
are. The program lies at /opt/medportal on each, read-only.
"""

import compileall
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.topology.plan import ROOT

PREFIX = "mp-"
START_SECONDS = 20
#: Parts of the checkout that a host has.
PARTS = ("medportal", "migrations", "pki", "firewall", "deploy", "docs", "tenants")
#: The first process: it takes in what others leave behind, and sleeps.
_FIRST = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
print("ready", flush=True)
while True:
    signal.sigtimedwait({signal.SIGCHLD}, 1)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""
_STAGE = """
set -eu
umask 022
mount -t tmpfs -o mode=0755 none /mnt
mkdir /mnt/app /mnt/venv /mnt/python /mnt/hosts
for part in {parts}; do mkdir /mnt/app/$part; mount --bind {root}/$part /mnt/app/$part; done
mount --bind {venv} /mnt/venv
mount --bind {python} /mnt/python
mount -t tmpfs -o mode=0755 none /run
mkdir /run/netns /run/mp
ip link set lo up
"""
# A Python in the home of root cannot be run by another user: its place is made anew in memory,
# for everybody to enter, with nothing of that home but Python.
_HOST = """
set -eu
umask 022
hostname {name}
own=/mnt/hosts/{name}
mkdir -p $own/etc $own/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=$own/etc,workdir=$own/work /etc
# A host has no database yet, whatever this machine has.
rm -rf /etc/postgresql
install -d -o postgres -g postgres /etc/postgresql
mount -t tmpfs -o mode=0755 none /root
mkdir -p {python}
mount --bind /mnt/python {python}
mount -t tmpfs -o mode=0755 none /opt
mkdir /opt/medportal
for part in {parts}; do
    mkdir /opt/medportal/$part
    mount --bind /mnt/app/$part /opt/medportal/$part
    mount -o remount,bind,ro /opt/medportal/$part
done
mkdir /opt/medportal/.venv
mount --bind /mnt/venv /opt/medportal/.venv
for place in /run /media /var/lib /var/log; do mount -t tmpfs -o mode=0755 none $place; done
for place in /tmp /dev/shm; do mount -t tmpfs -o mode=1777 none $place; done
mkdir -p /var/lib/misc /run/mp-units /run/credentials
install -d -o postgres -g postgres /var/lib/postgresql /var/log/postgresql /run/postgresql
umount -l /mnt
ip link set lo up
exec sleep infinity
"""


class WorldError(Exception):
    """A command in the world failed; says which and what it said."""


@dataclass
class World:
    """A running world. ``pid`` is its first process, ``inner`` hosts' sleepers as seen in it."""

    pid: int
    inner: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the world is still there."""
        return self.process is None or self.process.poll() is None

    def command(self, words: Sequence[str], host: str | None = None) -> list[str]:
        """Return the command that runs ``words`` in the world, or on one of its hosts."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", "--"]
        if host is not None:
            if host not in self.inner:
                self.inner[host] = int(self.run(["cat", f"/run/mp/{host}.pid"]))
            enter += ["nsenter", "-t", str(self.inner[host]), "-m", "-n", "-u", "--"]
        return [*enter, *words]

    def run(
        self,
        words: Sequence[str],
        host: str | None = None,
        *,
        text: str | None = None,
        seconds: float = 120,
        check: bool = True,
    ) -> str:
        """Run a command to its end and return what it printed. Raises ``WorldError``."""
        done = self.attempt(words, host, text=text, seconds=seconds)
        if check and done.returncode != 0:
            said = (done.stdout + done.stderr)[-3000:]
            where = host or "the world"
            raise WorldError(f"on {where}: {shlex.join(words)[:300]}: {done.returncode}\n{said}")
        return done.stdout

    def attempt(
        self,
        words: Sequence[str],
        host: str | None = None,
        *,
        text: str | None = None,
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        return subprocess.run(  # noqa: S603
            self.command(words, host),
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=environment(),
        )

    def script(self, text: str, host: str | None = None, seconds: float = 300) -> str:
        """Run lines of shell, which stop at the first that fails. Raises ``WorldError``."""
        return self.run(["bash", "-euo", "pipefail"], host, text=text, seconds=seconds)

    def start(self, words: Sequence[str], host: str, log: str) -> None:
        """Start a process on a host and leave it running; it ends with the world."""
        line = f"setsid -f {shlex.join(words)} </dev/null >>{shlex.quote(log)} 2>&1"
        self.run(["sh", "-c", line], host)

    def path(self, host: str, path: str) -> Path:
        """Return where a file of a host is seen from outside, as long as the world is."""
        self.command([], host)
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = status.read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            (pids,) = (line.split()[1:] for line in lines if line.startswith("NSpid:"))
            if pids[1:] == [str(self.inner[host])] and self._is_of(int(pids[0])):
                return Path(f"/proc/{pids[0]}/root{path}")
        raise WorldError(f"{host} is not there")

    def _is_of(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self.pid}/ns/pid")
        except FileNotFoundError:
            return False

    def add_host(self, name: str) -> None:
        """Make a host without links. Raises ``WorldError``."""
        script = _HOST.format(name=name, parts=" ".join(PARTS), python=sys.base_prefix)
        keep = (
            f"ip netns add {PREFIX}{name} && exec ip netns exec {PREFIX}{name}"
            f" unshare --mount --uts sh -c 'echo $$ >/run/mp/{name}.pid.new;"
            f' mv /run/mp/{name}.pid.new /run/mp/{name}.pid; exec sh -c "$0"\''
            f" {shlex.quote(script.replace('exec sleep', 'touch /run/ready; exec sleep'))}"
        )
        self.run(
            ["sh", "-c", f"setsid -f sh -c {shlex.quote(keep)} </dev/null >/run/mp/{name}.log 2>&1"]
        )
        until = time.monotonic() + START_SECONDS
        while self.attempt(["test", "-s", f"/run/mp/{name}.pid"]).returncode != 0:
            self._in_time(until, name)
        while self.attempt(["test", "-e", "/run/ready"], name).returncode != 0:
            self._in_time(until, name)

    def _in_time(self, until: float, name: str) -> None:
        if time.monotonic() > until:
            raise WorldError(f"{name}: " + self.run(["cat", f"/run/mp/{name}.log"]))
        time.sleep(0.05)

    def stop(self) -> None:
        """End every process of the world, and so all of it."""
        if self.process is not None:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait(timeout=START_SECONDS)
            if self.process.stdout is not None:
                self.process.stdout.close()


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what processes in the world find in their environment: nothing of the caller's."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": "/root", **(more or {})}


def begin() -> World:
    """Start an empty world. Raises ``WorldError``."""
    namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts"]
    process = subprocess.Popen(  # noqa: S603
        ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "--fork", "--kill-child"]  # noqa: S607
        + ["--mount-proc", sys.executable, "-I", "-S", "-c", _FIRST],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # unshare complains of a signal mask when its child is killed, which is how a world ends.
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        process.kill()
        raise WorldError("this machine makes no namespaces (root and Linux are needed)")
    (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    world = World(int(pid), process=process)
    python, venv = sys.base_prefix, sys.prefix
    # Hosts see the program read-only, and would compile it anew at each start.
    compileall.compile_dir(str(ROOT / "medportal"), quiet=2)
    world.script(_STAGE.format(parts=" ".join(PARTS), root=ROOT, venv=venv, python=python))
    return world
