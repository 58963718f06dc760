"""Who takes part in a run: institutions, what each of them runs, and who sends to whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

HOSPITAL = "hospital"
#: The first laboratory; the others have a number: ``laboratory-2``.
LABORATORY = "laboratory"
MOST_LABORATORIES = 9


class Role(StrEnum):
    """What a process is for; its name begins with it."""

    DATABASE = "database"
    DOCUMENTS = "documents"
    SENDER = "sender"
    RECEIVER = "receiver"
    JOBS = "jobs"

    @property
    def is_server(self) -> bool:
        """Tell whether it is a server beside the product, which the product needs."""
        return self in {Role.DATABASE, Role.DOCUMENTS}


@dataclass(frozen=True, slots=True)
class Way:
    """From one institution to another."""

    sender: str
    receiver: str

    def __str__(self) -> str:
        return f"{self.sender} to {self.receiver}"


@dataclass(frozen=True, slots=True)
class Player:
    """A process that can be killed."""

    name: str
    role: Role
    house: str


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody whom a fault can hit.

    ``disks`` are (institution, disk); ``clocks`` the institutions whose clock can go wrong.
    """

    houses: Sequence[str]
    ways: Sequence[Way]
    players: Sequence[Player]
    disks: Sequence[tuple[str, str]]
    clocks: Sequence[str] = ()

    def of(self, *roles: Role) -> list[Player]:
        """Return the processes that are for this."""
        return [player for player in self.players if player.role in roles]

    def ways_of(self, player: Player | None) -> Sequence[Way]:
        """Return the ways that go through a process; for nobody, which is a cable, every way."""
        if player is None:
            return self.ways
        sends = [way for way in self.ways if way.sender == player.house]
        takes = [way for way in self.ways if way.receiver == player.house]
        return {Role.SENDER: sends, Role.RECEIVER: takes}.get(player.role, [*sends, *takes])


def laboratories(count: int) -> list[str]:
    """Return the names of so many laboratories."""
    return [LABORATORY, *(f"{LABORATORY}-{number}" for number in range(2, count + 1))]


def ways(count: int, *, both: bool) -> list[Way]:
    """Return the ways from so many laboratories to the hospital, and back if both go."""
    there = [Way(laboratory, HOSPITAL) for laboratory in laboratories(count)]
    return [*there, *(Way(way.receiver, way.sender) for way in there if both)]
