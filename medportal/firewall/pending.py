"""Rules that are loaded and not yet confirmed: what is remembered of them, in one directory.

One lock lets one command at a time touch rules. ``pending.json`` holds what was before and when
it comes back; while it is there nothing else may be loaded.
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from medportal.firewall.errors import FirewallError

#: Memory that a restart empties, like the rules themselves.
DEFAULT_STATE = Path("/run/medportal-firewall")
#: How long a command waits for another that loads or takes back; either needs a moment.
_PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Pending:
    """Rules of ``host`` that go at ``deadline`` (seconds since the machine started).

    ``before`` is the former table as ``nft`` wrote it, empty where there was none.
    """

    host: str
    deadline: float
    before: str
    token: str

    @property
    def left(self) -> float:
        """Return how many seconds are left, never below zero."""
        return max(0.0, self.deadline - now())


def now() -> float:
    """Return seconds since the machine started, sleep included: no clock that people set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def new(host: str, seconds: float, before: str) -> Pending:
    """Return what is to be remembered of rules that are about to be loaded."""
    return Pending(host, now() + seconds, before, secrets.token_hex(8))


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the lock of a directory. Raises ``FirewallError`` where another holds it for long."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        _take(lock.fileno())
        yield


def _take(lock: int) -> None:
    until = now() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if now() > until:
                raise FirewallError("another command is changing the rules; try again") from None
            time.sleep(0.05)
        else:
            return


def read(state: Path) -> Pending | None:
    """Return what waits to be confirmed, if anything does."""
    try:
        return Pending(**json.loads((state / "pending.json").read_text("utf-8")))
    except FileNotFoundError:
        return None


def write(state: Path, pending: Pending) -> None:
    """Remember rules; whole or not at all."""
    part = state / "pending.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(asdict(pending), file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(state / "pending.json")


def settle(state: Path, pending: Pending, *, kept: bool) -> None:
    """Forget rules that waited, but for how it ended: whoever still waits asks for that."""
    (state / "last").write_text(f"{pending.token} {kept}", "ascii")
    (state / "pending.json").unlink()


def was_kept(state: Path, token: str) -> bool:
    """Tell whether rules that no longer wait were confirmed."""
    return (state / "last").read_text("ascii") == f"{token} {True}"
