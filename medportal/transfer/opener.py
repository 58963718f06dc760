"""Who makes one-use keys for a receiver, opens what is sealed to them and reads what is in it.

That is more than half of what a record costs a receiver, and the part in which it reads what
others wrote. So it is done in processes of their own, which hold nothing else worth having; the
service itself keeps to connections, questions and commits. With none of them, as on a machine
with one core, a thread of the service does the same.
"""

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from medportal.transfer import opener_wire as wire
from medportal.transfer.desk import Desk, KeyGone
from medportal.transfer.errors import TransferError
from medportal.transfer.payload import Contents, Introduction, Sealed

log = structlog.get_logger()

Delivery = tuple["Key", Sealed]
"""What came, and the key of its offer."""

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds before an opener that ended is started again."""

BEGIN_WITHIN = 20.0
"""Seconds for which the receiver waits for its openers before it listens."""

PATIENCE = 60.0
"""Seconds of silence after which an opener that owes an answer is ended."""

AT_ONCE = 4
"""How many deliveries the thread opens before others have their turn."""

_CHUNK = 1 << 18
_FROM_OUR_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
"""What an opener is told of our environment: nothing of where passphrases are."""


@dataclass(frozen=True, slots=True)
class Key:
    """A one-use key whose private half an opener holds under a number."""

    number: int
    public: bytes = field(repr=False)


class Opener(Protocol):
    """See the module. A client is a connection, by the number that :class:`Openers` gave it."""

    def begin(self, client: int, intro: Introduction) -> None:
        """Take up a connection."""

    def end(self, client: int) -> None:
        """Forget a connection and its keys."""

    async def make(self, client: int, count: int) -> Sequence[Key]:
        """Return new keys. Raises ``KeyGone`` if none can be had now."""

    async def open(
        self, client: int, deliveries: Sequence[Delivery]
    ) -> Sequence[Contents | TransferError]:
        """Return what was in each, or its error; ``KeyGone`` where it has to be asked for anew."""


class Thread:
    """An opener that is a thread of this process."""

    def __init__(self, desk: Desk) -> None:
        """Work with a desk that nobody else works with."""
        self._desk, self._turn = desk, asyncio.Lock()

    def begin(self, client: int, intro: Introduction) -> None:
        """As :class:`Opener` says."""
        self._desk.begin(client, intro)

    def end(self, client: int) -> None:
        """As :class:`Opener` says."""
        self._desk.end(client)

    async def make(self, client: int, count: int) -> Sequence[Key]:
        """As :class:`Opener` says."""
        async with self._turn:
            made = await asyncio.to_thread(self._desk.make, client, count)
        return [Key(*each) for each in made]

    async def open(
        self, client: int, deliveries: Sequence[Delivery]
    ) -> Sequence[Contents | TransferError]:
        """As :class:`Opener` says."""
        found: list[Contents | TransferError] = []
        for start in range(0, len(deliveries), AT_ONCE):
            async with self._turn:
                some = deliveries[start : start + AT_ONCE]
                found += await asyncio.to_thread(self._open, client, some)
        return found

    def _open(
        self, client: int, deliveries: Sequence[Delivery]
    ) -> Sequence[Contents | TransferError]:
        found: list[Contents | TransferError] = []
        for key, delivered in deliveries:
            try:
                found.append(self._desk.open(client, key.number, delivered))
            except TransferError as error:
                found.append(error)
        return found

    async def forget_old(self) -> None:
        """Forget keys whose offers have run out, until cancelled."""
        while True:
            await asyncio.sleep(1)
            async with self._turn:
                self._desk.forget_old()


class Child:
    """An opener that is a process; started again if it ends."""

    def __init__(self, directory: Path, offer_ttl: float) -> None:
        """Prepare; ``directory`` holds the partners' descriptors. :meth:`run` starts it."""
        # Not from the directory in which somebody happens to stand: -P.
        program = (sys.executable, "-P", "-m", "medportal.transfer.opener_process")
        self._command = (*program, str(directory), str(offer_ttl))
        self._clients: set[int] = set()
        self._intros: dict[int, Introduction] = {}
        self._heard = 0.0
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self.spawned, self.tried = asyncio.Event(), asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process, while there is one."""
        return self._process.pid if self._process else None

    @property
    def clients(self) -> int:
        """How many connections it works for, or will when they have shaken hands."""
        return len(self._clients)

    def expect(self, client: int) -> None:
        """Count a connection in that may begin."""
        self._clients.add(client)

    def begin(self, client: int, intro: Introduction) -> None:
        """As :class:`Opener` says."""
        self._intros[client] = intro
        self._tell(wire.Begin(client, intro))

    def end(self, client: int) -> None:
        """As :class:`Opener` says."""
        self._clients.discard(client)
        self._intros.pop(client, None)
        self._tell(wire.End(client))

    async def make(self, client: int, count: int) -> Sequence[Key]:
        """As :class:`Opener` says."""
        (number,) = self._take_numbers(1)
        (reply,) = await self._ask([number], [wire.Make(number, client, count)])
        if not isinstance(reply, wire.Made) or len(reply.keys) != count:
            raise KeyGone
        return [Key(*each) for each in reply.keys]

    async def open(
        self, client: int, deliveries: Sequence[Delivery]
    ) -> Sequence[Contents | TransferError]:
        """As :class:`Opener` says."""
        numbers = self._take_numbers(len(deliveries))
        requests = [
            wire.Open(number, client, key.number, sealed)
            for number, (key, sealed) in zip(numbers, deliveries, strict=True)
        ]
        return [_outcome(each) for each in await self._ask(numbers, requests)]

    def _take_numbers(self, count: int) -> list[int]:
        return [next(self._numbers) for _ in range(count)]

    async def _ask(
        self, numbers: Sequence[int], requests: Sequence[wire.Request]
    ) -> list[wire.Reply]:
        """Say requests, and return the replies in their order; ``KeyGone`` if it ends meanwhile."""
        process = self._process
        if process is None or process.stdin is None:
            raise KeyGone
        asked = _Asked(numbers)
        self._asked |= dict.fromkeys(numbers, asked)
        try:
            process.stdin.writelines(map(wire.encode_request, requests))
            await self._patiently(asked, process)
        finally:
            for number in numbers:
                self._asked.pop(number, None)
            asked.done.cancel()
        if asked.missing:
            raise KeyGone
        return [asked.replies[number] for number in numbers]

    async def _patiently(self, asked: "_Asked", process: asyncio.subprocess.Process) -> None:
        """Wait for the replies, or for the opener's end; it is ended if it is silent for long."""
        clock = asyncio.get_running_loop().time
        since = clock()
        while not asked.done.done():
            await asyncio.wait([asked.done], timeout=PATIENCE / 4)
            silence = clock() - max(since, self._heard)
            if not asked.done.done() and silence >= PATIENCE:
                log.error("an opener does not answer")
                _kill(process)
                return

    def _tell(self, request: wire.Request) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(wire.encode_request(request))

    async def run(self) -> None:
        """Keep the process alive until cancelled; then end it."""
        wait, clock = FIRST_WAIT, asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                log.error("an opener ended", status=await self._live())
            except Exception as error:
                # Whatever it is: without openers the receiver takes nothing.
                log.error("an opener cannot be used", kind=type(error).__name__)
            self.tried.set()
            wait = FIRST_WAIT if clock() - began > LONGEST_WAIT else min(2 * wait, LONGEST_WAIT)
            await asyncio.sleep(wait)

    async def _live(self) -> int:
        """Run the process to its end; return its status."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(os.environ),
            # A terminal's Ctrl-C is for the receiver, which ends this in its time.
            start_new_session=True,
        )
        self._process = process
        self.spawned.set()
        try:
            for client, intro in self._intros.items():
                self._tell(wire.Begin(client, intro))
            await self._listen(process)
        finally:
            self._process = None
            for each in self._asked.values():
                each.give_up()
            _kill(process)
            status = await process.wait()
        return status

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        frames = wire.frames()
        while data := await process.stdout.read(_CHUNK):
            self._heard = asyncio.get_running_loop().time()
            self.tried.set()
            for body in frames.feed(data):
                reply = wire.decode_reply(body)
                asked = self._asked.get(reply.request)
                if asked is not None:
                    asked.take(reply)


class _Asked:
    """What was asked of an opener in one go."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.replies: dict[int, wire.Reply] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.missing = set(numbers)

    def take(self, reply: wire.Reply) -> None:
        self.replies[reply.request] = reply
        self.missing.discard(reply.request)
        if not self.missing:
            self.give_up()

    def give_up(self) -> None:
        """No more replies come, be it that all are there."""
        if not self.done.done():
            self.done.set_result(None)


def _outcome(reply: wire.Reply) -> Contents | TransferError:
    match reply:
        case wire.Read(_, contents):
            return contents
        case wire.Failed(_, code, _) if code is not None:
            return TransferError(code)
        case wire.Failed(_, _, kind) if kind:
            log.error("delivery cannot be read", kind=kind)
    return KeyGone()


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    # It finds the program where this process did, whatever made it look there.
    places = os.pathsep.join(place for place in sys.path if place)
    return {name: ours[name] for name in _FROM_OUR_ENVIRONMENT if name in ours} | {
        "PYTHONPATH": places
    }


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Openers:
    """The openers of a receiver; each connection has one of them, to its end."""

    def __init__(
        self, count: int, directory: Path, offer_ttl: float, desk: Callable[[], Desk]
    ) -> None:
        """Prepare ``count`` processes, or with none the thread that works with ``desk``."""
        self.children = [Child(directory, offer_ttl) for _ in range(count)]
        self._desk = desk
        self._clients = itertools.count(1)
        self._thread: Thread | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start them; end them afterwards."""
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(child.run()) for child in self.children
        ]
        try:
            if not await self._have_begun():
                await _end(tasks)
                self._thread = Thread(self._desk())
                tasks = [asyncio.create_task(self._thread.forget_old())]
            yield
        finally:
            await _end(tasks)

    async def _have_begun(self) -> bool:
        """Wait until the processes answer; tell whether they are what is to be used.

        Where none may be started, as in a sandbox, or where one ends before it has said a word, a
        thread does the work. One that is slow is waited for no longer than it takes to ask it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_WITHIN):
                await asyncio.gather(*(child.tried.wait() for child in self.children))
        if self.children and not any(child.pid for child in self.children):
            log.error("no opener can be started: a thread of the receiver does their work")
        return any(child.pid for child in self.children)

    def for_client(self) -> tuple[int, Opener]:
        """Return a number for a connection, and the opener that has least to do."""
        client = next(self._clients)
        if self._thread is not None:
            return client, self._thread
        child = min(self.children, key=lambda each: each.clients)
        child.expect(client)
        return client, child
