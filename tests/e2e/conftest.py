"""The whole demonstration, started as a newcomer starts it, and a real browser."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e_running import Demonstration, start, stop
from free_ports import free_ports
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from medportal.keys import Places
from medportal.pki.layout import Layout

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    """Give a running demonstration on ports of its own."""
    home = tmp_path_factory.mktemp("demonstration")
    running = start(home / "state", free_ports(4), home / "log")
    yield running
    if running.process.poll() is None:
        assert stop(running) == 0


@pytest.fixture(scope="module")
def chromium(
    request: pytest.FixtureRequest,
    demonstration: Demonstration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Browser]:
    """Give a Chromium that trusts both institutions' authorities and nothing is ignored.

    For one module only: while Playwright runs, no other test may run an event loop.
    """
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
#: Milliseconds that a page may take to do what is expected of it, on a machine with other work.
PATIENCE = 30_000
expect.set_options(timeout=PATIENCE)
HEIGHT = 900


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[NewPage]:
    """Return a maker of pages, each in a browser profile of its own unless one is given.

    A test fails if a page logged an error of the content security policy or of a script.
    """
    contexts: list[BrowserContext] = []
    pages: list[Page] = []
    problems: list[str] = []

    def make(
        width: int = 1280, locale: str = "en-GB", context: BrowserContext | None = None
    ) -> Page:
        if context is None:
            context = chromium.new_context(locale=locale)
            contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda message: (
                problems.append(message.text) if "Content Security Policy" in message.text else None
            ),
        )
        return page

    yield make
    for page in pages:
        page.close()
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
