"""What the receiver does at each row of its table (PURE).

The rows themselves are in :mod:`medportal.transfer.protocol`; the shape of the functions is that
of :mod:`medportal.transfer.sending`.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from medportal.transfer import transcript
from medportal.transfer.batches import places
from medportal.transfer.budget import Allowance
from medportal.transfer.errors import Code, ProtocolError
from medportal.transfer.events import (
    Abort,
    Accept,
    Ask,
    Close,
    Declined,
    Effect,
    Established,
    Greet,
    Instant,
    Limits,
    Looked,
    Lost,
    Opened,
    PeerHead,
    Received,
    Refused,
    Registered,
    Send,
    Settled,
    Stop,
    Tick,
    Unsettled,
    Welcomed,
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
from medportal.transfer.ports import (
    Channel,
    Known,
    NotKnown,
    NotReady,
    OfferKey,
    Peer,
    Question,
    Random,
    Receipted,
    Signer,
    VerifyKey,
)
from medportal.transfer.sending import check_algorithm
from medportal.transfer.transcript import Binding

DRAINING_AFTER_MS = 2_000
"""When to ask again while the receiver is stopping."""

OFFERED_TOGETHER = 32
"""How many offers are signed together: half a window, so that both sides have work."""


class Phase(StrEnum):
    """Where the receiver's side of a connection stands."""

    START = "start"
    AWAIT_HELLO = "await-hello"
    WELCOMING = "welcoming"
    AWAIT_PROOF = "await-proof"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Stage(StrEnum):
    """Where one record stands within an open connection; none means that it is not here."""

    NONE = "none"
    ASKED = "asked"
    OFFERED = "offered"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class ReceiverPorts:
    """What the receiver's protocol is given: keys, partners, randomness, one-use keys.

    ``peers`` returns ``None`` for an institution that is no partner or was revoked.
    """

    institution: str
    signer: Signer
    peers: Callable[[str], Peer | None]
    random: Random
    new_key: Callable[[], OfferKey]


@dataclass(frozen=True, slots=True)
class Item:
    """A record under way; the key is there between OFFER and DELIVER only."""

    stage: Stage
    question: Question
    offer: str = ""
    key: OfferKey | None = None
    known: Known | None = None
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """One connection of a receiver, frozen; ``step`` returns the next one.

    Only ``allowance`` changes in place: the partner's other connections spend from it too.
    """

    ports: ReceiverPorts
    limits: Limits
    allowance: Allowance
    phase: Phase = Phase.START
    channel: Channel | None = None
    binding: Binding | None = None
    hello: bytes = field(default=b"", repr=False)
    challenge: bytes = field(default=b"", repr=False)
    session: bytes = field(default=b"", repr=False)
    key: VerifyKey | None = None
    held: HeldHead | None = None
    crl: bytes = field(default=b"", repr=False)
    records: Mapping[str, Item] = field(default_factory=dict)
    until: float = 0.0
    heard: float = 0.0
    ping: bytes = b""


Step = tuple[Receiver, list[Effect]]
Miss = NotKnown | NotReady | Receipted
"""Answers to a QUERY that lead to no offer."""


def send(message: Message) -> Send:
    """Return the effect that sends a message."""
    return Send(encode(message))


def bound(receiver: Receiver) -> Binding:
    """Return the binding, which every phase after HELLO has."""
    assert receiver.binding is not None
    return receiver.binding


# The handshake.


def on_opened(receiver: Receiver, event: Opened, now: Instant) -> Step:
    """Wait for HELLO."""
    after = replace(receiver, channel=event.channel)
    return _waiting(after, Phase.AWAIT_HELLO, now), []


def _waiting(receiver: Receiver, phase: Phase, now: Instant) -> Receiver:
    return replace(receiver, phase=phase, until=now.mono + receiver.limits.handshake)


def on_hello(receiver: Receiver, event: Received[Hello], now: Instant) -> Step:
    """Check who is asking before the database is touched.

    1. The version is ours.
    2. HELLO is addressed to this institution.
    3. The TLS certificate and HELLO name the same institution.
    4. It is a partner, and was not revoked here.
    5. Its TLS chain is not revoked by the CRL that came with HELLO.
    6. Its exchange chain verifies under that partner's CA for the same institution.
    7. A suite is common.
    """
    message, channel = event.message, receiver.channel
    assert channel is not None
    if message.version != VERSION:  # 1
        raise ProtocolError(Code.VERSION)
    if message.receiver != receiver.ports.institution:  # 2
        raise ProtocolError(Code.ADDRESSEE)
    if message.sender != channel.peer:  # 3
        raise ProtocolError(Code.INSTITUTION)
    peer = receiver.ports.peers(message.sender)
    if peer is None:  # 4
        raise ProtocolError(Code.UNKNOWN_PARTNER)
    peer.channel(channel.peer_chain, message.crl, now.wall)  # 5
    key = peer.exchange(message.chain, message.crl, now.wall)  # 6
    if SUITE not in message.suites:  # 7
        raise ProtocolError(Code.NO_COMMON_SUITE)
    binding = Binding(
        message.sender, message.receiver, channel.binding, channel.peer_leaf, channel.own_leaf
    )
    after = replace(
        _waiting(receiver, Phase.WELCOMING, now),
        binding=binding,
        hello=event.raw,
        key=key,
        crl=message.crl,
    )
    return after, [Greet(message.sender, message.held, message.mark)]


def on_welcomed(receiver: Receiver, event: Welcomed, now: Instant) -> Step:
    """Prove ourselves first."""
    signer, welcome = receiver.ports.signer, event.welcome
    draft = Challenge(
        nonce=receiver.ports.random(32),
        suite=SUITE,
        chain=signer.chain_der,
        crl=signer.crl_der,
        head=welcome.own.head,
        consistency=welcome.own.consistency,
        held=welcome.held,
        mark=welcome.mark,
        algorithm=signer.algorithm,
        key_id=signer.key_id,
        signature=bytes(64),
    )
    covered = (receiver.hello, unsigned(encode(draft)))
    signed = signer.sign(transcript.handshake_input(transcript.RECEIVER, bound(receiver), covered))
    challenge = encode(replace(draft, signature=signed))
    after = _waiting(receiver, Phase.AWAIT_PROOF, now)
    return replace(after, challenge=challenge, held=welcome.held), [Send(challenge)]


def on_declined(receiver: Receiver, event: Declined, now: Instant) -> Step:
    """Say when to come back."""
    return closed(receiver, Close("busy"), Busy(None, event.after_ms))


def on_proof(receiver: Receiver, event: Received[Proof], now: Instant) -> Step:
    """Verify that the sender is who it should be, here and now.

    1. Algorithm and key id are those of the certified key.
    2. The signature holds over HELLO, CHALLENGE with our nonce, and PROOF, bound to this TLS
       connection.
    """
    message, key = event.message, receiver.key
    assert key is not None
    check_algorithm(key, message.algorithm, message.key_id)  # 1
    covered = (receiver.hello, receiver.challenge, unsigned(event.raw))
    key.verify(  # 2
        message.signature, transcript.handshake_input(transcript.SENDER, bound(receiver), covered)
    )
    session = transcript.session_id(bound(receiver), receiver.hello, receiver.challenge, event.raw)
    limits = receiver.limits
    ready = Ready(limits.window, limits.max_frame, round(limits.idle * 1000))
    # Also a head that is missing is looked at: a partner that had a log must show one.
    head = PeerHead(message.head, message.consistency, receiver.held)
    after = replace(receiver, phase=Phase.OPEN, session=session, heard=now.mono)
    return after, [send(ready), Established(session), head]


# Records.


def on_query(receiver: Receiver, event: Received[Query], now: Instant) -> Step:
    """Decide on limits before anything is looked up, then look up."""
    message = event.message
    if receiver.phase is Phase.DRAINING:
        return receiver, [send(Busy(message.tid, DRAINING_AFTER_MS))]
    if len(receiver.records) >= receiver.limits.window:
        raise ProtocolError(Code.WINDOW)
    wait_ms = receiver.allowance.take(now.mono)
    if wait_ms:
        return receiver, [send(Busy(message.tid, wait_ms))]
    question = Question(message.tid, message.key_id, message.pseudonym)
    return _with(receiver, Item(Stage.ASKED, question)), [Ask(question)]


def on_query_again(receiver: Receiver, event: Received[Query], now: Instant) -> Step:
    """Refuse a second QUERY for a record under way."""
    raise ProtocolError(Code.TID_IN_USE)


def _with(receiver: Receiver, item: Item) -> Receiver:
    return replace(receiver, records={**receiver.records, item.question.tid: item})


def _without(receiver: Receiver, tid: str) -> Receiver:
    rest = {key: item for key, item in receiver.records.items() if key != tid}
    return replace(receiver, records=rest)


def on_looked(receiver: Receiver, event: Looked, now: Instant) -> Step:
    """Answer queries; offers that come together are signed together."""
    effects: list[Effect] = []
    hits: list[tuple[Item, Known]] = []
    for tid, answer in event.answers:
        item = receiver.records.get(tid)
        if item is None or item.stage is not Stage.ASKED:
            continue
        if isinstance(answer, Known):
            # What it costs if no record follows is put back once one is settled.
            receiver.allowance.no_miss()
            hits.append((item, answer))
        else:
            _reckon(receiver.allowance, answer)
            receiver = _without(receiver, tid)
            effects.append(send(_plain_answer(tid, answer)))
    for start in range(0, len(hits), OFFERED_TOGETHER):
        receiver, offers = _offer(receiver, hits[start : start + OFFERED_TOGETHER], now)
        effects += offers
    return receiver, effects


def _reckon(allowance: Allowance, answer: Miss) -> None:
    """Put back what a question did not cost that led to no offer."""
    allowance.no_waste()
    if not isinstance(answer, NotKnown):
        allowance.no_miss()


def _plain_answer(tid: str, answer: Miss) -> Message:
    if isinstance(answer, NotKnown):
        return Unknown(tid)
    if isinstance(answer, NotReady):
        return Busy(tid, answer.after_ms)
    return ReceiptMessage(tid, answer.receipt)


def _offer(receiver: Receiver, hits: Sequence[tuple[Item, Known]], now: Instant) -> Step:
    until, ttl_ms = now.mono + receiver.limits.offer_ttl, round(receiver.limits.offer_ttl * 1000)
    items = [
        replace(
            item,
            stage=Stage.OFFERED,
            offer=receiver.ports.random(16).hex(),
            key=receiver.ports.new_key(),
            known=known,
            until=until,
        )
        for item, known in hits
    ]
    batch = places(
        [
            transcript.offer_leaf(item.question.tid, item.offer, _public(item), ttl_ms)
            for item in items
        ]
    )
    size, root = len(batch), batch[0].root
    signature = receiver.ports.signer.sign(
        transcript.offers_input(receiver.session, bound(receiver), size, root)
    )
    records = {**receiver.records, **{item.question.tid: item for item in items}}
    return replace(receiver, records=records), [
        send(
            Offer(
                tid=item.question.tid,
                offer=item.offer,
                key=_public(item),
                ttl_ms=ttl_ms,
                index=place.index,
                size=size,
                path=place.path,
                root=root,
                signature=signature,
            )
        )
        for item, place in zip(items, batch, strict=True)
    ]


def _public(item: Item) -> bytes:
    assert item.key is not None
    return item.key.public


def on_deliver(receiver: Receiver, event: Received[Deliver], now: Instant) -> Step:
    """Take a record under an offer that is good; the offer is used up either way."""
    message = event.message
    item = receiver.records[message.tid]
    if not secrets.compare_digest(item.offer, message.offer) or now.mono >= item.until:
        return _without(receiver, message.tid), [send(StaleOffer(message.tid))]
    assert item.key and item.known
    info = transcript.record_info(receiver.session, bound(receiver), message.tid, message.offer)
    accept = Accept(
        message.tid,
        message.offer,
        item.key,
        info,
        message.sealed,
        item.question,
        item.known,
    )
    return _with(receiver, replace(item, stage=Stage.DELIVERED, key=None)), [accept]


def on_deliver_unasked(receiver: Receiver, event: Received[Deliver], now: Instant) -> Step:
    """The offer ran out, or there was none: ask again."""
    return receiver, [send(StaleOffer(event.message.tid))]


def on_settled(receiver: Receiver, event: Settled, now: Instant) -> Step:
    """The record is durable: the receipt may leave."""
    receiver.allowance.no_waste()
    after = _without(receiver, event.tid)
    return drained(after, [send(ReceiptMessage(event.tid, event.receipt))])


def on_unsettled(receiver: Receiver, event: Unsettled, now: Instant) -> Step:
    """Nothing was kept: the sender keeps its record and asks again."""
    receiver.allowance.no_waste()
    return drained(_without(receiver, event.tid), [send(Busy(event.tid, event.after_ms))])


def on_refused(receiver: Receiver, event: Refused, now: Instant) -> Step:
    """What was delivered is not what a sound sender makes."""
    raise ProtocolError(event.code, tid=event.tid)


def on_registered(receiver: Receiver, event: Registered, now: Instant) -> Step:
    """Tell the sender that asking again may be worth it."""
    return receiver, [send(Changed())]


# Keeping up, and ending.


def on_ping(receiver: Receiver, event: Received[Ping], now: Instant) -> Step:
    """Echo a question; take an echo as what it is."""
    if not event.message.reply:
        return receiver, [send(Ping(event.message.token, reply=True))]
    if event.message.token != receiver.ping:
        raise ProtocolError(Code.UNEXPECTED)
    return replace(receiver, ping=b""), []


def on_tick_handshake(receiver: Receiver, event: Tick, now: Instant) -> Step:
    """Give up a handshake that takes too long."""
    if now.mono >= receiver.until:
        raise ProtocolError(Code.TIMEOUT)
    return receiver, []


def on_tick_open(receiver: Receiver, event: Tick, now: Instant) -> Step:
    """Forget offers that ran out, give up on silence, ask whether the peer is there."""
    kept = {
        tid: item
        for tid, item in receiver.records.items()
        if item.stage is not Stage.OFFERED or now.mono < item.until
    }
    after = receiver if len(kept) == len(receiver.records) else replace(receiver, records=kept)
    return _keep_alive(after, now)


def _keep_alive(receiver: Receiver, now: Instant) -> Step:
    silence = now.mono - receiver.heard
    if silence >= 2 * receiver.limits.idle:
        raise ProtocolError(Code.TIMEOUT)
    if silence < receiver.limits.idle or receiver.ping:
        return receiver, []
    token = receiver.ports.random(8)
    return replace(receiver, ping=token), [send(Ping(token, reply=False))]


def on_tick_draining(receiver: Receiver, event: Tick, now: Instant) -> Step:
    """End when the time for commits is over; their receipts are given on the next QUERY."""
    if now.mono >= receiver.until:
        return closed(receiver, Close(), Bye())
    return receiver, []


def on_stop(receiver: Receiver, event: Stop, now: Instant) -> Step:
    """Take nothing new; receipt what was delivered, forget the rest."""
    kept = {tid: item for tid, item in receiver.records.items() if item.stage is Stage.DELIVERED}
    until = now.mono + receiver.limits.drain
    return drained(replace(receiver, phase=Phase.DRAINING, records=kept, until=until), [])


def drained(receiver: Receiver, effects: Sequence[Effect]) -> Step:
    """End with BYE once nothing is under way."""
    if receiver.phase is not Phase.DRAINING or receiver.records:
        return receiver, list(effects)
    after, ending = closed(receiver, Close(), Bye())
    return after, [*effects, *ending]


def on_quit(receiver: Receiver, event: Stop, now: Instant) -> Step:
    """End before records passed."""
    return closed(receiver, Close(), Bye())


def on_quiet_stop(receiver: Receiver, event: Stop, now: Instant) -> Step:
    """End before TLS was up: there is nobody to say it to."""
    return closed(receiver, Close())


def on_bye(receiver: Receiver, event: Received[Bye], now: Instant) -> Step:
    """The sender has nothing more."""
    return closed(receiver, Close(by_peer=True))


def on_error(receiver: Receiver, event: Received[ErrorMessage], now: Instant) -> Step:
    """The sender gave up."""
    return closed(receiver, Close(event.message.code, by_peer=True))


def on_lost(receiver: Receiver, event: Lost, now: Instant) -> Step:
    """The connection broke; what is being committed is receipted on the next QUERY."""
    return closed(receiver, Close("lost"))


def on_abort(receiver: Receiver, event: Abort, now: Instant) -> Step:
    """Something outside the table ends the connection."""
    raise ProtocolError(event.code)


def failed(receiver: Receiver, code: Code, tid: str | None) -> Step:
    """Tell the peer why and close."""
    goodbye = () if receiver.phase is Phase.START else (ErrorMessage(code, tid),)
    return closed(receiver, Close(code), *goodbye)


def closed(receiver: Receiver, close: Close, *last: Message) -> Step:
    """End; every one-use key is forgotten."""
    after = replace(receiver, phase=Phase.CLOSED, records={})
    return after, [*(send(message) for message in last), close]
