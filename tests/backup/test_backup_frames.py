"""Frames: written and read again, and everything that is not what was written."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.backup.errors import BackupDamaged
from medportal.backup.frames import (
    LONGEST,
    Counts,
    Ending,
    File,
    Frame,
    FrameWriter,
    Heading,
    Manifest,
    Rows,
    SealedDocument,
    read_frames,
)
from medportal.core import canonical

FRAMES: list[Frame] = [
    Manifest("0004", b"head"),
    Heading("person", ("id", "name")),
    Rows([["a", "Zé"], ["b", None], ["c", 2**62]]),
    SealedDocument("d" * 32, b"\x00\xff"),
    File("vault/tenant.keystore", 0o600, b"secret"),
]


class Source:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) < count:
            raise BackupDamaged("cut short")
        return found

    def at_end(self) -> bool:
        return not self._file.read(1)


def written(frames: list[Frame]) -> bytes:
    file = io.BytesIO()
    writer = FrameWriter(file)
    for frame in frames:
        writer.write(frame)
    writer.end()
    writer.signed([b"statement"])
    return file.getvalue()


def read(data: bytes) -> tuple[list[Frame], Ending]:
    ending = Ending()
    return list(read_frames(Source(data), ending)), ending


def framed(letter: bytes, body: bytes) -> bytes:
    return letter + len(body).to_bytes(4, "big") + body


START = framed(b"M", canonical.encode(["0004", b""]))
END = framed(b"E", canonical.encode([0, 0, 0]))
SIGNED = framed(b"S", canonical.encode([b"statement"]))


def test_what_was_written_is_read_and_counted() -> None:
    frames, ending = read(written(FRAMES))
    assert frames == FRAMES
    assert ending.counts == Counts(3, 1, 1)
    assert ending.statements == (b"statement",)


def test_the_digest_covers_every_byte_up_to_the_end() -> None:
    raw = written(FRAMES)
    digest = read(raw)[1].digest
    other = [*FRAMES[:-1], File("vault/tenant.keystore", 0o600, b"Secret")]
    assert read(written(other))[1].digest != digest
    assert read(raw)[1].digest == digest


@pytest.mark.parametrize(
    "data",
    [
        END + SIGNED,
        START,
        START + END,
        START + END + framed(b"S", canonical.encode([])),
        START + END + framed(b"S", canonical.encode(["text"])),
        START + END + framed(b"S", b"\xff"),
        START + END + END,
        START + END + SIGNED + b"x",
        START + START + END + SIGNED,
        START + framed(b"E", canonical.encode([1, 0, 0])) + SIGNED,
        START + framed(b"E", canonical.encode([0, 0])) + SIGNED,
        START + framed(b"E", canonical.encode(7)) + SIGNED,
        START + framed(b"Z", b"") + END + SIGNED,
        START + SIGNED,
        START + b"R" + (LONGEST + 1).to_bytes(4, "big"),
        framed(b"T", canonical.encode(["person", ["id"]])) + START + END + SIGNED,
    ],
)
def test_another_order_or_amount_is_damage(data: bytes) -> None:
    with pytest.raises(BackupDamaged):
        read(data)


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("letter", "body"),
    [
        (b"R", b"null"),
        (b"R", b"[1]"),
        (b"R", b"[[1.5]]"),
        (b"R", b"[[NaN]]"),
        (b"R", b"[[Infinity]]"),
        (b"R", b"[[1e5]]"),
        (b"R", b"[[{}]]"),
        (b"R", b"[[[1]]]"),
        (b"R", b"\xff"),
        (b"R", DEEP),
        (b"R", b"[[" + b"9" * 10_000 + b"]]"),
        (b"D", b"short"),
        (b"D", b"../" + b"a" * 29),
        (b"D", "é".encode() * 16),
        (b"F", canonical.encode(["path", 1])),
        (b"F", canonical.encode([1, 1, b""])),
        (b"F", canonical.encode(["path", True, b""])),
        (b"T", canonical.encode(["person", "id"])[:-1]),
        (b"T", canonical.encode(["person", [1]])),
        (b"M", canonical.encode([b"", b""])),
        (b"M", canonical.encode([])),
    ],
)
def test_a_frame_of_another_shape_is_damage(letter: bytes, body: bytes) -> None:
    start = b"" if letter == b"M" else START
    with pytest.raises(BackupDamaged, match="malformed"):
        read(start + framed(letter, body) + END + SIGNED)


def test_a_frame_that_no_reader_takes_is_not_written() -> None:
    with pytest.raises(ValueError, match="longer than any reader"):
        FrameWriter(io.BytesIO()).write(SealedDocument("d" * 32, bytes(LONGEST)))


@given(
    st.lists(
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.booleans()),
        max_size=5,
    )
)
def test_rows_come_back_as_they_were(rows: list[list[object]]) -> None:
    frames, _ = read(written([Manifest("1", b""), Rows(rows)]))
    assert json.dumps(frames[1].rows) == json.dumps(rows)


@given(st.binary(max_size=200))
def test_rubbish_is_named(data: bytes) -> None:
    with pytest.raises(BackupDamaged):
        read(START + data)
