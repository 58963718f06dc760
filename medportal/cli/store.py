"""``medportal store``: where sealed records lie; look, copy, sweep."""

import sys
from typing import TYPE_CHECKING

import click

from medportal.audit.events import COMMAND_LINE
from medportal.cli.context import Context, database_of
from medportal.cli.output import may_be_interrupted, say, say_documents
from medportal.core.clock import utcnow

if TYPE_CHECKING:
    from medportal.ops.stores import Checked, Stores


@click.group("store")
def document_store() -> None:
    """Document stores: where sealed records lie."""


def _stores(context: Context, name: str) -> "Stores":
    from medportal.ops.stores import Stores
    from medportal.vault.mongo import close_clients

    settings = context.settings()
    click.get_current_context().call_on_close(close_clients)
    return Stores(settings.tenant(name), database_of(settings, name))


_STORE = click.Choice(["sql", "mongodb"])


@document_store.command("status")
@click.argument("name")
@click.option("--verify", is_flag=True, help="Read every document and compare its hash.")
@click.pass_obj
def store_status(context: Context, name: str, verify: bool) -> None:
    """Say where documents lie and how many; with --verify, whether each is as it was filed."""
    stores = _stores(context, name)
    if not verify:
        context.show(stores.status(), f"Document stores of {name}")
        return
    checked = stores.check(say_documents(name))
    row = {"named": checked.looked_at, "as filed": checked.fits, "erased": checked.erased}
    context.show([{**row, "wrong": checked.wrong_ones}], f"Documents of {name}")
    _say_wrong(checked)


@document_store.command("copy")
@click.argument("name")
@click.option("--to", "to", type=_STORE, help="The store to copy to.")
@click.option("--from", "source", type=_STORE, help="The store to copy from.")
@click.option(
    "--clear", is_flag=True, help="Then empty the other store, which must not be in use any more."
)
@click.pass_obj
def store_copy(
    context: Context, name: str, to: str | None, source: str | None, clear: bool
) -> None:
    """Copy every document to the other store, while the portal serves; safe to run again.

    Each is compared with the hash in the index, before and after.
    """
    from medportal.ops.stores import direction

    stores = _stores(context, name)
    begin, end = direction(context.settings().tenant(name), to, source)
    with may_be_interrupted(
        "nothing is lost and both stores hold whole documents. Run the same command again: what is "
        "there already is not copied twice"
    ):
        done = stores.copy(begin, end, say_documents(name), COMMAND_LINE, clear=clear)
    row = {
        "copied": done.copied,
        "mended": done.mended,
        "as filed": done.result.fits,
        "erased": done.result.erased,
        "wrong": done.result.wrong_ones,
        "removed": done.removed,
    }
    context.show([row], f"Documents of {name} in {end}")
    _say_wrong(done.result)


@document_store.command("sweep")
@click.argument("name")
@click.option("--store", "kind", type=_STORE, help="The store to sweep; the one in use if absent.")
@click.pass_obj
def store_sweep(context: Context, name: str, kind: str | None) -> None:
    """Set aside documents that no record names; remove those set aside thirty days ago."""
    stores = _stores(context, name)
    store = kind or context.settings().tenant(name).documents.store
    with may_be_interrupted("what was set aside can be read as before. Run the same command again"):
        swept = stores.sweep(store, utcnow(), COMMAND_LINE)
    row = {
        "documents": swept.looked_at,
        "set aside": swept.set_aside,
        "taken back": swept.taken_back,
        "removed": swept.removed,
    }
    context.show([row], f"Sweep of {name}")


def _say_wrong(checked: "Checked") -> None:
    """Name the first documents that are not as they were filed, and end with status 1."""
    for document_id, what in checked.wrong:
        say(f"document {document_id}: {what}")
    if not checked.is_whole:
        sys.exit(1)
