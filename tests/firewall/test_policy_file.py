"""The policy's file: every mistake at once, each with its key and what would be right."""

import copy
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seven import POLICY, SHIPPED

from medportal.core.errors import ConfigurationError
from medportal.firewall.loader import load
from medportal.firewall.policy import parse
from medportal.firewall.render import Format, render
from medportal.firewall.words import Level, findings, sentences

DATA = tomllib.loads(SHIPPED.read_text("utf-8"))


def changed(path: str, value: object) -> dict:
    """Return the shipped policy with one value changed; ``None`` takes it out."""
    data = copy.deepcopy(DATA)
    *parents, last = path.split("/")
    place = data
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


def problems(data: object) -> tuple[str, ...]:
    """Return what is wrong with a policy."""
    with pytest.raises(ConfigurationError) as caught:
        parse("policy", data)
    return caught.value.problems


MISTAKES = [
    ("hosts/hosb/network", "hospitle", "hosts.hosb.network: must be a network: hospital,"),
    ("hosts/hosb/address", "10.0.0.4", "hosts.hosf: 10.0.0.4 is also that of hosts.hosb"),
    ("hosts/hosb/address", "10.0.0.1", "networks.hospital.gateway: 10.0.0.1 is also that"),
    ("hosts/hosb/address", "10.0.0.255", "hosts.hosb.address: must be an address of a machine in"),
    ("hosts/hosb/address", "10.100.0.9", "hosts.hosb.address: must be an address of a machine in"),
    ("hosts/hosb/address", "10.0.0.130", "hosts.hosb.address: must not lie in 10.0.0.128/26"),
    ("hosts/hosb/address", "fd00::5", "hosts.hosb.address: must be the IPv4 address"),
    ("hosts/hosb/address", 10, "hosts.hosb.address: must be the IPv4 address"),
    ("hosts/hosb/adress", "10.0.0.5", "hosts.hosb.adress: is not a known key"),
    ("hosts/hosb/roles", "portal", "hosts.hosb.roles: must be a list"),
    ("hosts/hosb/roles", ["hosf", "portal", "jobs", "store"], "hosf: is the name of 2 things"),
    ("hosts/hosb", "10.0.0.5", "hosts.hosb: must be a table"),
    ("hosts/HOSB", {}, "hosts.HOSB: must be a name"),
    ("hosts/anybody", {"network": "hospital", "address": "10.0.0.9"}, "anybody: is the name of 2"),
    ("hosts/patient/networks", ["moon"], "hosts.patient.networks: must be a list of networks"),
    ("hosts/router/router", False, "hosts: must hold one host with router = true"),
    ("hosts/router/router", 1, "hosts.router.router: must be true or false"),
    ("networks/hospital/address", "10.100.0.0/16", "networks.hospital: address overlaps that of"),
    ("networks/hospital/address", "10.0.0.1/24", "networks.hospital.address: must be an IPv4"),
    ("networks/hospital/address", "0.0.0.0/0", "networks.hospital.address: must be an IPv4"),
    ("networks/hospital/gateway", "10.1.0.1", "networks.hospital.gateway: must be an address of"),
    ("networks/hospital/dhcp", "10.0.0.0/25", "networks.hospital.dhcp: must be a part of"),
    ("networks/hospital/dhcp", None, "hosts.patient.networks: hospital leases no addresses"),
    ("networks/hospital/interface", "remote", "networks.hospital: interface is that of remote"),
    ("networks/hospital/interface", "lo", "networks.hospital.interface: must not be lo"),
    ("networks/hospital/interface", 'x" accept', "networks.hospital.interface: must be the name"),
    ("networks/hospital/partners", [], "networks.hospital.partners: must be a list"),
    ("networks/hospital/partners", None, "networks.laboratory: partners names hospital, which"),
    ("networks/hospital/outside", True, "networks: outside may be true of one network only"),
    ("networks/remote/outside", False, "outsiders.relay.address: must lie in a network"),
    ("nat/0/address", "10.0.0.9", "nat[1].address: must lie in no network, and is in hospital"),
    ("nat/0/to", ["remote"], "nat[1].to: must not hold remote itself"),
    ("nat/1/address", "198.51.100.1", "nat[1]: 198.51.100.1 is also that of nat[2]"),
    ("nat/1/from", "remote", "nat[2].to: must not hold remote itself"),
    ("services/portal/port", 0, "services.portal.port: must be a whole number from 1 to 65535"),
    ("services/portal/port", 8443, "services: tcp 8443 is named 2 times"),
    ("services/portal/port", True, "services.portal.port: must be a whole number"),
    ("services/portal/protocol", "icmp", "services.portal.protocol: must be a protocol: tcp, udp"),
    ("services/portal/burst", None, "services.portal.burst: must be a whole number from 1"),
    ("services/documents/loopback", False, "services.documents: nobody may open it"),
    ("services/spare", {"protocol": "udp", "port": 67}, "services.spare.port: is that of DHCP"),
    ("allow/0/service", "ssh", "allow[1].service: must be a service: database,"),
    ("allow/0/from", "nobody", "allow[1].from: must be one of these or a list of some: anybody,"),
    ("allow/0/from", [["edge"]], "allow[1].from: must be one of these"),
    ("allow/0/from", [], "allow[1].from: must be one of these"),
    ("allow/0/to", "anybody", "allow[1].to: must be a host, a role or an outsider"),
    ("allow/0/within", "partners", 'allow[1].within: must be "anywhere" where anybody is meant'),
    ("allow/0/within", None, "allow[1].within: must be one of: anywhere, institution, partners"),
    ("allow/0/why", 'x" accept; #', "allow[1].why: must say why"),
    ("allow/1/to", "patient", "allow[2].from: edge opens portal at no"),
    ("allow/1/service", "documents", "allow[2].service: documents is loopback = true"),
    ("allow/2/within", "institution", "allow[3].from: sender opens exchange at no receiver within"),
    ("log/per_minute", 0, "log.per_minute: must be a whole number from 1 to 1000"),
    ("rules", [], "rules: is not a known key"),
    ("allow", {}, "allow: must be a list of tables"),
    ("networks", {}, "networks: must name at least one network"),
]


@pytest.mark.parametrize(
    ("path", "value", "words"), MISTAKES, ids=[str(i) for i in range(len(MISTAKES))]
)
def test_a_mistake_is_named_with_its_key(path, value, words):
    found = problems(changed(path, value))
    assert any(problem.startswith(f"policy: {words}") for problem in found), found


def test_a_statement_said_twice_is_refused():
    data = copy.deepcopy(DATA)
    data["allow"].append(data["allow"][1])
    assert any("is said before; say it once" in one for one in problems(data))


def test_every_mistake_is_named_at_once():
    data = changed("hosts/hosb/address", "nowhere")
    data["services"]["portal"]["port"] = 0
    data["allow"][0]["service"] = "nothing"
    assert len(problems(data)) >= 3


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "none.toml")
    for name, content in (("bad.toml", b"[networks"), ("raw.toml", b"\xff\xfe")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigurationError, match=name):
            load(tmp_path / name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
PATHS = [mistake[0] for mistake in MISTAKES if "HOSB" not in mistake[0]]


@given(st.sampled_from(PATHS), JSON.filter(lambda value: value is not None))
def test_whatever_stands_in_the_file_is_taken_or_named_and_never_breaks(path, value):
    try:
        policy = parse("policy", changed(path, value))
    except ConfigurationError as error:
        assert error.problems
    else:
        for host in policy.hosts.values():
            assert render(policy, host, Format.NFT)


def test_the_shipped_policy_has_nothing_to_mend():
    assert [one for one in findings(POLICY) if one.level == Level.PROBLEM] == []
    assert "tcp 8443 (web) at hosf is open to every address" in [
        one.words for one in findings(POLICY)
    ]


def _with(statement: dict, **services: dict) -> dict:
    data = copy.deepcopy(DATA)
    data["allow"].append({"why": "a test", **statement})
    data["services"] |= services
    return data


SSH = {"protocol": "tcp", "port": 22}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            _with({"service": "database", "from": "hosf", "to": "hosb", "within": "institution"}),
            "tcp 5432 (database) at hosb is private and open to hosf, which every address reaches",
        ),
        (
            _with({"service": "database", "from": "labb", "to": "hosb", "within": "anywhere"}),
            "tcp 5432 (database) at hosb is private and open to labb of another network",
        ),
        (
            _with({"service": "database", "from": "relay", "to": "labb", "within": "anywhere"}),
            "tcp 5432 (database) at labb is private and open to relay",
        ),
        (
            _with(
                {"service": "ssh", "from": "anybody", "to": "hosb", "within": "anywhere"}, ssh=SSH
            ),
            "tcp 22 (ssh) at hosb is open to every address; name the admins'",
        ),
        (
            changed("services/web", {"protocol": "tcp", "port": 8443}),
            "tcp 8443 (web) at hosf is open to every address without a limit; give new_per_second",
        ),
        (
            _with(
                {"service": "ssh", "from": "patient", "to": "hosb", "within": "anywhere"}, ssh=SSH
            ),
            "tcp 22 (ssh) at hosb cannot tell patient from whoever else the router shows with "
            "the same address",
        ),
    ],
)
def test_what_is_to_be_mended_is_found(data, words):
    found = findings(parse("policy", data))
    assert (Level.PROBLEM, words) in [(one.level, one.words) for one in found]


def test_rules_in_words_say_the_way_and_the_limit():
    assert (
        "hosbs accepts tcp 4000 (exchange) from labb (through the router), at most 20 new "
        "connections a second from one address, 60 at once: records travel to partners"
    ) in sentences(POLICY, POLICY.hosts["hosbs"])


@pytest.mark.parametrize("host", POLICY.hosts)
def test_each_opening_has_its_other_half(host):
    """What one host may open another accepts: their rules come of the same statement."""
    mine = sentences(POLICY, POLICY.hosts[host])
    for sentence in mine:
        if " opens " not in sentence or " at relay" in sentence:
            continue
        opened, _, rest = sentence.partition(" at ")
        other = rest.split()[0].rstrip(":")
        port = opened.partition(" opens ")[2]
        theirs = sentences(POLICY, POLICY.hosts[other])
        assert any(
            line.startswith(f"{other} accepts {port} from {who}")
            for line in theirs
            for who in (host, "every address")
        )
