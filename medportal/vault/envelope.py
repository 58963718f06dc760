"""The sealed envelope (PURE).

Layout, all fixed lengths, so there is nothing to parse wrongly::

    magic "MPV" | version 1 | kind 1 | nonce 12 | check 8 | wrapped key 40 | ciphertext and tag

A fresh random 256-bit key (DEK) is drawn for every envelope and wrapped under a key
derived from the caller's key and the context (:mod:`medportal.vault.kdf`). AES-256-GCM
authenticates the whole header and the context as associated data; the header has a fixed length,
so joining the two is unambiguous.

Why a nonce cannot repeat under a key: a DEK encrypts exactly one message, the one it was
drawn for, and is forgotten. Two envelopes would have to draw the same 256-bit DEK first.

``check`` is a keyed tag over the nonce. It tells a wrong key from a changed envelope, and
shows nobody without the key that two envelopes were sealed under the same one.
"""

import hmac
import secrets
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from medportal.vault.errors import Tampered, UnknownVersion, WrongKey
from medportal.vault.kdf import (
    KEY_LENGTH,
    WRAPPED_LENGTH,
    Context,
    check_key,
    context_bytes,
    derive,
    unwrap,
    wrap,
)

MAGIC = b"MPV"
VERSION = 1
NONCE_LENGTH = 12
CHECK_LENGTH = 8
TAG_LENGTH = 16
HEADER_LENGTH = len(MAGIC) + 2 + NONCE_LENGTH + CHECK_LENGTH + WRAPPED_LENGTH
OVERHEAD = HEADER_LENGTH + TAG_LENGTH


class Kind(IntEnum):
    """What an envelope holds; one kind never opens as the other."""

    VALUE = 1
    DOCUMENT = 2


_LABELS = {
    Kind.VALUE: "medportal envelope 1 value",
    Kind.DOCUMENT: "medportal envelope 1 document",
}


@dataclass(frozen=True, slots=True)
class _Parts:
    header: bytes
    nonce: bytes
    check: bytes
    wrapped: bytes
    ciphertext: bytes


def seal(key: bytes, plaintext: bytes, *, context: Context) -> bytes:
    """Seal a small value under a 32-byte key for ``context``; raises ``InvalidKey``."""
    return _seal(Kind.VALUE, key, plaintext, context)


def open_(key: bytes, sealed: bytes, *, context: Context) -> bytes:
    """Return what :func:`seal` sealed. Raises ``Tampered``, ``WrongKey``, ``UnknownVersion``."""
    return _open(Kind.VALUE, key, sealed, context)


def seal_document(patient_key: bytes, plaintext: bytes, context: Context) -> bytes:
    """Seal a document under a patient's key; ``context`` names tenant, patient, record, version."""
    return _seal(Kind.DOCUMENT, patient_key, plaintext, context)


def open_document(patient_key: bytes, sealed: bytes, context: Context) -> bytes:
    """Return what :func:`seal_document` sealed.

    Raises ``Tampered`` if a bit changed or the context is another, ``WrongKey`` if the
    key is another, ``UnknownVersion`` if this program cannot read the layout.
    """
    return _open(Kind.DOCUMENT, patient_key, sealed, context)


def _seal(kind: Kind, key: bytes, plaintext: bytes, context: Context) -> bytes:
    dek = secrets.token_bytes(KEY_LENGTH)
    nonce = secrets.token_bytes(NONCE_LENGTH)
    bound_to = context_bytes(_LABELS[kind], context)
    header = (
        MAGIC + bytes([VERSION, kind]) + nonce + _check_tag(key, nonce) + wrap(key, dek, bound_to)
    )
    return header + AESGCM(dek).encrypt(nonce, plaintext, header + bound_to)


def _open(kind: Kind, key: bytes, sealed: bytes, context: Context) -> bytes:
    check_key(key)
    parts = _split(kind, sealed)
    bound_to = context_bytes(_LABELS[kind], context)
    dek = unwrap(key, parts.wrapped, bound_to)
    if dek is None:
        if hmac.compare_digest(parts.check, _check_tag(key, parts.nonce)):
            raise Tampered("the wrapped key was changed, or the context is another")
        raise WrongKey("sealed under another key")
    try:
        return AESGCM(dek).decrypt(parts.nonce, parts.ciphertext, parts.header + bound_to)
    except InvalidTag:
        raise Tampered("the sealed bytes were changed") from None


def _split(kind: Kind, sealed: bytes) -> _Parts:
    """Cut an envelope at its fixed places, or say why it is none of this kind."""
    if len(sealed) < OVERHEAD or not sealed.startswith(MAGIC):
        raise Tampered("not an envelope, or cut short")
    start = len(MAGIC)
    version, found = sealed[start], sealed[start + 1]
    if version != VERSION:
        raise UnknownVersion(f"envelope version {version}")
    if found != kind:
        raise Tampered("an envelope of another kind")
    nonce_end = start + 2 + NONCE_LENGTH
    check_end = nonce_end + CHECK_LENGTH
    return _Parts(
        header=sealed[:HEADER_LENGTH],
        nonce=sealed[start + 2 : nonce_end],
        check=sealed[nonce_end:check_end],
        wrapped=sealed[check_end:HEADER_LENGTH],
        ciphertext=sealed[HEADER_LENGTH:],
    )


def _check_tag(key: bytes, nonce: bytes) -> bytes:
    check_key_bytes = derive(key, b"medportal envelope 1 check")
    return hmac.digest(check_key_bytes, nonce, sha256)[:CHECK_LENGTH]
