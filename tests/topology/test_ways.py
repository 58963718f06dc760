"""Every host to every host on every interesting port, with nftables and with ufw.

A network of its own, without the program: a listener stands on every port of every host.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.topology import matrix, rules
from deploy.topology.matrix import Patience, Way
from deploy.topology.network import lay, move
from deploy.topology.plan import OUTSIDE, PATIENT, Plan, load_plan
from deploy.topology.world import World, begin
from medportal.firewall.loader import load
from medportal.firewall.policy import Host
from medportal.firewall.rules import verdict

pytestmark = [pytest.mark.root]
ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "topology.md"
#: The patient in a network of an institution.
INSIDE = ("patient at hospital", "patient at laboratory")
#: What the policy says, by hand: the one list that is not derived from it.
OPEN = {
    *(
        Way(f"patient at {network}", edge, 8443)
        for network in ("hospital", "laboratory", "remote")
        for edge in ("hosf", "labf")
    ),
    Way("hosf", "hosb", 3000),
    Way("labf", "labb", 3000),
    Way("labb", "hosbs", 4000),
    Way("hosbs", "hosb", 5432),
}
#: How long a connection may take that must not come about, and one that must, in seconds.
REFUSED, OPENED = 2, 20
POLICY = load(ROOT / "firewall" / "policy.toml")


def waiting_for(ways: Collection[Way]) -> Patience:
    """Be patient with what has to open: a busy machine refuses nothing."""
    return lambda way: OPENED if way in ways else REFUSED


@pytest.fixture(scope="module", params=["nft", "ufw"])
def network(request, able) -> Iterator[tuple[World, Plan, str]]:
    """Give the network with rules loaded and listeners on every port."""
    plan, world = load_plan(), begin()
    try:
        lay(world, plan)
        rules.load(world, plan.firewalled, request.param)
        matrix.listen(world, plan)
        yield world, plan, request.param
    finally:
        world.stop()


def opened(found: dict[Way, bool]) -> set[Way]:
    return {way for way, is_open in found.items() if is_open}


def test_every_way_is_as_the_policy_says_and_it_is_the_rules_that_refuse(network):
    world, plan, form = network
    loaded = matrix.measure(world, plan, waiting_for(OPEN))
    assert len(loaded) == 540
    assert opened(loaded) == OPEN
    # The control: without rules every one of them opens.
    for host in plan.firewalled:
        rules.off(world, host, form)
    assert opened(matrix.measure(world, plan, waiting_for(loaded))) == set(loaded)
    for host in plan.firewalled:
        rules.on(world, host, form)
    assert opened(matrix.measure(world, plan, waiting_for(OPEN), [OUTSIDE])) == opened(
        {way: is_open for way, is_open in loaded.items() if way.source not in INSIDE}
    )
    # The document shows what was measured.
    assert matrix.render(loaded) in DOCUMENT.read_text("utf-8")


def party(said: str) -> Host:
    """Return the policy's host that a way names; the patient's is where the way says."""
    name, _, at = said.partition(" at ")
    host = POLICY.hosts[name]
    return replace(host, networks=(POLICY.networks[at],)) if at else host


def granted(way: Way, off: Collection[str]) -> bool:
    """Whether the policy lets a way pass while some hosts have no rules."""
    source, target = party(way.source), party(way.target)
    return verdict(POLICY, source, target, "tcp", way.port, off=off).passes


@pytest.mark.parametrize("network", ["nft"], indirect=True)
@pytest.mark.parametrize("host", load_plan().firewalled)
def test_a_host_without_its_rules_gains_what_the_others_grant_and_no_more(network, host):
    """The control for each host: what its own rules refuse, and what others refuse for it."""
    world, plan, form = network
    ways = matrix.ways(plan, OUTSIDE)
    # The patient's machine has no rules of ours.
    wanted = {way for way in ways if granted(way, (host, PATIENT))}
    assert wanted > {way for way in OPEN if way in ways}
    assert wanted < set(ways)
    rules.off(world, host, form)
    try:
        found = matrix.measure(world, plan, waiting_for(wanted), [OUTSIDE])
    finally:
        rules.on(world, host, form)
    assert set(found) == set(ways)
    assert opened(found) == wanted


def test_from_outside_a_scanner_sees_the_portals_only(network):
    world, plan, _form = network
    move(world, plan, "remote")
    addresses = [host.address for host in plan.hosts.values()]
    addresses += [network.gateway for network in plan.networks.values()]
    scan = ["nmap", "-Pn", "-n", "-sS", "--max-retries", "2", "--min-rate", "2000", "-T4"]
    scan += ["-p", "1-1024,3000,4000,5432,8443,27017", "-oG", "-", *addresses]
    said = world.run(scan, PATIENT, seconds=240)
    seen = set()
    for line in said.splitlines():
        if found := re.match(r"Host: (\S+) .*Ports: (.*)", line):
            ports = re.findall(r"(\d+)/open/", found[2])
            seen |= {(found[1], int(port)) for port in ports}
    assert seen == {("10.0.0.4", 8443), ("10.100.0.4", 8443)}
