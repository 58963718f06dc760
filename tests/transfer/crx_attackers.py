"""Attackers with real keys and real sockets: disguises, peers made by hand, wires that tamper.

An attacker is mostly one of our own services that was given something wrong: a certificate without
its key, a key of another purpose, another institution's name. Whoever is attacked is a service as
the command line starts it.
"""

import asyncio
import json
import secrets
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from crx_institutions import BIRTH, NAME, NUMBER, SCHEME, TENANTS, House, found
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from OpenSSL import crypto
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from medportal.audit.events import Action
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery import receipts
from medportal.delivery.models import Inbox, Outbox, ReceiptCounter
from medportal.keys import TenantKeys
from medportal.patients.pseudonyms import PartnerKey, pseudonym
from medportal.pki import ca as authority
from medportal.pki import certificates
from medportal.pki.certificates import Validity
from medportal.pki.files import PRIVATE, write_file
from medportal.pki.keyfiles import to_pem
from medportal.pki.keystore import KeyStore, TlsCredentials
from medportal.pki.layout import Layout
from medportal.pki.passphrases import load_passphrases
from medportal.pki.profiles import Purpose, meaning
from medportal.pki.signers import Signer
from medportal.tenancy.engines import make_engine
from medportal.transfer import events as ev
from medportal.transfer import kem, protocol
from medportal.transfer.commands import receiver_service, sender_service
from medportal.transfer.conversation import Conversation, instant
from medportal.transfer.credentials import deliveries_signer, peer_of
from medportal.transfer.errors import ChannelError, TransferError
from medportal.transfer.framing import FrameBuffer, encode_frame
from medportal.transfer.messages import Message, Query, decode, encode
from medportal.transfer.ports import OutgoingRecord, OwnHead
from medportal.transfer.receiver import ReceiverSettings
from medportal.transfer.sender import SenderService, SenderSettings
from medportal.transfer.sending import Sender, SenderPorts
from medportal.transfer.tls import TlsStream

PERSONAL = (NUMBER, *NAME.split(), BIRTH.isoformat())
"""What must stand in no log and no audit event."""

DELIVERED = {("delivered", "registered")}


# Institutions.


@dataclass(frozen=True)
class Trio:
    """A hospital, a laboratory, and a clinic that is a genuine partner of both."""

    hospital: House
    laboratory: House
    clinic: House

    @property
    def houses(self) -> tuple[House, House, House]:
        return self.hospital, self.laboratory, self.clinic

    def begin(self) -> None:
        """Forget what earlier tests sent, received and audited."""
        for house in self.houses:
            with Session(house.engine) as session, session.begin():
                for table in (Outbox, Inbox, ReceiptCounter, AuditEvent):
                    session.execute(delete(table))
                receipts.renew_epoch(session, utcnow())


def found_trio(state: Path, databases: Callable[[], str] = str) -> Trio:
    """Make three institutions that all trust each other, with one patient at hospital and clinic.

    ``databases`` gives addresses of migrated databases; an empty one is made in SQLite.
    """
    tenants = state / "tenants"
    tenants.mkdir(parents=True)
    text = (TENANTS / "laboratory.toml").read_text().replace("laboratory", "clinic")
    text = text.replace('kind = "clinic"', 'kind = "laboratory"')
    (tenants / "clinic.toml").write_text(text.replace("{clinic_port}", "{laboratory_port}"))
    hospital, laboratory = (
        found(state, name, database=databases()) for name in ("hospital", "laboratory")
    )
    clinic = found(state, "clinic", database=databases(), tenants=tenants)
    for one in (laboratory, clinic):
        hospital.trust(one, None)
        one.trust(hospital, "127.0.0.1:9")
    laboratory.trust(clinic, "127.0.0.1:9")
    clinic.trust(laboratory, "127.0.0.1:9")
    for house in (hospital, laboratory, clinic):
        house.build_indexes()
    hospital.register()
    clinic.register()
    return Trio(hospital, laboratory, clinic)


def copy_of(house: House, state: Path) -> House:
    """Return the same institution in another directory: what is done to it stays there."""
    home = state / house.id
    shutil.copytree(house.home, home, ignore=shutil.ignore_patterns("portal.sqlite*"))
    source = sqlite3.connect(str(house.engine.url.database))
    with closing(source), closing(sqlite3.connect(home / "portal.sqlite")) as target:
        source.backup(target)
    engine = make_engine(f"sqlite:///{home}/portal.sqlite")
    return House(house.tenant, home, TenantKeys(house.tenant, home), engine)


def impostor_of(house: House, partner: House, state: Path) -> House:
    """Return an institution of the same name with an authority of its own.

    It has copied whom to trust from public descriptors, and knows the patient too.
    """
    made = found(state, house.id)
    made.trust(partner, "127.0.0.1:9")
    made.build_indexes()
    made.register()
    return made


class Disguise:
    """A key store that presents other keys than its own, as far as they are given."""

    def __init__(
        self, own: KeyStore, channel: TlsCredentials | None, exchange: Signer | None
    ) -> None:
        self._own, self._channel, self._exchange = own, channel, exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def credentials(self, purpose: Purpose) -> TlsCredentials:
        is_other = purpose is Purpose.CHANNEL and self._channel is not None
        return self._channel if is_other else self._own.credentials(purpose)

    def signer(self, purpose: Purpose) -> Signer:
        is_other = purpose is Purpose.EXCHANGE and self._exchange is not None
        return self._exchange if is_other else self._own.signer(purpose)


def disguised(
    house: House, channel: TlsCredentials | None = None, exchange: Signer | None = None
) -> House:
    """Return ``house`` with keys for the channel or the exchange that are not its own."""
    keys = TenantKeys(house.tenant, house.home)
    keys.keystore = Disguise(house.keys.keystore, channel, exchange)  # type: ignore[misc]
    return replace(house, keys=keys)


# Keys that are wrong in one way each.


def without_its_key(credentials: TlsCredentials) -> TlsCredentials:
    """Return the right certificate, with a private key that only says it belongs to it.

    OpenSSL compares public halves when it loads a key. This one carries the public half of the
    certificate and another private half, as an attacker who has seen a certificate could make.
    """
    other = ec.generate_private_key(ec.SECP256R1())
    der = other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    forged = der.replace(_point(other.public_key()), _point(credentials.private_key.public_key()))
    assert forged != der
    key: Any = crypto.load_privatekey(crypto.FILETYPE_ASN1, forged)
    return replace(credentials, private_key=key)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def signing_with_another_key(signer: Signer) -> Signer:
    """Return a signer with the right certificate and key id, that lacks the private key."""
    return replace(signer, _key=ed25519.Ed25519PrivateKey.generate())


GROUP_OF = {Purpose.EDGE: "portal", Purpose.CHANNEL: "exchange", Purpose.EXCHANGE: "exchange"}


def reissue(house: House, purpose: Purpose, after: timedelta) -> None:
    """Let an institution's own authority certify a new key as if it were so much later."""
    phrases = load_passphrases(house.home / "secrets")
    authority.issue(
        house.pki,
        purpose,
        ca_passphrase=phrases["ca"],
        group_passphrase=phrases[GROUP_OF[purpose]],
        now=utcnow() + after,
    )


def expire(house: House, purpose: Purpose) -> None:
    """Put a new key in use whose certificate, of the institution's own authority, has ended."""
    layout, phrases = Layout(house.pki), load_passphrases(house.home / "secrets")
    ca, ca_key = authority.open_ca(layout, phrases["ca"])
    key = certificates.generate_key(meaning(purpose).algorithm)
    validity = Validity(ca.not_valid_before_utc, utcnow() - timedelta(seconds=1))
    leaf = certificates.build_leaf(ca_key, ca, key.public_key(), purpose, house.id, validity)
    pem = leaf.public_bytes(Encoding.PEM) + to_pem(key, phrases[GROUP_OF[purpose]])
    write_file(layout.key(purpose), pem, PRIVATE)


def revoke(house: House, purpose: Purpose) -> None:
    """Withdraw the certificate in use for a purpose, which makes a new list too."""
    of_tls = purpose is Purpose.CHANNEL
    held = house.store.credentials(purpose) if of_tls else house.store.signer(purpose)
    phrases = load_passphrases(house.home / "secrets")
    authority.revoke(
        house.pki, held.certificate.serial_number, ca_passphrase=phrases["ca"], now=utcnow()
    )


def edge_credentials(house: House) -> TlsCredentials:
    """Return a genuine certificate for TLS on both sides, of another purpose."""
    reissue(house, Purpose.EDGE, timedelta(0))
    phrases = load_passphrases(house.home / "secrets")
    return KeyStore(house.pki, {"edge": phrases["portal"]}).credentials(Purpose.EDGE)


# Services.


async def until(done: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until something is so; how long is no part of any claim."""
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def receiving(house: House, *others: House, **settings: Any) -> AsyncIterator[int]:
    """Run a receiver on loopback, and tell others where."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    service = receiver_service(
        house.keys, house.engine, ReceiverSettings(house.id, "127.0.0.1:0", **settings)
    )
    task = asyncio.create_task(service.run(stop, lambda _, number: port.set_result(number)))
    try:
        number = await port
        for other in others:
            direct(other, house, number)
        yield number
    finally:
        stop.set()
        await task


def direct(sender: House, receiver: House, port: int) -> None:
    """Tell a sender on which port its partner listens."""
    sender.trust(receiver, f"127.0.0.1:{port}")


@asynccontextmanager
async def sending(
    house: House, institution: str = "", **settings: Any
) -> AsyncIterator[SenderService]:
    """Run a sender that comes again soon; ``institution`` is the name that it gives itself."""
    stop = asyncio.Event()
    quick = {"first_wait": 0.1, "longest_wait": 0.1, **settings}
    made = SenderSettings(institution or house.id, **quick)
    service = sender_service(house.keys, house.engine, made)
    task = asyncio.create_task(service.run(stop))
    try:
        yield service
    finally:
        stop.set()
        await task


def run(work: Awaitable[Any], seconds: float = 120) -> Any:
    """Run one attack to its end."""

    async def bounded() -> Any:
        return await asyncio.wait_for(work, seconds)

    return asyncio.run(bounded())


def states(house: House) -> set[tuple[str, str]]:
    return {(row.state, row.reason) for row in house.outbox().values()}


def is_delivered(house: House) -> bool:
    return states(house) == DELIVERED


def events(house: House, *actions: Action) -> list[AuditEvent]:
    """Return the audit's events of some kinds, or all."""
    query = select(AuditEvent).order_by(AuditEvent.at)
    if actions:
        query = query.where(AuditEvent.action.in_([each.value for each in actions]))
    with Session(house.engine, expire_on_commit=False) as session:
        return list(session.scalars(query))


def asked(house: House) -> list[AuditEvent]:
    """Return every question about a patient that was looked up."""
    return events(house, Action.QUERY_RECEIVED)


def codes(logbook: Sequence[dict[str, Any]], *kinds: str) -> set[str]:
    """Return the codes with which connections ended, by kind of log entry."""
    return {str(line["code"]) for line in logbook if line["event"] in kinds and "code" in line}


def check_nothing_personal(logbook: Sequence[dict[str, Any]], houses: Sequence[House]) -> None:
    """Check that neither logs nor audit name the patient."""
    text = json.dumps(list(logbook), default=repr, ensure_ascii=False)
    bodies = [row.body for house in houses for row in events(house)]
    for word in PERSONAL:
        assert word not in text
        assert not any(word.encode() in body for body in bodies)


# Peers in the test's own hands.


async def connected(
    house: House, port: int, credentials: TlsCredentials | None = None, source: str = "127.0.0.1"
) -> tuple[TlsStream, Any]:
    """Return a TLS stream to a receiver, and its channel, as that of ``house``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    own = credentials or house.store.credentials(Purpose.CHANNEL)
    stream = TlsStream(reader, writer, own, server=False)
    find = peer_of(house.keys.trusted, house.keys.crl_limits)
    try:
        return stream, await stream.handshake(find, instant().wall)
    except BaseException:
        stream.abort()
        raise


async def answers(stream: TlsStream) -> list[Message | str]:
    """Return what the other side says until it closes: messages, or the code of how it broke."""
    frames: FrameBuffer = FrameBuffer()
    said: list[Message | str] = []
    try:
        while data := await stream.receive():
            said += map(decode, frames.feed(data))
    except ChannelError as error:
        said.append(str(error.code))
    finally:
        stream.abort()
    return said


def error_of(said: Sequence[Message | str]) -> str:
    """Return the code of the ERROR with which the other side gave up."""
    return str(getattr(said[-2] if isinstance(said[-1], str) else said[-1], "code", said[-1]))


class Hand:
    """A sender in the test's own hands: it says what it is told, and keeps what it hears.

    Messages of the types in ``deaf`` are kept and not acted on.
    """

    def __init__(
        self, house: House, stream: TlsStream, channel: Any, deaf: Sequence[str] = ()
    ) -> None:
        peer = peer_of(house.keys.trusted, house.keys.crl_limits)("hospital")
        assert peer is not None
        signer = house.keys.signer(Purpose.EXCHANGE)
        ports = SenderPorts(
            house.id, signer, peer, secrets.token_bytes, kem.seal, deliveries_signer(signer)
        )
        self.house, self.stream = house, stream
        self.effects: list[ev.Effect] = []
        self.kept: list[Any] = []
        self._deaf = frozenset(deaf)
        session = protocol.new_sender(ports, ev.Limits())
        self.talk = Conversation(stream, session, self._step, self._perform)
        self.running = asyncio.create_task(self.talk.run(channel, lambda: None))

    def _step(self, session: Sender, event: ev.Event, now: ev.Instant) -> Any:
        if isinstance(event, ev.Received) and event.message.TYPE in self._deaf:
            self.kept.append(event.message)
            return session, []
        return protocol.step_sender(session, event, now)

    def _perform(self, effect: ev.Effect) -> None:
        self.effects.append(effect)
        if isinstance(effect, ev.Prepare):
            self.talk.post(ev.Prepared(OwnHead()))
        elif isinstance(effect, ev.Gather):
            self.talk.post(ev.Gathered())

    def has(self, kind: type[Any]) -> bool:
        return any(isinstance(effect, kind) for effect in self.effects)

    async def ask(
        self, number: str, key: PartnerKey | None = None, payload: bytes = b"payload"
    ) -> ev.Effect:
        """Ask about a number, under a key of one's own if none is given; return what came."""
        key = key or self.house.keys.partner_key("hospital")
        name = pseudonym(key.key, SCHEME, number)
        before = len(self.effects)
        self.talk.post(ev.Submit(OutgoingRecord(new_id(), key.key_id, name, b"d" * 32, payload)))
        await until(lambda: len(self.effects) > before)
        return self.effects[before]

    async def put(self, *bodies: bytes) -> None:
        """Send messages as they are, past this side's own protocol."""
        await self.stream.send(b"".join(map(encode_frame, bodies)))

    async def closed(self) -> tuple[str, bool]:
        """Wait for the end; return its code, and whether the other side said it."""
        close = await asyncio.wait_for(self.running, 60)
        return str(close.code), close.by_peer

    async def leave(self) -> None:
        self.talk.post(ev.Stop())
        await self.running


async def hand(house: House, port: int, deaf: Sequence[str] = ()) -> Hand:
    """Return a sender of ``house`` whose handshake with the hospital is done."""
    made = Hand(house, *await connected(house, port), deaf)
    await until(lambda: made.has(ev.Established))
    return made


def question(house: House, number: str = NUMBER, tid: str = "") -> bytes:
    """Return a QUERY of ``house`` to the hospital."""
    key = house.keys.partner_key("hospital")
    return encode(Query(tid or new_id(), key.key_id, pseudonym(key.key, SCHEME, number)))


# Wires that tamper.

Plan = Callable[[int, str, int, bytes], list[bytes] | None]
"""Connection, direction ("S" to the receiver, "R" to the sender), number of the TLS record and
its bytes -> what is carried on instead; ``None`` cuts the connection."""


class Wire:
    """Carries TLS records between two sides, and does to them what a plan says."""

    def __init__(self, port: int, plan: Plan) -> None:
        self.connections = 0
        self._port, self._plan = port, plan
        self._tasks: set[asyncio.Task[None]] = set()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        there = await asyncio.open_connection("127.0.0.1", self._port)
        ways = (("S", reader, there[1]), ("R", there[0], writer))
        tasks = {asyncio.create_task(self._carry(number, *way)) for way in ways}
        self._tasks |= tasks
        _, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in (writer, there[1]):
            each.close()

    async def _carry(
        self,
        number: int,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        count = 0
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(5)
                record = head + await reader.readexactly(int.from_bytes(head[3:], "big"))
                carried = self._plan(number, direction, count, record)
                if carried is None:
                    return
                count += 1
                writer.writelines(carried)
                await writer.drain()


@asynccontextmanager
async def wire(port: int, plan: Plan) -> AsyncIterator[tuple[int, Wire]]:
    """Listen between a sender and the receiver on ``port``; give the port to connect to."""
    made = Wire(port, plan)
    server = await asyncio.start_server(made._join, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], made
    finally:
        server.close()
        for task in made._tasks:
            task.cancel()
        await asyncio.gather(*made._tasks, return_exceptions=True)


class Between:
    """A man in the middle who ends TLS on both sides with credentials that he holds."""

    def __init__(
        self,
        port: int,
        to_sender: TlsCredentials,
        to_receiver: TlsCredentials,
        as_sender: House,
        as_receiver: House,
    ) -> None:
        self.seen: list[str] = []
        self.failed: list[str] = []
        self._port = port
        self._ends = (to_sender, to_receiver)
        self._houses = (as_sender, as_receiver)

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Shake hands with both sides, and carry the frames of each to the other."""
        near = TlsStream(reader, writer, self._ends[0], server=True)
        there = await asyncio.open_connection("127.0.0.1", self._port)
        far = TlsStream(*there, self._ends[1], server=False)
        as_sender, as_receiver = self._houses
        try:
            find = peer_of(as_receiver.keys.trusted, as_receiver.keys.crl_limits)
            await near.handshake(find, utcnow())
            find = peer_of(as_sender.keys.trusted, as_sender.keys.crl_limits)
            await far.handshake(find, utcnow())
            await asyncio.gather(self._carry(near, far), self._carry(far, near))
        except TransferError as error:
            self.failed.append(str(error.code))
        finally:
            near.abort()
            far.abort()

    async def _carry(self, source: TlsStream, target: TlsStream) -> None:
        frames = FrameBuffer()
        while data := await source.receive():
            self.seen += [decode(body).TYPE for body in frames.feed(data)]
            await target.send(data)


@asynccontextmanager
async def standing_between(between: Between) -> AsyncIterator[int]:
    """Let a man in the middle listen; give his port."""
    server = await asyncio.start_server(between.join, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


# Partners that people compared belong to a test's world, so each test gets them back.


def remember_partners(house: House) -> Callable[[], None]:
    """Return what puts back whom a house trusts, and what it remembers of them."""
    kept = house.home / "partners-kept"
    shutil.copytree(Layout(house.pki).partners, kept)

    def put_back() -> None:
        shutil.rmtree(Layout(house.pki).partners)
        shutil.move(kept, Layout(house.pki).partners)

    return put_back


LIMITS = ev.Limits(handshake=5, answer=10, idle=10, drain=5)
