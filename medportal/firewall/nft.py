"""The rules of a host as a file for ``nft -f`` (PURE).

The file replaces the table ``inet medportal`` in one transaction and touches no other table.
A packet that this table accepts may still be refused by another table of the machine.
"""

from collections.abc import Iterable, Iterator, Sequence

from medportal.firewall.rules import Address, Guard, HostRules, Rule

TABLE = "medportal"
#: Errors that belong to a connection and that it cannot do without: path MTU discovery needs
#: the first (RFC 1191), the others end waiting (RFC 1122, section 3.2.2).
ICMP = ("destination-unreachable", "time-exceeded", "parameter-problem")
#: Addresses whose new connections are counted at once. Beyond it new ones go uncounted: a limit
#: is no access control, and a flood of forged addresses shall lock nobody out.
_COUNTED = 65_536
_SYN = "tcp flags & (fin | syn | rst | ack) == syn "


def render(rules: HostRules) -> str:
    """Return the file's text."""
    lines = [
        "#!/usr/sbin/nft -f",
        f"# The firewall of {rules.host.name}, rendered from the policy. Change that, not this.",
        "",
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        *_indented(_body(rules)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"\t{line}" if line else "" for line in lines)


def _body(rules: HostRules) -> Iterator[str]:
    names = ["input", "output", "forward", "invalid", "ipv6", "spoofed"]
    for name in [*(f"refused_{n}" for n in names), *(f"limited_{n}" for n in _limits(rules))]:
        yield f"counter {name} {{ }}"
    yield ""
    for name, rule in _limits(rules).items():
        yield from _limit_set(name, rule)
        yield from _limit_chain(rules, name, rule)
    yield from _spoofed(rules)
    if rules.guards:
        yield from _chain(
            "guard", "filter hook prerouting priority raw; policy accept;", _guards(rules.guards)
        )
    own = _set((*rules.own_addresses, "127.0.0.0/8"))
    yield from _hook(
        rules, "input", 'iifname "lo" accept', rules.input, [f"ip saddr {own} goto spoofed"]
    )
    yield from _hook(rules, "output", 'oifname "lo" accept', rules.output)
    yield from _hook(rules, "forward", "", rules.forward)
    if rules.translations:
        yield from _chain(
            "translate",
            "nat hook postrouting priority srcnat; policy accept;",
            [
                f"oifname {_interfaces([n.interface for n in one.targets])} "
                f"ip saddr {one.source.address} snat ip to {one.address}"
                for one in rules.translations
            ],
        )


def _chain(name: str, hook: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    if hook:
        yield f"\ttype {hook}"
    yield from (f"\t{line}" for line in lines)
    yield "}"
    yield ""


def _limits(rules: HostRules) -> dict[str, Rule]:
    return {name.replace("-", "_"): rule for name, rule in rules.limited.items()}


def _limit_set(name: str, rule: Rule) -> Iterator[str]:
    assert rule.limit is not None
    # After so long without a new connection an address may again open all of its burst.
    seconds = max(10, -(-rule.limit.burst // rule.limit.per_second))
    yield f"set recent_{name} {{"
    yield "\ttype ipv4_addr"
    yield f"\tsize {_COUNTED}"
    yield "\tflags dynamic,timeout"
    yield f"\ttimeout {seconds}s"
    yield "}"
    yield ""


def _limit_chain(rules: HostRules, name: str, rule: Rule) -> Iterator[str]:
    assert rule.limit is not None
    rate = f"{rule.limit.per_second}/second burst {rule.limit.burst} packets"
    lines = [f"ip saddr {_set(rule.unlimited)} counter accept"] if rule.unlimited else []
    lines += [
        f"update @recent_{name} {{ ip saddr limit rate over {rate} }} goto over_{name}",
        "counter accept",
    ]
    yield from _chain(
        f"over_{name}",
        "",
        [
            _log(rules, "limited"),
            f"counter name limited_{name} drop",
        ],
    )
    yield from _chain(f"count_{name}", "", lines)


def _spoofed(rules: HostRules) -> Iterator[str]:
    yield from _chain(
        "spoofed",
        "",
        [
            _log(rules, "spoofed"),
            "counter name refused_spoofed drop",
        ],
    )


def _log(rules: HostRules, chain: str) -> str:
    prefix = log_prefix(rules, chain)
    return f'limit rate {rules.log_per_minute}/minute burst 5 packets log prefix "{prefix}"'


def log_prefix(rules: HostRules, chain: str) -> str:
    """Return what a refusal's line in the log begins with; LOG of iptables takes 29 signs."""
    return f"{rules.host.name} {chain}: "


def _guards(guards: Sequence[Guard]) -> Iterator[str]:
    yield 'iifname "lo" accept'
    leasing = [guard.interface for guard in guards if guard.leases]
    if leasing:
        yield (
            f"iifname {_interfaces(leasing)} ip saddr 0.0.0.0 ip daddr 255.255.255.255 "
            "udp sport 68 udp dport 67 accept"
        )
    for guard in guards:
        if guard.only:
            yield f'iifname "{guard.interface}" ip saddr != {_set(guard.only)} goto spoofed'
        else:
            yield f'iifname "{guard.interface}" ip saddr {_set(guard.never)} goto spoofed'
    known = _interfaces([guard.interface for guard in guards])
    yield f"iifname != {known} goto spoofed"


def _hook(
    rules: HostRules, name: str, loopback: str, own: Sequence[Rule], more: Sequence[str] = ()
) -> Iterator[str]:
    lines = [
        *([loopback] if loopback else []),
        "ct state invalid counter name refused_invalid drop",
        "meta nfproto ipv6 counter name refused_ipv6 drop",
        *more,
        "ct state established accept",
        f"ct state related icmp type {_set(ICMP)} accept",
        *(_rule(rule, limits=name != "output") for rule in own),
        _log(rules, name),
        f"counter name refused_{name} drop",
    ]
    yield from _chain(name, f"filter hook {name} priority filter; policy drop;", lines)


def _rule(rule: Rule, *, limits: bool) -> str:
    parts = []
    if rule.interface_in:
        parts.append(f"iifname {_interfaces(rule.interface_in)}")
    if rule.interface_out:
        parts.append(f"oifname {_interfaces(rule.interface_out)}")
    if rule.sources:
        parts.append(f"ip saddr {_set(rule.sources)}")
    if rule.targets:
        parts.append(f"ip daddr {_set(rule.targets)}")
    if rule.from_port:
        # DHCP speaks to everyone before anybody has an address: no connections to track.
        parts.append(f"udp sport {rule.from_port} udp dport {rule.port} counter accept")
    else:
        new = f"{rule.protocol} dport {rule.port} {_SYN if rule.protocol == 'tcp' else ''}"
        parts.append(f"{new}ct state new")
        counted = limits and rule.limit
        service = rule.service.replace("-", "_")
        parts.append(f"goto count_{service}" if counted else "counter accept")
    return " ".join(parts) + f' comment "{rule.words}"'


def _interfaces(names: Sequence[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{{ {', '.join(quoted)} }}"


def _set(items: Sequence[Address | str]) -> str:
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"
