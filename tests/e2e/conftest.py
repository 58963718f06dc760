"""The whole demonstration, started as a newcomer starts it, and a real browser."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from medportal.keys import Places
from medportal.pki.layout import Layout

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
START_SECONDS = 240


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass
class Demonstration:
    """A running demonstration."""

    state: Path
    ports: list[int]
    process: subprocess.Popen
    log: Path

    @property
    def accounts(self) -> list[dict[str, str]]:
        return json.loads((self.state / "demo" / "accounts.json").read_text("utf-8"))

    def account(self, tenant: str, role: str, nth: int = 0) -> dict[str, str]:
        return [a for a in self.accounts if (a["tenant"], a["role"]) == (tenant, role)][nth]

    def url(self, tenant: str) -> str:
        port = self.ports[("hospital", "laboratory").index(tenant)]
        return f"https://{tenant}.localhost:{port}"

    def command(self, *words: str) -> subprocess.CompletedProcess:
        """Run the command line on this demonstration."""
        return subprocess.run(
            [*medportal(self.state), *words],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
        )


def medportal(state: Path) -> list[str]:
    program = [sys.executable, "-m", "medportal.cli", "--config", str(ROOT / "development.ini")]
    return [*program, "--set", f"state_dir={state}"]


def start(state: Path, ports: list[int], log: Path) -> Demonstration:
    """Start the supervisor and wait until it says that it is ready."""
    hospital, laboratory, exchange = (str(port) for port in ports)
    with log.open("a") as output:
        process = subprocess.Popen(
            [
                *medportal(state),
                "run",
                "--hospital-port",
                hospital,
                "--laboratory-port",
                laboratory,
                "--exchange-port",
                exchange,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    demonstration = Demonstration(state, ports, process, log)
    deadline = time.monotonic() + START_SECONDS
    while "Ready." not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail("the demonstration did not start:\n" + log.read_text()[-4000:])
        time.sleep(0.2)
    return demonstration


def stop(demonstration: Demonstration) -> int:
    """Stop with SIGTERM; return the exit status."""
    demonstration.process.send_signal(signal.SIGTERM)
    return demonstration.process.wait(timeout=40)


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    """Give a running demonstration on ports of its own."""
    home = tmp_path_factory.mktemp("demonstration")
    running = start(home / "state", free_ports(3), home / "log")
    yield running
    if running.process.poll() is None:
        assert stop(running) == 0


@pytest.fixture(scope="session")
def chromium(
    request: pytest.FixtureRequest,
    demonstration: Demonstration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Browser]:
    """Give a Chromium that trusts both institutions' authorities and nothing is ignored."""
    want = request.getfixturevalue("want_present")
    want(CHROMIUM.exists(), "chromium is not installed")
    want(shutil.which("certutil"), "certutil (libnss3-tools) is not installed")
    home = tmp_path_factory.mktemp("browser-home")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = f"sql:{store}"
    subprocess.run(["certutil", "-d", database, "-N", "--empty-password"], check=True)
    for tenant in ("hospital", "laboratory"):
        authority = Layout(Places(demonstration.state / tenant).pki).ca_certificate
        subprocess.run(
            ["certutil", "-d", database, "-A", "-t", "C,,", "-n", tenant, "-i", str(authority)],
            check=True,
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=ARGUMENTS, env={**os.environ, "HOME": str(home)}
        )
        yield browser
        browser.close()


NewPage = Callable[..., Page]


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[NewPage]:
    """Return a maker of pages, each in a browser profile of its own.

    A test fails if a page logged an error of the content security policy or of a script.
    """
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def make(width: int = 1280, locale: str = "en-GB") -> Page:
        context = chromium.new_context(viewport={"width": width, "height": 900}, locale=locale)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda message: (
                problems.append(message.text) if "Content Security Policy" in message.text else None
            ),
        )
        return page

    yield make
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the screenshots, kept where MEDPORTAL_SHOTS says, if it does."""
    wanted = os.environ.get("MEDPORTAL_SHOTS")
    directory = Path(wanted) if wanted else tmp_path_factory.mktemp("shots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory
