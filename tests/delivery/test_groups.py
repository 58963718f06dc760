"""Fair shares and split groups."""

from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.delivery.groups import (
    ROUND,
    TURN,
    Broken,
    behind,
    commit_split,
    fair_share,
    turn_among,
)

queues = st.dictionaries(st.text(max_size=3), st.lists(st.integers(), max_size=20), max_size=6)


@given(queues, st.integers(0, 60), st.integers(1, 9))
def test_shares_are_full_in_order_and_differ_by_one_turn_at_most(
    waiting: dict[str, list[int]], size: int, turn: int
) -> None:
    tagged = {name: [(name, n) for n in range(len(items))] for name, items in waiting.items()}
    shared = fair_share(tagged, size, turn)
    assert len(shared) == min(size, sum(map(len, tagged.values())))
    counts = {}
    for name, items in tagged.items():
        mine = [item for item in shared if item[0] == name]
        assert mine == items[: len(mine)]
        counts[name] = len(mine)
    hungry = [counts[name] for name, items in tagged.items() if counts[name] < len(items)]
    assert max(counts.values(), default=0) - min(hungry, default=10**9) <= turn


@given(st.integers(1, 300), st.integers(1, 120))
def test_nobody_waits_for_more_than_one_turn_of_everybody_else(partners: int, size: int) -> None:
    """However much the others have: all of them always have more, and one came last."""
    names = [f"partner {number}" for number in range(partners)]
    waiting = {name: deque([name] * 1000) for name in names}
    before = 0
    while names[-1] not in (group := fair_share(waiting, size, turn_among(len(waiting)))):
        for name in group:
            waiting[name].popleft()
        waiting = behind(waiting, set(group))
        before += len(group)
    before += group.index(names[-1])
    assert before <= max(ROUND, partners)


def test_turns_are_long_with_few_partners_and_short_with_many() -> None:
    assert turn_among(0) == turn_among(1) == turn_among(ROUND // TURN) == TURN
    assert turn_among(ROUND) == turn_among(10 * ROUND) == 1


def test_who_was_served_stands_behind_the_others_and_who_has_nothing_is_gone() -> None:
    waiting = {"a": [1], "b": [], "c": [2], "d": [3]}
    assert list(behind(waiting, {"a", "b"})) == ["c", "d", "a"]


class Bad(Exception):
    """Caused by one item."""


class Disk(Exception):
    """Concerns every item."""


@given(st.lists(st.booleans(), max_size=40))
def test_broken_items_break_only_themselves(good: list[bool]) -> None:
    committed: list[int] = []

    def commit(group: Sequence[int]) -> list[int]:
        if not all(good[item] for item in group):
            raise Bad
        committed.extend(group)
        return [item * 10 for item in group]

    results = commit_split(range(len(good)), commit, (Bad,))
    assert len(results) == len(good)
    for item, result in enumerate(results):
        if good[item]:
            assert result == item * 10
        else:
            assert isinstance(result, Broken)
            assert isinstance(result.error, Bad)
    assert committed == [item for item, fine in enumerate(good) if fine]


def test_one_broken_item_costs_few_more_commits() -> None:
    calls = 0

    def commit(group: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if 700 in group:
            raise Bad
        return list(group)

    commit_split(range(1024), commit, (Bad,))
    assert calls == 1 + 2 * 10


def test_what_concerns_every_item_is_raised_at_once() -> None:
    calls = 0

    def commit(group: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        raise Disk

    with pytest.raises(Disk):
        commit_split([1, 2, 3], commit, (Bad,))
    assert calls == 1
