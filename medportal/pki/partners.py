"""The partners that an institution trusts, in its key directory.

Trust is a file: the descriptor as it was when two people compared its fingerprint, and when that
was. A mark beside it revokes it. Both are looked at on every question, so that a local revocation
works at once in every process, open connections included.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
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
    DescriptorInvalid,
    KeyFileMissing,
    KeyFileUnfit,
    PartnerChanged,
    UnknownPartner,
)
from medportal.pki.files import locked, read_file, write_file
from medportal.pki.keystore import KeyStore, Passphrases
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.pairing import PairKey, pair_key
from medportal.pki.profiles import is_institution
from medportal.pki.verify import institution_of, verify_crl, verify_crl_origin

__all__ = [
    "Descriptor",
    "PairKey",
    "Partner",
    "TrustStore",
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
class Partner:
    """A partner institution as trusted here.

    ``crl_der`` is the newest revocation list seen from it and ``crl_floor`` that list's number.
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
        _write(directory, descriptor, now)
    return store.get(descriptor.institution)


class TrustStore:
    """Answers who is trusted, from the files, at the moment it is asked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def partners(self) -> list[Partner]:
        """Return all partners, revoked ones too, in order of their ids."""
        files = sorted(Layout(self._directory).partners.glob("*.partner"))
        return [self.get(path.stem) for path in files]

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
            and _path(self._directory, institution).exists()
            and not _mark(self._directory, institution).exists()
        )

    def _partner(self, institution: str, data: bytes) -> Partner:
        descriptor, trusted_at = _read(institution, data)
        crl = _held_crl(_crl(self._directory, descriptor), descriptor.ca)
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


def remember_crl(directory: Path, institution: str, crl_der: bytes, now: datetime) -> int:
    """Keep a partner's revocation list if it is newer than the one held; return the floor.

    Call it with each list that arrives: it makes later verifications refuse older ones, and tells
    about revocations when old statements are looked at.

    Raises ``CrlError`` if the list is not acceptable, ``CrlRolledBack`` if it is older.
    """
    with locked(Layout(directory).lock):
        partner = TrustStore(directory).get(institution)
        crl = verify_crl(
            crl_der,
            ca=partner.ca,
            now=now,
            crl_limits=load_profiles().crl_limits,
            crl_floor=partner.crl_floor,
        )
        if crl_number(crl) > partner.crl_floor:
            write_file(_crl(directory, partner), crl_der)
        return crl_number(crl)


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
    path = _crl(directory, descriptor)
    new = crl_number(verify_crl_origin(descriptor.crl_der, ca=descriptor.ca))
    if not path.exists() or new > crl_number(_held_crl(path, descriptor.ca)):
        write_file(path, descriptor.crl_der)


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


def _crl(directory: Path, whose: Descriptor | Partner) -> Path:
    # Numbers count within one authority, so a partner's next authority begins a file of its own.
    authority = whose.ca.fingerprint(SHA256()).hex()[:16]
    return Layout(directory).partners / f"{whose.institution}.{authority}.crl"


def _mark(directory: Path, institution: str) -> Path:
    return Layout(directory).partners / f"{institution}.revoked"
