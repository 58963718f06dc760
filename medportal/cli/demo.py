"""``medportal demo``: what ``medportal run`` is put together from."""

import click

from medportal.cli.context import Context
from medportal.cli.output import say


@click.group()
def demo() -> None:
    """The demonstration."""


@demo.command("prepare")
@click.option("--hospital-url", required=True)
@click.option("--laboratory-url", required=True)
@click.pass_obj
def demo_prepare(context: Context, hospital_url: str, laboratory_url: str) -> None:
    """Make keys, databases, partners and data for a demonstration; safe to run again."""
    from medportal.ops.prepare import prepare

    urls = {"hospital": hospital_url, "laboratory": laboratory_url}
    accounts = prepare(context.settings(), urls, say=say)
    context.show([{"accounts": len(accounts)}], "Demonstration")


@demo.command("post-office")
@click.pass_obj
def demo_post_office(context: Context) -> None:
    """Take the mails of demonstration institutions on this machine, until SIGTERM."""
    from medportal.demo.post_office import serve

    serve(context.settings())
