"""What is done to the institutions, drawn from a seed.

A plan is a list of steps, done one after another while records are entered. Every plan has every
kind of fault; the seed says in which order, to whom, how long, and where in an exchange.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from faults.houses import HOSPITAL, LABORATORY, SENDER
from faults.wire import Kind, Moment


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a process at some moment; start it again after ``down`` seconds."""

    victim: str
    down: float


@dataclass(frozen=True, slots=True)
class Strike:
    """Kill a process, or only cut the connection (no victim), at a frame of an exchange.

    After one that was passed on, ``late`` seconds let who has it check, commit or answer first.
    """

    victim: str
    kind: Kind
    nth: int
    moment: Moment
    down: float
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop a process in its tracks, and let it go on after so many seconds."""

    victim: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CutCable:
    """Cut an institution's cable: packets vanish, or are refused."""

    house: str
    silently: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Lose:
    """Lose so many of a hundred packets."""

    percent: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Slow:
    """Let every packet be late."""

    milliseconds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Fill:
    """Fill a disk of an institution, and free it again."""

    house: str
    disk: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PowerCut:
    """Kill everything at once, and start everything again."""

    down: float


@dataclass(frozen=True, slots=True)
class Restart:
    """Stop every process of the product in good order, and start it again."""


Step = Kill | Strike | Freeze | CutCable | Lose | Slow | Fill | PowerCut | Restart
#: The greatest number of a frame at which a trap waits. Few, so that it springs in every step.
_NTH = 4


def make(
    seed: int, rounds: int, victims: Sequence[str], disks: Sequence[tuple[str, str]]
) -> list[Step]:
    """Return a plan of so many rounds of every kind of fault, each in its own order.

    ``victims`` are the processes there are, ``disks`` the (institution, disk) that fill up.
    Without rounds it is a brief plan, which has one or two faults of each kind.
    """
    dice = random.Random(seed)
    if not rounds:
        return _brief(dice, victims, disks)
    plan: list[Step] = []
    for _ in range(rounds):
        one_round = _round(dice, victims, disks)
        dice.shuffle(one_round)
        plan += one_round
    return plan


def _brief(
    dice: random.Random, victims: Sequence[str], disks: Sequence[tuple[str, str]]
) -> list[Step]:
    database = dice.choice([name for name in victims if name.startswith("database")] or ["sender"])
    plan: list[Step] = [
        *(Kill(victim, 0) for victim in ("sender", "receiver", "jobs-hospital", database)),
        Strike("sender", Kind.RECEIPT, dice.randint(1, 2), Moment.BEFORE, 0),
        Strike(
            "receiver", Kind.DELIVER, dice.randint(1, _NTH), Moment.AFTER, 0, dice.uniform(0, 0.02)
        ),
        Strike("", dice.choice([Kind.OFFER, Kind.DELIVER]), 1, Moment.MIDDLE, 0),
        CutCable(LABORATORY, dice.choice([True, False]), dice.uniform(0.5, 1)),
        Lose(dice.randint(10, 30), 1),
        Fill(*dice.choice(disks), 1),
        PowerCut(0),
    ]
    dice.shuffle(plan)
    return plan


def _round(
    dice: random.Random, victims: Sequence[str], disks: Sequence[tuple[str, str]]
) -> list[Step]:
    """Return one fault of each kind, for each whom it can hit."""
    databases = [name for name in victims if name.startswith(("database", "documents"))]
    senders = [name for name in victims if name.startswith(SENDER)]
    struck = [*senders, "receiver", *databases, ""]
    return [
        *(Kill(victim, _down(dice)) for victim in victims),
        *(_strike(dice, victim) for victim in struck),
        _strike(dice, _one_of(dice, senders)),
        _strike(dice, "receiver"),
        Freeze(dice.choice([*senders, "receiver"]), dice.uniform(0.5, 2.5)),
        CutCable(dice.choice([LABORATORY, HOSPITAL]), True, dice.uniform(0.5, 3)),
        CutCable(dice.choice([LABORATORY, HOSPITAL]), False, dice.uniform(0.3, 2)),
        Lose(dice.randint(5, 30), dice.uniform(1, 3)),
        Slow(dice.randint(10, 80), dice.uniform(1, 3)),
        *(Fill(house, disk, dice.uniform(0.5, 2)) for house, disk in disks),
        _longer_than_patience(dice, senders),
        PowerCut(_down(dice)),
        Restart(),
    ]


def _one_of(dice: random.Random, names: Sequence[str]) -> str:
    """Return one of them; one alone takes no draw, so that seeds keep their plans."""
    return names[0] if len(names) == 1 else dice.choice(names)


def _longer_than_patience(dice: random.Random, senders: Sequence[str]) -> Step:
    """Return a fault that outlasts leases (10 s), answers (20 s), or silence and a PING (40 s)."""
    long: list[Step] = [
        Freeze(_one_of(dice, senders), dice.uniform(11, 15)),
        Freeze("receiver", dice.uniform(21, 25)),
        CutCable(dice.choice([LABORATORY, HOSPITAL]), True, dice.uniform(25, 45)),
    ]
    return dice.choice(long)


def _down(dice: random.Random) -> float:
    return dice.choice([0.0, dice.uniform(0, 1.5)])


def _strike(dice: random.Random, victim: str) -> Strike:
    kinds = [Kind.HANDSHAKE, Kind.QUERY, Kind.OFFER, Kind.DELIVER, Kind.RECEIPT]
    kind = dice.choice(kinds)
    # Nobody hangs up after a frame that was passed on whole: without a victim that is no fault.
    moments = [Moment.BEFORE, Moment.MIDDLE, *([Moment.AFTER] if victim else [])]
    moment = dice.choice(moments)
    late = dice.uniform(0, 0.05) if moment is Moment.AFTER else 0.0
    return Strike(victim, kind, dice.randint(1, _NTH), moment, _down(dice), late)
