"""``medportal tenant``: files, databases and rights of institutions, and a new one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medportal.cli.context import Context, database_of
from medportal.cli.output import may_be_interrupted, say
from medportal.core.clock import utcnow

if TYPE_CHECKING:
    from medportal.ops.onboarding import Site


@click.group()
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


@tenant.command("add")
@click.argument("name")
@click.option("--kind", type=click.Choice(["laboratory", "hospital"]), default="laboratory")
@click.option("--name-en", prompt="Name of the institution in English")
@click.option("--name-pt", prompt="Name of the institution in Portuguese")
@click.option("--host", prompt="Host name of its portal", help="Under which browsers reach it.")
@click.option("--listen", default="", help="Where its portal listens, such as 127.0.0.1:8445.")
@click.option("--address", default="", help="Where links in mails begin, if not https://HOST.")
@click.option("--endpoint", default="", help="Host:port for partners; none if it only sends.")
@click.option("--exchange-listen", default="", help="Where its receiver listens, if not there.")
@click.option("--database", default="", help="An address of PostgreSQL, if it is not SQLite.")
@click.option("--language", type=click.Choice(["en", "pt"]), help="As at those served here.")
@click.option("--time-zone", default="", help="Such as Europe/Lisbon; as at those served here.")
@click.option("--admin-number", help="Citizen card number of the first administrator.")
@click.option("--admin-name", help="Name of the first administrator.")
@click.option("--admin-birth-date", help="YYYY-MM-DD.")
@click.option("--admin-email", default="")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
@click.pass_obj
def tenant_add(
    context: Context,
    /,
    name: str,
    kind: str,
    admin_number: str | None,
    admin_name: str | None,
    admin_birth_date: str | None,
    admin_email: str,
    dry_run: bool,
    **said: str | None,
) -> None:
    """Add an institution: its file, keys, database and first administrator.

    May be interrupted: run it again with the same words, and it goes on.
    """
    from medportal.ops import onboarding
    from medportal.ops.people import FirstAdmin
    from medportal.tenancy.tenant import Kind

    words: dict[str, Any] = {key: value or "" for key, value in said.items()}
    wanted = onboarding.Wanted(name=name, kind=Kind(kind), **words)
    made = onboarding.plan(_site(context), wanted)
    if dry_run:
        rows = [{"would": line} for line in onboarding.preview(made)]
        context.show(rows, f"Nothing was made yet of {name}")
        return
    first = FirstAdmin(
        admin_number or click.prompt("Citizen card number of the first administrator", err=True),
        admin_name or click.prompt("Name of the first administrator", err=True),
        admin_birth_date or click.prompt("Date of birth (YYYY-MM-DD)", err=True),
        admin_email,
    )
    with may_be_interrupted(_ADD_AGAIN):
        added = onboarding.carry_out(made, first, utcnow(), say)
    row = {
        "tenant": added.tenant,
        "activation_code": added.code,
        "link_mailed": added.link_mailed,
        "fingerprint": added.fingerprint,
    }
    context.show([row], "Added")
    say("Next:")
    for step in onboarding.next_steps(made):
        say(f"  - {step}")


_ADD_AGAIN = "what was made stays and is not served. Run the same command again, and it goes on"


def _site(context: Context) -> "Site":
    """Return the installation as its ini file says; it may serve nobody yet."""
    from medportal.ops.onboarding import Site

    raw = context.raw()
    return Site(
        ini=context.config,
        tenants_dir=Path(raw.get("medportal.tenants_dir", "")),
        settings=context.settings(may_be_empty=True),
        listening=context.listening(),
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


@tenant.command("review")
@click.argument("name")
@click.option("--confirm", "confirmed", multiple=True, metavar="ID", help="Open this account.")
@click.option("--hold", "held", multiple=True, metavar="ID", help="Close this one too.")
@click.pass_obj
def tenant_review(
    context: Context, name: str, confirmed: tuple[str, ...], held: tuple[str, ...]
) -> None:
    """After a restore: list accounts that are held, and open admins; confirm or hold some."""
    from medportal.ops.review import confirm, hold, in_review

    settings, now = context.settings(), utcnow()
    database = database_of(settings, name)
    if confirmed or held:
        with database.writer() as session, session.begin():
            confirm(session, confirmed, now)
            hold(session, held, now)
    with database.reader() as session:
        found = in_review(session, settings.tenant(name))
    rows = [
        {
            "id": each.person_id,
            "name": each.name,
            "status": each.status,
            "roles": ", ".join(each.roles),
        }
        for each in found
    ]
    context.show(rows, f"Accounts of {name} to be confirmed, and admins")


@tenant.command("access")
@click.pass_obj
def tenant_access(context: Context) -> None:
    """Print who may see what and why, for a privacy officer: Markdown, from the decision table."""
    from medportal.access.document import document

    words = document(list(context.settings().tenants.values()))
    if context.as_json:
        context.show([{"markdown": words}], "Access")
    else:
        click.echo(words, nl=False)


@tenant.command("grants")
@click.argument("name")
@click.option(
    "--process",
    type=click.Choice(["portal", "jobs", "sender", "receiver", "backup"]),
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
        lines = statements(ProcessRole(process), role)
        if context.as_json:
            context.show([{"statement": line} for line in lines], "Rights")
        else:
            click.echo("\n".join(f"{line};" for line in lines))
        return
    with database_of(context.settings(), name).engine.begin() as connection:
        apply(connection, ProcessRole(process), role)
    context.show([{"tenant": name, "process": process, "role": role}], "Rights")
