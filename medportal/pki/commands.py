"""``medportal pki``: certificates from the command line.

Commands that work with the authority's key take ``--authority DIRECTORY`` where it lies on another
machine; nothing else of the institution has to be there. The command line gives this module its
:class:`Home` of an institution, so that this room need not know where configuration comes from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.core.clock import utcnow
from medportal.pki import ca as authority
from medportal.pki import containers, offline, rollover
from medportal.pki.errors import NotConfirmed
from medportal.pki.files import PUBLIC, read_file, write_file
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.partners import TrustStore
from medportal.pki.passphrases import create_passphrases, passphrase_path, read_passphrase
from medportal.pki.profiles import Group, Purpose
from medportal.pki.requests import Request, grouped, read_request
from medportal.pki.standing import edge_standings, is_ca_here, partner_standings, standings
from medportal.pki.verify import institution_of, key_id

REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "key-compromise": x509.ReasonFlags.key_compromise,
    "superseded": x509.ReasonFlags.superseded,
    "cessation": x509.ReasonFlags.cessation_of_operation,
    "affiliation-changed": x509.ReasonFlags.affiliation_changed,
}


class Context(Protocol):
    """What the command line hands to each command."""

    def show(self, rows: list[dict[str, Any]], title: str) -> None:
        """Print rows, as a table or as JSON lines."""


def _nothing(_what: str, _details: Mapping[str, str]) -> None:
    """Write no event: there is no log where the authority is kept apart."""


@dataclass(frozen=True, slots=True)
class Home:
    """One institution as the commands need it.

    ``note`` writes an audit event: ``issued`` or ``revoked``, and its details. ``edge`` is the key
    directory of the authority between edge and portal.
    """

    institution: str
    names: Mapping[str, str]
    hostnames: tuple[str, ...]
    directory: Path
    secrets: Path
    note: Callable[[str, Mapping[str, str]], None] = field(default=_nothing, repr=False)
    edge: Path | None = None

    def passphrase(self, group: str) -> bytes:
        """Return a group's passphrase. Raises ``KeyFileMissing`` naming the file."""
        return read_passphrase(passphrase_path(self.secrets, Group(group)))

    def passphrases(self) -> dict[str, bytes]:
        """Return the passphrases of certified keys that lie here."""
        groups = {profile.group for profile in load_profiles().purposes.values()}
        return {g: self.passphrase(g) for g in groups if passphrase_path(self.secrets, g).exists()}


HomeOf = Callable[[Any, str], Home]
"""Gives an institution's home from the command line's context and its id."""


@dataclass(frozen=True, slots=True)
class _Authority:
    """Where the authority's key lies, and the file with its passphrase."""

    directory: Path
    passphrase: Path
    home: Home | None

    def secret(self) -> bytes:
        return read_passphrase(self.passphrase)

    def note(self, what: str, **details: str) -> None:
        if self.home is not None:
            self.home.note(what, details)


_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)
_PURPOSE = click.Choice([str(purpose) for purpose in Purpose])

_HELP = (
    "Certificates of an institution: make, renew, withdraw, export; the authority's key may be "
    "kept on another machine (docs/pki.md)."
)

_Command = Callable[..., None]


def _away(command: _Command) -> _Command:
    """Add the options that say where an authority lies that is kept apart."""
    directory = click.option(
        "--authority", type=_DIRECTORY, help="Where the authority lies, if it is kept apart."
    )
    secret = click.option(
        "--ca-passphrase-file", type=_FILE, help="Default: ca.passphrase beside it."
    )
    return directory(secret(command))


def register(main: click.Group, home_of: HomeOf) -> None:
    """Add the ``pki`` commands to the command line."""
    group = click.Group("pki", help=_HELP)
    main.add_command(group)
    for add in (_add_own, _add_apart, _add_files):
        add(group, home_of)


def _authority(
    context: Any, home_of: HomeOf, name: str, directory: Path | None, secret: Path | None
) -> _Authority:
    """Return where the authority of an institution is; it has to be that institution's."""
    home = None
    if directory is None:
        home = home_of(context, name)
        directory = home.directory
        secret = secret or passphrase_path(home.secrets, Group.CA)
    found = institution_of(authority.read_ca(directory))
    if found != name:
        raise click.UsageError(f"{directory} holds the authority of {found}, not of {name}")
    return _Authority(directory, secret or passphrase_path(directory, Group.CA), home)


def _names_of(home: Home, purpose: Purpose) -> tuple[str, ...]:
    return home.hostnames if purpose is Purpose.WEB else ()


def _issue(home: Home, purpose: Purpose, now: datetime) -> dict[str, Any]:
    authority.require_key(home.directory)
    group = containers.group_of(purpose)
    leaf = authority.issue(
        home.directory,
        purpose,
        dns_names=_names_of(home, purpose),
        ca_passphrase=home.passphrase(Group.CA),
        group_passphrase=home.passphrase(group),
        now=now,
    )
    row = _leaf_row(purpose, leaf)
    home.note("issued", {"purpose": str(purpose), "serial": row["serial"]})
    return row


def _leaf_row(purpose: Purpose, leaf: x509.Certificate) -> dict[str, Any]:
    return {
        "purpose": str(purpose),
        "serial": f"{leaf.serial_number:040x}",
        "not_after": leaf.not_valid_after_utc.isoformat(),
        "fingerprint": grouped(key_id(leaf.public_key())),  # type: ignore[arg-type]  # ours
    }


def _crl_row(crl: x509.CertificateRevocationList) -> dict[str, Any]:
    assert crl.next_update_utc is not None
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    return {"list": number, "withdrawn": len(crl), "next": crl.next_update_utc.isoformat()}


def _confirm(question: str, *, is_agreed: bool) -> None:
    if not is_agreed and not click.confirm(question, err=True):
        raise NotConfirmed("nothing was done")


def _add_own(group: click.Group, home_of: HomeOf) -> None:
    """Add what is done where institution and authority are on one machine."""

    @group.command("init")
    @click.argument("name")
    @click.pass_obj
    def init(context: Context, name: str) -> None:
        """Make the authority and every certificate that is missing; safe to run again."""
        home, now = home_of(context, name), utcnow()
        secrets = create_passphrases(home.secrets)
        made = []
        if not Layout(home.directory).ca_certificate.exists():
            authority.init_ca(
                home.directory,
                name,
                home.names,
                secrets[Group.CA],
                now,
                permitted_dns=home.hostnames,
            )
            made.append("authority")
        if is_ca_here(home.directory):
            issued = authority.issue_missing(
                home.directory, dns_names=home.hostnames, passphrases=secrets, now=now
            )
            made += [str(purpose) for purpose in issued]
        ca = authority.read_ca(home.directory)
        context.show(
            [{"tenant": name, "made": ", ".join(made) or "nothing", "fingerprint": _of(ca)}],
            "Certificates",
        )

    @group.command("issue")
    @click.argument("name")
    @click.argument("purpose", type=_PURPOSE)
    @click.pass_obj
    def issue(context: Context, name: str, purpose: str) -> None:
        """Make a key and its certificate, in place of the one in use, which stays valid."""
        row = _issue(home_of(context, name), Purpose(purpose), utcnow())
        context.show([row], f"Issued for {name}")

    @group.command("renew")
    @click.argument("name")
    @click.argument("purposes", nargs=-1, type=_PURPOSE)
    @click.option("--all", "everything", is_flag=True, help="Also what is not due.")
    @click.pass_obj
    def renew(context: Context, name: str, purposes: tuple[str, ...], everything: bool) -> None:
        """Renew the named certificates, or those that are due: new keys, used without a restart."""
        home, now = home_of(context, name), utcnow()
        found = authority.inventory(home.directory)
        due = [i.purpose for i in found if everything or i.renew_at <= now]
        wanted = [Purpose(each) for each in purposes] or due
        rows = [_issue(home, purpose, now) for purpose in wanted]
        context.show(rows or [{"tenant": name, "renewed": "nothing is due"}], f"Renewed for {name}")

    @group.command("status")
    @click.argument("name")
    @click.pass_obj
    def status(context: Context, name: str) -> None:
        """Say how every certificate stands, the revocation list, and partners' authorities."""
        home, now = home_of(context, name), utcnow()
        rows = [
            {
                "what": each.what,
                "serial": each.serial,
                "not_after": each.not_after.isoformat(),
                "days_left": each.days_left,
                "state": str(each.state) + (" (requested)" if each.has_request else ""),
                "fingerprint": each.fingerprint,
            }
            for each in [
                *standings(home.directory, now),
                *(edge_standings(home.edge, now) if home.edge is not None else []),
            ]
        ]
        rows += [
            {
                "what": f"partner {each.institution}",
                "serial": "",
                "not_after": (each.retires or each.not_after).isoformat(),
                "days_left": each.days_left,
                "state": _partner_state(each.revoked, each.successor),
                "fingerprint": each.successor or each.fingerprint,
            }
            for each in partner_standings(home.directory, now)
        ]
        context.show(rows, f"Certificates of {name}")


def _of(ca: x509.Certificate) -> str:
    return grouped(key_id(ca.public_key()))  # type: ignore[arg-type]  # an authority's key is P-256


def _partner_state(is_revoked: bool, successor: str) -> str:
    if is_revoked:
        return "revoked"
    return "next authority: compare and trust" if successor else "trusted"


def _add_apart(group: click.Group, home_of: HomeOf) -> None:
    """Add what is done with the authority's key, wherever it lies."""

    @group.command("sign")
    @click.argument("name")
    @click.argument("request", type=_FILE)
    @click.option("--output", type=_NEW, required=True, help="For the certificate.")
    @click.option("--purpose", type=_PURPOSE, help="Refuse a request for another purpose.")
    @click.option("--yes", is_flag=True, help="The fingerprint was compared already.")
    @_away
    @click.pass_obj
    def sign(
        context: Context,
        name: str,
        request: Path,
        output: Path,
        purpose: str | None,
        yes: bool,
        authority: Path | None,
        ca_passphrase_file: Path | None,
    ) -> None:
        """Check a request, show what it asks for, and certify it once somebody has confirmed."""
        at = _authority(context, home_of, name, authority, ca_passphrase_file)
        wanted = _read(request, at.directory, purpose)
        for line in (wanted.institution, wanted.purpose, *wanted.dns_names, wanted.fingerprint):
            click.echo(line, err=True)
        _confirm("Does the machine that asked show this same fingerprint?", is_agreed=yes)
        pem = offline.sign(at.directory, wanted, ca_passphrase=at.secret(), now=utcnow())
        write_file(output, pem, PUBLIC)
        leaf = x509.load_pem_x509_certificate(pem)
        row = _leaf_row(wanted.purpose, leaf)
        at.note("issued", purpose=str(wanted.purpose), serial=row["serial"])
        context.show([{**row, "file": str(output)}], f"Signed for {name}")

    @group.command("revoke")
    @click.argument("name")
    @click.argument("serial")
    @click.option("--reason", type=click.Choice(list(REASONS)), default="unspecified")
    @click.option(
        "--since",
        type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
        help="UTC; for a key stolen earlier: what was signed since then no longer verifies.",
    )
    @_away
    @click.pass_obj
    def revoke(
        context: Context,
        name: str,
        serial: str,
        reason: str,
        since: datetime | None,
        authority: Path | None,
        ca_passphrase_file: Path | None,
    ) -> None:
        """Withdraw a certificate by its serial number (as pki status shows it)."""
        at = _authority(context, home_of, name, authority, ca_passphrase_file)
        crl = _revoke(at, serial, reason, since)
        at.note("revoked", serial=serial, reason=reason)
        context.show([{"tenant": name, "serial": serial, **_crl_row(crl)}], "Withdrawn")

    @group.command("crl")
    @click.argument("name")
    @click.option("--output", type=_NEW, help="Also write the list there, to carry it.")
    @click.option("--days", type=click.IntRange(1, 31), help="Until the next list.")
    @_away
    @click.pass_obj
    def crl(
        context: Context,
        name: str,
        output: Path | None,
        days: int | None,
        authority: Path | None,
        ca_passphrase_file: Path | None,
    ) -> None:
        """Make the next revocation list. Partners refuse one that is older than 14 days."""
        at = _authority(context, home_of, name, authority, ca_passphrase_file)
        made = _make_crl(at, days)
        if output is not None:
            write_file(output, made.public_bytes(Encoding.DER), PUBLIC)
        context.show([{"tenant": name, **_crl_row(made)}], "Revocation list")

    @group.command("roll")
    @click.argument("name")
    @click.option("--overlap", type=click.IntRange(1, 3650), help="Days; default in profiles.toml.")
    @click.option("--finish", is_flag=True, help="Let the former authority go, if it is time.")
    @click.option("--output", type=_NEW, help="Write the bundle to import on other machines.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @_away
    @click.pass_obj
    def roll(
        context: Context,
        name: str,
        overlap: int | None,
        finish: bool,
        output: Path | None,
        yes: bool,
        authority: Path | None,
        ca_passphrase_file: Path | None,
    ) -> None:
        """Give the authority a new key, which the former one vouches for until it retires."""
        at = _authority(context, home_of, name, authority, ca_passphrase_file)
        if finish:
            gone = rollover.retire(at.directory, ca_passphrase=at.secret(), now=utcnow())
            rows = [{"tenant": name, "retired": _of(each)} for each in gone]
            context.show(rows or [{"tenant": name, "retired": "nothing: not yet"}], "Retired")
            return
        _confirm(f"A new key for the authority of {name}. Go on?", is_agreed=yes)
        context.show([_roll(at, overlap, output)], f"New authority of {name}")


def _read(request: Path, directory: Path, purpose: str | None) -> Request:
    wanted = read_request(request.read_bytes(), authority.read_ca(directory))
    if purpose is not None and wanted.purpose != purpose:
        raise click.UsageError(f"the request is for {wanted.purpose}, not for {purpose}")
    return wanted


def _revoke(
    at: _Authority, serial: str, reason: str, since: datetime | None
) -> x509.CertificateRevocationList:
    try:
        number = int(serial, 16)
    except ValueError:
        raise click.UsageError("a serial number is hexadecimal") from None
    now = utcnow()
    moment = None if since is None else since.replace(tzinfo=now.tzinfo)
    if moment is not None and moment > now:
        raise click.UsageError("--since lies in the future")
    return authority.revoke(
        at.directory,
        number,
        ca_passphrase=at.secret(),
        now=now,
        reason=REASONS[reason],
        since=moment,
    )


def _make_crl(at: _Authority, days: int | None) -> x509.CertificateRevocationList:
    lifetime = None if days is None else timedelta(days=days)
    return authority.make_crl(
        at.directory, ca_passphrase=at.secret(), now=utcnow(), lifetime=lifetime
    )


def _roll(at: _Authority, overlap: int | None, output: Path | None) -> dict[str, Any]:
    now = utcnow()
    names = at.home.hostnames if at.home else None
    rolled = rollover.roll(
        at.directory,
        ca_passphrase=at.secret(),
        now=now,
        overlap=None if overlap is None else timedelta(days=overlap),
        permitted_dns=names,
    )
    at.note("issued", purpose="authority", serial=f"{rolled.ca.serial_number:040x}")
    if output is not None:
        write_file(output, rollover.bundle(at.directory), PUBLIC)
    renewed = _renew_all(at.home, now) if at.home else []
    return {
        "fingerprint": _of(rolled.ca),
        "former_retires": rolled.retires.isoformat(),
        "renewed": ", ".join(renewed) or "nothing here: pki request, sign, import",
    }


def _renew_all(home: Home, now: datetime) -> list[str]:
    held = home.passphrases()
    due = [
        purpose
        for purpose in rollover.certified_by_former(home.directory)
        if containers.group_of(purpose) in held
    ]
    return [_issue(home, purpose, now)["purpose"] for purpose in due]


def _add_files(group: click.Group, home_of: HomeOf) -> None:
    """Add what writes and reads files that travel."""

    @group.command("request")
    @click.argument("name")
    @click.argument("purpose", type=_PURPOSE)
    @click.option("--output", type=_NEW, required=True, help="For the request.")
    @click.pass_obj
    def request(context: Context, name: str, purpose: str, output: Path) -> None:
        """Make a new key and a request to have it certified elsewhere; the old key stays in use."""
        home, wanted = home_of(context, name), Purpose(purpose)
        pem, asked = offline.request(
            home.directory,
            wanted,
            dns_names=_names_of(home, wanted),
            group_passphrase=home.passphrase(containers.group_of(wanted)),
        )
        write_file(output, pem, PUBLIC)
        row = {"purpose": purpose, "file": str(output), "fingerprint": asked.fingerprint}
        context.show([row], f"Request of {name}")

    @group.command("import")
    @click.argument("name")
    @click.argument("file", type=_FILE)
    @click.pass_obj
    def import_(context: Context, name: str, file: Path) -> None:
        """Take in what was signed elsewhere: a certificate, a revocation list, a new authority."""
        home = home_of(context, name)
        context.show([_import(home, file.read_bytes(), utcnow())], f"Imported for {name}")

    @group.command("detach")
    @click.argument("name")
    @click.option("--to", "target", type=_DIRECTORY, required=True, help="On what is carried away.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @click.pass_obj
    def detach(context: Context, name: str, target: Path, yes: bool) -> None:
        """Move the authority's key and its passphrase away from this machine."""
        home = home_of(context, name)
        _confirm("From then on nothing is renewed here by itself. Go on?", is_agreed=yes)
        secret = passphrase_path(home.secrets, Group.CA)
        word = read_file(secret)
        offline.detach(home.directory, target)
        write_file(passphrase_path(target, Group.CA), word, 0o600)
        secret.unlink()
        context.show([{"tenant": name, "carry_away": str(target)}], "Detached")

    @group.command("export")
    @click.argument("name")
    @click.option("--purpose", type=_PURPOSE, help="A key with its certificate.")
    @click.option("--truststore", is_flag=True, help="The authority, and former ones; no key.")
    @click.option("--partners", is_flag=True, help="With --truststore: partners' authorities too.")
    @click.option("--format", "fmt", type=click.Choice(["p12", "pem"]), default="p12")
    @click.option("--passphrase-file", type=_FILE, help="Of the file that is written.")
    @click.option("--output", type=_NEW, required=True)
    @click.pass_obj
    def export(
        context: Context,
        name: str,
        purpose: str | None,
        truststore: bool,
        partners: bool,
        fmt: str,
        passphrase_file: Path | None,
        output: Path,
    ) -> None:
        """Write a key store or a trust store for other software: PKCS#12 or PEM."""
        if (purpose is None) != truststore:
            raise click.UsageError("say either --purpose PURPOSE or --truststore")
        if passphrase_file is None and (purpose is not None or fmt == "p12"):
            raise click.UsageError("--passphrase-file FILE is needed")
        home = home_of(context, name)
        word = read_passphrase(passphrase_file) if passphrase_file else b""
        data = _export(home, purpose, containers.Format(fmt), word, partners=partners)
        containers.write_container(output, data, private=purpose is not None)
        context.show([{"tenant": name, "file": str(output), "format": fmt}], "Exported")


def _export(
    home: Home, purpose: str | None, fmt: containers.Format, word: bytes, *, partners: bool
) -> bytes:
    own = authority.authorities(home.directory)
    if purpose is None:
        others = _partner_authorities(home.directory) if partners else []
        return containers.trust_store([*own, *others], fmt, passphrase=word)
    wanted = Purpose(purpose)
    return containers.key_store(
        home.directory,
        wanted,
        fmt,
        group_passphrase=home.passphrase(containers.group_of(wanted)),
        passphrase=word,
        authorities=own[:1],
    )


def _partner_authorities(directory: Path) -> Sequence[x509.Certificate]:
    return [each.ca for each in TrustStore(directory).partners() if not each.revoked]


def _import(home: Home, data: bytes, now: datetime) -> dict[str, Any]:
    """Tell by its content what a file is, and take it in."""
    certificates, lists = data.count(b"BEGIN CERTIFICATE"), data.count(b"BEGIN X509 CRL")
    if certificates == 0:
        return _crl_row(offline.import_crl(home.directory, data, now))
    if lists:
        rolled = rollover.import_bundle(home.directory, data, now)
        home.note("issued", {"purpose": "authority", "serial": f"{rolled.ca.serial_number:040x}"})
        return {"fingerprint": _of(rolled.ca), "former_retires": rolled.retires.isoformat()}
    done = offline.import_certificate(
        home.directory, data, group_passphrases=home.passphrases(), now=now
    )
    row = _leaf_row(done.purpose, done.leaf.certificate)
    home.note("issued", {"purpose": str(done.purpose), "serial": row["serial"]})
    return row
