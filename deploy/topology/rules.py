"""The rendered rules, loaded on each host; taken away and put back for the controls."""

from collections.abc import Iterable

from deploy.topology.world import World

TABLE = "inet medportal"
# ufw keeps what it is told in /etc/ufw: each host has an /etc of its own.
_RENDER = """
cd /opt/medportal
PYTHONPATH=/opt/medportal .venv/bin/python -W ignore -m medportal.firewall render \
    --host {host} --format {form} >/run/rules.{form}
"""


def load(world: World, hosts: Iterable[str], form: str) -> None:
    """Render and load the rules of each host. Raises ``WorldError``."""
    for host in hosts:
        world.script(_RENDER.format(host=host, form=form), host)
        world.script("nft -f /run/rules.nft" if form == "nft" else "sh -eu /run/rules.ufw", host)


def off(world: World, host: str, form: str) -> None:
    """Let a host refuse nothing, so that a control can show that its rules do."""
    world.script(f"nft delete table {TABLE}" if form == "nft" else "ufw --force disable", host)


def on(world: World, host: str, form: str) -> None:
    """Put a host's rules back."""
    world.script("nft -f /run/rules.nft" if form == "nft" else "ufw --force enable", host)
