"""Real packets through the seven hosts: what passes is what the policy says, and no more.

Each connection is opened three times: with no rules anywhere (so the wires, the routes and the
listener are shown to work), with the rules, and with them taken away again.
"""

import itertools
import shutil
from collections.abc import Iterator

import netns
import pytest
from seven import POLICY, Seven

from medportal.firewall.render import Format
from medportal.firewall.rules import verdict

#: Every port of the policy, and some that nobody may ever open.
PORTS = (22, 80, 587, 3000, 4000, 5432, 8443, 27017)
FIXED = [name for name, host in POLICY.hosts.items() if host.address]
PATIENT = "192.168.50.130"
#: What hides the patient's address from the institutions.
SHOWN = "198.51.100.1"
HIDDEN_AT = POLICY.networks["remote"]
Pair = tuple[str, str, int]


@pytest.fixture(scope="module", params=Format)
def hosts(request, want_present, tmp_path_factory) -> Iterator[tuple[Seven, Format]]:
    """Give the hosts with listeners on every port, their rules not loaded."""
    want_present(not netns.missing(), netns.missing())
    if request.param == Format.UFW:
        want_present(shutil.which("ufw", path="/usr/sbin:/sbin"), "ufw is not installed")
    with netns.net() as net:
        seven = Seven(net, POLICY, tmp_path_factory.mktemp("hosts"))
        for name in FIXED:
            space = seven.host(name)
            space.listen("0.0.0.0", *PORTS)
        seven.attach("patient", "remote", PATIENT)
        relay = seven.attach("relay", "remote", "192.168.50.7", "203.0.113.25/32")
        relay.listen("0.0.0.0", 587, 25)
        seven.router.run("ip", "route", "add", "203.0.113.25", "dev", "remote")
        for hidden in ("198.51.100.1", "198.51.100.2", "198.51.100.3"):
            relay.run("ip", "route", "add", hidden, "via", "192.168.50.1")
        yield seven, request.param


@pytest.fixture
def guarded(hosts) -> Iterator[Seven]:
    """Load the rules of every host, and take them away afterwards."""
    seven, form = hosts
    for name in POLICY.hosts:
        seven.load(name, form)
    yield seven
    for name in POLICY.hosts:
        unload(seven.net.spaces[name], form)


def unload(space: netns.Space, form: Format) -> None:
    """Take a host's rules away."""
    if form == Format.NFT:
        space.run("nft", "delete", "table", "inet", "medportal")
        return
    space.run("ufw", "--force", "disable")
    space.run("iptables", "-t", "nat", "-F")


def address(name: str) -> str:
    """Return where a host of the policy is reached."""
    return str(POLICY.hosts[name].address)


def matrix(seven: Seven, sources: list[str]) -> dict[Pair, str]:
    """Open every port of every host from each source."""
    found: dict[Pair, str] = {}
    for source in sources:
        pairs = [(to, port) for to, port in itertools.product(FIXED, PORTS) if to != source]
        answers = seven.net.spaces[source].probe([(address(to), port, "") for to, port in pairs])
        found |= {
            (source, to, port): answer for (to, port), answer in zip(pairs, answers, strict=True)
        }
    return found


def passing(found: dict[Pair, str]) -> set[Pair]:
    """Return the connections that were answered."""
    return {pair for pair, answer in found.items() if answer.startswith("from ")}


def expected(pairs: set[Pair], *, obeys: bool = True) -> set[Pair]:
    """Return the connections that the policy lets pass."""
    return {
        (source, to, port)
        for source, to, port in pairs
        if verdict(
            POLICY,
            POLICY.hosts[source],
            POLICY.hosts[to],
            "tcp",
            port,
            HIDDEN_AT if source == "patient" else None,
            obeys=obeys,
        ).passes
    }


SOURCES = [*FIXED, "patient"]


def test_every_host_to_every_host_on_every_port(hosts, request):
    seven, form = hosts
    without = matrix(seven, SOURCES)
    assert passing(without) == set(without)
    request.getfixturevalue("guarded")
    with_rules = matrix(seven, SOURCES)
    wanted = expected(set(without))
    assert passing(with_rules) == wanted
    # Said once by hand, so that a mistake in both the policy and the evaluation shows.
    assert wanted == {
        ("patient", "hosf", 8443),
        ("patient", "labf", 8443),
        ("hosf", "hosb", 3000),
        ("labf", "labb", 3000),
        ("labb", "hosbs", 4000),
        ("hosbs", "hosb", 5432),
    }
    for name in POLICY.hosts:
        unload(seven.net.spaces[name], form)
    again = matrix(seven, SOURCES)
    assert passing(again) == set(again)
    for name in POLICY.hosts:
        seven.load(name, form)


def test_a_host_that_is_taken_over_gains_what_the_others_grant_and_no_more(guarded, hosts):
    seven, form = hosts
    for source in SOURCES:
        unload(seven.net.spaces[source], form)
        found = matrix(seven, [source])
        seven.load(source, form)
        assert passing(found) == expected(set(found), obeys=False), source


def test_people_from_outside_show_themselves_with_no_address_of_the_institution(guarded):
    patient = guarded.net.spaces["patient"]
    assert patient.connect(address("hosf"), 8443) == f"from {SHOWN}"
    assert guarded.net.spaces["labb"].connect(address("hosbs"), 4000) == "from 10.100.0.5"


def test_mail_goes_out_from_the_hosts_of_jobs_alone(guarded):
    relay = "203.0.113.25"
    assert guarded.net.spaces["hosb"].connect(relay, 587) == "from 198.51.100.2"
    assert guarded.net.spaces["labb"].connect(relay, 587) == "from 198.51.100.3"
    assert guarded.net.spaces["hosb"].connect(relay, 25).startswith("refused")
    assert guarded.net.spaces["hosf"].connect(relay, 587).startswith("refused")
    assert guarded.net.spaces["hosbs"].connect(relay, 587).startswith("refused")


def test_a_forged_source_does_not_come_past_the_router(guarded, hosts):
    seven, form = hosts
    patient = seven.net.spaces["patient"]
    unload(patient, form)
    before = refused(seven, form, "spoofed")
    # The laboratory's sender may reach the receiver; whoever only says so may not.
    netns.addresses(patient, "lo", "10.100.0.5/32")
    assert patient.connect(address("hosbs"), 4000, "10.100.0.5").startswith("refused")
    patient.run("ip", "address", "del", "10.100.0.5/32", "dev", "lo")
    seven.load("patient", form)
    assert refused(seven, form, "spoofed") > before


def refused(seven: Seven, form: Format, kind: str) -> int:
    """Return how many packets the router has refused of a kind."""
    if form == Format.NFT:
        return seven.router.counter(f"refused_{kind}")
    lines = seven.router.run("iptables", "-vnxL", f"mp-{kind}").splitlines()
    return sum(int(line.split()[0]) for line in lines if " DROP " in line)


def test_ping_and_ipv6_are_refused_and_counted(guarded, hosts):
    seven, form = hosts
    source, target = seven.net.spaces["hosf"], seven.net.spaces["hosb"]
    for space, text in ((source, "fd00::4/64"), (target, "fd00::5/64")):
        space.run("ip", "-6", "address", "add", text, "dev", "eth0", "nodad")
    target.listen("::", 3001)
    assert source.connect("fd00::5", 3001).startswith("refused")
    if form == Format.NFT:
        assert source.counter("refused_ipv6") > 0
    for space in (source, target):
        unload(space, form)
    # The control: it is the rules that refuse.
    assert source.connect("fd00::5", 3001) == "from fd00::4"
    for space, name in ((source, "hosf"), (target, "hosb")):
        space.run("ip", "-6", "address", "flush", "dev", "eth0")
        seven.load(name, form)
