"""The command line: ``medportal [--config FILE] [--set NAME=VALUE] NOUN VERB``.

Every noun understands ``--json``. Errors that an operator can mend are one line each on
standard error, exit status 2, without a trace.
"""

import configparser
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pyramid.paster import get_appsettings
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import InterfaceError, OperationalError

from medportal.core.clock import utcnow
from medportal.core.errors import ConfigurationError, MedportalError
from medportal.firewall import commands as firewall_commands
from medportal.logs import configure_logging
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import Database, TenantRegistry

if TYPE_CHECKING:
    from medportal.ops.stores import Checked, Stores

DEFAULT_CONFIG = "development.ini"
#: How often long work says how far it has come.
PROGRESS_SECONDS = 2.0
#: More fields than this of a single row do not fit beside each other in a terminal.
WIDE = 5


@dataclass(frozen=True, slots=True)
class Context:
    """What every command gets: the ini file and its variables, parsed when asked for."""

    config: Path
    overrides: dict[str, str]
    as_json: bool

    @property
    def options(self) -> dict[str, str]:
        """Return the variables of the ini file's own ``[variables]``, then those given."""
        return {**ini_variables(self.config), **self.overrides}

    def settings(self) -> Settings:
        """Return the settings. Raises ``ConfigurationError`` with every problem."""
        try:
            return parse_settings(get_appsettings(str(self.config), options=self.options))
        except (configparser.Error, LookupError, ImportError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self.config}: {_in_words(error)}") from error

    def with_overrides(self, more: dict[str, str]) -> "Context":
        """Return the same context with other variables."""
        return replace(self, overrides={**self.overrides, **more})

    def portal_command(self) -> list[str]:
        """Return the command that serves the portal with these variables."""
        # pserve imports Pyramid before any of our code could quiet this warning.
        quiet = "ignore:pkg_resources is deprecated:UserWarning"
        pserve = [sys.executable, "-W", quiet, "-m", "pyramid.scripts.pserve", str(self.config)]
        return [*pserve, *(f"{name}={value}" for name, value in self.options.items())]

    def own_command(self, *words: str) -> list[str]:
        """Return the command that runs this program again with these variables."""
        command = [sys.executable, "-m", "medportal.cli", "--config", str(self.config)]
        for name, value in self.overrides.items():
            command += ["--set", f"{name}={value}"]
        return [*command, *words]

    def show(self, rows: list[dict[str, Any]], title: str) -> None:
        """Print rows as JSON lines or as a table; a single wide row as one line for each field."""
        if self.as_json:
            for row in rows:
                click.echo(json.dumps(row, ensure_ascii=False, sort_keys=True, default=str))
            return
        upright = len(rows) == 1 and len(rows[0]) > WIDE
        if upright:
            rows = [{"field": name, "value": value} for name, value in rows[0].items()]
        table = Table(title=title, title_justify="left", show_header=not upright)
        for name in rows[0] if rows else ["-"]:
            # Nothing is cut short: paths and codes are there to be used.
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        Console().print(table)


def ini_variables(config: Path) -> dict[str, str]:
    """Return what an ini file's ``[variables]`` section holds.

    PasteDeploy lets a file's own defaults win over variables given on the command line, so
    they cannot stand in its ``[DEFAULT]``. Raises ``ConfigurationError``.
    """
    parser = configparser.ConfigParser(defaults={"here": str(config.parent)})
    try:
        parser.read(config, "utf-8")
        found = dict(parser["variables"]) if parser.has_section("variables") else {}
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config}: {_in_words(error)}") from error
    found.pop("here", None)
    return found


def _in_words(error: Exception) -> str:
    """Return what is wrong with an ini file, without a value of it: one may be a secret."""
    match error:
        case configparser.InterpolationError():
            return f"[{error.section}] {error.option}: a variable is unknown or malformed"
        case UnicodeDecodeError():
            return "is not a text in UTF-8"
        case ImportError():
            return "[app:main] use: names a package that is not installed"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class _Group(click.Group):
    """Turns errors that medportal names into lines for an operator."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MedportalError as error:
            for problem in getattr(error, "problems", (str(error),)):
                click.echo(f"medportal: {problem}", err=True)
        except (OperationalError, InterfaceError) as error:
            # What the driver says may quote the address, and that the password.
            click.echo(
                f"medportal: a database cannot be reached or used ({type(error).__name__}): check "
                "database.url in the tenant's file, and that its server runs",
                err=True,
            )
        except OSError as error:
            if error.filename is None:
                raise
            click.echo(f"medportal: {error.filename}: {error.strerror}", err=True)
        sys.exit(2)


@click.group(cls=_Group)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The ini file.",
)
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="An ini variable.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.pass_context
def main(ctx: click.Context, config: Path, pairs: tuple[str, ...], as_json: bool) -> None:
    """Operate medportal."""
    # Databases and whatever else is made here are for this user only.
    os.umask(0o077)
    configure_logging()
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter("write NAME=VALUE", param_hint="--set")
        options[name] = value
    ctx.obj = Context(config.resolve(), options, as_json)


firewall_commands.register(main)


def _database(settings: Settings, name: str) -> Database:
    """Return the database of an institution; it is closed when the command ends."""
    database = TenantRegistry(settings.tenants).database(settings.tenant(name).id)
    click.get_current_context().call_on_close(database.dispose)
    return database


@main.group()
def tenant() -> None:
    """Institutions: check their files, migrate their databases."""


@tenant.command("check")
@click.pass_obj
def tenant_check(context: Context) -> None:
    """Check every tenant file, and what it names for mail; says every mistake at once."""
    from medportal.ops.tenants import mail_server, mail_state

    tenants = context.settings().tenants.values()
    context.show(
        [
            {
                "tenant": t.id,
                "kind": str(t.kind),
                "hosts": ", ".join(t.hostnames),
                "state": "ok",
                "mail": mail_state(t),
                "mail_server": mail_server(t),
            }
            for t in tenants
        ],
        "Tenants",
    )


@tenant.command("migrate")
@click.argument("names", nargs=-1)
@click.pass_obj
def tenant_migrate(context: Context, names: tuple[str, ...]) -> None:
    """Bring the databases of the named tenants (or all) to this code's schema."""
    from medportal.ops.institution import migrate_database
    from medportal.ops.stores import migrate_documents

    settings = context.settings()
    rows = []
    for name in names or settings.tenants:
        migrate_database(settings.tenant(name))
        migrate_documents(settings.tenant(name))
        rows.append({"tenant": name, "state": "current"})
    context.show(rows, "Databases")


@tenant.command("access")
@click.pass_obj
def tenant_access(context: Context) -> None:
    """Print who may see what and why, for a privacy officer: Markdown, from the decision table."""
    from medportal.access.document import document

    click.echo(document(list(context.settings().tenants.values())), nl=False)


@tenant.command("grants")
@click.argument("name")
@click.option(
    "--process",
    type=click.Choice(["portal", "jobs", "sender", "receiver"]),
    required=True,
    help="Whose rights: each process gets a database role of its own.",
)
@click.option("--role", required=True, help="The role in PostgreSQL; it must exist.")
@click.option("--print", "only_print", is_flag=True, help="Print the SQL and change nothing.")
@click.pass_obj
def tenant_grants(context: Context, name: str, process: str, role: str, only_print: bool) -> None:
    """Give a PostgreSQL role just what a process needs; run as the owner of the tables."""
    from medportal.ops.grants import ProcessRole, apply, statements

    if only_print:
        for line in statements(ProcessRole(process), role):
            click.echo(f"{line};")
        return
    with _database(context.settings(), name).engine.begin() as connection:
        apply(connection, ProcessRole(process), role)
    context.show([{"tenant": name, "process": process, "role": role}], "Rights")


@main.group()
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
        lines = inventory(settings, settings.tenant(name), _database(settings, name), utcnow())
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
        _database(settings, name),
        _say_progress(),
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
        _database(settings, name),
        _say_progress(),
        timedelta(seconds=settle),
        give_up_damaged=give_up_damaged,
    )
    done = rekey(change)
    context.show([{"tenant": name, **asdict(done)}], "Keys replaced")
    if done.damaged:
        sys.exit(1)


def _say_progress() -> Callable[[Any], None]:
    """Return what tells how far a long command is: at most a line a second on standard error."""
    last: list[float | str] = [0.0, ""]

    def say(progress: Any) -> None:
        now = time.monotonic()
        if progress.step == last[1] and now - float(last[0]) < 1:
            return
        last[:] = [now, progress.step]
        _say(f"{progress.step}: {progress.done} of {progress.total}")

    return say


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


@main.group()
def edge() -> None:
    """The edge (nginx) in front of a portal."""


@edge.command("init")
@click.argument("name")
@click.option(
    "--portal",
    "names",
    multiple=True,
    required=True,
    help="A host name under which the edge reaches the portal; may be given several times.",
)
@click.pass_obj
def edge_init(context: Context, name: str, names: tuple[str, ...]) -> None:
    """Make the authority between edge and portal, and a key for each of the two."""
    from medportal.ops.hosts import create_edge

    settings = context.settings()
    made = create_edge(settings, settings.tenant(name), names, utcnow())
    context.show([{"tenant": name, "made": ", ".join(made) or "nothing"}], "Edge")


@main.group()
def partner() -> None:
    """Partners: exchange descriptors, trust, revoke."""


@partner.command("export")
@click.argument("name")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.pass_obj
def partner_export(context: Context, name: str, output: Path) -> None:
    """Write an institution's signed descriptor to a file for its partners."""
    from medportal.ops.institution import descriptor_of
    from medportal.pki.partners import fingerprint, read_descriptor

    settings = context.settings()
    data = descriptor_of(settings, settings.tenant(name), utcnow())
    output.write_bytes(data)
    said = fingerprint(read_descriptor(data, utcnow()))
    context.show([{"file": str(output), "fingerprint": said}], "Descriptor")


@partner.command("trust")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--fingerprint", "expected", help="As the partner read it out; asked for if absent.")
@click.pass_obj
def partner_trust(context: Context, name: str, file: Path, expected: str | None) -> None:
    """Trust the institution of a descriptor after comparing its fingerprint."""
    from medportal.audit.append import append
    from medportal.audit.events import Action, Event
    from medportal.keys import Places
    from medportal.pki.partners import fingerprint, read_descriptor, trust

    settings = context.settings()
    home = Places(settings.home(settings.tenant(name).id))
    descriptor = read_descriptor(file.read_bytes(), utcnow())
    said = fingerprint(descriptor)
    if expected is None:
        click.echo(f"{descriptor.institution}: {said}", err=True)
        click.confirm("Has the partner read out exactly this fingerprint?", abort=True, err=True)
    elif expected.split() != said.split():
        raise click.ClickException("the fingerprint is another one: do not trust this file")
    known = trust(home.pki, descriptor, utcnow())
    with _database(settings, name).writer() as session, session.begin():
        append(
            session,
            Event.create(
                Action.PARTNER_TRUSTED,
                now=utcnow(),
                actor="process:command-line",
                details={"partner": known.institution, "fingerprint": said},
            ),
        )
    context.show([{"partner": known.institution, "fingerprint": said}], "Trusted")


@partner.command("list")
@click.argument("name")
@click.pass_obj
def partner_list(context: Context, name: str) -> None:
    """List the partners of an institution."""
    from medportal.keys import Places
    from medportal.pki.partners import TrustStore

    settings = context.settings()
    directory = Places(settings.home(settings.tenant(name).id)).pki
    context.show(
        [
            {
                "partner": p.institution,
                "endpoint": p.endpoint or "",
                "revoked": p.revoked,
                "fingerprint": p.fingerprint,
            }
            for p in TrustStore(directory).partners()
        ],
        f"Partners of {name}",
    )


@partner.command("revoke")
@click.argument("name")
@click.argument("institution")
@click.option("--reason", required=True, help="A short code, such as key-stolen.")
@click.pass_obj
def partner_revoke(context: Context, name: str, institution: str, reason: str) -> None:
    """Stop trusting a partner at once, open connections included."""
    from medportal.audit.append import append
    from medportal.audit.events import Action, Event
    from medportal.keys import Places
    from medportal.patients.partner_index import drop_index
    from medportal.pki.partners import revoke_partner

    settings = context.settings()
    directory = Places(settings.home(settings.tenant(name).id)).pki
    revoke_partner(directory, institution, utcnow(), reason)
    with _database(settings, name).writer() as session, session.begin():
        drop_index(session, institution)
        append(
            session,
            Event.create(
                Action.PARTNER_REVOKED,
                now=utcnow(),
                actor="process:command-line",
                details={"partner": institution, "reason": reason},
            ),
        )
    context.show([{"partner": institution, "revoked": True}], "Revoked")


@main.group("store")
def document_store() -> None:
    """Document stores: where sealed records lie."""


def _stores(context: Context, name: str) -> "Stores":
    from medportal.ops.stores import Stores
    from medportal.vault.mongo import close_clients

    settings = context.settings()
    click.get_current_context().call_on_close(close_clients)
    return Stores(settings.tenant(name), _database(settings, name))


def _documents_done(name: str) -> Callable[[int, int], None]:
    """Return what says every few seconds how far a command has come."""
    said = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PROGRESS_SECONDS:
            said = time.monotonic()
            _say(f"{name}: {done} of {total} documents")

    return progress


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
    checked = stores.check(_documents_done(name))
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
    done = stores.copy(begin, end, _documents_done(name))
    if clear and done.result.is_whole:
        done.removed = stores.clear(begin, _documents_done(name))
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
    swept = stores.sweep(kind or context.settings().tenant(name).documents.store, utcnow())
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
        _say(f"document {document_id}: {what}")
    if not checked.is_whole:
        sys.exit(1)


@main.group()
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
    accounts = prepare(context.settings(), urls, say=_say)
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
    accounts = load_people(settings, tenant, _database(settings, name), url, utcnow())
    context.show([asdict(account) for account in accounts], "Accounts")


@demo.command("post-office")
@click.pass_obj
def demo_post_office(context: Context) -> None:
    """Take the mails of demonstration institutions on this machine, until SIGTERM."""
    from medportal.demo.post_office import serve

    serve(context.settings())


@main.group()
def mail() -> None:
    """Mails to people."""


@mail.command("status")
@click.argument("name")
@click.pass_obj
def mail_status(context: Context, name: str) -> None:
    """Say how many mails wait, were sent or given up, and what went wrong last."""
    from medportal.mail.outbox import queue

    with _database(context.settings(), name).reader() as session:
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


@main.group()
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
    registry = TenantRegistry(settings.tenants)
    report = verify_tenant_log(settings, settings.tenant(name), registry.database(name), heads)
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
    registry = TenantRegistry(settings.tenants)
    lines = export_tenant_log(settings.tenant(name), registry.database(name), output)
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

    head = export_head(_database(context.settings(), name), output, partner)
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
    database = TenantRegistry(settings.tenants).database(name)
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
    database = TenantRegistry(settings.tenants).database(name)
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
    database = TenantRegistry(settings.tenants).database(name)
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
    database = TenantRegistry(settings.tenants).database(name)
    made = prune_log(settings, settings.tenant(name), database, before.date(), utcnow())
    row = {"tenant": name, "forgotten": made.size, "root": made.root.hex()}
    context.show([row], "Checkpoint")


@main.group()
def backup() -> None:
    """Backups of an institution: two files, one with data, one with keys."""


_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
    database = _database(settings, name)

    def say(counts: Any) -> None:
        _say(f"{counts.rows} rows, {counts.documents} documents")

    tenant_ = settings.tenant(name)
    made = create(settings, tenant_, database, Places(data, keys), utcnow(), say)
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
        _say(
            "medportal: some documents are missing or not what their rows say, and are not in the "
            "backup: if a patient was erased or keys renewed meanwhile, make it again"
        )
        sys.exit(1)


@backup.command("verify")
@click.argument("files", type=_FILE, nargs=-1, required=True)
@_opens_backups
@click.pass_obj
def backup_verify(context: Context, files: tuple[Path, ...], away: Path, passphrase: Path) -> None:
    """Read backup files to their ends: whole, unchanged and this institution's own."""
    from medportal.ops.backup import check, opener

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
        for found in check(list(files), opener(away, passphrase))
    ]
    context.show(rows, "Backups")


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
    away: Path,
    passphrase: Path,
) -> None:
    """Restore a backup into an empty directory and database; stop everything that runs first."""
    from medportal.backup.restoring import Pair
    from medportal.ops.backup import Lost, opener, restore

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
    )
    row = {
        "tenant": name,
        "made": done.data.label.made.isoformat(),
        "rows": done.data.counts.rows + done.keys.counts.rows,
        "documents": done.data.counts.documents,
        "files": done.keys.counts.files,
        "erased_again": done.erased,
        "erasures_known": done.lines,
        "cannot_be_opened": "unknown" if done.shut is None else done.shut,
    }
    context.show([row], "Restored")
    _say(
        "medportal: everything is as at the backup: who was suspended, left a role or a ward, was "
        "blocked by a patient, or was revoked as a partner since then is back. Keep the portal "
        "closed and go through docs/operations.md, After a restore"
    )
    if done.shut:
        _say(
            f"medportal: {done.shut} secrets of authenticator apps or held transfers lie under a "
            "tenant key that the keys file no longer has: take the keys file that was made with "
            "the data, or let these people set up their app again"
        )
    if head is None:
        _say(
            "medportal: if a partner holds a later head of this log, declare what is lost before "
            "jobs starts: medportal audit accept-restore --head FILE"
        )


@main.group()
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
    database = TenantRegistry(settings.tenants).database(name)
    made = register_admin(tenant, database, number, person, birth_date, utcnow(), email=email)
    row = {"tenant": name, "activation_code": made.code, "link_mailed": made.mail_sent}
    context.show([row], "Admin")


@main.group()
def sessions() -> None:
    """Sessions of people who are signed in."""


@sessions.command("end")
@click.argument("name")
@click.option("--reason", required=True, help="A short code, such as stolen-device.")
@click.pass_obj
def sessions_end(context: Context, name: str, reason: str) -> None:
    """Sign everybody of an institution out; they can sign in again at once."""
    from medportal.ops.sessions import end_all_sessions

    ended = end_all_sessions(_database(context.settings(), name), reason, utcnow())
    context.show([{"tenant": name, "ended": ended}], "Sessions")


@main.group()
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


@main.group()
def transfer() -> None:
    """The exchange of records with partners."""


@transfer.command("receive")
@click.argument("name")
@click.pass_obj
def transfer_receive(context: Context, name: str) -> None:
    """Accept records from partners until SIGTERM."""
    from medportal.ops.transfer import receive

    settings = context.settings()
    receive(settings, settings.tenant(name))


@transfer.command("send")
@click.argument("name")
@click.pass_obj
def transfer_send(context: Context, name: str) -> None:
    """Drain the outbox until SIGTERM."""
    from medportal.ops.transfer import send

    settings = context.settings()
    send(settings, settings.tenant(name))


@main.command()
@click.argument("names", nargs=-1)
@click.pass_obj
def jobs(context: Context, names: tuple[str, ...]) -> None:
    """File what arrived, sign the audit log, send mail, keep house, until SIGTERM."""
    from medportal.jobs import Jobs

    settings = context.settings()
    registry = TenantRegistry(settings.tenants)
    for name in names or settings.tenants:
        # A tenant behind the code is refused once, here, and not at every turn of its loop.
        registry.database(settings.tenant(name).id).require_current()
    loops: list[Callable[[threading.Event], None]] = [
        Jobs(settings, settings.tenant(name), registry.database(name)).run
        for name in names or settings.tenants
    ]
    _run_until_stopped(loops)


def _run_until_stopped(loops: list[Callable[[threading.Event], None]]) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    threads = [threading.Thread(target=loop, args=(stop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        # A bounded wait lets Python handle signals between the waits.
        while thread.is_alive():
            thread.join(0.5)


@main.command()
@click.pass_obj
def portal(context: Context) -> None:
    """Serve the portal until SIGTERM."""
    context.settings()
    command = context.portal_command()
    os.execv(command[0], command)  # noqa: S606  (this program, another module)


@main.command("run")
@click.option("--hospital-port", type=click.IntRange(1, 65535), default=8443, show_default=True)
@click.option("--laboratory-port", type=click.IntRange(1, 65535), default=8444, show_default=True)
@click.option("--exchange-port", type=click.IntRange(1, 65535), default=4000, show_default=True)
@click.option("--mail-port", type=click.IntRange(1, 65535), default=2525, show_default=True)
@click.pass_obj
def run_demonstration(
    context: Context, hospital_port: int, laboratory_port: int, exchange_port: int, mail_port: int
) -> None:
    """Prepare the demonstration, start every process and keep them running until Ctrl-C."""
    from medportal.ops.demonstration import Ports, run

    ports = Ports(hospital_port, laboratory_port, exchange_port, mail_port)
    sys.exit(run(context, ports, say=_say))


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
