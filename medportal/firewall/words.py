"""The rules in words, and what somebody should look at twice (PURE)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from medportal.firewall.policy import Anybody, Flow, Host, Outsider, Party, Policy, Service
from medportal.firewall.rules import coming_in, networks_of, rules_of, seen_as

_SSH = 22


class Level(StrEnum):
    """A note is to be known; a problem is to be mended, or somebody says why not."""

    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the policy as a whole."""

    level: Level
    words: str


def sentences(policy: Policy, host: Host) -> tuple[str, ...]:
    """Return every rule of a host in words, and last what becomes of everything else."""
    found = [
        *_accepted(policy, host),
        *_opened(policy, host),
        *(_routed(policy) if host.router else ()),
    ]
    rest = (
        f"{host.name} refuses everything else, coming in, going out and passing through, IPv6 "
        f"altogether; it counts refusals and writes down up to {policy.log_per_minute} a minute "
        "of a kind"
    )
    return (*found, rest)


def _accepted(policy: Policy, host: Host) -> Iterator[str]:
    for flow in coming_in(policy, host):
        yield (
            f"{host.name} accepts {_port(flow.service)} from {_who(flow.source)}"
            f"{_way(policy, flow)}{_limit(flow.service)}: {flow.allow.why}"
        )
    if host.router and any(network.dhcp for network in policy.networks.values()):
        leases = [f"{one.dhcp} in {one.name}" for one in policy.networks.values() if one.dhcp]
        yield f"{host.name} leases addresses (DHCP): {', '.join(leases)}"


def _opened(policy: Policy, host: Host) -> Iterator[str]:
    if host.address is None and not host.router:
        yield f"{host.name} asks the router for an address (DHCP)"
    for flow in policy.flows:
        if flow.source == host:
            yield (
                f"{host.name} opens {_port(flow.service)} at {flow.target.name}"
                f"{_way(policy, flow)}: {flow.allow.why}"
            )


def _routed(policy: Policy) -> Iterator[str]:
    router = policy.router.name
    rules = rules_of(policy, policy.router)
    for rule in rules.forward:
        service = policy.services[rule.service]
        who = rule.words.partition(": ")[2]
        yield (
            f"{router} lets {_port(service)} pass, {who}, from {_list(rule.interface_in)} into "
            f"{_list(rule.interface_out)}{_limit(service)}"
        )
    for guard in rules.guards:
        if guard.only:
            only = _list(tuple(str(one) for one in guard.only))
            yield f"{router} takes from {guard.interface} only what comes from {only}"
        else:
            yield (
                f"{router} takes from {guard.interface} nothing that says it comes from another "
                "network, from the router, or from where nothing can come"
            )
    for one in rules.translations:
        targets = _list(tuple(network.name for network in one.targets))
        yield f"{router} shows {one.source.name} as {one.address} in {targets}"


def _list(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _port(service: Service) -> str:
    return f"{service.protocol} {service.port} ({service.name})"


def _who(party: Party) -> str:
    match party:
        case Anybody():
            return "every address"
        case Outsider():
            return f"{party.name} ({party.address})"
        case Host():
            return party.name


def _way(policy: Policy, flow: Flow) -> str:
    if isinstance(flow.source, Anybody):
        return ""
    sources = {network.name for network in networks_of(policy, flow.source)}
    targets = {network.name for network in networks_of(policy, flow.target)}
    if not sources & targets:
        return " (through the router)"
    return "" if sources == targets else " (through the router where in another network)"


def _limit(service: Service) -> str:
    if service.limit is None:
        return ""
    return (
        f", at most {service.limit.per_second} new connections a second from one address, "
        f"{service.limit.burst} at once"
    )


def findings(policy: Policy) -> tuple[Finding, ...]:
    """Return what is to be known and what is to be mended, in the policy's order."""
    return tuple(finding for flow in policy.flows for finding in _about(policy, flow))


def _about(policy: Policy, flow: Flow) -> Iterator[Finding]:
    what = f"{_port(flow.service)} at {flow.target.name}"
    if isinstance(flow.source, Anybody):
        yield Finding(Level.NOTE, f"{what} is open to every address")
        if flow.service.limit is None:
            words = f"{what} is open to every address without a limit; give new_per_second"
            yield Finding(Level.PROBLEM, words)
        if flow.service.port == _SSH:
            yield Finding(Level.PROBLEM, f"{what} is open to every address; name the admins'")
    if isinstance(flow.target, Outsider):
        words = f"{flow.source.name} may reach {flow.target.name} outside: {_port(flow.service)}"
        yield Finding(Level.NOTE, words)
    if flow.service.private:
        yield from _private(policy, flow, what)
    if isinstance(flow.source, Host) and _is_hidden(policy, flow):
        words = (
            f"{what} cannot tell {flow.source.name} from whoever else the router shows with the "
            "same address"
        )
        yield Finding(Level.PROBLEM, words)


def _private(policy: Policy, flow: Flow, what: str) -> Iterator[Finding]:
    """Give what is wrong with who may open a port behind which records or accounts lie."""
    if not isinstance(flow.source, Host):
        yield Finding(Level.PROBLEM, f"{what} is private and open to {flow.source.name}")
        return
    if any(isinstance(one.source, Anybody) for one in coming_in(policy, flow.source)):
        words = f"{what} is private and open to {flow.source.name}, which every address reaches"
        yield Finding(Level.PROBLEM, words)
    if flow.source.networks != networks_of(policy, flow.target):
        words = f"{what} is private and open to {flow.source.name} of another network"
        yield Finding(Level.PROBLEM, words)


def _is_hidden(policy: Policy, flow: Flow) -> bool:
    """Tell whether a named source shows itself with an address that others share."""
    if not isinstance(flow.target, Host) or flow not in coming_in(policy, flow.target):
        return False
    shared = {translation.address for translation in policy.translations}
    return bool(shared & set(seen_as(policy, flow.source, flow.target)))
