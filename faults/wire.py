"""Between the cables: where every byte of the exchange passes, and its middle can be hit.

The runner stands in the way as a plain relay of TCP. TLS hides what is said, but not how long it
is: what one side sends at once is a TLS record of its own (RFC 8446, section 5.2), and who speaks
and how long tells a question, an offer, a record and a receipt apart. Several small frames sent at
once look like a longer one; what a trap hit is then the like of what it is named after. A trap
waits for the n-th of a kind, and springs before it, in its middle, or after it was passed on.
From whose address a connection comes, and at which door, tells which way it goes.
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum

from faults.cast import Way
from faults.world import Address

_HEADER = 5
_APPLICATION_DATA = 23
_CONNECT_SECONDS = 3.0
#: Records of application data with which the sender proves itself: certificate, proof and end of
#: TLS's handshake, then HELLO and PROOF.
_PROVING = 5
#: Lengths of records, in bytes: below the first nothing but a PING, a BYE, an UNKNOWN; one receipt
#: is shorter than the second, one offer longer; what is delivered on an offer is above the third.
_SMALL, _RECEIPT, _DELIVERED = 120, 1_400, 1_500


class Kind(StrEnum):
    """What a frame is taken for, by who speaks and how long it is."""

    HANDSHAKE = "handshake"
    QUERY = "query"
    OFFER = "offer"
    DELIVER = "deliver"
    RECEIPT = "receipt"
    OTHER = "other"


class Moment(StrEnum):
    """When a trap springs: instead of passing the frame on, in its middle, or after it."""

    BEFORE = "before"
    MIDDLE = "middle"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Door:
    """Where an institution is called, and where it listens."""

    house: str
    listen: Address
    to: Address


@dataclass
class Trap:
    """Springs at the n-th frame of a kind on its way; ``act`` is done then, or a little later.

    The connection is cut then, unless the frame was passed on whole: the far side has it to work
    on, and ``late``, in seconds, lets it begin to; it answers if it lives.
    """

    way: Way
    kind: Kind
    nth: int
    moment: Moment
    act: Callable[[], None]
    late: float = 0.0
    sprung: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Talk:
    """One connection, as far as lengths tell."""

    proving: int = 0
    is_asked: bool = False
    has_asked: bool = False
    has_offered: bool = False

    def of_sender(self, length: int) -> Kind:
        self.proving += 1
        if self.proving <= _PROVING:
            return Kind.HANDSHAKE
        if length < _SMALL:
            return Kind.OTHER
        if self.has_offered and length > _DELIVERED:
            return Kind.DELIVER
        self.is_asked = self.has_asked = True
        return Kind.QUERY

    def of_receiver(self, length: int) -> Kind:
        if not self.has_asked:
            return Kind.HANDSHAKE
        if length < _SMALL:
            return Kind.OTHER
        # Where nothing was asked, several receipts were sent at once.
        if length < _RECEIPT or not self.is_asked:
            return Kind.RECEIPT
        self.is_asked, self.has_offered = False, True
        return Kind.OFFER


class _Cut(Exception):
    """A trap cut the connection."""


class Wire:
    """The relay, in a thread of its own. ``callers`` says which institution an address is of."""

    def __init__(self, doors: Sequence[Door], callers: Mapping[str, str]) -> None:
        self._doors, self._callers = doors, callers
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._open: dict[asyncio.StreamWriter, Way] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._trap: Trap | None = None
        self._lock = threading.Lock()
        #: Seconds that every piece waits here.
        self.delay = 0.0
        self.connections: Counter[Way] = Counter()
        self.frames: Counter[str] = Counter()

    def __enter__(self) -> "Wire":
        """Begin to listen. Raises ``OSError``."""
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(self, *_: object) -> None:
        loop, stop = self._ready.result()
        loop.call_soon_threadsafe(stop.set)
        self._thread.join()

    async def _run(self) -> None:
        stop = asyncio.Event()
        try:
            servers = [await self._listen(door) for door in self._doors]
        except OSError as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        for server in servers:
            server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        # What was aborted is closed in the loop's next turn.
        await asyncio.sleep(0)

    async def _listen(self, door: Door) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Who has hung up already has no address.
            peer = writer.get_extra_info("peername") or ("",)
            task = asyncio.current_task()
            if task is None or peer[0] not in self._callers:
                writer.transport.abort()
                return
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            try:
                await self._serve(reader, writer, door.to, Way(self._callers[peer[0]], door.house))
            except asyncio.CancelledError:
                writer.transport.abort()
                raise

        return await asyncio.start_server(serve, *door.listen)

    def set(self, trap: Trap | None) -> None:
        """Set a trap; there is one at a time."""
        with self._lock:
            self._trap = trap

    def cut(self, way: Way) -> None:
        """Reset every connection that goes this way."""
        loop, _stop = self._ready.result()
        loop.call_soon_threadsafe(self._abort, way)

    def _abort(self, way: Way) -> None:
        for writer, its in self._open.items():
            if its == way:
                writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: Address, way: Way
    ) -> None:
        self.connections[way] += 1
        try:
            connecting = asyncio.open_connection(*to)
            far, back = await asyncio.wait_for(connecting, _CONNECT_SECONDS)
        except OSError:  # TimeoutError is one
            writer.transport.abort()
            return
        both = {writer, back}
        for one in both:
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open |= dict.fromkeys(both, way)
        talk = _Talk()
        try:
            await asyncio.gather(
                self._relay(reader, back, way, talk.of_sender),
                self._relay(far, writer, way, talk.of_receiver),
            )
        except (OSError, _Cut):
            for one in both:
                one.transport.abort()
        finally:
            for one in both:
                del self._open[one]
                one.close()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Way,
        kind_of: Callable[[int], Kind],
    ) -> None:
        while True:
            try:
                header = await reader.readexactly(_HEADER)
                piece = header + await reader.readexactly(int.from_bytes(header[3:], "big"))
            except asyncio.IncompleteReadError as end:
                writer.write(end.partial)
                writer.write_eof()
                return
            is_data = header[0] == _APPLICATION_DATA
            kind = kind_of(len(piece)) if is_data else Kind.HANDSHAKE
            self.frames[kind] += 1
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._pass(piece, writer, self._due(way, kind))

    async def _pass(self, piece: bytes, writer: asyncio.StreamWriter, trap: Trap | None) -> None:
        if trap is None:
            writer.write(piece)
            await writer.drain()
            return
        part = {Moment.BEFORE: 0, Moment.MIDDLE: len(piece) // 2, Moment.AFTER: len(piece)}
        writer.write(piece[: part[trap.moment]])
        await writer.drain()
        await asyncio.sleep(trap.late)
        trap.act()
        trap.sprung.set()
        if trap.moment is not Moment.AFTER:
            raise _Cut

    def _due(self, way: Way, kind: Kind) -> Trap | None:
        with self._lock:
            trap = self._trap
            if trap is None or (trap.way, trap.kind) != (way, kind):
                return None
            trap.nth -= 1
            if trap.nth > 0:
                return None
            self._trap = None
            return trap
