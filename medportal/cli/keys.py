"""``medportal keys``: make, list and change the keys of an institution."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from medportal.cli.context import Context, database_of
from medportal.cli.output import may_be_interrupted, say, say_steps
from medportal.core.clock import utcnow

if TYPE_CHECKING:
    from medportal.keys import TenantKeys
    from medportal.ops.boxes import Renewed
    from medportal.ops.keys import Line


#: The groups whose keys lie with the institution.
_GROUPS = ("ca", "portal", "pair", "exchange", "outbox", "jobs", "edge")


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


@keys.command("passphrase")
@click.argument("name")
@click.argument("group", type=click.Choice(_GROUPS))
@click.option(
    "--new-passphrase-file",
    "new",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="What openssl rand -base64 33 printed, mode 0600.",
)
@click.pass_obj
def keys_passphrase(context: Context, name: str, group: str, new: Path) -> None:
    """Put the key files of a group under a new passphrase; stop its processes first.

    May be interrupted: run it again with the same file, and it goes on.
    """
    from medportal.ops.passphrases import change_and_tell
    from medportal.pki.profiles import Group

    settings, of = context.settings(), Group(group)
    tenant, database = settings.tenant(name), database_of(settings, name)
    with may_be_interrupted(_AGAIN_FILES):
        done = change_and_tell(settings, tenant, database, of, new, utcnow())
    row = {"tenant": name, "group": group, "changed": done.changed, "files": done.files}
    context.show([row], "Passphrase changed")
    say(
        f"medportal: {group}.passphrase was replaced"
        if done.is_passphrase_file_replaced
        else f"medportal: now put the new file in the place of {group}.passphrase, where the "
        "service manager keeps it, before anything is started"
    )
    say(
        "medportal: copies on other machines, and backups, are under the former passphrase still: "
        "carry files and passphrase there, and make a backup (docs/keys.md)"
    )


_AGAIN_FILES = (
    "some files are under the new passphrase, the others under the former: keep both, and run the "
    "same command again"
)
_AGAIN = (
    "both keys are kept and everything opens. Run the same command again, and it goes on from here"
)
_AGAIN_BOXES = (
    "older keys of boxes are kept, or are destroyed in part. Run the same command again, and it "
    "goes on from here"
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
    "--boxes",
    "only_boxes",
    is_flag=True,
    help="Renew the keys of inbox and outbox alone; seals anew only, where that is not finished.",
)
@click.option("--fresh", is_flag=True, help="With --boxes: after another theft, renew them again.")
@click.option(
    "--finish",
    is_flag=True,
    help="Destroy older keys of inbox and outbox, once every machine has the new key files.",
)
@click.option(
    "--give-up-shut",
    is_flag=True,
    help="With --finish: lose for ever what no key of inbox and outbox opens.",
)
@click.option("--yes", is_flag=True, help="Confirm the action without prompting.")
@click.pass_context
def keys_rekey(ctx: click.Context, /, name: str, yes: bool, **_options: object) -> None:
    """Answer a theft of keys: another tenant key, other patient keys, everything sealed anew.

    The portal goes on serving. May be interrupted: run it again, and it goes on. Exit status 1:
    done, and something was given up that did not open, or a box kept its key.
    """
    from medportal.keys import BOXES, TenantKeys

    _refuse_contradictions(ctx)
    context: Context = ctx.obj
    settings = context.settings()
    tenant = settings.tenant(name)
    if not yes:
        click.confirm(_rekey_prompt(ctx.params), abort=True, err=True)
    held = TenantKeys(
        tenant, settings.home(tenant.id), tuple(BOXES.values()), settings.secrets(tenant.id)
    )
    if ctx.params["finish"]:
        _finish_boxes(ctx, held)
    else:
        _renew(ctx, held)


#: Options of a rekey that only mean something with, or without, another one.
_ONLY_WITH = {"fresh": "only_boxes", "give_up_shut": "finish"}
_ONLY_WITHOUT = {
    "give_up_damaged": ("only_boxes", "finish"),
    "settle": ("only_boxes", "finish"),
    "finish": ("only_boxes",),
}


def _refuse_contradictions(ctx: click.Context) -> None:
    """Raise ``UsageError`` for an option that would be passed over."""
    spelled = {param.name: param.opts[0] for param in ctx.command.params}
    given = {
        option
        for option in ctx.params
        if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE
    }
    for option, needed in _ONLY_WITH.items():
        if option in given and needed not in given:
            raise click.UsageError(f"{spelled[option]} is for {spelled[needed]}")
    for option, others in _ONLY_WITHOUT.items():
        for other in others:
            if option in given and other in given:
                raise click.UsageError(
                    f"{spelled[option]} and {spelled[other]} do not go together: "
                    "they are done one after the other"
                )


def _rekey_prompt(params: Mapping[str, object]) -> str:
    if params["give_up_shut"]:
        return "Items that no key opens are lost for ever, and older keys destroyed. Go on?"
    if params["finish"]:
        return "What is still sealed to the older keys can never be opened again. Go on?"
    if params["only_boxes"]:
        return "Inbox and outbox get new keys and what lies there is sealed anew. Go on?"
    return "Every patient gets a new key and every record is sealed anew. Go on?"


def _finish_boxes(ctx: click.Context, held: "TenantKeys") -> None:
    from medportal.ops import boxes
    from medportal.vault import keystore

    context, name = ctx.obj, held.tenant.id
    database = database_of(context.settings(), name)
    with may_be_interrupted(_AGAIN_BOXES), keystore.changing(held.places.keyring):
        done = boxes.finish(
            held, database, _say_resealed, utcnow, give_up_shut=ctx.params["give_up_shut"]
        )
    for item in done.given_up:
        say(f"medportal: given up: {item}")
    row = {"tenant": name, **done.destroyed, "given_up": len(done.given_up)}
    context.show([row], "Older keys of boxes destroyed")
    if done.given_up:
        sys.exit(1)


def _renew(ctx: click.Context, held: "TenantKeys") -> None:
    from medportal.ops import boxes
    from medportal.ops.rotation import change_of, rekey
    from medportal.vault import keystore

    context, name = ctx.obj, held.tenant.id
    settings = context.settings()
    database = database_of(settings, name)
    made: list[boxes.Renewed] = []

    def renew_boxes(run: str, *, is_fresh: bool = False) -> None:
        made[:] = boxes.renew_all(held, database, _say_resealed, utcnow, run, is_fresh=is_fresh)
        # At once: what comes after may be refused or interrupted, and this stays to be done.
        _say_boxes(held, made)

    row: dict[str, object] = {"tenant": name}
    damaged = 0
    with may_be_interrupted(_AGAIN):
        if ctx.params["only_boxes"]:
            with keystore.changing(held.places.keyring):
                renew_boxes("", is_fresh=ctx.params["fresh"])
        else:
            change = change_of(
                settings,
                held.tenant,
                database,
                say_steps(),
                timedelta(seconds=ctx.params["settle"]),
                give_up_damaged=ctx.params["give_up_damaged"],
            )
            done = rekey(replace(change, renew_boxes=renew_boxes))
            row, damaged = row | asdict(done), done.damaged
    for one in made:
        row[one.box] = None if one.problem else one.items
        row[f"{one.box}_fingerprint"] = one.fingerprint
    row["boxes_shut"] = sum(len(one.shut) for one in made)
    context.show([row], "Keys replaced")
    if damaged or row["boxes_shut"] or any(one.problem for one in made):
        sys.exit(1)


def _say_resealed(box: str, number: int) -> None:
    say(f"{box}: {number} items sealed anew")


def _say_boxes(keys: "TenantKeys", made: Sequence["Renewed"]) -> None:
    """Say of each box what became of it, and what is left to do."""
    for one in made:
        if one.problem:
            what = "has a new key, and is not done" if one.is_new else "keeps its key"
            say(
                f"medportal: the {one.box} {what}: {one.problem}. Run medportal keys rekey --boxes "
                "where its passphrase is, once that is mended"
            )
        elif not one.is_new:
            say(f"medportal: the {one.box} had its new key already: items were sealed anew alone")
        if one.shut:
            named = ", ".join(map(str, one.shut[:10]))
            say(f"medportal: {len(one.shut)} items of the {one.box} do not open, as: {named}")
        if one.fingerprint:
            say(f"medportal: fingerprint of {one.box}.pub: {one.fingerprint}")
    if all(one.problem and not one.is_new for one in made):
        return
    say(
        f"medportal: carry inbox.pub and outbox.pub from {keys.places.vault} to every other "
        "machine or user that has copies, inbox.key to copies of jobs, outbox.key to those of "
        "the sender, and compare fingerprints there (medportal keys status). Then destroy the "
        "older keys: medportal keys rekey --finish"
    )
