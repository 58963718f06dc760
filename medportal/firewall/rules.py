"""The rules of each host, derived from the policy; both formats and the words follow them (PURE).

:func:`rules_of` gives what one host opens in each chain. One :class:`~policy.Flow` gives the rule
going out at its source, coming in at its target and through the router between, so they cannot
disagree. :func:`verdict` asks the same rules whether a connection would pass.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from medportal.firewall.policy import (
    DHCP_CLIENT,
    DHCP_SERVER,
    Anybody,
    Flow,
    Host,
    Limit,
    Network,
    Outsider,
    Party,
    Policy,
    Translation,
)

Address = IPv4Address | IPv4Network


@dataclass(frozen=True, slots=True)
class Rule:
    """What a chain accepts: new connections (or for DHCP packets) that fit every part given.

    An empty ``sources`` or ``targets`` is every address, an empty interface every interface.
    ``limit`` with the name of its service counts new connections by source address, but for
    ``unlimited``: addresses that many people share, whom the router has counted already.
    """

    protocol: str
    port: int
    sources: tuple[Address, ...] = ()
    targets: tuple[Address, ...] = ()
    interface_in: tuple[str, ...] = ()
    interface_out: tuple[str, ...] = ()
    from_port: int | None = None
    service: str = ""
    limit: Limit | None = None
    unlimited: tuple[IPv4Address, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """What may come in by an interface of the router: its network, or all but the others'."""

    interface: str
    only: tuple[Address, ...] = ()
    never: tuple[Address, ...] = ()
    leases: bool = False


@dataclass(frozen=True, slots=True)
class HostRules:
    """The rules of one host. ``guards`` and ``translations`` are the router's."""

    host: Host
    log_per_minute: int
    input: tuple[Rule, ...]
    output: tuple[Rule, ...]
    forward: tuple[Rule, ...] = ()
    guards: tuple[Guard, ...] = ()
    translations: tuple[Translation, ...] = ()

    @property
    def limited(self) -> dict[str, Rule]:
        """Return a rule of every service whose new connections are counted here, by its name."""
        rules = (*self.input, *self.forward)
        return {rule.service: rule for rule in rules if rule.limit}

    @property
    def own_addresses(self) -> tuple[IPv4Address, ...]:
        """Return the addresses that this host has, none where they are leased."""
        if self.host.router:
            return tuple(network.gateway for network in self.host.networks)
        return (self.host.address,) if self.host.address else ()


def rules_of(policy: Policy, host: Host) -> HostRules:
    """Return everything that a host opens, in the order of the policy."""
    into = tuple(_merged(_into(policy, flow) for flow in coming_in(policy, host)))
    out = tuple(_merged(_out(flow, host) for flow in policy.flows if flow.source == host))
    if not host.router:
        client_in, client_out = _client(host)
        return HostRules(host, policy.log_per_minute, (*client_in, *into), (*client_out, *out))
    server_in, server_out = _server(policy)
    return HostRules(
        host,
        policy.log_per_minute,
        (*server_in, *into),
        (*server_out, *out),
        tuple(rule for flow in policy.flows for rule in _through(policy, flow)),
        tuple(_guard(policy, network) for network in policy.networks.values()),
        policy.translations,
    )


def addresses_of(party: Party) -> tuple[Address, ...]:
    """Return a party's own addresses: of a leased one those it may be given."""
    match party:
        case Anybody():
            return ()
        case Outsider():
            return (party.address,)
        case Host(router=True):
            return tuple(network.gateway for network in party.networks)
        case Host():
            if party.address:
                return (party.address,)
            return tuple(network.dhcp for network in party.networks if network.dhcp)


def networks_of(policy: Policy, party: Party) -> tuple[Network, ...]:
    """Return the networks from whose interface of the router a party's packets may come."""
    match party:
        case Anybody():
            return tuple(policy.networks.values())
        case Outsider():
            return (party.network,)
        case Host():
            return party.networks


def seen_as(policy: Policy, source: Party, target: Party) -> tuple[Address, ...]:
    """Return the addresses with which a source shows itself at a target, translated on the way."""
    there = networks_of(policy, target)
    seen: list[Address] = []
    for address in addresses_of(source):
        home = _home(policy, address)
        hidden = [
            one.address
            for one in policy.translations
            if one.source == home
            and address_in(address, home.address)
            and home not in there
            and any(network in one.targets for network in there)
        ]
        seen += hidden or [address]
    return tuple(dict.fromkeys(seen))


def address_in(address: Address, network: IPv4Network) -> bool:
    """Tell whether an address, or all of a part of a network, lies in a network."""
    if isinstance(address, IPv4Address):
        return address in network
    return address.subnet_of(network)


def _home(policy: Policy, address: Address) -> Network:
    first = address if isinstance(address, IPv4Address) else address.network_address
    return policy.network_of(first)


def coming_in(policy: Policy, host: Host) -> list[Flow]:
    """Return the flows to a host; whom a flow from anybody covers needs none of his own."""
    flows = [flow for flow in policy.flows if flow.target == host]
    open_to_all = {flow.service.name for flow in flows if isinstance(flow.source, Anybody)}
    return [
        flow
        for flow in flows
        if isinstance(flow.source, Anybody) or flow.service.name not in open_to_all
    ]


def _merged(rules: Iterable[Rule]) -> Iterable[Rule]:
    """Give each rule once: a leased host that is behind a translation may yield one twice."""
    return dict.fromkeys(rules)


def _into(policy: Policy, flow: Flow) -> Rule:
    assert isinstance(flow.target, Host)
    shared = tuple(
        one.address
        for one in policy.translations
        if any(network in one.targets for network in flow.target.networks)
    )
    sources = seen_as(policy, flow.source, flow.target)
    counts = flow.service.limit is not None
    return Rule(
        flow.service.protocol,
        flow.service.port,
        sources,
        addresses_of(flow.target),
        service=flow.service.name,
        limit=flow.service.limit,
        unlimited=tuple(
            address for address in shared if counts and (not sources or address in sources)
        ),
        words=_words(flow),
    )


def _out(flow: Flow, host: Host) -> Rule:
    # A leased address is what the router says today; this host's own rules need not know it.
    own = (host.address,) if host.address else ()
    return Rule(
        flow.service.protocol,
        flow.service.port,
        own,
        addresses_of(flow.target),
        service=flow.service.name,
        words=_words(flow),
    )


def _through(policy: Policy, flow: Flow) -> Iterable[Rule]:
    """Give the router's rules of a flow: one for each network of the target.

    The router sees addresses before they are translated.
    """
    if isinstance(flow.target, Host) and flow.target.router:
        return
    if isinstance(flow.source, Host) and (flow.source.router or _is_covered(policy, flow)):
        return
    for there in networks_of(policy, flow.target):
        ways = [one for one in networks_of(policy, flow.source) if one != there]
        sources = [
            address for address in addresses_of(flow.source) if _home(policy, address) in ways
        ]
        if not ways:
            continue
        yield Rule(
            flow.service.protocol,
            flow.service.port,
            tuple(sources),
            tuple(a for a in addresses_of(flow.target) if _home(policy, a) == there),
            tuple(way.interface for way in ways),
            (there.interface,),
            service=flow.service.name,
            limit=flow.service.limit,
            words=_words(flow),
        )


def _is_covered(policy: Policy, flow: Flow) -> bool:
    return any(
        isinstance(other.source, Anybody)
        and other.service == flow.service
        and other.target == flow.target
        for other in policy.flows
    )


def _server(policy: Policy) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """Return the rules of the router's DHCP server (RFC 2131): broadcasts, and renewals."""
    leasing = tuple(one.interface for one in policy.networks.values() if one.dhcp)
    if not leasing:
        return (), ()
    words = "leases addresses (DHCP)"
    return (
        (Rule("udp", DHCP_SERVER, interface_in=leasing, from_port=DHCP_CLIENT, words=words),),
        (Rule("udp", DHCP_CLIENT, interface_out=leasing, from_port=DHCP_SERVER, words=words),),
    )


def _client(host: Host) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    if host.address is not None:
        return (), ()
    gateways = tuple(network.gateway for network in host.networks)
    everyone = (IPv4Address("255.255.255.255"), *gateways)
    words = "asks for an address (DHCP)"
    return (
        (Rule("udp", DHCP_CLIENT, gateways, from_port=DHCP_SERVER, words=words),),
        (Rule("udp", DHCP_SERVER, (), everyone, from_port=DHCP_CLIENT, words=words),),
    )


def _guard(policy: Policy, network: Network) -> Guard:
    """Return what may come in by an interface: nothing with an address of another network."""
    if not network.outside:
        return Guard(network.interface, only=(network.address,), leases=bool(network.dhcp))
    others = [one.address for one in policy.networks.values() if one != network]
    own = [one.gateway for one in policy.networks.values() if one == network]
    # An address that this router gives to others is nobody's who comes in.
    given = [one.address for one in policy.translations]
    return Guard(
        network.interface,
        never=(*others, *own, *given, *NO_SOURCES),
        leases=bool(network.dhcp),
    )


#: Addresses from which nothing can come (RFC 6890): this network, loopback, link-local,
#: multicast, reserved and broadcast.
NO_SOURCES = tuple(
    IPv4Network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)


def _words(flow: Flow) -> str:
    return f"{flow.service.name}: {flow.source.name} to {flow.target.name}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a connection would pass, and else where it stops: a host's name and its chain."""

    passes: bool
    stopped_by: str = ""
    chain: str = ""


def verdict(
    policy: Policy,
    source: Party,
    target: Party,
    protocol: str,
    port: int,
    at: Network | None = None,
    *,
    obeys: bool = True,
    off: Collection[str] = (),
) -> Verdict:
    """Tell whether ``source`` may open ``port`` at ``target``, by the rules of all on the way.

    ``at`` is where a leased source is now; its first network unless told. A host's connections
    to itself go over loopback and pass. One that is taken over does not obey its own rules.
    ``off`` names hosts without any rules: they refuse nothing and translate no address.
    """
    if source == target:
        return Verdict(True)
    home = at or networks_of(policy, source)[0]
    address = _address_at(source, home)
    for there_address, there in _ends(policy, target, home):
        steps = _steps(policy, source, target, home, there)
        shown = address
        for host, chain in steps:
            if host.name in off or (chain == "output" and not obeys):
                continue
            if chain == "input" and policy.router.name not in off:
                shown = _shown(policy, address, home, there)
            if not _accepts(policy, host, chain, protocol, port, shown, there_address, home, there):
                return Verdict(False, host.name, chain)
        return Verdict(True)
    raise LookupError("the target has no address there")


def _address_at(party: Party, home: Network) -> IPv4Address:
    for address in addresses_of(party):
        if address_in(address, home.address):
            return address if isinstance(address, IPv4Address) else address[1]
    if isinstance(party, Outsider):
        return party.address
    raise LookupError("the party has no address there")


def _ends(policy: Policy, target: Party, home: Network) -> Iterable[tuple[IPv4Address, Network]]:
    """Give where a target is reached: in the source's own network first."""
    networks = sorted(networks_of(policy, target), key=lambda one: one != home)
    for network in networks:
        yield _address_at(target, network), network


def _steps(
    policy: Policy, source: Party, target: Party, home: Network, there: Network
) -> Iterable[tuple[Host, str]]:
    if isinstance(source, Host):
        yield source, "output"
    ends_are_routers = any(isinstance(one, Host) and one.router for one in (source, target))
    if home != there and not ends_are_routers:
        yield policy.router, "forward"
    if isinstance(target, Host):
        yield target, "input"


def _shown(policy: Policy, address: IPv4Address, home: Network, there: Network) -> IPv4Address:
    for one in policy.translations:
        if one.source == home and there in one.targets and address in home.address:
            return one.address
    return address


def _accepts(
    policy: Policy,
    host: Host,
    chain: str,
    protocol: str,
    port: int,
    source: IPv4Address,
    target: IPv4Address,
    home: Network,
    there: Network,
) -> bool:
    rules: tuple[Rule, ...] = getattr(rules_of(policy, host), chain)
    return any(
        rule.protocol == protocol
        and rule.port == port
        and rule.from_port is None
        and _fits(source, rule.sources)
        and _fits(target, rule.targets)
        and (not rule.interface_in or home.interface in rule.interface_in)
        and (not rule.interface_out or there.interface in rule.interface_out)
        for rule in rules
    )


def _fits(address: IPv4Address, among: tuple[Address, ...]) -> bool:
    return not among or any(
        address in one if isinstance(one, IPv4Network) else address == one for one in among
    )
