"""The private world of a run: namespaces, a cable for each institution, disks of a stated size.

Every institution has a network namespace of its own. Between them stands the namespace of the
runner, through which everything goes: there cables are cut, and packets lost. An institution that
is called has a door there, an address of the runner's that stands for it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.cast import HOSPITAL, MOST_LABORATORIES, laboratories

ROOT = Path(__file__).resolve().parents[1]
#: A file system of the world's own; ``/tmp`` may be where the checkout lies.
PLACE = Path("/run/faults")
PROGRAMS = ("ip", "nft", "tc", "unshare", "nsenter", "setpriv", "mount")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SYSTEM_SECONDS = 30


#: The address of the middle that all institutions call, and the port of the first door there.
MIDDLE = "10.77.0.1"
_FIRST_DOOR = 4000
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Cable:
    """From the middle to one institution: the addresses at its two ends, and its door."""

    house: str
    number: int

    @property
    def interface(self) -> str:
        """Return the name of its end in the middle."""
        return f"to-house-{self.number}"

    @property
    def middle(self) -> str:
        """Return the address of its end in the middle."""
        return f"10.77.{self.number}.1"

    @property
    def end(self) -> str:
        """Return the address of the institution."""
        return f"10.77.{self.number}.2"

    @property
    def door(self) -> Address:
        """Return where the others call the institution."""
        return MIDDLE, _FIRST_DOOR + self.number


CABLES = {
    house: Cable(house, number)
    for number, house in enumerate([HOSPITAL, *laboratories(MOST_LABORATORIES)], 1)
}

_LAY = """
set -eu
mount -t tmpfs -o mode=0755 none /run
mkdir -p /run/netns {place}/tmp
ip link set lo up
ip addr add {door}/32 dev lo
"""
_CABLE = """
ip netns add {house}
ip -n {house} link set lo up
ip link add {interface} type veth peer name eth0 netns {house}
ip addr add {middle}/24 dev {interface}
ip link set {interface} up
ip -n {house} addr add {end}/24 dev eth0
ip -n {house} link set eth0 up
ip -n {house} route add {door}/32 via {middle}
"""


class WorldError(Exception):
    """Something of the world could not be made or done."""


def missing() -> str:
    """Return why this machine cannot run it, or nothing."""
    if sys.platform != "linux":
        return "not Linux: has no network namespaces"
    if os.geteuid() != 0:
        return "not root: cannot make network namespaces"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def environment() -> dict[str, str]:
    """Return what every process finds in its environment: nothing of the caller's."""
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": "/root",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "TMPDIR": str(PLACE / "tmp"),
    }


def enter(words: Sequence[str]) -> list[str]:
    """Return the command that runs ``words`` as the second process of a new world.

    The kernel kills the first when whoever started the command dies, and with it all others.
    """
    world = ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork"]
    world += ["--kill-child", "--mount-proc", "--"]
    return ["setpriv", "--pdeathsig", "KILL", *world, *words]


def run(script: str) -> str:
    """Run lines of shell in the world; return what they printed. Raises ``WorldError``."""
    done = subprocess.run(
        ["sh", "-euc", script],
        capture_output=True,
        text=True,
        timeout=_SYSTEM_SECONDS,
        env=environment(),
        check=False,
    )
    if done.returncode:
        raise WorldError(f"{script.strip()[:200]}: {done.stderr.strip()[-400:]}")
    return done.stdout


def network() -> str:
    """Return the name of the network namespace that this process is in."""
    return os.readlink("/proc/self/ns/net")


def lay(outside: str, houses: Sequence[str]) -> None:
    """Make the cables of institutions. Only inside a world: it covers ``/run``.

    ``outside`` is the :func:`network` of whoever started it. Raises ``WorldError``.
    """
    if network() == outside:
        raise WorldError("not in a world of its own")
    run(_LAY.format(place=PLACE, door=MIDDLE))
    for cable in (CABLES[house] for house in houses):
        said = {"interface": cable.interface, "middle": cable.middle, "end": cable.end}
        run(_CABLE.format(house=cable.house, door=MIDDLE, **said))


def inside(house: str, words: Sequence[str]) -> list[str]:
    """Return the command that runs ``words`` in the network of an institution."""
    return ["nsenter", f"--net=/run/netns/{house}", "--", *words]


def cut(house: str, *, silently: bool) -> None:
    """Cut a cable: packets vanish, or are refused as by a router that has no way."""
    how = "drop" if silently else "reject with tcp reset"
    interface = CABLES[house].interface
    match = "" if silently else "meta l4proto tcp "
    run(
        "nft add table inet cable\n"
        "nft 'add chain inet cable in { type filter hook input priority 0; }'\n"
        "nft 'add chain inet cable out { type filter hook output priority 0; }'\n"
        f"nft 'add rule inet cable in iifname {interface} {match}{how}'\n"
        f"nft 'add rule inet cable out oifname {interface} {match}{how}'"
    )


def lose(percent: int) -> None:
    """Lose so many of a hundred packets, in each direction of each cable."""
    run(
        "nft add table inet cable\n"
        "nft 'add chain inet cable in { type filter hook input priority 0; }'\n"
        f"nft 'add rule inet cable in numgen random mod 100 < {percent} drop'"
    )


def mend() -> None:
    """Mend every cable, and lose nothing any more."""
    run("nft delete table inet cable 2>/dev/null || true")


def delay(houses: Sequence[str], milliseconds: int) -> bool:
    """Delay packets on cables with netem; tell whether this kernel can."""
    interfaces = [CABLES[house].interface for house in houses]
    lines = [f"tc qdisc replace dev {i} root netem delay {milliseconds}ms 5ms" for i in interfaces]
    try:
        run("\n".join(lines))
    except WorldError:
        return False
    return True


def undelay(houses: Sequence[str]) -> None:
    """Delay nothing any more."""
    interfaces = [CABLES[house].interface for house in houses]
    run("\n".join(f"tc qdisc del dev {i} root 2>/dev/null || true" for i in interfaces))


def disk(directory: Path, mebibytes: int, owner: str = "root") -> None:
    """Make a disk of that size, mounted at a new directory."""
    directory.mkdir(parents=True)
    run(f"mount -t tmpfs -o size={mebibytes}m,mode=0700,uid=$(id -u {owner}) none {directory}")


def fill(directory: Path) -> int:
    """Fill a disk to its last block; return how many bytes that took."""
    block, written = bytes(1 << 16), 0
    with (directory / "ballast").open("wb", buffering=0) as file:
        while True:
            try:
                written += file.write(block)
            except OSError:
                if len(block) == 1:
                    return written
                block = block[: max(1, len(block) // 16)]


def free(directory: Path) -> None:
    """Give back what :func:`fill` took."""
    (directory / "ballast").unlink(missing_ok=True)
