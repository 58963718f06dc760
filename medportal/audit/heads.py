"""Heads: what the log was at one moment, signed twice (PURE).

A head names the tenant, the number of events, the Merkle root and the time. It is signed
with Ed25519 and with ML-DSA-65, so it stands as long as either holds. Certificate chains
and CRL of the moment travel with it: whoever has the institution's CA certificate can
check it, now or when the certificates have expired.

This room lies below the PKI: keys to sign with, and the decision to trust a chain, are
passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medportal.audit import merkle
from medportal.audit.errors import BadProof, BadSignature, MalformedHead
from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros

FORMAT = 1
LABEL = "medportal log head 1"
ED25519 = "Ed25519"
ML_DSA_65 = "ML-DSA-65"
ALGORITHMS = (ED25519, ML_DSA_65)

PublicKey = Ed25519PublicKey | MLDSA65PublicKey
_KEY_TYPES: dict[str, type[PublicKey]] = {ED25519: Ed25519PublicKey, ML_DSA_65: MLDSA65PublicKey}


@dataclass(frozen=True, slots=True)
class Head:
    """The state of one tenant's log: ``size`` events under ``root``, at ``at``."""

    tenant: str
    size: int
    root: bytes
    at: datetime

    def to_bytes(self) -> bytes:
        """Return the one encoding of this head."""
        return canonical.encode(
            {
                "v": FORMAT,
                "tenant": self.tenant,
                "size": self.size,
                "root": self.root,
                "at": to_micros(self.at),
            }
        )

    @classmethod
    def from_bytes(cls, body: bytes) -> "Head":
        """Read a head; raises ``MalformedHead``."""
        try:
            fields = canonical.decode(body)
            head = cls(fields["tenant"], fields["size"], fields["root"], from_micros(fields["at"]))
            _check_head(head)
            if head.to_bytes() != body:
                raise MalformedHead("not the one encoding of a head")
        except (canonical.NotCanonical, KeyError, TypeError, ValueError):
            raise MalformedHead("not a head") from None
        return head


@dataclass(frozen=True, slots=True)
class Credential:
    """The chain (leaf first, DER) and the CRL (DER) that were in force when a key signed."""

    chain: tuple[bytes, ...]
    crl: bytes | None

    def to_bytes(self) -> bytes:
        """Return the one encoding of this credential."""
        return canonical.encode([list(self.chain), self.crl])

    @classmethod
    def from_bytes(cls, body: bytes) -> "Credential":
        """Read a credential; raises ``MalformedHead``."""
        try:
            return _credential(canonical.decode(body))
        except canonical.NotCanonical:
            raise MalformedHead("not a credential") from None

    def digest(self) -> bytes:
        """Return the SHA-256 under which the credential is kept once for many heads."""
        return sha256(self.to_bytes()).digest()


@dataclass(frozen=True, slots=True)
class HeadSignature:
    """One signature over a head. ``key_id``: 16 bytes of SHA-256 over the SPKI, in hex."""

    algorithm: str
    key_id: str
    value: bytes
    credential: Credential


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head with its two signatures, in the order of ``ALGORITHMS``; stands for itself."""

    head: Head
    signatures: tuple[HeadSignature, ...]

    def to_bytes(self) -> bytes:
        """Return the one encoding, for partners and files."""
        return pack(LABEL, self.head.to_bytes(), self.signatures)

    @classmethod
    def from_bytes(cls, data: bytes) -> "SignedHead":
        """Read a signed head, without checking signatures; raises ``MalformedHead``."""
        body, signatures = unpack(LABEL, data)
        return cls(Head.from_bytes(body), signatures)


def pack(label: str, body: bytes, signatures: Sequence[HeadSignature]) -> bytes:
    """Return the one encoding of something that the head keys signed."""
    items = [
        [s.algorithm, s.key_id, s.value, list(s.credential.chain), s.credential.crl]
        for s in signatures
    ]
    return canonical.encode([label, body, items])


def unpack(label: str, data: bytes) -> tuple[bytes, tuple[HeadSignature, ...]]:
    """Read what :func:`pack` gave, without checking signatures; raises ``MalformedHead``."""
    try:
        found, body, items = canonical.decode(data)
        signatures = tuple(_signature(*item) for item in items)
    except (canonical.NotCanonical, TypeError, ValueError):
        raise MalformedHead("not signed with head keys") from None
    if found != label or not isinstance(body, bytes):
        raise MalformedHead("not signed with head keys, or another kind of thing")
    return body, signatures


class KeySigner(Protocol):
    """What a private key must offer; the PKI's ``Signer`` does."""

    @property
    def algorithm(self) -> str:
        """``Ed25519`` or ``ML-DSA-65``."""

    @property
    def key_id(self) -> str:
        """16 bytes of SHA-256 over the SPKI, in hex."""

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """The certificate chain, leaf first."""

    @property
    def crl_der(self) -> bytes | None:
        """The CRL now in force."""

    def sign(self, data: bytes) -> bytes:
        """Return a signature over ``data``."""


@dataclass(frozen=True, slots=True)
class HeadSigner:
    """Signs the heads of one tenant's log with both of its head keys."""

    tenant: str
    classical: KeySigner
    post_quantum: KeySigner

    def sign(self, head: Head) -> SignedHead:
        """Return the head signed twice.

        Raises ``BadSignature`` if the keys are not of the two algorithms.
        """
        return SignedHead(head, self.sign_bytes(LABEL, head.to_bytes()))

    def sign_bytes(self, label: str, body: bytes) -> tuple[HeadSignature, ...]:
        """Return both signatures over ``body``; ``label`` says what kind of thing it is.

        Raises ``BadSignature`` if the keys are not of the two algorithms.
        """
        signers = (self.classical, self.post_quantum)
        if tuple(signer.algorithm for signer in signers) != ALGORITHMS:
            raise BadSignature("a head is signed with Ed25519 and ML-DSA-65, in this order")
        return tuple(_sign(signer, label, body) for signer in signers)


class TrustChain(Protocol):
    """Decides about a chain: the PKI's verifier, or whatever holds the CA certificate.

    Returns the leaf's public key if, at the time ``at``, the chain led to the institution's
    CA, was not revoked and was made for signing heads of ``tenant`` with ``algorithm``.
    Raises a ``MedportalError`` otherwise.
    """

    def __call__(self, credential: Credential, *, algorithm: str, tenant: str, at: datetime) -> Any:
        """Return the public key or raise."""


def verify_head(signed: SignedHead, *, tenant: str, trust: TrustChain) -> Head:
    """Return the head if both signatures hold; needs nothing but what ``trust`` knows.

    Checks, in order: (1) the head is of ``tenant``; (2) there is exactly one signature of
    each algorithm; for each: (3) ``trust`` accepts the chain at the head's time; (4) the
    leaf's key is of the algorithm and has the key id named; (5) the signature holds.
    Raises ``BadSignature``, or what ``trust`` raises.
    """
    if signed.head.tenant != tenant:  # 1
        raise BadSignature("the head is another institution's")
    verify_signatures(
        signed.signatures,
        LABEL,
        signed.head.to_bytes(),
        tenant=tenant,
        at=signed.head.at,
        trust=trust,
    )
    return signed.head


def verify_signatures(
    signatures: Sequence[HeadSignature],
    label: str,
    body: bytes,
    *,
    tenant: str,
    at: datetime,
    trust: TrustChain,
) -> None:
    """Run checks 2 to 5 of :func:`verify_head` over whatever the head keys signed.

    Raises ``BadSignature``, or what ``trust`` raises.
    """
    if tuple(item.algorithm for item in signatures) != ALGORITHMS:  # 2
        raise BadSignature("a head carries one Ed25519 and one ML-DSA-65 signature")
    for item in signatures:
        key = trust(item.credential, algorithm=item.algorithm, tenant=tenant, at=at)  # 3
        _verify_signature(item, key, _signed_bytes(label, item.algorithm, item.key_id, body))


def key_id_of(public_key: PublicKey) -> str:
    """Return the id of a public key: 16 bytes of SHA-256 over its SPKI, in hex."""
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki).digest()[:16].hex()


def check_extends(old: Head, new: Head, proof: Sequence[bytes]) -> None:
    """Check that ``new`` is the same log as ``old``, only longer (both already verified).

    Raises ``BadProof``: then one of the heads is a fork, a truncation or a rewriting.
    """
    if old.tenant != new.tenant:
        raise BadProof("heads of two institutions")
    if new.size < old.size:
        raise BadProof("the log became shorter")
    merkle.verify_consistency(old.size, new.size, old.root, new.root, proof)


def _signed_bytes(label: str, algorithm: str, key_id: str, body: bytes) -> bytes:
    return canonical.encode([label, algorithm, key_id, body])


def _sign(signer: KeySigner, label: str, body: bytes) -> HeadSignature:
    algorithm, key_id = str(signer.algorithm), str(signer.key_id)
    return HeadSignature(
        algorithm=algorithm,
        key_id=key_id,
        value=signer.sign(_signed_bytes(label, algorithm, key_id, body)),
        credential=Credential(tuple(signer.chain_der), signer.crl_der),
    )


def _verify_signature(item: HeadSignature, key: Any, signed: bytes) -> None:
    if not isinstance(key, _KEY_TYPES[item.algorithm]):  # 4
        raise BadSignature("the certificate's key is of another algorithm")
    if not compare_digest(key_id_of(key), item.key_id):
        raise BadSignature("the key id does not name the certificate's key")
    try:
        key.verify(item.value, signed)  # 5
    except InvalidSignature:
        raise BadSignature("the signature does not hold") from None


def _check_head(head: Head) -> None:
    if not isinstance(head.tenant, str) or not isinstance(head.root, bytes):
        raise MalformedHead("not a head")
    if isinstance(head.size, bool) or not isinstance(head.size, int):
        raise MalformedHead("not a head")
    if len(head.root) != merkle.HASH_LENGTH or head.size < 0:
        raise MalformedHead("not a head")


def _signature(
    algorithm: object, key_id: object, value: object, chain: object, crl: object
) -> HeadSignature:
    if not (isinstance(algorithm, str) and isinstance(key_id, str) and isinstance(value, bytes)):
        raise MalformedHead("not a signature of a head")
    return HeadSignature(algorithm, key_id, value, _credential([chain, crl]))


def _credential(value: Any) -> Credential:
    if not isinstance(value, list) or len(value) != 2:
        raise MalformedHead("not a credential")
    chain, crl = value
    if not isinstance(chain, list) or not all(isinstance(item, bytes) for item in chain):
        raise MalformedHead("not a credential")
    if crl is not None and not isinstance(crl, bytes):
        raise MalformedHead("not a credential")
    return Credential(tuple(chain), crl)
