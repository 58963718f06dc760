"""Claims: which worker may send what, and until when.

A claim is a lease on a row together with a fence, a number that grows with every claim and every
recall. A worker that comes back late holds an old fence, and what it writes is not written
(:mod:`medportal.delivery.settling`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Select, Table, bindparam, select, update
from sqlalchemy.orm import Session, aliased

from medportal.db.prepared import Prepared, one_of
from medportal.delivery.blocks import OF_THE_OUTBOX, stops
from medportal.delivery.holds import is_held
from medportal.delivery.models import Outbox, PartnerMark
from medportal.delivery.states import DeliveryState

LEASE = timedelta(seconds=30)
"""How long a worker that says nothing keeps what it claimed."""


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
    hold_mark(session, partner)
    due = {"partner": partner, "now": now, "most": limit}
    tids = [tid for (tid,) in _DUE_HEADS.rows(session, due)]
    if not tids:
        return []
    return _lease(session, tids, worker, now, now + lease)


def hold_mark(session: Session, partner: str) -> str | None:
    """Keep a partner's mark as it is until the caller's transaction ends; return its epoch.

    A restore's recall must not interleave with claims on PostgreSQL, or a correction could be
    claimed while the version before it is being recalled, or a receipt of the life before the
    restore be taken while its epoch changes.
    """
    epoch: str | None = _MARK.scalar(session, {"partner": partner})
    return epoch


def _due_heads() -> Select[str]:
    now = bindparam("now", type_=Outbox.next_at.type)
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
            Outbox.partner == bindparam("partner"),
            Outbox.settled_at.is_(None),
            Outbox.next_at <= now,
            ~blocked,
            ~stops(OF_THE_OUTBOX, now),
            ~is_held(bindparam("partner")),
        )
        .order_by(Outbox.next_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True, of=Outbox)
    )


def _lease(
    session: Session, tids: Sequence[str], worker: str, now: datetime, until: datetime
) -> list[Claim]:
    leased = {"tids": list(tids), "worker": worker, "now": now, "until": until}
    claims = [_claim_of(row) for row in _LEASE_THEM.rows(session, leased)]
    by_tid = {each.tid: each for each in claims}
    return [by_tid[tid] for tid in tids]


def _claim_of(row: tuple[Any, ...]) -> Claim:
    named = dict(zip(_NAMES, row, strict=True))
    return Claim(**{**named, "state": DeliveryState(named["state"])})


_NAMES = tuple(each.name for each in fields(Claim))
_MARKS = cast(Table, PartnerMark.__table__).c
_ROW = cast(Table, Outbox.__table__).c
#: Made once: the sender runs these for every group, and building them costs more than they do.
_MARK = Prepared(
    select(_MARKS.epoch).where(_MARKS.partner == bindparam("partner")).with_for_update(read=True)
)
_DUE_HEADS = Prepared(_due_heads())
_LEASE_THEM = Prepared(
    update(cast(Table, Outbox.__table__))
    .where(one_of(_ROW.tid, "tids"))
    .values(
        lease_owner=bindparam("worker"),
        lease_until=bindparam("until"),
        next_at=bindparam("until"),
        asked_at=bindparam("now"),
        fence=_ROW.fence + 1,
        attempts=_ROW.attempts + 1,
    )
    .returning(*(_ROW["lease_owner" if name == "worker" else name] for name in _NAMES))
)
