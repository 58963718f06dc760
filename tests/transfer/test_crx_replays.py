"""Every message again, in every state: on its connection, on a later one, at another hospital.

And every field of every message changed on its way, cut off, or out of its order. The attacker here
stands inside TLS, which a real one does not.
"""

import pytest
from crx_fuzzing import Fuzzed
from crx_simulator import ALL_MESSAGES, Institution, altered, record_of, sample, type_of
from test_crx_attacks import flipped

from medportal.core import canonical
from medportal.transfer import events as ev
from medportal.transfer import messages, receiving, sending
from medportal.transfer.errors import Code
from medportal.transfer.ports import OutgoingRecord

TID = "0" * 32
KINDS = sorted(messages.CLASSES)
CODES = {*Code, "", "busy", "lost"}


class Recorded:
    """A connection that carried one record, and every message that passed on it."""

    def __init__(self) -> None:
        self.world = Fuzzed()
        self.record: OutgoingRecord = record_of(self.world.lab, b"first", tid=TID)
        # Of what an honest connection does not say, a well-formed one.
        self.said = {kind.TYPE: sample(kind, tid=TID) for kind in ALL_MESSAGES}
        self.world.tamper = self._watch
        self.world.storage.register()
        self.world.connect().submit(self.record)
        self.world.tick(15.0)
        self.world.tamper = lambda side, body: [body]
        assert len(self.world.of(ev.HaveReceipt)) == 1

    def _watch(self, side: str, body: bytes) -> list[bytes]:
        self.said[type_of(body)] = body
        return [body]


def in_phase(world: Fuzzed, side: str, phase: str) -> None:
    """Begin a new connection and bring one side into a phase."""
    world.reconnect()
    world.hold.clear()
    ours, theirs = world.channels()
    if phase == "start":
        return
    if phase == "closed":
        (world.at_sender if side == "S" else world.at_receiver)(ev.Lost())
        return
    world.at_receiver(ev.Opened(theirs))
    world.at_sender(ev.Opened(ours))
    if phase in ("await-hello", "await-challenge") and side == "R":
        return
    if phase in ("preparing", "welcoming"):
        world.hold.add("prepare" if phase == "preparing" else "greet")
    world.deliver("R", world.to_receiver.pop(0))
    if phase in ("await-challenge", "welcoming", "await-proof"):
        return
    world.deliver("S", world.to_sender.pop(0))
    if phase in ("preparing", "await-ready"):
        return
    world.run()
    if phase == "draining":
        world.hold.add("commit")
        world.submit(record_of(world.lab, b"second"))
        (world.at_sender if side == "S" else world.at_receiver)(ev.Stop())
        world.run()


PLACES = [
    *(("S", phase) for phase in sending.Phase),
    *(("R", phase) for phase in receiving.Phase),
]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded()


@pytest.mark.parametrize(("side", "phase"), PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_another_session_in_every_state_effects_nothing(
    recorded: Recorded, kind: str, side: str, phase: str
) -> None:
    """To either side: also back to who said it."""
    world = recorded.world
    in_phase(world, side, phase)
    assert (world.sender if side == "S" else world.receiver).phase == phase
    stored, got = dict(world.storage.inbox), len(world.of(ev.HaveReceipt))
    world.feed(side, recorded.said[kind])
    world.run()
    assert world.storage.inbox == stored
    assert len(world.of(ev.HaveReceipt)) == got
    assert {close.code for close in world.of(ev.Close) + world.of(ev.Close, "seen")} <= CODES
    proved = ("open", "draining")
    if phase not in (*proved, "await-ready"):
        assert (world.sender if side == "S" else world.receiver).phase not in proved
    still_works(world)


def still_works(world: Fuzzed) -> None:
    """Check that the partner whose messages were replayed goes on."""
    world.hold.clear()
    world.reconnect()
    before = len(world.of(ev.HaveReceipt))
    world.connect().submit(record_of(world.lab, b"next"))
    assert len(world.of(ev.HaveReceipt)) == before + 1


@pytest.mark.parametrize("side", ["S", "R"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_the_same_session_again_effects_nothing(kind: str, side: str) -> None:
    again = Recorded()
    world = again.world
    stored = dict(world.storage.inbox)
    world.feed(side, again.said[kind])
    world.run()
    assert world.storage.inbox == stored
    # The record has the receipt that it has.
    assert len(world.of(ev.HaveReceipt)) == 1
    still_works(world)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", list(receiving.Phase))
def test_a_message_to_one_hospital_effects_nothing_at_another(
    recorded: Recorded, kind: str, phase: str
) -> None:
    """The same laboratory is a partner of both, and the patient is known to both."""
    other = Fuzzed()
    other.lab, other.hospital = recorded.world.lab, Institution("clinic")
    other.storage.register()
    in_phase(other, "R", phase)
    other.feed("R", recorded.said[kind])
    other.run()
    assert TID not in other.storage.inbox
    still_works(other)


def test_a_hello_to_another_hospital_is_refused_by_name(recorded: Recorded) -> None:
    other = Fuzzed()
    other.lab, other.hospital = recorded.world.lab, Institution("clinic")
    in_phase(other, "R", "await-hello")
    other.feed("R", recorded.said["HELLO"])
    assert other.closed("seen") == (Code.ADDRESSEE, False)


# Fields of every message.

FIELDS = [
    (kind, name)
    for kind in KINDS
    for name in ("type", "critical", *messages.CLASSES[kind].__match_args__)
]


def other_value(name: str, value: object) -> object:
    if name in ("mark", "held") and value is None:
        return {"mark": {"epoch": "a" * 32, "sequence": 1}, "held": flipped(None)}[name]
    if name == "about" and value is None:
        return "f" * 32
    return b"h" if name == "head" else flipped(value)


def honest_run(world: Fuzzed, record: OutgoingRecord) -> dict[str, bytes]:
    """Let every kind of message that an honest connection may hold pass once.

    Returns the digests of the records that were submitted, by transfer id.
    """
    unknown = record_of(world.lab, b"unknown", number="87654321")
    busy = record_of(world.lab, b"busy")
    world.connect()
    world.submit(record)
    world.at_receiver(ev.Registered())
    world.submit(unknown)
    world.storage.full = True
    world.submit(busy)
    world.storage.full = False
    world.tick(21.0)
    return {each.tid: each.digest for each in (record, unknown, busy)}


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_flip_in_any_field_of_any_message_effects_nothing_wrong(kind: str, name: str) -> None:
    """What is registered is what was sent, and what is receipted is what is registered."""
    world, tampered = Fuzzed(), []
    world.storage.register()
    record = record_of(world.lab, b"content", tid=TID)

    def tamper(side: str, body: bytes) -> list[bytes]:
        if type_of(body) != kind:
            return [body]
        tampered.append(kind)
        return [altered(body, **{name: other_value(name, canonical.decode(body)[name])})]

    world.tamper = tamper
    sent = honest_run(world, record)
    if not tampered:
        # This connection held none: one that has no place there, changed as well.
        value = canonical.decode(sample(messages.CLASSES[kind]))[name]
        body = altered(sample(messages.CLASSES[kind]), **{name: other_value(name, value)})
        for side in ("S", "R"):
            world.feed(side, body)
    for stored in world.storage.inbox.values():
        assert sent[stored.tid] == stored.digest
    assert all(have.receipt.digest == have.record.digest for have in world.of(ev.HaveReceipt))
    world.tamper = lambda side, body: [body]
    world.reconnect()
    world.connect().submit(record)
    assert world.of(ev.HaveReceipt)[-1].record == record
    assert world.storage.inbox[TID].digest == record.digest


# Cut off, twice, out of order.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["S", "R"])
def test_a_message_cut_off_anywhere_is_none(recorded: Recorded, kind: str, side: str) -> None:
    body = recorded.said[kind]
    world = recorded.world
    for end in sorted({*range(0, len(body), max(1, len(body) // 12)), len(body) - 1}):
        in_phase(world, side, "open")
        world.feed(side, body[:end])
        assert world.closed("done" if side == "S" else "seen") == (Code.MALFORMED, False)
    still_works(world)


@pytest.mark.parametrize("kind", ["HELLO", "CHALLENGE", "PROOF", "READY", "QUERY", "OFFER"])
def test_a_message_said_twice_in_a_row_registers_once_or_nothing(kind: str) -> None:
    world = Fuzzed()
    world.storage.register()
    world.tamper = lambda side, body: [body, body] if type_of(body) == kind else [body]
    world.connect()
    world.submit(record_of(world.lab, b"content", tid=TID))
    assert list(world.storage.inbox) in ([], [TID])
    world.tamper = lambda side, body: [body]
    still_works(world)


@pytest.mark.parametrize("late", ["HELLO", "CHALLENGE", "PROOF", "READY", "QUERY", "OFFER"])
def test_a_message_that_comes_after_the_next_one_effects_nothing_wrong(late: str) -> None:
    """It is held back until the other side has said something more, or for ever."""
    world, held = Fuzzed(), []
    world.storage.register()

    def tamper(side: str, body: bytes) -> list[bytes]:
        if type_of(body) == late and not held:
            held.append(body)
            return []
        return [body, *held] if held else [body]

    world.tamper = tamper
    world.connect()
    world.submit(record_of(world.lab, b"content", tid=TID))
    world.tick(1.0)
    assert list(world.storage.inbox) in ([], [TID])
    world.tamper = lambda side, body: [body]
    still_works(world)
