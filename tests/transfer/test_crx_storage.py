"""Databases that really fail: a full disk, a server that is stopped and comes back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crx_postgres
import pytest
from crx_attackers import (
    hand,
    is_delivered,
    question,
    receiving,
    run,
    sending,
    states,
    until,
)
from crx_institutions import House, enrol, found
from sqlalchemy import event, text

from medportal.tenancy.engines import make_engine
from medportal.tenancy.schema import migrate


class Disk:
    """The disk under a SQLite database, which a test may let run full (SQLITE_FULL)."""

    def __init__(self, house: House) -> None:
        self._engine, self._pages = house.engine, 2**30
        event.listen(self._engine, "checkout", self._limit)

    def _limit(self, connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {self._pages}")

    def fill(self) -> None:
        """Leave no page: neither of the file nor free within it."""
        with self._engine.connect() as connection:
            used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        self._pages = int(used)
        with self._engine.connect() as connection:
            free = int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())
        assert free < 4, "pages that are free already would be used first"

    def empty(self) -> None:
        self._pages = 2**30

    def leave(self) -> None:
        event.remove(self._engine, "checkout", self._limit)


@pytest.fixture
def houses(tmp_path: Path, new_database: Any) -> Iterator[tuple[House, House]]:
    hospital, laboratory = (
        found(tmp_path, name, database=new_database("sqlite"))
        for name in ("hospital", "laboratory")
    )
    enrol(hospital, laboratory)
    hospital.register()
    yield hospital, laboratory
    for house in (hospital, laboratory):
        house.engine.dispose()


def compact(house: House) -> None:
    """Give back pages that are free, so that a full disk is full at once."""
    with house.engine.connect() as connection:
        connection.execute(text("COMMIT"))
        connection.exec_driver_sql("VACUUM")
        connection.exec_driver_sql("BEGIN")


def test_a_full_disk_at_the_receiver_answers_busy_and_never_a_receipt(
    houses: tuple[House, House], logbook: list[Any]
) -> None:
    hospital, laboratory = houses
    compact(hospital)
    disk = Disk(hospital)

    async def fault() -> None:
        async with receiving(hospital, laboratory) as port:
            client = await hand(laboratory, port, deaf=("OFFER", "BUSY", "RECEIPT"))
            disk.fill()
            # A page that is not full yet takes some events still; then every answer is BUSY.
            for count in range(1, 61):
                await client.put(question(laboratory))
                await until(lambda count=count: len(client.kept) == count)
            kinds = [message.TYPE for message in client.kept]
            assert set(kinds) <= {"OFFER", "BUSY"}
            assert kinds[-20:] == ["BUSY"] * 20
            # So it is for a sender that comes new.
            laboratory.queue("hospital", count=5)
            async with sending(laboratory):
                await until(lambda: states(laboratory) == {("retrying", "busy")})
                assert hospital.inbox() == []
                disk.empty()
                await until(lambda: is_delivered(laboratory))
            await client.leave()

    try:
        run(fault())
    finally:
        disk.leave()
    assert len(hospital.inbox()) == 5
    assert "OperationalError" in {line.get("kind") for line in logbook}


def test_a_disk_that_runs_full_under_way_registers_and_receipts_the_same_records(
    houses: tuple[House, House],
) -> None:
    """Some are registered before it is full; nothing is receipted that is not in the inbox."""
    hospital, laboratory = houses
    compact(hospital)
    disk = Disk(hospital)
    tids = set(laboratory.queue("hospital", count=60))

    def receipted() -> set[str]:
        return {tid for tid, row in laboratory.outbox().items() if row.state == "delivered"}

    async def fault() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: bool(hospital.inbox()))
            disk.fill()
            await until(lambda: ("retrying", "busy") in states(laboratory) or not waiting())
            assert receipted() <= {row.tid for row in hospital.inbox()}
            disk.empty()
            await until(lambda: is_delivered(laboratory))

    def waiting() -> set[str]:
        return tids - receipted()

    try:
        run(fault())
    finally:
        disk.leave()
    assert sorted(row.tid for row in hospital.inbox()) == sorted(tids)


@pytest.fixture
def server(want_present: Any) -> Iterator[crx_postgres.Server]:
    want_present(crx_postgres.programs(), "PostgreSQL's server programs are not installed")
    with crx_postgres.server() as made:
        yield made


def on(server: crx_postgres.Server, name: str) -> str:
    address = server.database(name)
    engine = make_engine(address)
    migrate(engine)
    engine.dispose()
    return address


@pytest.fixture
def on_postgres(
    server: crx_postgres.Server, tmp_path: Path, new_database: Any
) -> Iterator[tuple[House, House]]:
    """Give a hospital on the server that may stop, and a laboratory on SQLite."""
    hospital = found(tmp_path, "hospital", database=on(server, "hospital"))
    laboratory = found(tmp_path, "laboratory", database=new_database("sqlite"))
    enrol(hospital, laboratory)
    hospital.register()
    yield hospital, laboratory
    for house in (hospital, laboratory):
        house.engine.dispose()


def test_a_database_server_that_stops_answers_busy_and_goes_on_when_it_is_back(
    server: crx_postgres.Server, on_postgres: tuple[House, House]
) -> None:
    hospital, laboratory = on_postgres
    tids = laboratory.queue("hospital", count=20)

    async def fault() -> None:
        async with receiving(hospital, laboratory) as port:
            client = await hand(laboratory, port, deaf=("OFFER", "BUSY"))
            server.stop()
            try:
                for count in range(1, 4):
                    await client.put(question(laboratory))
                    await until(lambda count=count: len(client.kept) == count)
                assert [message.TYPE for message in client.kept] == ["BUSY"] * 3
                async with sending(laboratory):
                    await until(lambda: states(laboratory) == {("retrying", "busy")})
            finally:
                server.start()
            async with sending(laboratory):
                await until(lambda: is_delivered(laboratory))
            await client.leave()

    run(fault())
    assert sorted(row.tid for row in hospital.inbox()) == sorted(tids)


def test_a_database_server_that_restarts_in_mid_transfer_loses_and_doubles_nothing(
    server: crx_postgres.Server, on_postgres: tuple[House, House]
) -> None:
    hospital, laboratory = on_postgres
    tids = laboratory.queue("hospital", count=40)

    async def fault() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            for some in (1, 10):
                await until(lambda some=some: len(hospital.inbox()) >= some)
                server.stop()
                server.start()
            await until(lambda: is_delivered(laboratory))

    run(fault())
    assert sorted(row.tid for row in hospital.inbox()) == sorted(tids)
    sequences = {row.receipt_sequence for row in laboratory.outbox().values()}
    assert sequences == {row.sequence for row in hospital.inbox()}
