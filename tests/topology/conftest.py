"""The seven hosts, built once for all tests here, and a browser on the patient's machine."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from deploy.topology.demonstration import Built, attach, build  # noqa: E402
from deploy.topology.plan import PATIENT  # noqa: E402

#: Building the hosts takes minutes: `make topology-test` asks for it, `make test` does not.
if not {"MEDPORTAL_SEVEN_HOSTS", "MEDPORTAL_TOPOLOGY"} & set(os.environ):
    collect_ignore = ["test_seven_hosts.py", "test_ways.py", "test_world.py"]
PROGRAMS = ("ip", "nft", "nginx", "dnsmasq", "udhcpc", "nmap", "curl", "unshare", "nsenter")
PROGRAMS += ("setpriv", "systemd-sysusers", "pg_createcluster", "certutil", "chromium", "openssl")


@pytest.fixture(scope="session")
def able(want_present) -> None:
    """Skip where this machine cannot make the hosts."""
    want_present(os.geteuid() == 0, "not root: cannot make network namespaces")
    want_present(sys.platform == "linux", "not Linux: has no network namespaces")
    for program in PROGRAMS:
        want_present(shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"), f"no {program}")
    beside = Path(sys.executable).with_name("secantusd-py")
    want_present(beside.exists(), "SecantusDB (secantusd-py) is not installed")


@pytest.fixture(scope="session")
def seven(able) -> Iterator[Built]:
    """Give the seven hosts with nftables loaded: new ones, or those that the environment names.

    ``MEDPORTAL_TOPOLOGY`` is the file of a runner, for who works on these tests.
    """
    if running := os.environ.get("MEDPORTAL_TOPOLOGY"):
        yield attach(Path(running))
        return
    with build("nft", lambda line: print(line, flush=True)) as built:
        yield built


@pytest.fixture(scope="module")
def chromium(seven: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Give a Chromium on the patient's machine that trusts both institutions."""
    home = tmp_path_factory.mktemp("browser")
    world = seven.world
    world.script(
        "rm -rf /root/.pki; mkdir -p /root/.pki/nssdb\n"
        "certutil -d sql:/root/.pki/nssdb -N --empty-password",
        PATIENT,
    )
    for tenant, host in (("hospital", "hosb"), ("laboratory", "labb")):
        authority = world.run(["cat", f"/var/lib/medportal/{tenant}/pki/ca.crt"], host)
        add = f"certutil -d sql:/root/.pki/nssdb -A -t C,, -n {tenant}"
        world.run(["sh", "-c", add], PATIENT, text=authority)
    wrapper = home / "chromium"
    enter = " ".join(world.command(["env", "HOME=/root", "/usr/bin/chromium"], PATIENT))
    wrapper.write_text(f'#!/bin/sh\nexec {enter} "$@"\n')
    wrapper.chmod(0o700)
    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    arguments += ["--disable-sync", "--no-first-run", "--disable-quic"]
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(wrapper), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[Callable[[], Page]]:
    """Return a maker of pages, each in a profile of its own."""
    contexts = []

    def make() -> Page:
        context = chromium.new_context(locale="en-GB")
        context.set_default_timeout(30_000)
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()
