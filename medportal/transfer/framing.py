"""Frames: four bytes of length, big endian, then that many bytes (PURE).

The length is checked before a byte of the body is kept, so a peer cannot make this side
hold more than one frame's worth of promises.
"""

from collections.abc import Iterator

from medportal.transfer.errors import Code, FrameError

MAX_FRAME = 1 << 20
"""Greatest length of a body in bytes: 1 MiB."""

HEADER = 4


def encode_frame(body: bytes, limit: int = MAX_FRAME) -> bytes:
    """Return ``body`` as one frame. Raises ``FrameError`` if it is empty or too long."""
    _check_length(len(body), limit)
    return len(body).to_bytes(HEADER, "big") + body


def _check_length(length: int, limit: int) -> None:
    if length == 0:
        raise FrameError(Code.MALFORMED, "an empty frame")
    if length > limit:
        raise FrameError(Code.FRAME_TOO_LONG)


class FrameBuffer:
    """Bytes as they come from the wire, cut into the bodies of frames."""

    __slots__ = ("_data", "limit")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._data = bytearray()
        self.limit = limit

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes and yield every body that is complete now.

        Raises ``FrameError`` as soon as a header announces too much or nothing.
        """
        self._data += data
        while (body := self._take()) is not None:
            yield body

    def _take(self) -> bytes | None:
        if len(self._data) < HEADER:
            return None
        length = int.from_bytes(self._data[:HEADER], "big")
        _check_length(length, self.limit)
        if len(self._data) < HEADER + length:
            return None
        body = bytes(self._data[HEADER : HEADER + length])
        del self._data[: HEADER + length]
        return body

    def finish(self) -> None:
        """Say that no more bytes come. Raises ``FrameError`` if a frame was cut off."""
        if self._data:
            raise FrameError(Code.TRUNCATED)
