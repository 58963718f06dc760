"""``medportal partner``: descriptors, trust, revocation."""

from pathlib import Path

import click

from medportal.cli.context import Context, database_of
from medportal.core.clock import utcnow


@click.group()
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
@click.option(
    "--replace",
    "is_anew",
    is_flag=True,
    help="The partner has another authority or key share now; the fingerprint was compared anew.",
)
@click.pass_obj
def partner_trust(
    context: Context, name: str, file: Path, expected: str | None, is_anew: bool
) -> None:
    """Trust the institution of a descriptor after comparing its fingerprint."""
    from medportal.audit.append import append
    from medportal.audit.events import COMMAND_LINE, Action, Event
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
    known = trust(home.pki, descriptor, utcnow(), replace=is_anew)
    with database_of(settings, name).writer() as session, session.begin():
        append(
            session,
            Event.create(
                Action.PARTNER_TRUSTED,
                now=utcnow(),
                actor=COMMAND_LINE,
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
    from medportal.audit.events import COMMAND_LINE, Action, Event
    from medportal.keys import Places
    from medportal.patients.partner_index import drop_index
    from medportal.pki.partners import revoke_partner

    settings = context.settings()
    directory = Places(settings.home(settings.tenant(name).id)).pki
    revoke_partner(directory, institution, utcnow(), reason)
    with database_of(settings, name).writer() as session, session.begin():
        drop_index(session, institution)
        append(
            session,
            Event.create(
                Action.PARTNER_REVOKED,
                now=utcnow(),
                actor=COMMAND_LINE,
                details={"partner": institution, "reason": reason},
            ),
        )
    context.show([{"partner": institution, "revoked": True}], "Revoked")
