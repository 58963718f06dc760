"""The clerks of all institutions that send, each at work on their own."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from faults.cast import Way
from faults.clerk import Clerk, Patient, Version, register
from faults.houses import House


class Staff:
    """A clerk for every institution that sends; what is to be entered is dealt out to them."""

    def __init__(self, houses: Mapping[str, House], ways: Sequence[Way], count: int, seed: int):
        """Register so many patients everywhere, and hire the clerks."""
        self.ways = ways
        patients = {house.id: register(house, ways, count) for house in houses.values()}
        self.patients: Sequence[Patient] = next(iter(patients.values()))
        senders = list(dict.fromkeys(way.sender for way in ways))
        self.clerks = {
            # The first one's dice are the seed's, as where there is no other.
            name: Clerk(
                houses[name],
                random.Random(f"{seed} {name}" if number else seed),
                patients[name],
            )
            for number, name in enumerate(senders)
        }
        self._turns = itertools.cycle(senders)
        self._pool = ThreadPoolExecutor(len(senders))

    @property
    def entered(self) -> dict[Way, Mapping[Version, bytes]]:
        """Return the digest of every version that went in, by its way."""
        return {way: self.clerks[way.sender].entered.get(way.receiver, {}) for way in self.ways}

    @property
    def versions(self) -> int:
        """Return how many versions went in."""
        return sum(len(clerk.versions) for clerk in self.clerks.values())

    @property
    def corrections(self) -> int:
        """Return how many of what went in are later versions."""
        return sum(n > 1 for clerk in self.clerks.values() for _, n in clerk.versions)

    @property
    def again(self) -> int:
        """Return how often something was entered again that had not gone in."""
        return sum(clerk.again for clerk in self.clerks.values())

    def enter(self, count: int) -> None:
        """Let them enter so many versions, all at once, and wait until they have."""
        with self.entering(count):
            pass

    @contextmanager
    def entering(self, count: int, besides: str = "") -> Iterator[int]:
        """Let them enter so many versions meanwhile; wait for them at the end.

        What would be an institution's share that is named is its caller's to enter: gives it.
        """
        shares = Counter(itertools.islice(self._turns, count))
        own = shares.pop(besides, 0)
        working: list[Future[None]] = [
            self._pool.submit(self.clerks[name].enter, share) for name, share in shares.items()
        ]
        yield own
        for each in working:
            each.result()

    def enter_on(self, way: Way) -> None:
        """Enter one version that goes this way."""
        self.clerks[way.sender].enter(1, way.receiver)
