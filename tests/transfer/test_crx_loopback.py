"""The services over real TLS on 127.0.0.1, with real keys and databases."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from crx_institutions import House, enrol, found

from medportal.transfer.commands import receiver_service, sender_service
from medportal.transfer.receiver import ReceiverSettings


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, House]:
    state = tmp_path_factory.mktemp("var")
    return found(state, "hospital"), found(state, "laboratory")


async def until(done: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so; how long is no part of any claim."""
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def receiving(house: House) -> AsyncIterator[int]:
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    service = receiver_service(house.keys, house.engine, ReceiverSettings(house.id, "127.0.0.1:0"))
    task = asyncio.create_task(service.run(stop, lambda _, number: port.set_result(number)))
    try:
        yield await port
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


def test_records_are_carried_and_receipted(founded):
    hospital, laboratory = founded

    async def play() -> None:
        async with receiving(hospital) as port:
            enrol(hospital, laboratory, port)
            hospital.register()
            tids = laboratory.queue("hospital", count=5)
            async with sending(laboratory):
                await until(lambda: all(laboratory.outbox()[t].state == "delivered" for t in tids))
        assert {row.tid for row in hospital.inbox()} == set(tids)

    asyncio.run(play())
