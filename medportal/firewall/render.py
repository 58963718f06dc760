"""The rules of a host in one of the formats that a machine loads (PURE)."""

from enum import StrEnum

from medportal.firewall import nft, ufw
from medportal.firewall.policy import Host, Policy
from medportal.firewall.rules import rules_of


class Format(StrEnum):
    """``nft``: a file for nftables. ``ufw``: a shell script that sets ufw up."""

    NFT = "nft"
    UFW = "ufw"


def render(policy: Policy, host: Host, form: Format) -> str:
    """Return the text that makes a host obey the policy; the same bytes for the same policy."""
    rules = rules_of(policy, host)
    return nft.render(rules) if form == Format.NFT else ufw.render(rules)
