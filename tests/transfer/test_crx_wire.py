"""The wire itself: bytes changed on their way, frames that are none, peers that never end."""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from crx_attackers import (
    LIMITS,
    Plan,
    Trio,
    answers,
    asked,
    codes,
    connected,
    direct,
    error_of,
    hand,
    is_delivered,
    receiving,
    run,
    sending,
    until,
    wire,
)
from crx_institutions import House

from medportal.core import canonical
from medportal.transfer import events as ev
from medportal.transfer.errors import ChannelError, Code
from medportal.transfer.framing import MAX_FRAME, encode_frame
from medportal.transfer.messages import Bye, Ping, encode


async def good_partner(partner: House, hospital: House, port: int, count: int = 1) -> None:
    """Let an honest partner send records to the receiver that is attacked."""
    direct(partner, hospital, port)
    tids = partner.queue("hospital", count=count)
    async with sending(partner):
        await until(lambda: all(partner.outbox()[tid].state == "delivered" for tid in tids))


# TCP: whoever is on the way sees and changes TLS records.


def flip(record: bytes, place: int) -> bytes:
    body = bytearray(record)
    body[place % len(body)] ^= 1
    return bytes(body)


Harm = Callable[[bytes], list[bytes] | None]

HARMS: dict[str, Harm] = {
    "a bit of the content": lambda record: [flip(record, len(record) // 2)],
    "a bit of the last byte": lambda record: [flip(record, len(record) - 1)],
    "a bit of the kind of record": lambda record: [flip(record, 0)],
    "twice": lambda record: [record, record],
    "cut off within": lambda record: [record[: len(record) // 2]],
    "cut off before": lambda record: None,
    "something before it": lambda record: [b"\x17\x03\x03\x00\x20" + bytes(32), record],
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_wire_that_harms_any_record_ends_the_connection_and_loses_nothing(
    trio: Trio, harm: str
) -> None:
    """One record of each direction and each place, a connection each; then the wire is sound."""
    hospital, laboratory, _clinic = trio.houses
    places = [(side, number) for number in (0, 1, 2, 3, 5) for side in ("S", "R")]
    tids = laboratory.queue("hospital", count=5)
    done: list[tuple[str, int]] = []

    def plan(connection: int, side: str, number: int, record: bytes) -> list[bytes] | None:
        if connection >= len(places) or (side, number) != places[connection]:
            return [record]
        done.append((side, number))
        return HARMS[harm](record)

    async def attack() -> None:
        limits = ev.Limits(handshake=3, answer=5, idle=3)
        async with (
            receiving(hospital, limits=limits) as port,
            wire(port, ending(plan, places)) as (middle, made),
        ):
            direct(laboratory, hospital, middle)
            async with sending(laboratory, first_wait=0.02, longest_wait=0.02, limits=limits):
                await until(lambda: len(done) >= 4)
                await until(lambda: is_delivered(laboratory))
            assert made.connections > len(done) >= 4

    run(attack())
    assert sorted(row.tid for row in hospital.inbox()) == sorted(tids)


def ending(plan: Plan, places: list[tuple[str, int]]) -> Plan:
    """Cut a connection after the record that was harmed, so that nobody waits for more of it."""
    harmed: set[tuple[int, str]] = set()

    def carry(connection: int, side: str, number: int, record: bytes) -> list[bytes] | None:
        if (connection, side) in harmed:
            return None
        if connection < len(places) and (side, number) == places[connection]:
            harmed.add((connection, side))
        return plan(connection, side, number, record)

    return carry


# Frames.

SAMPLE = canonical.encode({"type": "BYE", "critical": []})
FRAMES = {
    "longer than any frame": ((MAX_FRAME + 1).to_bytes(4, "big"), Code.FRAME_TOO_LONG),
    "as long as four bytes can say": (b"\xff" * 4, Code.FRAME_TOO_LONG),
    "empty": (bytes(4), Code.MALFORMED),
    "nested": (encode_frame(b"\x81" * 100_000 + b"\x80"), Code.MALFORMED),
    "maps in maps": (encode_frame(b"\xa1\x61a" * 50_000 + b"\xa0"), Code.MALFORMED),
    "of indefinite length": (
        encode_frame(b"\xbf\x64type\x63BYE\x68critical\x80\xff"),
        Code.MALFORMED,
    ),
    "with a tag": (encode_frame(b"\xc4\x82\x1a\x7f\xff\xff\xff\x01"), Code.MALFORMED),
    "with a float": (encode_frame(b"\xa1\x64type\xfb" + bytes(8)), Code.MALFORMED),
    "with more items than bytes": (encode_frame(b"\x9b" + b"\x7f" * 8), Code.MALFORMED),
    "with keys in another order": (
        encode_frame(b"\xa2\x68critical\x80\x64type\x63BYE"),
        Code.MALFORMED,
    ),
    "with a key twice": (
        encode_frame(b"\xa3\x64type\x63BYE\x64type\x63BYE\x68critical\x80"),
        Code.MALFORMED,
    ),
    "with a length in more bytes than it needs": (
        encode_frame(b"\xa2\x64type\x78\x03BYE\x68critical\x80"),
        Code.MALFORMED,
    ),
    "with text that is no UTF-8": (encode_frame(b"\xa1\x64type\x63\xff\xff\xff"), Code.MALFORMED),
    "with bytes left over": (encode_frame(SAMPLE + b"\x00"), Code.MALFORMED),
    "of an unknown type": (
        encode_frame(canonical.encode({"type": "GRANT", "critical": []})),
        Code.UNKNOWN_MESSAGE,
    ),
    "with an unknown field that is critical": (
        encode_frame(canonical.encode({"type": "BYE", "critical": ["x"], "x": 1})),
        Code.UNKNOWN_CRITICAL,
    ),
}


@pytest.mark.parametrize("when", ["before HELLO", "when records may pass"])
def test_frames_that_are_none_are_named_and_end_only_their_connection(
    trio: Trio, when: str
) -> None:
    hospital, laboratory, clinic = trio.houses
    many = {"most_of_partner": 200, "most_silent_of_partner": 200}

    async def one(port: int, data: bytes) -> str:
        if when == "before HELLO":
            stream, _channel = await connected(laboratory, port)
            await stream.send(data)
            return error_of(await answers(stream))
        client = await hand(laboratory, port)
        await client.stream.send(data)
        return (await client.closed())[0]

    async def attack() -> dict[str, str]:
        async with receiving(hospital, **many) as port:
            said = {name: await one(port, data) for name, (data, _code) in FRAMES.items()}
            await good_partner(clinic, hospital, port)
        return said

    assert run(attack()) == {name: str(code) for name, (_data, code) in FRAMES.items()}
    assert [row.actor for row in asked(hospital)] == ["partner:clinic"]


def test_a_handshake_frame_is_short_until_both_have_proved_themselves(trio: Trio) -> None:
    hospital, laboratory, _clinic = trio.houses

    async def attack() -> str:
        async with receiving(hospital) as port:
            stream, _channel = await connected(laboratory, port)
            await stream.send((300 * 1024).to_bytes(4, "big"))
            return error_of(await answers(stream))

    assert run(attack()) == Code.FRAME_TOO_LONG


def test_fields_that_nobody_knows_are_no_way_to_longer_frames(trio: Trio) -> None:
    """A message may carry unknown fields, within the frame; it is read, and nothing is kept."""
    hospital, laboratory, clinic = trio.houses
    body = canonical.encode({"type": "PING", "critical": [], "token": bytes(8), "reply": False})
    large = canonical.encode({**canonical.decode(body), "x": bytes(1_000_000)})

    async def attack() -> None:
        async with receiving(hospital) as port:
            client = await hand(laboratory, port, deaf=("PING",))
            for _ in range(20):
                await client.put(large)
            await until(lambda: len(client.kept) == 20)
            await good_partner(clinic, hospital, port)
            await client.leave()

    run(attack())


# Peers that are slow, endless or many.


def test_a_good_partner_whose_bytes_come_one_by_one_is_served(trio: Trio) -> None:
    hospital, laboratory, _clinic = trio.houses
    laboratory.queue("hospital")

    def plan(_connection: int, _side: str, _number: int, record: bytes) -> list[bytes] | None:
        return [record[place : place + 1] for place in range(len(record))]

    async def exchange() -> None:
        async with receiving(hospital) as port, wire(port, plan) as (middle, _made):
            direct(laboratory, hospital, middle)
            async with sending(laboratory):
                await until(lambda: is_delivered(laboratory))

    run(exchange())
    assert len(hospital.inbox()) == 1


@pytest.mark.parametrize("stage", ["TLS", "handshake", "open"])
def test_a_peer_that_never_finishes_is_given_up(trio: Trio, logbook: list[Any], stage: str) -> None:
    """It says a byte now and then, of a frame that never ends; that is no sign of life."""
    hospital, laboratory, clinic = trio.houses
    limits = ev.Limits(handshake=1.5, idle=1)

    async def dribble(send: Callable[[bytes], Awaitable[None]], over: Callable[[], bool]) -> None:
        with_head = b"\x16\x03\x01\x40\x00" if stage == "TLS" else (10_000).to_bytes(4, "big")
        for byte in with_head + bytes(9_000):
            if over():
                return
            try:
                await send(bytes([byte]))
            except (ChannelError, OSError):
                return
            await asyncio.sleep(0.05)

    async def attack() -> None:
        async with receiving(hospital, limits=limits) as port:
            if stage == "TLS":
                reader, writer = await asyncio.open_connection("127.0.0.1", port)

                async def raw(data: bytes) -> None:
                    writer.write(data)
                    await writer.drain()

                await dribble(raw, reader.at_eof)
                writer.transport.abort()
            elif stage == "handshake":
                stream, _channel = await connected(laboratory, port)
                heard = asyncio.create_task(answers(stream))
                await dribble(stream.send, heard.done)
                assert error_of(await heard) == Code.TIMEOUT
            else:
                client = await hand(laboratory, port, deaf=("PING",))
                await dribble(client.stream.send, client.running.done)
                assert (await client.closed())[0] in (Code.TIMEOUT, "lost")
            await good_partner(clinic, hospital, port)

    run(attack())
    assert Code.TIMEOUT in codes(logbook, "connection refused", "partner left")


def test_a_peer_that_talks_for_ever_and_never_listens_is_made_to_wait(trio: Trio) -> None:
    """What it may push is bounded by buffers, whatever it has to say; others are served."""
    hospital, laboratory, clinic = trio.houses
    ping = encode_frame(encode(Ping(bytes(8), reply=False)))
    bound = 64 * MAX_FRAME

    async def attack() -> int:
        async with receiving(hospital) as port:
            client = await hand(laboratory, port)
            # It stops reading: what the receiver says stays in the buffers on the way.
            client.stream._reader._transport.pause_reading()
            pushed = 0
            while pushed < bound:
                try:
                    await asyncio.wait_for(client.stream.send(ping * 4_000), 3)
                except TimeoutError:
                    break
                pushed += len(ping) * 4_000
            await good_partner(clinic, hospital, port)
            client.stream.abort()
            await client.closed()
            return pushed

    assert run(attack()) < bound


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Allow this process so many files and sockets more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, soft + count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("origins", [1, 250], ids=["one origin", "many origins"])
def test_a_thousand_idle_connections_are_bounded_and_a_good_partner_gets_through(
    trio: Trio, origins: int
) -> None:
    """Strangers that connect and say nothing, also from the good partner's own address."""
    hospital, laboratory, _clinic = trio.houses

    async def attack() -> tuple[int, int]:
        idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        async with receiving(hospital, limits=ev.Limits(handshake=120)) as port:
            try:
                for number in range(1_000):
                    source = f"127.0.0.{1 + number % origins}"
                    idle.append(
                        await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
                    )
                await good_partner(laboratory, hospital, port)
                await asyncio.sleep(0)
                held = sum(not reader.at_eof() and not is_reset(reader) for reader, _ in idle)
                return len(idle), held
            finally:
                for _, writer in idle:
                    writer.transport.abort()

    with descriptors(2_500):
        tried, held = run(attack())
    assert tried == 1_000
    assert held <= (16 if origins == 1 else 64)
    assert len(hospital.inbox()) == 1


def is_reset(reader: asyncio.StreamReader) -> bool:
    return reader.exception() is not None


def test_a_partner_that_leaves_and_comes_all_the_time_is_served_like_others(trio: Trio) -> None:
    hospital, laboratory, clinic = trio.houses

    async def attack() -> None:
        async with receiving(hospital, limits=LIMITS) as port:
            for _ in range(15):
                client = await hand(laboratory, port)
                await client.put(encode(Bye()))
                await client.closed()
            await good_partner(clinic, hospital, port)
            await good_partner(laboratory, hospital, port)

    run(attack())
    assert {row.sender for row in hospital.inbox()} == {"clinic", "laboratory"}
