"""What a conversation does on a connection that broke while events are waiting."""

import asyncio
from collections import Counter

from medportal.transfer.conversation import Conversation
from medportal.transfer.errors import ChannelError, Code
from medportal.transfer.events import Close, Lost, Send, Tick
from medportal.transfer.ports import Channel


class BrokenStream:
    """A stream whose peer is gone: what is sent is refused, and nothing comes."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def send(self, data: bytes) -> None:
        self.calls["send"] += 1
        raise ChannelError(Code.TLS, "socket")

    async def receive(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def close(self) -> None:
        self.calls["close"] += 1

    def abort(self) -> None:
        self.calls["abort"] += 1


def step(session, event, _now):
    """Answer everything with a message; end when the connection is lost."""
    seen = [*session, type(event)]
    return seen, [Close("lost")] if isinstance(event, Lost) else [Send(b"x")]


def test_nothing_more_is_written_once_it_broke_and_what_came_is_still_worked_on():
    """asyncio writes a line of its own, no JSON, to the log for each write after the first few."""

    async def run() -> tuple[BrokenStream, list[type]]:
        stream = BrokenStream()
        talk = Conversation(stream, [], step, lambda _effect: None)
        for _ in range(20):
            talk.post(Tick())
        close = await talk.run(Channel(b"", b"", b"", "", ()), lambda: None)
        assert close == Close("lost")
        return stream, talk.session

    stream, seen = asyncio.run(run())
    assert stream.calls == {"send": 1, "close": 1}
    assert seen.count(Tick) == 20 and seen[-1] is Lost
