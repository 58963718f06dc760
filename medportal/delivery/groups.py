"""Groups that are committed together: fair to partners, split when one item breaks them (PURE)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_NONE = object()


@dataclass(frozen=True, slots=True)
class Broken:
    """One item that cannot be committed even alone, and the error that it causes."""

    error: Exception


def fair_share(waiting: Mapping[str, Sequence[T]], size: int) -> list[T]:
    """Return at most ``size`` items, one of each partner in turn, each partner's in order.

    A partner with ten thousand waiting takes no more turns than one with a single item.
    """
    turns = zip_longest(*waiting.values(), fillvalue=_NONE)
    items = [item for item in chain.from_iterable(turns) if item is not _NONE]
    return items[:size]  # type: ignore[return-value]  # mypy cannot see that _NONE is gone


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
