"""Clocks a day apart: named, nothing lost, and nothing registered that would not be otherwise.

The services are processes of their own here, all of whose product takes its time from one clock.
"""

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from crx_attackers import Trio, is_delivered, receiving, run, sending, states, until
from crx_institutions import House, enrol, found
from free_ports import free_port
from sqlalchemy import update
from sqlalchemy.orm import Session
from test_crx_kills import PROCESS, Process, wait_for

from medportal.core.clock import utcnow
from medportal.delivery.models import Outbox
from medportal.transfer import desk

DAY = 86_400


class Clocked(Process):
    """A sender or receiver whose clock is so many seconds ahead."""

    def __init__(self, role: str, house: House, port: int, ahead: int) -> None:
        self.command = [
            *(sys.executable, "-W", "ignore", str(PROCESS), role),
            *(str(house.home.parent), house.id, str(port), str(ahead)),
        ]
        self.log = (house.home / f"{role}.log").open("ab")
        self.start()


@pytest.fixture(scope="module")
def houses(tmp_path_factory: Any) -> Iterator[tuple[House, House, int]]:
    state: Path = tmp_path_factory.mktemp("clocks")
    port = free_port()
    hospital, laboratory = found(state, "hospital"), found(state, "laboratory")
    enrol(hospital, laboratory, port)
    hospital.register()
    yield hospital, laboratory, port
    for house in (hospital, laboratory):
        house.engine.dispose()


def exchange(
    houses: tuple[House, House, int], receiver: int, sender: int, tid: str, expected: set[str]
) -> None:
    """Run both with their clocks until a record is in an expected state, and end them in order."""
    hospital, laboratory, port = houses
    running = [Clocked("receive", hospital, port, receiver)]
    try:
        running.append(Clocked("send", laboratory, port, sender))
        wait_for(lambda: laboratory.outbox()[tid].reason in expected)
    finally:
        ended = [each.stop() for each in reversed(running)]
    assert ended == [0, 0]


def queued(laboratory: House) -> str:
    """Put a record into the outbox, as long ago as any of the clocks."""
    (tid,) = laboratory.queue("hospital")
    with Session(laboratory.engine) as session, session.begin():
        row = update(Outbox).where(Outbox.tid == tid)
        session.execute(row.values(next_at=utcnow() - timedelta(days=2)))
    return tid


@pytest.mark.parametrize(
    ("receiver", "sender"), [(DAY, 0), (0, DAY)], ids=["receiver ahead", "sender ahead"]
)
def test_a_clock_that_is_a_day_ahead_stops_nothing(
    houses: tuple[House, House, int], receiver: int, sender: int
) -> None:
    hospital, laboratory, _port = houses
    tid = queued(laboratory)
    exchange(houses, receiver, sender, tid, {"registered"})
    assert tid in {row.tid for row in hospital.inbox()}


@pytest.mark.parametrize(
    ("receiver", "sender"), [(-DAY, 0), (0, -DAY)], ids=["receiver behind", "sender behind"]
)
def test_a_clock_that_is_a_day_behind_trusts_nobody_and_loses_nothing(
    houses: tuple[House, House, int], receiver: int, sender: int
) -> None:
    """What was certified or withdrawn today is from its future; it is refused by name."""
    hospital, laboratory, _port = houses
    tid = queued(laboratory)
    exchange(houses, receiver, sender, tid, {"channel-refused"})
    assert tid not in {row.tid for row in hospital.inbox()}
    who = hospital if receiver else laboratory
    log = (who.home / ("receive.log" if receiver else "send.log")).read_text()
    assert '"code": "certificate"' in log
    # When the clock is right again, it arrives.
    exchange(houses, 0, 0, tid, {"registered"})
    assert [row.tid for row in hospital.inbox()].count(tid) == 1


def test_a_clock_that_goes_back_while_they_talk_refuses_nothing_for_good(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake was before; what comes now is signed under a certificate of the future."""
    hospital, laboratory, _clinic = trio.houses
    laboratory.queue("hospital")

    async def exchange() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: is_delivered(laboratory))
            with monkeypatch.context() as clock:
                clock.setattr(desk, "utcnow", lambda: utcnow() - timedelta(days=1))
                laboratory.queue("hospital", count=3)
                await until(lambda: ("retrying", "busy") in states(laboratory))
            await until(lambda: is_delivered(laboratory))

    run(exchange())
    assert [row.outcome for row in hospital.inbox()] == ["registered"] * 4
