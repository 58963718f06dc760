"""What patients forbid about a partner, for the processes that face partners.

A patient's rule that names a partner is written here too, in the transaction in which it is
made or ended, so that sender and receiver, which read no rules, know of it. Of two that fit,
the more specific wins (one record, then a category, then everything), and a block wins a tie,
as everywhere (:mod:`medportal.access.rules`).

Sending: what a block is about is not asked about, let alone sent. Taking in: a block of
everything makes the patient unknown to the partner; others say nothing there, for what a
partner wants to send is sealed until it is taken.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from medportal.db.dialect import insert_or
from medportal.db.prepared import Prepared, one_of
from medportal.delivery.models import BlockChanges, Inbox, Outbox, PartnerBlock


class BlockEffect(StrEnum):
    """Whether a rule forbids, or makes an exception of what another one forbids."""

    BLOCK = "block"
    ALLOW = "allow"


class BlockScope(StrEnum):
    """What a rule about a partner goes for, from the widest to the most specific."""

    EVERYTHING = "everything"
    CATEGORY = "category"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Block:
    """A patient's rule about a partner; ``until`` is outside, and open if ``None``."""

    rule_id: str
    patient_id: str
    partner: str
    effect: BlockEffect
    what: BlockScope
    what_id: str
    since: datetime
    until: datetime | None


Value = str | InstrumentedAttribute[str]
Moment = datetime | BindParameter[datetime]
"""A time, or the place for one in a statement that is made once."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What a rule may be about: values, or columns of the query that asks."""

    partner: Value
    patient_id: Value
    category: Value
    record_id: Value
    chain: Value


def put(session: Session, block: Block) -> None:
    """Write a rule about a partner."""
    session.add(
        PartnerBlock(
            rule_id=block.rule_id,
            patient_id=block.patient_id,
            partner=block.partner,
            effect=block.effect.value,
            what=block.what.value,
            what_id=block.what_id,
            since=block.since,
            until=block.until,
        )
    )
    # Core statements in the same transaction look at it next.
    session.flush()
    _count_change(session)


def drop(session: Session, rule_id: str) -> None:
    """Forget a rule that was ended."""
    dropped = session.execute(
        delete(PartnerBlock)
        .where(PartnerBlock.rule_id == rule_id)
        .returning(PartnerBlock.rule_id)
        .execution_options(synchronize_session="fetch")
    )
    if dropped.all():
        _count_change(session)


def forget_expired(session: Session, now: datetime) -> list[tuple[str, str, str]]:
    """Forget rules whose time is over; return (rule, patient, partner) of each."""
    rows = session.execute(
        delete(PartnerBlock)
        .where(PartnerBlock.until <= now)
        .returning(PartnerBlock.rule_id, PartnerBlock.patient_id, PartnerBlock.partner)
        .execution_options(synchronize_session=False)
    )
    found = [(row.rule_id, row.patient_id, row.partner) for row in rows]
    if found:
        _count_change(session)
    return found


def has_expired(session: Session, now: datetime) -> bool:
    """Tell whether a rule's time is over, without locking anything."""
    query = select(PartnerBlock.rule_id).where(PartnerBlock.until <= now).limit(1)
    return session.scalar(query) is not None


def stops(sending: Sending, now: Moment) -> ColumnElement[bool]:
    """Return the SQL condition under which a rule keeps something from being sent.

    Something without a category was queued before categories were kept: any block of a
    category stops it, and no exception for one frees it.
    """
    highest = _highest(sending, BlockEffect.BLOCK, now, -2)
    # Nearly nobody blocks a partner: that is found out by one look at the index.
    return and_(_has_blocks(sending), highest >= _highest(sending, BlockEffect.ALLOW, now, -1))


def _has_blocks(sending: Sending) -> ColumnElement[bool]:
    query = select(PartnerBlock.rule_id).where(
        PartnerBlock.patient_id == sending.patient_id,
        PartnerBlock.partner == sending.partner,
        PartnerBlock.effect == BlockEffect.BLOCK.value,
    )
    return query.correlate(Outbox).exists()


#: The deliveries of the outbox, for a query on it.
OF_THE_OUTBOX = Sending(
    Outbox.partner, Outbox.patient_id, Outbox.category, Outbox.record_id, Outbox.chain
)


def stops_now(session: Session, sending: Sending, now: datetime) -> bool:
    """Tell whether a rule keeps something from being sent."""
    return bool(session.scalar(select(stops(sending, now))))


def refuses(session: Session, patient_id: str, partner: str, now: datetime) -> bool:
    """Tell whether a patient takes nothing from a partner."""
    return patient_id in refusing(session, [patient_id], partner, now)


def refusing(
    session: Session, patient_ids: Collection[str], partner: str, now: datetime
) -> frozenset[str]:
    """Return which of these patients take nothing from a partner.

    The same query runs for ids that are no patient's: an answer that takes longer would tell.
    """
    of_whom = {"patients": list(patient_ids), "partner": partner, "now": now}
    return frozenset(patient for (patient,) in _REFUSING.rows(session, of_whom))


def keeps_out(now: datetime) -> ColumnElement[bool]:
    """Return the SQL condition under which a patient takes nothing from an item's sender."""
    query = select(PartnerBlock.rule_id).where(
        PartnerBlock.patient_id == Inbox.patient_id,
        PartnerBlock.partner == Inbox.sender,
        *_of_all(now),
    )
    return query.correlate(Inbox).exists()


def state_of_blocks(session: Session) -> str:
    """Return a token that differs after any rule about a partner came or went.

    One row is read, however many rules there are; that one ended while another was made is seen
    too.
    """
    return str(session.scalar(select(BlockChanges.count)) or 0)


def _count_change(session: Session) -> None:
    session.execute(
        insert_or(session, BlockChanges)
        .values(only=1, count=1)
        .on_conflict_do_update(index_elements=["only"], set_={"count": BlockChanges.count + 1})
    )


def _of_all(now: datetime) -> Sequence[ColumnElement[bool]]:
    return (
        PartnerBlock.effect == BlockEffect.BLOCK.value,
        PartnerBlock.what == BlockScope.EVERYTHING.value,
        _in_force(now),
    )


def _in_force(now: Moment) -> ColumnElement[bool]:
    return and_(
        PartnerBlock.since <= now, or_(PartnerBlock.until.is_(None), PartnerBlock.until > now)
    )


_BLOCK = cast(Table, PartnerBlock.__table__).c
#: Made once: receivers ask it for every group of records.
_REFUSING = Prepared(
    select(_BLOCK.patient_id)
    .where(
        one_of(_BLOCK.patient_id, "patients"),
        _BLOCK.partner == bindparam("partner"),
        _BLOCK.effect == BlockEffect.BLOCK.value,
        _BLOCK.what == BlockScope.EVERYTHING.value,
        _BLOCK.since <= bindparam("now"),
        or_(_BLOCK.until.is_(None), _BLOCK.until > bindparam("now")),
    )
    .distinct()
)


def _highest(
    sending: Sending, effect: BlockEffect, now: Moment, without: int
) -> ColumnElement[int]:
    """Return the rank of the most specific rule that fits, ``without`` where none does."""
    ranks = {scope.value: rank for rank, scope in enumerate(BlockScope)}
    rank: Any = case(ranks, value=PartnerBlock.what)
    query = select(func.coalesce(func.max(rank), without)).where(
        PartnerBlock.patient_id == sending.patient_id,
        PartnerBlock.partner == sending.partner,
        PartnerBlock.effect == effect.value,
        _in_force(now),
        _is_about(sending, effect),
    )
    return query.correlate(Outbox).scalar_subquery()


def _is_about(sending: Sending, effect: BlockEffect) -> ColumnElement[bool]:
    category = PartnerBlock.what_id == sending.category
    if effect is BlockEffect.BLOCK:
        unknown = (
            literal(sending.category) if isinstance(sending.category, str) else sending.category
        )
        category = or_(category, unknown == "")
    return or_(
        PartnerBlock.what == BlockScope.EVERYTHING.value,
        and_(PartnerBlock.what == BlockScope.CATEGORY.value, category),
        and_(
            PartnerBlock.what == BlockScope.RECORD.value,
            or_(PartnerBlock.what_id == sending.record_id, PartnerBlock.what_id == sending.chain),
        ),
    )
