"""Small networks out of namespaces, for real packets: made by a test, and gone with it.

A namespace is held by a sleeping process of its own, so it ends with that process, and has no
name that another test could meet. All addresses exist inside only.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

#: Nobody sleeps for longer than a test may run.
_LONGEST = 600

#: Accepts connections on address and port, says when it listens, answers each with a word.
_LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])), reuse_port=False)
print("listening", flush=True)
server.settimeout(float(sys.argv[3]))
while True:
    peer, address = server.accept()
    peer.sendall(("from " + address[0]).encode())
    peer.close()
"""

#: Opens a connection, optionally from an address, and prints what it is told.
_CONNECT = """
import socket, sys
source = (sys.argv[4], 0) if len(sys.argv) > 4 else None
try:
    with socket.create_connection(
        (sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3]), source_address=source
    ) as one:
        print(one.recv(100).decode())
except OSError as error:
    print("refused", type(error).__name__)
"""

#: How long a connection that shall be refused is waited for: a listener that runs on the same
#: machine answers in a thousandth of it, and each refusal is shown to be the rules' by counters.
PATIENCE = 0.7


def missing() -> str:
    """Return what these tests lack on this machine, empty for nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    for program in ("ip", "nft", "unshare", "nsenter"):
        if not shutil.which(program):
            return f"{program} is not installed"
    tried = subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True, timeout=30)
    return "" if tried.returncode == 0 else "namespaces cannot be made here"


@dataclass(slots=True)
class Space:
    """One host: a network namespace with mounts of its own, held by a process."""

    name: str
    holder: subprocess.Popen[bytes]
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, *words: str) -> list[str]:
        """Return a command that runs inside."""
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", *words]

    def run(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        """Run something inside; return what it printed."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=60, input=stdin
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {words}: {done.stdout}{done.stderr}")
        return done.stdout

    def listen(self, address: str, port: int) -> None:
        """Start a listener and wait until it listens."""
        child = subprocess.Popen(
            self.command(sys.executable, "-c", _LISTEN, address, str(port), str(_LONGEST)),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "listening\n"

    def connect(self, address: str, port: int, source: str = "") -> str:
        """Open a connection; return ``from ADDRESS`` as the other end saw it, or ``refused``."""
        words = [address, str(port), str(PATIENCE), *([source] if source else [])]
        return self.run(sys.executable, "-c", _CONNECT, *words).strip()

    def nft(self, text: str) -> None:
        """Load a file of nftables."""
        self.run("nft", "-f", "-", stdin=text)

    def counter(self, name: str) -> int:
        """Return how many packets a named counter of ``inet medportal`` has seen."""
        words = self.run("nft", "list", "counter", "inet", "medportal", name).split()
        return int(words[words.index("packets") + 1])

    def close(self) -> None:
        """End what runs inside, and the namespace with it."""
        for child in [*self.children, self.holder]:
            child.kill()
            child.wait(10)
            if child.stdout:
                child.stdout.close()


class Net:
    """The namespaces of one test, and the wires between them."""

    def __init__(self) -> None:
        self.spaces: dict[str, Space] = {}
        self._wires = 0

    def add(self, name: str) -> Space:
        """Make a host that has loopback only."""
        script = f"mount --make-rprivate / && ip link set lo up && echo up && exec sleep {_LONGEST}"
        holder = subprocess.Popen(
            ["unshare", "-n", "-m", "sh", "-c", script], stdout=subprocess.PIPE
        )
        self.spaces[name] = Space(name, holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        return self.spaces[name]

    def wire(self, one: Space, interface: str, other: Space, far: str) -> None:
        """Lay a wire between two hosts, with the name of the interface at either end."""
        one.run(
            "ip", "link", "add", interface, "type", "veth",
            "peer", "name", far, "netns", str(other.holder.pid),
        )  # fmt: skip
        one.run("ip", "link", "set", interface, "up")
        other.run("ip", "link", "set", far, "up")

    def close(self) -> None:
        """End every namespace."""
        for space in self.spaces.values():
            space.close()


@contextmanager
def net() -> Iterator[Net]:
    """Give an empty network that is taken down in any case."""
    made = Net()
    try:
        yield made
    finally:
        made.close()


def private_ufw(space: Space, home: Path) -> None:
    """Give a host its own files of ufw, so that nothing of the machine's is read or changed."""
    for folder in ("/etc/ufw", "/etc/default"):
        copy = home / space.name / folder.strip("/").replace("/", "-")
        shutil.copytree(folder, copy, symlinks=True)
        space.run("mount", "--bind", str(copy), folder)
    run = home / space.name / "run"
    run.mkdir()
    # ufw's lock lies here: hosts of one test shall not wait for one another.
    space.run("mount", "--bind", str(run), "/run")


Loader = Callable[[Space, str], None]


def addresses(space: Space, interface: str, *texts: str) -> None:
    """Give an interface addresses."""
    for text in texts:
        space.run("ip", "address", "add", text, "dev", interface)


def default_route(spaces: Sequence[Space], via: str) -> None:
    """Send what hosts do not know to a router."""
    for space in spaces:
        space.run("ip", "route", "add", "default", "via", via)
