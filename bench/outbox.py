"""What a claim costs with an empty outbox, and with 100,000 delivered rows: one JSON line.

Also what it costs to claim a batch while 10,000 wait, against while one batch does.

Run as ``python bench/outbox.py [EMPTY_URL FULL_URL]``, two databases without tables of the
delivery room; without them on SQLite in a temporary directory. Absolute figures depend on the
machine; the ratios, measured by turns in one run, should stay near 1.
"""

import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session, sessionmaker

from medportal.core.ids import new_id
from medportal.db import Base
from medportal.delivery import outbox, receipts
from medportal.delivery.models import Outbox
from medportal.delivery.outbox import Outgoing, ReceiptFacts
from medportal.delivery.states import Outcome
from medportal.tenancy.engines import make_engine

DELIVERED = 100_000
ROUNDS = 200
BATCH = 16
BACKLOG = 10_000
START = datetime(2026, 3, 1, tzinfo=UTC)
TABLES = ("outbox", "recalled_receipt", "partner_block", "partner_hold", "partner_mark")
EPOCH = "1" * 32


def delivered_row(number: int) -> dict[str, Any]:
    """Return one row delivered at some time in the past, content of usual size."""
    record, at = new_id(), START + timedelta(seconds=number)
    return {
        "tid": new_id(),
        "partner": "hospital",
        "record_id": record,
        "version": 1,
        "chain": record,
        "patient_id": new_id(),
        "pseudonym": secrets.token_bytes(32),
        "key_id": "k1",
        "digest": secrets.token_bytes(32),
        "sealed": bytes(1024),
        "state": "delivered",
        "reason": "registered",
        "attempts": 1,
        "created_at": at,
        "next_at": at,
        "asked_at": at,
        "settled_at": at,
        "fence": 1,
        "receipt": bytes(256),
        "receipt_sequence": number + 1,
        "receipt_at": at,
        "receipt_epoch": EPOCH,
    }


def fill(begin: sessionmaker[Session]) -> None:
    """Add what has been delivered over the years."""
    for first in range(0, DELIVERED, 5_000):
        rows = [delivered_row(number) for number in range(first, first + 5_000)]
        with begin.begin() as session:
            session.execute(insert(Outbox), rows)


def outgoing() -> Outgoing:
    record = new_id()
    return Outgoing(
        partner="hospital",
        record_id=record,
        version=1,
        chain=record,
        patient_id=new_id(),
        pseudonym=bytes(32),
        key_id="k1",
        digest=bytes(32),
        sealed=bytes(1024),
    )


class Run:
    """One measuring run; every step leaves the outbox as full as it was."""

    def __init__(self, begin: sessionmaker[Session]) -> None:
        self.begin = begin
        self.now = START + timedelta(days=400)

    def idle(self) -> None:
        """Poll when nothing waits, the commonest call of all."""
        with self.begin() as session:
            outbox.claim(session, "w", "hospital", self.now)
            session.rollback()

    def busy(self) -> None:
        """Enqueue, claim and settle a batch; rolled back, so that nothing accumulates."""
        with self.begin() as session:
            for _ in range(BATCH):
                outbox.enqueue(session, outgoing(), self.now)
            for number, claim in enumerate(outbox.claim(session, "w", "hospital", self.now)):
                facts = ReceiptFacts(Outcome.REGISTERED, 10**6 + number, self.now, b"receipt")
                outbox.complete(session, claim, facts, self.now)
            session.rollback()

    def claim(self) -> None:
        """Claim a batch of what waits, and give it back."""
        with self.begin() as session:
            outbox.claim(session, "w", "hospital", self.now, BATCH)
            session.rollback()

    def look(self) -> None:
        """Draw the queue page."""
        with self.begin() as session:
            outbox.queue_summary(session)
            session.rollback()

    def handshake(self) -> None:
        """Take a receipt mark that covers everything."""
        with self.begin() as session:
            receipts.requeue_above(session, "hospital", EPOCH, DELIVERED, self.now)
            session.rollback()


STEPS = ("idle", "busy", "look", "handshake")


def timed(step: Callable[[], None]) -> float:
    """Return the duration of a step in microseconds."""
    began = time.perf_counter_ns()
    step()
    return (time.perf_counter_ns() - began) / 1000


def by_turns(steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median of each step, all taking turns, so that a busy spell hits all alike."""
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            times[name].append(timed(step))
    return {name: round(statistics.median(values), 1) for name, values in times.items()}


def wait_for_partner(begin: sessionmaker[Session], count: int) -> None:
    """Add open rows, as while a partner cannot be reached."""
    with begin.begin() as session:
        for number in range(count):
            outbox.enqueue(session, outgoing(), START + timedelta(seconds=number))


def compare(low: Run, high: Run, steps: tuple[str, ...]) -> dict[str, Any]:
    """Return medians of both runs' steps and the ratios between them."""
    turns = {
        f"{side} {name}": getattr(run, name) for name in steps for side, run in _sides(low, high)
    }
    medians = by_turns(turns)
    pairs = {name: (medians[f"low {name}"], medians[f"high {name}"]) for name in steps}
    return {
        "micros": {name: list(pair) for name, pair in pairs.items()},
        "ratio": {name: round(high / low, 2) for name, (low, high) in pairs.items()},
    }


def _sides(low: Run, high: Run) -> tuple[tuple[str, Run], tuple[str, Run]]:
    return ("low", low), ("high", high)


def bench(empty: Engine, full: Engine) -> dict[str, Any]:
    """Compare an empty outbox with a full one, then a short queue with a long one."""
    low, high = sessionmaker(empty), sessionmaker(full)
    for engine in (empty, full):
        Base.metadata.create_all(engine, tables=[Base.metadata.tables[name] for name in TABLES])
    fill(high)
    delivered = compare(Run(low), Run(high), STEPS)
    wait_for_partner(low, BATCH)
    wait_for_partner(high, BACKLOG)
    return {
        "bench": "outbox",
        "engine": empty.dialect.name,
        "delivered_rows": [0, DELIVERED],
        "delivered": delivered,
        "waiting_rows": [BATCH, BACKLOG],
        "waiting": compare(Run(low), Run(high), ("claim",)),
    }


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        urls = arguments or [f"sqlite:///{directory}/{name}.sqlite" for name in ("empty", "full")]
        empty, full = map(make_engine, urls)
        print(json.dumps(bench(empty, full)))
        empty.dispose()
        full.dispose()


if __name__ == "__main__":
    main(sys.argv[1:])
