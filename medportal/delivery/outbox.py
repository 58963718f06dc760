"""The outbox: what waits for a partner, who is sending it, and what came of it.

Two workers may drain it at once, and each may die at any instruction. A claim is a lease on
the row together with a fence, a number that grows with every claim and every recall. A worker
that comes back late holds an old fence and is refused (``LostLease``), so the end of an attempt
is written by the last claimer only.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased

from medportal.core.ids import is_id, new_id
from medportal.delivery.blocks import OF_THE_OUTBOX, BlockScope, Sending, stops, stops_now
from medportal.delivery.errors import LostLease, MalformedDelivery
from medportal.delivery.holds import is_held
from medportal.delivery.models import Outbox, PartnerBlock, PartnerMark
from medportal.delivery.schedule import FAULTS, UNKNOWN, Random, needs_person, next_try
from medportal.delivery.states import (
    ARRIVED,
    OPEN,
    DeliveryEvent,
    DeliveryReason,
    DeliveryState,
    Outcome,
    event_of,
    transition,
    usual_reason,
)

LEASE = timedelta(seconds=30)
"""How long a worker that says nothing keeps what it claimed."""

_RANDOM: Random = secrets.SystemRandom().random


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
class Claim:
    """A row that this worker alone may send until ``lease_until``."""

    tid: str
    partner: str
    record_id: str
    version: int
    chain: str
    patient_id: str
    pseudonym: bytes = field(repr=False)
    key_id: str
    digest: bytes
    sealed: bytes = field(repr=False)
    state: DeliveryState
    attempts: int
    created_at: datetime
    worker: str
    fence: int
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class ReceiptFacts:
    """What a verified receipt of the partner says. ``at`` is by the partner's clock."""

    outcome: Outcome
    sequence: int
    at: datetime
    receipt: bytes = field(repr=False)
    reason: DeliveryReason | None = None


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


# Claiming


def claim(
    session: Session,
    worker: str,
    partner: str,
    now: datetime,
    limit: int = 64,
    lease: timedelta = LEASE,
) -> list[Claim]:
    """Lease up to ``limit`` due deliveries to ``partner``, the longest due first.

    Of a chain only the oldest unsettled version is given, so a stuck one holds back its own
    corrections and nothing else. Rows held by another worker are skipped, never waited for, and
    so is what a rule of its patient stops; of a partner that administrators hold nothing is
    given. Send only after the caller's commit.
    """
    _hold_mark(session, partner)
    tids = session.scalars(_due_heads(partner, now, limit)).all()
    if not tids:
        return []
    return _lease(session, tids, worker, now, now + lease)


def _hold_mark(session: Session, partner: str) -> None:
    # A restore's recall must not interleave with this on PostgreSQL, or a correction could be
    # claimed while the version before it is being recalled, or a receipt of the life before the
    # restore be taken while its epoch changes.
    session.execute(
        select(PartnerMark.partner).where(PartnerMark.partner == partner).with_for_update(read=True)
    )


def _due_heads(partner: str, now: datetime, limit: int) -> Select[str]:
    before = aliased(Outbox)
    # The partner is compared in a way that PostgreSQL cannot look up: otherwise, before the
    # first ANALYZE, it would look for earlier versions among everything that waits for the
    # partner instead of in the chain, and a backlog would cost its square.
    blocked = (
        select(before.tid)
        .where(
            before.partner.is_not_distinct_from(Outbox.partner),
            before.chain == Outbox.chain,
            before.version < Outbox.version,
            before.settled_at.is_(None),
        )
        .exists()
    )
    return (
        select(Outbox.tid)
        .where(
            Outbox.partner == partner,
            Outbox.settled_at.is_(None),
            Outbox.next_at <= now,
            ~blocked,
            ~stops(OF_THE_OUTBOX, now),
            ~is_held(partner),
        )
        .order_by(Outbox.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Outbox)
    )


def _lease(
    session: Session, tids: Sequence[str], worker: str, now: datetime, until: datetime
) -> list[Claim]:
    rows = session.execute(
        update(Outbox)
        .where(Outbox.tid.in_(tids))
        .values(
            lease_owner=worker,
            lease_until=until,
            next_at=until,
            asked_at=now,
            fence=Outbox.fence + 1,
            attempts=Outbox.attempts + 1,
        )
        .returning(*_CLAIM_COLUMNS)
        .execution_options(synchronize_session=False)
    )
    claims = {row.tid: _claim_of(row._mapping) for row in rows}
    return [claims[tid] for tid in tids]


_CLAIM_COLUMNS = (
    Outbox.tid,
    Outbox.partner,
    Outbox.record_id,
    Outbox.version,
    Outbox.chain,
    Outbox.patient_id,
    Outbox.pseudonym,
    Outbox.key_id,
    Outbox.digest,
    Outbox.sealed,
    Outbox.state,
    Outbox.attempts,
    Outbox.created_at,
    Outbox.lease_owner.label("worker"),
    Outbox.fence,
    Outbox.lease_until,
)


def _claim_of(row: Any) -> Claim:
    return Claim(**{**row, "state": DeliveryState(row["state"])})


def renew(
    session: Session, claims: Iterable[Claim], now: datetime, lease: timedelta = LEASE
) -> None:
    """Prolong leases of a worker that is alive but slow. Raises ``LostLease`` for a lost one."""
    for held in claims:
        _write(session, held, lease_until=now + lease, next_at=now + lease)


def release(session: Session, held: Claim, now: datetime) -> None:
    """Give a claim back unused, due at once, as if it had not been made (graceful stop)."""
    _write(session, held, next_at=now, attempts=held.attempts - 1, **_UNLEASED)


# What came of it


def complete(session: Session, held: Claim, facts: ReceiptFacts, now: datetime) -> DeliveryState:
    """Settle a delivery by the partner's verified receipt; return the new state.

    Raises ``LostLease`` (see there).
    """
    state = transition(held.state, event_of(facts.outcome))
    _hold_mark(session, held.partner)
    reason = facts.reason or usual_reason(facts.outcome)
    _write(
        session,
        held,
        state=state.value,
        reason=reason.value,
        settled_at=now,
        receipt=facts.receipt,
        receipt_sequence=facts.sequence,
        receipt_at=facts.at,
        receipt_epoch=_epoch_of(held.partner),
        **_UNLEASED,
    )
    return state


def unknown(session: Session, held: Claim, now: datetime, random: Random = _RANDOM) -> datetime:
    """Note that the partner knows no such patient; return when it will be asked again."""
    attempts = _streak(held, DeliveryState.UNKNOWN_PATIENT)
    at = next_try(UNKNOWN, attempts, random, now)
    reason = DeliveryReason.PATIENT_UNKNOWN
    _reschedule(session, held, DeliveryEvent.UNKNOWN, reason, attempts, at)
    return at


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
    attempts = _streak(held, DeliveryState.RETRYING)
    at = next_try(FAULTS, attempts, random, now, not_before)
    _reschedule(session, held, DeliveryEvent.FAILED, reason, attempts, at)
    return at


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
        {**_withheld(now), **_UNLEASED, "fence": Outbox.fence + 1},
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


def _streak(held: Claim, state: DeliveryState) -> int:
    return held.attempts if held.state is state else 1


def _reschedule(
    session: Session,
    held: Claim,
    event: DeliveryEvent,
    reason: DeliveryReason,
    attempts: int,
    at: datetime,
) -> None:
    state = transition(held.state, event)
    _write(
        session,
        held,
        state=state.value,
        reason=reason.value,
        attempts=attempts,
        next_at=at,
        **_UNLEASED,
    )


_UNLEASED: dict[str, Any] = {"lease_owner": None, "lease_until": None}


def _epoch_of(partner: str) -> ColumnElement[str | None]:
    return select(PartnerMark.epoch).where(PartnerMark.partner == partner).scalar_subquery()


def _write(session: Session, held: Claim, **values: Any) -> None:
    written = session.execute(
        update(Outbox)
        .where(
            Outbox.tid == held.tid,
            Outbox.fence == held.fence,
            Outbox.lease_owner == held.worker,
            Outbox.settled_at.is_(None),
        )
        .values(**values)
        .returning(Outbox.tid)
        .execution_options(synchronize_session=False)
    )
    if written.one_or_none() is None:
        raise LostLease("the delivery was claimed or recalled by another")


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
