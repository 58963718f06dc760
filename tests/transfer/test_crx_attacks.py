"""Each weakness of the original, and more, as an attack on the wire that must fail.

The attacker here sits between two honest sides, or is a partner with keys of its own.
"""

import hashlib
from dataclasses import replace

import pytest
from crx_simulator import (
    SCHEME,
    Institution,
    World,
    altered,
    at,
    received,
    record_of,
    sample,
    type_of,
)

from medportal.core import canonical
from medportal.core.ids import new_id
from medportal.delivery.parcel import Parcel
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.transfer import events as ev
from medportal.transfer import kem, messages, payload, ports, protocol, transcript
from medportal.transfer.batches import places
from medportal.transfer.errors import Code, ProtocolError
from medportal.transfer.messages import decode

HANDSHAKE = ("HELLO", "CHALLENGE", "PROOF")
SIGNED_LATER = ("OFFER", "DELIVER", "RECEIPT")


def traffic(*records_wanted: str) -> tuple[World, dict[str, bytes]]:
    """Run one exchange; return the world and the last frame of each type that passed."""
    seen: dict[str, bytes] = {}
    world = World()

    def watch(side, body):
        seen[type_of(body)] = body
        return [body]

    world.tamper = watch
    world.storage.register()
    world.connect().submit(record_of(world.lab))
    return world, seen


def fields_of(kind: str) -> list[tuple[str, str]]:
    return [(kind, name) for name in ("type", "critical", *messages.CLASSES[kind].__match_args__)]


def flipped(value):
    """Return a value of the same type that differs in one bit (or item)."""
    match value:
        case bool():
            return not value
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:] if value else b"\1"
        case str():
            return ("b" if value[0] != "b" else "c") + value[1:]
        case int():
            return value ^ 1
        case list():
            return [*value[:-1], flipped(value[-1])] if value else [b"\1" * 32]
        case dict():
            return {key: flipped(item) for key, item in value.items()}
        case None:
            return {"size": 1, "root": bytes(32)}


@pytest.mark.parametrize(("kind", "name"), [pair for kind in HANDSHAKE for pair in fields_of(kind)])
def test_a_flip_in_any_field_of_the_handshake_opens_no_session(kind, name):
    world = World()

    def tamper(side, body):
        if type_of(body) != kind:
            return [body]
        value = canonical.decode(body)[name]
        if name in ("mark", "held") and value is None:
            new = {"mark": {"epoch": "a" * 32, "sequence": 1}, "held": flipped(None)}[name]
            return [altered(body, **{name: new})]
        return [altered(body, **{name: flipped(value) if name != "head" else b"h"})]

    world.tamper = tamper
    world.connect()
    assert "READY" not in [what for _, what in world.log]
    assert world.sender.phase == world.receiver.phase == "closed"
    codes = {world.closed()[0], world.closed("seen")[0]}
    assert codes & {
        *(Code.SIGNATURE, Code.MALFORMED, Code.UNKNOWN_MESSAGE, Code.CERTIFICATE, Code.VERSION),
        *(Code.ADDRESSEE, Code.INSTITUTION, Code.NO_COMMON_SUITE, Code.SUITE, Code.ALGORITHM),
    }


@pytest.mark.parametrize(
    ("kind", "name"), [pair for kind in SIGNED_LATER for pair in fields_of(kind)]
)
def test_a_flip_in_any_field_of_a_record_registers_nothing_wrong(kind, name):
    world = World().connect()
    world.storage.register()
    record = record_of(world.lab)

    def tamper(side, body):
        if type_of(body) != kind:
            return [body]
        return [altered(body, **{name: flipped(canonical.decode(body)[name])})]

    world.tamper = tamper
    world.submit(record)
    assert world.of(ev.HaveReceipt) == []
    stored = [item.digest for item in world.storage.inbox.values()]
    assert stored in ([], [record.digest])


@pytest.mark.parametrize("name", ["pseudonym", "key_id", "tid"])
def test_a_flip_in_a_query_registers_nothing_wrong(name):
    world = World().connect()
    world.storage.register()

    def tamper(side, body):
        if type_of(body) != "QUERY":
            return [body]
        return [altered(body, **{name: flipped(canonical.decode(body)[name])})]

    world.tamper = tamper
    world.submit(record_of(world.lab))
    assert world.of(ev.HaveReceipt) == [] and world.storage.inbox == {}


@pytest.mark.parametrize("place", range(0, 2_000, 37))
def test_a_bit_flipped_anywhere_in_the_sealed_record_is_noticed(place):
    world = World().connect()
    world.storage.register()
    record = record_of(world.lab)

    def tamper(side, body):
        if type_of(body) != "DELIVER":
            return [body]
        sealed = bytearray(decode(body).sealed)
        sealed[place % len(sealed)] ^= 1 << place % 8
        return [altered(body, sealed=bytes(sealed))]

    world.tamper = tamper
    world.submit(record)
    assert world.closed() == (Code.SEALED, True)
    assert world.of(ev.Again) == [ev.Again(record, 60_000, Code.SEALED)]
    assert world.storage.inbox == {}


# Replay.


@pytest.mark.parametrize("kind", sorted(messages.CLASSES))
@pytest.mark.parametrize("phase", ["start", "await-hello", "await-proof", "open"])
def test_what_an_earlier_connection_said_is_worth_nothing_at_the_receiver(phase, kind):
    old, seen = traffic()
    new = World()
    new.lab, new.hospital, new.storage = old.lab, old.hospital, old.storage
    new.reconnect()
    ours, theirs = new.channels()
    fresh = ports.Channel(b"cc" * 16, *[getattr(theirs, n) for n in LEAVES])
    if phase != "start":
        new.at_receiver(ev.Opened(fresh))
    if phase in ("await-proof", "open"):
        new.feed("R", seen["HELLO"])
    registered = dict(new.storage.inbox)
    if phase == "open":
        # The receiver's nonce and the channel differ, so the old proof does not hold.
        new.feed("R", seen["PROOF"])
        assert new.receiver.phase == "closed"
    new.feed("R", seen.get(kind, sample(messages.CLASSES[kind])))
    assert new.receiver.phase != "open"
    assert new.storage.inbox == registered


LEAVES = ("own_leaf", "peer_leaf", "peer", "peer_chain")


def test_a_challenge_of_an_earlier_connection_does_not_answer_a_new_hello():
    old, seen = traffic()
    new = World()
    new.lab, new.hospital = old.lab, old.hospital
    new.reconnect()
    new.at_sender(ev.Opened(new.channels()[0]))
    new.sender = _with_other_nonce(new)
    new.feed("S", seen["CHALLENGE"])
    assert new.closed() == (Code.SIGNATURE, False)


def _with_other_nonce(world):
    return replace(world.sender, hello=altered(world.sender.hello, nonce=b"n" * 32))


@pytest.mark.parametrize("kind", ["QUERY", "DELIVER"])
def test_a_replay_within_the_connection_registers_nothing_twice(kind):
    world = World()
    world.storage.register()
    world.tamper = lambda side, body: [body, body] if type_of(body) == kind else [body]
    world.connect().submit(record_of(world.lab))
    assert len(world.storage.inbox) <= 1
    assert world.closed("seen")[0] in (Code.TID_IN_USE, Code.UNEXPECTED) or kind == "DELIVER"


def test_a_deliver_repeated_while_the_first_is_committed_is_an_error():
    world = World().connect()
    world.storage.register()
    world.hold.add("commit")
    world.tamper = lambda side, body: [body, body] if type_of(body) == "DELIVER" else [body]
    world.submit(record_of(world.lab))
    assert world.closed("seen") == (Code.UNEXPECTED, False)
    assert len(world.of(ev.Accept, "seen")) == 1


def test_an_offer_is_used_once():
    world, seen = traffic()
    world.feed("R", seen["DELIVER"])
    assert world.log[-1] == ("R", "STALE_OFFER")
    assert len(world.of(ev.Accept, "seen")) == 1
    assert len(world.storage.inbox) == 1


@pytest.mark.parametrize("kind", ["OFFER", "RECEIPT", "UNKNOWN", "STALE_OFFER"])
def test_an_answer_repeated_to_the_sender_is_an_error(kind):
    world, seen = traffic()
    world.done.clear()
    world.feed("S", seen.get(kind, sample(messages.CLASSES[kind])))
    assert world.closed() == (Code.UNEXPECTED, False)


# Reorder and truncation.


def test_answers_may_come_in_any_order_of_records():
    world = World().connect()
    world.storage.register()
    kept: list[bytes] = []
    world.tamper = lambda side, body: (
        kept.append(body) or [] if type_of(body) == "OFFER" else [body]  # type: ignore[func-returns-value]
    )
    world.submit(*(record_of(world.lab, f"{n}".encode()) for n in range(3)))
    world.tamper = lambda side, body: [body]
    for body in reversed(kept):
        world.feed("S", body)
    world.run()
    assert len(world.of(ev.HaveReceipt)) == 3


def test_offers_of_two_records_swapped_are_refused():
    world = World().connect()
    world.storage.register()
    kept: list[bytes] = []

    def keep(side, body):
        if type_of(body) != "OFFER":
            return [body]
        kept.append(body)
        return []

    world.tamper = keep
    world.submit(record_of(world.lab, b"1"), record_of(world.lab, b"2"))
    world.feed("S", altered(kept[0], tid=decode(kept[1]).tid))
    assert world.closed() == (Code.OFFER, False)


@pytest.mark.parametrize("kind", ["CHALLENGE", "PROOF", "READY"])
def test_a_handshake_with_a_message_missing_does_not_open(kind):
    world = World()
    world.tamper = lambda side, body: [] if type_of(body) == kind else [body]
    world.connect()
    assert world.sender.phase != "open"


@pytest.mark.parametrize("early", ["PROOF", "QUERY", "DELIVER"])
def test_nothing_is_looked_up_before_both_sides_have_proved_themselves(early):
    _, seen = traffic()
    world = World()
    ours, theirs = world.channels()
    world.at_receiver(ev.Opened(theirs))
    world.feed("R", seen[early])
    assert world.of(ev.Ask, "seen") == world.of(ev.Greet, "seen") == []
    assert world.closed("seen") == (Code.UNEXPECTED, False)


# Another channel, another institution.


@pytest.mark.parametrize("which", ["binding", "own_leaf", "peer_leaf"])
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_a_handshake_carried_over_another_tls_connection_fails(side, which):
    """A man in the middle with TLS to each side has other bindings and other leaves."""
    world = World()
    ours, theirs = world.channels()
    other = {name: getattr(ours, name) for name in ("binding", *LEAVES)}
    if side == "receiver":
        other = {name: getattr(theirs, name) for name in ("binding", *LEAVES)}
    other[which] = b"m" * 32
    changed = ports.Channel(**other)
    world.at_receiver(ev.Opened(changed if side == "receiver" else theirs))
    world.at_sender(ev.Opened(changed if side == "sender" else ours))
    world.run()
    assert world.closed() == (Code.SIGNATURE, False)


def test_a_hello_must_name_the_institution_of_the_tls_certificate():
    world = World()
    _, theirs = world.channels()
    names = {name: getattr(theirs, name) for name in ("binding", *LEAVES)}
    world.at_receiver(ev.Opened(ports.Channel(**{**names, "peer": "clinic"})))
    world.feed("R", _hello(world))
    assert world.closed("seen") == (Code.INSTITUTION, False)


def _hello(world, **changed):
    key = world.lab.keys["exchange"]
    return sample(
        messages.Hello,
        **{"chain": key.chain_der, "suites": (messages.SUITE,), "crl": b"crl", **changed},
    )


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"version": 2}, Code.VERSION),
        ({"receiver": "clinic"}, Code.ADDRESSEE),
        ({"sender": "clinic"}, Code.INSTITUTION),
        ({"suites": ("MLKEM512",)}, Code.NO_COMMON_SUITE),
        ({"chain": (b"clinic/exchange",)}, Code.CERTIFICATE),
        ({"chain": (b"laboratory/receipt",)}, Code.CERTIFICATE),
        ({"crl": b"revoked"}, Code.CERTIFICATE),
    ],
)
def test_a_hello_that_is_not_in_order_is_refused_before_the_database_is_touched(changed, code):
    world = World()
    world.at_receiver(ev.Opened(world.channels()[1]))
    world.feed("R", _hello(world, **changed))
    assert world.closed("seen") == (code, False)
    assert world.of(ev.Greet, "seen") == []


def test_a_stranger_is_refused():
    world = World(sender="clinic")
    world.reconnect()
    receiver = protocol.new_receiver(
        ports_without_partners(world.receiver_ports()),
        world.limits,
        protocol.new_allowance(world.limits),
    )
    world.receiver = receiver
    world.connect()
    assert world.closed("seen") == (Code.UNKNOWN_PARTNER, False)


def ports_without_partners(given):
    return replace(given, peers=lambda institution: None)


def test_the_sender_talks_to_nobody_but_the_partner_it_meant():
    world = World()
    ours, _ = world.channels()
    names = {name: getattr(ours, name) for name in ("binding", *LEAVES)}
    world.at_sender(ev.Opened(ports.Channel(**{**names, "peer": "clinic"})))
    assert world.log == []
    assert world.closed() == (Code.INSTITUTION, False)


def test_another_institutions_exchange_key_proves_nothing():
    world = World()
    other = Institution("hospital")
    world.hospital.keys["exchange"], honest = other.keys["exchange"], world.hospital
    world.reconnect()
    fake = Institution("hospital")
    fake.keys = {**honest.keys, "exchange": Institution("hospital").keys["exchange"]}
    world.sender = protocol.new_sender(_with_peer(world.sender_ports(), fake), world.limits)
    world.connect()
    assert world.closed() == (Code.SIGNATURE, False)


def _with_peer(given, peer):
    return replace(given, peer=peer)


def test_a_signature_cannot_be_reflected_to_the_side_that_made_it():
    world, seen = traffic()
    challenge = decode(seen["CHALLENGE"])
    proof = altered(
        seen["PROOF"],
        signature=challenge.signature,
        key_id=challenge.key_id,
    )
    world.reconnect()
    world.tamper = lambda side, body: [proof] if type_of(body) == "PROOF" else [body]
    world.connect()
    assert world.closed("seen")[0] in (Code.ALGORITHM, Code.SIGNATURE)


# A suite or version talked down.


def test_a_suite_that_was_not_offered_is_refused():
    world = World()
    world.tamper = lambda side, body: (
        [altered(body, suite="MLKEM512")] if type_of(body) == "CHALLENGE" else [body]
    )
    world.connect()
    assert world.closed() == (Code.SUITE, False)


def test_a_list_of_suites_cut_down_on_the_way_breaks_the_signature():
    world = World()
    world.tamper = lambda side, body: (
        [altered(body, suites=[messages.SUITE, "weak"])] if type_of(body) == "HELLO" else [body]
    )
    world.connect()
    assert world.closed() == (Code.SIGNATURE, False)


# Offers and receipts of somebody else.


def test_an_offer_signed_for_another_session_is_refused():
    world, seen = traffic()
    stolen = seen["OFFER"]
    world.reconnect()
    world.connect()
    world.hold.add("answer")
    record = record_of(world.lab, tid=decode(stolen).tid)
    world.submit(record)
    world.sender = _other_session(world.sender)
    world.feed("S", stolen)
    assert world.closed() == (Code.SIGNATURE, False)


def _other_session(sender):
    return replace(sender, session=b"s" * 32)


def test_an_offered_key_that_is_no_key_is_refused():
    world = World().connect()
    world.storage.register()

    def tamper(side, body):
        if type_of(body) != "OFFER":
            return [body]
        offer, zero = decode(body), bytes(1_216)
        leaf = transcript.offer_leaf(offer.tid, offer.offer, zero, offer.ttl_ms)
        (place,) = places([leaf])
        signed = world.hospital.keys["exchange"].sign(
            transcript.offers_input(world.sender.session, world.sender.binding, 1, place.root)
        )
        return [altered(body, key=zero, root=place.root, signature=signed)]

    world.tamper = tamper
    world.submit(record_of(world.lab))
    assert world.closed() == (Code.OFFER_KEY, False)


@pytest.mark.parametrize(
    "changed",
    [
        {"sender": "clinic"},
        {"receiver": "clinic"},
        {"tid": "f" * 32},
        {"outcome": "lost"},
        {"sequence": 0},
        {"sequence": -1},
        {"time": 2**62},
        {"time": "now"},
        {"final": 1},
        {"more": 1},
    ],
)
def test_a_receipt_of_another_shape_or_for_another_is_refused(changed):
    world = World().connect()
    world.storage.register()

    def tamper(side, body):
        if type_of(body) != "RECEIPT":
            return [body]
        key = world.hospital.keys["receipt"]
        said = key.statement(decode(body).receipt, transcript.RECEIPT)
        return [altered(body, receipt=key.signed(transcript.RECEIPT, {**said, **changed}))]

    world.tamper = tamper
    record = record_of(world.lab)
    world.submit(record)
    assert world.closed() == (Code.RECEIPT, False)
    assert world.of(ev.Again) == [ev.Again(record, 60_000, Code.RECEIPT)]


def test_a_receipt_signed_with_another_key_of_the_receiver_is_refused():
    world = World().connect()
    world.storage.register()

    def tamper(side, body):
        if type_of(body) != "RECEIPT":
            return [body]
        said = world.hospital.keys["receipt"].statement(decode(body).receipt, transcript.RECEIPT)
        forged = world.hospital.keys["exchange"].signed(transcript.RECEIPT, said)
        return [altered(body, receipt=forged)]

    world.tamper = tamper
    world.submit(record_of(world.lab))
    assert world.closed() == (Code.SIGNATURE, False)


# What is inside the sealed record. The sender itself is hostile or broken here.


def deliver(world: World, plaintext: bytes) -> list[ev.Effect]:
    """Let a sender seal something of its own making to a good offer."""
    world.hold.discard("commit")

    def tamper(side, body):
        if type_of(body) != "DELIVER":
            return [body]
        message = decode(body)
        item = world.receiver.records[message.tid]
        info = transcript.record_info(
            world.receiver.session, world.receiver.binding, message.tid, message.offer
        )
        return [altered(body, sealed=kem.seal(item.key.public, plaintext, info))]

    world.tamper = tamper
    world.submit(record_of(world.lab))
    return world.seen


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\xff",
        canonical.encode([]),
        canonical.encode({"delivery": b""}),
        canonical.encode({"delivery": "text"}),
        canonical.encode(
            {"delivery": b"", "content": "", "statement": b"", "scheme": "", "number": ""}
        ),
    ],
)
def test_a_sealed_record_that_is_no_record_is_refused(plaintext):
    world = World().connect()
    world.storage.register()
    deliver(world, plaintext)
    assert world.closed("seen") == (Code.SEALED, False)
    assert world.storage.inbox == {}


@pytest.mark.parametrize("name", ["session", "digest", "sender", "receiver", "tid", "offer"])
def test_a_delivery_statement_about_something_else_is_refused(name):
    world = World().connect()
    world.storage.register()
    key = world.lab.keys["exchange"]
    given = world.sender_ports()

    def lie(fields):
        return key.signed(transcript.DELIVERY, {**fields, name: flipped(fields[name])})

    world.sender = _signing(world.sender, given, lie)
    world.submit(record_of(world.lab))
    assert world.closed("seen") == (Code.DELIVERY, False)
    assert world.storage.inbox == {}


def _signing(sender, given, sign):
    return replace(
        sender,
        ports=replace(given, sign_deliveries=lambda batch: [sign(fields) for fields in batch]),
    )


def test_a_delivery_statement_under_another_label_or_key_is_refused():
    for purpose, label in (("exchange", "CRX/1 receipt"), ("record", transcript.DELIVERY)):
        world = World().connect()
        world.storage.register()
        key = world.lab.keys[purpose]
        world.sender = _signing(
            world.sender, world.sender_ports(), lambda f, k=key, la=label: k.signed(la, f)
        )
        world.submit(record_of(world.lab))
        assert world.closed("seen") == (Code.SIGNATURE, False)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (
            lambda lab: record_of(lab, said={"digest": bytes(32), "institution": "laboratory"}),
            DeliveryReason.SIGNATURE_INVALID,
        ),
        (
            lambda lab: record_of(
                lab, b"x", said={"digest": hashlib.sha256(b"x").digest(), "institution": "clinic"}
            ),
            DeliveryReason.SIGNATURE_INVALID,
        ),
        (
            lambda lab: record_of(lab, number="87654321", asked="12345678"),
            DeliveryReason.IDENTIFIER_MISMATCH,
        ),
    ],
)
def test_a_record_that_does_not_hold_together_is_rejected_with_a_signed_reason(record, reason):
    world = World().connect()
    world.storage.register()
    world.submit(record(world.lab))
    (got,) = world.of(ev.HaveReceipt)
    assert (got.receipt.outcome, got.receipt.reason) == (Outcome.REJECTED, reason)
    (stored,) = world.storage.inbox.values()
    assert stored.payload == b""


def test_an_author_statement_of_another_key_is_rejected():
    world = World().connect()
    world.storage.register()
    world.submit(record_of(Institution("laboratory")))
    (got,) = world.of(ev.HaveReceipt)
    assert got.receipt.reason == DeliveryReason.SIGNATURE_INVALID


def test_content_that_the_receiver_would_not_store_is_rejected():
    accept, receiver, lab = _accept()
    record = received(accept, receiver, lab, lambda parcel: "content-invalid")
    assert (record.refusal, record.payload) == ("content-invalid", b"")


def _accept():
    world = World().connect()
    world.storage.register()
    world.hold.add("commit")
    world.submit(record_of(world.lab))
    (accept,) = world.of(ev.Accept, "seen")
    return accept, world.receiver, world.lab


def test_a_record_opens_with_its_own_offer_and_session_only():
    accept, receiver, lab = _accept()
    other = kem.OneUseKey()
    with pytest.raises(ProtocolError):
        other.open(accept.sealed, accept.info)
    info = transcript.record_info(b"s" * 32, receiver.binding, accept.tid, accept.offer)
    with pytest.raises(ProtocolError):
        accept.key.open(accept.sealed, info)
    parcel, _ = payload.unpack(accept.key.open(accept.sealed, accept.info))
    assert isinstance(parcel, Parcel) and parcel.scheme == SCHEME


def test_the_key_of_an_offer_leaves_the_session_with_its_use():
    world = World().connect()
    world.storage.register()
    world.hold.add("commit")
    world.submit(record_of(world.lab))
    (item,) = world.receiver.records.values()
    assert item.key is None


def test_each_record_is_sealed_under_a_key_of_its_own():
    world = World()
    world.storage.register()
    offers: list[messages.Offer] = []

    def watch(side, body):
        if type_of(body) == "OFFER":
            offers.append(decode(body))
        return [body]

    world.tamper = watch
    world.connect().submit(*(record_of(world.lab, b"same") for _ in range(5)))
    assert len({offer.key for offer in offers}) == len({offer.offer for offer in offers}) == 5


def test_bytes_that_are_no_message_end_the_connection_with_a_name():
    world = World().connect()
    world.feed("R", b"\x00")
    assert world.closed("seen") == (Code.MALFORMED, False)
    assert decode(world.to_sender[-1]) == messages.ErrorMessage("malformed", None)


def test_an_event_after_the_close_does_nothing():
    world = World().connect()
    world.at_receiver(ev.Abort(Code.REVOKED_PARTNER))
    late = ev.Looked(((new_id(), ports.NotKnown()),))
    assert protocol.step_receiver(world.receiver, late, at()) == (world.receiver, [])


def test_an_answer_about_a_record_that_is_not_under_way_does_nothing():
    world = World().connect()
    before = world.receiver
    world.at_receiver(ev.Looked(((new_id(), ports.NotKnown()),)))
    assert world.receiver == before and world.to_sender == []
