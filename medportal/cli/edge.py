"""``medportal edge``: what the nginx in front of a portal needs."""

import click

from medportal.cli.context import Context
from medportal.core.clock import utcnow


@click.group()
def edge() -> None:
    """The edge (nginx) in front of a portal."""


@edge.command("init")
@click.argument("name")
@click.option(
    "--portal",
    "names",
    multiple=True,
    required=True,
    help="A host name under which the edge reaches the portal; may be given several times.",
)
@click.pass_obj
def edge_init(context: Context, name: str, names: tuple[str, ...]) -> None:
    """Make the authority between edge and portal, and a key for each of the two."""
    from medportal.ops.hosts import create_edge

    settings = context.settings()
    made = create_edge(settings, settings.tenant(name), names, utcnow())
    context.show([{"tenant": name, "made": ", ".join(made) or "nothing"}], "Edge")
