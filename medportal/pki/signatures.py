"""Signed statements: one small envelope for everything this system signs (PURE).

A statement is a map of plain data under a label that says what kind of statement it is. The
signature covers canonical ``["medportal signed 1", label, algorithm, key id, payload]``; chain and
revocation list of the moment travel along, so that a statement can still be checked when the
certificate has long expired.

Verification, numbered as in the code (certificates: see :mod:`medportal.pki.verify`):

1. The statement's label is the expected one: no statement passes for another kind.
2. The carried certificate is good for the expected purpose and institution at the moment given.
3. Algorithm and key id in the statement are those of that certificate. The algorithm is never
   chosen by the statement: it is the purpose's.
4. The signature fits.
5. The payload is a canonical map.
6. If a later revocation list is known: it does not withdraw the certificate from a date at or
   before that moment. (An authority dates the withdrawal of a stolen key back to the theft.)

What is kept for years (records) goes through :func:`verify_kept`, at every reading from the first:
a statement may have waited longer than its signer's certificate lived, so check 2 is then made in
parts. The certificate is looked at in its last moment if it had lapsed when the statement was
taken in; the revocation list is not: it must be good for the moment of taking in.

The moment: ``now`` for what has just arrived, ``at`` for what was verified, receipted or anchored
in an audit log then. A thief of a key can write any time into a statement, so ``at`` must come
from the verifier's own records, never from the statement itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from medportal.core import canonical
from medportal.pki import errors
from medportal.pki.certificates import crl_number
from medportal.pki.profiles import Algorithm, CrlLimits, Purpose, meaning
from medportal.pki.signers import Signer
from medportal.pki.verify import (
    Anchors,
    Floor,
    VerifiedLeaf,
    issuer_of,
    verify_crl,
    verify_crl_origin,
    verify_leaf,
    verify_path,
)

Lists = bytes | Sequence[bytes]
"""A revocation list, or those of an institution's authorities, of which the fitting one counts."""

MAX_STATEMENT_BYTES = 1024 * 1024
_FORMAT = "medportal signed 1"


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement with its signature, as it arrives: nothing in it is verified yet."""

    label: str
    algorithm: str
    key_id: str
    payload: bytes
    signature: bytes
    chain_der: tuple[bytes, ...]
    crl_der: bytes

    def to_bytes(self) -> bytes:
        """Return the canonical bytes to store or send."""
        return canonical.encode(
            {
                "format": _FORMAT,
                "label": self.label,
                "alg": self.algorithm,
                "kid": self.key_id,
                "payload": self.payload,
                "signature": self.signature,
                "chain": self.chain_der,
                "crl": self.crl_der,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Signed":
        """Return the statement in ``data``. Raises ``MalformedStatement``."""
        if len(data) > MAX_STATEMENT_BYTES:
            raise errors.MalformedStatement("the statement is too large")
        try:
            return cls._from_map(canonical.decode(data))
        except canonical.NotCanonical as error:
            raise errors.MalformedStatement("the statement is not canonical CBOR") from error

    @classmethod
    def _from_map(cls, value: Any) -> "Signed":
        if not isinstance(value, dict) or set(value) != set(_TYPES):
            raise errors.MalformedStatement("not the members of a signed statement")
        if any(type(value[name]) is not kind for name, kind in _TYPES.items()):
            raise errors.MalformedStatement("a member of another type than it should have")
        if value["format"] != _FORMAT or any(type(each) is not bytes for each in value["chain"]):
            raise errors.MalformedStatement("not a signed statement of this version")
        return cls(
            label=value["label"],
            algorithm=value["alg"],
            key_id=value["kid"],
            payload=value["payload"],
            signature=value["signature"],
            chain_der=tuple(value["chain"]),
            crl_der=value["crl"],
        )


_TYPES: Mapping[str, type] = {
    "format": str,
    "label": str,
    "alg": str,
    "kid": str,
    "payload": bytes,
    "signature": bytes,
    "chain": list,
    "crl": bytes,
}


def sign_statement(signer: Signer, label: str, fields: Mapping[str, object]) -> Signed:
    """Return ``fields`` signed under ``label``.

    Raises ``NotCanonical`` if they are not plain data.
    """
    payload = canonical.encode(dict(fields))
    covered = _covered(label, signer.algorithm, signer.key_id, payload)
    return Signed(
        label=label,
        algorithm=signer.algorithm,
        key_id=signer.key_id,
        payload=payload,
        signature=signer.sign(covered),
        chain_der=signer.chain_der,
        crl_der=signer.crl_der,
    )


def verify_statement(
    signed: Signed,
    label: str,
    *,
    ca: Anchors,
    purpose: Purpose,
    institution: str,
    crl_limits: CrlLimits,
    now: datetime | None = None,
    at: datetime | None = None,
    crl_floor: Floor = 0,
    known_crl_der: Lists | None = None,
) -> dict[str, Any]:
    """Return the verified fields of ``signed``, or raise a ``PkiError`` that names what is wrong.

    Exactly one of ``now`` and ``at`` is given, see the module. ``crl_floor`` is for ``now`` (a
    statement kept for years carries an old list, rightly); ``known_crl_der``, the newest list held
    from the same authority, is for ``at``.
    """
    moment = _moment(now, at)
    if signed.label != label:  # (1)
        raise errors.WrongLabel("a statement of another kind")
    leaf = verify_leaf(  # (2)
        signed.chain_der,
        ca=ca,
        crl_der=signed.crl_der,
        purpose=purpose,
        institution=institution,
        now=moment,
        crl_limits=crl_limits,
        crl_floor=crl_floor,
    )
    fields = check_statement(signed, label, leaf)
    if known_crl_der is not None:
        _check_later(leaf, known_crl_der, moment)  # (6)
    return fields


def verify_kept(
    signed: Signed,
    label: str,
    *,
    ca: Anchors,
    purpose: Purpose,
    institution: str,
    crl_limits: CrlLimits,
    taken_in: datetime,
    known_crl_der: Lists,
) -> dict[str, Any]:
    """Return the verified fields of a statement that was, or is to be, taken in for good.

    ``taken_in`` is when the verifier took it in, by its own records; the statement carries the
    newest list of that moment (:func:`with_newer_list`). ``known_crl_der`` is the newest held now.
    Raises a ``PkiError``.
    """
    leaf = verify_kept_signer(
        signed,
        ca=ca,
        purpose=purpose,
        institution=institution,
        crl_limits=crl_limits,
        taken_in=taken_in,
        known_crl_der=known_crl_der,
    )
    return check_statement(signed, label, leaf)  # (1), (3) to (5)


def verify_kept_signer(
    signed: Signed,
    *,
    ca: Anchors,
    purpose: Purpose,
    institution: str,
    crl_limits: CrlLimits,
    taken_in: datetime,
    known_crl_der: Lists,
) -> VerifiedLeaf:
    """Run checks 2 and 6 of :func:`verify_kept`, for whoever verifies much of one signer."""

    def path(moment: datetime) -> VerifiedLeaf:
        return verify_path(
            signed.chain_der, ca=ca, purpose=purpose, institution=institution, now=moment
        )

    try:
        leaf = path(taken_in)  # (2)
    except errors.Expired:
        leaf = path(_last_moment(signed))  # (2)
    carried = verify_crl(  # (2)
        signed.crl_der, ca=leaf.authority, now=taken_in, crl_limits=crl_limits
    )
    if carried.get_revoked_certificate_by_serial_number(leaf.serial) is not None:  # (2)
        raise errors.Revoked("the authority has withdrawn the certificate")
    _check_later(leaf, known_crl_der, taken_in)  # (6)
    return leaf


def with_newer_list(signed: Signed, crl_der: Lists, *, ca: Anchors) -> Signed:
    """Return a statement with the newest of the list that it carries and those given.

    The list is not part of what is signed: it can be replaced, and anybody on the way can have
    replaced it. Given lists of another authority of the institution than the one that certified
    the signer say nothing of it. Raises ``MalformedStatement`` for a carried list that is not the
    authority's, a ``CrlError`` for a single one given that is of no authority trusted.
    """
    given = _lists(crl_der)
    if given == (signed.crl_der,):
        return signed
    issuer = issuer_of(signed.chain_der, ca)
    if isinstance(crl_der, bytes):
        verify_crl_origin(crl_der, ca=issuer)
    fitting = [each for each in given if _signed_list(each, issuer)]
    try:
        carried = crl_number(verify_crl_origin(signed.crl_der, ca=issuer))
    except errors.CrlError as error:
        raise errors.MalformedStatement("a revocation list that is not the authority's") from error
    for each in fitting:
        number = crl_number(verify_crl_origin(each, ca=issuer))
        if number > carried:
            signed, carried = replace(signed, crl_der=each), number
    return signed


def _lists(crl_der: Lists) -> tuple[bytes, ...]:
    return (crl_der,) if isinstance(crl_der, bytes) else tuple(crl_der)


def _signed_list(crl_der: bytes, ca: x509.Certificate) -> bool:
    try:
        verify_crl_origin(crl_der, ca=ca)
    except errors.CrlError:
        return False
    return True


def check_statement(signed: Signed, label: str, leaf: VerifiedLeaf) -> dict[str, Any]:
    """Run checks 1 and 3 to 5 with a leaf verified before, as within one session.

    The chain that ``signed`` carries is not looked at: ``leaf`` stands for it.
    """
    if signed.label != label:  # (1)
        raise errors.WrongLabel("a statement of another kind")
    algorithm = meaning(leaf.purpose).algorithm
    if signed.algorithm != algorithm:  # (3)
        raise errors.WrongAlgorithm("not the algorithm of this purpose")
    if signed.key_id != leaf.key_id:  # (3)
        raise errors.WrongKey("not the key that is certified")
    covered = _covered(label, algorithm, signed.key_id, signed.payload)
    verify_signature(leaf, signed.signature, covered)  # (4)
    return _fields(signed.payload)  # (5)


def verify_signature(leaf: VerifiedLeaf, signature: bytes, data: bytes) -> bytes:
    """Return ``data`` if ``signature`` over it is by the key of ``leaf``; else ``BadSignature``.

    Keys of TLS purposes sign handshakes and nothing else: ``WrongPurpose``.
    """
    key = leaf.public_key
    if not isinstance(key, ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey):
        raise errors.WrongPurpose("a key for TLS signs no statements")
    try:
        key.verify(signature, data)
    except InvalidSignature as error:
        raise errors.BadSignature("the signature does not fit") from error
    return data


def _moment(now: datetime | None, at: datetime | None) -> datetime:
    if now is not None and at is None:
        return now
    if at is not None and now is None:
        return at
    raise ValueError("either now or at")


def _last_moment(signed: Signed) -> datetime:
    # It has parsed before: only a certificate that has expired comes here.
    return x509.load_der_x509_certificate(signed.chain_der[0]).not_valid_after_utc


def _covered(label: str, algorithm: Algorithm, kid: str, payload: bytes) -> bytes:
    return canonical.encode([_FORMAT, label, str(algorithm), kid, payload])


def _fields(payload: bytes) -> dict[str, Any]:
    try:
        fields = canonical.decode(payload)
    except canonical.NotCanonical as error:
        raise errors.MalformedStatement("the payload is not canonical CBOR") from error
    if not isinstance(fields, dict):
        raise errors.MalformedStatement("the payload is not a map")
    return fields


def _check_later(leaf: VerifiedLeaf, crl_der: Lists, moment: datetime) -> None:
    """Refuse what a list known since says had been withdrawn by then. Its age does not matter."""
    known = _known(leaf, _lists(crl_der))
    entry = known.get_revoked_certificate_by_serial_number(leaf.serial)
    if entry is not None and entry.revocation_date_utc <= moment:
        raise errors.Revoked("the authority has since withdrawn the certificate")


def _known(leaf: VerifiedLeaf, lists: Sequence[bytes]) -> x509.CertificateRevocationList:
    """Return the newest of the lists that is the one of the leaf's own authority."""
    if len(lists) > 1:
        lists = [each for each in lists if _signed_list(each, leaf.authority)] or lists[:1]
    found = [verify_crl_origin(each, ca=leaf.authority) for each in lists]
    return max(found, key=crl_number)
