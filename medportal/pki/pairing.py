"""The key that two institutions share for pseudonyms (PURE).

X25519 between the static shares in their descriptors, then HKDF-SHA256 (RFC 7748, RFC 5869). Both
sides derive the same key without sending it; the ids, sorted, and both public shares go into the
derivation, so a share used with another partner, or under another name, gives an unrelated key.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from medportal.core import canonical
from medportal.pki.errors import UnsafeShare

SHARE_BYTES = 32
_LABEL = "medportal pair key 1"


@dataclass(frozen=True, slots=True)
class PairKey:
    """32 secret bytes and the id by which both sides name them. Its ``repr`` leaves them out."""

    key_id: str
    key: bytes = field(repr=False)


def pair_key(
    own_share_private: bytes, partner_share_public: bytes, own_id: str, partner_id: str
) -> PairKey:
    """Return the key of the pair ``own_id`` and ``partner_id`` (raw X25519 shares, 32 bytes each).

    The key id is the first 8 bytes, in hexadecimal, of SHA-256 over what went into the derivation:
    it changes when either side changes its share.

    Raises ``UnsafeShare`` if the partner's share is malformed or of small order.
    """
    private = X25519PrivateKey.from_private_bytes(own_share_private)
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(partner_share_public))
    except ValueError as error:
        raise UnsafeShare("the partner's key share is not usable") from error
    own_public = private.public_key().public_bytes_raw()
    context = _context({own_id: own_public, partner_id: partner_share_public})
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=context).derive(secret)
    return PairKey(sha256(context).hexdigest()[:16], derived)


def _context(shares: dict[str, bytes]) -> bytes:
    return canonical.encode([_LABEL, *([name, shares[name]] for name in sorted(shares))])
