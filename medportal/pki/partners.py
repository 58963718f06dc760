"""The partners that an institution trusts, in its key directory.

Trust is a file: the descriptor as it was when two people compared its fingerprint, and when that
was. A mark beside it revokes it. Both are looked at on every question, so that a local revocation
works at once in every process, open connections included.

A partner whose authority rolls over sends a link, by which the authority trusted here vouches for
the next. It is followed, and kept: until the day on which the trusted one retires, what the next
one certified is accepted, and after that day nothing new of the retired one is. That the next one
is trusted in its place takes people again, as in the beginning: somebody who stole the old key
could sign a link of their own. Only the first successor is followed; a second one is a theft, or
somebody who has to explain it.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros
from medportal.pki.ca import read_ca
from medportal.pki.certificates import crl_number
from medportal.pki.descriptors import (
    Descriptor,
    export_descriptor,
    fingerprint,
    verify_descriptor,
)
from medportal.pki.errors import (
    AuthorityRetired,
    CrlError,
    DescriptorInvalid,
    KeyFileMissing,
    KeyFileUnfit,
    PartnerChanged,
    Revoked,
    SuccessorChanged,
    UnknownPartner,
)
from medportal.pki.files import locked, read_file, write_file
from medportal.pki.keystore import KeyStore, Passphrases
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.pairing import PairKey, pair_key
from medportal.pki.profiles import is_institution
from medportal.pki.verify import (
    institution_of,
    issued_by,
    key_id,
    verify_crl,
    verify_crl_origin,
    verify_link,
)

__all__ = [
    "Descriptor",
    "Former",
    "PairKey",
    "Partner",
    "TrustStore",
    "check_link_kept",
    "export_descriptor",
    "fingerprint",
    "pair_key",
    "pair_keys",
    "read_descriptor",
    "remember_crl",
    "restore_partner",
    "revoke_partner",
    "trust",
]

_REASON = re.compile(r"[a-z][a-z-]{0,40}")


@dataclass(frozen=True, slots=True)
class Former:
    """An authority that a partner used before, and until when it still counted for new things."""

    ca: x509.Certificate
    until: datetime


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner institution as trusted here.

    ``crl_der`` is the newest revocation list seen from it and ``crl_floor`` that list's number.
    ``link`` is the next authority as ``ca`` vouches for it, ``former`` those trusted before, and
    ``lists`` the newest lists by the id of the key that signed them.
    """

    institution: str
    kind: str
    names: Mapping[str, str]
    ca: x509.Certificate
    endpoint: str | None
    share: bytes
    fingerprint: str
    trusted_at: datetime
    revoked: bool
    crl_der: bytes
    crl_floor: int
    link: x509.Certificate | None = None
    former: tuple[Former, ...] = ()
    lists: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """Whom to believe about what was signed once: the authority, and those before it."""
        return (self.ca, *(each.ca for each in self.former))

    @property
    def floors(self) -> Mapping[str, int]:
        """The number of the newest list seen, by the id of the key that signed it."""
        return {name: crl_number(x509.load_der_x509_crl(der)) for name, der in self.lists.items()}

    @property
    def retires(self) -> datetime | None:
        """When the authority trusted here retires, ``None`` if that is not known."""
        return None if self.link is None else self.link.not_valid_after_utc

    def anchors(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return the authorities under which something new is accepted ``now``.

        Raises ``AuthorityRetired`` if there is none.
        """
        found = [each.ca for each in self.former if now < each.until]
        if self.retires is None or now < self.retires:
            found.insert(0, self.ca)
        if not found:
            raise AuthorityRetired("trust the partner's next authority: medportal partner trust")
        return tuple(found)

    def check_successor(self, issuer: x509.Certificate) -> None:
        """Raise ``SuccessorChanged`` for an issuer that is another successor than the one seen."""
        known = [*self.authorities, *([self.link] if self.link else [])]
        is_known = any(each.public_key() == issuer.public_key() for each in known)
        if self.link is not None and not is_known:
            raise SuccessorChanged("the authority vouches for two different successors")


def read_descriptor(data: bytes, now: datetime) -> Descriptor:
    """Return the descriptor in ``data``, checked with this installation's limits.

    Raises a ``PkiError`` that names what is wrong.
    """
    return verify_descriptor(data, now, load_profiles().crl_limits)


def trust(
    directory: Path, descriptor: Descriptor, now: datetime, *, replace: bool = False
) -> Partner:
    """Trust the institution that ``descriptor`` describes, after people compared fingerprints.

    A newer descriptor of a trusted partner may change its names and endpoint; another authority or
    key share only with ``replace=True``, which says that the fingerprint was compared anew. A mark
    of revocation stays.

    Raises ``PartnerChanged``, or ``DescriptorInvalid`` for an institution's own descriptor.
    """
    if descriptor.institution == institution_of(read_ca(directory)):
        raise DescriptorInvalid("an institution is not its own partner")
    store = TrustStore(directory)
    with locked(Layout(directory).lock):
        known = store.find(descriptor.institution)
        if known is not None and not replace:
            _check_same(known, descriptor)
        _keep_newest_crl(directory, descriptor)
        if known is not None and known.ca.public_key() != descriptor.ca.public_key():
            _keep_former(directory, known, descriptor.ca, now)
        _write(directory, descriptor, now)
    return store.get(descriptor.institution)


class TrustStore:
    """Answers who is trusted, from the files, at the moment it is asked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # As text: a receiver asks about trust several times a record, and paths are slow to join.
        self._partners = str(Layout(directory).partners)

    def partners(self) -> list[Partner]:
        """Return all partners, revoked ones too, in order of their ids."""
        return [self.get(institution) for institution in self.institutions()]

    def institutions(self) -> list[str]:
        """Return the ids of all partners, revoked ones too, in order; opens no descriptor."""
        return sorted(path.stem for path in Layout(self._directory).partners.glob("*.partner"))

    def get(self, institution: str) -> Partner:
        """Return the partner, revoked or not. Raises ``UnknownPartner``."""
        partner = self.find(institution)
        if partner is None:
            raise UnknownPartner("no such partner is trusted")
        return partner

    def find(self, institution: str) -> Partner | None:
        """Return the partner, or ``None``. The id may come from anybody: it need not be a slug."""
        if not is_institution(institution):
            return None
        try:
            data = read_file(_path(self._directory, institution))
        except KeyFileMissing:
            return None
        return self._partner(institution, data)

    def is_trusted(self, institution: str) -> bool:
        """Tell, at the cost of two file lookups, whether a partner is there and not revoked."""
        return (
            is_institution(institution)
            # Whether there is such a file is all that is asked, and all that is looked up.
            and os.access(f"{self._partners}/{institution}.partner", os.F_OK)
            and not os.access(f"{self._partners}/{institution}.revoked", os.F_OK)
        )

    def _partner(self, institution: str, data: bytes) -> Partner:
        descriptor, trusted_at = _read(institution, data)
        crl = _held_crl(_held_path(self._directory, institution, descriptor.ca), descriptor.ca)
        link = _held_link(self._directory, institution, descriptor.ca)
        former = _held_former(self._directory, institution)
        others = [*(each.ca for each in former), *([link] if link else [])]
        return Partner(
            institution=descriptor.institution,
            kind=descriptor.kind,
            names=descriptor.names,
            ca=descriptor.ca,
            endpoint=descriptor.endpoint,
            share=descriptor.share,
            fingerprint=fingerprint(descriptor),
            trusted_at=trusted_at,
            revoked=_mark(self._directory, institution).exists(),
            crl_der=crl.public_bytes(Encoding.DER),
            crl_floor=crl_number(crl),
            link=link,
            former=former,
            lists={
                _id_of(descriptor.ca): crl.public_bytes(Encoding.DER),
                **_other_lists(self._directory, institution, others),
            },
        )


def revoke_partner(directory: Path, institution: str, now: datetime, reason: str) -> Partner:
    """Stop trusting a partner, at once; ``reason`` is a short code. Raises ``UnknownPartner``."""
    if _REASON.fullmatch(reason) is None:
        raise ValueError("a reason is a short code")
    store = TrustStore(directory)
    store.get(institution)
    text = f"{now.isoformat()} {reason}\n"
    write_file(_mark(directory, institution), text.encode("ascii"))
    return store.get(institution)


def restore_partner(directory: Path, institution: str) -> Partner:
    """Take a revocation back. Raises ``UnknownPartner``."""
    partner = TrustStore(directory).get(institution)
    _mark(directory, partner.institution).unlink(missing_ok=True)
    return TrustStore(directory).get(institution)


def remember_crl(
    directory: Path,
    institution: str,
    crl_der: bytes,
    now: datetime,
    link: x509.Certificate | None = None,
) -> int:
    """Keep a partner's revocation list if it is newer than the one held; return the floor.

    Call it with each list that arrives: it makes later verifications refuse older ones, and tells
    about revocations when old statements are looked at. ``link`` is what issued the partner's
    certificate, where that is not an authority trusted here: it is kept too, with the list by its
    key.

    Raises ``CrlError`` if the list is not acceptable, ``CrlRolledBack`` if it is older,
    ``SuccessorChanged`` or a ``CertificateError`` for a link that is not the one known.
    """
    with locked(Layout(directory).lock):
        partner = TrustStore(directory).get(institution)
        signer = _keep_link(directory, partner, link, now) if link else _signer_of(partner, crl_der)
        crl = verify_crl(
            crl_der,
            ca=signer,
            now=now,
            crl_limits=load_profiles().crl_limits,
            crl_floor=partner.floors.get(_id_of(signer), 0),
        )
        if crl_number(crl) > partner.floors.get(_id_of(signer), -1):
            write_file(_crl(directory, institution, signer), crl_der)
        return crl_number(crl)


def check_link_kept(
    link: x509.Certificate, authorities: Sequence[x509.Certificate], lists: Mapping[str, bytes]
) -> x509.Certificate:
    """Return ``link`` unless the newest list held of its issuer withdraws it: then ``Revoked``."""
    issuer = issued_by(link, authorities)
    held = lists.get(_id_of(issuer)) if issuer else None
    if held is not None:
        crl = x509.load_der_x509_crl(held)
        if crl.get_revoked_certificate_by_serial_number(link.serial_number) is not None:
            raise Revoked("the authority has withdrawn its word for the next one")
    return link


def _keep_link(
    directory: Path, partner: Partner, link: x509.Certificate, now: datetime
) -> x509.Certificate:
    if any(each.public_key() == link.public_key() for each in partner.authorities):
        return link
    verify_link(link, ca=partner.ca, now=now)
    partner.check_successor(link)
    if partner.link is None:
        write_file(
            _named(directory, partner.institution, partner.ca, "link"),
            link.public_bytes(Encoding.DER),
        )
    return link


def _signer_of(partner: Partner, crl_der: bytes) -> x509.Certificate:
    """Return whose list this is of the authorities known of a partner; the trusted one if none."""
    for each in (*partner.authorities, *([partner.link] if partner.link else [])):
        try:
            verify_crl_origin(crl_der, ca=each)
        except CrlError:
            continue
        return each
    return partner.ca


def pair_keys(directory: Path, passphrases: Passphrases) -> dict[str, PairKey]:
    """Return partner id -> pair key, for every partner that is not revoked.

    Needs the passphrase of the group ``pair``.
    """
    keys = KeyStore(directory, passphrases)
    own, share = keys.institution, keys.share()
    return {
        partner.institution: pair_key(share, partner.share, own, partner.institution)
        for partner in TrustStore(directory).partners()
        if not partner.revoked
    }


def _check_same(known: Partner, descriptor: Descriptor) -> None:
    if known.ca != descriptor.ca or known.share != descriptor.share:
        raise PartnerChanged("another authority or key share than the one trusted")


def _write(directory: Path, descriptor: Descriptor, now: datetime) -> None:
    record = {"descriptor": descriptor.armoured, "trusted": to_micros(now)}
    write_file(_path(directory, descriptor.institution), canonical.encode(record))


def _keep_newest_crl(directory: Path, descriptor: Descriptor) -> None:
    """Take the descriptor's list unless one as new of the same authority is held."""
    held = _held_path(directory, descriptor.institution, descriptor.ca)
    new = crl_number(verify_crl_origin(descriptor.crl_der, ca=descriptor.ca))
    if not held.exists() or new > crl_number(_held_crl(held, descriptor.ca)):
        write_file(_crl(directory, descriptor.institution, descriptor.ca), descriptor.crl_der)


def _keep_former(directory: Path, known: Partner, ca: x509.Certificate, now: datetime) -> None:
    """Keep the authority that ``ca`` replaces, by which old records are checked.

    It counts for new things until the day that it said itself, if it vouches for ``ca``; else,
    after a theft for one, it counts no more.
    """
    is_followed = known.link is not None and known.link.public_key() == ca.public_key()
    until = known.retires if is_followed and known.retires else now
    record = {"ca": known.ca.public_bytes(Encoding.DER), "until": to_micros(until)}
    write_file(_named(directory, known.institution, known.ca, "former"), canonical.encode(record))


def _held_former(directory: Path, institution: str) -> tuple[Former, ...]:
    found = []
    for path in sorted(Layout(directory).partners.glob(f"{institution}.*.former")):
        try:
            record: Any = canonical.decode(read_file(path))
            ca = x509.load_der_x509_certificate(record["ca"])
            found.append(Former(ca, from_micros(record["until"])))
        except (canonical.NotCanonical, KeyError, TypeError, ValueError) as error:
            raise KeyFileUnfit(f"{path} cannot be read") from error
    return tuple(found)


def _held_link(directory: Path, institution: str, ca: x509.Certificate) -> x509.Certificate | None:
    path = _named(directory, institution, ca, "link")
    if not path.exists():
        return None
    try:
        return x509.load_der_x509_certificate(read_file(path))
    except ValueError as error:
        raise KeyFileUnfit(f"{path} cannot be read") from error


def _other_lists(
    directory: Path, institution: str, others: Sequence[x509.Certificate]
) -> dict[str, bytes]:
    paths = {_id_of(ca): _held_path(directory, institution, ca) for ca in others}
    return {name: read_file(path) for name, path in paths.items() if path.exists()}


def _held_crl(path: Path, ca: x509.Certificate) -> x509.CertificateRevocationList:
    return verify_crl_origin(read_file(path), ca=ca)


def _read(institution: str, data: bytes) -> tuple[Descriptor, datetime]:
    """Return the descriptor and when it was trusted, checked again as of that moment."""
    try:
        record: Any = canonical.decode(data)
        trusted_at = from_micros(record["trusted"])
        descriptor = read_descriptor(record["descriptor"], trusted_at)
    except (canonical.NotCanonical, KeyError, TypeError, ValueError) as error:
        raise KeyFileUnfit(f"the trusted partner {institution} cannot be read") from error
    if descriptor.institution != institution:
        raise KeyFileUnfit(f"the file of {institution} describes another institution")
    return descriptor, trusted_at


def _path(directory: Path, institution: str) -> Path:
    return Layout(directory).partners / f"{institution}.partner"


def _crl(directory: Path, institution: str, ca: x509.Certificate) -> Path:
    # Numbers count within one authority, so a partner's next authority begins a file of its own.
    return _named(directory, institution, ca, "crl")


def _held_path(directory: Path, institution: str, ca: x509.Certificate) -> Path:
    """Return the file with an authority's newest list, by its name or the one it had earlier."""
    path = _crl(directory, institution, ca)
    earlier = f"{institution}.{ca.fingerprint(SHA256()).hex()[:16]}.crl"
    return path if path.exists() else path.with_name(earlier)


def _named(directory: Path, institution: str, ca: x509.Certificate, kind: str) -> Path:
    return Layout(directory).partners / f"{institution}.{_id_of(ca)[:16]}.{kind}"


def _id_of(ca: x509.Certificate) -> str:
    return key_id(ca.public_key())  # type: ignore[arg-type]  # an authority's key is P-256


def _mark(directory: Path, institution: str) -> Path:
    return Layout(directory).partners / f"{institution}.revoked"
