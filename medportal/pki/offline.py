"""Keys whose authority is kept on another machine: request here, sign there, import here.

Only files travel: a request (PKCS#10), a certificate, a revocation list, all of them public. The
machine with the authority needs its directory and nothing else of the institution; the others
need no key of the authority for anything.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki import certificates
from medportal.pki.ca import certify, former_layouts, read_ca, read_crl
from medportal.pki.certificates import PrivateKey, crl_number
from medportal.pki.errors import (
    AlreadyThere,
    CrlError,
    CrlRolledBack,
    KeyFileMissing,
    KeyFileUnfit,
    Revoked,
)
from medportal.pki.files import (
    PRIVATE,
    PUBLIC,
    locked,
    make_directory,
    read_file,
    read_private,
    write_file,
)
from medportal.pki.keyfiles import AnyPrivateKey, from_pem, to_pem
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.profiles import Purpose, meaning
from medportal.pki.requests import Request, build_request, read_request
from medportal.pki.verify import (
    VerifiedLeaf,
    institution_of,
    verify_crl,
    verify_crl_origin,
    verify_path,
)


def request(
    directory: Path,
    purpose: Purpose,
    *,
    dns_names: tuple[str, ...] = (),
    group_passphrase: bytes,
) -> tuple[bytes, Request]:
    """Make a key that waits for its certificate, or take the one that waits; return the request.

    The key in use stays in use until :func:`import_certificate`. Asking again gives a request for
    the same key, so that a lost file can be written again.
    """
    layout = Layout(directory)
    with locked(layout.lock):
        path = layout.requested(purpose)
        if path.exists():
            key = _private(from_pem(read_private(path), group_passphrase, str(path)))
        else:
            key = certificates.generate_key(meaning(purpose).algorithm)
            write_file(path, to_pem(key, group_passphrase), PRIVATE)
    ca = read_ca(directory)
    pem = build_request(key, institution_of(ca), purpose, dns_names)
    # Checked as the authority will, so that nobody travels in vain.
    return pem, read_request(pem, ca)


def sign(directory: Path, wanted: Request, *, ca_passphrase: bytes, now: datetime) -> bytes:
    """Certify the key of a checked request; return the certificate, with the link if there is one.

    Raises ``KeyReused`` for a key that was certified before, a ``KeyFileError`` if the authority
    cannot be opened.
    """
    leaf = certify(
        directory,
        wanted.public_key,
        wanted.purpose,
        dns_names=wanted.dns_names,
        ca_passphrase=ca_passphrase,
        now=now,
    )
    return leaf.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Imported:
    """What :func:`import_certificate` put in its place."""

    purpose: Purpose
    leaf: VerifiedLeaf


def import_certificate(
    directory: Path, pem: bytes, *, group_passphrases: dict[str, bytes], now: datetime
) -> Imported:
    """Put a certificate in use that was signed elsewhere, with the key that waits for it.

    1. It is one certificate, and the key of one purpose waits for it here.
    2. It is by the authority here, for that purpose and this institution, and valid now.
    3. The revocation list here does not withdraw it.

    The key that was in use is replaced in one step. Raises a ``PkiError``.
    """
    layout, ca = Layout(directory), read_ca(directory)
    leaf = _one_certificate(pem)
    with locked(layout.lock):
        purpose, key = _waiting(layout, leaf, group_passphrases)  # (1)
        verified = verify_path(  # (2)
            (leaf.public_bytes(Encoding.DER),),
            ca=ca,
            purpose=purpose,
            institution=institution_of(ca),
            now=now,
        )
        crl = read_crl(directory)
        if crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None:  # (3)
            raise Revoked("the revocation list here withdraws that certificate")
        text = leaf.public_bytes(Encoding.PEM)
        passphrase = group_passphrases[load_profiles()[purpose].group]
        write_file(layout.issued(leaf.serial_number), text)
        write_file(layout.key(purpose), text + to_pem(key, passphrase), PRIVATE)
        layout.requested(purpose).unlink()
    return Imported(purpose, verified)


def import_crl(directory: Path, data: bytes, now: datetime) -> x509.CertificateRevocationList:
    """Put a revocation list in use that was signed elsewhere (DER or PEM).

    Raises ``CrlInvalid`` for a list of somebody else's authority, ``CrlRolledBack`` for one that is
    not newer than the one here, ``CrlStale`` or ``CrlFromFuture`` for one that partners refuse.
    """
    layout, der = Layout(directory), _list_der(data)
    with locked(layout.lock):
        owner = _owner(layout, der)
        limits = load_profiles().crl_limits
        crl = verify_crl(der, ca=read_ca(owner.root), now=now, crl_limits=limits)
        held = read_crl(owner.root)
        if crl_number(crl) < crl_number(held) or (
            crl_number(crl) == crl_number(held) and crl != held
        ):
            raise CrlRolledBack("the revocation list here is newer")
        write_file(owner.crl, der)
    return crl


def detach(directory: Path, destination: Path) -> list[Path]:
    """Move the authority's key to ``destination``, with all that working with it needs.

    The copy is read back before the key here is removed. Returns what was written. Its passphrase
    is the caller's to move. Raises ``AlreadyThere`` if an authority lies there.
    """
    layout, target = Layout(directory), Layout(destination)
    if target.ca_key.exists() or target.ca_certificate.exists():
        raise AlreadyThere(f"{destination} already has a certificate authority")
    if not layout.ca_key.exists():
        raise KeyFileMissing(f"{layout.ca_key} is not here")
    with locked(layout.lock):
        make_directory(destination)
        moved = [path for path in _belongings(layout) if path.is_file()]
        written = [_copied(path, layout.root, destination) for path in moved]
        for path in moved:
            if path.suffix == ".key":
                path.unlink()
    return written


def _belongings(layout: Layout) -> list[Path]:
    own = [layout.ca_key, layout.crl, layout.link, layout.ca_certificate]
    former = [path for each in former_layouts(layout) for path in sorted(each.root.iterdir())]
    return [*own, *former, *sorted((layout.root / "issued").glob("*.crt"))]


def _copied(path: Path, root: Path, destination: Path) -> Path:
    target = destination / path.relative_to(root)
    data = read_file(path)
    write_file(target, data, PRIVATE if path.suffix == ".key" else PUBLIC)
    if target.read_bytes() != data:
        raise KeyFileUnfit(f"{target} does not hold what was written")
    return target


def _one_certificate(pem: bytes) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise KeyFileUnfit("the file holds no certificate") from error
    if len(found) != 1:
        raise KeyFileUnfit("the file holds several certificates: one belongs in it")
    return found[0]


def _waiting(
    layout: Layout, leaf: x509.Certificate, passphrases: dict[str, bytes]
) -> tuple[Purpose, PrivateKey]:
    for purpose in Purpose:
        path, group = layout.requested(purpose), load_profiles()[purpose].group
        if path.exists() and group in passphrases:
            key = _private(from_pem(read_private(path), passphrases[group], str(path)))
            if key.public_key() == leaf.public_key():
                return purpose, key
    raise KeyFileMissing(
        "no key here waits for that certificate: it was requested elsewhere, or not"
    )


def _private(key: AnyPrivateKey) -> PrivateKey:
    return key  # type: ignore[return-value]  # what waits for a certificate was made for signing


def _owner(layout: Layout, der: bytes) -> Layout:
    """Return the directory of the authority, present or former, whose list this is."""
    for each in former_layouts(layout):
        try:
            verify_crl_origin(der, ca=read_ca(each.root))
        except CrlError:
            continue
        return each
    verify_crl_origin(der, ca=read_ca(layout.root))
    return layout


def _list_der(data: bytes) -> bytes:
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    try:
        return x509.load_pem_x509_crl(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise KeyFileUnfit("the file holds no revocation list") from error
