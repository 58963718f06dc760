"""What the sender does at each row of its table (PURE).

The rows themselves are in :mod:`medportal.transfer.protocol`. Every function takes the session,
the event and the moment, and returns the next session and the effects; it raises
``TransferError`` where the connection cannot go on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from medportal.audit.errors import BadProof
from medportal.transfer import payload, transcript
from medportal.transfer.batches import MOST, Place
from medportal.transfer.errors import Code, ProtocolError
from medportal.transfer.events import (
    Abort,
    Again,
    Close,
    Effect,
    Established,
    Gather,
    Gathered,
    HaveReceipt,
    Instant,
    Limits,
    Lost,
    Opened,
    PartnerChanged,
    PeerHead,
    Prepare,
    Prepared,
    Received,
    Release,
    Send,
    Stop,
    Submit,
    Tick,
    Unheard,
)
from medportal.transfer.messages import (
    SUITE,
    VERSION,
    Busy,
    Bye,
    Challenge,
    Changed,
    Deliver,
    ErrorMessage,
    HeldHead,
    Hello,
    Mark,
    Message,
    Offer,
    Ping,
    Proof,
    Query,
    Ready,
    ReceiptMessage,
    StaleOffer,
    Unknown,
    encode,
    unsigned,
)
from medportal.transfer.ports import OutgoingRecord, Peer, Random, Signer, VerifyKey
from medportal.transfer.transcript import Binding

BLAMED_AFTER_MS = 60_000
"""How long a record rests after a connection was given up because of it."""

TOO_LARGE_AFTER_MS = 3_600_000
STALE_AFTER_MS = 1_000
MOST_STALE = 2
"""How often in a row an offer may go stale before the record waits."""


class Phase(StrEnum):
    """Where the sender's side of a connection stands."""

    START = "start"
    AWAIT_CHALLENGE = "await-challenge"
    PREPARING = "preparing"
    AWAIT_READY = "await-ready"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Stage(StrEnum):
    """Where one record stands within an open connection; none means that it is not here."""

    NONE = "none"
    QUERIED = "queried"
    OFFERED = "offered"
    DELIVERED = "delivered"


def _never(_tid: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class SenderPorts:
    """What the sender's protocol is given: keys, the partner, randomness, sealing.

    ``sign_deliveries`` signs the fields of several statements at once with the exchange key, under
    the label ``CRX/1 delivery``.
    """

    institution: str
    signer: Signer
    peer: Peer
    random: Random
    seal: Callable[[bytes, bytes, bytes], bytes]
    sign_deliveries: Callable[[Sequence[Mapping[str, Any]]], Sequence[bytes]]
    is_stopped: Callable[[str], bool] = _never


@dataclass(frozen=True, slots=True)
class Item:
    """A record under way: its stage, until when an answer is waited for, how often stale.

    The offer is there between OFFER and DELIVER only.
    """

    stage: Stage
    record: OutgoingRecord
    until: float
    stale: int = 0
    offer: Offer | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """One connection of a sender, frozen; ``step`` returns the next one."""

    ports: SenderPorts
    limits: Limits
    held: HeldHead | None = None
    mark: Mark | None = None
    phase: Phase = Phase.START
    binding: Binding | None = None
    peer_chain: tuple[bytes, ...] = ()
    hello: bytes = field(default=b"", repr=False)
    challenge: bytes = field(default=b"", repr=False)
    session: bytes = field(default=b"", repr=False)
    key: VerifyKey | None = None
    crl: bytes = field(default=b"", repr=False)
    window: int = 0
    records: Mapping[str, Item] = field(default_factory=dict)
    batch: tuple[int, bytes, bytes] | None = None
    until: float = 0.0
    since: float = 0.0
    heard: float = 0.0
    ping: bytes = b""

    @property
    def room(self) -> int:
        """How many records more may be submitted now."""
        return max(0, self.window - len(self.records)) if self.phase is Phase.OPEN else 0


Step = tuple[Sender, list[Effect]]


def send(message: Message) -> Send:
    """Return the effect that sends a message."""
    return Send(encode(message))


def bound(sender: Sender) -> Binding:
    """Return the binding, which every phase after START has."""
    assert sender.binding is not None
    return sender.binding


# The handshake.


def on_opened(sender: Sender, event: Opened, now: Instant) -> Step:
    """Say HELLO."""
    ports, channel = sender.ports, event.channel
    if channel.peer != ports.peer.institution:
        raise ProtocolError(Code.INSTITUTION)
    hello = encode(
        Hello(
            version=VERSION,
            sender=ports.institution,
            receiver=channel.peer,
            nonce=ports.random(32),
            suites=(SUITE,),
            chain=ports.signer.chain_der,
            crl=ports.signer.crl_der,
            held=sender.held,
            mark=sender.mark,
        )
    )
    binding = Binding(
        ports.institution, channel.peer, channel.binding, channel.own_leaf, channel.peer_leaf
    )
    after = replace(
        _waiting(sender, Phase.AWAIT_CHALLENGE, now),
        binding=binding,
        hello=hello,
        peer_chain=channel.peer_chain,
        since=now.mono,
    )
    return after, [Send(hello)]


def _waiting(sender: Sender, phase: Phase, now: Instant) -> Sender:
    return replace(sender, phase=phase, until=now.mono + sender.limits.handshake)


def on_challenge(sender: Sender, event: Received[Challenge], now: Instant) -> Step:
    """Verify that the receiver is who it should be, before anything of ours is told.

    1. The suite is one that HELLO offered.
    2. The TLS chain is not revoked by the CRL that came with CHALLENGE.
    3. The exchange chain verifies under the partner's CA for the same institution.
    4. Algorithm and key id are those of the certified key.
    5. The signature holds over HELLO and CHALLENGE, bound to this TLS connection.
    """
    message, peer = event.message, sender.ports.peer
    if message.suite != SUITE:  # 1
        raise ProtocolError(Code.SUITE)
    peer.channel(sender.peer_chain, message.crl, now.wall)  # 2
    key = peer.exchange(message.chain, message.crl, now.wall)  # 3
    check_algorithm(key, message.algorithm, message.key_id)  # 4
    covered = (sender.hello, unsigned(event.raw))
    key.verify(  # 5
        message.signature, transcript.handshake_input(transcript.RECEIVER, bound(sender), covered)
    )
    after = replace(
        _waiting(sender, Phase.PREPARING, now), key=key, crl=message.crl, challenge=event.raw
    )
    # Also a head that is missing is looked at: a partner that had a log must show one.
    head = PeerHead(message.head, message.consistency, sender.held)
    return after, [Prepare(message.mark, message.held), head]


def check_algorithm(key: VerifyKey, algorithm: str, key_id: str) -> None:
    """Raise ``ProtocolError`` unless a message names the key that its certificate certifies."""
    if (algorithm, key_id) != (key.algorithm, key.key_id):
        raise ProtocolError(Code.ALGORITHM)


def on_prepared(sender: Sender, event: Prepared, now: Instant) -> Step:
    """Prove ourselves over everything said so far."""
    signer = sender.ports.signer
    draft = Proof(event.own.head, event.own.consistency, signer.algorithm, signer.key_id, bytes(64))
    covered = (sender.hello, sender.challenge, unsigned(encode(draft)))
    signed = signer.sign(transcript.handshake_input(transcript.SENDER, bound(sender), covered))
    proof = encode(replace(draft, signature=signed))
    session = transcript.session_id(bound(sender), sender.hello, sender.challenge, proof)
    return replace(_waiting(sender, Phase.AWAIT_READY, now), session=session), [Send(proof)]


def on_ready(sender: Sender, event: Received[Ready], now: Instant) -> Step:
    """The receiver takes records now."""
    window = min(event.message.window, sender.limits.window)
    after = replace(sender, phase=Phase.OPEN, window=window, heard=now.mono)
    return after, [Established(sender.session)]


# Records.


def on_submit(sender: Sender, event: Submit, now: Instant) -> Step:
    """Ask about a record, or give it back where there is no room for it."""
    record = event.record
    if len(record.payload) > payload.MAX_PAYLOAD:
        return sender, [Again(record, TOO_LARGE_AFTER_MS, "too-large")]
    if sender.room == 0 or record.tid in sender.records:
        return sender, [Release(record)]
    return _query(sender, record, 0, now)


def _query(sender: Sender, record: OutgoingRecord, stale: int, now: Instant) -> Step:
    item = Item(Stage.QUERIED, record, now.mono + sender.limits.answer, stale)
    after = _with(sender, item)
    return after, [send(Query(record.tid, record.key_id, record.pseudonym))]


def _with(sender: Sender, item: Item) -> Sender:
    return replace(sender, records={**sender.records, item.record.tid: item})


def _without(sender: Sender, tid: str) -> Sender:
    rest = {key: item for key, item in sender.records.items() if key != tid}
    return replace(sender, records=rest)


def on_offer(sender: Sender, event: Received[Offer], now: Instant) -> Step:
    """Verify the offer; it is used together with those that came with it.

    What a rule of the patient stops since it was claimed is given back unsent; the offer runs
    out.
    """
    message, item = event.message, sender.records[event.message.tid]
    after = _check_offer(sender, message)
    if sender.ports.is_stopped(message.tid):
        return _without(after, message.tid), [Release(item.record)]
    is_first = all(each.stage is not Stage.OFFERED for each in sender.records.values())
    after = _with(after, replace(item, stage=Stage.OFFERED, offer=message))
    return after, [Gather()] if is_first else []


def _check_offer(sender: Sender, message: Offer) -> Sender:
    """Check that the offer is of a batch that the receiver signed in this session."""
    place = Place(message.index, message.size, message.path, message.root)
    try:
        place.check(transcript.offer_leaf(message.tid, message.offer, message.key, message.ttl_ms))
    except BadProof as error:
        raise ProtocolError(Code.OFFER, tid=message.tid) from error
    batch = (message.size, message.root, message.signature)
    if batch == sender.batch:
        return sender  # The batch was verified with its first offer.
    assert sender.key is not None
    sender.key.verify(
        message.signature,
        transcript.offers_input(sender.session, bound(sender), message.size, message.root),
    )
    return replace(sender, batch=batch)


def on_gathered(sender: Sender, event: Gathered, now: Instant) -> Step:
    """Seal records to their one-use keys and deliver them; one signature covers all of them.

    What a rule of the patient stops by now is given back unsent, as in :func:`on_offer`.
    """
    offered = [(item, item.offer) for item in sender.records.values() if item.offer is not None]
    records = dict(sender.records)
    effects: list[Effect] = []
    going: list[tuple[Item, Offer]] = []
    for item, offer in offered[:MOST]:
        if sender.ports.is_stopped(offer.tid):
            del records[offer.tid]
            effects.append(Release(item.record))
        else:
            going.append((item, offer))
    until = now.mono + sender.limits.answer
    for (item, offer), statement in zip(going, _statements(sender, going), strict=True):
        effects.append(send(_deliver(sender, item.record, offer, statement)))
        records[offer.tid] = replace(item, stage=Stage.DELIVERED, until=until, offer=None)
    if len(offered) > MOST:
        effects.append(Gather())
    return replace(sender, records=records), effects


def _statements(sender: Sender, going: Sequence[tuple[Item, Offer]]) -> Sequence[bytes]:
    if not going:
        return ()
    return sender.ports.sign_deliveries(
        [delivery_fields(sender, item.record, offer.offer) for item, offer in going]
    )


def _deliver(sender: Sender, record: OutgoingRecord, offer: Offer, statement: bytes) -> Deliver:
    info = transcript.record_info(sender.session, bound(sender), record.tid, offer.offer)
    plain = payload.with_delivery(record.payload, statement)
    try:
        return Deliver(record.tid, offer.offer, sender.ports.seal(offer.key, plain, info))
    except ProtocolError as error:
        raise ProtocolError(error.code, tid=record.tid) from error


def delivery_fields(sender: Sender, record: OutgoingRecord, offer: str) -> dict[str, Any]:
    """Return what the delivery signature says."""
    return payload.delivery_fields(sender.session, record.digest, bound(sender), record.tid, offer)


def on_unknown(sender: Sender, event: Received[Unknown], now: Instant) -> Step:
    """The partner does not know the patient, or says so."""
    item = sender.records[event.message.tid]
    return _without(sender, event.message.tid), [Unheard(item.record)]


def on_receipt(sender: Sender, event: Received[ReceiptMessage], now: Instant) -> Step:
    """Verify the receipt; one for another content is a conflict, never a success."""
    message = event.message
    item = sender.records[message.tid]
    receipt = payload.read_receipt(
        message.receipt, sender.ports.peer, sender.crl, bound(sender), message.tid, now.wall
    )
    conflict = receipt.digest != item.record.digest
    return _without(sender, message.tid), [HaveReceipt(item.record, receipt, conflict)]


def on_stale(sender: Sender, event: Received[StaleOffer], now: Instant) -> Step:
    """Ask again at once, and after a few times later."""
    item = sender.records[event.message.tid]
    if item.stale >= MOST_STALE:
        gone = _without(sender, event.message.tid)
        return gone, [Again(item.record, STALE_AFTER_MS, "stale-offer")]
    return _query(sender, item.record, item.stale + 1, now)


def on_busy_record(sender: Sender, event: Received[Busy], now: Instant) -> Step:
    """Ask about this record again when the partner wishes."""
    tid = event.message.about or ""
    item = sender.records[tid]
    return _without(sender, tid), [Again(item.record, event.message.after_ms, "busy")]


def on_busy(sender: Sender, event: Received[Busy], now: Instant) -> Step:
    """The partner takes no connection now."""
    return closed(sender, Close("busy", by_peer=True, after_ms=event.message.after_ms))


def on_changed(sender: Sender, event: Received[Changed], now: Instant) -> Step:
    """The partner registered patients; whom, it does not say."""
    return sender, [PartnerChanged()]


# Keeping up, and ending.


def on_ping(sender: Sender, event: Received[Ping], now: Instant) -> Step:
    """Echo a question; take an echo as what it is."""
    if not event.message.reply:
        return sender, [send(Ping(event.message.token, reply=True))]
    if event.message.token != sender.ping:
        raise ProtocolError(Code.UNEXPECTED)
    return replace(sender, ping=b""), []


def on_tick_handshake(sender: Sender, event: Tick, now: Instant) -> Step:
    """Give up a handshake that takes too long."""
    if now.mono >= sender.until:
        raise ProtocolError(Code.TIMEOUT)
    return sender, []


def on_tick_open(sender: Sender, event: Tick, now: Instant) -> Step:
    """Give up on silence, ask whether the peer is there, and end a connection grown old."""
    _check_answers(sender, now)
    if now.mono >= sender.since + sender.limits.max_age:
        return on_stop(sender, Stop(), now)
    return _keep_alive(sender, now)


def _check_answers(sender: Sender, now: Instant) -> None:
    for tid, item in sender.records.items():
        if now.mono >= item.until:
            raise ProtocolError(Code.TIMEOUT, "no answer about a record", tid)


def _keep_alive(sender: Sender, now: Instant) -> Step:
    silence = now.mono - sender.heard
    if silence >= 2 * sender.limits.idle:
        raise ProtocolError(Code.TIMEOUT)
    if silence < sender.limits.idle or sender.ping:
        return sender, []
    token = sender.ports.random(8)
    return replace(sender, ping=token), [send(Ping(token, reply=False))]


def on_tick_draining(sender: Sender, event: Tick, now: Instant) -> Step:
    """End when the time for answers is over."""
    if now.mono >= sender.until:
        return closed(sender, Close(), Bye())
    return sender, []


def on_stop(sender: Sender, event: Stop, now: Instant) -> Step:
    """Submit nothing more; wait for the answers that are due."""
    until = now.mono + sender.limits.drain
    return drained(replace(sender, phase=Phase.DRAINING, until=until), [])


def drained(sender: Sender, effects: Sequence[Effect]) -> Step:
    """End with BYE once nothing is under way."""
    if sender.phase is not Phase.DRAINING or sender.records:
        return sender, list(effects)
    after, ending = closed(sender, Close(), Bye())
    return after, [*effects, *ending]


def on_quit(sender: Sender, event: Stop, now: Instant) -> Step:
    """End before anything was submitted."""
    return closed(sender, Close(), Bye())


def on_quiet_stop(sender: Sender, event: Stop, now: Instant) -> Step:
    """End before TLS was up: there is nobody to say it to."""
    return closed(sender, Close())


def on_bye(sender: Sender, event: Received[Bye], now: Instant) -> Step:
    """The partner answers nothing more."""
    return closed(sender, Close(by_peer=True))


def on_error(sender: Sender, event: Received[ErrorMessage], now: Instant) -> Step:
    """The partner gave up, perhaps because of one record."""
    message = event.message
    after, effects = blamed(sender, message.about, message.code)
    return _end(after, effects, Close(message.code, by_peer=True))


def on_lost(sender: Sender, event: Lost, now: Instant) -> Step:
    """The connection broke: what was under way is asked about again."""
    return closed(sender, Close("lost"))


def on_abort(sender: Sender, event: Abort, now: Instant) -> Step:
    """Something outside the table ends the connection."""
    raise ProtocolError(event.code)


def failed(sender: Sender, code: Code, tid: str | None) -> Step:
    """Tell the peer why and close; the record to blame rests, the others go back untried."""
    after, effects = blamed(sender, tid, code)
    goodbye = [] if sender.phase is Phase.START else [send(ErrorMessage(code, tid))]
    return _end(after, [*effects, *goodbye], Close(code))


def blamed(sender: Sender, tid: str | None, reason: str) -> Step:
    """Let the record that ended a connection rest, so that it cannot hold up the others."""
    item = sender.records.get(tid or "")
    if item is None:
        return sender, []
    return _without(sender, item.record.tid), [Again(item.record, BLAMED_AFTER_MS, reason)]


def closed(sender: Sender, close: Close, *last: Message) -> Step:
    """End; give back everything that is under way."""
    return _end(sender, [send(message) for message in last], close)


def _end(sender: Sender, effects: list[Effect], close: Close) -> Step:
    given_back = [Release(item.record) for item in sender.records.values()]
    after = replace(sender, phase=Phase.CLOSED, records={})
    return after, [*effects, *given_back, close]


def on_late(sender: Sender, event: Submit, now: Instant) -> Step:
    """Give a record back that was submitted while no records pass."""
    return sender, [Release(event.record)]
