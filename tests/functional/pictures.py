"""PNG pictures, good ones and bad ones, made here chunk by chunk."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """Return a chunk, with a checksum that may be a wrong one."""
    found = zlib.crc32(name + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", found)


def header(
    width: int = 64, height: int = 32, depth: int = 8, colour: int = 2, rest: bytes = b"\0\0\0"
) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBB", width, height, depth, colour) + rest)


def pixels(
    width: int = 64, height: int = 32, value: int = 0x7F, *, bits: int = 24, level: int = 6
) -> bytes:
    """Return rows of one value, each without a filter; ``bits`` are those of a pixel."""
    row = b"\0" + bytes([value]) * (width * bits // 8)
    return chunk(b"IDAT", zlib.compress(row * height, level))


END = chunk(b"IEND", b"")


def png(width: int = 64, height: int = 32, value: int = 0x7F, *, more: bytes = b"") -> bytes:
    """Return a picture of one grey; ``more`` are chunks between header and pixels."""
    return SIGNATURE + header(width, height) + more + pixels(width, height, value) + END
