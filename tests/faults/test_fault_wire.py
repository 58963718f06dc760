"""The relay of the faults' runs: what it takes frames for, and where its traps spring."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from free_ports import free_port

from faults.wire import Kind, Moment, Trap, Wire

SECONDS = 20
PROVING = [632, 101, 74, 1003, 202]
QUERY, OFFER, DELIVER, RECEIPT = 154, 1493, 6251, 1326


def record(length: int) -> bytes:
    """Return a TLS record of application data that is so long, header included."""
    return b"\x17\x03\x03" + (length - 5).to_bytes(2, "big") + bytes(length - 5)


@contextmanager
def ends() -> Iterator[tuple[Wire, socket.socket, socket.socket]]:
    """Give a relay and the two ends of a connection through it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        port = free_port()
        with Wire(("127.0.0.1", port), server.getsockname()[:2]) as wire:
            sender = socket.create_connection(("127.0.0.1", port), SECONDS)
            receiver, _ = server.accept()
            receiver.settimeout(SECONDS)
            with sender, receiver:
                yield wire, sender, receiver


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
        assert wire.connections == 1
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
        trap = Trap(Kind.DELIVER, 2, moment, acted.set)
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
        trap = Trap(Kind.DELIVER, 1, Moment.AFTER, lambda: None)
        wire.set(trap)
        offer(sender, receiver)
        say(sender, receiver, DELIVER)
        assert trap.sprung.wait(SECONDS)
        # It is there once.
        say(sender, receiver, DELIVER)
        say(receiver, sender, RECEIPT)


def test_whoever_finds_nobody_on_the_far_side_is_refused():
    port = free_port()
    with (
        Wire(("127.0.0.1", port), ("127.0.0.1", free_port())) as wire,
        socket.create_connection(("127.0.0.1", port), SECONDS) as sender,
    ):
        assert read(sender, 1) == 0
        assert wire.connections == 1
