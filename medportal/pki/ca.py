"""An institution's certificate authority, in its key directory.

Everything here needs the authority's passphrase or reads public files only. Whatever changes the
directory holds its lock and replaces files in one step, so a crash leaves the old state or the
new one. The revocation list is also the memory of what was revoked: it is renewed, never begun
anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki import certificates
from medportal.pki.certificates import PublicKey, Validity, Withdrawal
from medportal.pki.errors import AlreadyThere, KeyFileMissing, KeyFileUnfit, KeyReused
from medportal.pki.files import PRIVATE, locked, make_directory, read_file, read_private, write_file
from medportal.pki.keyfiles import certificate_from_pem, from_pem, to_pem
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.profiles import Group, Purpose, meaning
from medportal.pki.verify import (
    institution_of,
    issued_by,
    key_id,
    verify_crl_origin,
    verify_path,
)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key in use: what ``medportal keys list`` and the renewals look at."""

    purpose: Purpose
    key_id: str
    serial: int
    not_before: datetime
    not_after: datetime
    renew_at: datetime
    dns_names: tuple[str, ...]


def init_ca(
    directory: Path,
    institution: str,
    names: Mapping[str, str],
    passphrase: bytes,
    now: datetime,
    *,
    permitted_dns: Sequence[str] = (),
) -> x509.Certificate:
    """Make the authority of ``institution`` and its first, empty revocation list.

    ``names`` maps languages to the institution's name; English goes into the certificate.
    ``permitted_dns`` constrains it to web names at or below these: give the institution's host
    names, so that whoever installs the authority in a browser trusts it for nothing else.

    Raises ``AlreadyThere`` if there is one.
    """
    layout, profiles = Layout(directory), load_profiles()
    with locked(layout.lock):
        if layout.ca_certificate.exists():
            raise AlreadyThere(f"{directory} already has a certificate authority")
        key = ec.generate_private_key(ec.SECP256R1())
        validity = Validity.of(now, profiles.ca_lifetime, profiles.skew)
        ca = certificates.build_ca(key, institution, names["en"], validity, permitted_dns)
        write_file(layout.ca_key, to_pem(key, passphrase), PRIVATE)
        _write_crl(layout, key, ca, 1, now, [])
        # Last, because its presence says that the authority is complete.
        write_file(layout.ca_certificate, ca.public_bytes(Encoding.PEM))
    return ca


def issue(
    directory: Path,
    purpose: Purpose,
    *,
    dns_names: Sequence[str] = (),
    ca_passphrase: bytes,
    group_passphrase: bytes,
    now: datetime,
) -> x509.Certificate:
    """Make a new key for ``purpose`` and certify it, replacing the one in use, if any.

    The replaced certificate stays good until it expires or is revoked. ``dns_names`` are for web
    certificates, and needed there. Processes that hold the key store see the new key at once.

    Raises ``BadChain`` for DNS names that the authority's constraints do not permit, and a
    ``KeyFileError`` if the authority cannot be opened.
    """
    layout = Layout(directory)
    with locked(layout.lock):
        key = certificates.generate_key(meaning(purpose).algorithm)
        leaf = _certify(layout, key.public_key(), purpose, dns_names, ca_passphrase, now)
        pem = leaf.public_bytes(Encoding.PEM)
        write_file(layout.key(purpose), pem + to_pem(key, group_passphrase), PRIVATE)
    return leaf


def certify(
    directory: Path,
    public_key: PublicKey,
    purpose: Purpose,
    *,
    dns_names: Sequence[str] = (),
    ca_passphrase: bytes,
    now: datetime,
) -> x509.Certificate:
    """Certify a key that was made elsewhere, by whoever proved to hold it.

    Raises as :func:`issue`, and ``KeyReused`` for a key that was certified before: a renewal is a
    new key, or the theft of one certificate's key would outlive its revocation.
    """
    layout = Layout(directory)
    with locked(layout.lock):
        return _certify(layout, public_key, purpose, dns_names, ca_passphrase, now)


def _certify(
    layout: Layout,
    public_key: PublicKey,
    purpose: Purpose,
    dns_names: Sequence[str],
    ca_passphrase: bytes,
    now: datetime,
) -> x509.Certificate:
    if bool(dns_names) != (purpose is Purpose.WEB):
        raise ValueError("web certificates have DNS names, others have none")
    profiles = load_profiles()
    ca, ca_key = open_ca(layout, ca_passphrase)
    institution = institution_of(ca)
    _require_new_key(layout, public_key)
    leaf = certificates.build_leaf(
        ca_key,
        ca,
        public_key,
        purpose,
        institution,
        Validity.of(now, profiles[purpose].lifetime, profiles.skew),
        dns_names,
    )
    # Nothing leaves that a partner or a browser would refuse, a name outside the authority's
    # constraints for one.
    der = leaf.public_bytes(Encoding.DER)
    verify_path((der,), ca=ca, purpose=purpose, institution=institution, now=now)
    record = layout.issued(leaf.serial_number)
    if record.exists():
        # 159 random bits do not repeat by chance: something is wrong with the randomness.
        raise AlreadyThere("a certificate with that serial number was issued before")
    write_file(record, leaf.public_bytes(Encoding.PEM))
    return leaf


def _require_new_key(layout: Layout, public_key: PublicKey) -> None:
    for leaf in issued(layout.root):
        if leaf.public_key() == public_key:
            raise KeyReused("that key was certified before: request a certificate for a new one")


def issued(directory: Path) -> list[x509.Certificate]:
    """Return every certificate ever issued here, the oldest first."""
    paths = sorted((Layout(directory).root / "issued").glob("*.crt"))
    found = [certificate_from_pem(read_file(path), str(path)) for path in paths]
    return sorted(found, key=lambda leaf: (leaf.not_valid_before_utc, leaf.serial_number))


def issue_missing(
    directory: Path, *, dns_names: Sequence[str], passphrases: Mapping[str, bytes], now: datetime
) -> list[Purpose]:
    """Issue every purpose that has no key yet and whose group's passphrase is given.

    Returns what was issued. Safe to run again.
    """
    layout, profiles = Layout(directory), load_profiles()
    missing = [
        purpose
        for purpose in Purpose
        if profiles[purpose].group in passphrases and not layout.key(purpose).exists()
    ]
    for purpose in missing:
        issue(
            directory,
            purpose,
            dns_names=dns_names if purpose is Purpose.WEB else (),
            ca_passphrase=passphrases[Group.CA],
            group_passphrase=passphrases[profiles[purpose].group],
            now=now,
        )
    return missing


def revoke(
    directory: Path,
    serial: int,
    *,
    ca_passphrase: bytes,
    now: datetime,
    reason: x509.ReasonFlags = x509.ReasonFlags.unspecified,
    since: datetime | None = None,
) -> x509.CertificateRevocationList:
    """Withdraw a certificate and return the new revocation list.

    ``since`` dates the withdrawal back, for a key that was stolen earlier: statements signed after
    that moment then no longer verify, those verified before do. Withdrawing again can only move
    that date back further.

    Raises ``KeyFileMissing`` if this authority never issued that serial number.
    """
    if since is not None and since > now:
        raise ValueError("a certificate cannot be withdrawn from a later time on")
    layout = Layout(directory)
    record = layout.issued(serial)
    if not record.exists():
        raise KeyFileMissing("this authority never issued a certificate with that serial number")
    leaf = certificate_from_pem(read_file(record), str(record))
    with locked(layout.lock):
        owner = _owner(layout, leaf)
        return _renew_crl(owner, ca_passphrase, now, Withdrawal(serial, since or now, reason))


def _owner(layout: Layout, leaf: x509.Certificate) -> Layout:
    """Return the directory of the authority that issued a certificate: the present or a former."""
    for each in (layout, *former_layouts(layout)):
        if issued_by(leaf, read_ca(each.root)) is not None:
            return each
    raise KeyFileMissing("the authority that issued this certificate is not here")


def make_crl(
    directory: Path,
    *,
    ca_passphrase: bytes,
    now: datetime,
    lifetime: timedelta | None = None,
) -> x509.CertificateRevocationList:
    """Issue the next revocation list, with the same lines as the last.

    And that of a former authority which has not retired. ``lifetime`` until the next update, as
    in the profiles if absent.
    """
    layout = Layout(directory)
    with locked(layout.lock):
        for former in former_layouts(layout):
            if former.ca_key.exists():
                _renew_crl(former, ca_passphrase, now, None, lifetime)
        return _renew_crl(layout, ca_passphrase, now, None, lifetime)


def crl_due(directory: Path, now: datetime) -> bool:
    """Tell whether less than half of the revocation list's lifetime is left.

    (Make one daily anyway; this is for starting up after a pause.)
    """
    layout = Layout(directory)
    working = [layout, *(each for each in former_layouts(layout) if each.ca_key.exists())]
    return any(_is_due(read_crl(each.root), now) for each in working)


def _is_due(crl: x509.CertificateRevocationList, now: datetime) -> bool:
    return now >= crl.last_update_utc + load_profiles().crl_lifetime / 2


def former_layouts(layout: Layout) -> list[Layout]:
    """Return the directories of the authorities that were used before, the newest first."""
    if not layout.former.is_dir():
        return []
    found = [
        Layout(each) for each in layout.former.iterdir() if Layout(each).ca_certificate.exists()
    ]
    return sorted(found, key=lambda each: read_ca(each.root).not_valid_before_utc, reverse=True)


def authorities(directory: Path) -> tuple[x509.Certificate, ...]:
    """Return the authority's certificate and, after it, those of former authorities."""
    layout = Layout(directory)
    return tuple(read_ca(each.root) for each in (layout, *former_layouts(layout)))


def lists(directory: Path) -> tuple[bytes, ...]:
    """Return the newest revocation list of the authority and of each former one (DER)."""
    layout = Layout(directory)
    return tuple(read_file(each.crl) for each in (layout, *former_layouts(layout)))


def read_ca(directory: Path) -> x509.Certificate:
    """Return the authority's certificate."""
    path = Layout(directory).ca_certificate
    return certificate_from_pem(read_file(path), str(path))


def read_crl(directory: Path) -> x509.CertificateRevocationList:
    """Return the newest revocation list of the authority, its signature checked."""
    der = read_file(Layout(directory).crl)
    return verify_crl_origin(der, ca=read_ca(directory))


def inventory(directory: Path) -> list[KeyInfo]:
    """Return the keys in use that are in this directory."""
    layout = Layout(directory)
    return [_info(layout, purpose) for purpose in Purpose if layout.key(purpose).exists()]


def due_for_renewal(directory: Path, now: datetime) -> list[KeyInfo]:
    """Return the keys that should be issued anew by now."""
    return [info for info in inventory(directory) if info.renew_at <= now]


def export_group(directory: Path, group: Group, destination: Path) -> list[Path]:
    """Copy what the host that holds ``group`` needs, private keys still encrypted.

    That is the authority's certificate and revocation list, the group's keys and the partners.
    Returns the files written. The authority's own key is never exported.
    """
    layout, target = Layout(directory), Layout(destination)
    written = [
        _copy(layout.ca_certificate, target.ca_certificate),
        _copy(layout.crl, target.crl),
        *_copy_former(layout, target),
    ]
    for purpose in load_profiles().of_group(group):
        if layout.key(purpose).exists():
            written.append(_copy(layout.key(purpose), target.key(purpose), PRIVATE))
    if group is Group.PAIR and layout.pair.exists():
        written.append(_copy(layout.pair, target.pair, PRIVATE))
    make_directory(target.partners)
    known = sorted(layout.partners.glob("*.*"))
    return written + [_copy(path, target.partners / path.name) for path in known]


def _copy_former(layout: Layout, target: Layout) -> list[Path]:
    """Copy what is public of a rollover: the link, and former authorities."""
    written = [_copy(layout.link, target.link)] if layout.link.exists() else []
    for each in former_layouts(layout):
        to = Layout(target.former / each.root.name)
        written += [_copy(each.crl, to.crl), _copy(each.ca_certificate, to.ca_certificate)]
        if each.back.exists():
            written.append(_copy(each.back, to.back))
    return written


def require_key(directory: Path) -> None:
    """Raise ``KeyFileMissing``, with words that help, where the authority's key is elsewhere."""
    path = Layout(directory).ca_key
    if not path.exists():
        raise KeyFileMissing(
            f"{path} is not here: where the authority is kept offline, request here, sign there, "
            "and import here (medportal pki request, sign, import; docs/pki.md)"
        )


def open_ca(
    layout: Layout, passphrase: bytes
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return the authority with its opened key. Raises a ``KeyFileError`` saying what lacks."""
    ca = read_ca(layout.root)
    require_key(layout.root)
    key = from_pem(read_private(layout.ca_key), passphrase, str(layout.ca_key))
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
        raise KeyFileUnfit(f"{layout.ca_key} does not belong to {layout.ca_certificate}")
    return ca, key


def _renew_crl(
    layout: Layout,
    passphrase: bytes,
    now: datetime,
    withdrawal: Withdrawal | None,
    lifetime: timedelta | None = None,
) -> x509.CertificateRevocationList:
    ca, key = open_ca(layout, passphrase)
    old = read_crl(layout.root)
    lines = {line.serial: line for line in certificates.withdrawals_of(old)}
    if withdrawal is not None:
        held = lines.get(withdrawal.serial, withdrawal)
        lines[withdrawal.serial] = min(held, withdrawal, key=lambda line: line.at)
    number = certificates.crl_number(old) + 1
    return _write_crl(layout, key, ca, number, now, list(lines.values()), lifetime)


def _write_crl(
    layout: Layout,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    number: int,
    now: datetime,
    lines: Sequence[Withdrawal],
    lifetime: timedelta | None = None,
) -> x509.CertificateRevocationList:
    lifetime = lifetime or load_profiles().crl_lifetime
    crl = certificates.build_crl(key, ca, number, now, lifetime, lines)
    write_file(layout.crl, crl.public_bytes(Encoding.DER))
    return crl


def _info(layout: Layout, purpose: Purpose) -> KeyInfo:
    path = layout.key(purpose)
    leaf = certificate_from_pem(read_file(path), str(path))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return KeyInfo(
        purpose=purpose,
        key_id=key_id(leaf.public_key()),  # type: ignore[arg-type]  # this authority made it
        serial=leaf.serial_number,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        renew_at=leaf.not_valid_after_utc - load_profiles()[purpose].renew_before,
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
    )


def _copy(source: Path, target: Path, mode: int = 0o644) -> Path:
    write_file(target, read_file(source), mode)
    return target
