"""The machines of both sides under an adversary who has the wire, and what must hold all the time.

:class:`Fuzzed` is a world (:mod:`crx_simulator`) that checks its invariants after every step, and
counts what it was given. :class:`Adversary` lets hypothesis choose: it may hold back, drop,
repeat, reorder, flip and make up messages, let time pass, lose connections, and let either side
get local events at any moment, also ones that have no sense then.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from crx_simulator import (
    ALL_MESSAGES,
    Random,
    World,
    record_of,
    sample,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from medportal.core import canonical
from medportal.transfer import events as ev
from medportal.transfer import messages, ports
from medportal.transfer.errors import Code, MessageError
from medportal.transfer.receiving import Receiver
from medportal.transfer.sending import Sender

WINDOW = 4
LIMITS = ev.Limits(window=WINDOW, queries_burst=200, misses_burst=200, unused_burst=200)
NAMED = frozenset({*Code, "", "lost", "busy"})
"""How a connection may end: by a named error, or in good order."""


class Fuzzed(World):
    """A world that checks itself, and in which a message may lie on the wire for long."""

    def __init__(self) -> None:
        self.steps = 0
        self.lives = 0
        self.late: list[ev.Accept] = []
        self.receipted: dict[str, bytes] = {}
        super().__init__(LIMITS)

    def reconnect(self) -> None:
        """Start a new connection, with nonces and a channel of its own."""
        self.lives += 1
        super().reconnect()
        self.closes = {where: len(self.of(ev.Close, where)) for where in ("done", "seen")}

    def sender_ports(self) -> Any:
        given = super().sender_ports()
        return _with(given, random=Random(f"S{self.lives}"))

    def receiver_ports(self) -> Any:
        given = super().receiver_ports()
        return _with(given, random=Random(f"R{self.lives}"))

    def channels(self) -> tuple[ports.Channel, ports.Channel]:
        binding = hashlib.sha256(f"channel {self.lives}".encode()).digest()
        one, two = (_with(each, binding=binding) for each in super().channels())
        return one, two

    def at_sender(self, event: ev.Event) -> list[ev.Effect]:
        before = self.sender
        effects = super().at_sender(event)
        self._check(before.phase, self.sender, effects, "S")
        for effect in effects:
            if isinstance(effect, ev.HaveReceipt) and not effect.conflict:
                self._receipt(effect)
        return effects

    def at_receiver(self, event: ev.Event) -> list[ev.Effect]:
        before = self.receiver
        effects = super().at_receiver(event)
        self._check(before.phase, self.receiver, effects, "R")
        return effects

    def _check(self, before: str, after: Sender | Receiver, effects: Any, side: str) -> None:
        self.steps += 1
        where = "done" if side == "S" else "seen"
        closes = self.of(ev.Close, where)[self.closes[where] :]
        assert len(closes) == (after.phase == "closed"), "it ends once, and says how"
        assert all(close.code in NAMED or close.by_peer for close in closes)
        if before == "closed":
            # A late record is given back; nothing else happens any more.
            assert all(isinstance(effect, ev.Release) for effect in effects)
            assert after.phase == "closed"
        assert len(after.records) <= WINDOW
        if after.phase == "closed":
            assert not after.records, "keys and records are let go of"
        if after.phase in ("open", "draining"):
            assert after.session != b""

    def _receipt(self, have: ev.HaveReceipt) -> None:
        """A receipt is believed for what is durable there, with this content, and never another."""
        stored = self.storage.inbox[have.record.tid]
        assert stored.digest == have.record.digest == have.receipt.digest
        before = self.receipted.setdefault(have.record.tid, have.receipt.signed)
        assert before == have.receipt.signed, "one record, one receipt"

    def carry(self, side: str, index: int, keep: bool) -> None:
        """Give a side one of the messages that lie on its wire, in any order."""
        lane = self.to_sender if side == "S" else self.to_receiver
        if lane:
            place = index % len(lane)
            body = lane[place] if keep else lane.pop(place)
            self.feed(side, body)

    def bounded(self) -> None:
        """Check that neither side can be made to hold more and more."""
        for session in (self.sender, self.receiver):
            held = [getattr(session, name) for name in ("hello", "challenge", "crl")]
            assert all(len(each) <= 1 << 20 for each in held)
        # At most one registration each, in the order of their receipts.
        assert len(self.storage.receipts) == len(self.storage.inbox)


def _with(value: Any, **changes: Any) -> Any:
    fields = {name: getattr(value, name) for name in value.__slots__}
    return type(value)(**{**fields, **changes})


SIDES = st.sampled_from(["S", "R"])
KINDS = st.sampled_from(ALL_MESSAGES)
TIDS = [hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest() for number in range(6)]
SECONDS = st.sampled_from([0.5, 3.0, 11.0, 25.0, 31.0, 4_000.0])


class Adversary(RuleBasedStateMachine):
    """See the module. Each rule is one input; the invariants are checked within every step."""

    count: Callable[[int], None] = staticmethod(lambda steps: None)

    def __init__(self) -> None:
        super().__init__()
        self.world = Fuzzed()
        self.world.storage.register()
        self.world.tamper = lambda side, body: [body]
        self.seen: list[bytes] = []
        self.records: dict[str, ports.OutgoingRecord] = {}

    def teardown(self) -> None:
        """Whatever was done, honest sides meet again and every record gets its receipt."""
        self.count(self.world.steps)
        world = self.world
        world.hold.clear()
        world.storage.full, world.storage.ready = False, True
        world.reconnect()
        world.connect()
        for record in self.records.values():
            world.submit(record)
        for tid, record in self.records.items():
            assert world.storage.inbox[tid].digest == record.digest
            assert tid in world.receipted
        world.bounded()

    def _note(self) -> None:
        self.seen = (self.seen + self.world.to_sender + self.world.to_receiver)[-40:]

    @rule()
    def tls_comes_up(self) -> None:
        ours, theirs = self.world.channels()
        self.world.at_receiver(ev.Opened(theirs))
        self.world.at_sender(ev.Opened(ours))
        self._note()

    @rule(side=SIDES, index=st.integers(0, 30), keep=st.booleans())
    def a_message_arrives(self, side: str, index: int, keep: bool) -> None:
        """In order if ``index`` is 0; again later if it is kept."""
        self.world.carry(side, index, keep)
        self._note()

    @rule()
    def everything_arrives(self) -> None:
        self.world.run()
        self._note()

    @rule(side=SIDES)
    def messages_are_dropped(self, side: str) -> None:
        (self.world.to_sender if side == "S" else self.world.to_receiver).clear()

    @precondition(lambda self: self.seen)
    @rule(side=SIDES, index=st.integers(0, 39))
    def an_old_message_is_said_again(self, side: str, index: int) -> None:
        """Of this connection or an earlier one, to either side: also to who said it."""
        self.world.feed(side, self.seen[index % len(self.seen)])

    @precondition(lambda self: self.seen)
    @rule(side=SIDES, index=st.integers(0, 39), place=st.integers(0, 4_000), bit=st.integers(0, 7))
    def a_bit_is_flipped(self, side: str, index: int, place: int, bit: int) -> None:
        body = bytearray(self.seen[index % len(self.seen)])
        body[place % len(body)] ^= 1 << bit
        self.world.feed(side, bytes(body))

    @precondition(lambda self: self.seen)
    @rule(side=SIDES, index=st.integers(0, 39), cut=st.integers(0, 4_000))
    def a_message_is_cut(self, side: str, index: int, cut: int) -> None:
        body = self.seen[index % len(self.seen)]
        self.world.feed(side, body[: cut % len(body)])

    @rule(side=SIDES, kind=KINDS, tid=st.sampled_from(TIDS))
    def a_message_is_made_up(self, side: str, kind: type[messages.Message], tid: str) -> None:
        self.world.feed(side, sample(kind, tid=tid))

    @rule(side=SIDES, junk=st.binary(max_size=64))
    def junk_arrives(self, side: str, junk: bytes) -> None:
        self.world.feed(side, junk)

    @rule(number=st.integers(0, 5))
    def a_record_is_submitted(self, number: int) -> None:
        tid = TIDS[number]
        record = self.records.setdefault(
            tid, record_of(self.world.lab, f"content {number}".encode(), tid=tid)
        )
        self.world.at_sender(ev.Submit(record))
        self._note()

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.world.clock += seconds
        self.world.at_sender(ev.Tick())
        self.world.at_receiver(ev.Tick())
        self._note()

    @rule(what=st.sampled_from(["prepare", "answer", "commit", "greet"]))
    def work_is_held_up_or_goes_on(self, what: str) -> None:
        self.world.hold ^= {what}

    @rule(full=st.booleans(), ready=st.booleans())
    def storage_changes(self, full: bool, ready: bool) -> None:
        self.world.storage.full, self.world.storage.ready = full, ready

    @rule(index=st.integers(0, 20))
    def a_held_commit_ends(self, index: int) -> None:
        accepted = self.world.of(ev.Accept, "seen")
        if accepted and self.world.receiver.binding is not None:
            # Perhaps of a connection that is gone: what was committed stays committed.
            self.world.at_receiver(self.world.commit(accepted[index % len(accepted)]))
        self._note()

    @rule(tid=st.sampled_from(TIDS), which=st.integers(0, 7))
    def a_local_event_comes_late(self, tid: str, which: int) -> None:
        """Work of an earlier connection ends now; nobody cares any more."""
        late: list[ev.Event] = [
            ev.Unsettled(tid, 5),
            ev.Refused(tid, Code.SEALED),
            ev.Looked(((tid, ports.NotKnown()),)),
            ev.Registered(),
            ev.Declined(5),
            ev.Stop(),
            ev.Lost(),
            ev.Abort(Code.REVOKED_PARTNER),
        ]
        self.world.at_receiver(late[which])
        self._note()

    @rule(which=st.integers(0, 3))
    def the_senders_side_ends(self, which: int) -> None:
        own: list[ev.Event] = [
            ev.Prepared(ports.OwnHead()),
            ev.Stop(),
            ev.Lost(),
            ev.Abort(Code.REVOKED_PARTNER),
        ]
        self.world.at_sender(own[which])
        self._note()

    @rule()
    def a_new_connection_begins(self) -> None:
        self.world.reconnect()

    @rule()
    def a_new_connection_opens(self) -> None:
        self.world.reconnect()
        self.world.connect()
        self._note()

    @invariant()
    def nothing_grows(self) -> None:
        self.world.bounded()


# The decoder.


def decode_one(data: bytes) -> str:
    """Give bytes to frames and messages; return what became of them. Raises for anything else.

    What is decoded has one encoding, and says what the bytes said in every field that is known.
    """
    try:
        message = messages.decode(data)
    except MessageError as error:
        return str(error.code)
    again = messages.encode(message)
    known = canonical.decode(data)
    plain = canonical.decode(again)
    assert {name: known[name] for name in plain if name != "critical"} == {
        name: value for name, value in plain.items() if name != "critical"
    }
    assert messages.decode(again) == message
    return message.TYPE


def corpus() -> list[bytes]:
    """Return messages of every type, and what is nearly one."""
    some = [sample(kind) for kind in ALL_MESSAGES]
    mark = messages.Mark("a" * 32, 7)
    held = messages.HeldHead(9, b"r" * 32)
    some.append(sample(messages.Hello, mark=mark, held=held, suites=("x", "y")))
    some += [
        canonical.encode({"type": "BYE", "critical": [], "colour": "red"}),
        canonical.encode({"type": "BYE", "critical": ["colour"], "colour": "red"}),
        b"\xa2\x68critical\x80\x64type\x63BYE",
        b"\xbf\x64type\x63BYE\x68critical\x80\xff",
        b"\x81" * 40 + b"\x80",
        b"\xc4\x82\x1a\x7f\xff\xff\xff\x01",
        b"\x9b" + b"\xff" * 8,
        b"\x7f\x61a\xff",
        b"\xfb\x3f\xf0" + bytes(6),
    ]
    return some


def mutated(data: bytes, other: bytes, choose: Callable[[int], int]) -> bytes:
    """Return ``data`` changed in one or a few ways; ``choose(n)`` gives a number below n."""
    body = bytearray(data)
    for _ in range(1 + choose(4)):
        place = choose(len(body) + 1)
        match choose(7):
            case 0 if body:
                body[place % len(body)] ^= 1 << choose(8)
            case 1 if body:
                body[place % len(body)] = choose(256)
            case 2:
                body[place:place] = bytes(choose(256) for _ in range(1 + choose(4)))
            case 3:
                del body[place : place + 1 + choose(8)]
            case 4:
                body[place:] = other[choose(len(other) + 1) :]
            case 5:
                end = place + 1 + choose(16)
                body[place:place] = body[place:end]
            case 6 if body:
                # Heads of items: long arrays, maps, byte strings, tags, numbers of eight bytes.
                head = (0x5B, 0x7B, 0x9B, 0xBB, 0xDB, 0x1B, 0x9F, 0xBF, 0xF9, 0xC2)[choose(10)]
                body[place % len(body)] = head
    return bytes(body)
