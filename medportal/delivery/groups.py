"""Groups that are committed together: fair to partners, split when one item breaks them (PURE)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
Q = TypeVar("Q", bound=Sized)

TURN = 32
"""How many items a partner gives in its turn at most: half of a window."""

ROUND = 512
"""How many items a round of all partners has at most, about a second's work; or one of each."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One item that cannot be committed even alone, and the error that it causes."""

    error: Exception


def fair_share(waiting: Mapping[str, Iterable[T]], size: int, turn: int = 1) -> list[T]:
    """Return at most ``size`` items, ``turn`` of each partner in turn, each partner's in order.

    A partner with ten thousand waiting takes no more turns than one with a single item. Who gave
    items and has more is to stand behind the others the next time (:func:`behind`).
    """
    items: list[T] = []
    queues = [iter(each) for each in waiting.values()]
    while queues and len(items) < size:
        hungry = []
        for queue in queues:
            some = list(islice(queue, min(turn, size - len(items))))
            items += some
            if len(some) == turn:
                hungry.append(queue)
        queues = hungry
    return items


def turn_among(partners: int) -> int:
    """Return how many items a partner gives in its turn, with so many partners waiting.

    What comes of one partner together is answered, signed and written together, there and here, so
    long turns cost both sides less; but whoever has a single item waits for a turn of everybody
    else. So it is :data:`TURN`, and less where a round would have more than :data:`ROUND` items.
    """
    return max(1, min(TURN, ROUND // max(1, partners)))


def behind(waiting: Mapping[str, Q], served: Collection[str]) -> dict[str, Q]:
    """Return the queues that are not empty, those that were served behind those that were not."""
    rest = {partner: queue for partner, queue in waiting.items() if queue}
    first = {partner: queue for partner, queue in rest.items() if partner not in served}
    return {**first, **rest}


def commit_split(
    items: Sequence[T],
    commit: Callable[[Sequence[T]], Sequence[R]],
    splits_on: tuple[type[Exception], ...],
) -> list[R | Broken]:
    """Commit ``items`` in one transaction, or, if one of them breaks it, in halves.

    ``commit`` opens, commits or rolls back a transaction of its own and returns one result an
    item. ``splits_on`` are errors that an item causes; others (disk full, no connection) concern
    every item and are raised. One broken item of n costs about 2 log2(n) more commits.
    """
    if not items:
        return []
    try:
        return list(commit(items))
    except splits_on as error:
        if len(items) == 1:
            return [Broken(error)]
    middle = len(items) // 2
    first = commit_split(items[:middle], commit, splits_on)
    return first + commit_split(items[middle:], commit, splits_on)
