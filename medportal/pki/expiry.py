"""How certificates and lists stand, and when people are to be told (PURE).

People are told 30, 7 and 1 days before the end of what does not renew itself, and once after it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

WARN_DAYS = (30, 7, 1)


class State(StrEnum):
    """How a certificate stands."""

    IN_USE = "in-use"
    RENEW = "renew"
    EXPIRED = "expired"
    REVOKED = "revoked"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class Stage:
    """The last warning that is due: days before the end; 0 after it."""

    days: int


def stage_at(not_after: datetime, now: datetime) -> Stage | None:
    """Return which warning is due for something that ends at ``not_after``, ``None`` for none."""
    left = not_after - now
    if left <= timedelta(0):
        return Stage(0)
    due = [days for days in WARN_DAYS if left <= timedelta(days=days)]
    return Stage(min(due)) if due else None


def state_of(
    not_after: datetime, renew_at: datetime, now: datetime, *, is_revoked: bool = False
) -> State:
    """Return how a certificate stands ``now``; what is revoked is, whatever its dates."""
    if is_revoked:
        return State.REVOKED
    if now >= not_after:
        return State.EXPIRED
    return State.RENEW if now >= renew_at else State.IN_USE


def days_left(not_after: datetime, now: datetime) -> int:
    """Return whole days until the end, negative after it: -1 in the first day after."""
    return (not_after - now) // timedelta(days=1)
