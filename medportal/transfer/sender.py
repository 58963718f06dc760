"""The sender's service: drains the outbox to partners, one connection each.

One poll asks the database which partners have something due; a link per partner keeps the
connection, claims what the window has room for, and writes back what came of it. A crash at any
moment leaves leases that run out; the receiver answers a second QUERY with the receipt it gave.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from medportal.core.clock import utcnow
from medportal.delivery.states import DeliveryReason
from medportal.pki.keystore import KeyStore
from medportal.pki.profiles import Purpose
from medportal.transfer import events as ev
from medportal.transfer import kem, protocol
from medportal.transfer.conversation import Conversation, Work
from medportal.transfer.credentials import PkiPeer, deliveries_signer
from medportal.transfer.errors import ChannelError, Code, TransferError, Untrusted
from medportal.transfer.messages import HeldHead, Mark
from medportal.transfer.ports import Channel, OutgoingRecord, Result, ResultKind, SenderStore
from medportal.transfer.sending import Phase, Sender, SenderPorts
from medportal.transfer.tls import TlsStream

log = structlog.get_logger()
CLAIM = 32
"""For how many records at once the database is asked, where more than a few are on their way."""

POLLS_LEFT_OUT = 3
"""How many polls in a row may be left out while a link is at work, and claims by itself."""

_RANDOM = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How the sender behaves; seconds.

    ``poll``, also four times of it (:data:`POLLS_LEFT_OUT`), lies well below the two seconds within
    which a new record must arrive. After
    ``longest_connection`` a connection is made anew, however busy it is: heads of logs and
    revocation lists are exchanged when one begins. ``watch`` is how often it is asked whether
    a patient's rule stops something that is on its way: longer after the rule was made, no
    content leaves.
    """

    institution: str
    poll: float = 0.15
    connect: float = 10.0
    first_wait: float = 0.3
    longest_wait: float = 30.0
    renew: float = 3.0
    watch: float = 0.5
    longest_connection: float = 900.0
    limits: ev.Limits = field(default_factory=ev.Limits)


@dataclass(frozen=True, slots=True)
class SenderNeeds:
    """What the sender is given. ``peer_of`` gives trusted partners only."""

    settings: SenderSettings
    keystore: KeyStore
    peer_of: Callable[[str], PkiPeer | None]
    store: SenderStore


def jittered(seconds: float) -> float:
    """Return between half and all of ``seconds``, so that many do not come back together."""
    return seconds * (0.5 + 0.5 * _RANDOM.random())


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until ``stop``."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class SenderService:
    """Polls, and keeps a link to each partner that anything was ever due for."""

    def __init__(self, needs: SenderNeeds) -> None:
        """Prepare; nothing is opened before :meth:`run`."""
        self._needs = needs
        self._links: dict[str, Link] = {}
        self._work = Work()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``; then finish what is under way and give back the rest."""
        while not stop.is_set():
            for partner in await self._due():
                self._link(partner, stop).wake.set()
            await self._rest(stop)
        await self._work.finish()

    async def _rest(self, stop: asyncio.Event) -> None:
        """Wait for the next poll.

        While a link has records on their way, each answer has it look for more. What is queued
        meanwhile, for others or behind a slow answer, may wait for the poll that comes then: up to
        ``1 + POLLS_LEFT_OUT`` polls.
        """
        for _ in range(1 + POLLS_LEFT_OUT):
            await pause(stop, jittered(self._needs.settings.poll))
            if stop.is_set() or not any(link.is_at_work for link in self._links.values()):
                return

    async def _due(self) -> Sequence[str]:
        try:
            return await asyncio.to_thread(self._needs.store.due, utcnow())
        except Exception as error:
            # A locked or absent database must not end the service; it is asked again.
            log.error("outbox cannot be read", kind=type(error).__name__)
            await asyncio.sleep(1)
            return ()

    def _link(self, partner: str, stop: asyncio.Event) -> "Link":
        link = self._links.get(partner)
        if link is None:
            link = self._links[partner] = Link(self._needs, partner, stop)
            self._work.start(self._keep(link))
        return link

    async def _keep(self, link: "Link") -> None:
        try:
            await link.run()
        finally:
            del self._links[link.partner]


class Link:
    """The connection to one partner, made again whenever it ends."""

    def __init__(self, needs: SenderNeeds, partner: str, stop: asyncio.Event) -> None:
        """Prepare; ``wake`` is set when something is due."""
        self.partner, self.wake = partner, asyncio.Event()
        self._needs, self._stop = needs, stop
        self._wait = needs.settings.first_wait
        self._exchange: Exchange | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether records are on their way over its connection."""
        return self._exchange is not None and self._exchange.is_at_work

    async def run(self) -> None:
        """Connect and converse until the service stops or the partner is trusted no more."""
        while not self._stop.is_set():
            peer = self._needs.peer_of(self.partner)
            if peer is None or peer.partner.endpoint is None:
                await self._stalled(DeliveryReason.PARTNER_NOT_TRUSTED)
                return
            await self._rest(await self._attempt(peer))

    async def _attempt(self, peer: PkiPeer) -> ev.Close:
        try:
            return await self._converse(peer)
        except Exception as error:
            # A broken key file or database here; it is tried again, not given up.
            log.error("link failed", partner=self.partner, kind=type(error).__name__)
            return ev.Close(Code.INTERNAL)

    async def _rest(self, close: ev.Close) -> None:
        wait = max(jittered(self._wait), close.after_ms / 1000)
        log.info("link down", partner=self.partner, code=close.code, by_peer=close.by_peer)
        self._wait = min(2 * self._wait, self._needs.settings.longest_wait)
        await pause(self._stop, wait)

    async def _converse(self, peer: PkiPeer) -> ev.Close:
        settings = self._needs.settings
        try:
            async with asyncio.timeout(settings.connect):
                stream, channel = await self._connect(peer)
        except (OSError, TransferError) as error:  # TimeoutError is an OSError
            await self._stalled(reason_of_failure(error))
            return ev.Close(str(getattr(error, "code", "unreachable")))
        exchange = Exchange(self._needs, peer, stream, self.wake, self._connected)
        self._exchange = exchange
        try:
            close = await exchange.run(channel, self._stop)
        except BaseException:
            stream.abort()
            raise
        finally:
            self._exchange = None
        if not exchange.established and not self._stop.is_set():
            await self._stalled(reason_of_close(close))
        return close

    def _connected(self) -> None:
        self._wait = self._needs.settings.first_wait
        log.info("link up", partner=self.partner)

    async def _connect(self, peer: PkiPeer) -> tuple[TlsStream, Channel]:
        assert peer.partner.endpoint is not None
        host, _, port = peer.partner.endpoint.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        credentials = self._needs.keystore.credentials(Purpose.CHANNEL)
        stream = TlsStream(reader, writer, credentials, server=False)
        only = {peer.institution: peer}
        try:
            return stream, await stream.handshake(only.get, utcnow())
        except BaseException:
            stream.abort()
            raise

    async def _stalled(self, reason: DeliveryReason) -> None:
        try:
            await asyncio.to_thread(self._needs.store.stalled, self.partner, reason, utcnow())
        except Exception as error:
            log.error("outbox cannot be written", kind=type(error).__name__)


def reason_of_failure(error: Exception) -> DeliveryReason:
    """Return why no connection came about, as the laboratory is told."""
    if isinstance(error, Untrusted) and error.code is Code.REVOKED_PARTNER:
        return DeliveryReason.PARTNER_NOT_TRUSTED
    if isinstance(error, Untrusted | ChannelError):
        return DeliveryReason.CHANNEL_REFUSED
    return DeliveryReason.UNREACHABLE


def reason_of_close(close: ev.Close) -> DeliveryReason:
    """Return why a connection ended before records could pass."""
    return DeliveryReason.BUSY if close.code == "busy" else DeliveryReason.CHANNEL_REFUSED


class Exchange:
    """One connection of a link: claims, submits, and writes results back."""

    def __init__(
        self,
        needs: SenderNeeds,
        peer: PkiPeer,
        stream: TlsStream,
        wake: asyncio.Event,
        connected: Callable[[], None],
    ) -> None:
        """Take over a stream whose TLS handshake is done."""
        self.established = False
        self._needs, self._peer, self._stream = needs, peer, stream
        self._wake, self._connected = wake, connected
        self._claimed: dict[str, OutgoingRecord] = {}
        self._results: asyncio.Queue[Result | None] = asyncio.Queue()
        self._stopped: frozenset[str] = frozenset()
        self._closing = False
        self._work = Work()
        self._hello_at = utcnow()

    @property
    def is_at_work(self) -> bool:
        """Whether anything is claimed, so that an answer, or the end, is to come."""
        return bool(self._claimed)

    async def run(self, channel: Channel, stop: asyncio.Event) -> ev.Close:
        """Converse until the connection ends; everything claimed has its result then."""
        store, partner = self._needs.store, self._peer.institution
        self._until = asyncio.get_running_loop().time() + self._needs.settings.longest_connection
        held, mark = await asyncio.to_thread(store.standing, partner)
        signer = self._needs.keystore.signer(Purpose.EXCHANGE)
        ports = SenderPorts(
            institution=self._needs.settings.institution,
            signer=signer,
            peer=self._peer,
            random=secrets.token_bytes,
            seal=kem.seal,
            sign_deliveries=deliveries_signer(signer),
            is_stopped=lambda tid: tid in self._stopped,
        )
        session = protocol.new_sender(ports, self._needs.settings.limits, held, mark)
        self._hello_at = utcnow()
        self._talk: Conversation[Sender] = Conversation(
            self._stream, session, protocol.step_sender, self._perform
        )
        helpers = [asyncio.create_task(each) for each in (self._pump(), self._settle())]
        try:
            return await self._talk.run(channel, lambda: self._check(stop))
        finally:
            await self._end(helpers)

    async def _end(self, helpers: list[asyncio.Task[None]]) -> None:
        # Not cancelled: a claim or an answer cut off here would stay leased until it runs out.
        self._closing = True
        self._wake.set()
        self._results.put_nowait(None)
        await asyncio.gather(*helpers)
        await self._work.finish()
        await self._write(
            [Result(record, ResultKind.RELEASED) for record in self._claimed.values()]
        )

    def _check(self, stop: asyncio.Event) -> ev.Event | None:
        if not self._peer.trusted.is_trusted(self._peer.institution):
            return ev.Abort(Code.REVOKED_PARTNER)
        is_old = asyncio.get_running_loop().time() >= self._until
        if (stop.is_set() or is_old) and self._talk.session.phase is not Phase.DRAINING:
            return ev.Stop()
        return None

    def _perform(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Prepare(mark, held):
                self._work.start(self._prepare(mark, held), self._broken)
            case ev.PeerHead():
                self._work.start(self._peer_head(effect))
            case ev.Established():
                self.established = True
                self._work.start(self._reachable(), self._broken)
                self._work.start(self._remember_crl())
            case ev.PartnerChanged():
                self._work.start(self._changed())
            case ev.Gather():
                self._talk.post(ev.Gathered())
            case ev.HaveReceipt() | ev.Unheard() | ev.Again() | ev.Release():
                self._results.put_nowait(result_of(effect))

    def _broken(self) -> None:
        self._talk.post(ev.Abort(Code.INTERNAL))

    async def _prepare(self, mark: Mark | None, held: HeldHead | None) -> None:
        store, partner = self._needs.store, self._peer.institution
        own = await asyncio.to_thread(store.prepare, partner, mark, held, self._hello_at, utcnow())
        self._talk.post(ev.Prepared(own))

    async def _peer_head(self, effect: ev.PeerHead) -> None:
        partner = self._peer.institution
        await asyncio.to_thread(
            self._needs.store.peer_head,
            partner,
            effect.head,
            effect.consistency,
            effect.since,
            utcnow(),
        )

    async def _reachable(self) -> None:
        await asyncio.to_thread(self._needs.store.reachable, self._peer.institution, utcnow())
        self._connected()
        self._wake.set()

    async def _remember_crl(self) -> None:
        partner, session = self._peer.institution, self._talk.session
        link = session.key.link if session.key else None
        await asyncio.to_thread(
            self._needs.store.remember_crl, partner, session.crl, link, utcnow()
        )

    async def _changed(self) -> None:
        await asyncio.to_thread(self._needs.store.changed, self._peer.institution, utcnow())
        self._wake.set()

    async def _pump(self) -> None:
        """Claim what there is room for, whenever something is due."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._closing:
                return
            await self._claim()

    async def _claim(self) -> None:
        session = self._talk.session
        room = session.window - len(self._claimed)
        if session.room == 0 or room < self._least(session.window):
            return
        try:
            records = await asyncio.to_thread(
                self._needs.store.claim, self._peer.institution, room, utcnow()
            )
        except Exception as error:
            log.error("outbox cannot be claimed", kind=type(error).__name__)
            return
        for record in records:
            self._claimed[record.tid] = record
            self._talk.post(ev.Submit(record))

    def _least(self, window: int) -> int:
        """Return for how much room it is worth asking the database, as each answer makes some.

        A claim of few records costs what one of half a window does. While half a window is on its
        way, the next answer is never far; below that everything is claimed at once.
        """
        return max(1, min(CLAIM, window // 2))

    async def _settle(self) -> None:
        """Write results as they come; prolong the leases of what is still under way.

        And ask whether patients' rules still let it go.
        """
        renewed, watched, last = utcnow(), utcnow(), False
        while not last:
            results = await self._some_results()
            last = None in results
            await self._write([each for each in results if each is not None])
            if results:
                self._wake.set()
            renewed = await self._renew(renewed)
            watched = await self._watch(watched)

    async def _some_results(self) -> list[Result | None]:
        """Wait for results, but no longer than until rules are to be looked at."""
        results: list[Result | None] = []
        with suppress(TimeoutError):
            results.append(await asyncio.wait_for(self._results.get(), self._needs.settings.watch))
        while not self._results.empty():
            results.append(self._results.get_nowait())
        return results

    async def _renew(self, last: datetime) -> datetime:
        now = utcnow()
        if (now - last).total_seconds() < self._needs.settings.renew or not self._claimed:
            return last
        try:
            await asyncio.to_thread(self._needs.store.renew, list(self._claimed.values()), now)
        except Exception as error:
            log.error("leases cannot be renewed", kind=type(error).__name__)
        return now

    async def _watch(self, last: datetime) -> datetime:
        now = utcnow()
        if (now - last).total_seconds() < self._needs.settings.watch or not self._claimed:
            return last
        held = list(self._claimed.values())
        try:
            self._stopped = await asyncio.to_thread(self._needs.store.stopped, held, now)
        except Exception as error:
            log.error("patients' rules cannot be read", kind=type(error).__name__)
            # What cannot be asked about is not sent: it is claimed again when it can.
            self._stopped = frozenset(record.tid for record in held)
        return now

    async def _write(self, results: list[Result]) -> None:
        if not results:
            return
        partner = self._peer.institution
        try:
            await asyncio.to_thread(self._needs.store.finished, partner, results, utcnow())
        except Exception as error:
            # Nothing is lost: the leases run out and the receiver repeats its receipts.
            log.error("results cannot be written", kind=type(error).__name__, count=len(results))
        for result in results:
            self._claimed.pop(result.record.tid, None)


def result_of(effect: ev.HaveReceipt | ev.Unheard | ev.Again | ev.Release) -> Result:
    """Return what an effect means for the outbox."""
    match effect:
        case ev.HaveReceipt(record, receipt, conflict):
            kind = ResultKind.CONFLICT if conflict else ResultKind.RECEIPTED
            return Result(record, kind, receipt)
        case ev.Unheard(record):
            return Result(record, ResultKind.UNKNOWN)
        case ev.Again(record, after_ms, reason):
            return Result(record, ResultKind.RETRY, reason=reason, after_ms=after_ms)
        case ev.Release(record):
            return Result(record, ResultKind.RELEASED)
