"""Batches: each thing said under one signature is verified alone, and nothing else passes for it.

Keys and certificates are real. The attacker holds everything that was ever sent, and alters it.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from crx_institutions import enrol, found
from crx_simulator import Random, World, altered, record_of, type_of
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from medportal.audit.errors import BadProof
from medportal.core import canonical
from medportal.core.clock import utcnow
from medportal.pki import errors
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import Signed, sign_statement, verify_signature
from medportal.pki.verify import verify_leaf
from medportal.transfer import batches, transcript
from medportal.transfer import events as ev
from medportal.transfer.batches import MOST, Batched, Place, Seen, check_batched, sign_batch
from medportal.transfer.credentials import deliveries_signer, peer_of
from medportal.transfer.errors import Code, Untrusted
from medportal.transfer.messages import decode

LABEL = transcript.RECEIPT


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    state = tmp_path_factory.mktemp("var")
    pair = found(state, "hospital"), found(state, "laboratory")
    enrol(*pair)
    yield pair
    for house in pair:
        house.engine.dispose()


@pytest.fixture(scope="module")
def signer(houses):
    return houses[0].keys.signer(Purpose.RECEIPT)


@pytest.fixture(scope="module")
def leaf(houses, signer):
    hospital, laboratory = houses
    peer = peer_of(laboratory.keys.trusted, laboratory.keys.crl_limits)("hospital")
    return verify_leaf(
        signer.chain_der,
        ca=peer.partner.anchors(utcnow()),
        crl_der=hospital.store.crl_der,
        purpose=Purpose.RECEIPT,
        institution="hospital",
        now=utcnow(),
        crl_limits=laboratory.keys.crl_limits,
    )


def said(count, name="a"):
    return [{"tid": f"{name}{number}", "outcome": "registered"} for number in range(count)]


@pytest.mark.parametrize("count", range(1, MOST + 1))
def test_each_of_a_batch_is_verified_alone_from_its_bytes(signer, leaf, count):
    fields = said(count)
    signed = [each.to_bytes() for each in sign_batch(signer, LABEL, fields)]
    assert [
        check_batched(Batched.from_bytes(each), LABEL, leaf, Seen()) for each in signed
    ] == fields
    assert len({Batched.from_bytes(each).signature for each in signed}) == 1
    assert max(len(each) for each in signed) < 65_536


@pytest.mark.parametrize("count", [0, MOST + 1])
def test_a_batch_of_none_or_of_too_many_is_not_signed(signer, count):
    with pytest.raises(ValueError, match="size"):
        sign_batch(signer, LABEL, said(count))


def test_every_bit_of_a_kept_receipt_counts(signer, leaf):
    """Whichever bit of what is signed, or leads to it, is flipped: it does not verify."""
    (_, whole, *_) = sign_batch(signer, LABEL, said(5))
    body = replace(whole, chain_der=(), crl_der=b"").to_bytes()
    assert check_batched(Batched.from_bytes(body), LABEL, leaf, Seen())
    passed = []
    for place in range(len(body) * 8):
        flipped = bytearray(body)
        flipped[place // 8] ^= 1 << place % 8
        try:
            check_batched(Batched.from_bytes(bytes(flipped)), LABEL, leaf, Seen())
            passed.append(place)
        except errors.PkiError:
            continue
    assert passed == []


def test_what_was_remembered_of_a_batch_lets_nothing_else_pass(signer, leaf):
    """The same, after the batch's signature was found to fit: memory is of root and size too."""
    seen = Seen()
    first, second, *_ = sign_batch(signer, LABEL, said(5))
    check_batched(first, LABEL, leaf, seen)
    changes = [
        {"payload": canonical.encode(said(9)[8])},
        {"payload": first.payload},
        {"signature": bytes(64)},
        {"place": first.place},
        {"place": replace(second.place, index=2)},
        {"place": replace(second.place, size=6)},
        {"place": replace(second.place, size=4)},
        {"place": replace(second.place, path=second.place.path[:-32])},
        {"place": replace(second.place, path=second.place.path + bytes(32))},
        {"place": replace(second.place, path=second.place.path[:-1])},
        {"place": replace(second.place, root=bytes(32))},
    ]
    for change in changes:
        with pytest.raises(errors.BadSignature):
            check_batched(replace(second, **change), LABEL, leaf, seen)
    assert check_batched(second, LABEL, leaf, seen) == said(5)[1]


def test_a_leaf_under_the_signature_of_another_batch_is_refused(signer, leaf):
    ours, theirs = sign_batch(signer, LABEL, said(4)), sign_batch(signer, LABEL, said(4, "b"))
    seen = Seen()
    for each in (*ours, *theirs):
        check_batched(each, LABEL, leaf, seen)
    mixed = [
        replace(ours[1], place=theirs[1].place, signature=theirs[1].signature),
        replace(ours[1], place=replace(ours[1].place, root=theirs[1].place.root)),
        replace(ours[1], signature=theirs[1].signature),
    ]
    for each in mixed:
        with pytest.raises(errors.BadSignature):
            check_batched(each, LABEL, leaf, seen)


def test_an_inner_node_does_not_pass_for_a_statement(signer, leaf):
    """The two leaves of a batch, hashed together, are the leaf of no batch of one."""
    one, two = sign_batch(signer, LABEL, said(2))
    inside = replace(one, payload=one.place.path + two.place.path)
    for place in (Place(0, 1, b"", one.place.root), Place(0, 2, b"", one.place.root)):
        with pytest.raises(errors.BadSignature):
            check_batched(replace(inside, place=place), LABEL, leaf, Seen())


def test_a_batch_is_no_statement_and_a_statement_no_batch(signer, leaf):
    single = sign_statement(signer, LABEL, said(1)[0])
    (batched,) = sign_batch(signer, LABEL, said(1))
    with pytest.raises(errors.MalformedStatement):
        Batched.from_bytes(single.to_bytes())
    with pytest.raises(errors.MalformedStatement):
        Signed.from_bytes(batched.to_bytes())
    with pytest.raises(errors.BadSignature):
        check_batched(replace(batched, signature=single.signature), LABEL, leaf, Seen())


def test_label_algorithm_and_key_are_the_expected_ones(signer, leaf):
    (one,) = sign_batch(signer, LABEL, said(1))
    for change, error in (
        ({"label": transcript.DELIVERY}, errors.WrongLabel),
        ({"algorithm": "ML-DSA-65"}, errors.WrongAlgorithm),
        ({"key_id": "0" * 32}, errors.WrongKey),
    ):
        with pytest.raises(error):
            check_batched(replace(one, **change), LABEL, leaf, Seen())
    (other,) = sign_batch(signer, transcript.DELIVERY, said(1))
    with pytest.raises(errors.BadSignature):
        check_batched(replace(other, label=LABEL), LABEL, leaf, Seen())


@pytest.mark.parametrize("payload", [b"\xff", canonical.encode([])])
def test_a_payload_that_is_no_map_is_malformed(signer, leaf, payload):
    (one,) = sign_batch(signer, LABEL, said(1))
    kid, algorithm = signer.key_id, str(signer.algorithm)
    (place,) = batches.places([batches._leaf(LABEL, algorithm, kid, payload)])
    signature = signer.sign(batches._covered(LABEL, algorithm, kid, place))
    forged = replace(one, payload=payload, place=place, signature=signature)
    with pytest.raises(errors.MalformedStatement):
        check_batched(forged, LABEL, leaf, Seen())


@pytest.mark.parametrize(
    "change",
    [
        {"format": "medportal signed 1"},
        {"index": "0"},
        {"index": True},
        {"size": b""},
        {"path": []},
        {"chain": [1]},
        {"more": 1},
    ],
)
def test_members_of_another_type_are_malformed(signer, change):
    (one,) = sign_batch(signer, LABEL, said(1))
    body = canonical.encode({**canonical.decode(one.to_bytes()), **change})
    with pytest.raises(errors.MalformedStatement):
        Batched.from_bytes(body)


@pytest.mark.parametrize("body", [b"", b"\xff", canonical.encode([]), bytes(2**20 + 1)])
def test_bytes_that_are_no_map_or_too_many_are_malformed(body):
    with pytest.raises(errors.MalformedStatement):
        Batched.from_bytes(body)


@pytest.mark.parametrize(
    "place",
    [
        Place(0, 0, b"", bytes(32)),
        Place(0, MOST + 1, bytes(32 * 7), bytes(32)),
        Place(0, MOST, bytes(32 * 7), bytes(32)),
        Place(-1, 2, bytes(32), bytes(32)),
        Place(2, 2, bytes(32), bytes(32)),
        Place(0, 2, bytes(31), bytes(32)),
    ],
)
def test_a_place_that_no_batch_has_is_refused(place):
    with pytest.raises(BadProof):
        place.check(b"leaf")


def test_memory_is_of_few_batches_and_of_one_key(signer, leaf):
    seen = Seen()
    for name in range(3 * batches.REMEMBER):
        (one,) = sign_batch(signer, LABEL, said(1, str(name)))
        check_batched(one, LABEL, leaf, seen)
        assert len(seen._covered) <= batches.REMEMBER
    other = replace(leaf, public_key=Ed25519PublicKey.from_public_bytes(bytes(32)))
    with pytest.raises(errors.WrongKey):
        check_batched(one, LABEL, other, seen)
    covered = next(iter(seen._covered))[2]
    with pytest.raises(errors.BadSignature):
        seen.verify(other, one.signature, covered)


def test_one_signature_is_computed_for_a_batch(signer, leaf, monkeypatch):
    computed = []

    def count(*arguments):
        computed.append(arguments)
        return verify_signature(*arguments)

    monkeypatch.setattr(batches, "verify_signature", count)
    seen = Seen()
    for each in sign_batch(signer, LABEL, said(MOST)):
        check_batched(each, LABEL, leaf, seen)
    assert len(computed) == 1
    with pytest.raises(errors.BadSignature):
        check_batched(replace(each, signature=bytes(64)), LABEL, leaf, seen)
    assert len(computed) == 2


# The adapters of the protocol.


def test_a_kept_receipt_is_verified_by_a_reader_who_saw_no_other_of_its_batch(houses, signer):
    hospital, laboratory = houses
    kept = [each.to_bytes() for each in sign_batch(signer, LABEL, said(50))]
    for number in (0, 31, 49):
        peer = peer_of(laboratory.keys.trusted, laboratory.keys.crl_limits)("hospital")
        later = utcnow() + timedelta(minutes=5)
        assert peer.receipt(kept[number], hospital.store.crl_der, later) == said(50)[number]


def test_delivery_statements_are_verified_by_the_key_of_the_handshake_alone(houses):
    hospital, laboratory = houses
    peer = peer_of(hospital.keys.trusted, hospital.keys.crl_limits)("laboratory")
    exchange = laboratory.keys.signer(Purpose.EXCHANGE)
    key = peer.exchange(exchange.chain_der, laboratory.store.crl_der, utcnow())
    signed = deliveries_signer(exchange)(said(20))
    assert [key.statement(each, transcript.DELIVERY) for each in signed] == said(20)
    assert max(map(len, signed)) < 600
    with pytest.raises(Untrusted):
        key.statement(signed[0], transcript.RECEIPT)
    record = laboratory.keys.signer(Purpose.RECORD)
    with pytest.raises(Untrusted):
        key.statement(deliveries_signer(record)(said(1))[0], transcript.DELIVERY)


# Offers of a batch, on the wire between two sides.


def _offers(count: int, alter) -> World:
    """Let several records be asked about together; alter the offers that come."""
    world = World().connect()
    world.storage.register()
    world.hold.add("answer")
    records = [record_of(world.lab, f"{number}".encode()) for number in range(count)]
    world.submit(*records)
    world.hold.clear()
    known = next(iter(world.storage.patients.values()))
    world.at_receiver(ev.Looked(tuple((each.tid, known) for each in records)))
    world.tamper = lambda side, body: [alter(body)] if type_of(body) == "OFFER" else [body]
    return world.run()


@pytest.mark.parametrize(
    "change",
    [
        lambda offer: {"index": offer.index ^ 1},
        lambda offer: {"size": offer.size + 1},
        lambda offer: {"path": offer.path[:-32]},
        lambda offer: {"path": offer.path + bytes(32)},
        lambda offer: {"path": offer.path[::-1]},
        lambda offer: {"root": bytes(32)},
        lambda offer: {"offer": "f" * 32},
        lambda offer: {"ttl_ms": offer.ttl_ms + 1},
    ],
)
def test_an_offer_that_has_no_place_in_its_batch_is_refused(change):
    world = _offers(5, lambda body: altered(body, **change(decode(body))))
    # A size for which the path is right is still not the size that was signed.
    assert world.closed() in ((Code.OFFER, False), (Code.SIGNATURE, False))
    assert world.storage.inbox == {}


def test_the_place_of_one_offer_is_of_no_use_to_another():
    stolen = []

    def swap(body):
        offer = decode(body)
        stolen.append(offer)
        given = stolen[0]
        return altered(body, index=given.index, path=given.path)

    world = _offers(5, swap)
    assert world.closed() == (Code.OFFER, False)


def test_a_root_that_the_receiver_did_not_sign_is_refused():
    def forge(body):
        offer = decode(body)
        leaf = transcript.offer_leaf(offer.tid, offer.offer, offer.key, offer.ttl_ms)
        (place,) = batches.places([leaf])
        return altered(body, index=0, size=1, path=b"", root=place.root)

    assert _offers(5, forge).closed() == (Code.SIGNATURE, False)


def test_deliveries_that_go_out_together_share_a_signature_and_all_arrive():
    batched: list[int] = []
    world = World().connect()
    world.storage.register()
    given = world.sender.ports

    def count(batch):
        batched.append(len(batch))
        return given.sign_deliveries(batch)

    world.sender = replace(world.sender, ports=replace(given, sign_deliveries=count))
    records = [record_of(world.lab, f"{number}".encode()) for number in range(40)]
    world.hold.add("answer")
    world.submit(*records)
    world.hold.clear()
    known = next(iter(world.storage.patients.values()))
    world.at_receiver(ev.Looked(tuple((each.tid, known) for each in records)))
    world.run()
    assert batched == [40]
    assert len(world.storage.inbox) == len(world.of(ev.HaveReceipt)) == 40


def test_a_delivery_statement_of_another_session_is_refused():
    """Replayed by the laboratory itself, inside a seal of the session of now."""
    world = World().connect()
    world.storage.register()
    given, kept = world.sender.ports, []

    def keep(batch):
        kept.append(given.sign_deliveries(batch))
        return kept[0]

    world.sender = replace(world.sender, ports=replace(given, sign_deliveries=keep))
    record = record_of(world.lab)
    world.submit(record)
    assert len(world.storage.inbox) == 1
    world.storage.inbox.clear()
    world.storage.receipts.clear()
    world.reconnect()
    # Another nonce makes another session; tid, offer, content and names are the same.
    world.sender = replace(
        world.sender, ports=replace(given, random=Random("T"), sign_deliveries=keep)
    )
    world.connect().submit(record)
    assert world.closed("seen") == (Code.DELIVERY, False)
    assert world.storage.inbox == {}


def test_what_a_rule_stops_between_offer_and_delivery_is_given_back_unsent():
    world = World().connect()
    world.storage.register()
    stopped: set[str] = set()
    world.sender = replace(
        world.sender, ports=replace(world.sender.ports, is_stopped=lambda tid: tid in stopped)
    )
    world.hold.add("gather")
    record = record_of(world.lab)
    world.submit(record)
    stopped.add(record.tid)
    world.at_sender(ev.Gathered())
    world.run()
    assert world.of(ev.Release) == [ev.Release(record)]
    assert world.storage.inbox == {} and ("S", "DELIVER") not in world.log
