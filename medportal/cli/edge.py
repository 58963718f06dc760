"""``medportal edge``: what the nginx in front of a portal needs."""

import sys
from pathlib import Path

import click

from medportal.cli.context import Context
from medportal.cli.output import say
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


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@edge.command("renew")
@click.argument("name")
@click.pass_obj
def edge_renew(context: Context, name: str) -> None:
    """Renew what is due between edge and portal, and lay the edge's files ready; jobs does this."""
    from medportal.audit.append import append_all
    from medportal.audit.events import COMMAND_LINE
    from medportal.ops.certificates import issued, renew_edge_due
    from medportal.tenancy.registry import Database

    settings = context.settings()
    tenant, now = settings.tenant(name), utcnow()
    renewed, ready = renew_edge_due(settings, tenant, now)
    if renewed:
        database = Database(tenant)
        try:
            with database.writer() as session, session.begin():
                append_all(session, [issued(each, COMMAND_LINE, now) for each in renewed])
        finally:
            database.dispose()
    row = {
        "tenant": name,
        "renewed": ", ".join(str(each.purpose) for each in renewed) or "nothing is due",
        "laid_ready": ", ".join(ready) or "nothing new",
    }
    context.show([row], "Edge")


@edge.command("fetch")
@click.option("--portal", required=True, help="Where the portal is: https://NAME:PORT.")
@click.option("--host", required=True, help="The name under which browsers know it.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="The files that nginx reads.",
)
@click.option("--passphrase-file", "passphrase", type=_FILE, required=True)
@click.option(
    "--reload",
    "pid_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="nginx's file with the number of its process, which is told to read its files again.",
)
@click.pass_obj
def edge_fetch(
    context: Context,
    portal: str,
    host: str,
    directory: Path,
    passphrase: Path,
    pid_file: Path | None,
) -> None:
    """On the edge: fetch renewed keys from the portal, check them and give them to nginx.

    Exit status 1: one of them ends within 30 days, and no newer one is there.
    """
    from medportal.ops import edge_host
    from medportal.pki.passphrases import read_passphrase

    here = edge_host.Edge(directory, read_passphrase(passphrase))
    held = edge_host.take(here, edge_host.fetch(here, portal, host), utcnow())
    if pid_file is not None:
        # Whatever is new: an earlier run may have ended between the files and this.
        edge_host.reload(pid_file)
    rows = [
        {"file": each.file, "days_left": each.days_left, "renewed": "yes" if each.is_new else "no"}
        for each in held
    ]
    context.show(rows, "Edge")
    if any(each.days_left < edge_host.WARN_DAYS for each in held):
        say("medportal: a certificate ends soon and was not renewed: see medportal pki status")
        sys.exit(1)
