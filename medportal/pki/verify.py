"""Is this certificate what it says, for this purpose, of this institution, now? (PURE)

:func:`verify_leaf` is the one way in. Its checks are numbered; the code carries the numbers.

1.  The chain is one leaf, and after it at most one link: the certificate that an authority gave
    its own next key (RFC 4210 section 4.4, "NewWithOld"). Nothing else stands between.
2.  The leaf leads to a given authority, and to no other, and all are valid at ``now`` (RFC 5280
    path validation, name constraints and unknown critical extensions included, by
    ``cryptography.x509.verification``). A link is looked at only where the leaf was not issued by
    a given authority directly; it is fit to be that same institution's authority, and bears the
    authority's own name, so that a path length of 0 holds.
3.  The leaf's extended key usages are exactly those of the purpose, its key usage is digital
    signature alone, and its key is of the purpose's algorithm.
4.  The leaf names the institution, and so does the authority: an authority speaks for one only.
5.  A revocation list is there, well-formed, complete (no delta, no partition), and signed by the
    key that signed the leaf.
6.  It is not dated after ``now``, is not older than the verifier's limit, and is not older than
    one already seen (``crl_floor``). Somewhat old is a warning.
7.  The leaf is not on it.

``now`` may be the moment of a signature made long ago: then certificate and list must have been
good at that moment. Whoever passes a past moment must vouch for it, see
:mod:`medportal.pki.signatures`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification
from cryptography.x509.oid import SignatureAlgorithmOID

from medportal.pki import errors
from medportal.pki.certificates import PublicKey, crl_number, permitted_dns
from medportal.pki.profiles import (
    INSTITUTION_URN,
    Algorithm,
    CrlLimits,
    Purpose,
    is_institution,
    meaning,
)

Anchors = x509.Certificate | Sequence[x509.Certificate]
"""The authority trusted for an institution, or the authorities: the present one and former ones."""

Floor = int | Mapping[str, int]
"""The highest list number seen, of the one authority or by the id of each authority's key."""

MAX_CERTIFICATE_BYTES = 16 * 1024
MAX_CRL_BYTES = 512 * 1024


# The library parses lazily, so hostile bytes can raise these from almost any attribute.
_MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class Caution(StrEnum):
    """What is still accepted and should be looked into."""

    CRL_STALE = "crl-stale"
    REVOCATION_UNCHECKED = "revocation-unchecked"


@dataclass(frozen=True, slots=True)
class VerifiedLeaf:
    """A certificate that passed every check; only this module makes one.

    ``authority`` is what issued it directly: the authority trusted, or the link to it.
    """

    institution: str
    purpose: Purpose
    certificate: x509.Certificate
    authority: x509.Certificate
    public_key: PublicKey
    serial: int
    crl_number: int | None
    crl_next_update: datetime | None
    warnings: tuple[Caution, ...]
    key_id: str = field(init=False)
    """See :func:`key_id`."""

    def __post_init__(self) -> None:
        # One leaf verifies thousands of statements: the name of its key is computed once.
        object.__setattr__(self, "key_id", key_id(self.public_key))

    @property
    def link(self) -> x509.Certificate | None:
        """What issued the certificate, where that is a link to the authority trusted."""
        extensions = self.authority.extensions
        try:
            extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        except x509.ExtensionNotFound:
            return None
        return None if _names_issuer(self.authority, self.authority) else self.authority


@dataclass(frozen=True, slots=True)
class _Crl:
    parsed: x509.CertificateRevocationList
    number: int
    next_update: datetime
    warnings: tuple[Caution, ...]


def verify_leaf(
    chain_der: Sequence[bytes],
    *,
    ca: Anchors,
    crl_der: bytes | None,
    purpose: Purpose,
    institution: str,
    now: datetime,
    crl_limits: CrlLimits,
    crl_floor: Floor = 0,
) -> VerifiedLeaf:
    """Return the verified leaf of ``chain_der``, or raise a ``PkiError`` that names what is wrong.

    ``ca`` is the authority trusted for ``institution``, or several; ``crl_floor`` the highest
    revocation list number already seen, so that an older list cannot hide a revocation. ``now`` is
    aware.
    """
    path = verify_path(chain_der, ca=ca, purpose=purpose, institution=institution, now=now)
    crl = _verify_crl(crl_der, path.authority, now, crl_limits, _floor(crl_floor, path.authority))
    if crl.parsed.get_revoked_certificate_by_serial_number(path.serial) is not None:  # (7)
        raise errors.Revoked("the authority has withdrawn the certificate")
    return VerifiedLeaf(
        institution=institution,
        purpose=purpose,
        certificate=path.certificate,
        authority=path.authority,
        public_key=path.public_key,
        serial=path.serial,
        crl_number=crl.number,
        crl_next_update=crl.next_update,
        warnings=crl.warnings,
    )


def verify_path(
    chain_der: Sequence[bytes],
    *,
    ca: Anchors,
    purpose: Purpose,
    institution: str,
    now: datetime,
) -> VerifiedLeaf:
    """Run checks 1 to 4 only, for the moment in a handshake when no list has arrived yet.

    The result warns ``REVOCATION_UNCHECKED``: nothing may be done in its name before
    :func:`verify_leaf` has passed too.
    """
    if now.tzinfo is None:
        raise ValueError("a naive datetime has no place on the time line")
    with _malformed_is(errors.BadChain):
        leaf, link = _parse_chain(chain_der)  # (1)
        anchor, link = _choose(leaf, link, _several(ca))  # (2)
        if link is not None:
            _check_link(link, anchor, now)  # (2)
        _check_path(leaf, link, anchor, now)  # (2)
        key = _check_purpose(leaf, purpose)  # (3)
        _check_institution(leaf, anchor, institution)  # (4)
    unchecked = (Caution.REVOCATION_UNCHECKED,)
    authority = anchor if link is None else link
    return VerifiedLeaf(
        institution, purpose, leaf, authority, key, leaf.serial_number, None, None, unchecked
    )


def verify_link(link: x509.Certificate, *, ca: x509.Certificate, now: datetime) -> x509.Certificate:
    """Return ``link`` if with it ``ca`` vouches at ``now`` for another key of its institution.

    Raises a ``CertificateError``. Its own revocation is for whoever holds a list of ``ca``.
    """
    with _malformed_is(errors.BadChain):
        _check_link(link, ca, now)
    return link


def issued_by(leaf: x509.Certificate, ca: Anchors) -> x509.Certificate | None:
    """Return which of the authorities ``leaf`` says issued it (unverified), ``None`` if none."""
    with _malformed_is(errors.BadChain):
        return next((each for each in _several(ca) if _names_issuer(leaf, each)), None)


def issued_list(crl_der: bytes, ca: x509.Certificate) -> bool:
    """Tell whether a list says that it is the authority's (unverified): by name and key."""
    with _malformed_is(errors.CrlInvalid):
        crl = _parse_crl(crl_der)
        try:
            said = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
            own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return crl.issuer == ca.subject
        return crl.issuer == ca.subject and said.key_identifier == own.digest


def issuer_of(chain_der: Sequence[bytes], ca: Anchors) -> x509.Certificate:
    """Return what issued the leaf of a chain, as the chain says: an authority, or the link.

    Unverified: for choosing the revocation list that fits. Raises ``BadChain``.
    """
    with _malformed_is(errors.BadChain):
        leaf, link = _parse_chain(chain_der)
        anchor, link = _choose(leaf, link, _several(ca))
    return anchor if link is None else link


def verify_crl(
    crl_der: bytes | None,
    *,
    ca: x509.Certificate,
    now: datetime,
    crl_limits: CrlLimits,
    crl_floor: int = 0,
) -> x509.CertificateRevocationList:
    """Run checks 5 and 6 alone and return the list, or raise a ``CrlError``."""
    return _verify_crl(crl_der, ca, now, crl_limits, crl_floor).parsed


def verify_crl_origin(
    crl_der: bytes | None, *, ca: x509.Certificate
) -> x509.CertificateRevocationList:
    """Run check 5 alone (whose list it is, not how old) and return it, or raise a ``CrlError``."""
    with _malformed_is(errors.CrlInvalid):
        crl = _parse_crl(crl_der)
        _check_crl_kind(crl, ca)
    return crl


def verify_authority(ca: x509.Certificate, institution: str, now: datetime) -> x509.Certificate:
    """Return ``ca`` if it can be the authority of ``institution``, else raise ``UnfitAuthority``.

    That is: self-signed with P-256, valid at ``now``, a CA by basic constraints with path length
    0, its key for signing certificates and lists only, and naming the institution. It says nothing
    about whether anybody should *trust* it: people decide that, by fingerprint.
    """
    try:
        ca.verify_directly_issued_by(ca)
    except (*_MALFORMED, InvalidSignature) as error:
        raise errors.UnfitAuthority("not a self-signed authority") from error
    _check_fit(ca, institution)
    if not ca.not_valid_before_utc <= now <= ca.not_valid_after_utc:
        raise errors.UnfitAuthority("the authority's certificate is not valid now")
    return ca


def _check_fit(ca: x509.Certificate, institution: str) -> None:
    """Raise ``UnfitAuthority`` unless this could be an authority of that institution."""
    try:
        usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
        basic = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
        names = _institutions(ca)
    except (*_MALFORMED, x509.ExtensionNotFound) as error:
        raise errors.UnfitAuthority("not a self-signed authority") from error
    fit = (
        _is_p256(ca.public_key())
        and basic == x509.BasicConstraints(ca=True, path_length=0)
        and _granted(usage) == {"key_cert_sign", "crl_sign"}
        and names == [institution]
    )
    if not fit:
        raise errors.UnfitAuthority("not fit to be this institution's authority")


def institution_of(certificate: x509.Certificate) -> str:
    """Return the institution that a certificate names (unverified: whoever made it says so).

    Raises ``WrongInstitution`` if it names none, or several.
    """
    try:
        names = _institutions(certificate)
    except (*_MALFORMED, x509.ExtensionNotFound) as error:
        raise errors.WrongInstitution("the certificate names no institution") from error
    if len(names) != 1:
        raise errors.WrongInstitution("the certificate does not name exactly one institution")
    return names[0]


def key_id(key: PublicKey) -> str:
    """Return the first 16 bytes of SHA-256 over the key's SubjectPublicKeyInfo, in hexadecimal."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[
        :32
    ]


def algorithm_of(key: object) -> Algorithm | None:
    """Return the algorithm that a public key is for, ``None`` for kinds not used here."""
    if _is_p256(key):
        return Algorithm.P256
    if isinstance(key, ed25519.Ed25519PublicKey):
        return Algorithm.ED25519
    if isinstance(key, mldsa.MLDSA65PublicKey):
        return Algorithm.ML_DSA_65
    return None


@contextmanager
def _malformed_is(refusal: type[errors.PkiError]) -> Iterator[None]:
    """Turn whatever malformed bytes make the library raise into ``refusal``."""
    try:
        yield
    except _MALFORMED as error:
        raise refusal("malformed") from error


def _is_p256(key: object) -> bool:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _parse_chain(
    chain_der: Sequence[bytes],
) -> tuple[x509.Certificate, x509.Certificate | None]:
    if len(chain_der) not in (1, 2):
        raise errors.BadChain("the chain is not one leaf and at most one link")
    if any(len(each) > MAX_CERTIFICATE_BYTES for each in chain_der):
        raise errors.BadChain("the certificate is too large")
    leaf, *links = (x509.load_der_x509_certificate(each) for each in chain_der)
    return leaf, links[0] if links else None


def _several(ca: Anchors) -> tuple[x509.Certificate, ...]:
    anchors = (ca,) if isinstance(ca, x509.Certificate) else tuple(ca)
    if not anchors:
        raise errors.WrongAuthority("no authority of the institution is trusted at that moment")
    return anchors


def _choose(
    leaf: x509.Certificate, link: x509.Certificate | None, anchors: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, x509.Certificate | None]:
    """Return the anchor to verify under, and the link if it is needed.

    By the key identifiers, which only choose: what is chosen has to verify.
    """
    direct = next((each for each in anchors if _names_issuer(leaf, each)), None)
    if link is not None and not _names_issuer(leaf, link):
        raise errors.BadChain("what follows the leaf did not issue it")
    if direct is not None or link is None:
        return direct or anchors[0], None
    return next((each for each in anchors if _names_issuer(link, each)), anchors[0]), link


def _names_issuer(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        said = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return False
    return said.key_identifier == own.digest


def _check_link(link: x509.Certificate, anchor: x509.Certificate, now: datetime) -> None:
    # Another name would lengthen the path, which the authority's path length forbids.
    if link.subject != anchor.subject:
        raise errors.BadChain("the link bears another name than the authority")
    try:
        link.verify_directly_issued_by(anchor)
    except (*_MALFORMED, InvalidSignature) as error:
        raise errors.WrongAuthority("the link is not by the authority trusted") from error
    _check_fit(link, institution_of(anchor))
    if not link.not_valid_before_utc <= now <= link.not_valid_after_utc:
        raise errors.Expired("the time is over in which the former authority vouches for the next")


def _floor(floor: Floor, authority: x509.Certificate) -> int:
    if isinstance(floor, int):
        return floor
    return floor.get(key_id(authority.public_key()), 0)  # type: ignore[arg-type]  # it is P-256


# The library's default for leaves demands what the web demands (a DNS name, a key for TLS); ours
# carry a URI and keys of other kinds, and everything beyond the path is checked here (3, 4).
_LEAF_POLICY = verification.ExtensionPolicy.permit_all().require_present(
    x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None
)
_CA_POLICY = verification.ExtensionPolicy.webpki_defaults_ca()


def _check_path(
    leaf: x509.Certificate, link: x509.Certificate | None, ca: x509.Certificate, now: datetime
) -> None:
    # The library counts a link towards the path length although it is self-issued, so it verifies
    # under the link, whose own way to the authority is checked before.
    issuer = ca if link is None else link
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([issuer]))
        .time(now)
        .max_chain_depth(0)
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, [])
    except verification.VerificationError as error:
        raise _path_error(leaf, issuer, now) from error
    if link is not None:
        _check_constraints(leaf, ca, now)


def _check_constraints(leaf: x509.Certificate, ca: x509.Certificate, now: datetime) -> None:
    """Apply the authority's own constraints to what stands below its link (RFC 5280, 4.2.1.10)."""
    if not ca.not_valid_before_utc <= now <= ca.not_valid_after_utc:
        raise errors.Expired("the authority that vouches for the issuer has expired")
    permitted = permitted_dns(ca)
    if not permitted:
        return
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    outside = [
        name
        for name in names.get_values_for_type(x509.DNSName)
        if not any(name == each or name.endswith(f".{each}") for each in permitted)
    ]
    if outside or names.get_values_for_type(x509.IPAddress):
        raise errors.BadChain("the certificate is for names that its authority is not permitted")


def _path_error(leaf: x509.Certificate, ca: x509.Certificate, now: datetime) -> Exception:
    """Say why the library refused: it gives one error for everything."""
    try:
        leaf.verify_directly_issued_by(ca)
    except (*_MALFORMED, InvalidSignature):
        return errors.WrongAuthority("not issued by the authority trusted for the institution")
    if now < max(leaf.not_valid_before_utc, ca.not_valid_before_utc):
        return errors.NotYetValid("the certificate is not valid yet; compare the clocks")
    if now > min(leaf.not_valid_after_utc, ca.not_valid_after_utc):
        return errors.Expired("the certificate has expired")
    return errors.BadChain("the certificate does not satisfy RFC 5280 under its authority")


def _check_purpose(leaf: x509.Certificate, purpose: Purpose) -> PublicKey:
    expected = meaning(purpose)
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise errors.WrongPurpose("the certificate does not say what it is for") from error
    if len(list(uses)) != len(expected.uses) or frozenset(uses) != expected.uses:
        raise errors.WrongPurpose("the certificate is for another purpose")
    if _granted(usage) != {"digital_signature"}:
        raise errors.WrongPurpose("the certificate's key is not for signatures alone")
    key = leaf.public_key()
    if algorithm_of(key) is not expected.algorithm:
        raise errors.WrongPurpose("the certificate's key is of another kind than its purpose's")
    return key  # type: ignore[return-value]  # algorithm_of has just told the kind


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


def _granted(usage: x509.KeyUsage) -> set[str]:
    return {name for name in _USAGES if getattr(usage, name)}


def _check_institution(leaf: x509.Certificate, ca: x509.Certificate, institution: str) -> None:
    if not institution_of(leaf) == institution_of(ca) == institution:
        raise errors.WrongInstitution("the certificate is of another institution")


def _institutions(certificate: x509.Certificate) -> list[str]:
    """Return what follows our URN in each URI. A URI of another kind yields no slug."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    found = [uri.removeprefix(INSTITUTION_URN) for uri in uris if uri.startswith(INSTITUTION_URN)]
    return [name for name in found if is_institution(name)]


def _verify_crl(
    crl_der: bytes | None, ca: x509.Certificate, now: datetime, limits: CrlLimits, floor: int
) -> _Crl:
    with _malformed_is(errors.CrlInvalid):
        crl = _parse_crl(crl_der)  # (5)
        number, next_update = _check_crl_kind(crl, ca)  # (5)
    warnings = _check_crl_age(crl, next_update, now, limits)  # (6)
    if number < floor:  # (6)
        raise errors.CrlRolledBack("a newer revocation list has already been seen")
    return _Crl(crl, number, next_update, warnings)


def _parse_crl(crl_der: bytes | None) -> x509.CertificateRevocationList:
    if crl_der is None:
        raise errors.CrlMissing("no revocation list")
    if len(crl_der) > MAX_CRL_BYTES:
        raise errors.CrlInvalid("the revocation list is too large")
    return x509.load_der_x509_crl(crl_der)


def _check_crl_kind(
    crl: x509.CertificateRevocationList, ca: x509.Certificate
) -> tuple[int, datetime]:
    """Return number and next update of a complete list signed by ``ca`` with its own algorithm."""
    key = ca.public_key()
    signed = (
        crl.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
        and crl.issuer == ca.subject
        and isinstance(key, ec.EllipticCurvePublicKey)
        and crl.is_signature_valid(key)
    )
    if not signed:
        raise errors.CrlInvalid("the revocation list is not signed by the authority")
    # Deltas and partitioned lists say what they are in a critical extension; whole ones have none.
    if any(extension.critical for extension in _crl_extensions(crl)):
        raise errors.CrlInvalid("the revocation list is of a kind not understood here")
    try:
        number = crl_number(crl)
    except x509.ExtensionNotFound as error:
        raise errors.CrlInvalid("the revocation list has no number") from error
    if crl.next_update_utc is None:
        raise errors.CrlInvalid("the revocation list does not say when the next is due")
    return number, crl.next_update_utc


def _crl_extensions(
    crl: x509.CertificateRevocationList,
) -> list[x509.Extension[x509.ExtensionType]]:
    return [*crl.extensions, *(each for entry in crl for each in entry.extensions)]


def _check_crl_age(
    crl: x509.CertificateRevocationList, next_update: datetime, now: datetime, limits: CrlLimits
) -> tuple[Caution, ...]:
    age = now - crl.last_update_utc
    if age < -limits.skew:
        raise errors.CrlFromFuture("the revocation list is dated after now; compare the clocks")
    if age > limits.refuse_after:
        raise errors.CrlStale("the revocation list is too old")
    stale = age > limits.warn_after or now > next_update
    return (Caution.CRL_STALE,) if stale else ()
