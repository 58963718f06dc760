"""The sealed file against somebody who holds it: cut, changed, put together from others."""

import io
import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medportal.backup import container
from medportal.backup.container import DATA, KEYS, Label, SealedReader, SealedWriter
from medportal.backup.errors import BackupDamaged, BackupError, NotABackup, WrongBackupKey
from medportal.core import canonical
from medportal.core.clock import to_micros
from medportal.vault.sealing import BoxPrivateKey

KEY = BoxPrivateKey.generate()
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SMALL = 64


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "CHUNK", SMALL)


def label(**other: Any) -> Label:
    fields = {"backup": "a" * 32, "part": DATA, "tenant": "hospital", "made": NOW, **other}
    return Label(**fields)


def sealed(data: bytes, key: bytes = b"k" * 32, **other: Any) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, label(**other), KEY.public, key)
    for byte in data:
        writer.write(bytes([byte]))
    writer.finish()
    return file.getvalue()


def read(raw: bytes, key: BoxPrivateKey = KEY) -> bytes:
    reader = SealedReader(io.BytesIO(raw), key)
    found = b""
    while not reader.at_end():
        found += reader.read(1)
    return found


def pieces(raw: bytes) -> tuple[bytes, list[bytes]]:
    """Return the head of a file and its chunks, each with its length."""
    start = len(container.MAGIC)
    position = start + 4 + int.from_bytes(raw[start : start + 4], "big")
    head, chunks = raw[:position], []
    while position < len(raw):
        end = position + 4 + int.from_bytes(raw[position : position + 4], "big")
        chunks.append(raw[position:end])
        position = end
    return head, chunks


DATA_OF_FOUR = bytes(range(200))


@pytest.mark.parametrize("count", [0, 1, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL, 200])
def test_what_was_written_is_read(count: int) -> None:
    data = secrets.token_bytes(count)
    assert read(sealed(data)) == data


def test_the_label_stands_in_the_clear_and_nothing_else_does() -> None:
    raw = sealed(b"Amanda" * 40)
    head, _chunks = pieces(raw)
    named = label()
    for word in (named.backup, named.part, named.tenant):
        assert word.encode() in head
    assert to_micros(named.made).to_bytes(8, "big") in head
    assert b"Amanda" not in raw


def test_a_file_cut_anywhere_is_refused() -> None:
    raw = sealed(DATA_OF_FOUR)
    for length in range(len(raw)):
        with pytest.raises(BackupError):
            read(raw[:length])


def test_a_file_cut_between_chunks_is_refused_and_says_so() -> None:
    head, chunks = pieces(sealed(DATA_OF_FOUR))
    assert len(chunks) == 4
    with pytest.raises(BackupDamaged, match="cut short in chunk 2"):
        read(head + b"".join(chunks[:3]))


def test_every_changed_byte_is_noticed() -> None:
    raw = sealed(DATA_OF_FOUR)
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1
        try:
            read(bytes(changed))
        except BackupError:
            continue
        pytest.fail(f"byte {position} may be changed")


@pytest.mark.parametrize(
    "order",
    [(1, 0, 2, 3), (0, 2, 1, 3), (0, 0, 1, 2, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3, 3), (3,)],
)
def test_chunks_are_where_they_belong(order: tuple[int, ...]) -> None:
    head, chunks = pieces(sealed(DATA_OF_FOUR))
    with pytest.raises(BackupDamaged):
        read(head + b"".join(chunks[number] for number in order))


@pytest.mark.parametrize(
    "other",
    [
        {"backup": "b" * 32},
        {"part": KEYS},
        {"tenant": "laboratory"},
        {"made": datetime(2026, 3, 2, tzinfo=UTC)},
    ],
)
def test_a_chunk_of_another_file_does_not_fit_even_under_the_same_key(other: Any) -> None:
    head, chunks = pieces(sealed(DATA_OF_FOUR))
    _, foreign = pieces(sealed(DATA_OF_FOUR, **other))
    with pytest.raises(BackupDamaged, match="chunk 1"):
        read(head + chunks[0] + foreign[1] + chunks[2] + chunks[3])


def test_another_backup_key_does_not_open_it() -> None:
    with pytest.raises(WrongBackupKey, match="does not open"):
        read(sealed(b"x"), BoxPrivateKey.generate())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SQLite format 3\0",
        container.MAGIC,
        container.MAGIC + b"\xff\xff\xff\xff",
        container.MAGIC + b"\0\0\0\x01\xa0",
        container.MAGIC + b"\0\0\0\x01\xf6",
        container.MAGIC + b"\0\0\0\x02\x80\x80",
    ],
)
def test_another_file_is_no_backup(raw: bytes) -> None:
    with pytest.raises(NotABackup):
        read(raw)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backup", "../../etc"),
        ("backup", 7),
        ("part", "everything"),
        ("tenant", 7),
        ("made", 2**63),
        ("made", "now"),
        ("key", "text"),
    ],
)
def test_a_header_of_another_shape_is_no_backup(name: str, value: Any) -> None:
    fields = {**label().fields(), "key": bytes(1200), name: value}
    body = canonical.encode(fields)
    with pytest.raises(NotABackup):
        read(container.MAGIC + len(body).to_bytes(4, "big") + body)


def test_a_chunk_that_claims_to_be_huge_is_not_read() -> None:
    head, _ = pieces(sealed(b"x"))
    with pytest.raises(BackupDamaged):
        read(head + b"\xff\xff\xff\xff" + bytes(10))


def test_a_box_with_a_key_of_another_length_is_damaged() -> None:
    with pytest.raises(BackupDamaged, match="holds no key"):
        file = io.BytesIO()
        from medportal.vault.sealing import seal_to

        body = canonical.encode(
            {**label().fields(), "key": seal_to(KEY.public, b"short", label().info)}
        )
        file.write(container.MAGIC + len(body).to_bytes(4, "big") + body)
        read(file.getvalue())


@hypothesis_settings(max_examples=50)
@given(st.binary(max_size=300))
def test_rubbish_after_a_good_header_is_named(rubbish: bytes) -> None:
    head, _ = pieces(sealed(b""))
    with pytest.raises(BackupDamaged):
        read(head + rubbish)
