"""``medportal keys``: make, list and change the keys of an institution."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medportal.cli.context import Context, database_of
from medportal.cli.output import may_be_interrupted, say, say_steps
from medportal.core.clock import utcnow

if TYPE_CHECKING:
    from medportal.keys import TenantKeys
    from medportal.ops.keys import Line


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
        if context.as_json:
            context.show([{"tenant": name, **line.row} for line in lines], f"Keys of {name}")
        else:
            context.show([_short(line) for line in lines], f"Keys of {name}")


@keys.command("export")
@click.argument("name")
@click.option(
    "--host",
    type=click.Choice(["edge", "receiver", "sender"]),
    required=True,
    help="What the keys are for.",
)
@click.option(
    "--to",
    "target",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="A new directory, to be carried to that host.",
)
@click.pass_obj
def keys_export(context: Context, name: str, host: str, target: Path) -> None:
    """Copy the keys that one host needs, and the passphrases of just those."""
    from medportal.ops.hosts import HostRole, export_host

    settings = context.settings()
    written = export_host(settings, settings.tenant(name), HostRole(host), target)
    context.show([{"file": str(path)} for path in written], f"For the {host}")


def _short(line: "Line") -> dict[str, object]:
    """Return a row that fits into eighty columns: the number beside the name, no group."""
    row = line.row
    key = line.key if line.number == 1 else f"{line.key} ({line.number})"
    return {"key": key, **{n: row[n] for n in ("purpose", "made", "days", "until", "state")}}


_AGAIN = (
    "both keys are kept and everything opens. Run the same command again, and it goes on from here"
)
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
    with may_be_interrupted(_AGAIN):
        done = rotate(change)
    context.show([{"tenant": name, **asdict(done)}], "Tenant key renewed")


@keys.command("rekey")
@click.argument("name")
@_SETTLE
@click.option(
    "--give-up-damaged",
    is_flag=True,
    help="Lose for ever what does not open; without it, such patients keep their keys.",
)
@click.option(
    "--boxes", "only_boxes", is_flag=True, help="Renew the keys of inbox and outbox alone."
)
@click.option(
    "--finish",
    is_flag=True,
    help="Destroy older keys of inbox and outbox, once every receiver has the new inbox.pub.",
)
@click.option("--yes", is_flag=True, help="Confirm the action without prompting.")
@click.pass_obj
def keys_rekey(
    context: Context,
    name: str,
    settle: int,
    give_up_damaged: bool,
    only_boxes: bool,
    finish: bool,
    yes: bool,
) -> None:
    """Answer a theft of keys: another tenant key, other patient keys, everything sealed anew.

    The portal goes on serving. May be interrupted: run it again, and it goes on. Exit status 1:
    done, and something was given up that did not open, or a box kept its key.
    """
    from medportal.keys import BOXES, TenantKeys
    from medportal.ops import boxes
    from medportal.ops.rotation import change_of, rekey
    from medportal.vault import keystore

    if only_boxes and finish:
        raise click.UsageError("--boxes and --finish are done one after the other")
    if not yes:
        click.confirm(_rekey_prompt(only_boxes=only_boxes, finish=finish), abort=True, err=True)
    settings = context.settings()
    tenant = settings.tenant(name)
    database = database_of(settings, name)
    held = TenantKeys(
        tenant, settings.home(tenant.id), tuple(BOXES.values()), settings.secrets(tenant.id)
    )
    if finish:
        with keystore.changing(held.places.keyring):
            gone = boxes.finish(held, database, utcnow)
        context.show([{"tenant": name, **gone}], "Older keys of boxes destroyed")
        return

    renewed: list[boxes.Renewed] = []

    def renew_boxes() -> None:
        def told(box: str, number: int) -> None:
            say(f"{box}: {number} items sealed anew")

        renewed[:] = boxes.renew_all(held, database, told, utcnow)

    with may_be_interrupted(_AGAIN):
        if only_boxes:
            with keystore.changing(held.places.keyring):
                renew_boxes()
            row: dict[str, object] = {"tenant": name}
            damaged = 0
        else:
            change = change_of(
                settings,
                tenant,
                database,
                say_steps(),
                timedelta(seconds=settle),
                give_up_damaged=give_up_damaged,
            )
            done = rekey(replace(change, renew_boxes=renew_boxes))
            row, damaged = {"tenant": name, **asdict(done)}, done.damaged
    named = {one.box: one for one in renewed}
    row |= {box: named[box].items if box in named else "not renewed" for box in BOXES}
    row["boxes_shut"] = sum(one.shut for one in renewed)
    context.show([row], "Keys replaced")
    _say_boxes(held, named)
    if damaged or len(named) < len(BOXES) or row["boxes_shut"]:
        sys.exit(1)


def _rekey_prompt(*, only_boxes: bool, finish: bool) -> str:
    if finish:
        return "What is still sealed to the older keys can never be opened again. Go on?"
    if only_boxes:
        return "Inbox and outbox get new keys and what lies there is sealed anew. Go on?"
    return "Every patient gets a new key and every record is sealed anew. Go on?"


def _say_boxes(keys: "TenantKeys", renewed: Mapping[str, object]) -> None:
    """Say what is left to do about the boxes."""
    for box, group in _boxes_left(renewed):
        say(
            f"medportal: the {box} keeps its key: {group}.passphrase is not on this machine. Run "
            "medportal keys rekey --boxes where it is"
        )
    if "inbox" in renewed:
        say(
            f"medportal: carry {keys.places.vault}/inbox.pub to receivers on other machines, then "
            "destroy the older keys: medportal keys rekey --finish"
        )


def _boxes_left(renewed: Mapping[str, object]) -> list[tuple[str, str]]:
    from medportal.keys import BOXES

    return [(box, str(group)) for box, group in BOXES.items() if box not in renewed]
