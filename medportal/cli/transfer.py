"""``medportal transfer``: the processes that face partners."""

import click

from medportal.cli.context import Context


@click.group()
def transfer() -> None:
    """The exchange of records with partners."""


@transfer.command("receive")
@click.argument("name")
@click.pass_obj
def transfer_receive(context: Context, name: str) -> None:
    """Accept records from partners until SIGTERM."""
    from medportal.ops.transfer import receive

    settings = context.settings()
    receive(settings, settings.tenant(name))


@transfer.command("send")
@click.argument("name")
@click.pass_obj
def transfer_send(context: Context, name: str) -> None:
    """Drain the outbox until SIGTERM."""
    from medportal.ops.transfer import send

    settings = context.settings()
    send(settings, settings.tenant(name))
