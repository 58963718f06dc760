"""Processes that are killed and started again, as a service manager would do."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from faults import world
from faults.cast import Player, Role

STOP_SECONDS = 60
#: No claim about speed: a machine with much else to do.
_COMMAND_SECONDS = 900
_WATCH_SECONDS = 0.2
#: As the units of deploy/seven-hosts say: what ended by itself is started again after a while.
_AGAIN_SECONDS = 1.0


class Process:
    """One process of an institution; of several that are for the same, each has a number."""

    def __init__(
        self, role: Role, house: str, words: Sequence[str], logs: Path, number: int = 1
    ) -> None:
        self.role, self.house = role, house
        self.name = f"{role}{number if number > 1 else ''}-{house}"
        self.log = logs / f"{self.name}.log"
        self._words = words
        self.environment = world.environment()
        self._running: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._not_before = 0.0
        #: Whether it had begun to listen to signals when it was asked to stop.
        self.has_heard = False
        self.is_wanted = False
        #: Exit statuses of ends that nobody asked for.
        self.own_ends: list[int] = []

    @property
    def player(self) -> Player:
        """Return what a plan knows of it."""
        return Player(self.name, self.role, self.house)

    def start(self) -> None:
        """Start it, or start it again."""
        with self._lock:
            self.is_wanted = True
            self._start()

    def _start(self) -> None:
        if self._running is not None and self._running.poll() is None:
            return
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                world.inside(self.house, self._words),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def kill(self) -> bool:
        """End it at once, as a crash or a power cut would; tell whether it ran."""
        with self._lock:
            self.is_wanted = False
            if self._running is None or self._running.poll() is not None:
                return False
            self._running.send_signal(signal.SIGKILL)
            self._running.wait(STOP_SECONDS)
            return True

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        with self._lock:
            if self._running is not None and self._running.poll() is None:
                self._running.send_signal(number)

    def ask_to_stop(self) -> None:
        """Ask it to end in good order."""
        with self._lock:
            self.is_wanted = self.has_heard = False
            if self._running is not None and self._running.poll() is None:
                self.has_heard = _catches(self._running.pid, signal.SIGTERM)
                self._running.terminate()

    def ended(self) -> int:
        """Wait until it has ended; return its exit status. Raises ``TimeoutExpired``."""
        return 0 if self._running is None else self._running.wait(STOP_SECONDS)

    def watch(self) -> None:
        """Start it again if it ended by itself."""
        with self._lock:
            if not self.is_wanted or self._running is None or self._running.poll() is None:
                return
            if time.monotonic() < self._not_before:
                return
            self.own_ends.append(self._running.returncode)
            self._not_before = time.monotonic() + _AGAIN_SECONDS
            self._start()


def _catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler for a signal (proc(5), SigCgt)."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


class Watch:
    """Looks after processes in a thread of its own."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_WATCH_SECONDS):
            for process in self._processes:
                process.watch()


def wait_until(done: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Wait until something is so, and tell whether it came about in time."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(every)
    return True


def run_command(house: str, words: Sequence[str], log: Path) -> str:
    """Run a command of an institution to its end; return what it printed.

    What it said on standard error joins the logs. Raises ``WorldError``.
    """
    with log.open("ab") as errors:
        done = subprocess.run(
            world.inside(house, words),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=world.environment(),
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    if done.returncode:
        said = done.stdout.decode()[-500:] + log.read_text("utf-8", "replace")[-500:]
        raise world.WorldError(f"{' '.join(words[-4:])}: {done.returncode}\n{said}")
    return done.stdout.decode()
