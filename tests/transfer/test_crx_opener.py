"""Openers: what reads deliveries in a process of its own, and what happens when it ends."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from crx_attackers import Trio, events, is_delivered, run, sending, states, until
from crx_institutions import House
from hypothesis import given
from hypothesis import strategies as st

from medportal.audit.events import Action
from medportal.core import canonical
from medportal.transfer import desk as desk_module
from medportal.transfer import opener as opener_module
from medportal.transfer import opener_wire as wire
from medportal.transfer.commands import openers_for, receiver_service
from medportal.transfer.desk import Desk, KeyGone
from medportal.transfer.errors import Code, FrameError, FromFuture, Untrusted
from medportal.transfer.framing import FrameBuffer
from medportal.transfer.opener import Child
from medportal.transfer.opener_process import Process
from medportal.transfer.payload import Contents, Introduction, Sealed
from medportal.transfer.receiver import ReceiverService, ReceiverSettings
from medportal.transfer.transcript import Binding

BINDING = Binding("laboratory", "hospital", b"c" * 32, b"s" * 32, b"r" * 32)
DIGEST = b"d" * 32
AT = datetime(2026, 5, 1, 12, 30, 15, 250_000, UTC)
INTRO = Introduction(b"session", BINDING, (b"leaf", b"link"), b"list", AT)
SEALED = Sealed("tid", "offer", b"info", b"sealed")
CONTENTS = Contents(b"d" * 32, "", "", "scheme", "number", "Á", "birth", b"packed")
REFUSED = Contents(b"d" * 32, "", "content-invalid", "scheme", "number", "Á", "birth", b"")
PUBLIC = bytes(1216)
TTL = 30.0


def body_of(frame: bytes) -> bytes:
    (body,) = wire.frames().feed(frame)
    return body


# What is said over the pipes.


@pytest.mark.parametrize(
    "request_",
    [
        wire.Begin(1, INTRO),
        wire.End(2),
        wire.Make(3, 1, 32),
        wire.Open(4, 1, 77, SEALED),
        wire.Open(4, 1, 77, Sealed("tid", "offer", b"info", bytes(1 << 20))),
    ],
)
def test_a_request_arrives_as_it_was_said(request_: wire.Request) -> None:
    assert wire.decode_request(body_of(wire.encode_request(request_))) == request_


@pytest.mark.parametrize(
    "reply",
    [
        wire.Made(1, ((1, PUBLIC), (2, b"k" * 1216))),
        wire.Made(1, ()),
        wire.Read(2, CONTENTS),
        wire.Read(2, REFUSED),
        wire.Failed(3, Code.SEALED),
        wire.Failed(3, None),
        wire.Failed(3, None, "RecursionError"),
    ],
)
def test_a_reply_arrives_as_it_was_said(reply: wire.Reply) -> None:
    assert wire.decode_reply(body_of(wire.encode_reply(reply))) == reply


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        "made",
        ["made"],
        ["made", "1", []],
        ["made", 1, [[1]]],
        ["made", 1, [[1, "public"]]],
        ["made", 1, [[True, PUBLIC]]],
        ["made", 1, [[1, PUBLIC[1:]]]],
        ["made", True, []],
        ["read", 2],
        ["read", 2, *(getattr(CONTENTS, name) for name in ("digest", "unsigned"))],
        ["read", 2, DIGEST, "", "", "scheme", "number", "name", "birth", "packed"],
        ["read", 2, DIGEST[1:], "", "", "scheme", "number", "name", "birth", b"packed"],
        ["read", 2, DIGEST, "a reason of its own", "", "scheme", "number", "name", "birth", b""],
        ["read", 2, DIGEST, "", "", "scheme", "number", "name", "birth", b""],
        ["read", 2, DIGEST, "", "content-invalid", "s", "number", "name", "birth", b"packed"],
        ["failed", True, "", ""],
        ["failed", 3, "no-such-code", ""],
        ["failed", 3, "sealed-content", "a name\nand another line"],
        ["failed", 3, "", "x" * 64],
        ["unheard", 4],
    ],
)
def test_what_is_no_reply_is_refused(value: object) -> None:
    with pytest.raises(FrameError):
        wire.decode_reply(canonical.encode(value))


@given(st.binary(max_size=200))
def test_no_bytes_of_an_opener_raise_anything_else(data: bytes) -> None:
    try:
        wire.decode_reply(data)
    except FrameError as error:
        assert error.code is Code.MALFORMED


def test_no_more_than_a_record_is_taken_in() -> None:
    with pytest.raises(FrameError):
        wire.encode_request(wire.Open(1, 1, 1, Sealed("t", "o", b"", bytes(wire.LIMIT))))
    with pytest.raises(FrameError):
        list(wire.frames().feed((wire.LIMIT + 1).to_bytes(4, "big")))
    assert isinstance(wire.frames(), FrameBuffer)


# Keys at a desk.


def desk() -> Desk:
    made = Desk(lambda _name: None, lambda _parcel: "", TTL)
    made.begin(1, INTRO)
    made.begin(2, INTRO)
    return made


def test_a_key_is_of_one_connection_and_of_one_delivery() -> None:
    at = desk()
    (number, public), (other, another) = at.make(1, 2)
    assert public != another and len(public) == 1216
    with pytest.raises(KeyGone):
        at.open(2, number, SEALED)  # Another connection's.
    with pytest.raises(desk_module.TransferError) as refused:
        at.open(1, number, SEALED)
    assert refused.value.code is Code.REVOKED_PARTNER  # Nobody is a partner here: it was used up.
    with pytest.raises(KeyGone):
        at.open(1, number, SEALED)
    at.end(1)
    for ended in (number, other):
        with pytest.raises(KeyGone):
            at.open(1, ended, SEALED)
    with pytest.raises(KeyGone):
        at.make(1, 1)


def test_a_key_is_forgotten_when_its_offer_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(desk_module.time, "monotonic", lambda: now)
    at = desk()
    ((old, _),) = at.make(1, 1)
    now += TTL + desk_module.KEPT_LONGER - 1
    ((young, _),) = at.make(1, 1)
    now += 2
    at.forget_old()
    with pytest.raises(KeyGone):
        at.open(1, old, SEALED)
    with pytest.raises(desk_module.TransferError) as refused:
        at.open(1, young, SEALED)
    assert not isinstance(refused.value, KeyGone)


def test_as_many_openers_as_cores_have_something_to_do() -> None:
    assert [openers_for(cores) for cores in (1, 2, 3, 4, 64)] == [0, 1, 2, 2, 2]


class WithoutTheTime:
    """A desk by whose clock the author is certified in the future."""

    def open(self, client: int, key: int, delivered: Sealed) -> Contents:
        raise FromFuture("not-yet-valid")


def test_a_clock_that_is_wrong_in_an_opener_is_no_fault_of_the_partners() -> None:
    """Who asks again is not told of an error: the record is asked for anew."""
    process = Process(WithoutTheTime(), 0, 1)  # type: ignore[arg-type]
    reply = wire.decode_reply(body_of(process._open(wire.Open(4, 1, 77, SEALED))))
    assert reply == wire.Failed(4, None, "FromFuture")
    assert isinstance(opener_module._outcome(reply), KeyGone)


# What the process does with what it is told.


class Told:
    """A desk that remembers in which order it was asked."""

    def __init__(self) -> None:
        self.order: list[tuple[str, int]] = []

    def begin(self, client: int, _intro: Introduction) -> None:
        self.order.append(("begin", client))

    def end(self, client: int) -> None:
        self.order.append(("end", client))

    def forget_old(self) -> None:
        return

    def make(self, client: int, count: int) -> list[tuple[int, bytes]]:
        self.order.append(("make", client))
        return [(number, PUBLIC) for number in range(count)]

    def open(self, client: int, key: int, _sealed: Sealed) -> Contents:
        self.order.append(("open", client))
        if key == 13:
            raise RecursionError("quotes a name")
        return CONTENTS


def worked(*requests: wire.Request) -> tuple[Told, list[wire.Reply]]:
    """Return what a process does with requests that are there when it begins."""
    asks, taking = os.pipe()
    giving, answers = os.pipe()
    told = Told()
    process = Process(told, asks, answers)  # type: ignore[arg-type]
    for each in requests:
        os.write(taking, wire.encode_request(each))
    process._take(0.0)
    while process._waiting:
        process._say(process._some())
    said = os.read(giving, 1 << 16)
    for each in (taking, asks, giving, answers):
        os.close(each)
    return told, [wire.decode_reply(body) for body in wire.frames().feed(said)]


def begin(client: int, sender: str) -> wire.Begin:
    return wire.Begin(client, replace(INTRO, binding=replace(BINDING, sender=sender)))


def opens(client: int, *numbers: int) -> list[wire.Request]:
    return [wire.Open(number, client, 1, SEALED) for number in numbers]


def test_partners_take_turns_at_an_opener_and_keys_go_first() -> None:
    told, replies = worked(
        begin(1, "a"), begin(2, "a"), begin(3, "b"),
        *opens(1, *range(10, 40)), *opens(2, *range(40, 70)), *opens(3, 70, 71),
        wire.Make(72, 3, 2),
    )  # fmt: skip
    assert told.order[3] == ("make", 3)
    assert [client for what, client in told.order if what == "open"][:5] == [1, 3, 1, 3, 1]
    assert {each.request for each in replies} == set(range(10, 73))


def test_what_a_connection_leaves_behind_is_given_back_at_once() -> None:
    told, replies = worked(
        begin(1, "a"), begin(2, "a"), *opens(1, 10, 11), *opens(2, 12), wire.End(1)
    )
    assert [each for each in told.order if each[0] == "open"] == [("open", 2)]
    assert wire.Failed(10, None) in replies and wire.Failed(11, None) in replies
    assert wire.Read(12, CONTENTS) in replies


def test_an_error_of_our_own_has_its_kind_and_nothing_else() -> None:
    _told, replies = worked(begin(1, "a"), wire.Open(1, 1, 13, SEALED))
    assert replies == [wire.Failed(1, None, "RecursionError")]


def test_a_handshake_that_has_gone_stale_blames_nobody() -> None:
    class Stale:
        institution = "laboratory"

        def exchange(self, *_shown: object) -> None:
            raise Untrusted(Code.CERTIFICATE, "crl-expired")

    at = Desk(lambda _name: Stale(), lambda _parcel: "", TTL)  # type: ignore[arg-type]
    at.begin(1, INTRO)
    ((key, _public),) = at.make(1, 1)
    with pytest.raises(desk_module.TransferError) as refused:
        at.open(1, key, SEALED)
    # The one code that closes a connection and is not audited as a refusal.
    assert refused.value.code is Code.TIMEOUT


# Processes.


@asynccontextmanager
async def serving(trio: Trio, openers: int = 1) -> AsyncIterator[ReceiverService]:
    hospital, laboratory, _clinic = trio.houses
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = ReceiverSettings(hospital.id, "127.0.0.1:0", openers=openers)
    service = receiver_service(hospital.keys, hospital.engine, settings)
    task = asyncio.create_task(service.run(stop, lambda _, number: port.set_result(number)))
    try:
        laboratory.trust(hospital, f"127.0.0.1:{await port}")
        yield service
    finally:
        stop.set()
        await task


def test_records_arrive_though_their_opener_is_killed_again_and_again(trio: Trio) -> None:
    hospital, laboratory, _clinic = trio.houses
    ended: list[int] = []

    async def exchange() -> None:
        async with serving(trio) as service, sending(laboratory):
            (child,) = service.needs.openers.children
            for _ in range(3):
                had = len(hospital.inbox())
                laboratory.queue("hospital", count=60)
                # In the midst: it has opened some of them, and there are more.
                await until(lambda had=had: len(hospital.inbox()) > had)
                assert child.pid is not None
                ended.append(child.pid)
                os.kill(child.pid, signal.SIGKILL)
                await until(lambda: child.pid not in (None, ended[-1]))
            await until(lambda: is_delivered(laboratory))

    run(exchange())
    assert len(set(ended)) == 3 and len(hospital.inbox()) == 180
    # The partner was never blamed for it.
    assert not events(hospital, Action.PEER_REFUSED)


def test_a_record_with_an_endless_name_is_refused_and_ends_nothing(trio: Trio) -> None:
    hospital, laboratory, _clinic = trio.houses
    laboratory.queue("hospital", count=1, name="x" * 600_000)
    laboratory.queue("hospital", count=3)

    async def exchange() -> None:
        async with serving(trio) as service, sending(laboratory):
            (child,) = service.needs.openers.children
            first = child.pid
            await until(lambda: len(states(laboratory)) == 2 and not is_waiting(laboratory))
            assert child.pid == first

    run(exchange())
    assert states(laboratory) == {("delivered", "registered"), ("rejected", "content-invalid")}


def is_waiting(house: House) -> bool:
    return any(row.settled_at is None for row in house.outbox().values())


def test_an_opener_leaves_signals_to_its_receiver(trio: Trio) -> None:
    async def signals() -> None:
        async with serving(trio) as service:
            openers = service.needs.openers
            (child,) = openers.children
            client, opener = openers.for_client()
            opener.begin(client, INTRO)
            assert len(await opener.make(client, 2)) == 2  # It has started.
            pid = child.pid
            assert pid is not None
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)
            assert len(await opener.make(client, 1)) == 1
            assert child.pid == pid

    run(signals())


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_where_no_opener_can_be_started_a_thread_does_its_work(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    _hospital, laboratory, _clinic = trio.houses
    laboratory.queue("hospital", count=3)
    monkeypatch.setattr(opener_module.sys, "executable", program)

    async def exchange() -> None:
        async with serving(trio) as service, sending(laboratory):
            (child,) = service.needs.openers.children
            await until(lambda: is_delivered(laboratory))
            assert child.pid is None

    run(exchange())


def test_an_opener_runs_nothing_from_where_it_was_started(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cbor2.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)

    async def make() -> None:
        async with serving(trio) as service:
            client, opener = service.needs.openers.for_client()
            opener.begin(client, INTRO)
            assert len(await opener.make(client, 1)) == 1

    run(make())


def test_no_opener_gives_a_key_the_number_of_one_that_ended_with_another() -> None:
    first, second = desk(), desk()
    one, other = ({number for number, _ in each.make(1, 50)} for each in (first, second))
    assert len(one) == len(other) == 50 and not one & other


def test_an_opener_ends_with_its_receiver_and_knows_none_of_its_secrets(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/somewhere")
    monkeypatch.setenv("MEDPORTAL_SECRET", "secret")
    pids: list[int] = []

    async def serve() -> None:
        async with serving(trio, openers=2) as service:
            for child in service.needs.openers.children:
                assert child.pid is not None
                pids.append(child.pid)
                knows = names_of(child.pid, "environ")
                assert not {"CREDENTIALS_DIRECTORY", "MEDPORTAL_SECRET"} & knows
                assert "PATH" in knows
                assert str(trio.houses[0].keys.places.pki) in names_of(child.pid, "cmdline")

    run(serve())
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def names_of(pid: int, what: str) -> set[str]:
    said = Path(f"/proc/{pid}/{what}").read_bytes().decode().split("\0")
    return {each.partition("=")[0] for each in said}


def test_connections_are_spread_over_the_openers(trio: Trio) -> None:
    async def spread() -> None:
        async with serving(trio, openers=2) as service:
            openers = service.needs.openers
            first, second = openers.children
            clients = []
            for _ in range(4):
                # Also those that have not shaken hands yet are counted.
                clients.append(openers.for_client())
            assert first.clients == second.clients == 2
            for client, opener in clients:
                opener.end(client)
            assert first.clients == second.clients == 0

    run(spread())


async def child_running(command: tuple[str, ...], work: Callable[[Child], Any]) -> None:
    child = Child(Path("/nowhere"), TTL)
    child._command = command
    task = asyncio.create_task(child.run())
    try:
        await child.spawned.wait()
        await work(child)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "says",
    [
        b"\x00\x00\x00\x01\xff",
        b"\xff\xff\xff\xff",
        b"no frame at all",
    ],
)
def test_an_opener_that_says_nonsense_is_ended_and_started_anew(says: bytes) -> None:
    nonsense = f"import os, time; os.read(0, 1); os.write(1, {says!r}); time.sleep(60)"

    async def work(child: Child) -> None:
        first = child.pid
        with pytest.raises(KeyGone):
            await child.make(1, 1)
        await until(lambda: child.pid not in (None, first))

    run(child_running((sys.executable, "-c", nonsense), work))


def test_an_opener_that_gives_other_keys_than_asked_for_is_not_believed() -> None:
    frame = wire.encode_reply(wire.Made(1, ()))
    says = f"import os, time; os.read(0, 1); os.write(1, {frame!r}); time.sleep(60)"

    async def work(child: Child) -> None:
        first = child.pid
        with pytest.raises(KeyGone):
            await child.make(1, 1)
        assert child.pid == first

    run(child_running((sys.executable, "-c", says), work))


def test_an_opener_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opener_module, "PATIENCE", 0.3)

    async def work(child: Child) -> None:
        first = child.pid
        with pytest.raises(KeyGone):
            await child.make(1, 1)
        await until(lambda: child.pid not in (None, first))

    run(child_running((sys.executable, "-c", "import time; time.sleep(60)"), work))


def test_an_opener_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opener_module, "FIRST_WAIT", 0.01)
    tries = 0

    async def no_memory(*_command: object, **_options: object) -> None:
        nonlocal tries
        tries += 1
        raise RuntimeError if tries % 2 else OSError(12, "no memory")

    monkeypatch.setattr(opener_module.asyncio, "create_subprocess_exec", no_memory)

    async def try_() -> None:
        child = Child(Path("/nowhere"), TTL)
        task = asyncio.create_task(child.run())
        await until(lambda: tries >= 3)
        with pytest.raises(KeyGone):
            await child.make(1, 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(try_())
