"""The rules of a host as a shell script that sets ufw up (PURE).

Who may open what is said in ufw's own commands, so that ``ufw status`` shows it. What ufw has no
word for (limits other than its six in thirty seconds, which addresses may come by which
interface, translation, what is written down) goes into the files that it keeps for that,
``before.rules`` and ``after.rules``. The shipped ones are replaced: they let in mDNS, UPnP and
echo requests, which the policy does not.
"""

from collections.abc import Iterable, Iterator, Sequence

from medportal.firewall.nft import ICMP, log_prefix
from medportal.firewall.rules import Address, Guard, HostRules, Rule

_HOOKS = ("input", "output", "forward")
_INVALID = "-m conntrack --ctstate INVALID"
_NEW = "-m conntrack --ctstate NEW"
_EOF = "END-OF-FILE"


def render(rules: HostRules) -> str:
    """Return the script's text. It needs root, and empties what ufw held before."""
    lines = [
        "#!/bin/sh",
        f"# The firewall of {rules.host.name}, rendered from the policy. Change that, not this.",
        "set -eu",
        "ufw --force reset >/dev/null",
        # With IPV6=no ufw leaves connections over loopback as the only ones of IPv6, but shows
        # nothing of it; with yes its own rules refuse the rest, and say so.
        "sed -i 's/^IPV6=.*/IPV6=yes/' /etc/default/ufw",
        *_file("before.rules", _before(rules)),
        *_file("before6.rules", _refused("before", 6)),
        *_file("after.rules", _after(rules)),
        *_file("after6.rules", _refused("after", 6)),
        *_file("sysctl.conf", _sysctl(rules)),
        "ufw logging off >/dev/null",
        *(f"ufw default deny {way} >/dev/null" for way in ("incoming", "outgoing", "routed")),
        *(_command("allow in", rule) for rule in rules.input if not rule.from_port),
        *(_command("allow out", rule) for rule in rules.output if not rule.from_port),
        *(line for rule in rules.forward for line in _routes(rule)),
        "ufw --force enable >/dev/null",
    ]
    return "\n".join(lines) + "\n"


def _file(name: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"cat >/etc/ufw/{name} <<'{_EOF}'"
    yield from lines
    yield _EOF


def _any(addresses: Sequence[Address]) -> list[str]:
    """Return addresses for ufw; every IPv4 address rather than ``any``, which is IPv6 too."""
    return [str(address) for address in addresses] or ["0.0.0.0/0"]


def _command(verb: str, rule: Rule, ways: str = "") -> str:
    """Return ufw's commands for a rule, one for each pair of addresses."""
    return "\n".join(
        f"ufw {verb}{ways} proto {rule.protocol} from {source} to {target} port {rule.port} "
        f"comment '{rule.words}' >/dev/null"
        for source in _any(rule.sources)
        for target in _any(rule.targets)
    )


def _routes(rule: Rule) -> Iterator[str]:
    for into in rule.interface_in:
        for out in rule.interface_out:
            yield _command("route allow", rule, f" in on {into} out on {out}")


def _tables(kind: str) -> list[str]:
    return ["*filter", *(f":ufw-{kind}-{hook} - [0:0]" for hook in _HOOKS)]


def _refused(kind: str, version: int) -> Iterator[str]:
    """Give a file that accepts loopback and refuses all else."""
    chains = _tables(kind)
    yield from [chains[0], *(line.replace(":ufw-", f":ufw{version}-") for line in chains[1:])]
    if kind == "before":
        yield f"-A ufw{version}-before-input -i lo -j ACCEPT"
        yield f"-A ufw{version}-before-output -o lo -j ACCEPT"
    yield "COMMIT"


def _before(rules: HostRules) -> Iterator[str]:
    yield from _tables("before")
    # ufw's own set-up puts these to use and wants them declared.
    yield ":ufw-not-local - [0:0]"
    for chain in ["spoofed", *_own_chains(rules)]:
        yield f":mp-{chain} - [0:0]"
    yield from _dropping(rules, "spoofed", "spoofed")
    for name, rule in rules.limited.items():
        yield from _limit(rules, name, rule)
    yield "-A ufw-before-input -i lo -j ACCEPT"
    yield "-A ufw-before-output -o lo -j ACCEPT"
    yield from (f"-A ufw-before-{hook} {_INVALID} -j DROP" for hook in _HOOKS)
    yield from _guards(rules.guards)
    for address in (*rules.own_addresses, "127.0.0.0/8"):
        yield f"-A ufw-before-input -s {address} -j mp-spoofed"
    for hook in _HOOKS:
        yield from _belonging(hook)
    yield from (_datagram("input", "-i", rule) for rule in rules.input if rule.from_port)
    yield from (_datagram("output", "-o", rule) for rule in rules.output if rule.from_port)
    for hook, own in (("input", rules.input), ("forward", rules.forward)):
        for rule in own:
            if rule.limit:
                yield from _counted(hook, rule)
    yield "COMMIT"
    if rules.translations:
        yield from _nat(rules)


def _own_chains(rules: HostRules) -> Iterator[str]:
    for name in rules.limited:
        yield f"over-{name}"
        yield f"count-{name}"


def _dropping(rules: HostRules, chain: str, kind: str) -> Iterator[str]:
    yield f"-A mp-{chain} {_log(rules, kind)}"
    yield f"-A mp-{chain} -j DROP"


def _log(rules: HostRules, chain: str) -> str:
    rate = f"-m limit --limit {rules.log_per_minute}/min --limit-burst 5"
    return f'{rate} -j LOG --log-prefix "{log_prefix(rules, chain)}"'


def _limit(rules: HostRules, name: str, rule: Rule) -> Iterator[str]:
    assert rule.limit is not None
    yield from _dropping(rules, f"over-{name}", "limited")
    for address in rule.unlimited:
        yield f"-A mp-count-{name} -s {address} -j RETURN"
    seconds = max(10, -(-rule.limit.burst // rule.limit.per_second))
    yield (
        f"-A mp-count-{name} -m hashlimit --hashlimit-above {rule.limit.per_second}/sec "
        f"--hashlimit-burst {rule.limit.burst} --hashlimit-mode srcip --hashlimit-name {name} "
        f"--hashlimit-htable-max 65536 --hashlimit-htable-expire {seconds * 1000} "
        f"-j mp-over-{name}"
    )


def _guards(guards: Sequence[Guard]) -> Iterator[str]:
    """Give what may come in by each interface, for what stays here and for what goes through."""
    for guard in guards:
        if guard.leases:
            yield (
                f"-A ufw-before-input -i {guard.interface} -s 0.0.0.0 -d 255.255.255.255 -p udp "
                "--sport 68 --dport 67 -j ACCEPT"
            )
    for hook in ("input", "forward"):
        chain = f"-A ufw-before-{hook}"
        for guard in guards:
            if guard.only:
                # More than one network on an interface would need a chain; there is one.
                yield f"{chain} -i {guard.interface} ! -s {guard.only[0]} -j mp-spoofed"
            for address in guard.never:
                yield f"{chain} -i {guard.interface} -s {address} -j mp-spoofed"


def _belonging(hook: str) -> Iterator[str]:
    chain = f"-A ufw-before-{hook}"
    yield f"{chain} -m conntrack --ctstate ESTABLISHED -j ACCEPT"
    for kind in ICMP:
        yield f"{chain} -p icmp --icmp-type {kind} -m conntrack --ctstate RELATED -j ACCEPT"
    # A connection begins with SYN alone; conntrack would take one up in its midst.
    yield f"{chain} -p tcp ! --syn {_NEW} -j DROP"


def _datagram(hook: str, side: str, rule: Rule) -> str:
    ways = rule.interface_in or rule.interface_out or ("",)
    return "\n".join(
        f"-A ufw-before-{hook} "
        + (f"{side} {way} " if way else "")
        + (f"-s {source} " if source else "")
        + (f"-d {target} " if target else "")
        + f"-p udp --sport {rule.from_port} --dport {rule.port} -j ACCEPT"
        for way in ways
        for source in (rule.sources or ("",))
        for target in (rule.targets or ("",))
    )


def _counted(hook: str, rule: Rule) -> Iterator[str]:
    for way in rule.interface_in or ("",):
        for source in rule.sources or ("",):
            for target in rule.targets or ("",):
                yield (
                    f"-A ufw-before-{hook} "
                    + (f"-i {way} " if way else "")
                    + (f"-s {source} " if source else "")
                    + (f"-d {target} " if target else "")
                    + f"-p {rule.protocol} --dport {rule.port} {_NEW} "
                    + f"-j mp-count-{rule.service}"
                )


def _nat(rules: HostRules) -> Iterator[str]:
    yield "*nat"
    # ufw empties its own chains when it reloads, and none of this table.
    yield "-F POSTROUTING"
    for one in rules.translations:
        for network in one.targets:
            yield (
                f"-A POSTROUTING -o {network.interface} -s {one.source.address} "
                f"-j SNAT --to-source {one.address}"
            )
    yield "COMMIT"


def _after(rules: HostRules) -> Iterator[str]:
    yield from _tables("after")
    yield from (f"-A ufw-after-{hook} {_log(rules, hook)}" for hook in _HOOKS)
    yield "COMMIT"


def _sysctl(rules: HostRules) -> Iterator[str]:
    if rules.host.router:
        yield "net/ipv4/ip_forward=1"
    for scope in ("all", "default"):
        yield f"net/ipv4/conf/{scope}/accept_redirects=0"
        yield f"net/ipv4/conf/{scope}/send_redirects=0"
        yield f"net/ipv4/conf/{scope}/accept_source_route=0"
    yield "net/ipv4/icmp_echo_ignore_broadcasts=1"
