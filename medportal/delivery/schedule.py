"""When to try again, and when to show a person that something takes too long (PURE)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from medportal.delivery.states import ARRIVED, DeliveryState

Random = Callable[[], float]
"""Gives a number in [0, 1), such as ``random.SystemRandom().random``."""

_MAX_DOUBLINGS = 40


@dataclass(frozen=True, slots=True)
class BackOff:
    """Doubling waits between ``base`` and ``cap``, the upper half of each drawn at random.

    The random half keeps many senders that failed together from coming back together; the
    certain half keeps one sender from hammering.
    """

    base: timedelta
    cap: timedelta


FAULTS = BackOff(base=timedelta(seconds=1), cap=timedelta(minutes=15))
"""After a network, protocol or partner fault."""

BUSY = BackOff(base=timedelta(seconds=1), cap=timedelta(minutes=1))
"""After BUSY: the partner is there and says itself when, so nothing waits much longer than that."""

UNKNOWN = BackOff(base=timedelta(seconds=30), cap=timedelta(hours=1))
"""After "no such patient here"; a CHANGED of the partner cuts it short."""

LONGEST_WISH = timedelta(hours=1)
"""How far ahead a partner's own "ask again at" is honoured; beyond it we ask anyway."""

PERSON_AFTER = timedelta(days=3)
"""How long a delivery may stay open before it is shown to a person."""


def delay(policy: BackOff, attempts: int, random: Random) -> timedelta:
    """Return how long to wait after ``attempts`` (1 or more) attempts with the same result.

    Lies in ``[ceiling / 2, ceiling]`` where ceiling is ``base * 2 ** (attempts - 1)``, at most
    ``cap``. Raises ``ValueError`` for fewer than one attempt.
    """
    if attempts < 1:
        raise ValueError("back-off starts after the first attempt")
    ceiling = min(policy.cap, policy.base * (1 << min(attempts - 1, _MAX_DOUBLINGS)))
    return ceiling / 2 + ceiling / 2 * random()


def next_try(
    policy: BackOff, attempts: int, random: Random, now: datetime, wish: datetime | None = None
) -> datetime:
    """Return when to try again; not before the partner's ``wish``, if that is reasonable."""
    own = now + delay(policy, attempts, random)
    if wish is None:
        return own
    return max(own, min(wish, now + LONGEST_WISH))


def needs_person(state: DeliveryState, created_at: datetime, now: datetime) -> bool:
    """Tell whether somebody at the sending institution should look at a delivery."""
    if state in {DeliveryState.REJECTED, DeliveryState.HELD_FOR_REVIEW}:
        return True
    if state in ARRIVED or state is DeliveryState.WITHHELD:
        return False
    return now - created_at >= PERSON_AFTER
