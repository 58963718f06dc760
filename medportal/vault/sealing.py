"""Boxes: anybody with the public key seals, only the private key opens (PURE).

HPKE (RFC 9180) in base mode, suite MLKEM768-X25519 / HKDF-SHA256 / AES-256-GCM: hybrid,
so that a box stays shut if either half is broken one day. Base mode has no associated
data here; what a box is for goes into ``info``. Every sealing encapsulates a fresh shared
secret, so its key encrypts exactly one message. A box says nothing about who sealed it.

Of things sealed together (:func:`seal_group`) that one message is a fresh key, under which each is
an envelope of its own (:mod:`medportal.vault.envelope`), bound to its own ``info``. So here too no
AES key encrypts two messages.

The key files of a tenant's own boxes are written and read by :mod:`medportal.vault.boxes`.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from medportal.vault import envelope
from medportal.vault.errors import InvalidKey, Tampered, VaultError
from medportal.vault.kdf import KEY_LENGTH, Context

SUITE_NAME = "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"
MLKEM_PUBLIC_LENGTH = 1184
MLKEM_SEED_LENGTH = 64
X25519_LENGTH = 32
PUBLIC_LENGTH = MLKEM_PUBLIC_LENGTH + X25519_LENGTH
PRIVATE_LENGTH = MLKEM_SEED_LENGTH + X25519_LENGTH
OVERHEAD = 1088 + X25519_LENGTH + 16
_GROUP = b"medportal key of a group of boxes 1"
"""What the sealed key of a group is for: it passes for nothing that is sealed alone."""

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class BoxPublicKey:
    """What seals. Its bytes are ML-KEM-768 encapsulation key, then X25519 public key: 1216."""

    raw: bytes = field(repr=False)
    key: MLKEM768X25519PublicKey = field(repr=False, compare=False)

    @classmethod
    def from_bytes(cls, raw: bytes) -> "BoxPublicKey":
        """Read the 1216 bytes; raises ``InvalidKey``."""
        try:
            mlkem = MLKEM768PublicKey.from_public_bytes(raw[:MLKEM_PUBLIC_LENGTH])
            x25519 = X25519PublicKey.from_public_bytes(raw[MLKEM_PUBLIC_LENGTH:])
        except ValueError:
            raise InvalidKey("not a public key of a box") from None
        return cls(bytes(raw), MLKEM768X25519PublicKey(mlkem, x25519))

    def to_bytes(self) -> bytes:
        """Return the 1216 bytes."""
        return self.raw


@dataclass(frozen=True, slots=True)
class BoxPrivateKey:
    """What opens. Its bytes are the ML-KEM-768 seed, then the X25519 private key: 96."""

    raw: bytes = field(repr=False)
    public: BoxPublicKey
    key: MLKEM768X25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def generate(cls) -> "BoxPrivateKey":
        """Return a new random key."""
        return _assemble(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, raw: bytes) -> "BoxPrivateKey":
        """Read the 96 bytes; raises ``InvalidKey``."""
        try:
            mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[:MLKEM_SEED_LENGTH])
            x25519 = X25519PrivateKey.from_private_bytes(raw[MLKEM_SEED_LENGTH:])
        except ValueError:
            raise InvalidKey("not a private key of a box") from None
        return _assemble(mlkem, x25519)

    def to_bytes(self) -> bytes:
        """Return the 96 bytes, secret."""
        return self.raw


def seal_to(public: BoxPublicKey, plaintext: bytes, info: bytes) -> bytes:
    """Seal ``plaintext`` for the holder of the private key, bound to ``info``.

    Returns the HPKE encapsulation followed by ciphertext and tag (``OVERHEAD`` bytes more).
    Raises ``InvalidKey`` for a public key that no honest party would offer (low order).
    """
    try:
        return _SUITE.encrypt(plaintext, public.key, info=info)
    except ValueError:
        raise InvalidKey("the public key is degenerate") from None


def open_with(private: BoxPrivateKey, sealed: bytes, info: bytes) -> bytes:
    """Return what :func:`seal_to` sealed.

    Raises ``Tampered`` if a bit changed, or key or ``info`` are others: HPKE cannot tell which.
    """
    return open_by(private.key, sealed, info)


def make_pair() -> tuple[MLKEM768X25519PrivateKey, bytes]:
    """Return a new private key that is never written down, and the bytes of its public half."""
    mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    return MLKEM768X25519PrivateKey(mlkem, x25519), _public_bytes(mlkem, x25519)


def open_by(key: MLKEM768X25519PrivateKey, sealed: bytes, info: bytes) -> bytes:
    """Return what :func:`seal_to` sealed, as :func:`open_with` does."""
    try:
        return _SUITE.decrypt(sealed, key, info=info)
    except InvalidTag:
        raise Tampered("the box was changed, or is for another key or purpose") from None


def seal_group(public: BoxPublicKey, items: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Seal plaintexts, each with its ``info``; each of what is returned opens without the others.

    It is the sealed key of the group, which nobody keeps, and an envelope under it. Raises as
    :func:`seal_to` does.
    """
    key = secrets.token_bytes(KEY_LENGTH)
    wrapped = seal_to(public, key, _GROUP)
    return [
        wrapped + envelope.seal(key, plaintext, context=_context(info)) for plaintext, info in items
    ]


def open_grouped(private: BoxPrivateKey, sealed: bytes, info: bytes) -> bytes:
    """Return the plaintext of one of what :func:`seal_group` sealed. Raises ``Tampered``."""
    end = OVERHEAD + KEY_LENGTH
    key = open_with(private, sealed[:end], _GROUP)
    try:
        return envelope.open_(key, sealed[end:], context=_context(info))
    except VaultError:
        raise Tampered("the box was changed, or is for another key or purpose") from None


def _context(info: bytes) -> Context:
    return {"box": "one of a group", "info": info.hex()}


def _assemble(mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> BoxPrivateKey:
    key = MLKEM768X25519PrivateKey(mlkem, x25519)
    return BoxPrivateKey(
        raw=mlkem.private_bytes_raw() + x25519.private_bytes_raw(),
        public=BoxPublicKey(_public_bytes(mlkem, x25519), key.public_key()),
        key=key,
    )


def _public_bytes(mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> bytes:
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
