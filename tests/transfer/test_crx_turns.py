"""Groups of what all partners have waiting: long turns, and nobody forgotten."""

import asyncio

from medportal.delivery.groups import TURN
from medportal.transfer.turns import Turns


def given_out(size: int, **waiting: int) -> list[list[str]]:
    """Return the groups that come of so many items of each partner."""

    async def take() -> list[list[str]]:
        turns: Turns[str] = Turns(size)
        for partner, count in waiting.items():
            for _ in range(count):
                turns.add(partner, partner)
        groups = []
        while sum(map(len, groups)) < sum(waiting.values()):
            groups.append(await turns.next())
        return groups

    return asyncio.run(take())


def test_a_group_is_of_turns_and_not_of_single_items():
    first, *others = given_out(2 * TURN, clinic=TURN + 8, laboratory=TURN + 8)
    assert first == ["clinic"] * TURN + ["laboratory"] * TURN
    assert others == [["clinic"] * 8 + ["laboratory"] * 8]


def test_who_was_served_stands_behind_who_was_not():
    groups = given_out(TURN, clinic=3 * TURN, laboratory=1)
    assert groups[1][0] == "laboratory"


def test_who_takes_waits_until_there_is_something():
    async def take() -> list[str]:
        turns: Turns[str] = Turns(4)
        taking = asyncio.create_task(turns.next())
        await asyncio.sleep(0)
        assert not taking.done()
        turns.add("clinic", "one")
        assert await taking == ["one"]
        again = asyncio.create_task(turns.next())
        await asyncio.sleep(0)
        assert not again.done()
        turns.add("clinic", "two")
        return await again

    assert asyncio.run(take()) == ["two"]
