"""The services over real TLS on 127.0.0.1, with real keys and databases."""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from crx_institutions import CATALOGUE, SCHEME, House, clinical_record, enrol, found, subject
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.audit.heads import HeadSigner
from medportal.audit.models import AuditEvent
from medportal.audit.sequence import sequence
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery import receipts
from medportal.delivery.models import Inbox, Outbox, ReceiptCounter
from medportal.delivery.parcel import Parcel, inbox_info
from medportal.patients.pseudonyms import pseudonym
from medportal.pki import ca as authority
from medportal.pki import partners
from medportal.pki.keystore import TlsCredentials
from medportal.pki.passphrases import load_passphrases
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import statement
from medportal.records.fhir import to_fhir
from medportal.transfer import events as ev
from medportal.transfer import kem, protocol
from medportal.transfer.commands import receiver_service, sender_service
from medportal.transfer.conversation import Conversation, instant
from medportal.transfer.credentials import deliveries_signer, peer_of
from medportal.transfer.errors import ChannelError, Code, Untrusted
from medportal.transfer.framing import FrameBuffer, encode_frame
from medportal.transfer.messages import decode
from medportal.transfer.ports import OutgoingRecord, OwnHead
from medportal.transfer.receiver import ReceiverSettings, origin_of
from medportal.transfer.sending import SenderPorts
from medportal.transfer.tls import GROUP, TlsStream


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, House]:
    state = tmp_path_factory.mktemp("var")
    hospital, laboratory = found(state, "hospital"), found(state, "laboratory")
    enrol(hospital, laboratory)
    hospital.register()
    return hospital, laboratory


@pytest.fixture
def houses(founded: tuple[House, House]) -> tuple[House, House]:
    hospital, laboratory = founded
    for house in founded:
        with Session(house.engine) as session, session.begin():
            for table in (Outbox, Inbox, ReceiptCounter):
                session.execute(delete(table))
            receipts.renew_epoch(session, utcnow())
    yield hospital, laboratory
    partners.restore_partner(hospital.pki, "laboratory")
    partners.restore_partner(laboratory.pki, "hospital")


async def until(done: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so; how long is no part of any claim."""
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def receiving(house: House, other: House, **settings: object) -> AsyncIterator[int]:
    """Run a receiver, and tell the other institution on which port."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    service = receiver_service(
        house.keys, house.engine, ReceiverSettings(house.id, "127.0.0.1:0", **settings)
    )
    task = asyncio.create_task(service.run(stop, lambda _, number: port.set_result(number)))
    try:
        number = await port
        other.trust(house, f"127.0.0.1:{number}")
        yield number
    finally:
        stop.set()
        await task


@asynccontextmanager
async def sending(house: House) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(sender_service(house.keys, house.engine).run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


def states(house: House) -> set[tuple[str, str]]:
    return {(row.state, row.reason) for row in house.outbox().values()}


def events(house: House, action: Action) -> list[AuditEvent]:
    with Session(house.engine, expire_on_commit=False) as session:
        query = select(AuditEvent).where(AuditEvent.action == action.value)
        return list(session.scalars(query.order_by(AuditEvent.at)))


def play(hospital: House, laboratory: House, expected: set[tuple[str, str]]) -> None:
    """Run both services until the outbox is in the expected states."""

    async def run() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: states(laboratory) == expected)

    asyncio.run(run())


DELIVERED = {("delivered", "registered")}


def test_records_are_carried_sealed_to_the_inbox_and_receipted(houses):
    hospital, laboratory = houses
    tids = laboratory.queue("hospital", count=5)
    play(hospital, laboratory, DELIVERED)
    rows = hospital.inbox()
    assert {row.tid for row in rows} == set(tids)
    info = inbox_info("hospital", "laboratory", rows[0].tid)
    parcel = Parcel.from_bytes(hospital.keys.open_incoming(rows[0].sealed, info))
    assert parcel.name == "Amanda Júlio"
    received = {event.object for event in events(hospital, Action.RECORD_RECEIVED)}
    assert received >= set(tids)
    assert len(events(laboratory, Action.DELIVERY_RECEIPTED)) >= 5


@pytest.fixture(params=["sqlite", "postgresql"])
def both_engines(request, tmp_path, new_database, houses) -> Iterator[tuple[House, House]]:
    """Give the houses as they are, and a pair of new ones on PostgreSQL."""
    if request.param == "sqlite":
        yield houses
        return
    hospital, laboratory = (
        found(tmp_path, name, database=new_database(request.param))
        for name in ("hospital", "laboratory")
    )
    enrol(hospital, laboratory)
    hospital.register()
    yield hospital, laboratory
    hospital.engine.dispose()
    laboratory.engine.dispose()


def test_more_records_than_the_window_arrive_once_each(both_engines):
    hospital, laboratory = both_engines
    tids = laboratory.queue("hospital", count=150)
    play(hospital, laboratory, DELIVERED)
    assert sorted(row.tid for row in hospital.inbox()) == sorted(tids)


def told(house: House, patient: str) -> bool:
    """Write the event of a registration, as the registry does with each."""
    with Session(house.engine) as session, session.begin():
        append(session, Event.create(Action.PATIENT_REGISTERED, now=utcnow(), patient=patient))
    return True


def test_an_unknown_patient_is_found_soon_after_being_registered(houses):
    hospital, laboratory = houses
    number = "28461937"

    async def run() -> None:
        settings = {"look_for_changes": 0.05}
        async with receiving(hospital, laboratory, **settings), sending(laboratory):
            laboratory.queue("hospital", number=number)
            await until(lambda: states(laboratory) == {("unknown-patient", "patient-unknown")})
            patient = hospital.register(number)
            await until(lambda: told(hospital, patient) and states(laboratory) == DELIVERED)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"name": "Rui Matos"}, ("held-for-review", "demographics-differ")),
        ({"number": "31415926", "asked": "17645234"}, ("rejected", "identifier-mismatch")),
        ({"content": b"{}"}, ("rejected", "content-invalid")),
        ({"signed": b"forged"}, ("rejected", "signature-invalid")),
    ],
)
def test_what_does_not_fit_is_told_to_the_laboratory(houses, record, expected):
    hospital, laboratory = houses
    laboratory.queue("hospital", **record)
    play(hospital, laboratory, {expected})
    (row,) = hospital.inbox()
    assert (row.sealed is None) == (expected[0] == "rejected")


def test_a_statement_with_anybodys_list_is_told_to_the_laboratory(houses):
    """The list is not part of what is signed, so anybody on its way can have put it there."""
    hospital, laboratory = houses
    now, anybody = utcnow(), ec.generate_private_key(ec.SECP256R1())
    lists = x509.CertificateRevocationListBuilder().issuer_name(laboratory.store.ca.subject)
    bare = lists.last_update(now).next_update(now + timedelta(days=1)).sign(anybody, SHA256())
    record = clinical_record("laboratory")
    content = to_fhir(record, subject(), CATALOGUE)
    fields = statement.statement_fields(
        content, record.id, 1, "laboratory", record.author_id, record.category, now
    )
    signed = sign_statement(laboratory.keys.signer(Purpose.RECORD), statement.LABEL, fields)
    signed = replace(signed, crl_der=bare.public_bytes(Encoding.DER))
    laboratory.queue("hospital", content=content, signed=signed.to_bytes())
    play(hospital, laboratory, {("rejected", "signature-invalid")})


def test_the_same_tid_with_another_digest_is_a_conflict(houses):
    hospital, laboratory = houses
    (tid,) = laboratory.queue("hospital")
    play(hospital, laboratory, DELIVERED)
    digest = hospital.inbox()[0].digest
    with Session(laboratory.engine) as session, session.begin():
        session.execute(delete(Outbox))
    laboratory.queue("hospital", tid=tid)
    play(hospital, laboratory, {("rejected", "digest-conflict")})
    assert [row.digest for row in hospital.inbox()] == [digest]


def test_a_receipt_that_was_lost_is_given_again(houses):
    hospital, laboratory = houses
    laboratory.queue("hospital")
    play(hospital, laboratory, DELIVERED)
    with Session(laboratory.engine) as session, session.begin():
        session.execute(
            update(Outbox).values(
                state="waiting", settled_at=None, receipt_sequence=None, next_at=utcnow()
            )
        )
    play(hospital, laboratory, DELIVERED)
    assert len(hospital.inbox()) == 1


def test_a_receiver_restored_from_a_backup_gets_what_it_lost(houses):
    hospital, laboratory = houses
    laboratory.queue("hospital", count=4)
    play(hospital, laboratory, DELIVERED)
    with Session(hospital.engine) as session, session.begin():
        session.execute(delete(Inbox).where(Inbox.sequence > 1))
        session.execute(update(ReceiptCounter).values(last=1))
        receipts.renew_epoch(session, utcnow())
    assert len(hospital.inbox()) == 1

    async def run() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            # Something new makes the sender connect; the handshake tells of the rest.
            laboratory.queue("hospital")
            await until(lambda: len(hospital.inbox()) == 5)
            await until(lambda: states(laboratory) == DELIVERED)

    asyncio.run(run())


# Trust.


def test_a_partner_revoked_at_the_hospital_gets_nothing_in_any_more(houses):
    hospital, laboratory = houses

    async def run() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            laboratory.queue("hospital")
            await until(lambda: states(laboratory) == DELIVERED)
            partners.revoke_partner(hospital.pki, "laboratory", utcnow(), "test")
            laboratory.queue("hospital", count=3)
            await until(lambda: ("retrying", "channel-refused") in states(laboratory))

    asyncio.run(run())
    assert len(hospital.inbox()) == 1
    assert events(hospital, Action.PEER_REFUSED)


def test_a_hospital_revoked_at_the_laboratory_gets_nothing_out_any_more(houses):
    hospital, laboratory = houses
    laboratory.queue("hospital")
    partners.revoke_partner(laboratory.pki, "hospital", utcnow(), "test")
    play(hospital, laboratory, {("retrying", "partner-not-trusted")})
    assert hospital.inbox() == []


# The channel. A client of the test's own plays the sender's part.


async def connect(house: House, port: int, credentials: TlsCredentials | None = None) -> TlsStream:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    own = credentials or house.store.credentials(Purpose.CHANNEL)
    stream = TlsStream(reader, writer, own, server=False)
    find = peer_of(house.keys.trusted, house.keys.crl_limits)
    try:
        stream.channel = await stream.handshake(find, instant().wall)  # type: ignore[attr-defined]
    except BaseException:
        stream.abort()
        raise
    return stream


async def answer(stream: TlsStream) -> list[str]:
    """Return what the receiver says before it closes: message types and error codes."""
    frames, said = FrameBuffer(), []
    try:
        while data := await stream.receive():
            for body in frames.feed(data):
                message = decode(body)
                said.append(getattr(message, "code", message.TYPE))
    except ChannelError as error:
        said.append(str(error.code))
    finally:
        stream.abort()
    return said


def at_receiver(houses: tuple[House, House], attack) -> object:
    hospital, laboratory = houses

    async def run() -> object:
        async with receiving(hospital, laboratory) as port:
            return await asyncio.wait_for(attack(port), 20)

    return asyncio.run(run())


def test_both_sides_see_the_same_binding_and_the_hybrid_group(houses):
    async def attack(port: int) -> None:
        one, two = await connect(houses[1], port), await connect(houses[1], port)
        assert one._tls.get_group_name() == GROUP
        assert one.channel.binding != two.channel.binding
        assert one.channel.peer == "hospital"
        await one.close()
        await two.close()

    at_receiver(houses, attack)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\xff\xff\xff\xff", "frame-too-long"),
        (bytes(4), "malformed"),
        (encode_frame(b"GET / HTTP/1.1"), "malformed"),
        (encode_frame(b"\xa2dtypecBYEhcritical\x80"), None),
    ],
)
def test_hostile_frames_get_a_named_error_and_a_close(houses, frames, code):
    async def attack(port: int) -> list[str]:
        stream = await connect(houses[1], port)
        await stream.send(frames)
        return await answer(stream)

    assert at_receiver(houses, attack) == ([code] if code else [])


def test_plain_bytes_and_a_connection_cut_short_do_no_harm(houses):
    hospital, laboratory = houses

    async def attack(port: int) -> None:
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01\x02\x00"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(greeting)
            writer.write_eof()
            await read_all(reader, writer)
        stream = await connect(laboratory, port)
        await stream.send(encode_frame(b"x" * 100)[:50])
        stream.abort()
        laboratory.queue("hospital")
        async with sending(laboratory):
            await until(lambda: states(laboratory) == DELIVERED)

    at_receiver(houses, attack)


async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return what the other side says until it closes, however it closes."""
    try:
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.transport.abort()


def _stdlib_client(house: House, tmp_path: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    held = house.store.credentials(Purpose.CHANNEL)
    pem = tmp_path / f"{new_id()}.pem"
    pem.write_bytes(
        held.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + held.certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = version
    context.maximum_version = version
    context.load_cert_chain(pem)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_older_tls_or_a_classical_group_is_refused(houses, tmp_path, version):
    """The standard library's OpenSSL here has no hybrid group: a genuine downgrade."""
    context = _stdlib_client(houses[1], tmp_path, version)
    if version is ssl.TLSVersion.TLSv1_3:
        context.set_ecdh_curve("prime256v1")

    async def attack(port: int) -> bytes:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except (ssl.SSLError, OSError):
            return b""
        return await read_all(reader, writer)

    assert at_receiver(houses, attack) == b""
    assert houses[0].inbox() == []


def test_a_client_without_a_certificate_is_refused(houses):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def attack(port: int) -> bytes:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except (ssl.SSLError, OSError):
            return b""
        return await read_all(reader, writer)

    assert at_receiver(houses, attack) == b""


@pytest.mark.parametrize("purpose", [Purpose.WEB, Purpose.EDGE])
def test_a_certificate_of_another_purpose_is_no_channel_certificate(houses, purpose):
    hospital, laboratory = houses
    if purpose is Purpose.EDGE:
        passphrases = load_passphrases(laboratory.home / "secrets")
        authority.issue(
            laboratory.pki,
            purpose,
            ca_passphrase=passphrases["ca"],
            group_passphrase=passphrases["portal"],
            now=utcnow(),
        )
        laboratory.store._passphrases["edge"] = passphrases["portal"]
    credentials = laboratory.store.credentials(purpose)

    async def attack(port: int) -> list[str]:
        return await answer(await connect(laboratory, port, credentials))

    assert at_receiver(houses, attack) == [Code.TRUNCATED]


def test_a_certificate_that_an_institution_made_for_anothers_name_is_refused(houses, tmp_path):
    """Somebody with a CA of its own names itself as the laboratory."""
    impostor = found(tmp_path, "laboratory")
    credentials = impostor.store.credentials(Purpose.CHANNEL)

    async def attack(port: int) -> list[str]:
        return await answer(await connect(houses[1], port, credentials))

    assert at_receiver(houses, attack) == [Code.TRUNCATED]
    assert events(houses[0], Action.PEER_REFUSED)[-1].actor is None


def test_the_sender_refuses_a_server_that_is_not_the_partner(houses, tmp_path):
    """A server on the partner's port, with another CA, is told nothing at all."""
    hospital, laboratory = houses
    impostor = found(tmp_path, "hospital")
    impostor.trust(laboratory, None)
    impostor.build_indexes()
    impostor.register()
    endpoint: list[int] = []

    async def run() -> None:
        async with receiving(hospital, laboratory):
            pass
        stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
        service = receiver_service(
            impostor.keys, impostor.engine, ReceiverSettings("hospital", "127.0.0.1:0")
        )
        task = asyncio.create_task(service.run(stop, lambda _, n: port.set_result(n)))
        endpoint.append(await port)
        laboratory.trust(hospital, f"127.0.0.1:{endpoint[0]}")
        laboratory.queue("hospital")
        async with sending(laboratory):
            await until(lambda: states(laboratory) == {("retrying", "channel-refused")})
        stop.set()
        await task

    asyncio.run(run())
    assert impostor.inbox() == []


def test_a_handshake_over_a_revoked_channel_certificate_is_refused(houses, tmp_path):
    state = tmp_path
    hospital, laboratory = found(state, "hospital"), found(state, "laboratory")
    enrol(hospital, laboratory)
    held = laboratory.store.credentials(Purpose.CHANNEL)
    passphrases = load_passphrases(laboratory.home / "secrets")
    authority.revoke(
        laboratory.pki,
        held.certificate.serial_number,
        ca_passphrase=passphrases["ca"],
        now=utcnow(),
    )
    laboratory.queue("hospital")
    play(hospital, laboratory, {("retrying", "channel-refused")})
    assert events(hospital, Action.QUERY_RECEIVED) == []


def test_a_partner_with_too_many_connections_is_put_off(houses):
    hospital, laboratory = houses

    async def run() -> None:
        async with receiving(hospital, laboratory, most_of_partner=0), sending(laboratory):
            laboratory.queue("hospital")
            await until(lambda: states(laboratory) == {("retrying", "busy")})
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: states(laboratory) == DELIVERED)

    asyncio.run(run())


class Client:
    """A sender in the test's own hands: asks what it is told and keeps what comes of it."""

    def __init__(self, house: House, stream: TlsStream) -> None:
        peer = peer_of(house.keys.trusted, house.keys.crl_limits)("hospital")
        signer = house.keys.signer(Purpose.EXCHANGE)
        ports = SenderPorts(
            house.id, signer, peer, secrets.token_bytes, kem.seal, deliveries_signer(signer)
        )
        self.effects: list[ev.Effect] = []
        session = protocol.new_sender(ports, ev.Limits())
        self.talk = Conversation(stream, session, protocol.step_sender, self._perform)
        self.running = asyncio.create_task(self.talk.run(stream.channel, lambda: None))

    def _perform(self, effect: ev.Effect) -> None:
        self.effects.append(effect)
        if isinstance(effect, ev.Prepare):
            self.talk.post(ev.Prepared(OwnHead()))

    async def ask(self, house: House, number: str) -> ev.Effect:
        key = house.keys.partner_key("hospital")
        asked = pseudonym(key.key, SCHEME, number)
        record = OutgoingRecord(new_id(), key.key_id, asked, b"d" * 32, b"payload")
        before = len(self.effects)
        self.talk.post(ev.Submit(record))
        await until(lambda: len(self.effects) > before)
        return self.effects[-1]

    async def leave(self) -> None:
        self.talk.post(ev.Stop())
        await self.running


async def client(house: House, port: int) -> Client:
    made = Client(house, await connect(house, port))
    await until(lambda: any(isinstance(each, ev.Established) for each in made.effects))
    return made


def test_more_connections_are_no_way_to_more_misses(houses):
    """One idle, one spent and closed, the idle one closed after it: the limit still stands."""
    hospital, laboratory = houses

    async def run() -> None:
        limits = ev.Limits(misses_rate=0.01, misses_burst=3)
        async with receiving(hospital, laboratory, limits=limits) as port:
            idle, spending = await client(laboratory, port), await client(laboratory, port)
            for number in ("11111111", "22222222", "33333333"):
                assert isinstance(await spending.ask(laboratory, number), ev.Unheard)
            assert isinstance(await idle.ask(laboratory, "44444444"), ev.Again)
            await spending.leave()
            await idle.leave()
            new = await client(laboratory, port)
            assert isinstance(await new.ask(laboratory, "55555555"), ev.Again)
            await new.leave()

    asyncio.run(run())


def test_a_partner_that_says_nothing_takes_few_connections(houses):
    """It is known after TLS, so nobody has to wait for HELLO to count its connections."""
    hospital, laboratory = houses
    limits = ev.Limits(handshake=5)
    few = {"most_of_partner": 1, "most_silent_of_partner": 1, "limits": limits}

    async def run() -> list[list[str]]:
        async with receiving(hospital, laboratory, **few) as port:
            streams = [await connect(laboratory, port) for _ in range(6)]
            return await asyncio.gather(*(answer(stream) for stream in streams))

    answers = asyncio.run(run())
    assert answers[:2] == [[Code.TIMEOUT]] * 2
    assert answers[2:] == [[Code.TRUNCATED]] * 4


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
    ],
)
def test_addresses_that_one_host_has_plenty_of_count_as_one(address, counted_as):
    assert origin_of(address) == counted_as


def test_admit_names_what_is_wrong_with_a_stranger(houses, tmp_path):
    clinic = found(tmp_path, "laboratory")

    async def attack(port: int) -> str:
        # The client trusts nobody: it is the side that refuses here.
        with pytest.raises(Untrusted) as error:
            await connect(clinic, port)
        return error.value.code

    assert at_receiver(houses, attack) == Code.UNKNOWN_PARTNER


# Heads of logs, and storage that fails.


def sign_head(house: House) -> None:
    signer = HeadSigner(
        house.id, house.keys.signer(Purpose.HEAD), house.keys.signer(Purpose.HEAD_PQ)
    )
    with Session(house.engine) as session, session.begin():
        append(session, Event.create(Action.AUDIT_VIEWED, now=utcnow()))
        sequence(session, signer, utcnow())


def held(house: House, partner: str) -> int:
    with Session(house.engine) as session:
        head = receipts.held_head(session, partner)
    return head.size if head else 0


def test_the_heads_of_both_logs_are_exchanged_and_grow(houses):
    hospital, laboratory = houses
    for _ in range(2):
        for house in houses:
            sign_head(house)
        before = held(hospital, "laboratory"), held(laboratory, "hospital")
        laboratory.queue("hospital")
        play(hospital, laboratory, DELIVERED)
        after = held(hospital, "laboratory"), held(laboratory, "hospital")
        assert after[0] > before[0] and after[1] > before[1]


class Failing:
    """A store whose commits fail as often as told, as with a full disk."""

    def __init__(self, store: object, failures: int) -> None:
        self.store, self.failures = store, failures

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def commit(self, records, now):
        self.failures -= 1
        if self.failures >= 0:
            raise OperationalError("insert", {}, Exception("database or disk is full"))
        return self.store.commit(records, now)


def test_a_full_disk_loses_nothing_and_is_got_over(houses):
    hospital, laboratory = houses
    laboratory.queue("hospital", count=3)

    async def run() -> None:
        stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
        service = receiver_service(
            hospital.keys, hospital.engine, ReceiverSettings("hospital", "127.0.0.1:0")
        )
        service.committer._store = Failing(service.needs.store, 2)
        task = asyncio.create_task(service.run(stop, lambda _, number: port.set_result(number)))
        laboratory.trust(hospital, f"127.0.0.1:{await port}")
        async with sending(laboratory):
            await until(lambda: states(laboratory) == DELIVERED)
        stop.set()
        await task

    asyncio.run(run())
    assert len(hospital.inbox()) == 3


@pytest.mark.parametrize("method", ["due", "claim", "finished", "standing", "reachable"])
def test_a_sender_whose_database_fails_for_a_while_goes_on(houses, method):
    hospital, laboratory = houses
    laboratory.queue("hospital")

    async def run() -> None:
        stop, failed = asyncio.Event(), []
        service = sender_service(laboratory.keys, laboratory.engine)
        store = service._needs.store
        whole = getattr(store, method)

        def once(*args: object) -> object:
            if not failed:
                failed.append(method)
                raise OperationalError("select", {}, Exception("database is locked"))
            return whole(*args)

        setattr(store, method, once)
        task = asyncio.create_task(service.run(stop))
        await until(lambda: states(laboratory) == DELIVERED)
        assert failed
        stop.set()
        await task

    async def both() -> None:
        async with receiving(hospital, laboratory):
            await run()

    asyncio.run(both())
    assert len(hospital.inbox()) == 1
