"""The whole of it: network, hosts, rules, people who can sign in."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from deploy.topology import rules
from deploy.topology.network import lay, move, open_router
from deploy.topology.plan import OUTSIDE, PATIENT, ROUTER, Plan, load_plan
from deploy.topology.walk import walk
from deploy.topology.world import World, WorldError, begin

READY_SECONDS = 90
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
            wait_for(world, f"https://portal.{tenant}.example:8443/healthz")
        yield Built(world, plan, accounts)
    finally:
        world.stop()


def wait_for(world: World, url: str) -> None:
    """Wait until a portal answers the patient. Raises ``WorldError``."""
    until = time.monotonic() + READY_SECONDS
    while True:
        said = world.attempt(["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", url], PATIENT)
        if said.stdout == "200":
            return
        if time.monotonic() > until:
            raise WorldError(f"{url} answers {said.stdout or said.returncode}")
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


__all__ = ["ROUTER", "Account", "Built", "build", "wait_for"]
