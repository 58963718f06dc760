"""Bridges, cables and addresses; DHCP and names; the patient, who moves."""

from deploy.topology.plan import PATIENT, ROUTER, Host, Network, Plan
from deploy.topology.world import PREFIX, World

LEASE_SECONDS = 15
#: The bridges stand in a namespace of their own. In the router's, its rules for what it forwards
#: would be asked about what neighbours say to each other too (bridge-nf-call-iptables).
SWITCH = f"{PREFIX}switch"


def lay(world: World, plan: Plan) -> None:
    """Make every host and connect it; the patient's cable stays out."""
    for name in plan.namespaces:
        world.add_host(name)
    world.script(f"ip netns add {SWITCH}\nip -n {SWITCH} link set lo up")
    for network in plan.networks.values():
        world.script(
            f"switch={SWITCH} router={PREFIX}{ROUTER} network={network.name}\n"
            "ip -n $switch link add $network type bridge\n"
            "ip -n $switch link set $network up\n"
            "ip link add leg-$network netns $switch type veth peer name $network netns $router\n"
            "ip -n $switch link set leg-$network master $network up\n"
            f"ip -n $router addr add {network.gateway}/{network.address.prefixlen} dev $network\n"
            "ip -n $router link set $network up"
        )
    world.script("sysctl -qw net.ipv4.ip_forward=1", ROUTER)
    for host in plan.hosts.values():
        _connect(world, plan.networks[host.network], host)
    _serve_leases(world, plan)


def _connect(world: World, network: Network, host: Host) -> None:
    _plug(world, host.name, network.name)
    world.script(
        f"ip addr add {host.address}/{network.address.prefixlen} dev eth0\n"
        f"ip route add default via {network.gateway}",
        host.name,
    )


def _plug(world: World, host: str, network: str) -> None:
    """Put a cable between a host and the bridge of a network; a cable there was goes."""
    world.script(
        f"switch={SWITCH} host={PREFIX}{host} cable=v-{host}\n"
        "ip -n $switch link del $cable 2>/dev/null || true\n"
        "ip link add $cable netns $switch type veth peer name eth0 netns $host\n"
        f"ip -n $switch link set $cable master {network} up\n"
        "ip -n $host link set eth0 up"
    )


def _serve_leases(world: World, plan: Plan) -> None:
    """Let the router lease addresses and tell names, as a router of a house does."""
    lines = ["no-resolv", "no-hosts", "bind-dynamic", "user=dnsmasq", "dhcp-authoritative"]
    lines += ["addn-hosts=/opt/medportal/deploy/seven-hosts/etc-hosts", "log-facility=-"]
    # Leases of addresses that nobody answers at are given at once: the runner is in a hurry.
    lines += ["no-ping", "dhcp-leasefile=/var/lib/misc/leases", "pid-file="]
    for network in plan.networks.values():
        first, *_between, last = network.leases.hosts()
        lines += [f"interface={network.name}"]
        lines += [f"dhcp-range=set:{network.name},{first},{last},{network.address.netmask},12h"]
    world.run(["tee", "/etc/dnsmasq-mp.conf"], ROUTER, text="\n".join(lines) + "\n")
    command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/etc/dnsmasq-mp.conf"]
    world.start(command, ROUTER, "/var/log/dnsmasq.log")


def move(world: World, plan: Plan, to: str) -> str:
    """Carry the patient to a network, with a lease from there; return the new address.

    Raises ``WorldError`` without one.
    """
    network = plan.networks[to]
    world.script("ip addr flush dev eth0 2>/dev/null || true", PATIENT)
    _plug(world, PATIENT, network.name)
    client = ["udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "10", "-T", "1", "-S"]
    world.run(client, PATIENT, seconds=LEASE_SECONDS)
    return world.script(
        "ip -4 -o addr show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'", PATIENT
    ).strip()


def open_router(world: World, plan: Plan) -> None:
    """Translate addresses as the policy says, and refuse nothing: the network without rules."""
    rules = [
        f'ip saddr {plan.networks[source].address} oifname "{to}" snat to {shown}'
        for source, targets, shown in plan.nat
        for to in targets
    ]
    lines = ["table ip plain {", "chain out {", "type nat hook postrouting priority srcnat", *rules]
    world.run(["nft", "-f", "-"], ROUTER, text="\n".join([*lines, "}", "}", ""]))
