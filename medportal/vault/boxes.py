"""Key files of a tenant's own boxes, "inbox" and "outbox"; see :mod:`medportal.vault.sealing`."""

from pathlib import Path

from medportal.vault import keyfiles
from medportal.vault.errors import KeyFileError
from medportal.vault.passphrase import DEFAULT_COST, Cost, protect, unprotect
from medportal.vault.sealing import SUITE_NAME, BoxPrivateKey, BoxPublicKey


def create_box_keys(
    directory: Path, name: str, passphrase: bytes, cost: Cost = DEFAULT_COST
) -> BoxPublicKey:
    """Write ``name.key`` (under the passphrase, mode 0600) and ``name.pub`` into a directory.

    Raises ``KeyFileError`` if either exists.
    """
    private = BoxPrivateKey.generate()
    secret = protect(_purpose(name), private.to_bytes(), passphrase, cost)
    keyfiles.write_new(directory / f"{name}.key", secret)
    keyfiles.write_new(directory / f"{name}.pub", private.public.raw, keyfiles.PUBLIC_MODE)
    return private.public


def load_public(directory: Path, name: str) -> BoxPublicKey:
    """Read ``name.pub``; raises ``KeyFileError``, or ``InvalidKey`` if it is malformed."""
    return BoxPublicKey.from_bytes(keyfiles.read_public(directory / f"{name}.pub"))


def load_private(directory: Path, name: str, passphrase: bytes) -> BoxPrivateKey:
    """Read ``name.key``.

    Raises ``WrongPassphrase``, ``Tampered``, ``InvalidKey`` or ``KeyFileError``.
    """
    data = keyfiles.read_private(directory / f"{name}.key")
    return BoxPrivateKey.from_bytes(unprotect(_purpose(name), data, passphrase))


def _purpose(name: str) -> str:
    if not (name.isascii() and name.isalpha() and name.islower()):
        raise KeyFileError("the name of a box is one lower-case word")
    return f"box {name} {SUITE_NAME}"
