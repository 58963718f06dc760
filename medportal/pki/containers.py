"""Keys and authorities in the files that other software reads: PKCS#12 (RFC 7292) and PEM.

A key store holds one purpose's key, its certificate and the authority. A trust store holds
authorities only, marked as trusted for Java (without that mark Java sees an empty store). Both
formats are encrypted under a passphrase of the caller's; a PEM of authorities is public.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate

from medportal.pki.errors import KeyFileUnfit
from medportal.pki.files import PRIVATE, PUBLIC, read_private, write_file
from medportal.pki.keyfiles import certificate_from_pem, from_pem, to_pem
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.profiles import Purpose
from medportal.pki.rollover import authority_id
from medportal.pki.verify import institution_of

#: What other programs do to a passphrase of a file costs a guesser little: take a long one.
_ROUNDS = 600_000


class Format(StrEnum):
    """Formats of files for other software."""

    P12 = "p12"
    PEM = "pem"


def key_store(
    directory: Path,
    purpose: Purpose,
    fmt: Format,
    *,
    group_passphrase: bytes,
    passphrase: bytes,
    authorities: Sequence[x509.Certificate],
) -> bytes:
    """Return a purpose's key, certificate and authority, encrypted under ``passphrase``.

    Raises ``KeyFileUnfit`` for a key that PKCS#12 software does not know (ML-DSA).
    """
    path = Layout(directory).key(purpose)
    data = read_private(path)
    leaf = certificate_from_pem(data, str(path))
    key = from_pem(data, group_passphrase, str(path))
    if fmt is Format.PEM:
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, *authorities))
        return to_pem(key, passphrase) + chain
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise KeyFileUnfit(f"PKCS#12 software knows no {purpose} keys: export it as PEM")
    name = f"{institution_of(leaf)} {purpose}".encode("ascii")
    return pkcs12.serialize_key_and_certificates(
        name, key, leaf, list(authorities), _encryption(passphrase)
    )


def trust_store(
    authorities: Sequence[x509.Certificate], fmt: Format, *, passphrase: bytes = b""
) -> bytes:
    """Return authorities, as trusted ones; ``passphrase`` is for PKCS#12, and needed there."""
    if fmt is Format.PEM:
        return b"".join(each.public_bytes(Encoding.PEM) for each in authorities)
    named = [
        PKCS12Certificate(each, f"{institution_of(each)} {authority_id(each)}".encode("ascii"))
        for each in authorities
    ]
    return pkcs12.serialize_java_truststore(named, _encryption(passphrase))


def write_container(path: Path, data: bytes, *, private: bool) -> Path:
    """Write a container, for its owner only if it is private.

    Raises ``KeyFileUnfit`` where a file of that name is open to others, or its directory lets
    others put another file in its place.
    """
    if private:
        if path.exists() and path.stat().st_mode & 0o077:
            raise KeyFileUnfit(f"{path} is open to others: chmod 600 it, or name another file")
        mode = path.parent.stat().st_mode
        if mode & 0o002 and not mode & 0o1000:
            raise KeyFileUnfit(f"{path.parent} is open to others: name another directory")
    write_file(path, data, PRIVATE if private else PUBLIC)
    return path


def _encryption(passphrase: bytes) -> KeySerializationEncryption:
    if not passphrase:
        raise KeyFileUnfit("PKCS#12 needs a passphrase: --passphrase-file FILE")
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(SHA256())
        .build(passphrase)
    )


def group_of(purpose: Purpose) -> str:
    """Return the group whose passphrase opens a purpose's key."""
    return load_profiles()[purpose].group
