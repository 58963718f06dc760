"""What is done to the institutions, drawn from a seed.

A plan is a list of steps, done one after another while records are entered. Every plan has every
kind of fault; the seed says in which order, to whom, how long, and where in an exchange.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from faults.cast import HOSPITAL, Cast, Player, Role, Way
from faults.wire import Kind, Moment


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a process at some moment; start it again after ``down`` seconds."""

    victim: str
    down: float


@dataclass(frozen=True, slots=True)
class Strike:
    """Kill a process, or only cut the connection (no victim), at a frame on its way.

    After one that was passed on, ``late`` seconds let who has it check, commit or answer first.
    """

    victim: str
    way: Way
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
class WrongClock:
    """Let the clock of an institution be ahead by so many seconds, or behind, and right again."""

    house: str
    ahead: float
    seconds: float


@dataclass(frozen=True, slots=True)
class PowerCut:
    """Kill everything at once, and start everything again."""

    down: float


@dataclass(frozen=True, slots=True)
class Restart:
    """Stop every process of the product in good order, and start it again."""


Step = Kill | Strike | Freeze | CutCable | Lose | Slow | Fill | WrongClock | PowerCut | Restart
#: The greatest number of a frame at which a trap waits. Few, so that it springs in every step.
_NTH = 4
_T = TypeVar("_T")


def make(seed: int, rounds: int, cast: Cast) -> list[Step]:
    """Return a plan of so many rounds of every kind of fault, each in its own order.

    Without rounds it is a brief plan, which has one or two faults of each kind.
    """
    dice = random.Random(seed)
    if not rounds:
        return _brief(dice, cast)
    plan: list[Step] = []
    for _ in range(rounds):
        one_round = _round(dice, cast)
        dice.shuffle(one_round)
        plan += one_round
    return plan


def _brief(dice: random.Random, cast: Cast) -> list[Step]:
    exchanging = cast.of(Role.SENDER, Role.RECEIVER)
    database = dice.choice(cast.of(Role.DATABASE) or exchanging)
    jobs = [player for player in cast.of(Role.JOBS) if player.house == HOSPITAL]
    plan: list[Step] = [
        *(Kill(player.name, 0) for player in [*exchanging, *jobs, database]),
        *(
            _brief_strike(dice, cast, sender, [Kind.RECEIPT], Moment.BEFORE, nth=2)
            for sender in cast.of(Role.SENDER)
        ),
        *(
            _brief_strike(dice, cast, receiver, [Kind.DELIVER], Moment.AFTER, late=0.02)
            for receiver in cast.of(Role.RECEIVER)
        ),
        _brief_strike(dice, cast, None, [Kind.OFFER, Kind.DELIVER], Moment.MIDDLE, nth=1),
        CutCable(_one_of(dice, _calling(cast)), dice.choice([True, False]), dice.uniform(0.5, 1)),
        Lose(dice.randint(10, 30), 1),
        Fill(*dice.choice(cast.disks), 1),
        PowerCut(0),
    ]
    dice.shuffle(plan)
    return plan


def _brief_strike(
    dice: random.Random,
    cast: Cast,
    victim: Player | None,
    kinds: Sequence[Kind],
    moment: Moment,
    *,
    nth: int = _NTH,
    late: float = 0.0,
) -> Strike:
    way, kind = _one_of(dice, cast.ways_of(victim)), _one_of(dice, kinds)
    nth = 1 if nth == 1 else dice.randint(1, nth)
    name = victim.name if victim else ""
    return Strike(name, way, kind, nth, moment, 0, dice.uniform(0, late) if late else 0)


def _calling(cast: Cast) -> list[str]:
    """Return the institutions whose cable a brief plan cuts: the laboratories."""
    return [house for house in cast.houses if house != HOSPITAL]


def _round(dice: random.Random, cast: Cast) -> list[Step]:
    """Return one fault of each kind, for each whom it can hit."""
    senders, receivers = cast.of(Role.SENDER), cast.of(Role.RECEIVER)
    struck = [*senders, *receivers, *cast.of(Role.DATABASE, Role.DOCUMENTS), None]
    return [
        *(Kill(player.name, _down(dice)) for player in cast.players),
        *(_strike(dice, cast, victim) for victim in struck),
        _strike(dice, cast, _one_of(dice, senders)),
        _strike(dice, cast, _one_of(dice, receivers)),
        Freeze(dice.choice([*senders, *receivers]).name, dice.uniform(0.5, 2.5)),
        CutCable(dice.choice(cast.houses), True, dice.uniform(0.5, 3)),
        CutCable(dice.choice(cast.houses), False, dice.uniform(0.3, 2)),
        Lose(dice.randint(5, 30), dice.uniform(1, 3)),
        Slow(dice.randint(10, 80), dice.uniform(1, 3)),
        *(Fill(house, disk, dice.uniform(0.5, 2)) for house, disk in cast.disks),
        *(_wrong_clock(dice, house) for house in cast.clocks),
        _longer_than_patience(dice, cast),
        PowerCut(_down(dice)),
        Restart(),
    ]


def _one_of(dice: random.Random, choices: Sequence[_T]) -> _T:
    """Return one of them; one alone takes no draw, so that seeds keep their plans."""
    return choices[0] if len(choices) == 1 else dice.choice(choices)


def _longer_than_patience(dice: random.Random, cast: Cast) -> Step:
    """Return a fault that outlasts leases (10 s), answers (20 s), or silence and a PING (40 s)."""
    long: list[Step] = [
        Freeze(_one_of(dice, cast.of(Role.SENDER)).name, dice.uniform(11, 15)),
        Freeze(_one_of(dice, cast.of(Role.RECEIVER)).name, dice.uniform(21, 25)),
        CutCable(dice.choice(cast.houses), True, dice.uniform(25, 45)),
    ]
    return dice.choice(long)


def _wrong_clock(dice: random.Random, house: str) -> Step:
    """Return minutes ahead or behind, which partners bear, or hours behind, which they do not.

    What an hour ahead brings about, waits for an hour when the clock is right again.
    """
    ahead = dice.choice(
        [dice.uniform(60, 240), -dice.uniform(60, 240), -dice.uniform(3_600, 86_400)]
    )
    return WrongClock(house, ahead, dice.uniform(3, 10))


def _down(dice: random.Random) -> float:
    return dice.choice([0.0, dice.uniform(0, 1.5)])


def _strike(dice: random.Random, cast: Cast, victim: Player | None) -> Strike:
    way = _one_of(dice, cast.ways_of(victim))
    kinds = [Kind.HANDSHAKE, Kind.QUERY, Kind.OFFER, Kind.DELIVER, Kind.RECEIPT]
    kind = dice.choice(kinds)
    # Nobody hangs up after a frame that was passed on whole: without a victim that is no fault.
    moments = [Moment.BEFORE, Moment.MIDDLE, *([Moment.AFTER] if victim else [])]
    moment = dice.choice(moments)
    late = dice.uniform(0, 0.05) if moment is Moment.AFTER else 0.0
    name = victim.name if victim else ""
    return Strike(name, way, kind, dice.randint(1, _NTH), moment, _down(dice), late)
