"""Pictures: what is needed to draw one gets through, and nothing else."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import END, SIGNATURE, chunk, header, pixels, png

from medportal.tenancy.logo import MAX_BYTES, LogoRefused, cleaned, size

#: The rows of the usual picture, and those of one with four bytes for a pixel in seven passes:
#: 64 by 32 pixels are 8 by 4, 8 by 4, 16 by 4, 16 by 8, 32 by 8, 32 by 16 and 64 by 16.
ROWS = (b"\0" + b"\x7f" * 192) * 32
INTERLACED = b"".join(
    (b"\4" + b"\x7f" * 4 * wide) * high
    for wide, high in ((8, 4), (8, 4), (16, 4), (16, 8), (32, 8), (32, 16), (64, 16))
)
BLACK = b"\0" * 3


def idat(rows: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(rows))


def halves(rows: bytes) -> bytes:
    packed = zlib.compress(rows)
    return chunk(b"IDAT", packed[:20]) + chunk(b"IDAT", b"") + chunk(b"IDAT", packed[20:])


def palette(colours: bytes, transparency: bytes | None, depth: int = 8) -> bytes:
    more = chunk(b"PLTE", colours)
    more += b"" if transparency is None else chunk(b"tRNS", transparency)
    return SIGNATURE + header(colour=3, depth=depth) + more + pixels(bits=depth) + END


def refusal(data: bytes) -> str:
    with pytest.raises(LogoRefused) as refused:
        cleaned(data)
    return refused.value.code


def test_a_plain_picture_stays_as_it_is() -> None:
    assert cleaned(png()) == png()
    assert size(png(120, 40)) == (120, 40)


def test_what_is_not_needed_to_draw_it_is_dropped() -> None:
    secret = b"Rua da Ribeira 1"
    more = b"".join(
        [
            chunk(b"tEXt", b"Comment\0" + secret),
            chunk(b"eXIf", secret),
            chunk(b"iCCP", secret),
            chunk(b"acTL", struct.pack(">II", 2, 0)),
            chunk(b"zzzz", secret),
        ]
    )
    page = b"<script>alert(1)</script>" + b"PK\x03\x04"
    assert cleaned(png(more=more) + page) == png()


@pytest.mark.parametrize(
    "data",
    [
        # Greys, palette with transparency, grey and colours with transparency, interlaced.
        SIGNATURE + header(colour=0, depth=16) + pixels(bits=16) + END,
        SIGNATURE + header(colour=0, depth=1) + chunk(b"tRNS", b"\0\1") + pixels(bits=1) + END,
        SIGNATURE
        + header(colour=3, depth=1)
        + chunk(b"PLTE", b"\0" * 6)
        + chunk(b"tRNS", b"\0")
        + pixels(bits=1)
        + END,
        SIGNATURE + header(colour=4) + pixels(bits=16) + END,
        # Seven passes, and pixels in several chunks.
        SIGNATURE + header(colour=6, rest=b"\0\0\1") + halves(INTERLACED) + END,
        SIGNATURE + header(colour=6, depth=16) + pixels(bits=64) + END,
        # A picture whose rows end within a byte.
        SIGNATURE + header(17, 16, depth=1, colour=0) + idat(b"\0\7\7\x80" * 16) + END,
        SIGNATURE + header(colour=2) + chunk(b"tRNS", b"\0" * 6) + pixels() + END,
        SIGNATURE + header(colour=2) + chunk(b"PLTE", b"\0" * 6) + pixels() + END,
        png(16, 16),
        png(1024, 1024),
    ],
)
def test_every_kind_of_png_is_taken(data: bytes) -> None:
    assert cleaned(data) == data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not-png"),
        (b"\x89PNG", "not-png"),
        (b"GIF89a" + b"\0" * 50, "not-png"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "not-png"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "not-png"),
        (b"<!doctype html>" + png(), "not-png"),
        (b" " + png(), "not-png"),
        (png() + b"\0" * MAX_BYTES, "too-large"),
        (SIGNATURE, "damaged"),
        (SIGNATURE + END, "damaged"),
        (SIGNATURE + header() + END, "damaged"),
        (SIGNATURE + pixels() + header() + END, "damaged"),
        (SIGNATURE + header() + pixels(), "damaged"),
        (SIGNATURE + header() + header() + pixels() + END, "damaged"),
        (SIGNATURE + header() + pixels() + chunk(b"PLTE", b"\0" * 6) + END, "damaged"),
        (
            SIGNATURE
            + header()
            + chunk(b"tRNS", b"\0")
            + chunk(b"PLTE", b"\0" * 3)
            + pixels()
            + END,
            "damaged",
        ),
        (SIGNATURE + header() + pixels() + chunk(b"tRNS", b"\0") + pixels() + END, "damaged"),
        (SIGNATURE + header(colour=3) + pixels() + END, "damaged"),
        (SIGNATURE + header(colour=3) + chunk(b"PLTE", b"\0" * 4) + pixels() + END, "damaged"),
        (SIGNATURE + header() + chunk(b"PLTE", b"\0" * 771) + pixels() + END, "damaged"),
        (SIGNATURE + header(colour=1) + pixels() + END, "damaged"),
        (SIGNATURE + header(colour=2, depth=4) + pixels() + END, "damaged"),
        (SIGNATURE + header(rest=b"\1\0\0") + pixels() + END, "damaged"),
        (SIGNATURE + header(rest=b"\0\1\0") + pixels() + END, "damaged"),
        (SIGNATURE + header(rest=b"\0\0\2") + pixels() + END, "damaged"),
        (SIGNATURE + header(rest=b"\0\0\0\0") + pixels() + END, "damaged"),
        # Nothing travels in a chunk that is needed: at the end, as colours that nobody uses,
        (SIGNATURE + header() + pixels() + chunk(b"IEND", b"PK"), "damaged"),
        (SIGNATURE + header(colour=0) + chunk(b"PLTE", BLACK) + pixels(bits=8) + END, "damaged"),
        (SIGNATURE + header(colour=4) + chunk(b"PLTE", BLACK) + pixels(bits=16) + END, "damaged"),
        (palette(b"\0" * 9, None, depth=1), "damaged"),
        (palette(b"", None, depth=1), "damaged"),
        (palette(BLACK, b"\0\0"), "damaged"),
        (palette(BLACK, b""), "damaged"),
        (SIGNATURE + header() + chunk(b"tRNS", b"\0" * 7) + pixels() + END, "damaged"),
        (SIGNATURE + header() + chunk(b"tRNS", b"\0" * 5) + pixels() + END, "damaged"),
        (SIGNATURE + header(colour=0) + chunk(b"tRNS", b"\0") + pixels(bits=8) + END, "damaged"),
        (
            SIGNATURE + header(colour=6) + chunk(b"tRNS", b"\0" * 6) + pixels(bits=32) + END,
            "damaged",
        ),
        # as pixels that are none, or more or fewer of them than the header says, or behind them.
        (SIGNATURE + header() + chunk(b"IDAT", b"<script>alert(1)</script>") + END, "damaged"),
        (SIGNATURE + header() + pixels(height=33) + END, "damaged"),
        (SIGNATURE + header() + pixels(height=31) + END, "damaged"),
        (SIGNATURE + header() + pixels(width=65) + END, "damaged"),
        (SIGNATURE + header() + idat(ROWS + b"\0") + END, "damaged"),
        (SIGNATURE + header() + idat(ROWS[:-1]) + END, "damaged"),
        (SIGNATURE + header() + chunk(b"IDAT", zlib.compress(ROWS)[:-1]) + END, "damaged"),
        (SIGNATURE + header() + chunk(b"IDAT", zlib.compress(ROWS) + b"PK") + END, "damaged"),
        (SIGNATURE + header() + pixels() + chunk(b"IDAT", b"PK") + END, "damaged"),
        (SIGNATURE + header() + idat(b"\0" * 50_000_000) + END, "damaged"),
        (SIGNATURE + header(rest=b"\0\0\1") + pixels() + END, "damaged"),
        # A filter that there is not: the fifth, in the last row.
        (SIGNATURE + header() + idat(ROWS[:-193] + b"\5" + ROWS[:192]) + END, "damaged"),
        (SIGNATURE + header() + chunk(b"IDAT", b"x", checksum=0) + END, "damaged"),
        (SIGNATURE + struct.pack(">I", 2**32 - 1) + b"IHDR" + b"\0" * 64, "damaged"),
        # A few bytes that would become gigabytes in memory.
        (SIGNATURE + header(65_535, 65_535) + pixels() + END, "too-wide"),
        (SIGNATURE + header(2**31 - 1, 16) + pixels() + END, "too-wide"),
        (png(1025, 16), "too-wide"),
        (png(16, 1025), "too-wide"),
        (SIGNATURE + header(0, 0) + pixels() + END, "too-small"),
        (png(15, 16), "too-small"),
    ],
)
def test_what_is_refused(data: bytes, code: str) -> None:
    assert refusal(data) == code


def test_no_picture_is_larger_than_what_is_kept() -> None:
    whole = SIGNATURE + header(140, 140) + pixels(140, 140, level=0) + END
    assert MAX_BYTES - 8 * 1024 < len(whole) <= MAX_BYTES
    assert cleaned(whole) == whole
    larger = SIGNATURE + header(160, 160) + pixels(160, 160, level=0) + END
    assert refusal(larger) == "too-large"


@given(st.binary(max_size=400))
def test_no_bytes_are_a_crash(tail: bytes) -> None:
    for data in (tail, SIGNATURE + tail, SIGNATURE + header() + tail):
        try:
            assert cleaned(data).startswith(SIGNATURE)
        except LogoRefused:
            continue


@given(st.integers(0, len(png()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_dropped(place: int, change: int) -> None:
    data = bytearray(png(more=chunk(b"tEXt", b"x")))
    place = min(place, len(data) - 1)
    data[place] ^= change
    try:
        found = cleaned(bytes(data))
    except LogoRefused:
        return
    assert found == png()


def test_cleaning_is_done_once() -> None:
    data = cleaned(png(more=chunk(b"tEXt", b"x" * 100)))
    assert cleaned(data) == data
    assert zlib.crc32(data) == zlib.crc32(png())
