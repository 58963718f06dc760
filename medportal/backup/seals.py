"""The seal that lies beside a backup file: it tells without any key whether the file is whole.

The machine that makes backups opens none, so it could not check what it keeps. A seal is the
file's size and SHA-256 as they were written, signed with both keys of the audit log's heads. Read
back and compared, it shows a disk that lost something, or a file that was exchanged. It does not
show that the backup opens: that takes the backup key (:mod:`medportal.backup.checking`). The
moment of verification is the one that the file states, with no newer list, as when a backup is
opened: a thief of both keys passes, and a withdrawal since is not seen.

A seal, numbered as in the code:

1. The file begins with the header of a backup, and is called as that says.
2. The authority vouches for the statement about this label, with both keys.
3. Size and digest are those of the file.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from medportal.backup.checking import PURPOSES, vouched
from medportal.backup.container import Label, read_label
from medportal.backup.errors import BackupDamaged, NoSeal, NotABackup, NotSignedHere
from medportal.core import canonical
from medportal.pki.files import PUBLIC, write_file
from medportal.pki.signatures import MAX_STATEMENT_BYTES, sign_statement
from medportal.pki.signers import Signer
from medportal.pki.verify import Anchors

LABEL = "medportal backup file 1"
SUFFIX = "backup"
SEAL = ".seal"
_DRAFT = re.compile(
    r"\.(?P<tenant>.+)-\d{8}T\d{6}Z-[0-9a-f]{8}\.(?:data|keys)\.backup\.[0-9a-f]{16}", re.ASCII
)
#: Bytes read at a time.
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sealed:
    """A backup file with a seal that is this institution's; the file itself was not yet read."""

    path: Path
    label: Label
    size: int
    digest: bytes

    @property
    def seal(self) -> Path:
        """Return where the seal lies."""
        return seal_of(self.path)


class Measured:
    """A file that is written to, with what a seal says of it."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin with an empty file."""
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        """Append."""
        self._hash.update(data)
        self._size += len(data)
        return self._file.write(data)

    def fields(self, label: Label) -> dict[str, str | int | bytes]:
        """Return what is signed of the file that was written."""
        return {**label.fields(), "size": self._size, "digest": self._hash.digest()}


def name_of(label: Label) -> str:
    """Return what a backup file is called."""
    moment = label.made.strftime("%Y%m%dT%H%M%SZ")
    return f"{label.tenant}-{moment}-{label.backup[:8]}.{label.part}.{SUFFIX}"


def draft_of(path: Path) -> Path:
    """Return another name, beginning with a dot, for a backup file until it is whole."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def drafts(directory: Path, tenant: str) -> list[Path]:
    """Return the drafts in a directory: backups in the making, or left by one that was killed."""
    return [
        path
        for path in sorted(directory.glob(f".*.{SUFFIX}.*"))
        if (found := _DRAFT.fullmatch(path.name)) and found["tenant"] == tenant
    ]


def seal_of(path: Path) -> Path:
    """Return where the seal of a backup file lies."""
    return path.with_name(path.name + SEAL)


def write_seal(path: Path, file: Measured, label: Label, signers: Sequence[Signer]) -> None:
    """Write the seal of what was written, before the file gets its name."""
    said = [sign_statement(signer, LABEL, file.fields(label)).to_bytes() for signer in signers]
    write_file(seal_of(path), canonical.encode(said), PUBLIC)


def own_label(path: Path, tenant: str, part: str) -> Label:
    """Return what a file says of itself, if that is what it is called (1).

    Raises ``NotABackup`` for what is no such part of a backup of this institution.
    """
    try:
        with path.open("rb") as file:
            label = read_label(file)
    except NotABackup as error:
        raise NotABackup(f"{path}: {error}") from None
    if (label.tenant, label.part, name_of(label)) != (tenant, part, path.name):  # (1)
        raise NotABackup(f"{path} is no {part} file of a backup of {tenant}, or was renamed")
    return label


def read_seal(path: Path, label: Label, authority: Anchors) -> Sealed:
    """Return a backup file with its seal; the file's contents are not read (2).

    Raises ``NoSeal`` or ``NotSignedHere``.
    """
    size, digest = _signed(path, label, authority)
    return Sealed(path, label, size, digest)


def require_whole(sealed: Sealed) -> None:
    """Read a file to its end (3). Raises ``BackupDamaged`` if it is not as it was written."""
    found, size = hashlib.sha256(), 0
    with sealed.path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
            size += len(piece)
    if (size, found.digest()) != (sealed.size, sealed.digest):  # (3)
        raise BackupDamaged(f"{sealed.path} is not as it was written")


def _signed(path: Path, label: Label, authority: Anchors) -> tuple[int, bytes]:
    """Return size and digest for which the authority vouches (2)."""
    said = [
        dict(each)
        for each in vouched(_statements(path), LABEL, label, authority, f"the seal of {path}")
    ]
    first = said[0]
    if any(each != first for each in said):
        raise NotSignedHere(f"the seal of {path} contradicts itself")
    size, digest = first.get("size"), first.get("digest")
    if first != {**label.fields(), "size": size, "digest": digest}:
        raise NotSignedHere(f"the seal of {path} is of another file")
    if not isinstance(size, int) or not isinstance(digest, bytes):
        raise NotSignedHere(f"the seal of {path} is malformed")
    return size, digest


def _statements(path: Path) -> list[bytes]:
    """Return the statements of a seal, one for each of :data:`PURPOSES`."""
    try:
        with seal_of(path).open("rb") as file:
            found = canonical.decode(file.read(len(PURPOSES) * MAX_STATEMENT_BYTES + _PIECE))
    except FileNotFoundError:
        raise NoSeal(
            f"{path} has no seal beside it: check it with medportal backup verify"
        ) from None
    except canonical.NotCanonical:
        raise NotSignedHere(f"the seal of {path} is malformed") from None
    if not isinstance(found, list) or len(found) != len(PURPOSES):
        raise NotSignedHere(f"the seal of {path} is not signed with both keys")
    if any(type(each) is not bytes for each in found):
        raise NotSignedHere(f"the seal of {path} is malformed")
    return found
