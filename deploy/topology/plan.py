"""Networks and hosts, as firewall/policy.toml names them: one source for addresses and rules."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "firewall" / "policy.toml"
PATIENT = "patient"
ROUTER = "router"
OUTSIDE = "remote"


@dataclass(frozen=True, slots=True)
class Network:
    """A network behind one leg of the router; ``leases`` are the addresses given by DHCP."""

    name: str
    address: IPv4Network
    gateway: str
    leases: IPv4Network


@dataclass(frozen=True, slots=True)
class Host:
    """A host with a fixed address in one network."""

    name: str
    network: str
    address: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole network. ``nat`` is source network -> (destination networks, shown address)."""

    networks: Mapping[str, Network]
    hosts: Mapping[str, Host]
    nat: tuple[tuple[str, tuple[str, ...], str], ...]

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Every host, the router and the patient included."""
        return (ROUTER, *self.hosts, PATIENT)

    @property
    def firewalled(self) -> tuple[str, ...]:
        """Every host that has rules: all but the patient's machine, which is not ours."""
        return (ROUTER, *self.hosts)


def load_plan(path: Path = POLICY) -> Plan:
    """Return the plan in a policy file; whether it is a sound policy is the firewall's to say."""
    data = tomllib.loads(path.read_text("utf-8"))
    hosts = {
        name: Host(name, said["network"], said["address"])
        for name, said in data["hosts"].items()
        if "address" in said
    }
    networks = {name: _network(name, said) for name, said in data["networks"].items()}
    nat = tuple((rule["from"], tuple(rule["to"]), rule["address"]) for rule in data.get("nat", []))
    return Plan(networks, hosts, nat)


def _network(name: str, said: Mapping[str, Any]) -> Network:
    leases = ip_network(said["dhcp"])
    address = ip_network(said["address"])
    assert isinstance(leases, IPv4Network) and isinstance(address, IPv4Network)
    return Network(name, address, said["gateway"], leases)
