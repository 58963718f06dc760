"""``medportal record``: files that somebody took along."""

import sys
from pathlib import Path

import click

from medportal.cli.context import Context


@click.group()
def record() -> None:
    """Records that somebody took along."""


@record.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--ca",
    "authorities",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An institution's CA certificate (ca.crt), got from a place you trust; may be repeated.",
)
@click.option(
    "--crl",
    "lists",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The newest list of withdrawn certificates of such an authority; may be repeated.",
)
@click.option(
    "--extract",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the signed file that a PDF has inside.",
)
@click.option("--show", is_flag=True, help="Print what each record says.")
@click.pass_obj
def record_verify(
    context: Context,
    file: Path,
    authorities: tuple[Path, ...],
    lists: tuple[Path, ...],
    extract: Path | None,
    show: bool,
) -> None:
    """Check a file that was taken along, FHIR or PDF, without any connection.

    Exit status: 0 right, 1 changed or signed by a key that must not, 2 not readable, 3 nothing is
    wrong, but somebody signed whose authority was not given.
    """
    from medportal.exports.report import check_file, in_words, rows

    checked = check_file(file, authorities, lists)
    if extract is not None:
        extract.write_bytes(checked.bundle)
    if context.as_json:
        context.show(rows(checked.report), "Records")
    else:
        click.echo("\n".join(in_words(checked, show=show)))
    sys.exit(int(checked.status))
