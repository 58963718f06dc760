"""What waits of each partner, given out in groups in which each partner gets its turn."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

from medportal.delivery.groups import behind, fair_share, turn_among

T = TypeVar("T")


class Turns(Generic[T]):
    """Items of all connections, for one task that takes them in groups."""

    def __init__(self, size: int) -> None:
        """Give at most ``size`` items at once."""
        self._size = size
        self._waiting: dict[str, deque[tuple[str, T]]] = {}
        self._some = asyncio.Event()

    def add(self, partner: str, item: T) -> None:
        """Let an item of a partner wait for one of its turns."""
        self._waiting.setdefault(partner, deque()).append((partner, item))
        self._some.set()

    async def next(self) -> list[T]:
        """Wait until there is something; return the next group, each partner's in its order."""
        await self._some.wait()
        group = fair_share(self._waiting, self._size, turn_among(len(self._waiting)))
        for partner, _ in group:
            self._waiting[partner].popleft()
        self._waiting = behind(self._waiting, {partner for partner, _ in group})
        if not self._waiting:
            self._some.clear()
        return [item for _, item in group]
