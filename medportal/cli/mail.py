"""``medportal mail``: the outbox of mails to people."""

import click

from medportal.cli.context import Context, database_of


@click.group()
def mail() -> None:
    """Mails to people."""


@mail.command("status")
@click.argument("name")
@click.pass_obj
def mail_status(context: Context, name: str) -> None:
    """Say how many mails wait, were sent or given up, and what went wrong last."""
    from medportal.mail.outbox import queue

    with database_of(context.settings(), name).reader() as session:
        found = queue(session)
    row = {
        "waiting": found.waiting,
        "sending": found.sending,
        "sent": found.sent,
        "failed": found.failed,
        "oldest": found.oldest.isoformat() if found.oldest else "",
        "problem": found.problem or "",
    }
    context.show([row], f"Mail of {name}")
