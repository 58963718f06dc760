"""``medportal demo``: what ``medportal run`` is put together from."""

from dataclasses import asdict

import click

from medportal.cli.context import Context, database_of
from medportal.cli.output import say
from medportal.core.clock import utcnow


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


@demo.command("people")
@click.argument("name")
@click.option("--url", required=True, help="Where the portal is reached.")
@click.pass_obj
def demo_people(context: Context, name: str, url: str) -> None:
    """Register the demonstration's people in one institution and print their passwords.

    Without synthetic patients; safe to run again, and then it prints nobody.
    """
    from medportal.demo.load import load_people

    settings = context.settings()
    tenant = settings.tenant(name)
    accounts = load_people(settings, tenant, database_of(settings, name), url, utcnow())
    context.show([asdict(account) for account in accounts], "Accounts")


@demo.command("post-office")
@click.pass_obj
def demo_post_office(context: Context) -> None:
    """Take the mails of demonstration institutions on this machine, until SIGTERM."""
    from medportal.demo.post_office import serve

    serve(context.settings())
