"""Two institutions in one process, with a wire between them that a test may tamper with.

Keys and signatures are real; certificates are short byte strings that name their owner, because
what certificates prove is tested with the real PKI. Nothing here opens a socket or a database.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from medportal.core import canonical
from medportal.core.ids import new_id
from medportal.delivery.parcel import Parcel
from medportal.delivery.states import Outcome
from medportal.transfer import events as ev
from medportal.transfer import kem, payload, ports, protocol, transcript
from medportal.transfer.errors import Code, TransferError, Untrusted
from medportal.transfer.messages import CLASSES, Mark, Message, decode, encode
from medportal.transfer.receiving import Receiver, ReceiverPorts
from medportal.transfer.sending import Sender, SenderPorts

WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEME, NUMBER, NAME, BIRTH = "citizen", "12345678", "Ana Sousa", "1980-02-29"
AUTHOR = "medportal record 1"


def at(mono: float = 0.0) -> ev.Instant:
    """Return an instant of the simulated clocks."""
    return ev.Instant(WALL, mono)


class Random:
    """Bytes that are all different and the same in each run."""

    def __init__(self, seed: str) -> None:
        self.seed, self.count = seed, 0

    def __call__(self, length: int) -> bytes:
        self.count += 1
        return hashlib.shake_256(f"{self.seed}{self.count}".encode()).digest(length)


@dataclass(frozen=True)
class SimKey:
    """A signing key; also what verifies with its public half."""

    key: Ed25519PrivateKey
    key_id: str
    chain_der: tuple[bytes, ...]
    crl_der: bytes = b"crl"
    algorithm: str = "Ed25519"
    link: None = None

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)

    def signed(self, label: str, fields: Mapping[str, Any]) -> bytes:
        body = canonical.encode([label, self.key_id, dict(fields)])
        return canonical.encode([body, self.sign(body)])

    def verify(self, signature: bytes, data: bytes) -> None:
        _verify(self.key.public_key(), signature, data)

    def statement(self, signed: bytes, label: str) -> Mapping[str, Any]:
        try:
            body, signature = canonical.decode(signed)
            _verify(self.key.public_key(), signature, body)
            said_label, key_id, fields = canonical.decode(body)
        except (canonical.NotCanonical, ValueError, TypeError) as error:
            raise Untrusted(Code.SIGNATURE) from error
        if (said_label, key_id) != (label, self.key_id):
            raise Untrusted(Code.SIGNATURE)
        return dict(fields)


def _verify(key: Ed25519PublicKey, signature: bytes, data: bytes) -> None:
    try:
        key.verify(signature, data)
    except InvalidSignature as error:
        raise Untrusted(Code.SIGNATURE) from error


def _key(institution: str, purpose: str) -> SimKey:
    name = f"{institution}/{purpose}"
    return SimKey(Ed25519PrivateKey.generate(), name.replace("/", ":"), (name.encode(),))


class Institution:
    """Keys of one institution, and what its partner knows of it (it is its own ``Peer``)."""

    def __init__(self, institution: str) -> None:
        self.institution = institution
        self.keys = {p: _key(institution, p) for p in ("exchange", "record", "receipt")}
        self.channel_chain = (f"{institution}/channel".encode(),)

    def channel(self, chain: Sequence[bytes], crl: bytes | None, now: datetime) -> None:
        self._check(chain, self.channel_chain, crl)

    def _check(
        self, chain: Sequence[bytes], expected: tuple[bytes, ...], crl: bytes | None
    ) -> None:
        if tuple(chain) != expected or crl == b"revoked":
            raise Untrusted(Code.CERTIFICATE)

    def exchange(self, chain: Sequence[bytes], crl: bytes, now: datetime) -> SimKey:
        self._check(chain, self.keys["exchange"].chain_der, crl)
        return self.keys["exchange"]

    def author(self, signed: bytes, crl: bytes, now: datetime) -> Mapping[str, Any]:
        return self.keys["record"].statement(signed, AUTHOR)

    def receipt(self, signed: bytes, crl: bytes, now: datetime) -> Mapping[str, Any]:
        return self.keys["receipt"].statement(signed, transcript.RECEIPT)


class PairNames:
    """Pseudonyms under a toy pair key."""

    def pseudonym(self, partner: str, key_id: str, scheme: str, number: str) -> bytes:
        return hashlib.sha256(f"{key_id}{scheme}{number}".encode()).digest()

    def tag(self, partner: str, key_id: str, name: str, birth: str) -> bytes:
        return hashlib.sha256(f"{key_id}{name}{birth}".encode()).digest()


NAMES = PairNames()


def record_of(
    author: Institution,
    content: bytes = b'{"resourceType":"Bundle"}',
    *,
    tid: str = "",
    number: str = NUMBER,
    name: str = NAME,
    asked: str = "",
    said: Mapping[str, Any] | None = None,
) -> ports.OutgoingRecord:
    """Return a record as the outbox hands it to the sender."""
    digest = hashlib.sha256(content).digest()
    fields = said or {"digest": digest, "institution": author.institution}
    statement = author.keys["record"].signed(AUTHOR, fields)
    packed = Parcel(content, statement, SCHEME, number, name, BIRTH).to_bytes()
    pseudonym = NAMES.pseudonym("", "k1", SCHEME, asked or number)
    return ports.OutgoingRecord(tid or new_id(), "k1", pseudonym, digest, packed)


@dataclass
class Storage:
    """The receiver's database: what is durable."""

    patients: dict[bytes, ports.Known] = field(default_factory=dict)
    inbox: dict[str, ports.AcceptedRecord] = field(default_factory=dict)
    receipts: dict[str, bytes] = field(default_factory=dict)
    epoch: str = field(default_factory=new_id)
    ready: bool = True
    full: bool = False

    def register(self, number: str = NUMBER, name: str = NAME) -> None:
        known = ports.Known(new_id(), NAMES.tag("", "k1", name, BIRTH))
        self.patients[NAMES.pseudonym("", "k1", SCHEME, number)] = known

    def answer(self, question: ports.Question) -> ports.Answer:
        if question.tid in self.receipts:
            return ports.Receipted(self.receipts[question.tid])
        if question.key_id == "k1" and question.pseudonym in self.patients:
            return self.patients[question.pseudonym]
        return ports.NotKnown() if self.ready else ports.NotReady(7)

    def commit(self, record: ports.AcceptedRecord, receiver: Institution) -> bytes:
        held = self.inbox.get(record.tid)
        if held and held.digest != record.digest:
            return self._receipt(record, receiver, Outcome.REJECTED, "digest-conflict", 0)
        if not held:
            self.inbox[record.tid] = record
            outcome = Outcome.REGISTERED if record.fits else Outcome.HELD_FOR_REVIEW
            outcome = Outcome.REJECTED if record.refusal else outcome
            sequence = len(self.receipts) + 1
            signed = self._receipt(record, receiver, outcome, record.refusal, sequence)
            self.receipts[record.tid] = signed
        return self.receipts[record.tid]

    def _receipt(
        self,
        record: ports.AcceptedRecord,
        receiver: Institution,
        outcome: Outcome,
        reason: str,
        sequence: int,
    ) -> bytes:
        said = ports.Receipt(record.tid, outcome, record.digest, sequence, WALL, reason, True, b"")
        fields = payload.receipt_fields(said, record.sender, receiver.institution)
        return receiver.keys["receipt"].signed(transcript.RECEIPT, fields)


Wire = list[bytes]


class World:
    """A laboratory that sends, a hospital that receives, and the wire between.

    ``to_receiver`` and ``to_sender`` hold bodies of frames under way; :meth:`run` carries them
    until nothing moves. ``done`` are the sender's effects other than sends, ``log`` all messages.
    """

    def __init__(
        self,
        limits: ev.Limits | None = None,
        sender: str = "laboratory",
        receiver: str = "hospital",
        mark: Mark | None = None,
    ) -> None:
        self.lab, self.hospital = Institution(sender), Institution(receiver)
        self.storage = Storage()
        self.limits = limits or ev.Limits()
        self.clock = 0.0
        self.done: list[ev.Effect] = []
        self.seen: list[ev.Effect] = []
        self.log: list[tuple[str, str]] = []
        self.own = ports.OwnHead()
        self.mark = mark
        self.tamper: Callable[[str, bytes], list[bytes]] = lambda side, body: [body]
        self.hold: set[str] = set()
        self.reconnect()

    def reconnect(self) -> None:
        """Start a new connection over the same durable state."""
        self.sender: Sender = protocol.new_sender(self.sender_ports(), self.limits, mark=self.mark)
        self.receiver: Receiver = protocol.new_receiver(
            self.receiver_ports(), self.limits, protocol.new_allowance(self.limits)
        )
        self.to_receiver: Wire = []
        self.to_sender: Wire = []
        self.gathering = False

    def sender_ports(self) -> SenderPorts:
        key = self.lab.keys["exchange"]
        return SenderPorts(
            self.lab.institution,
            key,
            self.hospital,
            Random("S"),
            kem.seal,
            lambda batch: [key.signed(transcript.DELIVERY, fields) for fields in batch],
        )

    def receiver_ports(self) -> ReceiverPorts:
        peers = {self.lab.institution: self.lab}
        return ReceiverPorts(
            self.hospital.institution,
            self.hospital.keys["exchange"],
            peers.get,
            Random("R"),
            kem.OneUseKey,
        )

    def channels(self) -> tuple[ports.Channel, ports.Channel]:
        """Return the same TLS connection as S and as R see it."""
        lab, hospital = b"L" * 32, b"H" * 32
        ours = ports.Channel(
            b"cb" * 16, lab, hospital, self.hospital.institution, self.hospital.channel_chain
        )
        theirs = ports.Channel(
            b"cb" * 16, hospital, lab, self.lab.institution, self.lab.channel_chain
        )
        return ours, theirs

    # Driving.

    def connect(self) -> "World":
        """Bring TLS up and carry the handshake to its end."""
        ours, theirs = self.channels()
        self.at_receiver(ev.Opened(theirs))
        self.at_sender(ev.Opened(ours))
        return self.run()

    def submit(self, *records: ports.OutgoingRecord) -> "World":
        """Hand records to the sender and carry what follows."""
        for record in records:
            self.at_sender(ev.Submit(record))
        return self.run()

    def tick(self, seconds: float) -> "World":
        """Let time pass on both sides."""
        self.clock += seconds
        self.at_sender(ev.Tick())
        self.at_receiver(ev.Tick())
        return self.run()

    def run(self) -> "World":
        """Carry frames until the wire is empty."""
        while self.to_receiver or self.to_sender or self.gathering:
            if self.to_receiver:
                self.deliver("R", self.to_receiver.pop(0))
            elif self.to_sender:
                self.deliver("S", self.to_sender.pop(0))
            else:
                self.gathering = False
                self.at_sender(ev.Gathered())
        return self

    def deliver(self, side: str, body: bytes) -> None:
        """Give one frame to a side, past whatever tampers with the wire."""
        for each in self.tamper(side, body):
            self.feed(side, each)

    def feed(self, side: str, body: bytes) -> None:
        """Give bytes to a side as they are."""
        (self.at_sender if side == "S" else self.at_receiver)(protocol.arrived(body))

    def at_sender(self, event: ev.Event) -> list[ev.Effect]:
        """Step the sender and carry out its effects."""
        before = self.sender
        self.sender, effects = protocol.step_sender(before, event, at(self.clock))
        check_step(protocol.SENDER, protocol.SENDER_RECORD, before, event, self.sender)
        for effect in effects:
            self._sender_effect(effect)
        return effects

    def _sender_effect(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Send(body):
                self.log.append(("S", decode(body).TYPE))
                self.to_receiver.append(body)
            case ev.Prepare() if "prepare" not in self.hold:
                self.done.append(effect)
                self.at_sender(ev.Prepared(self.own))
            case ev.Gather() if "gather" not in self.hold:
                # What has come already is heard first, as from a socket.
                self.gathering = True
            case _:
                self.done.append(effect)

    def at_receiver(self, event: ev.Event) -> list[ev.Effect]:
        """Step the receiver and carry out its effects."""
        before = self.receiver
        self.receiver, effects = protocol.step_receiver(before, event, at(self.clock))
        check_step(protocol.RECEIVER, protocol.RECEIVER_RECORD, before, event, self.receiver)
        asked = [effect.question for effect in effects if isinstance(effect, ev.Ask)]
        for effect in effects:
            self._receiver_effect(effect)
        if asked and "answer" not in self.hold:
            answers = tuple((q.tid, self.storage.answer(q)) for q in asked)
            self.at_receiver(ev.Looked(answers))
        return effects

    def _receiver_effect(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Send(body):
                self.log.append(("R", decode(body).TYPE))
                self.to_sender.append(body)
            case ev.Greet() if "greet" not in self.hold:
                self.seen.append(effect)
                mark = Mark(self.storage.epoch, len(self.storage.receipts))
                self.at_receiver(ev.Welcomed(ports.Welcome(mark, None, self.own)))
            case ev.Accept() if "commit" not in self.hold:
                self.seen.append(effect)
                self.at_receiver(self.commit(effect))
            case _:
                self.seen.append(effect)

    def commit(self, accept: ev.Accept) -> ev.Event:
        """Open, verify and store one delivery, as the receiver's worker does."""
        assert self.receiver.binding is not None
        if self.storage.full:
            return ev.Unsettled(accept.tid, 9)
        try:
            record = received(accept, self.receiver, self.lab)
        except TransferError as error:
            return ev.Refused(accept.tid, error.code)
        return ev.Settled(accept.tid, self.storage.commit(record, self.hospital))

    # Reading.

    def of(self, kind: type[Any], where: str = "done") -> list[Any]:
        """Return the effects of one kind, of the sender (``done``) or the receiver (``seen``)."""
        return [effect for effect in getattr(self, where) if isinstance(effect, kind)]

    def closed(self, where: str = "done") -> tuple[str, bool]:
        """Return code and side of the last close."""
        close = self.of(ev.Close, where)[-1]
        return close.code, close.by_peer


def received(
    accept: ev.Accept,
    receiver: Receiver,
    lab: ports.Peer,
    check: payload.ContentCheck = lambda *_: "",
) -> ports.AcceptedRecord:
    """Open, read and judge a delivery, as opener and receiver do between them."""
    assert receiver.binding is not None and receiver.key is not None
    assert isinstance(accept.key, kem.OneUseKey)
    intro = payload.Introduction(receiver.session, receiver.binding, (), receiver.crl, WALL)
    delivered = payload.Sealed(accept.tid, accept.offer, accept.info, accept.sealed)
    contents = payload.open_delivery(delivered, accept.key, intro, receiver.key, lab, check, WALL)
    return payload.judge(contents, accept, receiver.binding, NAMES)


def check_step(
    table: protocol.Table,
    records: protocol.Table,
    before: Any,
    event: ev.Event,
    after: Any,
) -> None:
    """Check that a step did what its row says, and nothing where there is no row."""
    kind, tid = ev.kind_of(event), protocol.tid_of(event)
    if after.phase == "closed" and before.phase != "closed":
        assert after.records == {}
        return
    if tid is None or before.phase not in ("open", "draining"):
        rule = table.get((before.phase, kind))
        assert after.phase in rule.to if rule else after == before
        return
    stage, then = (getattr(s.records.get(tid), "stage", "none") for s in (before, after))
    rule = records.get((stage, kind))
    assert then in rule.to if rule else after == before


def altered(body: bytes, **fields: Any) -> bytes:
    """Return a message with some fields changed, freshly encoded."""
    return canonical.encode({**canonical.decode(body), **fields})


def type_of(body: bytes) -> str:
    """Return the type of a message under way."""
    return str(canonical.decode(body)["type"])


def field_names(kind: type[Message]) -> list[str]:
    """Return the names of a message's fields."""
    return [each.name for each in fields(kind)]


def sample(kind: type[Message], **other: Any) -> bytes:
    """Return some message of a kind, well-formed and worthless."""
    values: dict[str, Any] = {
        "version": 1,
        "sender": "laboratory",
        "receiver": "hospital",
        "nonce": bytes(32),
        "suites": ("x",),
        "suite": "x",
        "chain": (b"x",),
        "crl": b"x",
        "held": None,
        "mark": None,
        "head": None,
        "consistency": (),
        "algorithm": "Ed25519",
        "key_id": "k1",
        "signature": bytes(64),
        "window": 8,
        "max_frame": 4096,
        "idle_ms": 1,
        "tid": "0" * 32,
        "about": None,
        "pseudonym": bytes(32),
        "offer": "1" * 32,
        "key": bytes(1216),
        "ttl_ms": 1,
        "index": 0,
        "size": 1,
        "path": b"",
        "root": bytes(32),
        "after_ms": 5,
        "sealed": b"x",
        "receipt": b"x",
        "code": "malformed",
        "token": bytes(8),
        "reply": False,
    }
    names = field_names(kind)
    return encode(kind(**{name: {**values, **other}[name] for name in names}))


ALL_MESSAGES = tuple(CLASSES.values())
