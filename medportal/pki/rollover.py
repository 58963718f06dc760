"""A new key for an institution's authority, which the former key vouches for.

RFC 4210 section 4.4: both keys have one name. The former one signs a link to the new one, valid
until it retires; that link travels with everything that the new one certifies, so partners who
trust the former key only go on accepting, until people there compare the new fingerprint and trust
it. The new one signs a link back, for other software that trusts only the new key and has to
check what is old. The steps, so that a crash at any point leaves the old state or one that
running it again completes:

1. Everything new is made in ``rolling/``, its certificate last.
2. The authority's files are copied to ``former/KEYID/``, its certificate last.
3. The new files take their places, the certificate first: by then both lists are to be found.
4. ``rolling/`` is removed.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki import certificates
from medportal.pki.ca import (
    authorities,
    former_layouts,
    make_crl,
    open_ca,
    read_ca,
    read_crl,
)
from medportal.pki.certificates import Validity, crl_number
from medportal.pki.errors import (
    AlreadyThere,
    BadChain,
    CrlRolledBack,
    KeyFileMissing,
    KeyFileUnfit,
)
from medportal.pki.files import PRIVATE, locked, read_file, read_private, write_file
from medportal.pki.keyfiles import certificate_from_pem, to_pem
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.profiles import Purpose
from medportal.pki.verify import (
    institution_of,
    issued_by,
    key_id,
    verify_authority,
    verify_crl_origin,
    verify_link,
)


@dataclass(frozen=True, slots=True)
class Rolled:
    """A rollover: the new authority and until when the former one vouches for it."""

    ca: x509.Certificate
    link: x509.Certificate
    former: x509.Certificate

    @property
    def retires(self) -> datetime:
        """When the former authority retires."""
        return self.link.not_valid_after_utc


def authority_id(ca: x509.Certificate) -> str:
    """Return the short name of an authority in file names: half its key's id."""
    return key_id(ca.public_key())[:16]  # type: ignore[arg-type]  # an authority's key is P-256


def roll(
    directory: Path,
    *,
    ca_passphrase: bytes,
    now: datetime,
    overlap: timedelta | None = None,
    permitted_dns: Sequence[str] | None = None,
) -> Rolled:
    """Make the next authority; leaves are to be issued anew by whoever calls.

    ``overlap`` is how long the former one vouches for it, as in the profiles if absent;
    ``permitted_dns`` the web names that the new one is constrained to, the former's if absent.
    Raises ``AlreadyThere`` while a former authority has not retired.
    """
    layout, staged = _places(directory)
    with locked(layout.lock):
        if not staged.ca_certificate.exists():
            _refuse_second(layout)
            _stage(layout, staged, ca_passphrase, now, overlap, permitted_dns)
        _settle(layout, staged)
    return current(directory)


def current(directory: Path) -> Rolled:
    """Return the rollover under way. Raises ``KeyFileMissing`` if there is none."""
    layout = Layout(directory)
    if not layout.link.exists():
        raise KeyFileMissing("no former authority is retiring")
    link = certificate_from_pem(read_file(layout.link), str(layout.link))
    former = issued_by(link, authorities(directory)[1:])
    if former is None:
        raise KeyFileUnfit(f"{layout.link} is not by a former authority")
    return Rolled(read_ca(directory), link, former)


def certified_by_former(directory: Path) -> list[Purpose]:
    """Return the purposes whose key in use has no certificate of the present authority yet."""
    layout, ca = Layout(directory), read_ca(directory)
    held = [(p, layout.key(p)) for p in Purpose if layout.key(p).exists()]
    return [
        purpose
        for purpose, path in held
        if issued_by(certificate_from_pem(read_file(path), str(path)), ca) is None
    ]


def retire(
    directory: Path, *, ca_passphrase: bytes | None, now: datetime
) -> list[x509.Certificate]:
    """Let former authorities go whose time is over; return them.

    Each gets a last revocation list, if its key is here, and that key is destroyed: from then on
    nobody can certify anything under it. Its certificate and list stay, by which old records are
    checked. Raises ``KeyFileUnfit`` while a key in use is certified by one of them.
    """
    layout = Layout(directory)
    if not layout.link.exists() or current(directory).retires > now:
        return []
    waiting = certified_by_former(directory)
    if waiting:
        names = ", ".join(waiting)
        raise KeyFileUnfit(f"still certified by the former authority: {names}: renew them first")
    working = [each for each in former_layouts(layout) if each.ca_key.exists()]
    if working and ca_passphrase is not None:
        make_crl(directory, ca_passphrase=ca_passphrase, now=now)
    with locked(layout.lock):
        gone = [current(directory).former]
        for each in working:
            each.ca_key.unlink()
        layout.link.unlink()
    return gone


def bundle(directory: Path) -> bytes:
    """Return a rollover for a machine without the authority's keys: PEM, nothing private in it."""
    layout, rolled = Layout(directory), current(directory)
    former = layout.former / authority_id(rolled.former)
    back = read_file(Layout(former).back)
    parts = [rolled.ca.public_bytes(Encoding.PEM), rolled.link.public_bytes(Encoding.PEM), back]
    return b"".join([*parts, *(_list_pem(each) for each in (directory, former))])


def import_bundle(directory: Path, pem: bytes, now: datetime) -> Rolled:
    """Take over a rollover that was made where the authority's key is.

    The authority here has to vouch for the new one: nobody else can bring one in. Raises a
    ``PkiError``.
    """
    layout, staged = _places(directory)
    ca, link, back = _certificates(pem)
    own = read_ca(directory)
    if own.public_key() == ca.public_key():
        raise AlreadyThere("that authority is the one in use")
    _refuse_second(layout)
    verify_authority(ca, institution_of(own), now)
    verify_link(link, ca=own, now=now)
    verify_link(back, ca=ca, now=now)
    if link.public_key() != ca.public_key() or back.public_key() != own.public_key():
        raise BadChain("the links are not between these authorities")
    new, old = _lists(pem)
    verify_crl_origin(new, ca=ca)
    if crl_number(verify_crl_origin(old, ca=own)) < crl_number(read_crl(directory)):
        raise CrlRolledBack("the bundle holds an older revocation list than the one here")
    with locked(layout.lock):
        write_file(layout.crl, old)
        write_file(staged.crl, new)
        write_file(staged.link, link.public_bytes(Encoding.PEM))
        write_file(staged.back, back.public_bytes(Encoding.PEM))
        write_file(staged.ca_certificate, ca.public_bytes(Encoding.PEM))
        _settle(layout, staged)
    return current(directory)


def _places(directory: Path) -> tuple[Layout, Layout]:
    return Layout(directory), Layout(directory / "rolling")


def _refuse_second(layout: Layout) -> None:
    if layout.link.exists():
        raise AlreadyThere(
            "a former authority has not retired yet, and partners can follow one step only: wait "
            "until it has (medportal pki status says when), then medportal pki roll --finish"
        )


def _stage(
    layout: Layout,
    staged: Layout,
    passphrase: bytes,
    now: datetime,
    overlap: timedelta | None,
    permitted: Sequence[str] | None,
) -> None:
    profiles = load_profiles()
    old, old_key = open_ca(layout, passphrase)
    key = ec.generate_private_key(ec.SECP256R1())
    names = certificates.permitted_dns(old) if permitted is None else permitted
    whole = Validity.of(now, profiles.ca_lifetime, profiles.skew)
    ca = certificates.build_ca(
        key, institution_of(old), certificates.organisation(old), whole, names
    )
    shared = Validity.of(now, overlap or profiles.ca_overlap, profiles.skew)
    link = certificates.build_link(old_key, old, ca, shared)
    back = certificates.build_link(key, ca, old, shared)
    # Numbers go on: for whoever goes by the authority's name, both lists are of one series.
    number = crl_number(read_crl(layout.root)) + 1
    crl = certificates.build_crl(key, ca, number, now, profiles.crl_lifetime, [])
    write_file(staged.ca_key, to_pem(key, passphrase), PRIVATE)
    write_file(staged.crl, crl.public_bytes(Encoding.DER))
    write_file(staged.link, link.public_bytes(Encoding.PEM))
    write_file(staged.back, back.public_bytes(Encoding.PEM))
    write_file(staged.ca_certificate, ca.public_bytes(Encoding.PEM))  # (1)


def _settle(layout: Layout, staged: Layout) -> None:
    ca, own = read_ca(staged.root), read_ca(layout.root)
    if own.public_key() != ca.public_key():  # (2)
        former = Layout(layout.former / authority_id(own))
        if layout.ca_key.exists():
            write_file(former.ca_key, read_private(layout.ca_key), PRIVATE)
        write_file(former.back, read_file(staged.back))
        write_file(former.crl, read_file(layout.crl))
        write_file(former.ca_certificate, own.public_bytes(Encoding.PEM))
        write_file(layout.ca_certificate, ca.public_bytes(Encoding.PEM))  # (3)
    write_file(layout.crl, read_file(staged.crl))
    if staged.ca_key.exists():
        write_file(layout.ca_key, read_private(staged.ca_key), PRIVATE)
    else:
        layout.ca_key.unlink(missing_ok=True)
    write_file(layout.link, read_file(staged.link))
    shutil.rmtree(staged.root)  # (4)


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise KeyFileUnfit("not a rollover: no certificates in it") from error
    if len(found) != 3:
        raise KeyFileUnfit("not a rollover: an authority and two links belong in it")
    return found


def _lists(pem: bytes) -> list[bytes]:
    begin = b"-----BEGIN X509 CRL-----"
    try:
        found = [x509.load_pem_x509_crl(begin + part) for part in pem.split(begin)[1:]]
    except ValueError as error:
        raise KeyFileUnfit("not a rollover: a revocation list is damaged") from error
    if len(found) != 2:
        raise KeyFileUnfit("not a rollover: two revocation lists belong in it")
    return [each.public_bytes(Encoding.DER) for each in found]


def _list_pem(directory: Path) -> bytes:
    return read_crl(directory).public_bytes(Encoding.PEM)
