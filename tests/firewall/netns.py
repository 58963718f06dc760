"""Small networks out of namespaces, for real packets: made by a test, and gone with it.

A namespace is held by a sleeping process of its own, so it ends with that process, and has no
name that another test could meet. All addresses exist inside only.
"""

import json
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

#: Accepts connections on an address and ports, says when it listens, answers each with a word.
_LISTEN = """
import json, selectors, socket, sys
waiting = selectors.DefaultSelector()
for port in json.loads(sys.argv[2]):
    server = socket.create_server(
        (sys.argv[1], port), backlog=128,
        family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET,
    )
    waiting.register(server, selectors.EVENT_READ)
print("listening", flush=True)
while ready := waiting.select(float(sys.argv[3])):
    for key, _ in ready:
        peer, address = key.fileobj.accept()
        peer.sendall(("from " + address[0]).encode())
        peer.close()
"""

#: Opens connections at once, each from an address or "", and prints a line for each.
_CONNECT = """
import concurrent.futures, json, socket, sys
def one(address, port, source):
    try:
        with socket.create_connection(
            (address, port), timeout=float(sys.argv[1]),
            source_address=(source, 0) if source else None,
        ) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return "refused " + type(error).__name__
wanted = json.loads(sys.argv[2])
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(lambda words: one(*words), wanted))))
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

    def listen(self, address: str, *ports: int) -> None:
        """Start a listener and wait until it listens."""
        child = subprocess.Popen(
            self.command(sys.executable, "-c", _LISTEN, address, json.dumps(ports), str(_LONGEST)),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "listening\n"

    def connect(self, address: str, port: int, source: str = "") -> str:
        """Open a connection; return ``from ADDRESS`` as the other end saw it, or ``refused``."""
        return self.probe([(address, port, source)])[0]

    def probe(self, wanted: Sequence[tuple[str, int, str]]) -> list[str]:
        """Open many connections at once; return what :meth:`connect` does for each."""
        words = [str(PATIENCE), json.dumps(wanted)]
        return json.loads(self.run(sys.executable, "-c", _CONNECT, *words))

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
