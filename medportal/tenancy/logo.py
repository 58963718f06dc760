"""An institution's mark as a PNG (PURE): taken apart, checked, and put together anew.

No pixel is interpreted: what a browser is sent is the picture's own chunks, each with the right
checksum and of exactly the length that the header makes it, and nothing else. Whatever else a
file may carry (texts, places where a photograph was taken, a page or a program behind its end or
behind the pixels) does not get through.

Source: PNG specification, third edition (W3C), sections 5, 7 to 9, 11.2 and 11.3.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAX_BYTES = 64 * 1024
MAX_PIXELS = 1024
MIN_PIXELS = 16
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Header, palette, transparency, picture, end: all that it takes to draw one.
_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_HEADER = struct.Struct(">IIBBBBB")
#: Colour type -> bit depths (table 11.1).
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
#: Colour type -> samples of one pixel (section 7.2).
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_GREY, _TRUE_COLOUR, _PALETTE = 0, 2, 3
#: Where a palette may be: as the picture's colours, or as a suggestion (section 11.2.2).
_WITH_PALETTE = frozenset({2, 3, 6})
_MOST_COLOURS = 256
#: Colour type -> bytes of the one transparent colour (section 11.3.1.1).
_TRANSPARENT = {_GREY: 2, _TRUE_COLOUR: 6}
#: The seven passes of an interlaced picture: first column and row, steps (section 8.2).
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_LAST_FILTER = 4


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    def passes(self) -> list[tuple[int, int]]:
        """Return rows, and bytes of a row with its filter, of each pass that has pixels."""
        sizes = [(self.width, self.height)]
        if self.interlaced:
            sizes = [
                (-(-(self.width - left) // right), -(-(self.height - top) // down))
                for left, top, right, down in _PASSES
            ]
        bits = self.depth * _SAMPLES[self.colour]
        return [(high, 1 + -(-wide * bits // 8)) for wide, high in sizes if wide and high]


class LogoRefused(ValueError):
    """A picture that is not taken. ``code``: too-large, not-png, damaged, too-wide, too-small."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


def cleaned(data: bytes) -> bytes:
    """Return the same picture without anything that is not needed to draw it.

    Raises ``LogoRefused`` for what is no PNG of a size that a page can show.
    """
    if len(data) > MAX_BYTES:
        raise LogoRefused("too-large")
    if not data.startswith(_SIGNATURE):
        raise LogoRefused("not-png")
    chunks = [(name, body) for name, body in _chunks(data) if name in _KEPT]
    _check_order([name for name, _body in chunks])
    header = _read_header(chunks[0][1])
    bodies = dict(chunks)
    _check_colours(header, bodies.get(b"PLTE"), bodies.get(b"tRNS"))
    _require(not bodies[b"IEND"])
    _check_pixels(header, b"".join(body for name, body in chunks if name == b"IDAT"))
    return _SIGNATURE + b"".join(_chunk(name, body) for name, body in chunks)


def size(data: bytes) -> tuple[int, int]:
    """Return width and height, in pixels, of a cleaned picture."""
    width, height, *_rest = _HEADER.unpack_from(data, len(_SIGNATURE) + 8)
    return width, height


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give name and body of each chunk up to the end; what stands behind it is nobody's."""
    place, name = len(_SIGNATURE), b""
    while name != b"IEND":
        if len(data) - place < 12:
            raise LogoRefused("damaged")
        (length,) = struct.unpack_from(">I", data, place)
        whole = data[place + 4 : place + 12 + length]
        name, body, checksum = whole[:4], whole[4:-4], whole[-4:]
        if len(whole) != length + 8 or zlib.crc32(name + body) != int.from_bytes(checksum, "big"):
            raise LogoRefused("damaged")
        yield name, body
        place += 12 + length


def _check_order(names: list[bytes]) -> None:
    """Raise ``LogoRefused`` unless each chunk comes where the specification has it (5.6)."""
    pictures = [place for place, name in enumerate(names) if name == b"IDAT"]
    once = all(names.count(name) <= 1 for name in _KEPT - {b"IDAT"})
    if not pictures or not once or names[0] != b"IHDR":
        raise LogoRefused("damaged")
    together = pictures[-1] - pictures[0] == len(pictures) - 1
    before = names[1 : pictures[0]]
    behind = names[pictures[-1] + 1 :]
    if (
        not together
        or behind != [b"IEND"]
        or before
        not in (
            [],
            [b"PLTE"],
            [b"tRNS"],
            [b"PLTE", b"tRNS"],
        )
    ):
        raise LogoRefused("damaged")


def _read_header(body: bytes) -> _Header:
    _require(len(body) == _HEADER.size)
    width, height, depth, colour, compression, filtering, interlace = _HEADER.unpack(body)
    _require(depth in _DEPTHS.get(colour, ()))
    _require(not compression and not filtering and interlace <= 1)
    if max(width, height) > MAX_PIXELS:
        raise LogoRefused("too-wide")
    if min(width, height) < MIN_PIXELS:
        raise LogoRefused("too-small")
    return _Header(width, height, depth, colour, bool(interlace))


def _check_colours(header: _Header, palette: bytes | None, transparency: bytes | None) -> None:
    """A palette is there where it is used, and neither list is longer than what it is of."""
    uses_palette = header.colour == _PALETTE
    most = 2**header.depth if uses_palette else _MOST_COLOURS
    if palette is None:
        _require(not uses_palette)
    else:
        _require(header.colour in _WITH_PALETTE)
        _require(3 <= len(palette) <= 3 * most and len(palette) % 3 == 0)
    if transparency is None:
        return
    if uses_palette:
        _require(1 <= len(transparency) <= len(palette or b"") // 3)
    else:
        _require(len(transparency) == _TRANSPARENT.get(header.colour))


def _check_pixels(header: _Header, packed: bytes) -> None:
    """Require rows of exactly the size that the header says, each with a filter there is."""
    passes = header.passes()
    expected = sum(rows * length for rows, length in passes)
    unpacking = zlib.decompressobj()
    try:
        # One byte more shows a picture that has more, however much that may be.
        pixels = unpacking.decompress(packed, expected + 1)
    except zlib.error as error:
        raise LogoRefused("damaged") from error
    _require(len(pixels) == expected and unpacking.eof and not unpacking.unused_data)
    place = 0
    for rows, length in passes:
        behind = place + rows * length
        _require(max(pixels[place:behind:length]) <= _LAST_FILTER)
        place = behind


def _require(is_so: bool) -> None:
    if not is_so:
        raise LogoRefused("damaged")


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)
