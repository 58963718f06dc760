"""``medportal backup``: make, check, prune and restore backups."""

import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import click

from medportal.cli.context import Context, database_of
from medportal.cli.output import may_be_interrupted, say, say_counts
from medportal.core.clock import utcnow


@click.group()
def backup() -> None:
    """Backups of an institution: two files, one with data, one with keys."""


_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_THERE = click.Path(exists=True, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _places(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where the files of backups lie."""
    there = click.Path(exists=True, file_okay=False, path_type=Path)
    data = click.option("--data", type=there, required=True, help="Where the data files are.")
    return data(
        click.option("--keys", type=there, required=True, help="Where the keys files are.")(command)
    )


def _opens_backups(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that open a backup."""
    key = click.option(
        "--key",
        "away",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        required=True,
        help="The directory that medportal backup key made.",
    )
    passphrase = click.option(
        "--passphrase-file", "passphrase", type=_FILE, required=True, help="Of the backup key."
    )
    return key(passphrase(command))


def _end_with(wrong: Iterable[str]) -> None:
    """Say what is not well; if anything is, end with status 1: the work itself was done."""
    told = [f"medportal: {each}" for each in wrong]
    for line in told:
        say(line)
    if told:
        sys.exit(1)


@backup.command("key")
@click.argument("name")
@click.option("--to", "away", type=_DIRECTORY, required=True, help="To be carried away.")
@click.option(
    "--passphrase-file", "passphrase", type=_FILE, required=True, help="Keep it apart from both."
)
@click.pass_obj
def backup_key(context: Context, name: str, away: Path, passphrase: Path) -> None:
    """Make the key that backups are sealed to; this machine keeps its public half only."""
    from medportal.ops.backup import create_backup_key

    settings = context.settings()
    create_backup_key(settings, settings.tenant(name), away, passphrase)
    context.show([{"tenant": name, "carry_away": str(away)}], "Backup key")


@backup.command("create")
@click.argument("name")
@click.option("--to", "data", type=_DIRECTORY, required=True, help="For the data file.")
@click.option(
    "--keys-to", "keys", type=_DIRECTORY, required=True, help="For the keys file, apart from it."
)
@click.pass_obj
def backup_create(context: Context, name: str, data: Path, keys: Path) -> None:
    """Make a backup while everything serves. Exit status 1: documents are missing or changed."""
    from medportal.backup.making import Places
    from medportal.ops.backup import create

    settings = context.settings()
    database = database_of(settings, name)

    tenant_ = settings.tenant(name)
    with may_be_interrupted("no backup was made; what is there of one cannot be restored"):
        made = create(settings, tenant_, database, Places(data, keys), utcnow(), say_counts())
    row = {
        "backup": made.backup,
        "data": str(made.data),
        "keys": str(made.keys),
        "rows": made.counts.rows,
        "documents": made.counts.documents,
        "damaged": made.damaged,
    }
    context.show([row], f"Backup of {name}")
    if made.damaged:
        say(
            "medportal: some documents are missing or not what their rows say, and are not in the "
            "backup: if a patient was erased or keys renewed meanwhile, make it again"
        )
        sys.exit(1)


@backup.command("check")
@click.argument("name")
@_places
@click.option("--max-age", type=click.IntRange(1), help="How many hours old the newest may be.")
@click.option("--all", "every", is_flag=True, help="Read every file, not the newest pair alone.")
@click.pass_obj
def backup_check(
    context: Context, name: str, data: Path, keys: Path, max_age: int | None, every: bool
) -> None:
    """Read the newest backup back, without its key: both files are as they were written.

    Exit status 1: they are not, or a file has no seal, is of somebody else, or should be gone.
    """
    from medportal.backup.making import Places
    from medportal.ops.backup import check_sealed

    settings = context.settings()
    at_most = None if max_age is None else timedelta(hours=max_age)
    found = check_sealed(
        settings,
        settings.tenant(name),
        Places(data, keys),
        utcnow(),
        at_most=at_most,
        every=every,
    )
    rows = [
        {
            "tenant": name,
            "part": each.label.part,
            "made": each.label.made.isoformat(),
            "file": str(each.path),
            "bytes": each.size,
            "state": "as written",
        }
        for each in found.read
    ]
    context.show(rows, "Backups" if every else "Newest backup")
    _end_with(found.wrong)


@backup.command("prune")
@click.argument("name")
@_places
@click.option("--keep", type=click.IntRange(1), required=True, help="How many data files to keep.")
@click.option(
    "--keys-days",
    type=click.IntRange(3),
    help="Days after which no keys file may be left, if fewer than retention.backup_days; they go"
    " two days earlier.",
)
@click.pass_obj
def backup_prune(
    context: Context, name: str, data: Path, keys: Path, keep: int, keys_days: int | None
) -> None:
    """Remove the oldest backups: keys files by days, data files by number.

    The newest backup of which both files are whole always stays. Exit status 1: its keys file is
    older than people are told, because no backup was made since, or a file cannot be removed.
    """
    from medportal.backup.making import Places
    from medportal.ops.backup import prune

    settings = context.settings()
    places = Places(data, keys)
    tenant_ = settings.tenant(name)
    done = prune(settings, tenant_, places, utcnow(), keep=keep, keys_days=keys_days)
    rows = [{"tenant": name, "removed": str(path)} for path in done.removed]
    context.show(rows or [{"tenant": name, "removed": "nothing"}], "Removed")
    if done.unsealed:
        say(
            f"medportal: {done.unsealed} data files have no seal beside them and were left alone: "
            "check and remove them by hand"
        )
    wrong = list(done.stuck)
    if done.overdue is not None:
        wrong.append(
            f"{done.overdue} is of the newest whole backup and stays, although its days are over, "
            "and with it the keys of patients who were erased since: make a backup now"
        )
    if wrong:
        _end_with(wrong)


@backup.command("verify")
@click.argument("paths", metavar="FILE...", type=_THERE, nargs=-1, required=True)
@click.option("--max-age", type=click.IntRange(1), help="How many hours old each may be.")
@_opens_backups
@click.pass_obj
def backup_verify(
    context: Context, paths: tuple[Path, ...], max_age: int | None, away: Path, passphrase: Path
) -> None:
    """Open backup files and read them to their ends: whole, and this institution's own.

    Of a directory, the newest files in it. Exit status 1: one is damaged or cannot be
    read, is not signed by the institution, too old or of the future, or there is none.
    """
    from medportal.ops.backup import opener, verify

    at_most = None if max_age is None else timedelta(hours=max_age)
    done = verify(list(paths), opener(away, passphrase), utcnow(), at_most)
    rows = [
        {
            "tenant": found.label.tenant,
            "part": found.label.part,
            "made": found.label.made.isoformat(),
            "rows": found.counts.rows,
            "documents": found.counts.documents,
            "files": found.counts.files,
            "state": "whole",
        }
        for found in done.whole
    ]
    context.show(rows, "Backups")
    _end_with(done.wrong)


@backup.command("restore")
@click.argument("name")
@click.option("--data", type=_FILE, required=True, help="The data file.")
@click.option("--keys", type=_FILE, required=True, help="The keys file: this one's or a later.")
@click.option("--ledger", type=_FILE, help="The newest ledger of erasures that is left.")
@click.option(
    "--ledger-of-the-backup",
    "is_old",
    is_flag=True,
    help="No newer one is left: whoever was erased since the keys file was made comes back.",
)
@click.option("--head", type=_FILE, help="The last head of what is lost, from a partner.")
@click.option(
    "--statement",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --head: where to write the signed statement for the partners.",
)
@click.option(
    "--hold",
    type=click.Choice(["staff", "everybody", "nobody"]),
    default="staff",
    show_default=True,
    help="Whose accounts stay closed until medportal tenant review confirms them.",
)
@_opens_backups
@click.pass_obj
def backup_restore(
    context: Context,
    name: str,
    data: Path,
    keys: Path,
    ledger: Path | None,
    is_old: bool,
    head: Path | None,
    statement: Path | None,
    hold: str,
    away: Path,
    passphrase: Path,
) -> None:
    """Restore a backup into an empty directory and database; stop everything that runs first."""
    from medportal.backup.restoring import Pair
    from medportal.ops.backup import Lost, opener, restore
    from medportal.ops.review import Whom

    if (head is None) != (statement is None):
        raise click.UsageError("--head and --statement belong together")
    if (ledger is None) != is_old:
        raise click.UsageError(
            "say which ledger of erasures counts: --ledger FILE, the newest that is left (from the "
            "lost machine, or a later keys backup), or --ledger-of-the-backup, with which patients "
            "who were erased since come back"
        )
    settings = context.settings()
    done = restore(
        settings,
        settings.tenant(name),
        Pair(data, keys),
        opener(away, passphrase),
        utcnow(),
        ledger=ledger,
        lost=Lost(head, statement) if head and statement else None,
        whom=Whom(hold),
    )
    row = {
        "tenant": name,
        "made": done.data.label.made.isoformat(),
        "rows": done.data.counts.rows + done.keys.counts.rows,
        "documents": done.data.counts.documents,
        "files": done.keys.counts.files,
        "erased_again": done.erased,
        "held_for_review": done.held,
        "erasures_known": done.lines,
        "cannot_be_opened": "unknown" if done.shut is None else done.shut,
    }
    context.show([row], "Restored")
    say(
        "medportal: everything is as at the backup: who was suspended, left a role or a ward, was "
        "blocked by a patient, or was revoked as a partner since then is back. Keep the portal "
        "closed and go through docs/operations.md, After a restore"
    )
    if done.held:
        say(
            f"medportal: {done.held} accounts are closed until somebody confirms them: medportal "
            f"tenant review {name}, or an admin on the page of people. Look first at who may do "
            "that: the accounts listed there as active"
        )
    if done.shut:
        say(
            f"medportal: {done.shut} secrets of authenticator apps or held transfers lie under a "
            "tenant key that the keys file no longer has: take the keys file that was made with "
            "the data, or let these people set up their app again"
        )
    if head is None:
        say(
            "medportal: if a partner holds a later head of this log, declare what is lost before "
            "jobs starts: medportal audit accept-restore --head FILE"
        )
