"""``medportal tenant``: files, databases and rights of institutions."""

import click

from medportal.cli.context import Context, database_of


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

    words = document(list(context.settings().tenants.values()))
    if context.as_json:
        context.show([{"markdown": words}], "Access")
    else:
        click.echo(words, nl=False)


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
        lines = statements(ProcessRole(process), role)
        if context.as_json:
            context.show([{"statement": line} for line in lines], "Rights")
        else:
            click.echo("\n".join(f"{line};" for line in lines))
        return
    with database_of(context.settings(), name).engine.begin() as connection:
        apply(connection, ProcessRole(process), role)
    context.show([{"tenant": name, "process": process, "role": role}], "Rights")
