"""What can go wrong in the vault (PURE). No message holds a key or a plaintext."""

from medportal.core.errors import MedportalError


class VaultError(MedportalError):
    """The root of the family."""


class Tampered(VaultError):
    """Sealed bytes were changed, cut, or belong to another context."""


class WrongKey(VaultError):
    """Sealed bytes are whole, but the key offered is not the one that sealed them."""


class UnknownVersion(VaultError):
    """Sealed bytes, or a key, are of a version that this program does not have."""


class InvalidKey(VaultError):
    """Bytes that cannot be a key of the kind asked for."""


class KeyFileError(VaultError):
    """A key file is missing, malformed, readable by others, or already there."""


class WrongPassphrase(KeyFileError):
    """The passphrase does not open the key file (or the file's parameters were changed)."""


class PatientKeyMissing(VaultError):
    """No key was ever made for this patient."""


class PatientKeyDestroyed(VaultError):
    """The patient's key was destroyed: what it sealed cannot be read again."""


class DocumentMissing(VaultError):
    """The document store holds nothing under this id."""


class DocumentConflict(VaultError):
    """The document store already holds other bytes under this id; documents never change."""
