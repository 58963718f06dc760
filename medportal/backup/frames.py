"""What stands in a backup's stream: frames, and who signed them (PURE).

A frame is a letter, a length and a body. In this order: one manifest; then tables, each a heading
and rows; documents; files; and at the end how many there were of each, and signatures over
everything before. Nothing of a backup is used before its last frame was read and verified.

Rows are JSON, their values as plain as the column's type allows (:mod:`medportal.backup.tables`): a
standard decoder reads millions of them in seconds.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Any, Protocol

from medportal.backup.errors import BackupDamaged
from medportal.core import canonical
from medportal.core.errors import MedportalError
from medportal.core.ids import ID_LENGTH, is_id

#: More than any document, or batch of rows, has; what claims more is not read.
LONGEST = 64 * 1024 * 1024
_LENGTH = 4
Row = list[Any]


class Letter(Enum):
    """The kinds of frames."""

    MANIFEST = b"M"
    TABLE = b"T"
    ROWS = b"R"
    DOCUMENT = b"D"
    FILE = b"F"
    END = b"E"
    SIGNED = b"S"


class Sink(Protocol):
    """What frames are written to."""

    def write(self, data: bytes) -> None:
        """Append."""


class Source(Protocol):
    """What frames are read from."""

    def read(self, count: int) -> bytes:
        """Return exactly so many bytes."""

    def at_end(self) -> bool:
        """Tell whether everything was read."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a part says about itself. ``head`` is the log's newest signed head, or empty."""

    revision: str
    head: bytes


@dataclass(frozen=True, slots=True)
class Heading:
    """The rows that follow are of this table, with these columns."""

    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of the table of the last heading."""

    rows: list[Row]


@dataclass(frozen=True, slots=True)
class SealedDocument:
    """One sealed document."""

    id: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class File:
    """One file, by its path below the institution's directory."""

    path: str
    mode: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there was."""

    rows: int = 0
    documents: int = 0
    files: int = 0

    def plus(self, frame: "Frame") -> "Counts":
        """Return the counts with one more frame."""
        match frame:
            case Rows():
                return Counts(self.rows + len(frame.rows), self.documents, self.files)
            case SealedDocument():
                return Counts(self.rows, self.documents + 1, self.files)
            case File():
                return Counts(self.rows, self.documents, self.files + 1)
        return self


Frame = Manifest | Heading | Rows | SealedDocument | File


class FrameWriter:
    """Writes frames and counts and hashes them."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._hash = sha256()
        self.counts = Counts()

    def write(self, frame: Frame) -> None:
        """Write one frame."""
        letter, body = _encode(frame)
        self._put(letter, body)
        self.counts = self.counts.plus(frame)

    def end(self) -> bytes:
        """Write how much there was; return the digest to sign."""
        counts = self.counts
        self._put(Letter.END, canonical.encode([counts.rows, counts.documents, counts.files]))
        return self._hash.digest()

    def signed(self, statements: list[bytes]) -> None:
        """Write the signed statements about the digest, the last frame."""
        self._put(Letter.SIGNED, canonical.encode(statements))

    def _put(self, letter: Letter, body: bytes) -> None:
        if len(body) > LONGEST:
            raise ValueError("a frame longer than any reader takes")
        framed = letter.value + len(body).to_bytes(_LENGTH, "big") + body
        self._hash.update(framed)
        self._sink.write(framed)


@dataclass(slots=True)
class Ending:
    """What the end of a part said, filled in when it was reached."""

    digest: bytes = b""
    counts: Counts = Counts()
    statements: tuple[bytes, ...] = ()


def read_frames(source: Source, ending: Ending) -> Iterator[Frame]:
    """Yield every frame but the last two, which fill in ``ending``.

    Raises ``BackupDamaged`` for what is malformed, in a wrong order, or fewer than its end says.
    """
    hashed, counts, first = sha256(), Counts(), True
    while True:
        raw, letter, body = _take(source)
        if letter is Letter.END:
            break
        hashed.update(raw)
        frame = _decode(letter, body)
        if isinstance(frame, Manifest) is not first:
            raise BackupDamaged("the manifest of the backup is not where it belongs")
        first = False
        counts = counts.plus(frame)
        yield frame
    hashed.update(raw)
    ending.counts = _counts(body)
    ending.digest = hashed.digest()
    if ending.counts != counts or first:
        raise BackupDamaged("the backup holds another amount than its end says")
    _, letter, body = _take(source)
    ending.statements = _statements(letter, body)
    if not source.at_end():
        raise BackupDamaged("something follows the end of the backup")


def _take(source: Source) -> tuple[bytes, Letter, bytes]:
    start = source.read(1 + _LENGTH)
    length = int.from_bytes(start[1:], "big")
    if length > LONGEST:
        raise BackupDamaged("a frame of the backup is too long")
    try:
        letter = Letter(start[:1])
    except ValueError:
        raise BackupDamaged("a frame of the backup is of no known kind") from None
    body = source.read(length)
    return start + body, letter, body


def _encode(frame: Frame) -> tuple[Letter, bytes]:
    match frame:
        case Manifest():
            return Letter.MANIFEST, canonical.encode([frame.revision, frame.head])
        case Heading():
            return Letter.TABLE, canonical.encode([frame.table, list(frame.columns)])
        case Rows():
            return Letter.ROWS, json.dumps(frame.rows, separators=(",", ":")).encode("ascii")
        case SealedDocument():
            return Letter.DOCUMENT, frame.id.encode("ascii") + frame.sealed
        case File():
            return Letter.FILE, canonical.encode([frame.path, frame.mode, frame.data])


def _decode(letter: Letter, body: bytes) -> Frame:
    try:
        return _DECODERS[letter](body)
    except (MedportalError, ValueError, TypeError, KeyError, RecursionError):
        raise BackupDamaged(f"a frame of kind {letter.name.lower()} is malformed") from None


def _manifest(body: bytes) -> Manifest:
    revision, head = canonical.decode(body)
    return Manifest(_checked(revision, str), _checked(head, bytes))


def _heading(body: bytes) -> Heading:
    table, columns = canonical.decode(body)
    return Heading(_checked(table, str), tuple(_checked(name, str) for name in columns))


def _rows(body: bytes) -> Rows:
    rows = json.loads(body, parse_float=_no_float, parse_constant=_no_float)
    for row in _checked(rows, list):
        if not all(isinstance(value, str | int | None) for value in _checked(row, list)):
            raise ValueError
    return Rows(rows)


def _document(body: bytes) -> SealedDocument:
    doc_id = body[:ID_LENGTH].decode("ascii")
    if not is_id(doc_id):
        raise ValueError
    return SealedDocument(doc_id, body[ID_LENGTH:])


def _file(body: bytes) -> File:
    path, mode, data = canonical.decode(body)
    return File(_checked(path, str), _checked(mode, int), _checked(data, bytes))


_DECODERS: dict[Letter, Callable[[bytes], Frame]] = {
    Letter.MANIFEST: _manifest,
    Letter.TABLE: _heading,
    Letter.ROWS: _rows,
    Letter.DOCUMENT: _document,
    Letter.FILE: _file,
}


def _counts(body: bytes) -> Counts:
    try:
        rows, documents, files = canonical.decode(body)
    except (MedportalError, ValueError, TypeError):
        raise BackupDamaged("the end of the backup is malformed") from None
    return Counts(rows, documents, files)


def _statements(letter: Letter, body: bytes) -> tuple[bytes, ...]:
    try:
        statements = tuple(_checked(each, bytes) for each in canonical.decode(body))
    except (MedportalError, ValueError, TypeError):
        statements = ()
    if letter is not Letter.SIGNED or not statements:
        raise BackupDamaged("the backup is not signed")
    return statements


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _no_float(_text: str) -> Any:
    raise ValueError
