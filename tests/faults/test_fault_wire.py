"""The relay of the faults' runs: what it takes frames for, and where its traps spring."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from free_ports import free_port

from faults.cast import Way
from faults.wire import Door, Kind, Moment, Trap, Wire

SECONDS = 20
PROVING = [632, 101, 74, 1003, 202]
WAY = Way("laboratory", "hospital")
CALLERS = {"127.0.0.1": "laboratory", "127.0.0.2": "laboratory-2"}
QUERY, OFFER, DELIVER, RECEIPT = 154, 1493, 6251, 1326


def record(length: int) -> bytes:
    """Return a TLS record of application data that is so long, header included."""
    return b"\x17\x03\x03" + (length - 5).to_bytes(2, "big") + bytes(length - 5)


@contextmanager
def ends(*callers: str) -> Iterator[tuple[Any, ...]]:
    """Give a relay and the two ends of a connection through it, for each caller's address."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as open_ones:
        server.settimeout(SECONDS)
        door = Door("hospital", ("127.0.0.1", free_port()), server.getsockname()[:2])
        found: list[Any] = [open_ones.enter_context(Wire([door], CALLERS))]
        for caller in callers or ("127.0.0.1",):
            sender = socket.create_connection(door.listen, SECONDS, (caller, 0))
            receiver, _ = server.accept()
            receiver.settimeout(SECONDS)
            found += [open_ones.enter_context(sender), open_ones.enter_context(receiver)]
        yield tuple(found)


def read(end: socket.socket, length: int) -> int:
    """Return how many bytes came, up to a length, before the connection ended."""
    came = 0
    # A reset is an end too.
    with suppress(ConnectionResetError):
        while came < length and (piece := end.recv(length - came)):
            came += len(piece)
    return came


def say(end: socket.socket, other: socket.socket, length: int) -> None:
    end.sendall(record(length))
    assert read(other, length) == length


def prove(sender: socket.socket, receiver: socket.socket) -> None:
    for length in PROVING:
        say(sender, receiver, length)
    say(receiver, sender, 1152)


def offer(sender: socket.socket, receiver: socket.socket) -> None:
    say(sender, receiver, QUERY)
    say(receiver, sender, OFFER)


def test_frames_are_told_apart_by_who_speaks_and_how_long():
    with ends() as (wire, sender, receiver):
        prove(sender, receiver)
        for _ in range(2):
            offer(sender, receiver)
            say(sender, receiver, DELIVER)
            say(receiver, sender, RECEIPT)
        # A batch of offers, then receipts that were sent at once: nothing was asked for them.
        say(sender, receiver, QUERY)
        say(receiver, sender, 15_556)
        say(receiver, sender, 3 * RECEIPT)
        say(sender, receiver, 60)
        assert wire.connections == {WAY: 1}
        assert wire.frames == {
            Kind.HANDSHAKE: 6,
            Kind.QUERY: 3,
            Kind.OFFER: 3,
            Kind.DELIVER: 2,
            Kind.RECEIPT: 3,
            Kind.OTHER: 1,
        }


@pytest.mark.parametrize(("moment", "passed"), [(Moment.BEFORE, 0), (Moment.MIDDLE, DELIVER // 2)])
def test_a_trap_cuts_at_the_nth_frame_of_its_kind(moment, passed):
    with ends() as (wire, sender, receiver):
        prove(sender, receiver)
        acted = threading.Event()
        trap = Trap(WAY, Kind.DELIVER, 2, moment, acted.set)
        wire.set(trap)
        offer(sender, receiver)
        say(sender, receiver, DELIVER)
        assert not trap.sprung.is_set()
        sender.sendall(record(DELIVER))
        assert read(receiver, DELIVER) == passed
        assert trap.sprung.wait(SECONDS) and acted.is_set()
        assert read(sender, 1) == 0


def test_a_trap_after_a_frame_leaves_the_connection_to_who_is_left():
    with ends() as (wire, sender, receiver):
        prove(sender, receiver)
        trap = Trap(WAY, Kind.DELIVER, 1, Moment.AFTER, lambda: None)
        wire.set(trap)
        offer(sender, receiver)
        say(sender, receiver, DELIVER)
        assert trap.sprung.wait(SECONDS)
        # It is there once.
        say(sender, receiver, DELIVER)
        say(receiver, sender, RECEIPT)


def test_whoever_finds_nobody_on_the_far_side_is_refused():
    door = Door("hospital", ("127.0.0.1", free_port()), ("127.0.0.1", free_port()))
    with (
        Wire([door], CALLERS) as wire,
        socket.create_connection(door.listen, SECONDS) as sender,
    ):
        assert read(sender, 1) == 0
        assert wire.connections == {WAY: 1}


def test_a_trap_lets_pass_what_goes_another_way():
    with ends("127.0.0.1", "127.0.0.2") as (wire, sender, receiver, other, far):
        trap = Trap(Way("laboratory-2", "hospital"), Kind.QUERY, 1, Moment.BEFORE, lambda: None)
        wire.set(trap)
        for near, end in ((sender, receiver), (other, far)):
            prove(near, end)
        say(sender, receiver, QUERY)
        assert not trap.sprung.is_set()
        other.sendall(record(QUERY))
        assert read(far, QUERY) == 0 and trap.sprung.wait(SECONDS)
        assert read(other, 1) == 0
        # The first one's connection is as it was.
        say(receiver, sender, OFFER)
        assert wire.connections == {WAY: 1, trap.way: 1}


def test_a_cut_ends_what_goes_its_way_and_nothing_else():
    with ends("127.0.0.1", "127.0.0.2") as (wire, sender, receiver, other, far):
        for near, end in ((sender, receiver), (other, far)):
            prove(near, end)
        wire.cut(Way("laboratory-2", "hospital"))
        assert read(other, 1) == 0 and read(far, 1) == 0
        say(sender, receiver, QUERY)


def test_doors_lead_each_to_its_own_institution():
    with ExitStack() as open_ones:
        servers = [open_ones.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in "12"]
        doors = [
            Door(house, ("127.0.0.1", free_port()), server.getsockname()[:2])
            for house, server in zip(("hospital", "laboratory-2"), servers, strict=True)
        ]
        wire = open_ones.enter_context(Wire(doors, CALLERS))
        for door, server in zip(doors, servers, strict=True):
            server.settimeout(SECONDS)
            with socket.create_connection(door.listen, SECONDS), server.accept()[0]:
                pass
        assert wire.connections == {WAY: 1, Way("laboratory", "laboratory-2"): 1}
