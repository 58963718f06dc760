"""Real packets through the seven hosts: what passes is what the policy says, and no more.

Each connection is first opened with no rules anywhere, so the wires, the routes and the listeners
are shown to work, and then with the rules.
"""

import itertools
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

import netns
import pytest
from seven import POLICY, SHIPPED, Seven

from medportal.firewall.policy import parse
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
SOURCES = [*FIXED, "patient"]


@dataclass(frozen=True, slots=True)
class Guarded:
    """The hosts with their rules loaded, and what every connection gave before they were."""

    seven: Seven
    form: Format
    before: dict[Pair, str]

    def space(self, name: str) -> netns.Space:
        """Return a host."""
        return self.seven.net.spaces[name]


@pytest.fixture(scope="module", params=Format)
def hosts(request, want_present, tmp_path_factory) -> Iterator[Guarded]:
    """Give the hosts with listeners on every port and their rules."""
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
        open_before = matrix(seven, SOURCES)
        for name in POLICY.hosts:
            seven.load(name, request.param)
        yield Guarded(seven, request.param, open_before)


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


def test_every_host_to_every_host_on_every_port(hosts):
    # The control: the wires, the routes and the listeners let everything through.
    assert len(hosts.before) == len(PORTS) * (len(FIXED) * len(FIXED))
    assert passing(hosts.before) == set(hosts.before)
    wanted = expected(set(hosts.before))
    assert passing(matrix(hosts.seven, SOURCES)) == wanted
    # Said once by hand, so that a mistake in both the policy and the evaluation shows.
    assert wanted == {
        ("patient", "hosf", 8443),
        ("patient", "labf", 8443),
        ("hosf", "hosb", 3000),
        ("labf", "labb", 3000),
        ("labb", "hosbs", 4000),
        ("hosbs", "hosb", 5432),
    }


def test_without_the_rules_everything_passes_again(hosts):
    # Two hosts of one network: what lies between them is their own rules alone.
    for name in ("hosf", "hosb"):
        unload(hosts.space(name), hosts.form)
    assert len(passing(matrix(hosts.seven, ["hosf"])) & _of("hosf", "hosb")) == len(PORTS)
    for name in ("hosf", "hosb"):
        hosts.seven.load(name, hosts.form)
    assert passing(matrix(hosts.seven, ["hosf"])) == {("hosf", "hosb", 3000)}


def _of(source: str, target: str) -> set[Pair]:
    return {(source, target, port) for port in PORTS}


@pytest.mark.parametrize("source", SOURCES)
def test_a_host_that_is_taken_over_gains_what_the_others_grant_and_no_more(hosts, source):
    unload(hosts.space(source), hosts.form)
    found = matrix(hosts.seven, [source])
    hosts.seven.load(source, hosts.form)
    assert passing(found) == expected(set(found), obeys=False)


def test_people_from_outside_show_themselves_with_no_address_of_the_institution(hosts):
    assert hosts.space("patient").connect(address("hosf"), 8443) == f"from {SHOWN}"
    assert hosts.space("labb").connect(address("hosbs"), 4000) == "from 10.100.0.5"


def test_mail_goes_out_from_the_hosts_of_jobs_alone(hosts):
    relay = "203.0.113.25"
    assert hosts.space("hosb").connect(relay, 587) == "from 198.51.100.2"
    assert hosts.space("labb").connect(relay, 587) == "from 198.51.100.3"
    for name, port in (("hosb", 25), ("hosf", 587), ("hosbs", 587)):
        assert hosts.space(name).connect(relay, port).startswith("refused")


def test_a_forged_source_does_not_come_past_the_router(hosts):
    patient = hosts.space("patient")
    unload(patient, hosts.form)
    before = refused(hosts, "spoofed")
    # The laboratory's sender may reach the receiver; whoever only says so may not.
    netns.addresses(patient, "lo", "10.100.0.5/32")
    assert patient.connect(address("hosbs"), 4000, "10.100.0.5").startswith("refused")
    patient.run("ip", "address", "del", "10.100.0.5/32", "dev", "lo")
    hosts.seven.load("patient", hosts.form)
    assert refused(hosts, "spoofed") > before


def refused(hosts: Guarded, kind: str) -> int:
    """Return how many packets the router has refused of a kind."""
    if hosts.form == Format.NFT:
        return hosts.seven.router.counter(f"refused_{kind}")
    lines = hosts.seven.router.run("iptables", "-vnxL", f"mp-{kind}").splitlines()
    return sum(int(line.split()[0]) for line in lines if " DROP " in line)


def test_ipv6_is_refused_and_counted(hosts):
    source, target = hosts.space("hosf"), hosts.space("hosb")
    for space, text in ((source, "fd00::4/64"), (target, "fd00::5/64")):
        space.run("ip", "-6", "address", "add", text, "dev", "eth0", "nodad")
    target.listen("::", 3001)
    assert source.connect("fd00::5", 3001).startswith("refused")
    if hosts.form == Format.NFT:
        assert source.counter("refused_ipv6") > 0
    for space in (source, target):
        unload(space, hosts.form)
    # The control: it is the rules that refuse.
    assert source.connect("fd00::5", 3001) == "from fd00::4"
    for space in (source, target):
        space.run("ip", "-6", "address", "flush", "dev", "eth0")
        hosts.seven.load(space.name, hosts.form)


def test_new_connections_of_one_address_are_limited_and_counted(want_present, tmp_path):
    want_present(not netns.missing(), netns.missing())
    narrow = tomllib.loads(SHIPPED.read_text("utf-8"))
    # Sixty at once: more than any machine could spread over sixty seconds.
    narrow["services"]["portal"] |= {"new_per_second": 1, "burst": 3}
    policy = parse("narrow", narrow)
    with netns.net() as net:
        seven = Seven(net, policy, tmp_path)
        hosf, hosb = seven.host("hosf"), seven.host("hosb")
        hosb.listen("0.0.0.0", 3000)
        many = [(address("hosb"), 3000, "")] * 60
        assert all(answer.startswith("from") for answer in hosf.probe(many))
        seven.load("hosb", Format.NFT)
        hosf.probe(many)
        assert hosb.counter("limited_portal") > 0
        # Refused for being many, not for being unknown.
        assert hosb.counter("refused_input") == 0
