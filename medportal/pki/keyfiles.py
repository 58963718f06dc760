"""The text of key files: PEM, private keys as PKCS#8 encrypted under a passphrase (PURE).

The passphrases are 256 random bits (:mod:`medportal.pki.passphrases`), so the modest number of
PBKDF2 rounds that the format gets here costs nothing in security.
"""

from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from medportal.pki.certificates import PrivateKey
from medportal.pki.errors import KeyFileUnfit, WrongPassphrase

AnyPrivateKey = PrivateKey | X25519PrivateKey


def to_pem(key: AnyPrivateKey, passphrase: bytes) -> bytes:
    """Return ``key`` encrypted."""
    return _to_pem(key, BestAvailableEncryption(passphrase))


def to_open_pem(key: AnyPrivateKey) -> bytes:
    """Return ``key`` unencrypted, for a server that cannot read the encrypted form."""
    return _to_pem(key, NoEncryption())


def from_pem(data: bytes, passphrase: bytes, where: str) -> AnyPrivateKey:
    """Return the private key in ``data``; ``where`` names the file for messages.

    Raises ``WrongPassphrase``, or ``KeyFileUnfit`` if there is no encrypted key.
    """
    try:
        return cast(AnyPrivateKey, load_pem_private_key(data, passphrase))
    except TypeError as error:
        raise KeyFileUnfit(f"the private key in {where} is not encrypted") from error
    except ValueError as error:
        if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in data:
            raise KeyFileUnfit(f"{where} holds no private key") from error
        raise WrongPassphrase(
            f"the passphrase does not open {where}: put back the passphrase file that belongs to "
            "it, or restore keys and passphrases from the same backup"
        ) from error


def certificate_from_pem(data: bytes, where: str) -> x509.Certificate:
    """Return the first certificate in ``data``. Raises ``KeyFileUnfit``."""
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise KeyFileUnfit(f"{where} holds no certificate") from error


def certificates_from_pem(data: bytes, where: str) -> list[x509.Certificate]:
    """Return every certificate in ``data``. Raises ``KeyFileUnfit`` if there is none."""
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise KeyFileUnfit(f"{where} holds no certificate") from error


def _to_pem(key: AnyPrivateKey, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
