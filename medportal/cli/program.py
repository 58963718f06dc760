"""The program that all nouns hang from: its options, and what becomes of errors."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from medportal.cli import pki
from medportal.cli.audit import audit
from medportal.cli.backup import backup
from medportal.cli.context import Context
from medportal.cli.demo import demo
from medportal.cli.edge import edge
from medportal.cli.keys import keys
from medportal.cli.mail import mail
from medportal.cli.output import INTERRUPTED, say
from medportal.cli.partner import partner
from medportal.cli.people import sessions, staff
from medportal.cli.record import record
from medportal.cli.serve import jobs, portal, run_demonstration
from medportal.cli.store import document_store
from medportal.cli.tenant import tenant
from medportal.cli.transfer import transfer
from medportal.core.errors import MedportalError
from medportal.firewall.commands import firewall

DEFAULT_CONFIG = "development.ini"
NOUNS = (
    *(audit, backup, demo, edge, firewall, jobs, keys, mail, partner, portal, record),
    *(run_demonstration, sessions, staff, document_store, tenant, transfer),
)


class _Group(click.Group):
    """Turns errors that medportal names into lines for an operator."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.Abort, KeyboardInterrupt):
            # Click would end with 1, which says here that the work was done.
            say("medportal: stopped: nobody said yes, or Ctrl-C was pressed")
            sys.exit(INTERRUPTED)
        except MedportalError as error:
            problems = getattr(error, "problems", (str(error),))
        except OSError as error:
            if error.filename is None:
                raise
            problems = (f"{error.filename}: {error.strerror}",)
        except Exception as error:
            problems = _about_database(error)
            if not problems:
                raise
        for problem in problems:
            say(f"medportal: {problem}")
        sys.exit(2)


def _about_database(error: Exception) -> tuple[str, ...]:
    """Return what to say if a database refused, without its driver's words.

    They may quote the address, and that the password.
    """
    from sqlalchemy.exc import InterfaceError, OperationalError

    if not isinstance(error, OperationalError | InterfaceError):
        return ()
    return (
        f"a database cannot be reached or used ({type(error).__name__}): check "
        "database.url in the tenant's file, and that its server runs",
    )


@click.group(cls=_Group)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The ini file.",
)
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="An ini variable.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.pass_context
def main(ctx: click.Context, config: Path, pairs: tuple[str, ...], as_json: bool) -> None:
    """Operate medportal."""
    # Databases and whatever else is made here are for this user only.
    os.umask(0o077)
    from medportal.logs import configure_logging

    configure_logging()
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter("write NAME=VALUE", param_hint="--set")
        options[name] = value
    ctx.obj = Context(config.resolve(), options, as_json)


for noun in NOUNS:
    main.add_command(noun)
pki.add(main)
