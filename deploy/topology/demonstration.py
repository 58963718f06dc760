"""The whole of it: network, hosts, rules, people who can sign in."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deploy.topology import rules
from deploy.topology.network import lay, move, open_router
from deploy.topology.plan import OUTSIDE, PATIENT, Plan, load_plan
from deploy.topology.walk import walk
from deploy.topology.world import World, WorldError, begin

#: No claim about speed: a busy machine compiles pages for minutes.
READY_SECONDS = 300
#: Where a runner says which world is its own, and who can sign in: for `move`, `exec` and tests.
RUNNING = Path(tempfile.gettempdir()) / f"medportal-topology-{os.getuid()}.json"
BACKENDS = {"hospital": "hosb", "laboratory": "labb"}


class Account(NamedTuple):
    """Somebody who can sign in."""

    tenant: str
    url: str
    role: str
    name: str
    citizen_number: str
    password: str


@dataclass(frozen=True, slots=True)
class Built:
    """What runs."""

    world: World
    plan: Plan
    accounts: list[Account]


@contextmanager
def build(form: str, say: Callable[[str], None], *, people: bool = True) -> Iterator[Built]:
    """Build everything with rules of a form (``none``, ``nft``, ``ufw``); remove it at the end.

    Raises ``WorldError``.
    """
    plan = load_plan()
    world = begin()
    try:
        say("Network: router, " + ", ".join(plan.hosts) + ", patient")
        lay(world, plan)
        world.script("cat /opt/medportal/deploy/seven-hosts/etc-hosts >>/etc/hosts", PATIENT)
        if form == "none":
            open_router(world, plan)
        walk(world, say)
        if form != "none":
            say(f"Rules: {form}")
            rules.load(world, plan.firewalled, form)
        accounts = [a for tenant in BACKENDS for a in _people(world, tenant)] if people else []
        say("Waiting until both portals answer")
        move(world, plan, OUTSIDE)
        for tenant in BACKENDS:
            wait_for(world, tenant)
        yield Built(world, plan, accounts)
    finally:
        world.stop()


def remember(built: Built, file: Path) -> None:
    """Write to a private file what runs."""
    said = {"pid": built.world.pid, "accounts": [a._asdict() for a in built.accounts]}
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        json.dump(said, opened)


def attach(file: Path) -> Built:
    """Return what another runner keeps up. Raises ``WorldError`` where none does."""
    try:
        said = json.loads(file.read_text("utf-8"))
        os.kill(said["pid"], 0)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise WorldError("nothing runs: start it with `make topology`") from error
    return Built(World(said["pid"]), load_plan(), [Account(**a) for a in said["accounts"]])


def wait_for(world: World, tenant: str) -> None:
    """Wait until a portal answers the patient. Raises ``WorldError`` with the end of its log."""
    url = f"https://portal.{tenant}.example:8443/healthz"
    until = time.monotonic() + READY_SECONDS
    while True:
        said = world.attempt(["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", url], PATIENT)
        if said.stdout == "200":
            return
        if time.monotonic() > until:
            logs = ["sh", "-c", "tail -n 5 /var/log/medportal-*.log"]
            ends = world.attempt(logs, BACKENDS[tenant]).stdout
            raise WorldError(f"{url} answers {said.stdout or said.returncode}\n{ends}")
        time.sleep(0.5)


# Only a tenant that says that it is a demonstration takes made-up people, and no production
# process serves one: so both are said for this one command.
_PEOPLE = """
mkdir -p /tmp/people/tenants
sed 's/^kind = /demonstration = true\\nkind = /' /etc/medportal/tenants/{tenant}.toml \
    >/tmp/people/tenants/{tenant}.toml
sed -e 's|^medportal.tenants_dir = .*|medportal.tenants_dir = /tmp/people/tenants|' \
    -e 's|^medportal.production = .*|medportal.production = false|' \
    -e 's|medportal-portal.service|people|' /etc/medportal/portal.ini >/tmp/people/people.ini
install -d -o medportal -m 0700 /run/credentials/people
install -o medportal -m 0400 /etc/medportal/credentials/p*.passphrase /run/credentials/people/
export PYTHONPATH=/opt/medportal PYTHONWARNINGS=ignore
runuser -u medportal -- /opt/medportal/.venv/bin/medportal --json --config /tmp/people/people.ini \
    demo people {tenant} --url https://portal.{tenant}.example:8443
rm -r /tmp/people /run/credentials/people
"""


def _people(world: World, tenant: str) -> list[Account]:
    """Register the original's people at an institution, with passwords made here."""
    said = world.script(_PEOPLE.format(tenant=tenant), BACKENDS[tenant])
    return [Account(**json.loads(line)) for line in said.splitlines() if line.startswith("{")]
