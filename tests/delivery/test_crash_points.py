"""A sender killed at every point, and two that race: nothing lost, nothing registered twice."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from medportal.delivery import outbox
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.outbox import LEASE, Outgoing

SCRIPT = Path(__file__).with_name("sender_that_dies.py")
Begin = sessionmaker[Session]
Make = Callable[..., Outgoing]


# The test directories are no packages, so the script is loaded by its path.
def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sender_that_dies", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sender = _load()


def fill(begin: Begin, clock: Any, outgoing: Make, chains: int, length: int) -> set[str]:
    with begin.begin() as session:
        return {
            outbox.enqueue(session, item, clock.now)
            for _ in range(chains)
            for item in _chain(outgoing, length)
        }


def _chain(outgoing: Make, length: int) -> list[Outgoing]:
    first = outgoing()
    return [first] + [outgoing(record_id=first.record_id, version=n) for n in range(2, length + 1)]


def send_and_be_killed(engine: Engine, clock: Any, point: str) -> None:
    url = engine.url.render_as_string(hide_password=False)
    killed = subprocess.run(
        [sys.executable, str(SCRIPT), url, point, clock.now.isoformat()],
        check=False,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(outbox.__file__).parents[2])},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def came(begin: Begin) -> list[tuple[str, int]]:
    """Return (tid, sequence) of what the receiver holds, in the order it came."""
    with begin.begin() as session:
        rows = session.execute(select(Inbox.tid, Inbox.sequence).order_by(Inbox.sequence))
        return [(row.tid, row.sequence) for row in rows]


def check_all_came_once_in_order(begin: Begin, tids: set[str]) -> None:
    rows = came(begin)
    assert [sequence for _, sequence in rows] == list(range(1, len(tids) + 1))
    assert Counter(tid for tid, _ in rows) == Counter(tids)
    order = dict(rows)
    with begin.begin() as session:
        sent = session.scalars(select(Outbox).order_by(Outbox.chain, Outbox.version)).all()
        assert {row.state for row in sent} == {"delivered"}
        assert all(row.receipt_sequence == order[row.tid] for row in sent)
        pairs = [(a, b) for a, b in pairwise(sent) if a.chain == b.chain]
        assert all(order[a.tid] < order[b.tid] for a, b in pairs)


@pytest.mark.parametrize("point", sender.POINTS)
def test_a_sender_killed_at_any_point_loses_nothing_and_doubles_nothing(
    engine: Engine, begin: Begin, clock: Any, outgoing: Make, point: str
) -> None:
    tids = fill(begin, clock, outgoing, chains=3, length=2)
    send_and_be_killed(engine, clock, point)
    sender.drain(engine, "successor", clock.now, "never")
    clock.forward(seconds=LEASE.total_seconds())
    sender.drain(engine, "successor", clock.now, "never")
    check_all_came_once_in_order(begin, tids)


def test_a_sender_killed_again_and_again_gets_through(
    engine: Engine, begin: Begin, clock: Any, outgoing: Make
) -> None:
    tids = fill(begin, clock, outgoing, chains=2, length=2)
    for point in ("registered", "complete-uncommitted", "completed"):
        send_and_be_killed(engine, clock, point)
        clock.forward(seconds=LEASE.total_seconds())
    sender.drain(engine, "successor", clock.now, "never")
    check_all_came_once_in_order(begin, tids)


def test_workers_that_race_share_the_work_and_keep_chains_in_order(
    engine: Engine, begin: Begin, clock: Any, outgoing: Make
) -> None:
    tids = fill(begin, clock, outgoing, chains=20, length=3)
    with ThreadPoolExecutor(3) as pool:
        workers = ("w1", "w2", "w3")
        counts = pool.map(lambda name: sender.drain(engine, name, clock.now, "never"), workers)
        delivered = sum(counts)
    delivered += sender.drain(engine, "last", clock.now, "never")
    assert delivered == len(tids)
    check_all_came_once_in_order(begin, tids)


def test_claims_made_at_the_same_moment_never_overlap(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    fill(begin, clock, outgoing, chains=40, length=1)

    def take(worker: str) -> list[str]:
        with begin.begin() as session:
            return [one.tid for one in outbox.claim(session, worker, "hospital", clock.now, 10)]

    with ThreadPoolExecutor(4) as pool:
        taken = [tid for tids in pool.map(take, ["w1", "w2", "w3", "w4"]) for tid in tids]
    assert len(taken) == len(set(taken)) == 40


def test_a_worker_whose_lease_ended_in_mid_flight_does_no_harm(
    engine: Engine, begin: Begin, clock: Any, outgoing: Make
) -> None:
    tids = fill(begin, clock, outgoing, chains=1, length=1)
    with begin.begin() as session:
        (slow,) = outbox.claim(session, "slow", "hospital", clock.now, 1, timedelta(seconds=30))
    clock.forward(seconds=30)
    assert sender.drain(engine, "quick", clock.now, "never") == 1
    facts = sender.register(begin, slow, clock.now, "never")
    with pytest.raises(outbox.LostLease), begin.begin() as session:
        outbox.complete(session, slow, facts, clock.now)
    check_all_came_once_in_order(begin, tids)
