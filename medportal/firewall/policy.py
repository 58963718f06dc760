"""The policy of the hosts: networks, hosts, services, and who may open which to whom (PURE).

:func:`parse` checks a whole file at once and reports every problem with its key and what would
be right. Addresses are IPv4; IPv6 is refused everywhere (docs/firewall.md).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from medportal.core.errors import ConfigurationError

#: Who is meant where a statement opens a port to every address.
ANYBODY = "anybody"
#: Ports of DHCP (RFC 2131): the server's and the client's.
DHCP_SERVER, DHCP_CLIENT = 67, 68
_NAME = re.compile(r"[a-z][a-z0-9-]{0,18}", re.ASCII)
#: IFNAMSIZ is 16 with the closing zero; only letters that need quoting nowhere.
_INTERFACE = re.compile(r"[a-z][a-z0-9-]{0,14}", re.ASCII)
_WHY = re.compile(r"[A-Za-z0-9 ,;()-]{1,90}", re.ASCII)
#: What both nftables and hashlimit of iptables take.
_MOST = 10_000


class Within(StrEnum):
    """Between which hosts a statement holds."""

    INSTITUTION = "institution"
    PARTNERS = "partners"
    ANYWHERE = "anywhere"


@dataclass(frozen=True, slots=True)
class Network:
    """A network, which hangs on an interface of the router.

    ``dhcp`` is the part of it that the router leases; ``outside`` is the way to everywhere else.
    """

    name: str
    address: IPv4Network
    gateway: IPv4Address
    interface: str
    dhcp: IPv4Network | None = None
    partners: tuple[str, ...] = ()
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """A host that gets rules. ``address`` is None where it is leased, and at the router."""

    name: str
    networks: tuple[Network, ...]
    address: IPv4Address | None = None
    roles: tuple[str, ...] = ()
    router: bool = False


@dataclass(frozen=True, slots=True)
class Outsider:
    """A machine that is not ours, by its address."""

    name: str
    address: IPv4Address
    network: Network


@dataclass(frozen=True, slots=True)
class Anybody:
    """Every address that the router lets in by its interface."""

    name: str = ANYBODY


Party = Host | Outsider | Anybody


@dataclass(frozen=True, slots=True)
class Limit:
    """New connections that one address may open: a second, and at once after quiet."""

    per_second: int
    burst: int


@dataclass(frozen=True, slots=True)
class Service:
    """A port of a protocol, tcp or udp. ``loopback``: on its own host only.

    ``private``: behind it lie records or accounts; :mod:`words` finds it open to the wrong ones.
    """

    name: str
    protocol: str
    port: int
    limit: Limit | None = None
    loopback: bool = False
    private: bool = False


@dataclass(frozen=True, slots=True)
class Translation:
    """What comes from ``source`` shows itself in ``targets`` with ``address``."""

    source: Network
    targets: tuple[Network, ...]
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Allow:
    """A statement of the policy, as it stands in the file."""

    service: Service
    sources: tuple[str, ...]
    target: str
    within: Within
    why: str


@dataclass(frozen=True, slots=True)
class Flow:
    """One pair of parties out of a statement: ``source`` may open ``service`` at ``target``."""

    service: Service
    source: Party
    target: Host | Outsider
    allow: Allow


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy; ``flows`` is every pair that its statements open, in the file's order."""

    networks: Mapping[str, Network]
    translations: tuple[Translation, ...]
    hosts: Mapping[str, Host]
    outsiders: Mapping[str, Outsider]
    services: Mapping[str, Service]
    allows: tuple[Allow, ...]
    flows: tuple[Flow, ...]
    log_per_minute: int

    @property
    def router(self) -> Host:
        """Return the router."""
        return next(host for host in self.hosts.values() if host.router)

    def network_of(self, address: IPv4Address) -> Network:
        """Return the network on whose side of the router an address lies."""
        return network_of(self.networks, address)


def network_of(networks: Mapping[str, Network], address: IPv4Address) -> Network:
    """Return the network that holds an address, or else the way outside.

    Raises ``LookupError`` where neither is.
    """
    for network in networks.values():
        if address in network.address:
            return network
    for network in networks.values():
        if network.outside:
            return network
    raise LookupError("no network holds this address, and none leads outside")


class _Table:
    """A table of the file: takes its keys one by one and notes every problem."""

    def __init__(self, where: str, data: object, problems: list[str]) -> None:
        self.where, self._problems = where, problems
        self.data: Mapping[str, Any] = data if isinstance(data, dict) else {}
        self._seen: set[str] = set()
        if not isinstance(data, dict):
            self.problem("", "must be a table")

    def problem(self, key: str, what: str) -> None:
        """Note a problem of a key."""
        place = ".".join(part for part in (self.where, key) if part)
        self._problems.append(f"{place}: {what}" if place else what)

    def has(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self.data

    def value(self, key: str) -> Any:
        """Return what stands under a key, None where nothing does."""
        self._seen.add(key)
        return self.data.get(key)

    def text(self, key: str, pattern: re.Pattern[str], hint: str) -> str:
        """Return a text that fits; empty and a problem otherwise."""
        value = self.value(key)
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self.problem(key, hint)
        return ""

    def name(self, key: str, known: Iterable[str], what: str) -> str:
        """Return the name of something known."""
        value, names = self.value(key), sorted(known)
        if isinstance(value, str) and value in names:
            return value
        self.problem(key, f"must be {what}: {', '.join(names) or 'there is none yet'}")
        return ""

    def names(self, key: str, known: Iterable[str], what: str) -> tuple[str, ...]:
        """Return a list of names of known things, each once."""
        value, names = self.value(key), sorted(known)
        if (
            isinstance(value, list)
            and all(isinstance(one, str) and one in names for one in value)
            and 0 < len(set(value)) == len(value)
        ):
            return tuple(value)
        known_words = ", ".join(names) or "there is none yet"
        self.problem(key, f"must be a list of {what}, each once: {known_words}")
        return ()

    def integer(self, key: str, least: int, most: int) -> int:
        """Return a whole number within bounds, the least where it is not one."""
        value = self.value(key)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.problem(key, f"must be a whole number from {least} to {most}")
        return least

    def flag(self, key: str) -> bool:
        """Return true or false; false where absent."""
        value = self.value(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.problem(key, "must be true or false")
        return False

    def address(self, key: str) -> IPv4Address | None:
        """Return an address of a machine; None and a problem otherwise."""
        value = self.value(key)
        try:
            address = IPv4Address(value) if isinstance(value, str) else None
        except ValueError:
            address = None
        if address is None or address.is_multicast or address.is_loopback or not int(address):
            self.problem(key, 'must be the IPv4 address of a machine, such as "10.0.0.4"')
            return None
        return address

    def network(self, key: str) -> IPv4Network | None:
        """Return a network; None and a problem otherwise."""
        value = self.value(key)
        try:
            network = IPv4Network(value) if isinstance(value, str) else None
        except ValueError:
            network = None
        if network is None or not 8 <= network.prefixlen <= 30 or network.is_multicast:
            self.problem(
                key,
                "must be an IPv4 network of a prefix from 8 to 30 with no further bits, "
                'such as "10.0.0.0/24"',
            )
            return None
        return network

    def tables(self, key: str) -> "dict[str, _Table]":
        """Return the named tables under a key."""
        found = _Table(f"{self.where}.{key}".strip("."), self.value(key) or {}, self._problems)
        named = {}
        for name, value in found.data.items():
            if not _NAME.fullmatch(name):
                found.problem(name[:30], "must be a name of up to 19 letters a-z, digits, hyphens")
            named[name] = _Table(f"{found.where}.{name}", value, self._problems)
        return named

    def rows(self, key: str) -> "list[_Table]":
        """Return the tables of a list of tables, absent is none."""
        value = self.value(key)
        if value is not None and not isinstance(value, list):
            self.problem(key, f"must be a list of tables: [[{key}]]")
            return []
        return [
            _Table(f"{key}[{number}]", row, self._problems)
            for number, row in enumerate(value or [], 1)
        ]

    def close(self) -> None:
        """Note every key that nothing asked for."""
        for key in self.data:
            if key not in self._seen:
                self.problem(key[:30], "is not a known key")


def parse(file: str, data: Mapping[str, Any]) -> Policy:
    """Return the policy that ``data`` (a parsed TOML file) describes.

    Raises ``ConfigurationError`` with every problem of the file at once.
    """
    problems: list[str] = []
    top = _Table("", data, problems)
    networks = _networks(top)
    translations = _translations(top, networks)
    hosts = _hosts(top, networks)
    outsiders = _outsiders(top, networks)
    services = _services(top)
    _distinct_names(problems, networks, hosts, outsiders)
    _distinct_addresses(problems, networks, hosts, outsiders, translations)
    allows, flows = _allows(top, services, hosts, outsiders, networks)
    _unused(problems, services, allows)
    log = _Table("log", top.value("log"), problems) if top.has("log") else None
    per_minute = log.integer("per_minute", 1, 1000) if log else 30
    for table in (log, top):
        if table:
            table.close()
    if problems:
        raise ConfigurationError(*(f"{file}: {problem}" for problem in dict.fromkeys(problems)))
    return Policy(networks, translations, hosts, outsiders, services, allows, flows, per_minute)


def _networks(top: _Table) -> dict[str, Network]:
    tables = top.tables("networks")
    networks: dict[str, Network] = {}
    for name, table in tables.items():
        network = _network(name, table, set(tables) - {name})
        if network:
            networks[name] = network
    _compare_networks(top, networks)
    return networks


def _network(name: str, table: _Table, others: set[str]) -> Network | None:
    address = table.network("address")
    gateway = table.address("gateway")
    hint = "must be the name of an interface: up to 15 letters a-z, digits, hyphens"
    interface = table.text("interface", _INTERFACE, hint)
    if interface == "lo":
        table.problem("interface", "must not be lo, which is the loopback of every host")
    dhcp = table.network("dhcp") if table.has("dhcp") else None
    partners: tuple[str, ...] = ()
    if table.has("partners"):
        partners = table.names("partners", others, "other networks")
    outside = table.flag("outside")
    table.close()
    if address is None or gateway is None:
        return None
    if not _is_usable(gateway, address):
        table.problem("gateway", f"must be an address of a machine in {address}")
    if dhcp and not (dhcp.subnet_of(address) and dhcp != address and gateway not in dhcp):
        table.problem("dhcp", f"must be a part of {address} without the gateway")
    return Network(name, address, gateway, interface, dhcp, partners, outside)


def _is_usable(address: IPv4Address, network: IPv4Network) -> bool:
    ends = (network.network_address, network.broadcast_address)
    return address in network and address not in ends


def _compare_networks(top: _Table, networks: Mapping[str, Network]) -> None:
    if not networks:
        top.problem("networks", "must name at least one network")
    if sum(network.outside for network in networks.values()) > 1:
        top.problem("networks", "outside may be true of one network only")
    for network in networks.values():
        where = f"networks.{network.name}"
        for other in networks.values():
            if other.name > network.name and network.address.overlaps(other.address):
                top.problem(where, f"address overlaps that of {other.name}; give it another")
            if other.name > network.name and network.interface == other.interface:
                top.problem(where, f"interface is that of {other.name}; give it another")
        for name in network.partners:
            if name in networks and network.name not in networks[name].partners:
                top.problem(where, f"partners names {name}, which must name {network.name} too")


def _translations(top: _Table, networks: Mapping[str, Network]) -> tuple[Translation, ...]:
    found = []
    for table in top.rows("nat"):
        source = table.name("from", networks, "a network")
        targets = table.names("to", networks, "networks")
        address = table.address("address")
        table.close()
        if source and source in targets:
            table.problem("to", f"must not hold {source} itself")
        for network in networks.values():
            if address and address in network.address:
                table.problem(
                    "address",
                    f"must lie in no network, and is in {network.name}: what is translated "
                    "would look as if it came from there",
                )
        if source and targets and address:
            names = tuple(networks[name] for name in targets)
            found.append(Translation(networks[source], names, address))
    pairs = Counter((one.source.name, to.name) for one in found for to in one.targets)
    for (source, target), times in pairs.items():
        if times > 1:
            top.problem("nat", f"says {times} times how {source} shows itself in {target}")
    return tuple(found)


def _hosts(top: _Table, networks: Mapping[str, Network]) -> dict[str, Host]:
    hosts = {name: _host(name, table, networks) for name, table in top.tables("hosts").items()}
    if sum(host.router for host in hosts.values()) != 1:
        top.problem("hosts", "must hold one host with router = true")
    return hosts


def _host(name: str, table: _Table, networks: Mapping[str, Network]) -> Host:
    roles = _roles(table)
    if table.flag("router"):
        table.close()
        return Host(name, tuple(networks.values()), None, roles, router=True)
    if table.has("networks"):
        return _leased(name, table, networks, roles)
    network = networks.get(table.name("network", networks, "a network"))
    address = table.address("address")
    table.close()
    if network and address:
        if not _is_usable(address, network.address):
            table.problem("address", f"must be an address of a machine in {network.address}")
        if network.dhcp and address in network.dhcp:
            table.problem("address", f"must not lie in {network.dhcp}, which is leased by DHCP")
    return Host(name, (network,) if network else (), address, roles)


def _leased(
    name: str, table: _Table, networks: Mapping[str, Network], roles: tuple[str, ...]
) -> Host:
    names = table.names("networks", networks, "networks")
    table.close()
    for one in names:
        if networks[one].dhcp is None:
            table.problem("networks", f"{one} leases no addresses; give it dhcp, or another")
    return Host(name, tuple(networks[one] for one in names), None, roles)


def _roles(table: _Table) -> tuple[str, ...]:
    if not table.has("roles"):
        return ()
    value = table.value("roles")
    if (
        isinstance(value, list)
        and all(isinstance(role, str) and _NAME.fullmatch(role) for role in value)
        and len(set(value)) == len(value)
    ):
        return tuple(value)
    table.problem("roles", "must be a list of names of up to 19 letters a-z, digits, hyphens")
    return ()


def _outsiders(top: _Table, networks: Mapping[str, Network]) -> dict[str, Outsider]:
    found = {}
    for name, table in top.tables("outsiders").items():
        address = table.address("address")
        table.close()
        if address is None:
            continue
        try:
            found[name] = Outsider(name, address, network_of(networks, address))
        except LookupError:
            table.problem("address", "must lie in a network, for no network is outside = true")
    return found


def _services(top: _Table) -> dict[str, Service]:
    services = {name: _service(name, table) for name, table in top.tables("services").items()}
    for (protocol, port), times in Counter(
        (service.protocol, service.port) for service in services.values()
    ).items():
        if times > 1 and protocol:
            top.problem("services", f"{protocol} {port} is named {times} times; name it once")
    return services


def _service(name: str, table: _Table) -> Service:
    protocol = table.name("protocol", ("tcp", "udp"), "a protocol")
    port = table.integer("port", 1, 65535)
    if protocol == "udp" and port in (DHCP_SERVER, DHCP_CLIENT):
        table.problem("port", "is that of DHCP, which follows from dhcp of the networks")
    limit = None
    if table.has("new_per_second") or table.has("burst"):
        limit = Limit(table.integer("new_per_second", 1, _MOST), table.integer("burst", 1, _MOST))
    loopback = table.flag("loopback")
    if loopback and limit:
        table.problem("new_per_second", "has no meaning on loopback, which is not limited")
    private = table.flag("private")
    table.close()
    return Service(name, protocol, port, limit, loopback, private)


def _distinct_names(
    problems: list[str],
    networks: Mapping[str, Network],
    hosts: Mapping[str, Host],
    outsiders: Mapping[str, Outsider],
) -> None:
    """Note names that could mean two things in a statement."""
    roles = {role for host in hosts.values() for role in host.roles}
    names = Counter([*networks, *hosts, *outsiders, *roles, ANYBODY])
    problems += [
        f"{name}: is the name of {times} things; networks, hosts, outsiders and roles need "
        f"names of their own, and {ANYBODY} is taken"
        for name, times in names.items()
        if times > 1
    ]


def _distinct_addresses(
    problems: list[str],
    networks: Mapping[str, Network],
    hosts: Mapping[str, Host],
    outsiders: Mapping[str, Outsider],
    translations: tuple[Translation, ...],
) -> None:
    holders: dict[IPv4Address, list[str]] = {}
    for network in networks.values():
        holders.setdefault(network.gateway, []).append(f"networks.{network.name}.gateway")
    for host in hosts.values():
        if host.address:
            holders.setdefault(host.address, []).append(f"hosts.{host.name}")
    for outsider in outsiders.values():
        holders.setdefault(outsider.address, []).append(f"outsiders.{outsider.name}")
    for number, translation in enumerate(translations, 1):
        holders.setdefault(translation.address, []).append(f"nat[{number}]")
    for address, names in holders.items():
        if len(names) > 1:
            problems.append(f"{names[0]}: {address} is also that of {', '.join(names[1:])}")


def _allows(
    top: _Table,
    services: Mapping[str, Service],
    hosts: Mapping[str, Host],
    outsiders: Mapping[str, Outsider],
    networks: Mapping[str, Network],
) -> tuple[tuple[Allow, ...], tuple[Flow, ...]]:
    roles = {role for host in hosts.values() for role in host.roles}
    targets = {*hosts, *outsiders, *roles}
    allows: list[Allow] = []
    flows: dict[tuple[str, str, str], Flow] = {}
    for table in top.rows("allow"):
        allow = _allow(table, services, targets)
        if allow is None:
            continue
        allows.append(allow)
        for source in allow.sources:
            pairs = _pairs(source, allow, hosts, outsiders, networks)
            if not pairs:
                table.problem(
                    "from",
                    f"{source} opens {allow.service.name} at no {allow.target} within "
                    f"{allow.within}; name others, or leave the statement out",
                )
            for source_party, target in pairs:
                key = (allow.service.name, source_party.name, target.name)
                if key in flows:
                    table.problem(
                        "service",
                        f"{key[0]} from {key[1]} to {key[2]} is said before; say it once",
                    )
                flows[key] = Flow(allow.service, source_party, target, allow)
    return tuple(allows), tuple(flows.values())


def _allow(table: _Table, services: Mapping[str, Service], targets: set[str]) -> Allow | None:
    service = table.name("service", services, "a service")
    sources = _sources(table, {*targets, ANYBODY})
    target = table.name("to", targets, "a host, a role or an outsider")
    within = table.name("within", Within, "one of")
    why = table.text("why", _WHY, "must say why in up to 90 letters, digits, spaces and ,;()-")
    table.close()
    if ANYBODY in sources and within and within != Within.ANYWHERE:
        table.problem("within", f'must be "anywhere" where {ANYBODY} is meant')
    if not (service and sources and target and within):
        return None
    if services[service].loopback:
        table.problem("service", f"{service} is loopback = true: no other host may open it")
    return Allow(services[service], sources, target, Within(within), why)


def _sources(table: _Table, known: set[str]) -> tuple[str, ...]:
    value = table.value("from")
    names = [value] if isinstance(value, str) else value
    if (
        isinstance(names, list)
        and all(isinstance(name, str) and name in known for name in names)
        and 0 < len(set(names)) == len(names)
    ):
        return tuple(names)
    table.problem("from", f"must be one of these or a list of some: {', '.join(sorted(known))}")
    return ()


def _pairs(
    source: str,
    allow: Allow,
    hosts: Mapping[str, Host],
    outsiders: Mapping[str, Outsider],
    networks: Mapping[str, Network],
) -> list[tuple[Party, Host | Outsider]]:
    sources: list[Party] = [Anybody()] if source == ANYBODY else [*_named(source, hosts, outsiders)]
    return [
        (one, target)
        for target in _named(allow.target, hosts, outsiders)
        for one in sources
        if one != target and _is_within(one, target, allow.within, networks)
    ]


def _named(
    name: str, hosts: Mapping[str, Host], outsiders: Mapping[str, Outsider]
) -> list[Host | Outsider]:
    if name in outsiders:
        return [outsiders[name]]
    return [host for host in hosts.values() if name == host.name or name in host.roles]


def _is_within(
    source: Party, target: Party, within: Within, networks: Mapping[str, Network]
) -> bool:
    if within == Within.ANYWHERE:
        return True
    if not (_has_home(source) and _has_home(target)):
        return False
    assert isinstance(source, Host) and isinstance(target, Host)  # noqa: PT018
    home, there = source.networks[0], target.networks[0]
    if within == Within.INSTITUTION:
        return home.name == there.name
    return there.name in home.partners


def _has_home(party: Party) -> bool:
    """Tell whether a party belongs to one institution: a host with an address of its own."""
    return isinstance(party, Host) and party.address is not None and bool(party.networks)


def _unused(
    problems: list[str], services: Mapping[str, Service], allows: tuple[Allow, ...]
) -> None:
    used = {allow.service.name for allow in allows}
    problems += [
        f"services.{service.name}: nobody may open it; add an [[allow]], or loopback = true"
        for service in services.values()
        if service.name not in used and not service.loopback
    ]
