"""Receipts and partners after a restore, over the real exchange: nothing acknowledged is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from crx_institutions import TENANTS, House, enrol, found
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.backup import checking, making
from medportal.backup.keys import load_opener, make_key, sealing_key
from medportal.backup.making import Institution, Made, Places
from medportal.backup.restoring import Pair, restore
from medportal.core.clock import utcnow
from medportal.delivery.models import Inbox, RecalledReceipt
from medportal.keys import TenantKeys
from medportal.tenancy.loader import load_tenants
from medportal.tenancy.registry import Database
from medportal.transfer.commands import receiver_service, sender_service
from medportal.transfer.receiver import ReceiverSettings
from medportal.vault.passphrase import Cost

PASSPHRASE = b"kept in a safe, on paper"
DELIVERED = {("delivered", "registered")}


@pytest.fixture(params=["sqlite", "postgresql"])
def houses(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Any
) -> Iterator[tuple[House, House]]:
    hospital = found(tmp_path, "hospital", database=new_database(request.param))
    laboratory = found(tmp_path, "laboratory", database=new_database(request.param))
    enrol(hospital, laboratory)
    hospital.register()
    yield hospital, laboratory
    for house in (hospital, laboratory):
        house.engine.dispose()


def back_up(house: House, directory: Path) -> Made:
    authority = (house.pki / "ca.crt").read_bytes()
    if not (directory / "away").exists():
        make_key(house.home, directory / "away", authority, PASSPHRASE, Cost(1, 1, 8))
    signers = [house.keys.signer(purpose) for purpose in checking.PURPOSES]
    source = Institution(house.tenant, house.home, house.engine)
    places = Places(directory / "data", directory / "keys")
    key = sealing_key(house.home)
    return making.make(source, key, signers, places, utcnow(), lambda counts: None)


def come_back(house: House, made: Made, directory: Path, url: str) -> House:
    """Restore an institution on another machine."""
    variables = {"state": str(directory / "new"), "exchange_port": "4000", "mail_port": "2525"}
    variables |= {"hospital_port": "8443", "laboratory_port": "8444"}
    text = (TENANTS / f"{house.id}.toml").read_text("utf-8")
    text = text.replace(f"sqlite:///{{state}}/{house.id}/portal.sqlite", url)
    (directory / "tenants").mkdir()
    (directory / "tenants" / f"{house.id}.toml").write_text(text, "utf-8")
    tenant = load_tenants(directory / "tenants", [house.id], variables)[house.id]
    home = directory / "new" / house.id
    engine = Database(tenant).unchecked()
    opener = load_opener(directory / "away", PASSPHRASE)
    target = Institution(tenant, home, engine)
    restore(target, Pair(made.data, made.keys), opener, utcnow(), lambda session, head: None)
    return House(tenant, home, TenantKeys(tenant, home), engine)


@asynccontextmanager
async def exchange(hospital: House, laboratory: House) -> AsyncIterator[None]:
    """Run the hospital's receiver and the laboratory's sender."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = ReceiverSettings(hospital.id, "127.0.0.1:0")
    receiver = receiver_service(hospital.keys, hospital.engine, settings)
    listening = asyncio.create_task(receiver.run(stop, lambda _, number: port.set_result(number)))
    laboratory.trust(hospital, f"127.0.0.1:{await port}", replace=True)
    sender = sender_service(laboratory.keys, laboratory.engine)
    sending = asyncio.create_task(sender.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(listening, sending)


def play(hospital: House, laboratory: House, done: Callable[[], bool]) -> None:
    """Run both until something is so; how long is no part of any claim."""

    async def run() -> None:
        async with exchange(hospital, laboratory), asyncio.timeout(60):
            while not done():
                await asyncio.sleep(0.02)

    asyncio.run(run())


def states(house: House) -> set[tuple[str, str]]:
    return {(row.state, row.reason) for row in house.outbox().values()}


def recalled(house: House) -> int:
    with Session(house.engine) as session:
        return session.scalars(select(func.count()).select_from(RecalledReceipt)).one()


def test_a_restored_receiver_is_given_again_what_it_had_acknowledged_since(
    houses: tuple[House, House], tmp_path: Path, bare_database: Callable[[str], str]
) -> None:
    hospital, laboratory = houses
    laboratory.queue("hospital", count=2)
    play(hospital, laboratory, lambda: states(laboratory) == DELIVERED)
    made = back_up(hospital, tmp_path)
    laboratory.queue("hospital", count=3)
    play(hospital, laboratory, lambda: states(laboratory) == DELIVERED)
    sent = set(laboratory.outbox())
    assert len(sent) == 5

    kind = hospital.engine.dialect.name
    restored = come_back(hospital, made, tmp_path, bare_database(kind))
    assert len(restored.inbox()) == 2
    # Something new makes the sender connect; the handshake tells of the rest.
    sent |= set(laboratory.queue("hospital"))
    play(
        restored,
        laboratory,
        lambda: states(laboratory) == DELIVERED and len(restored.inbox()) == 6,
    )
    assert {row.tid for row in restored.inbox()} == sent
    assert recalled(laboratory) == 3
    restored.engine.dispose()


def test_a_restored_sender_offers_again_and_nothing_arrives_twice(
    houses: tuple[House, House], tmp_path: Path, bare_database: Callable[[str], str]
) -> None:
    hospital, laboratory = houses
    laboratory.queue("hospital", count=3)
    made = back_up(laboratory, tmp_path)
    play(hospital, laboratory, lambda: states(laboratory) == DELIVERED)

    kind = laboratory.engine.dialect.name
    restored = come_back(laboratory, made, tmp_path, bare_database(kind))
    assert states(restored) != DELIVERED
    play(hospital, restored, lambda: states(restored) == DELIVERED)
    with Session(hospital.engine) as session:
        assert session.scalars(select(func.count()).select_from(Inbox)).one() == 3
    restored.engine.dispose()
