"""Several partners and several workers at once: turns, leases, and ends in good order."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from crx_attackers import (
    Trio,
    asked,
    direct,
    events,
    is_delivered,
    receiving,
    run,
    sending,
    until,
)
from crx_institutions import House, enrol, found

from medportal.audit.events import Action
from medportal.transfer import events as ev
from medportal.transfer.commands import receiver_service
from medportal.transfer.credentials import content_problem, peer_of
from medportal.transfer.desk import Desk
from medportal.transfer.opener import Openers
from medportal.transfer.ports import AcceptedRecord
from medportal.transfer.receiver import ReceiverService, ReceiverSettings

GROUP, WINDOW = 4, 64
PATIENT = ev.Limits(answer=300, idle=300, offer_ttl=300)
"""Of sides that wait for a gate to open."""


class Gate:
    """A receiver's storage that commits nothing until it is opened, and keeps who had a turn."""

    def __init__(self, store: Any) -> None:
        self.opened = threading.Event()
        self.turns: list[list[str]] = []
        self.verified = 0
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def check_content(self, parcel: Any) -> str:
        self.verified += 1
        return content_problem(parcel)

    def commit(self, records: Sequence[AcceptedRecord], now: datetime) -> Any:
        self.turns.append([record.sender for record in records])
        assert self.opened.wait(120)
        return self._store.commit(records, now)


@asynccontextmanager
async def gated(house: House, *others: House) -> Any:
    settings = ReceiverSettings(house.id, "127.0.0.1:0", group=GROUP, limits=PATIENT)
    made = receiver_service(house.keys, house.engine, settings)
    gate = Gate(made.needs.store)
    peers = peer_of(house.keys.trusted, house.keys.crl_limits)
    openers = Openers(
        0,
        house.keys.places.pki,
        PATIENT.offer_ttl,
        lambda: Desk(peers, gate.check_content, PATIENT.offer_ttl),
    )
    needs = replace(made.needs, store=gate, openers=openers)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    service = ReceiverService(needs)
    task = asyncio.create_task(service.run(stop, lambda _, number: port.set_result(number)))
    try:
        number = await port
        for other in others:
            direct(other, house, number)
        yield gate
    finally:
        gate.opened.set()
        stop.set()
        await task


def test_a_link_is_at_work_until_what_it_claimed_has_its_receipt(trio: Trio) -> None:
    """Meanwhile polls are left out."""
    hospital, laboratory, _ = trio.houses

    async def exchange() -> None:
        async with gated(hospital, laboratory) as gate:
            laboratory.queue("hospital")
            async with sending(laboratory, limits=PATIENT) as service:
                await until(lambda: gate.verified == 1)
                assert [link.is_at_work for link in service._links.values()] == [True]
                gate.opened.set()
                await until(lambda: is_delivered(laboratory))
                await until(lambda: not any(link.is_at_work for link in service._links.values()))

    run(exchange())


def test_one_record_of_a_partner_does_not_wait_for_the_window_of_another(trio: Trio) -> None:
    """In the order of arrival it would be the sixteenth turn."""
    hospital, laboratory, clinic = trio.houses

    async def exchange() -> list[list[str]]:
        async with gated(hospital, clinic, laboratory) as gate:
            clinic.queue("hospital", count=WINDOW)
            async with sending(clinic, limits=PATIENT), sending(laboratory, limits=PATIENT):
                await until(lambda: gate.verified == WINDOW)
                laboratory.queue("hospital")
                await until(lambda: gate.verified == WINDOW + 1)
                # From being verified to waiting for its turn is a step of the event loop or two.
                await asyncio.sleep(0.5)
                gate.opened.set()
                await until(lambda: is_delivered(laboratory) and is_delivered(clinic))
            return list(gate.turns)

    turns = run(exchange())
    mine = next(number for number, turn in enumerate(turns) if "laboratory" in turn)
    assert mine <= 3
    assert all(len(turn) <= GROUP for turn in turns)
    assert Counter(sender for turn in turns for sender in turn) == {
        "clinic": WINDOW,
        "laboratory": 1,
    }


@pytest.fixture
def on_postgres(tmp_path: Path, new_database: Any) -> Iterator[tuple[House, House]]:
    """Give a hospital, and a laboratory whose outbox several workers may drain."""
    hospital = found(tmp_path, "hospital", database=new_database("sqlite"))
    laboratory = found(tmp_path, "laboratory", database=new_database("postgresql"))
    enrol(hospital, laboratory)
    hospital.register()
    yield hospital, laboratory
    for house in (hospital, laboratory):
        house.engine.dispose()


def test_two_workers_at_one_outbox_never_send_the_same_twice(
    on_postgres: tuple[House, House], logbook: list[Any]
) -> None:
    hospital, laboratory = on_postgres
    tids = laboratory.queue("hospital", count=100)

    async def exchange() -> None:
        async with receiving(hospital, laboratory), sending(laboratory), sending(laboratory):
            await until(lambda: is_delivered(laboratory))

    run(exchange())
    assert [line["event"] for line in logbook].count("link up") == 2
    questions = Counter(event.object for event in asked(hospital))
    arrivals = Counter(event.object for event in events(hospital, Action.RECORD_RECEIVED))
    assert questions == arrivals == Counter(tids)
    assert sorted(row.tid for row in hospital.inbox()) == sorted(tids)


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_who_stops_finishes_what_is_in_hand(trio: Trio, who: str) -> None:
    """Nothing stays leased. A sender has the receipt of all that was registered by then.

    A receiver that stops may not reach the sender with every receipt any more (its drain has an
    end, and a socket closed under bytes that still come takes what was not read with it): those
    it gives on the next QUERY.
    """
    hospital, laboratory, _clinic = trio.houses
    tids = laboratory.queue("hospital", count=120)

    async def stopped() -> None:
        if who == "sender":
            async with receiving(hospital, laboratory):
                async with sending(laboratory):
                    await until(lambda: bool(hospital.inbox()))
                check()
        else:
            async with sending(laboratory), receiving(hospital, laboratory):
                await until(lambda: bool(hospital.inbox()))
            check()

    def receipted() -> set[str]:
        return {tid for tid, row in laboratory.outbox().items() if row.state == "delivered"}

    def check() -> None:
        assert {row.lease_owner for row in laboratory.outbox().values()} == {None}
        registered = {row.tid for row in hospital.inbox()}
        assert receipted() <= registered
        if who == "sender":
            assert receipted() == registered

    async def resumed() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: is_delivered(laboratory))

    run(stopped())
    run(resumed())
    assert sorted(row.tid for row in hospital.inbox()) == sorted(tids)
