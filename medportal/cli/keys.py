"""``medportal keys``: make, list and change the keys of an institution."""

import sys
from dataclasses import asdict
from datetime import timedelta

import click

from medportal.cli.context import Context, database_of
from medportal.cli.output import say_steps
from medportal.core.clock import utcnow


@click.group()
def keys() -> None:
    """Keys and certificates of an institution."""


@keys.command("init")
@click.argument("names", nargs=-1)
@click.pass_obj
def keys_init(context: Context, names: tuple[str, ...]) -> None:
    """Make every key that is missing; safe to run again."""
    from medportal.ops.institution import create_keys

    settings = context.settings()
    rows = [
        {
            "tenant": name,
            "made": ", ".join(create_keys(settings, settings.tenant(name), utcnow())) or "nothing",
        }
        for name in names or settings.tenants
    ]
    context.show(rows, "Keys")


@keys.command("status")
@click.argument("names", nargs=-1)
@click.pass_obj
def keys_status(context: Context, names: tuple[str, ...]) -> None:
    """List every key with its age, its purpose and how it stands; opens none for use."""
    from medportal.ops.keys import inventory

    settings = context.settings()
    for name in names or settings.tenants:
        lines = inventory(settings, settings.tenant(name), database_of(settings, name), utcnow())
        rows = [line.row for line in lines]
        if context.as_json:
            rows = [{"tenant": name, **row} for row in rows]
        context.show(rows, f"Keys of {name}")


_SETTLE = click.option(
    "--settle",
    type=click.IntRange(0, 3600),
    default=120,
    show_default=True,
    help="Seconds for requests under way; 0 only where nothing serves.",
)


@keys.command("rotate")
@click.argument("name")
@_SETTLE
@click.pass_obj
def keys_rotate(context: Context, name: str, settle: int) -> None:
    """Put a new tenant key in the old one's place, while the portal serves.

    May be interrupted: run it again, and it goes on.
    """
    from medportal.ops.rotation import change_of, rotate

    settings = context.settings()
    change = change_of(
        settings,
        settings.tenant(name),
        database_of(settings, name),
        say_steps(),
        timedelta(seconds=settle),
    )
    context.show([{"tenant": name, **asdict(rotate(change))}], "Tenant key renewed")


@keys.command("rekey")
@click.argument("name")
@_SETTLE
@click.option(
    "--give-up-damaged",
    is_flag=True,
    help="Lose for ever what does not open; without it, such patients keep their keys.",
)
@click.confirmation_option(
    prompt="Every patient gets a new key and every record is sealed anew. Go on?"
)
@click.pass_obj
def keys_rekey(context: Context, name: str, settle: int, give_up_damaged: bool) -> None:
    """Answer a theft of keys: another tenant key, other patient keys, everything sealed anew.

    The portal goes on serving. May be interrupted: run it again, and it goes on. Exit status 1:
    done, and something was given up that did not open.
    """
    from medportal.ops.rotation import change_of, rekey

    settings = context.settings()
    change = change_of(
        settings,
        settings.tenant(name),
        database_of(settings, name),
        say_steps(),
        timedelta(seconds=settle),
        give_up_damaged=give_up_damaged,
    )
    done = rekey(change)
    context.show([{"tenant": name, **asdict(done)}], "Keys replaced")
    if done.damaged:
        sys.exit(1)
