"""Two workers, a receiver that is restored from backups, and hypothesis to choose what happens.

The sender's outbox and the receiver's inbox are the real ones, each in a database of its own.
Between any two transactions a worker may be gone for ever, or be late, and the receiver may
have been put back to its backup.
"""

import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import StaticPool

from medportal.db import Base
from medportal.delivery import inbox, outbox, receipts
from medportal.delivery.errors import LostLease
from medportal.delivery.inbox import Arrival, Result
from medportal.delivery.models import Inbox, Outbox, RecalledReceipt
from medportal.delivery.outbox import LEASE, Claim, Outgoing, ReceiptFacts
from medportal.delivery.states import OPEN, DeliveryReason, DeliveryState, Outcome

TABLES = [
    Base.metadata.tables[name]
    for name in (
        "outbox",
        "recalled_receipt",
        "partner_block",
        "partner_hold",
        "partner_mark",
        "inbox",
        "receipt_counter",
        "storage_epoch",
    )
]
WORKERS = st.sampled_from(["w1", "w2"])
CHAINS = tuple(f"{number:032x}" for number in range(3))


def memory() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", _no_driver_transactions)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    Base.metadata.create_all(engine, tables=TABLES)
    return engine


def _no_driver_transactions(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


def copy(source: Engine, target: Engine) -> None:
    """Copy a whole database, as a backup or its restore does."""
    one, other = source.raw_connection(), target.raw_connection()
    try:
        one.driver_connection.backup(other.driver_connection)  # type: ignore[union-attr]
    finally:
        one.close()
        other.close()


@dataclass
class Held:
    """A claim in a worker's hands; ``facts`` once the receiver has answered."""

    claim: Claim
    life: int
    facts: ReceiptFacts | None = None


@dataclass
class Worker:
    name: str
    life: int = -1
    held: list[Held] = field(default_factory=list)


class Exchange(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.engines = [memory(), memory(), memory()]
        self.sender, self.receiver, self.backup = map(sessionmaker, self.engines)
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.life = 0
        self.versions = dict.fromkeys(CHAINS, 0)
        self.tids: dict[str, tuple[str, int]] = {}
        self.workers = {name: Worker(name) for name in ("w1", "w2")}
        with self.receiver.begin() as session:
            receipts.storage_epoch(session, self.now)
        copy(self.engines[1], self.engines[2])

    def teardown(self) -> None:
        if not hasattr(self, "engines"):
            return
        self._drain()
        for engine in self.engines:
            engine.dispose()

    # What happens at the sender

    @rule(chain=st.sampled_from(CHAINS))
    def write_record(self, chain: str) -> None:
        self.versions[chain] += 1
        version = self.versions[chain]
        digest = bytes.fromhex(chain) * 2
        item = Outgoing(
            partner="hospital",
            record_id=chain,
            version=version,
            chain=chain,
            patient_id="a" * 32,
            pseudonym=bytes(32),
            key_id="k1",
            digest=digest[:-2] + version.to_bytes(2, "big"),
            sealed=b"sealed",
        )
        with self.sender.begin() as session:
            self.tids[outbox.enqueue(session, item, self.now)] = (chain, version)

    @rule(name=WORKERS)
    def connect(self, name: str) -> None:
        """A handshake: the receiver states its mark, the sender acts on it."""
        worker = self.workers[name]
        hello = self.now
        with self.receiver.begin() as session:
            stated = receipts.mark(session, "laboratory", self.now)
        with self.sender.begin() as session:
            receipts.requeue_above(
                session, "hospital", stated.epoch, stated.sequence, self.now, as_of=hello
            )
        worker.life = self.life

    @rule(name=WORKERS, limit=st.integers(1, 4))
    def claim(self, name: str, limit: int) -> None:
        worker = self.workers[name]
        if not self._connected(name):
            self.connect(name)
        with self.sender.begin() as session:
            claims = outbox.claim(session, name, "hospital", self.now, limit)
        for claim in claims:
            self._check_claim(claim)
        worker.held += [Held(claim, worker.life) for claim in claims]

    def _check_claim(self, claim: Claim) -> None:
        others = [held for worker in self.workers.values() for held in worker.held]
        for held in others:
            if held.claim.tid == claim.tid:
                assert held.claim.fence < claim.fence
        with self.sender.begin() as session:
            earlier = session.execute(
                select(Outbox.version).where(
                    Outbox.chain == claim.chain,
                    Outbox.version < claim.version,
                    Outbox.settled_at.is_(None),
                )
            ).all()
        assert earlier == []

    @precondition(lambda self: any(worker.held for worker in self.workers.values()))
    @rule(name=WORKERS, which=st.integers(0, 3))
    def send(self, name: str, which: int) -> None:
        """DELIVER and RECEIPT: durable there before it is known here."""
        held = self._pick(name, which)
        if held is None or held.life != self.life:
            return
        held.facts = self._deliver(held.claim)

    def _deliver(self, claim: Claim) -> ReceiptFacts:
        arrival = Arrival(
            sender="laboratory",
            tid=claim.tid,
            digest=claim.digest,
            pseudonym=claim.pseudonym,
            key_id=claim.key_id,
            outcome=Outcome.REGISTERED,
            reason=DeliveryReason.REGISTERED,
            patient_id="b" * 32,
            sealed=claim.sealed,
        )
        with self.receiver.begin() as session:
            (result,) = inbox.register(
                session, [arrival], self.now, lambda grants: [b"receipt"] * len(grants)
            )
        assert result.result is not Result.CONFLICT
        assert result.grant is not None
        assert result.grant.outcome is Outcome.REGISTERED
        return ReceiptFacts(Outcome.REGISTERED, result.grant.sequence, result.grant.at, b"receipt")

    @precondition(lambda self: any(worker.held for worker in self.workers.values()))
    @rule(name=WORKERS, which=st.integers(0, 3))
    def note_receipt(self, name: str, which: int) -> None:
        held = self._pick(name, which)
        if held is None or held.facts is None:
            return
        self.workers[name].held.remove(held)
        self._end(lambda s: outbox.complete(s, held.claim, held.facts, self.now))

    @precondition(lambda self: any(worker.held for worker in self.workers.values()))
    @rule(
        name=WORKERS,
        which=st.integers(0, 3),
        how=st.sampled_from(["unknown", "retry", "release", "renew"]),
    )
    def note_otherwise(self, name: str, which: int, how: str) -> None:
        held = self._pick(name, which)
        if held is None:
            return
        claim, now = held.claim, self.now
        if how != "renew":
            self.workers[name].held.remove(held)
        ends = {
            "unknown": lambda s: outbox.unknown(s, claim, now),
            "retry": lambda s: outbox.retry(s, claim, DeliveryReason.NO_ANSWER, now),
            "release": lambda s: outbox.release(s, claim, now),
            "renew": lambda s: outbox.renew(s, [claim], now),
        }
        self._end(ends[how])

    def _end(self, end) -> None:  # type: ignore[no-untyped-def]
        try:
            with self.sender.begin() as session:
                end(session)
        except LostLease:
            return

    @rule(name=WORKERS)
    def work(self, name: str) -> None:
        """A worker's whole round, undisturbed."""
        self.claim(name, 4)
        for held in list(self.workers[name].held):
            if held.life == self.life:
                held.facts = self._deliver(held.claim)
                self.workers[name].held.remove(held)
                facts = held.facts
                self._end(
                    lambda s, held=held, facts=facts: outbox.complete(
                        s, held.claim, facts, self.now
                    )
                )

    @rule(name=WORKERS)
    def die(self, name: str) -> None:
        self.workers[name] = Worker(name)

    @rule(seconds=st.sampled_from([1, LEASE.total_seconds(), 3600]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # What happens at the receiver

    @rule()
    def back_up(self) -> None:
        copy(self.engines[1], self.engines[2])

    @rule()
    def restore(self) -> None:
        copy(self.engines[2], self.engines[1])
        with self.receiver.begin() as session:
            receipts.renew_epoch(session, self.now)
        self.life += 1

    # What must hold at any time

    @invariant()
    def every_row_is_settled_with_its_receipt_or_will_be_claimed(self) -> None:
        if not hasattr(self, "engines"):
            return
        with self.sender.begin() as session:
            rows = session.scalars(select(Outbox)).all()
            assert {row.tid for row in rows} == set(self.tids)
            for row in rows:
                is_open = DeliveryState(row.state) in OPEN
                assert is_open is (row.settled_at is None) is (row.receipt is None)
                assert (row.lease_until is None) is (row.lease_owner is None)
                if row.lease_until is not None:
                    assert row.next_at == row.lease_until
                assert row.attempts >= 0

    @invariant()
    def the_receiver_holds_each_transfer_once_in_a_gapless_order_of_each_chain(self) -> None:
        if not hasattr(self, "engines"):
            return
        with self.receiver.begin() as session:
            rows = session.execute(select(Inbox.tid, Inbox.sequence).order_by(Inbox.sequence)).all()
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
        came = [self.tids[row.tid] for row in rows]
        for chain in CHAINS:
            versions = [version for name, version in came if name == chain]
            assert versions == list(range(1, len(versions) + 1))

    def _drain(self) -> None:
        for _ in range(200):
            self.connect("w1")
            self.wait(7200)
            with self.sender.begin() as session:
                claims = outbox.claim(session, "w1", "hospital", self.now)
            if not claims:
                break
            for claim in claims:
                facts = self._deliver(claim)
                with self.sender.begin() as session:
                    outbox.complete(session, claim, facts, self.now)
        with self.sender.begin() as session:
            states = {row.tid: row.state for row in session.scalars(select(Outbox))}
            recalled = session.scalars(select(RecalledReceipt)).all()
            assert all(one.tid in self.tids for one in recalled)
        with self.receiver.begin() as session:
            there = set(session.scalars(select(Inbox.tid)))
        assert there == set(self.tids)
        assert set(states.values()) <= {DeliveryState.DELIVERED.value}
        self.every_row_is_settled_with_its_receipt_or_will_be_claimed()
        self.the_receiver_holds_each_transfer_once_in_a_gapless_order_of_each_chain()

    def _connected(self, name: str) -> bool:
        return self.workers[name].life == self.life

    def _pick(self, name: str, which: int) -> Held | None:
        held = self.workers[name].held
        return held[which % len(held)] if held else None


Exchange.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestExchange = Exchange.TestCase


def test_the_machine_can_lose_something_and_would_notice() -> None:
    """A sender that ignores marks is caught: the machine's checks are able to fail."""
    machine = Exchange()
    machine.open()
    machine.write_record(CHAINS[0])
    machine.connect("w1")
    machine.claim("w1", 1)
    machine.send("w1", 0)
    machine.note_receipt("w1", 0)
    machine.restore()
    with machine.sender.begin() as session:
        assert outbox.claim(session, "w1", "hospital", machine.now) == []
    with machine.receiver.begin() as session:
        assert session.scalars(select(Inbox)).all() == []
    machine.connect("w2")
    with machine.sender.begin() as session:
        assert len(outbox.claim(session, "w2", "hospital", machine.now)) == 1
    machine.teardown()
