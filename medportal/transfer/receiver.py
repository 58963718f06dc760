"""The receiver's service: accepts records of partners.

Every connection has its own tasks, its own limits and its own verification; only commits are
shared, in groups in which each partner gets its turn. So one slow, broken or hostile partner does
not delay another.
"""

import asyncio
import ipaddress
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import structlog

from medportal.core.clock import utcnow
from medportal.pki.keystore import KeyStore
from medportal.pki.profiles import Purpose
from medportal.transfer import events as ev
from medportal.transfer import payload, protocol
from medportal.transfer.budget import Allowance, full
from medportal.transfer.conversation import Conversation, Work
from medportal.transfer.credentials import PkiPeer
from medportal.transfer.desk import KeyGone
from medportal.transfer.errors import (
    ChannelError,
    Code,
    ReceiverBusy,
    TransferError,
    Untrusted,
)
from medportal.transfer.messages import Hello, decode
from medportal.transfer.opener import Key, Openers
from medportal.transfer.ports import (
    AcceptedRecord,
    Answer,
    Channel,
    Known,
    NotReady,
    Question,
    ReceiverStore,
)
from medportal.transfer.receiving import Receiver, ReceiverPorts
from medportal.transfer.sender import jittered, pause
from medportal.transfer.tls import TlsStream
from medportal.transfer.turns import Turns

log = structlog.get_logger()
BUSY_AFTER_MS = 2_000

STRANGERS_RATE, STRANGERS_BURST = 0.2, 20.0
"""How many refusals of strangers a second, and at once, are logged and audited."""


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """How the receiver behaves; ``listen`` is "host:port", times are seconds.

    At most ``most_shaking`` connections are in TLS's handshake at once, and so many of one origin;
    above that the one that has been longest gives way. A partner above ``most_of_partner`` is
    told when to come back, which takes a HELLO; ``most_silent_of_partner`` more connections may
    wait for that, and what comes above is cut. So many ``openers`` are processes of their own; with
    none a thread does their work.
    """

    institution: str
    listen: str
    most_connections: int = 256
    most_shaking: int = 64
    most_shaking_of_origin: int = 16
    most_of_partner: int = 4
    most_silent_of_partner: int = 4
    group: int = 64
    look_for_changes: float = 2.0
    openers: int = 0
    limits: ev.Limits = field(default_factory=ev.Limits)


@dataclass(frozen=True, slots=True)
class ReceiverNeeds:
    """What the receiver is given. ``peer_of`` gives trusted partners only."""

    settings: ReceiverSettings
    keystore: KeyStore
    peer_of: Callable[[str], PkiPeer | None]
    identifiers: payload.Identifiers
    store: ReceiverStore
    openers: Openers


def origin_of(address: str) -> str:
    """Return what connections are counted by: an IPv4 address, or the /64 of an IPv6 one.

    Whoever has one address of a /64 has all of them.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))


Committed = Callable[[bytes | TransferError], None]
"""Told what became of a record: its receipt once it is durable, or why it was not kept."""


class Committer:
    """Commits verified records of all connections in groups, each partner in turn."""

    def __init__(self, store: ReceiverStore, group: int) -> None:
        """Prepare; :meth:`run` does the work."""
        self._store = store
        self._turns: Turns[tuple[AcceptedRecord, Committed]] = Turns(group)

    def add(self, record: AcceptedRecord, done: Committed) -> None:
        """Let a record be committed in one of the next groups; ``done`` is told how it went."""
        self._turns.add(record.sender, (record, done))

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self._commit(await self._turns.next())

    async def _commit(self, group: Sequence[tuple[AcceptedRecord, Committed]]) -> None:
        records = [record for record, _ in group]
        outcomes: Sequence[bytes | TransferError]
        try:
            outcomes = await asyncio.to_thread(self._store.commit, records, utcnow())
        except Exception as error:
            log.error("inbox cannot be written", kind=type(error).__name__)
            outcomes = [ReceiverBusy(Code.INTERNAL)] * len(records)
        for (_, done), outcome in zip(group, outcomes, strict=True):
            done(outcome)


Answered = Callable[[Mapping[str, Answer]], None]
"""Told the answers to questions by tid; "ask again" where storage fails, as with a full disk."""


class Answerer:
    """Answers the questions of all connections in groups, each partner in turn."""

    def __init__(self, store: ReceiverStore, group: int) -> None:
        """Prepare; :meth:`run` does the work."""
        self._store = store
        self._turns: Turns[tuple[str, Question, Answered]] = Turns(group)

    def add(self, sender: str, question: Question, done: Answered) -> None:
        """Let a question be answered in one of the next groups."""
        self._turns.add(sender, (sender, question, done))

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._answer(await self._turns.next())

    async def _answer(self, group: Sequence[tuple[str, Question, Answered]]) -> None:
        asked: dict[str, list[Question]] = {}
        who: dict[Answered, list[tuple[str, Question]]] = {}
        for sender, question, done in group:
            asked.setdefault(sender, []).append(question)
            who.setdefault(done, []).append((sender, question))
        try:
            answers = await asyncio.to_thread(self._store.answer_all, asked, utcnow())
        except Exception as error:
            log.error("queries cannot be answered", kind=type(error).__name__)
            await self._one_by_one(group, asked, who)
            return
        for done, places in who.items():
            done({each.tid: answers[sender][each] for sender, each in places})

    async def _one_by_one(
        self,
        group: Sequence[tuple[str, Question, Answered]],
        asked: Mapping[str, Sequence[Question]],
        who: Mapping[Answered, Sequence[tuple[str, Question]]],
    ) -> None:
        """Answer each partner alone, in case another's questions were to blame."""
        if len(asked) == 1:
            for done, places in who.items():
                done({each.tid: NotReady(BUSY_AFTER_MS) for _, each in places})
            return
        for sender in asked:
            await self._answer([each for each in group if each[0] == sender])


class ReceiverService:
    """Listens; see the module."""

    def __init__(self, needs: ReceiverNeeds) -> None:
        """Prepare; nothing is opened before :meth:`run`."""
        self.needs = needs
        self.committer = Committer(needs.store, needs.settings.group)
        self.answerer = Answerer(needs.store, needs.settings.group)
        self.allowances: dict[str, Allowance] = {}
        self.reception: set[Reception] = set()
        self.stopping = False
        self._shaking: dict[TlsStream, str] = {}
        self._strangers = full(STRANGERS_RATE, STRANGERS_BURST)
        self._connections: set[asyncio.Task[None]] = set()

    def of_partner(self) -> Counter[str]:
        """Count the connections of each partner."""
        return Counter(each.peer.institution for each in self.reception)

    def allowance(self, partner: str) -> Allowance:
        """Return the allowance that all connections of a partner share, for as long as we run."""
        if partner not in self.allowances:
            self.allowances[partner] = protocol.new_allowance(self.needs.settings.limits)
        return self.allowances[partner]

    async def run(
        self, stop: asyncio.Event, listening: Callable[[str, int], None] | None = None
    ) -> None:
        """Listen until ``stop``; then finish what was delivered. Raises ``OSError`` on the port."""
        async with self.needs.openers.running():
            await self._serve_until(stop, listening)

    async def _serve_until(
        self, stop: asyncio.Event, listening: Callable[[str, int], None] | None
    ) -> None:
        host, _, port = self.needs.settings.listen.rpartition(":")
        server = await asyncio.start_server(self._accept, host.strip("[]"), int(port))
        address = server.sockets[0].getsockname()
        log.info("listening", port=address[1])
        if listening:
            listening(address[0], address[1])
        helpers = [
            asyncio.create_task(self.committer.run()),
            asyncio.create_task(self.answerer.run()),
            asyncio.create_task(self._tell_changes(stop)),
        ]
        await stop.wait()
        self.stopping = True
        server.close()
        for stream in self._shaking:
            stream.abort()  # Nothing of them is in hand: nobody waits for strangers.
        for each in self.reception:
            each.stop()
        if self._connections:
            await asyncio.wait(self._connections, timeout=self.needs.settings.limits.drain + 5)
        for task in [*helpers, *self._connections]:
            task.cancel()
        await asyncio.gather(*helpers, *self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = self.needs.settings
        origin = origin_of(str((writer.get_extra_info("peername") or ("",))[0]))
        if self.stopping or len(self._connections) >= settings.most_connections:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer, origin)
        except Exception as error:
            log.error("connection failed", kind=type(error).__name__)
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, origin: str
    ) -> None:
        credentials = self.needs.keystore.credentials(Purpose.CHANNEL)
        stream = TlsStream(reader, writer, credentials, server=True)
        self._make_room(origin)
        self._shaking[stream] = origin
        try:
            async with asyncio.timeout(self.needs.settings.limits.handshake):
                channel = await stream.handshake(self.needs.peer_of, utcnow())
            self._check_count(channel.peer)
        except (ChannelError, Untrusted, TimeoutError) as error:
            stream.abort()
            await self._refused(error)
            return
        finally:
            self._shaking.pop(stream, None)
        peer = self.needs.peer_of(channel.peer)
        if peer is None:
            stream.abort()
            return
        await Reception(self, peer, stream).run(channel)

    def _make_room(self, origin: str) -> None:
        """Give up the handshake that takes longest where a new connection finds no room.

        So whoever connects and says nothing keeps nobody out, also not from the same address: an
        honest handshake takes milliseconds, and those that began last are left alone.
        """
        settings = self.needs.settings
        of_origin = [stream for stream, each in self._shaking.items() if each == origin]
        if len(of_origin) >= settings.most_shaking_of_origin:
            oldest = of_origin[0]
        elif len(self._shaking) >= settings.most_shaking:
            oldest = next(iter(self._shaking))
        else:
            return
        del self._shaking[oldest]
        oldest.abort()

    def _check_count(self, partner: str) -> None:
        """Refuse a partner with too many connections, as soon as TLS has told who it is."""
        settings = self.needs.settings
        most = settings.most_of_partner + settings.most_silent_of_partner
        if self.of_partner()[partner] >= most:
            raise ChannelError(Code.TOO_MANY)

    async def _refused(self, error: BaseException) -> None:
        code = error.code if isinstance(error, TransferError) else Code.TIMEOUT
        self._strangers = self._strangers.refilled(asyncio.get_running_loop().time())
        if self._strangers.empty:
            return  # Strangers must not be able to fill logs and the audit.
        self._strangers = self._strangers.spend()
        log.warning("connection refused", code=code)
        if isinstance(error, Untrusted):
            await asyncio.to_thread(self.needs.store.refused, "", code, utcnow())

    async def _tell_changes(self, stop: asyncio.Event) -> None:
        """Tell partners, with jitter and without content, that patients were registered."""
        seen: str | None = None
        while not stop.is_set():
            await pause(stop, jittered(self.needs.settings.look_for_changes))
            try:
                token = await asyncio.to_thread(self.needs.store.registrations)
            except Exception as error:
                log.error("registrations cannot be read", kind=type(error).__name__)
                continue
            if seen is not None and token != seen:
                for each in self.reception:
                    each.talk.post(ev.Registered())
            seen = token


class Reception:
    """One connection of a partner."""

    def __init__(self, service: ReceiverService, peer: PkiPeer, stream: TlsStream) -> None:
        """Take over a stream whose TLS handshake is done."""
        self.peer = peer
        self._service, self._needs = service, service.needs
        needs = service.needs
        ports = ReceiverPorts(
            institution=needs.settings.institution,
            signer=needs.keystore.signer(Purpose.EXCHANGE),
            peers=needs.peer_of,
            random=secrets.token_bytes,
            new_key=lambda: self._keys.popleft(),
        )
        session = protocol.new_receiver(
            ports, needs.settings.limits, service.allowance(peer.institution)
        )
        self.talk: Conversation[Receiver] = Conversation(
            stream, session, protocol.step_receiver, self._perform
        )
        self._client, self._opener = needs.openers.for_client()
        self._keys: deque[Key] = deque()
        self._accepted: list[ev.Accept] = []
        self._work = Work()

    async def run(self, channel: Channel) -> None:
        """Serve the connection to its end."""
        self._service.reception.add(self)
        try:
            close = await self.talk.run(channel, self._check)
            log.info(
                "partner left",
                partner=self.peer.institution,
                code=close.code,
                by_peer=close.by_peer,
            )
            await self._audit_close(close)
        finally:
            self._service.reception.discard(self)
            self._opener.end(self._client)
            await self._work.finish()

    async def _audit_close(self, close: ev.Close) -> None:
        if close.code in {*Code} - {Code.TIMEOUT} and not close.by_peer:
            store, partner = self._needs.store, self.peer.institution
            await asyncio.to_thread(store.refused, partner, Code(close.code), utcnow())

    def stop(self) -> None:
        """End in good order."""
        self.talk.post(ev.Stop())

    def _check(self) -> ev.Event | None:
        if not self.peer.trusted.is_trusted(self.peer.institution):
            return ev.Abort(Code.REVOKED_PARTNER)
        return None

    def _broken(self) -> None:
        self.talk.post(ev.Abort(Code.INTERNAL))

    def _perform(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Greet():
                self._work.start(self._greet(effect), self._broken)
            case ev.PeerHead():
                self._work.start(self._peer_head(effect))
            case ev.Established():
                log.info("partner ready", partner=self.peer.institution)
                self._opener.begin(self._client, introduction(self.talk.session, utcnow()))
                self._work.start(self._remember_crl())
            case ev.Ask(question):
                self._service.answerer.add(self.peer.institution, question, self._answered)
            case ev.Accept():
                self._accept(effect)

    async def _greet(self, effect: ev.Greet) -> None:
        count = self._service.of_partner()[effect.sender]
        if count > self._needs.settings.most_of_partner:
            self.talk.post(ev.Declined(BUSY_AFTER_MS))
            return
        try:
            welcome = await asyncio.to_thread(
                self._needs.store.welcome, effect.sender, effect.held, effect.mark, utcnow()
            )
        except Exception as error:
            # A full disk or an absent database is no fault of the partner: it comes back later.
            log.error("mark cannot be read", kind=type(error).__name__)
            self.talk.post(ev.Declined(BUSY_AFTER_MS))
            return
        self.talk.post(ev.Welcomed(welcome))

    async def _peer_head(self, effect: ev.PeerHead) -> None:
        partner = self.peer.institution
        await asyncio.to_thread(
            self._needs.store.peer_head,
            partner,
            effect.head,
            effect.consistency,
            effect.since,
            utcnow(),
        )

    async def _remember_crl(self) -> None:
        partner, session = self.peer.institution, self.talk.session
        link = session.key.link if session.key else None
        await asyncio.to_thread(
            self._needs.store.remember_crl, partner, session.crl, link, utcnow()
        )

    def _answered(self, answers: Mapping[str, Answer]) -> None:
        self._work.start(self._offer(answers), self._broken)

    async def _offer(self, answers: Mapping[str, Answer]) -> None:
        """Have keys made for the offers that follow, and let them follow."""
        hits = sum(isinstance(each, Known) for each in answers.values())
        try:
            self._keys += await self._opener.make(self._client, hits) if hits else ()
        except KeyGone:
            later = NotReady(BUSY_AFTER_MS)
            answers = {
                tid: later if isinstance(each, Known) else each for tid, each in answers.items()
            }
        self.talk.post(ev.Looked(tuple(answers.items())))

    def _accept(self, accept: ev.Accept) -> None:
        """Collect what comes in one go, to be opened together."""
        self._accepted.append(accept)
        if len(self._accepted) == 1:
            self._work.start(self._read_accepted(), self._broken)

    async def _read_accepted(self) -> None:
        accepted, self._accepted = self._accepted, []
        for accept, outcome in zip(accepted, await self._read(accepted), strict=True):
            if isinstance(outcome, TransferError):
                self._settled(accept.tid, outcome)
            else:
                self._service.committer.add(outcome, partial(self._settled, accept.tid))

    async def _read(self, accepted: Sequence[ev.Accept]) -> list[AcceptedRecord | TransferError]:
        """Have records opened; what a sound sender does not make is returned as its error."""
        try:
            found = await self._opener.open(
                self._client, [(_key_of(each), _sealed(each)) for each in accepted]
            )
        except KeyGone as gone:
            found = [gone] * len(accepted)
        return await asyncio.to_thread(self._judge, accepted, found)

    def _judge(
        self, accepted: Sequence[ev.Accept], found: Sequence[payload.Contents | TransferError]
    ) -> list[AcceptedRecord | TransferError]:
        binding, outcomes = self.talk.session.binding, list[AcceptedRecord | TransferError]()
        assert binding is not None
        for accept, contents in zip(accepted, found, strict=True):
            if isinstance(contents, TransferError):
                outcomes.append(contents)
                continue
            try:
                outcomes.append(payload.judge(contents, accept, binding, self._needs.identifiers))
            except Untrusted as error:
                outcomes.append(error)
        return outcomes

    def _settled(self, tid: str, outcome: bytes | TransferError) -> None:
        if isinstance(outcome, bytes):
            self.talk.post(ev.Settled(tid, outcome))
        elif isinstance(outcome, ReceiverBusy | KeyGone):
            self.talk.post(ev.Unsettled(tid, BUSY_AFTER_MS))
        else:
            self.talk.post(ev.Refused(tid, outcome.code))


def introduction(session: Receiver, now: datetime) -> payload.Introduction:
    """Return what an opener is told of a connection whose handshake is done ``now``."""
    hello = decode(session.hello)
    assert isinstance(hello, Hello) and session.binding is not None
    return payload.Introduction(session.session, session.binding, hello.chain, session.crl, now)


def _key_of(accept: ev.Accept) -> Key:
    assert isinstance(accept.key, Key)
    return accept.key


def _sealed(accept: ev.Accept) -> payload.Sealed:
    return payload.Sealed(accept.tid, accept.offer, accept.info, accept.sealed)
