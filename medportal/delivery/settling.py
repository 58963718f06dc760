"""What came of claims: written in groups, and only by whoever still holds them.

An :class:`Ending` is what one attempt came to. :func:`settle` writes many in a few statements: it
looks which of the claims are still this worker's, under a lock, and writes those. The functions
for a single claim raise ``LostLease`` instead.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, cast

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.orm import Session

from medportal.db.prepared import Prepared, one_of
from medportal.delivery.claims import LEASE, Claim, hold_mark
from medportal.delivery.errors import LostLease
from medportal.delivery.models import Outbox
from medportal.delivery.schedule import BUSY, FAULTS, UNKNOWN, Random, next_try
from medportal.delivery.states import (
    DeliveryEvent,
    DeliveryReason,
    DeliveryState,
    Outcome,
    event_of,
    transition,
    usual_reason,
)

_RANDOM: Random = secrets.SystemRandom().random


@dataclass(frozen=True, slots=True)
class ReceiptFacts:
    """What a verified receipt of the partner says. ``at`` is by the partner's clock."""

    outcome: Outcome
    sequence: int
    at: datetime
    receipt: bytes = field(repr=False)
    reason: DeliveryReason | None = None


class _Kind(Enum):
    """Which columns an ending writes."""

    SETTLED = "settled"
    AGAIN = "again"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Ending:
    """What one attempt came to.

    ``state`` is the state after it; ``next_at`` when it is due again, ``None`` once settled;
    ``reason`` why, ``None`` for a claim that is given back unused; ``facts`` are the receipt's.
    """

    claim: Claim
    state: DeliveryState
    reason: DeliveryReason | None
    attempts: int
    next_at: datetime | None
    facts: ReceiptFacts | None = field(default=None, repr=False)

    @property
    def _kind(self) -> _Kind:
        if self.facts is not None:
            return _Kind.SETTLED
        return _Kind.RELEASED if self.reason is None else _Kind.AGAIN


# What endings there are


def completed(held: Claim, facts: ReceiptFacts, now: datetime) -> Ending:
    """Return the ending by the partner's verified receipt."""
    state = transition(held.state, event_of(facts.outcome))
    reason = facts.reason or usual_reason(facts.outcome)
    return Ending(held, state, reason, held.attempts, None, facts)


def unheard(held: Claim, now: datetime, random: Random = _RANDOM) -> Ending:
    """Return the ending of a claim whose patient the partner does not know."""
    state = transition(held.state, DeliveryEvent.UNKNOWN)
    attempts = _streak(held, DeliveryState.UNKNOWN_PATIENT)
    at = next_try(UNKNOWN, attempts, random, now)
    return Ending(held, state, DeliveryReason.PATIENT_UNKNOWN, attempts, at)


def retried(
    held: Claim,
    reason: DeliveryReason,
    now: datetime,
    *,
    not_before: datetime | None = None,
    random: Random = _RANDOM,
) -> Ending:
    """Return the ending by a fault or a BUSY; ``not_before`` is when the partner asked us back."""
    state = transition(held.state, DeliveryEvent.FAILED)
    attempts = _streak(held, DeliveryState.RETRYING)
    policy = BUSY if reason is DeliveryReason.BUSY else FAULTS
    return Ending(
        held, state, reason, attempts, next_try(policy, attempts, random, now, not_before)
    )


def released(held: Claim, now: datetime) -> Ending:
    """Return the ending of a claim given back unused, due at once, as if it had not been made."""
    return Ending(held, held.state, None, held.attempts - 1, now)


def _streak(held: Claim, state: DeliveryState) -> int:
    return held.attempts if held.state is state else 1


# Writing them


def settle(session: Session, endings: Sequence[Ending], now: datetime) -> list[Ending]:
    """Write endings; return those whose claims were still held. Of the others nothing is written.

    A receipt is kept with the storage epoch that its partner stated last.
    """
    partners = {each.claim.partner for each in endings if each.facts is not None}
    epochs = {partner: hold_mark(session, partner) for partner in sorted(partners)}
    fences = _fences(session, [each.claim for each in endings])
    held = [each for each in endings if _is_held(each.claim, fences)]
    for kind, statement in _WRITE.items():
        rows = [_row(each, now, epochs) for each in held if each._kind is kind]
        statement.run_all(session, rows)
    return held


def renew_held(
    session: Session, claims: Iterable[Claim], now: datetime, lease: timedelta = LEASE
) -> list[Claim]:
    """Prolong the leases of those claims that are still held; return them."""
    asked = list(claims)
    fences = _fences(session, asked)
    held = [each for each in asked if _is_held(each, fences)]
    _PROLONG.run(session, {"tids": [each.tid for each in held], "until": now + lease})
    return held


def _fences(session: Session, claims: Sequence[Claim]) -> dict[tuple[str, str], int]:
    """Lock the rows of claims; return their fences by transfer id and who holds them."""
    rows = _HOLDERS.rows(session, {"tids": [each.tid for each in claims]})
    return {(tid, owner): fence for tid, owner, fence in rows}


def _is_held(claim: Claim, fences: dict[tuple[str, str], int]) -> bool:
    return fences.get((claim.tid, claim.worker)) == claim.fence


def _row(ending: Ending, now: datetime, epochs: dict[str, str | None]) -> dict[str, Any]:
    claim, facts = ending.claim, ending.facts
    row: dict[str, Any] = {"of": claim.tid}
    if ending.reason is not None:
        row |= {"to_state": ending.state.value, "to_reason": ending.reason.value}
    if facts is None:
        return row | {"to_attempts": ending.attempts, "to_next_at": ending.next_at}
    return row | {
        "to_settled_at": now,
        "to_receipt": facts.receipt,
        "to_receipt_sequence": facts.sequence,
        "to_receipt_at": facts.at,
        "to_receipt_epoch": epochs[claim.partner],
    }


_TABLE = cast(Table, Outbox.__table__)
_ROW = _TABLE.c
_RECEIPT = ("settled_at", "receipt", "receipt_sequence", "receipt_at", "receipt_epoch")


def _writing(*names: str) -> Prepared:
    """Return the statement that ends a lease and writes some columns of one row."""
    values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in names}
    unleased = {"lease_owner": None, "lease_until": None}
    return Prepared(
        update(_TABLE).where(_ROW.tid == bindparam("of")).values({**values, **unleased})
    )


#: Made once: the sender runs these for every group, and building them costs more than they do.
_WRITE = {
    _Kind.SETTLED: _writing("state", "reason", *_RECEIPT),
    _Kind.AGAIN: _writing("state", "reason", "attempts", "next_at"),
    _Kind.RELEASED: _writing("attempts", "next_at"),
}
_HOLDERS = Prepared(
    select(_ROW.tid, _ROW.lease_owner, _ROW.fence)
    .where(one_of(_ROW.tid, "tids"), _ROW.settled_at.is_(None))
    .order_by(_ROW.tid)
    .with_for_update()
)
_PROLONG = Prepared(
    update(_TABLE)
    .where(one_of(_ROW.tid, "tids"))
    .values(lease_until=bindparam("until"), next_at=bindparam("until"))
)


# One claim at a time


def complete(session: Session, held: Claim, facts: ReceiptFacts, now: datetime) -> DeliveryState:
    """Settle a delivery by the partner's verified receipt; return the new state.

    Raises ``LostLease`` (see there).
    """
    return _one(session, completed(held, facts, now), now).state


def unknown(session: Session, held: Claim, now: datetime, random: Random = _RANDOM) -> datetime:
    """Note that the partner knows no such patient; return when it will be asked again."""
    return _when(_one(session, unheard(held, now, random), now))


def retry(
    session: Session,
    held: Claim,
    reason: DeliveryReason,
    now: datetime,
    *,
    not_before: datetime | None = None,
    random: Random = _RANDOM,
) -> datetime:
    """Note a fault or a BUSY; return when it will be tried again.

    ``not_before`` is when the partner asked to be asked again.
    """
    ending = retried(held, reason, now, not_before=not_before, random=random)
    return _when(_one(session, ending, now))


def release(session: Session, held: Claim, now: datetime) -> None:
    """Give a claim back unused, due at once, as if it had not been made (graceful stop)."""
    _one(session, released(held, now), now)


def renew(
    session: Session, claims: Iterable[Claim], now: datetime, lease: timedelta = LEASE
) -> None:
    """Prolong leases of a worker that is alive but slow. Raises ``LostLease`` for a lost one."""
    asked = list(claims)
    if len(renew_held(session, asked, now, lease)) < len(asked):
        raise LostLease(_LOST)


def _one(session: Session, ending: Ending, now: datetime) -> Ending:
    if not settle(session, [ending], now):
        raise LostLease(_LOST)
    return ending


def _when(ending: Ending) -> datetime:
    assert ending.next_at is not None
    return ending.next_at


_LOST = "the delivery was claimed or recalled by another"
