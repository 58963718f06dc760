"""How much goes to and comes from partners, by the hour, for pictures of it.

``medportal jobs`` counts each transfer once, soon after its receipt, into a row for its hour; a
page reads those rows and, itself, only what is too new to have been counted. So a month's picture
costs the same after a million records as after ten, and neither sender nor receiver writes a
counter. It is a picture and no account: what a stalled process writes later than ``LAG`` after
the time it bears is not counted. A delivery that is receipted anew after a partner's restore
counts again, for it was carried again.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import Select, and_, case, delete, func, or_, select
from sqlalchemy.orm import Session

from medportal.db.dialect import insert_or
from medportal.delivery.models import (
    Inbox,
    Outbox,
    ReceiptCounter,
    TrafficHour,
    TrafficMark,
)
from medportal.delivery.states import ARRIVED, DeliveryState, Outcome

HOUR = timedelta(hours=1)
LAG = timedelta(minutes=2)
"""How long after its time a sent transfer is counted: until then its commit may be under way."""

REACH = timedelta(days=31)
"""How far back the first count goes."""

KEPT = timedelta(days=400)
BEHIND = timedelta(minutes=15)
"""From then on a page no longer reads what is not counted yet, and says so."""

HOURS_AT_ONCE = 48
ROWS_AT_ONCE = 5_000
SENDERS_AT_ONCE = 100
EVERYBODY = ""


class Direction(StrEnum):
    """Which way."""

    SENT = "sent"
    RECEIVED = "received"


class End(StrEnum):
    """What came of a transfer: the partner, or we, hold it, or refused it."""

    ARRIVED = "arrived"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Hour:
    """How many transfers came to an end in the hour that begins at ``hour`` (UTC)."""

    hour: datetime
    direction: Direction
    end: End
    count: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was carried, by the hour.

    If counting fell behind, what came after ``until`` is missing; ``None`` is never counted.
    """

    hours: tuple[Hour, ...]
    is_behind: bool
    until: datetime | None


_SETTLED = (*(state.value for state in sorted(ARRIVED)), DeliveryState.REJECTED.value)
_Key = tuple[str, datetime, Direction, End]


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of the hour in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


# Counting, the jobs' part


def has_uncounted(session: Session, now: datetime) -> bool:
    """Tell whether anything is to be counted, without locking anything."""
    since = _sent_mark(session) or now - REACH
    # Told even where nothing was sent, once an hour: what has been looked at is not asked again.
    if now - LAG - since >= HOUR or _first_sent(session, since, now - LAG):
        return True
    return session.scalar(_behind().limit(1)) is not None


def count(session: Session, now: datetime) -> bool:
    """Count what is new, a part of it; return whether there is more."""
    more_sent = _count_sent(session, now)
    more_received = _count_received(session)
    return more_sent or more_received


def forget_old(session: Session, now: datetime) -> None:
    """Forget hours that no picture shows any more."""
    session.execute(
        delete(TrafficHour)
        .where(TrafficHour.hour < now - KEPT)
        .execution_options(synchronize_session=False)
    )


def _sent_mark(session: Session) -> datetime | None:
    query = select(TrafficMark.until).where(
        TrafficMark.direction == Direction.SENT.value, TrafficMark.partner == EVERYBODY
    )
    return session.scalar(query)


def _first_sent(session: Session, since: datetime, until: datetime) -> datetime | None:
    """Return when the first transfer of a time was settled: one look into the index a state."""
    found = [
        session.scalar(
            select(Outbox.settled_at)
            .where(Outbox.state == state, Outbox.settled_at >= since, Outbox.settled_at < until)
            .order_by(Outbox.settled_at)
            .limit(1)
        )
        for state in _SETTLED
    ]
    return min((at for at in found if at is not None), default=None)


def _count_sent(session: Session, now: datetime) -> bool:
    """Count what was settled since the mark, hour by hour, up to a while ago."""
    mark, target = _sent_mark(session) or hour_of(now - REACH), now - LAG
    if mark >= target:
        return False
    # Hours in which nothing was sent are leapt over.
    begin = _first_sent(session, mark, target) or target
    for start, end in _windows(begin, target, HOURS_AT_ONCE):
        found: Counter[_Key] = Counter()
        for partner, state, number in session.execute(_sent(start, end)):
            key = (partner, hour_of(start), Direction.SENT, _end_of(state))
            found[key] += number
        _add(session, found)
        begin = end
    _mark(session, Direction.SENT, EVERYBODY, until=begin)
    return begin < target


def _windows(begin: datetime, target: datetime, limit: int) -> Iterable[tuple[datetime, datetime]]:
    """Yield at most ``limit`` spans from ``begin`` to ``target``, none over the end of an hour."""
    for _place in range(limit):
        if begin >= target:
            return
        end = min(hour_of(begin) + HOUR, target)
        yield begin, end
        begin = end


def _sent(start: datetime, end: datetime) -> Select[str, str, int]:
    return (
        select(Outbox.partner, Outbox.state, func.count())
        .where(Outbox.state.in_(_SETTLED), Outbox.settled_at >= start, Outbox.settled_at < end)
        .group_by(Outbox.partner, Outbox.state)
    )


def _behind() -> Select[str, int, int]:
    """Return the senders with receipts that are not counted: name, counted, given."""
    counted = func.coalesce(TrafficMark.sequence, 0)
    return (
        select(ReceiptCounter.sender, counted, ReceiptCounter.last)
        .join(
            TrafficMark,
            and_(
                TrafficMark.partner == ReceiptCounter.sender,
                TrafficMark.direction == Direction.RECEIVED.value,
            ),
            isouter=True,
        )
        .where(ReceiptCounter.last > counted)
        .order_by(ReceiptCounter.sender)
    )


def _count_received(session: Session) -> bool:
    """Count what was received from each partner since the sequence counted last."""
    more = False
    for sender, counted, last in session.execute(_behind()).all():
        upto = min(last, counted + ROWS_AT_ONCE)
        rows = session.execute(
            select(Inbox.received_at, Inbox.outcome).where(
                Inbox.sender == sender, Inbox.sequence > counted, Inbox.sequence <= upto
            )
        )
        found: Counter[_Key] = Counter(
            (sender, hour_of(at), Direction.RECEIVED, _end_of(outcome)) for at, outcome in rows
        )
        _add(session, found)
        _mark(session, Direction.RECEIVED, sender, sequence=upto)
        more = more or upto < last
    return more


def _end_of(code: str) -> End:
    """Return what a state of ours, or an outcome in a receipt, comes to: both have one word."""
    return End.REFUSED if code == Outcome.REJECTED.value else End.ARRIVED


def _add(session: Session, found: dict[_Key, int]) -> None:
    """Add counts to the rows of their hours, and to those of all partners together."""
    sums: Counter[_Key] = Counter(found)
    for (_partner, hour, direction, end), number in found.items():
        sums[EVERYBODY, hour, direction, end] += number
    for (partner, hour, direction, end), number in sorted(sums.items()):
        session.execute(
            insert_or(session, TrafficHour)
            .values(partner=partner, hour=hour, direction=direction, outcome=end, count=number)
            .on_conflict_do_update(
                index_elements=["partner", "hour", "direction", "outcome"],
                set_={"count": TrafficHour.count + number},
            )
        )


def _mark(
    session: Session,
    direction: Direction,
    partner: str,
    *,
    until: datetime | None = None,
    sequence: int = 0,
) -> None:
    values = {"until": until, "sequence": sequence}
    session.execute(
        insert_or(session, TrafficMark)
        .values(direction=direction.value, partner=partner, **values)
        .on_conflict_do_update(index_elements=["direction", "partner"], set_=values)
    )


# Looking


def traffic(session: Session, since: datetime, now: datetime, partner: str = EVERYBODY) -> Traffic:
    """Return what was carried since the hour of ``since``, with one partner or with all."""
    counted = session.execute(
        select(TrafficHour.hour, TrafficHour.direction, TrafficHour.outcome, TrafficHour.count)
        .where(TrafficHour.partner == partner, TrafficHour.hour >= hour_of(since))
        .order_by(TrafficHour.hour, TrafficHour.direction, TrafficHour.outcome)
    )
    sums: Counter[tuple[datetime, Direction, End]] = Counter()
    for hour, direction, outcome, number in counted:
        sums[(hour, Direction(direction), End(outcome))] += number
    mark = _sent_mark(session)
    is_behind = mark is None or now - mark > HOUR + BEHIND
    if mark is not None and not is_behind:
        sums.update(_sent_lately(session, mark, now, partner))
        sums.update(_received_lately(session, now, partner))
    hours = tuple(Hour(*key, number) for key, number in sorted(sums.items()) if number)
    return Traffic(hours, is_behind, mark)


_Sum = tuple[datetime, Direction, End]


def _sent_lately(session: Session, mark: datetime, now: datetime, partner: str) -> dict[_Sum, int]:
    """Count what was sent since the mark: the minutes that the jobs leave to be settled."""
    found: Counter[_Sum] = Counter()
    after = now + timedelta(microseconds=1)
    for start, end in _windows(mark, after, HOURS_AT_ONCE):
        query = _sent(start, end)
        if partner:
            query = query.where(Outbox.partner == partner)
        for _partner, state, number in session.execute(query):
            found[(hour_of(start), Direction.SENT, _end_of(state))] += number
    return found


def _received_lately(session: Session, now: datetime, partner: str) -> dict[_Sum, int]:
    """Count what was received behind the marks, if the jobs are near; at most two hours of it."""
    behind = _behind()
    if partner:
        behind = behind.where(ReceiptCounter.sender == partner)
    marks = [(sender, counted) for sender, counted, _last in session.execute(behind)]
    current = hour_of(now)
    in_current = func.sum(case((Inbox.received_at >= current, 1), else_=0))
    found: Counter[_Sum] = Counter()
    for first in range(0, len(marks), SENDERS_AT_ONCE):
        # One span of the index on sender and sequence each: a join could be planned from the
        # other end, through everything that was ever received.
        spans = [
            and_(Inbox.sender == sender, Inbox.sequence > counted)
            for sender, counted in marks[first : first + SENDERS_AT_ONCE]
        ]
        rows = session.execute(
            select(Inbox.outcome, func.count(), in_current)
            .where(or_(*spans), Inbox.received_at >= current - HOUR)
            .group_by(Inbox.outcome)
        )
        for outcome, number, late in rows:
            end = _end_of(outcome)
            found[current, Direction.RECEIVED, end] += late
            found[current - HOUR, Direction.RECEIVED, end] += number - late
    return found
