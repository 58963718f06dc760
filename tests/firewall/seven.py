"""The policy's hosts in namespaces, without what runs on them: for packets, not for records."""

from pathlib import Path

import netns

from medportal.firewall.loader import load
from medportal.firewall.policy import Host, Network, Policy
from medportal.firewall.render import Format, render

SHIPPED = Path(__file__).parents[2] / "firewall/policy.toml"
POLICY = load(SHIPPED)


class Seven:
    """Hosts of a policy on bridges behind the router; ``patient`` is wherever it was put."""

    def __init__(self, net: netns.Net, policy: Policy, home: Path) -> None:
        self.net, self.policy, self.home = net, policy, home
        self.ports: list[str] = []
        # The switches are machines of their own: what passes between two hosts of one network
        # is nothing that the router sees, and a bridge at the router would show it to its rules.
        self.switches = net.add("switches")
        self.router = net.add("router")
        self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for network in policy.networks.values():
            bridge = network.interface
            self.switches.run("ip", "link", "add", bridge, "type", "bridge")
            self.switches.run("ip", "link", "set", bridge, "up")
            self._plug(self.router, bridge, network)
            netns.addresses(self.router, bridge, f"{network.gateway}/{network.address.prefixlen}")

    def _plug(self, space: netns.Space, interface: str, network: Network) -> None:
        port = f"v{len(self.ports)}"
        self.ports.append(port)
        self.net.wire(self.switches, port, space, interface)
        self.switches.run("ip", "link", "set", port, "master", network.interface)

    def attach(self, name: str, network_name: str, address: str, *more: str) -> netns.Space:
        """Put a host into a network."""
        network = self.policy.networks[network_name]
        space = self.net.add(name)
        self._plug(space, "eth0", network)
        width = network.address.prefixlen
        netns.addresses(space, "eth0", f"{address}/{width}", *more)
        netns.default_route([space], str(network.gateway))
        return space

    def host(self, name: str) -> netns.Space:
        """Put a host of the policy where it belongs."""
        host = self.policy.hosts[name]
        assert host.address
        return self.attach(name, host.networks[0].name, str(host.address))

    def load(self, name: str, form: Format) -> None:
        """Load a host's rendered rules."""
        space, host = self.net.spaces[name], self.policy.hosts[name]
        apply_rules(space, host, self.policy, form, self.home)


def apply_rules(space: netns.Space, host: Host, policy: Policy, form: Format, home: Path) -> None:
    """Load the rules of a host of the policy in a namespace."""
    text = render(policy, host, form)
    if form == Format.NFT:
        space.nft(text)
        return
    if not (home / space.name).exists():
        netns.private_ufw(space, home)
    space.run("sh", "-s", stdin=text)
