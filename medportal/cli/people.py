"""``medportal staff`` and ``medportal sessions``: the first admin, and signing everybody out."""

import click

from medportal.cli.context import Context, database_of
from medportal.core.clock import utcnow


@click.group()
def staff() -> None:
    """Staff."""


@staff.command("create-admin")
@click.argument("name")
@click.option("--number", prompt="Citizen card number")
@click.option("--person", prompt="Name")
@click.option("--birth-date", prompt="Date of birth (YYYY-MM-DD)")
@click.option("--email", default="", help="With it, a mailed link is needed besides the code.")
@click.pass_obj
def create_admin(
    context: Context, name: str, number: str, person: str, birth_date: str, email: str
) -> None:
    """Register the first admin and print the code with which the account is activated."""
    from medportal.ops.people import register_admin

    settings = context.settings()
    tenant = settings.tenant(name)
    database = database_of(settings, name)
    made = register_admin(tenant, database, number, person, birth_date, utcnow(), email=email)
    row = {"tenant": name, "activation_code": made.code, "link_mailed": made.mail_sent}
    context.show([row], "Admin")


@click.group()
def sessions() -> None:
    """Sessions of people who are signed in."""


@sessions.command("end")
@click.argument("name")
@click.option("--reason", required=True, help="A short code, such as stolen-device.")
@click.pass_obj
def sessions_end(context: Context, name: str, reason: str) -> None:
    """Sign everybody of an institution out; they can sign in again at once."""
    from medportal.ops.sessions import end_all_sessions

    ended = end_all_sessions(database_of(context.settings(), name), reason, utcnow())
    context.show([{"tenant": name, "ended": ended}], "Sessions")
