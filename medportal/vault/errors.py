"""What can go wrong in the vault (PURE). No message holds a key or a plaintext."""

from enum import StrEnum

from medportal.core.errors import MedportalError


class VaultError(MedportalError):
    """The root of the family."""


class Tampered(VaultError):
    """Sealed bytes were changed, cut, or belong to another context."""


class KeyNotHere(Tampered):
    """A box names a key that is not here: it was changed, or its key file is elsewhere or gone."""

    def __init__(self, key_id: str) -> None:
        """``key_id``: the name that the box gives, as hexadecimal digits."""
        self.key_id = key_id
        super().__init__("the box was changed, or is for a key that is not here")


class WrongKey(VaultError):
    """Sealed bytes are whole, but the key offered is not the one that sealed them."""


class UnknownVersion(VaultError):
    """Sealed bytes, or a key, are of a version that this program does not have."""


class InvalidKey(VaultError):
    """Bytes that cannot be a key of the kind asked for."""


class KeyFileError(VaultError):
    """A key file is missing, malformed, readable by others, or already there."""


class KeysBusy(VaultError):
    """Another command is changing the same keys."""


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


class DocumentTooLarge(VaultError):
    """A sealed document is larger than any store takes."""


class StoreProblem(StrEnum):
    """Why a document store cannot be used now: what logs and operators are told."""

    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed-out"
    CERTIFICATE = "certificate"
    SIGN_IN = "sign-in"
    NOT_PRIMARY = "not-primary"
    NOT_DURABLE = "not-durable"
    FULL = "full"
    REFUSED = "refused"
    FILES = "files"
    NOT_SET_UP = "not-set-up"
    NOT_MIGRATED = "not-migrated"
    OTHER_INSTITUTION = "other-institution"


_TO_DO = {
    StoreProblem.UNREACHABLE: "it cannot be reached: check that it runs, and documents.url",
    StoreProblem.TIMED_OUT: "it did not answer in time: it is busy, or the network is slow",
    StoreProblem.CERTIFICATE: (
        "its certificate is not valid for this host name under documents.ca_file"
    ),
    StoreProblem.SIGN_IN: (
        "it refuses the sign-in: check documents.user, documents.password_file and that user's "
        "rights on the database"
    ),
    StoreProblem.NOT_PRIMARY: "no server of it takes writes at the moment: it is failing over",
    StoreProblem.NOT_DURABLE: (
        "a majority of its servers did not confirm a write in time: check the replica set"
    ),
    StoreProblem.FULL: "its disk is full: make room, nothing was lost",
    StoreProblem.REFUSED: "it refused what it was asked, or answered something else",
    StoreProblem.FILES: (
        "documents.password_file or documents.ca_file is missing, empty, malformed or open to "
        "others: chmod 600 the password"
    ),
    StoreProblem.NOT_SET_UP: "the tenant's file does not say where it is: documents.url",
    StoreProblem.NOT_MIGRATED: "it is not as this code needs it: medportal tenant migrate",
    StoreProblem.OTHER_INSTITUTION: (
        "its database belongs to another institution: each has one of its own, see documents.url"
    ),
}


class DocumentsUnavailable(MedportalError):
    """The document store cannot be used now; nothing is known to be wrong with any document.

    Not of the vault's family on purpose: whoever takes an error of the vault for damage to a
    record must not take a server that is gone for it.
    """

    def __init__(self, problem: StoreProblem) -> None:
        self.problem = problem
        super().__init__(f"the document store: {_TO_DO[problem]}")
