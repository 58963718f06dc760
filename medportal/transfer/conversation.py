"""One connection at work: bytes in, steps of a session, effects out.

A single task steps the session, so events of one connection never overlap. Whoever performs an
effect (a lookup, a commit) does so elsewhere and posts an event when it is done.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import structlog

from medportal.core.clock import utcnow
from medportal.transfer.errors import ChannelError, FrameError
from medportal.transfer.events import (
    Abort,
    Close,
    Effect,
    Established,
    Event,
    Instant,
    Lost,
    Opened,
    Received,
    Send,
    Tick,
)
from medportal.transfer.framing import MAX_FRAME, FrameBuffer, encode_frame
from medportal.transfer.ports import Channel
from medportal.transfer.protocol import arrived
from medportal.transfer.tls import TlsStream

log = structlog.get_logger()

S = TypeVar("S")
HANDSHAKE_FRAME = 256 * 1024
"""Greatest frame in bytes before both sides have proved themselves."""

FRAMES_WAITING, BYTES_WAITING = 64, 1 << 20
"""How many frames of a peer, and of how many bytes together, may wait to be worked on.

Beyond either, TCP makes the peer wait. One frame may be there whatever its length.
"""

EVENTS_AT_ONCE = 64
"""After how many events what they say is sent, so that what waits to be sent is bounded too."""

TICK = 0.5
SEND_WITHIN = 30.0
"""Seconds; a peer that takes nothing for so long is given up."""

HANG_UP_WITHIN = 2.0


def instant() -> Instant:
    """Return now, on both clocks."""
    return Instant(utcnow(), asyncio.get_running_loop().time())


class Conversation(Generic[S]):
    """Steps one session. ``perform`` gets every effect other than sending; it must not wait."""

    def __init__(
        self,
        stream: TlsStream,
        session: S,
        step: Callable[[S, Event, Instant], tuple[S, list[Effect]]],
        perform: Callable[[Effect], None],
    ) -> None:
        """Take over a stream whose TLS handshake is done."""
        self.session = session
        self.close: Close | None = None
        self._stream, self._step, self._perform = stream, step, perform
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._frames = FrameBuffer(HANDSHAKE_FRAME)
        self._backlog = Backlog()
        self._is_broken = False

    def post(self, event: Event) -> None:
        """Give the session an event; in order, and never refused."""
        self._events.put_nowait(event)

    async def run(self, channel: Channel, check: Callable[[], Event | None]) -> Close:
        """Work until the session closes; ``check`` is asked at every tick for an event."""
        self.post(Opened(channel))
        helpers = [asyncio.create_task(self._read()), asyncio.create_task(self._tick(check))]
        try:
            while self.close is None:
                await self._some(await self._events.get())
            return self.close
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._hang_up()

    async def _hang_up(self) -> None:
        try:
            await asyncio.wait_for(self._stream.close(), HANG_UP_WITHIN)
        except TimeoutError:
            self._stream.abort()

    async def _some(self, event: Event) -> None:
        """Work on an event and on those that wait behind it; then send, all in one go.

        Whatever is performed before the sending is work that ends in a later event.
        """
        now = instant()
        bodies = self._one(event, now)
        for _ in range(EVENTS_AT_ONCE):
            if self.close is not None or self._events.empty():
                break
            bodies += self._one(self._events.get_nowait(), now)
        await self._send(bodies)

    def _one(self, event: Event, now: Instant) -> list[bytes]:
        """Step the session and perform what comes of it; return what is to be sent."""
        self.session, effects = self._step(self.session, event, now)
        if isinstance(event, Received):
            self._backlog.took(event.raw)
        for effect in effects:
            if isinstance(effect, Close):
                self.close = effect
            elif isinstance(effect, Established):
                self._frames.limit = MAX_FRAME
            if not isinstance(effect, Send):
                self._perform(effect)
        return [effect.body for effect in effects if isinstance(effect, Send)]

    async def _send(self, bodies: list[bytes]) -> None:
        # What waits in the queue is worked on; a socket that broke is written to no more.
        if not bodies or self._is_broken:
            return
        data = b"".join(map(encode_frame, bodies))
        try:
            await asyncio.wait_for(self._stream.send(data), SEND_WITHIN)
        except (ChannelError, TimeoutError):
            self._is_broken = True
            self.post(Lost())

    async def _read(self) -> None:
        try:
            while data := await self._stream.receive():
                for body in self._frames.feed(data):
                    await self._backlog.put(body)
                    self.post(arrived(body))
            self._frames.finish()
            self.post(Lost())
        except FrameError as error:
            self.post(Abort(error.code))
        except ChannelError as error:
            log.info("connection broke", code=error.code)
            self.post(Lost())

    async def _tick(self, check: Callable[[], Event | None]) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.post(check() or Tick())


class Backlog:
    """What came of a peer and was not worked on yet, bounded in frames and in bytes."""

    def __init__(self) -> None:
        """Begin empty."""
        self._frames = self._bytes = 0
        self._room = asyncio.Event()

    async def put(self, body: bytes) -> None:
        """Count a frame in, once there is room for it."""
        while self._frames and (
            self._frames >= FRAMES_WAITING or self._bytes + len(body) > BYTES_WAITING
        ):
            self._room.clear()
            await self._room.wait()
        self._frames += 1
        self._bytes += len(body)

    def took(self, body: bytes) -> None:
        """Count a frame out."""
        self._frames -= 1
        self._bytes -= len(body)
        self._room.set()


class Work:
    """Background tasks of one connection or service; an error in one is told, never lost."""

    def __init__(self) -> None:
        """Start with none."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Any, failed: Callable[[], None] | None = None) -> None:
        """Run a coroutine; if it raises, log the kind of error and call ``failed``."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, failed))

    def _ended(self, task: asyncio.Task[Any], failed: Callable[[], None] | None) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The kind only: a driver's message can quote the values of a statement.
            log.error("work failed", kind=type(error).__name__)
            if failed:
                failed()

    async def finish(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self) -> None:
        """Cancel what is under way and wait for it to end."""
        for task in self._tasks:
            task.cancel()
        await self.finish()
