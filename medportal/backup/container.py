"""The sealed file: a stream cut into chunks, each an envelope of the vault (PURE).

::

    magic | length 4 | header (canonical CBOR) | (length 4 | envelope) ...

The header names backup, part, tenant and time in the clear and holds a random file key, sealed to
the backup key (HPKE, :mod:`medportal.vault.sealing`) for exactly this header. Every chunk is a
:mod:`medportal.vault.envelope` under the file key whose context says which chunk of which file it
is and whether it is the last: chunks cannot be swapped, left out, repeated or taken from another
file, and a file that ends early does not open. Nonces cannot repeat for the reason given there:
every envelope draws a key of its own.

A box tells nothing about who sealed it. Who made a backup is told by the signatures in its last
frame (:mod:`medportal.backup.frames`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol

from medportal.backup.errors import BackupDamaged, NotABackup, WrongBackupKey
from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros
from medportal.core.ids import is_id
from medportal.vault import envelope
from medportal.vault.errors import InvalidKey, Tampered, UnknownVersion, VaultError, WrongKey
from medportal.vault.kdf import KEY_LENGTH
from medportal.vault.sealing import BoxPrivateKey, BoxPublicKey, open_with, seal_to

MAGIC = b"medportal backup 1\n"
#: Bytes of plaintext in every chunk but the last.
CHUNK = 1024 * 1024
_LENGTH = 4
_LONGEST_HEADER = 8 * 1024
_LONGEST_CHUNK = CHUNK + envelope.OVERHEAD
#: Parts of a backup: what is kept long, and what is kept apart and for a short time.
DATA, KEYS = "data", "keys"
PARTS = (DATA, KEYS)


class Sink(Protocol):
    """What a sealed file is written to."""

    def write(self, data: bytes, /) -> int:
        """Append."""


@dataclass(frozen=True, slots=True)
class Label:
    """What stands in the clear in front of a backup file; every chunk is bound to it."""

    backup: str
    part: str
    tenant: str
    made: datetime

    def fields(self) -> dict[str, str | int]:
        """Return the fields as plain data."""
        return {
            "backup": self.backup,
            "part": self.part,
            "tenant": self.tenant,
            "made": to_micros(self.made),
        }

    @property
    def info(self) -> bytes:
        """Return what the box with the file key is bound to."""
        return canonical.encode([MAGIC, self.fields()])


class SealedWriter:
    """Writes a stream of bytes as a sealed file; nothing of it opens before :meth:`finish`."""

    def __init__(self, file: Sink, label: Label, key: BoxPublicKey, file_key: bytes) -> None:
        """Write the header. ``file_key`` is 32 random bytes, used for this file alone."""
        self._file = file
        self._label = label
        self._key = file_key
        self._buffer = bytearray()
        self._index = 0
        header = {**label.fields(), "key": seal_to(key, file_key, label.info)}
        body = canonical.encode(header)
        file.write(MAGIC + len(body).to_bytes(_LENGTH, "big") + body)

    def write(self, data: bytes) -> None:
        """Append to the stream."""
        self._buffer += data
        # What has just filled a chunk stays until more comes: it may be the last.
        while len(self._buffer) > CHUNK:
            self._seal(bytes(self._buffer[:CHUNK]), last=False)
            del self._buffer[:CHUNK]

    def finish(self) -> None:
        """Write the last chunk."""
        self._seal(bytes(self._buffer), last=True)
        self._buffer.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        context = _context(self._label, self._index, last)
        sealed = envelope.seal(self._key, chunk, context=context)
        self._file.write(len(sealed).to_bytes(_LENGTH, "big") + sealed)
        self._index += 1


class SealedReader:
    """Reads a sealed file from its beginning, a chunk at a time."""

    def __init__(self, file: BinaryIO, key: BoxPrivateKey) -> None:
        """Read the header. Raises ``NotABackup``, ``BackupDamaged`` or ``WrongBackupKey``."""
        self._file = file
        self.label, box = _header(file)
        self._key = _file_key(self.label, box, key)
        self._buffer = bytearray()
        self._index = 0
        self._next = self._length()
        if self._next is None:
            raise BackupDamaged("the backup ends after its header")

    def read(self, count: int) -> bytes:
        """Return exactly so many bytes. Raises ``BackupDamaged`` where there are fewer."""
        while len(self._buffer) < count and self._next is not None:
            self._buffer += self._chunk(self._next)
        if len(self._buffer) < count:
            raise BackupDamaged("the backup ends before its contents do")
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    def at_end(self) -> bool:
        """Tell whether everything was read. Raises ``BackupDamaged``."""
        while not self._buffer and self._next is not None:
            self._buffer += self._chunk(self._next)
        return not self._buffer

    def _chunk(self, length: int) -> bytes:
        sealed = self._file.read(length)
        if len(sealed) < length:
            raise BackupDamaged(f"the backup was cut short in chunk {self._index}")
        # Whether it is the last shows in what follows, and the envelope says if that is true.
        self._next = self._length()
        context = _context(self.label, self._index, self._next is None)
        try:
            chunk = envelope.open_(self._key, sealed, context=context)
        except VaultError:
            message = f"the backup was changed or cut short in chunk {self._index}"
            raise BackupDamaged(message) from None
        self._index += 1
        return chunk

    def _length(self) -> int | None:
        raw = self._file.read(_LENGTH)
        if not raw:
            return None
        length = int.from_bytes(raw, "big")
        if len(raw) < _LENGTH or not envelope.OVERHEAD <= length <= _LONGEST_CHUNK:
            raise BackupDamaged(f"the backup was changed or cut short after chunk {self._index}")
        return length


def read_label(file: BinaryIO) -> Label:
    """Return what a backup file says of itself in the clear. Raises ``NotABackup``."""
    return _header(file)[0]


def _header(file: BinaryIO) -> tuple[Label, bytes]:
    if file.read(len(MAGIC)) != MAGIC:
        raise NotABackup("this is no backup of medportal, or of a format not known here")
    length = int.from_bytes(file.read(_LENGTH), "big")
    if length > _LONGEST_HEADER:
        raise NotABackup("the header of the backup is malformed")
    try:
        fields = canonical.decode(file.read(length))
        return _label(fields), fields["key"]
    except (canonical.NotCanonical, KeyError, TypeError, ValueError, OverflowError):
        raise NotABackup("the header of the backup is malformed") from None


def _label(fields: dict[str, Any]) -> Label:
    """Read the fields. Raises ``ValueError`` or ``TypeError`` for what cannot be one."""
    label = Label(fields["backup"], fields["part"], fields["tenant"], from_micros(fields["made"]))
    well_typed = isinstance(label.tenant, str) and isinstance(fields["key"], bytes)
    if not well_typed or not is_id(label.backup) or label.part not in PARTS or len(fields) != 5:
        raise ValueError
    return label


def _file_key(label: Label, box: bytes, key: BoxPrivateKey) -> bytes:
    try:
        found = open_with(key, box, label.info)
    except (Tampered, InvalidKey, WrongKey, UnknownVersion):
        raise WrongBackupKey(
            "this backup key does not open the file: it was made for another one, or its header "
            "was changed"
        ) from None
    if len(found) != KEY_LENGTH:
        raise BackupDamaged("the header of the backup holds no key")
    return found


def _context(label: Label, index: int, last: bool) -> dict[str, str | int]:
    return {**label.fields(), "chunk": index, "last": int(last)}
