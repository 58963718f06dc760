"""``medportal run``: one foreground supervisor for everything on one machine."""

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from medportal.core.errors import ConfigurationError
from medportal.demo.load import DemoAccount
from medportal.demo.post_office import is_open
from medportal.keys import Places
from medportal.ops.prepare import prepare
from medportal.pki.layout import Layout
from medportal.settings import Settings

STOP_SECONDS = 20
LEFT_BEHIND_SECONDS = 5
READY_SECONDS = 180
Say = Callable[[str], None]


class Launcher(Protocol):
    """What the supervisor needs of the command line above it: settings and commands."""

    def settings(self) -> Settings:
        """Return the settings."""

    def with_overrides(self, more: dict[str, str]) -> "Launcher":
        """Return the same launcher with other ini variables."""

    def portal_command(self) -> list[str]:
        """Return the command that serves the portal."""

    def own_command(self, *words: str) -> list[str]:
        """Return the command that runs the command line again."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a demonstration."""

    hospital: int
    laboratory: int
    exchange: int
    mail: int

    def options(self) -> dict[str, str]:
        """Return the ini variables that say so."""
        return {
            "hospital_port": str(self.hospital),
            "laboratory_port": str(self.laboratory),
            "exchange_port": str(self.exchange),
            "mail_port": str(self.mail),
        }

    def urls(self) -> dict[str, str]:
        """Return the addresses for a browser."""
        return {
            "hospital": f"https://hospital.localhost:{self.hospital}",
            "laboratory": f"https://laboratory.localhost:{self.laboratory}",
        }

    def each(self) -> dict[str, int]:
        """Return the ports by the name of the make variable that sets them."""
        return {
            "HOSPITAL_PORT": self.hospital,
            "LABORATORY_PORT": self.laboratory,
            "EXCHANGE_PORT": self.exchange,
            "MAIL_PORT": self.mail,
        }


def run(context: Launcher, ports: Ports, say: Say) -> int:
    """Prepare, start every process, report, and stay until one ends or a signal comes.

    Returns the exit status: 0 after a signal, 1 if a process ended by itself. Raises
    ``ConfigurationError`` for a port that is taken.
    """
    _require_free(ports)
    context = context.with_overrides(ports.options())
    settings = context.settings()
    accounts = prepare(settings, ports.urls(), say)
    supervisor = Supervisor(_commands(context), say)
    try:
        supervisor.start()
        if supervisor.wait_until(lambda: _all_healthy(settings, ports), READY_SECONDS):
            _report(settings, ports, accounts, say)
        elif supervisor.is_running:
            say("The portal did not answer in time; see the messages above.")
            return 1
        return supervisor.wait()
    finally:
        supervisor.stop()


def _require_free(ports: Ports) -> None:
    problems = []
    numbers = list(ports.each().values())
    for name, port in ports.each().items():
        if numbers.count(port) > 1:
            problems.append(f"{name}={port} is given twice: choose different ports")
            continue
        with socket.socket() as probe:
            # As servers do, so that connections just closed do not count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                problems.append(
                    f"port {port} is taken or not allowed: stop what uses it, or choose "
                    f"another with make run {name}=..."
                )
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))


def _commands(context: Launcher) -> dict[str, list[str]]:
    return {
        "portal": context.portal_command(),
        "receiver of the hospital": context.own_command("transfer", "receive", "hospital"),
        "sender of the laboratory": context.own_command("transfer", "send", "laboratory"),
        "jobs of both": context.own_command("jobs", "hospital", "laboratory"),
        "post office": context.own_command("demo", "post-office"),
    }


class Supervisor:
    """Starts processes, stops them all when told or when one of them ends."""

    def __init__(self, commands: dict[str, list[str]], say: Say) -> None:
        self._commands = commands
        self._say = say
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.is_stopping = False

    def start(self) -> None:
        """Start everything, and take the signals that mean "stop" from here on."""
        # SIGHUP is the terminal's window being closed: nothing shall go on running unseen.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        for name, command in self._commands.items():
            # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which
            # then stops the others in order.
            self._children[name] = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, start_new_session=True
            )

    @property
    def is_running(self) -> bool:
        """Whether everything runs and nobody has asked for an end."""
        return not self.is_stopping and self._ended() is None

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition; give up after so long, at a signal, or when a process ends."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.is_running:
            if condition():
                return True
            time.sleep(0.1)
        return False

    def wait(self) -> int:
        """Stay until a signal (0) or until a process ends by itself (1)."""
        while not self.is_stopping:
            ended = self._ended()
            if ended:
                self._say(f"The {ended} ended by itself; stopping the others.")
                return 1
            time.sleep(0.2)
        return 0

    def stop(self) -> None:
        """Stop every process: first asked, after a while made to."""
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for name, child in self._children.items():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"The {name} did not stop when asked and was ended.")
                child.kill()
                child.wait()
            # A process that died could not stop those that it had started itself.
            end_group(child.pid, LEFT_BEHIND_SECONDS)

    def _ended(self) -> str | None:
        for name, child in self._children.items():
            if child.poll() is not None:
                return name
        return None

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.is_stopping = True


def end_group(leader: int, seconds: float) -> None:
    """End what is left of the session that a process led: first asked, then made to."""
    if not _signal_group(leader, signal.SIGTERM):
        return
    deadline = time.monotonic() + seconds
    while _signal_group(leader, 0):
        if time.monotonic() > deadline:
            _signal_group(leader, signal.SIGKILL)
            return
        time.sleep(0.05)


def _signal_group(leader: int, number: int) -> bool:
    """Send a signal (0 only asks) to a process group; return whether it has anybody."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        # On macOS a group of processes that have ended already "is not permitted".
        return False
    return True


def _all_healthy(settings: Settings, ports: Ports) -> bool:
    return is_open(settings) and all(
        _is_healthy(settings, tenant_id, port)
        for tenant_id, port in (("hospital", ports.hospital), ("laboratory", ports.laboratory))
    )


def _is_healthy(settings: Settings, tenant_id: str, port: int) -> bool:
    authority = Layout(Places(settings.home(tenant_id)).pki).ca_certificate
    trust = ssl.create_default_context(cafile=str(authority))
    host = settings.tenant(tenant_id).hostnames[0]
    try:
        # Python's resolver does not know *.localhost: connect to the address, send the name.
        with (
            socket.create_connection(("127.0.0.1", port), timeout=2) as plain,
            trust.wrap_socket(plain, server_hostname=host) as channel,
        ):
            request = f"GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
            channel.sendall(request.encode("ascii"))
            return channel.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _report(settings: Settings, ports: Ports, accounts: list[DemoAccount], say: Say) -> None:
    say("")
    for tenant_id, url in ports.urls().items():
        authority = Layout(Places(settings.home(tenant_id)).pki).ca_certificate
        say(f"{settings.tenant(tenant_id).name('en')}: {url}")
        say(f"    certificate authority for your browser: {authority}")
        say(f"    mails that it sends: {url}/demonstration/mail")
        for account in accounts:
            if account.tenant == tenant_id:
                say(
                    f"    {account.role:<20}{account.citizen_number}  {account.password}  "
                    f"{account.name}"
                )
    say("")
    say(f"Accounts are also in {settings.state / 'demo' / 'accounts.json'}")
    say("If your browser does not find the names, add this line to /etc/hosts:")
    say("    127.0.0.1 hospital.localhost laboratory.localhost")
    say("Ready. Stop with Ctrl-C.")
