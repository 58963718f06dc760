"""``medportal audit``: check, export and maintain the log."""

import sys
from datetime import datetime
from pathlib import Path

import click

from medportal.cli.context import Context, database_of
from medportal.core.clock import utcnow


@click.group()
def audit() -> None:
    """The audit log."""


_HEADS = click.option(
    "--head",
    "heads",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A signed head of this log that somebody else kept; may be given several times.",
)


@audit.command("verify")
@click.argument("name")
@_HEADS
@click.pass_obj
def audit_verify(context: Context, name: str, heads: tuple[Path, ...]) -> None:
    """Check the whole log of an institution; names the first event that is not right."""
    from medportal.ops.audit import verify_tenant_log

    settings = context.settings()
    report = verify_tenant_log(settings, settings.tenant(name), database_of(settings, name), heads)
    context.show([report.row], f"Audit log of {name}")
    if not report.is_whole:
        sys.exit(report.status)


@audit.command("export")
@click.argument("name")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.pass_obj
def audit_export(context: Context, name: str, output: Path) -> None:
    """Write the log and its heads as JSON Lines, to be verified elsewhere."""
    from medportal.ops.audit import export_tenant_log

    settings = context.settings()
    lines = export_tenant_log(settings.tenant(name), database_of(settings, name), output)
    context.show([{"file": str(output), "lines": lines}], "Exported")


@audit.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--authority",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The institution's CA certificate (ca.crt), got from a place you trust.",
)
@_HEADS
@click.pass_obj
def audit_check(context: Context, file: Path, authority: Path, heads: tuple[Path, ...]) -> None:
    """Check an exported log without its database; names the first event that is not right."""
    from medportal.ops.audit import verify_exported_log

    result = verify_exported_log(file, authority, heads)
    context.show([result.row], f"Audit log in {file.name}")
    if not result.is_whole:
        sys.exit(result.status)


@audit.command("head")
@click.argument("name")
@click.option("--partner", default="", help="The head held of this partner, not the own one.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.pass_obj
def audit_head(context: Context, name: str, partner: str, output: Path) -> None:
    """Write a signed head to a file, for whoever checks the log that it belongs to."""
    from medportal.ops.audit import export_head

    head = export_head(database_of(context.settings(), name), output, partner)
    context.show([{"file": str(output), "of": head.tenant, "events": head.size}], "Head")


@audit.command("accept-restore")
@click.argument("name")
@click.option(
    "--head",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The head of what is lost, from a partner, if the one kept here was restored too.",
)
@click.option("--kept", type=click.IntRange(0), help="How many first events are as they were.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where to write the signed statement, for the partners.",
)
@click.pass_obj
def audit_accept_restore(
    context: Context, name: str, head: Path | None, kept: int | None, output: Path
) -> None:
    """Declare that the database was restored from a backup; its log goes on from there."""
    from medportal.ops.audit import accept_restore

    settings = context.settings()
    database = database_of(settings, name)
    try:
        done = accept_restore(
            settings,
            settings.tenant(name),
            database,
            utcnow(),
            head=head,
            kept=kept,
            output=output,
        )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--kept") from error
    lost = done.restore.lost_size - done.restore.kept
    row = {"tenant": name, "kept": done.restore.kept, "lost": lost, "statement": str(output)}
    context.show([row], "Restore declared")


@audit.command("pin")
@click.argument("name")
@_HEADS
@click.confirmation_option(
    prompt="Without heads of partners a log that was cut looks whole. Remember its end as it is?"
)
@click.pass_obj
def audit_pin(context: Context, name: str, heads: tuple[Path, ...]) -> None:
    """Remember the last head beside the database again, after its file (last.head) was lost."""
    from medportal.ops.audit import pin_head

    settings = context.settings()
    database = database_of(settings, name)
    head = pin_head(settings, settings.tenant(name), database, utcnow(), heads)
    context.show([{"tenant": name, "events": head.size, "root": head.root.hex()}], "Pinned")


@audit.command("verifier")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.pass_obj
def audit_verifier(context: Context, output: Path) -> None:
    """Write the verifier of exported logs as one file: it needs Python and cryptography."""
    from medportal.ops.verifier_file import write_verifier

    modules = write_verifier(output)
    context.show([{"file": str(output), "modules": modules}], "Verifier")


@audit.command("accept-partner")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def audit_accept_partner(context: Context, name: str, file: Path) -> None:
    """Believe a partner's signed statement that its log was restored from a backup."""
    from medportal.ops.audit import accept_partner_restore

    settings = context.settings()
    database = database_of(settings, name)
    said = accept_partner_restore(settings, settings.tenant(name), database, file, utcnow())
    row = {"partner": said.tenant, "kept": said.kept, "lost": said.lost_size - said.kept}
    context.show([row], "Accepted")


@audit.command("prune")
@click.argument("name")
@click.option(
    "--before",
    type=click.DateTime(["%Y-%m-%d"]),
    required=True,
    help="Events before this day are forgotten; it lies a year back at least.",
)
@click.confirmation_option(prompt="What these events said cannot be brought back. Go on?")
@click.pass_obj
def audit_prune(context: Context, name: str, before: datetime) -> None:
    """Forget what old events said, under a signed checkpoint; the rest still verifies."""
    from medportal.ops.audit import prune_log

    settings = context.settings()
    database = database_of(settings, name)
    made = prune_log(settings, settings.tenant(name), database, before.date(), utcnow())
    row = {"tenant": name, "forgotten": made.size, "root": made.root.hex()}
    context.show([row], "Checkpoint")
