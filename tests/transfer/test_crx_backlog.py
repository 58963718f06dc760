"""What of a peer may wait to be worked on: so many frames, and so many bytes."""

import asyncio

from medportal.transfer.conversation import BYTES_WAITING, FRAMES_WAITING, Backlog


async def waits(backlog: Backlog, body: bytes) -> bool:
    """Put a frame in; tell whether it has to wait. One that waits is put in by a task."""
    task = asyncio.create_task(backlog.put(body))
    for _ in range(3):
        await asyncio.sleep(0)
    return not task.done()


def test_so_many_frames_may_wait_and_the_next_when_one_was_worked_on():
    async def run() -> None:
        backlog = Backlog()
        for _ in range(FRAMES_WAITING):
            assert not await waits(backlog, b"frame")
        assert await waits(backlog, b"frame")
        backlog.took(b"frame")
        for _ in range(3):
            await asyncio.sleep(0)
        # The one that waited has the room now.
        assert await waits(backlog, b"frame")
        for _ in range(FRAMES_WAITING + 1):
            backlog.took(b"frame")
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(run())


def test_so_many_bytes_may_wait_and_a_longer_frame_only_alone():
    async def run() -> None:
        backlog, half = Backlog(), bytes(BYTES_WAITING // 2)
        assert not await waits(backlog, half)
        assert not await waits(backlog, half)
        assert await waits(backlog, b"one byte more")
        backlog.took(half)
        backlog.took(half)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        backlog.took(b"one byte more")
        longer = bytes(BYTES_WAITING + 1)
        assert not await waits(backlog, longer)
        assert await waits(backlog, b"another")
        backlog.took(longer)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(run())
