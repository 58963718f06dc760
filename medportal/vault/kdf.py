"""Key derivation and wrapping bound to a context (PURE).

AES-KW (RFC 3394) has no associated data, so every wrap uses a key of its own, derived
by HKDF-SHA256 (RFC 5869) with the canonical context as ``info``: unwrapping under
another context fails as unwrapping under another key does.
"""

from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from medportal.core import canonical
from medportal.vault.errors import InvalidKey

KEY_LENGTH = 32
WRAPPED_LENGTH = KEY_LENGTH + 8

Context = Mapping[str, str | int]

_SHA256 = hashes.SHA256()


def check_key(key: bytes) -> bytes:
    """Return ``key`` if it is 32 bytes, else raise ``InvalidKey``."""
    if len(key) != KEY_LENGTH:
        raise InvalidKey("a key is 32 bytes long")
    return key


def context_bytes(label: str, context: Context) -> bytes:
    """Return the canonical bytes of a label and a context.

    Raises ``medportal.core.canonical.NotCanonical`` for what is not plain data.
    """
    return canonical.encode([label, dict(context)])


def derive(
    key: bytes, info: bytes, *, salt: bytes | None = None, length: int = KEY_LENGTH
) -> bytes:
    """Return ``length`` bytes of HKDF-SHA256 over ``key``; raises ``InvalidKey``."""
    hkdf = HKDF(algorithm=_SHA256, length=length, salt=salt, info=info)
    return hkdf.derive(check_key(key))


def wrap(key: bytes, inner: bytes, bound_to: bytes) -> bytes:
    """Return the 32-byte key ``inner`` wrapped under ``key`` for a context, 40 bytes.

    ``bound_to`` is what :func:`context_bytes` says. Deterministic: the same inner key under the
    same key and context gives the same bytes. Raises ``InvalidKey``.
    """
    return aes_key_wrap(derive(key, bound_to), check_key(inner))


def unwrap(key: bytes, wrapped: bytes, bound_to: bytes) -> bytes | None:
    """Return the inner key, or ``None`` if key, context or wrapped bytes do not belong together."""
    kek = derive(key, bound_to)
    if len(wrapped) != WRAPPED_LENGTH:
        return None
    try:
        return aes_key_unwrap(kek, wrapped)
    except InvalidUnwrap:
        return None
