"""``medportal pki``: the room of certificates brings the commands, this the institutions."""

import click

from medportal.cli.context import Context
from medportal.pki.commands import Home, register


def add(main: click.Group) -> None:
    """Add the commands to the program."""
    register(main, _home)


def _home(context: Context, name: str) -> Home:
    from medportal.ops.institution import pki_home

    settings = context.settings()
    return pki_home(settings, settings.tenant(name))
