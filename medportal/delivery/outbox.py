"""The outbox: what waits for a partner, what rules withhold of it, and how it stands.

Claiming is in :mod:`medportal.delivery.claims`, what came of claims in
:mod:`medportal.delivery.settling`; both are offered here too.

Two workers may drain it at once, and each may die at any instruction. A claim is a lease on
the row together with a fence, a number that grows with every claim and every recall. A worker
that comes back late holds an old fence and is refused (``LostLease``), so the end of an attempt
is written by the last claimer only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, insert, or_, select, update
from sqlalchemy.orm import Session

from medportal.core.ids import is_id, new_id
from medportal.delivery.blocks import OF_THE_OUTBOX, BlockScope, Sending, stops, stops_now
from medportal.delivery.claims import LEASE, Claim, claim
from medportal.delivery.errors import LostLease, MalformedDelivery
from medportal.delivery.models import Outbox, PartnerBlock
from medportal.delivery.schedule import needs_person
from medportal.delivery.settling import ReceiptFacts, complete, release, renew, retry, unknown
from medportal.delivery.states import (
    ARRIVED,
    OPEN,
    DeliveryEvent,
    DeliveryReason,
    DeliveryState,
    transition,
)

__all__ = [
    "LEASE",
    "Claim",
    "DeliveryView",
    "LostLease",
    "Outgoing",
    "QueueLine",
    "ReceiptFacts",
    "Turned",
    "claim",
    "complete",
    "count_open",
    "enqueue",
    "has_turned",
    "lift_freed",
    "partners_of",
    "queue_summary",
    "release",
    "renew",
    "retry",
    "state_of",
    "states_of",
    "troubled",
    "unknown",
    "withheld_summary",
    "withhold_stopped",
]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What the portal puts into the outbox, together with a record version.

    ``chain`` is the id that all corrections of one record share. ``digest`` is the SHA-256 of
    the exact content; ``pseudonym`` is the partner's name for the patient under ``key_id``;
    ``sealed`` opens with the outbox key only; ``category`` is what rules may be about.
    """

    partner: str
    record_id: str
    version: int
    chain: str
    patient_id: str
    pseudonym: bytes = field(repr=False)
    key_id: str
    digest: bytes
    sealed: bytes = field(repr=False)
    category: str = ""
    tid: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """How one version's delivery to one partner stands, for people.

    ``sending`` says that a worker holds it right now; ``needs_person`` that somebody here
    should look at it.
    """

    tid: str
    partner: str
    record_id: str
    version: int
    patient_id: str
    state: DeliveryState
    reason: DeliveryReason
    attempts: int
    created_at: datetime
    asked_at: datetime | None
    next_at: datetime | None
    settled_at: datetime | None
    receipt_sequence: int | None
    receipt_at: datetime | None
    sending: bool
    needs_person: bool

    @property
    def delivered_at(self) -> datetime | None:
        """When, by our clock, it was known that the partner holds it."""
        return self.settled_at if self.state in ARRIVED else None


@dataclass(frozen=True, slots=True)
class QueueLine:
    """Open deliveries of one partner in one state."""

    partner: str
    state: DeliveryState
    count: int
    oldest: datetime
    next_at: datetime


# Putting in


def enqueue(session: Session, outgoing: Outgoing, now: datetime) -> str:
    """Add a delivery, due at once, to the caller's transaction; return its transfer id.

    It is withheld from the beginning if a rule of the patient says so. Raises
    ``MalformedDelivery`` for an id, digest or pseudonym of the wrong shape. A second delivery
    of the same version to the same partner violates a constraint.
    """
    _check(outgoing)
    session.execute(
        insert(Outbox).values(**_values(outgoing, now), **_first(session, outgoing, now))
    )
    return outgoing.tid


def _first(session: Session, outgoing: Outgoing, now: datetime) -> dict[str, Any]:
    about = Sending(
        outgoing.partner,
        outgoing.patient_id,
        outgoing.category,
        outgoing.record_id,
        outgoing.chain,
    )
    if stops_now(session, about, now):
        return _withheld(now)
    return {"state": DeliveryState.WAITING.value, "reason": DeliveryReason.CREATED.value}


def _withheld(now: datetime) -> dict[str, Any]:
    return {
        "state": DeliveryState.WITHHELD.value,
        "reason": DeliveryReason.RULE_HERE.value,
        "settled_at": now,
    }


def _check(outgoing: Outgoing) -> None:
    ids = (outgoing.tid, outgoing.record_id, outgoing.chain, outgoing.patient_id)
    if not all(is_id(value) for value in ids):
        raise MalformedDelivery("an id has the wrong shape")
    if len(outgoing.digest) != 32 or len(outgoing.pseudonym) != 32:
        raise MalformedDelivery("a digest or pseudonym is not 32 bytes")
    if not outgoing.partner or outgoing.version < 1 or not outgoing.sealed:
        raise MalformedDelivery("partner, version or content is missing")


def _values(outgoing: Outgoing, now: datetime) -> dict[str, Any]:
    return {
        "tid": outgoing.tid,
        "partner": outgoing.partner,
        "record_id": outgoing.record_id,
        "version": outgoing.version,
        "chain": outgoing.chain,
        "patient_id": outgoing.patient_id,
        "category": outgoing.category,
        "pseudonym": outgoing.pseudonym,
        "key_id": outgoing.key_id,
        "digest": outgoing.digest,
        "sealed": outgoing.sealed,
        "attempts": 0,
        "fence": 0,
        "created_at": now,
        "next_at": now,
    }


# What rules stop


@dataclass(frozen=True, slots=True)
class Turned:
    """A delivery that a rule of the patient stopped, or set free again."""

    tid: str
    partner: str
    record_id: str
    patient_id: str


def withhold_stopped(
    session: Session, now: datetime, patient_id: str | None = None
) -> list[Turned]:
    """Withhold what rules stop, of one patient or of all; return it.

    What a worker holds at this moment is left to it: it may have been sent already. The worker
    looks itself whether a rule stops it before it sends, and gives it back then; it is withheld
    when that has happened, the attempt has failed, or the worker has died.
    """
    open_state = [state.value for state in OPEN]
    return _turn(
        session,
        (
            Outbox.settled_at.is_(None),
            Outbox.state.in_(open_state),
            or_(Outbox.lease_owner.is_(None), Outbox.lease_until <= now),
            stops(OF_THE_OUTBOX, now),
        ),
        patient_id,
        {
            **_withheld(now),
            "lease_owner": None,
            "lease_until": None,
            "fence": Outbox.fence + 1,
        },
    )


def lift_freed(session: Session, now: datetime, patient_id: str | None = None) -> list[Turned]:
    """Let go on what was withheld and no rule stops any more; return it."""
    return _turn(
        session,
        (Outbox.state == DeliveryState.WITHHELD.value, ~stops(OF_THE_OUTBOX, now)),
        patient_id,
        {
            "state": transition(DeliveryState.WITHHELD, DeliveryEvent.RULE_LIFTED).value,
            "reason": DeliveryReason.RULE_LIFTED.value,
            "attempts": 0,
            "next_at": now,
            "settled_at": None,
        },
    )


def has_turned(session: Session, now: datetime) -> bool:
    """Tell whether a rule has begun or ended for something, without locking anything."""
    stopped = select(Outbox.tid).where(
        Outbox.patient_id.in_(select(PartnerBlock.patient_id)),
        Outbox.settled_at.is_(None),
        or_(Outbox.lease_owner.is_(None), Outbox.lease_until <= now),
        stops(OF_THE_OUTBOX, now),
    )
    freed = select(Outbox.tid).where(
        Outbox.state == DeliveryState.WITHHELD.value, ~stops(OF_THE_OUTBOX, now)
    )
    return any(session.scalar(query.limit(1)) is not None for query in (stopped, freed))


def count_open(
    session: Session, patient_id: str, partner: str, what: BlockScope, what_id: str
) -> int:
    """Count what of a patient waits for a partner, or is withheld; of a category or a record."""
    about = [Outbox.patient_id == patient_id, Outbox.partner == partner]
    if what is BlockScope.CATEGORY:
        about.append(Outbox.category == what_id)
    elif what is BlockScope.RECORD:
        about.append(or_(Outbox.record_id == what_id, Outbox.chain == what_id))
    # Two questions, each with an index of its own.
    open_now = (Outbox.settled_at.is_(None), Outbox.state == DeliveryState.WITHHELD.value)
    counts = [
        session.scalar(select(func.count()).where(*about, condition)) for condition in open_now
    ]
    return sum(count or 0 for count in counts)


def _turn(
    session: Session,
    conditions: Sequence[ColumnElement[bool]],
    patient_id: str | None,
    values: dict[str, Any],
) -> list[Turned]:
    of_whom = () if patient_id is None else (Outbox.patient_id == patient_id,)
    rows = session.execute(
        update(Outbox)
        .where(*of_whom, *conditions)
        .values(**values)
        .returning(Outbox.tid, Outbox.partner, Outbox.record_id, Outbox.patient_id)
        .execution_options(synchronize_session=False)
    )
    found = (Turned(row.tid, row.partner, row.record_id, row.patient_id) for row in rows)
    return sorted(found, key=lambda turned: turned.tid)


# Looking


def state_of(session: Session, record_id: str, now: datetime) -> list[DeliveryView]:
    """Return the deliveries of every version of a record, by partner, newest version first."""
    return states_of(session, [record_id], now).get(record_id, [])


def partners_of(session: Session, chain: str) -> list[str]:
    """Return the partners to which any version of a record was ever queued, in order."""
    query = select(Outbox.partner).where(Outbox.record_id == chain).distinct()
    return sorted(session.scalars(query))


def states_of(
    session: Session, record_ids: Sequence[str], now: datetime
) -> dict[str, list[DeliveryView]]:
    """Return the deliveries of several records in one query, ordered as in :func:`state_of`."""
    found: dict[str, list[DeliveryView]] = {}
    rows = session.execute(
        select(*_VIEW_COLUMNS)
        .where(Outbox.record_id.in_(record_ids))
        .order_by(Outbox.partner, Outbox.version.desc())
    )
    for row in rows:
        found.setdefault(row.record_id, []).append(_view_of(row, now))
    return found


def troubled(
    session: Session,
    state: DeliveryState,
    now: datetime,
    after: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[DeliveryView]:
    """Return settled deliveries in ``state``, oldest first, a page at a time.

    ``after`` is ``(settled_at, tid)`` of the last one seen.
    """
    query = select(*_VIEW_COLUMNS).where(Outbox.state == state.value)
    if after is not None:
        at, tid = after
        later = (Outbox.settled_at == at) & (Outbox.tid > tid)
        query = query.where((Outbox.settled_at > at) | later)
    rows = session.execute(query.order_by(Outbox.settled_at, Outbox.tid).limit(limit))
    return [_view_of(row, now) for row in rows]


def queue_summary(session: Session) -> list[QueueLine]:
    """Count open deliveries by partner and state. Costs nothing for what has been delivered."""
    rows = session.execute(
        select(
            Outbox.partner,
            Outbox.state,
            func.count(),
            func.min(Outbox.created_at),
            func.min(Outbox.next_at),
        )
        .where(Outbox.settled_at.is_(None))
        .group_by(Outbox.partner, Outbox.state)
        .order_by(Outbox.partner, Outbox.state)
    )
    return [
        QueueLine(partner, DeliveryState(state), count, oldest, next_at)
        for partner, state, count, oldest, next_at in rows
    ]


def withheld_summary(session: Session) -> list[tuple[str, int, datetime]]:
    """Return (partner, how many, since when the oldest) of what patients' rules withhold."""
    rows = session.execute(
        select(Outbox.partner, func.count(), func.min(Outbox.created_at))
        .where(Outbox.state == DeliveryState.WITHHELD.value)
        .group_by(Outbox.partner)
        .order_by(Outbox.partner)
    )
    return [(partner, count, oldest) for partner, count, oldest in rows]


_VIEW_COLUMNS = (
    Outbox.tid,
    Outbox.partner,
    Outbox.record_id,
    Outbox.version,
    Outbox.patient_id,
    Outbox.state,
    Outbox.reason,
    Outbox.attempts,
    Outbox.created_at,
    Outbox.asked_at,
    Outbox.next_at,
    Outbox.settled_at,
    Outbox.receipt_sequence,
    Outbox.receipt_at,
    Outbox.lease_until,
)


def _view_of(row: Any, now: datetime) -> DeliveryView:
    values = dict(row._mapping)
    lease_until = values.pop("lease_until")
    state = DeliveryState(values.pop("state"))
    settled = values["settled_at"] is not None
    next_at = None if settled else values["next_at"]
    return DeliveryView(
        **{**values, "next_at": next_at, "reason": DeliveryReason(values["reason"])},
        state=state,
        sending=lease_until is not None and lease_until > now,
        needs_person=needs_person(state, values["created_at"], now),
    )
