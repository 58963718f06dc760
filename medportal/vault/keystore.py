"""The tenant keystore: one file, every version of the tenant key, under a passphrase."""

from pathlib import Path

from medportal.core import canonical
from medportal.vault import keyfiles
from medportal.vault.errors import KeyFileError
from medportal.vault.keyring import TenantKeyring
from medportal.vault.passphrase import DEFAULT_COST, Cost, protect, unprotect

FILE_NAME = "tenant.keystore"
_PURPOSE = "tenant keystore"


def create(path: Path, passphrase: bytes, cost: Cost = DEFAULT_COST) -> TenantKeyring:
    """Make a keystore with one random key, mode 0600; raises ``KeyFileError`` if it exists."""
    keyring = TenantKeyring.generate()
    keyfiles.write_new(path, protect(_PURPOSE, _to_bytes(keyring), passphrase, cost))
    return keyring


def load(path: Path, passphrase: bytes) -> TenantKeyring:
    """Open a keystore.

    Raises ``WrongPassphrase``, ``Tampered``, ``UnknownVersion``, or ``KeyFileError`` if it is
    missing, malformed or readable by others.
    """
    return _from_bytes(unprotect(_PURPOSE, keyfiles.read_private(path), passphrase))


def save(path: Path, keyring: TenantKeyring, passphrase: bytes, cost: Cost = DEFAULT_COST) -> None:
    """Replace the contents of an existing keystore in one step (rotation, new passphrase)."""
    keyfiles.replace(path, protect(_PURPOSE, _to_bytes(keyring), passphrase, cost))


def _to_bytes(keyring: TenantKeyring) -> bytes:
    return canonical.encode({"current": keyring.current, "keys": dict(keyring.versions)})


def _from_bytes(data: bytes) -> TenantKeyring:
    fields = canonical.decode(data)
    try:
        return TenantKeyring(fields["keys"], fields["current"])
    except (KeyError, TypeError, AttributeError):
        raise KeyFileError("not a tenant keystore") from None
