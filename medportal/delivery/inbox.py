"""The inbox: what partners handed over, and the receipts that they got for it.

Everything is keyed by (sender, transfer id). The receiver registers verified arrivals in
groups; a transfer id that is already there is data, not an error: the same digest gets the
receipt it already had, another digest is a conflict. ``medportal jobs`` (intake) then opens each
item and files it, in one transaction with ``mark_filed``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from medportal.core.ids import is_id
from medportal.db.dialect import insert_or
from medportal.db.prepared import Prepared, one_of
from medportal.delivery.blocks import keeps_out
from medportal.delivery.errors import MalformedDelivery, NotAwaiting
from medportal.delivery.models import Inbox, ReceiptCounter
from medportal.delivery.states import DeliveryReason, Outcome


class Awaiting(StrEnum):
    """What an inbox item waits for.

    ``UNDOING``: a person decided that it is nobody's here, which can be undone for a time.
    """

    INTAKE = "intake"
    PERSON = "person"
    UNDOING = "undoing"


class Result(StrEnum):
    """What registering one arrival came to."""

    NEW = "new"
    ALREADY = "already"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified delivery about to be registered.

    ``outcome`` is what verification decided; it becomes ``DUPLICATE`` if the same content has
    been registered under another transfer id. ``sealed`` opens with the inbox key; a rejected
    arrival has none. ``patient_id`` is the patient whom the pseudonym names here.
    """

    sender: str
    tid: str
    digest: bytes
    pseudonym: bytes = field(repr=False)
    key_id: str
    outcome: Outcome
    reason: DeliveryReason
    patient_id: str | None
    sealed: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the receipt for one transfer states, and the receipt itself once it is signed."""

    sender: str
    tid: str
    digest: bytes
    outcome: Outcome
    reason: DeliveryReason
    sequence: int
    at: datetime
    receipt: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Registration:
    """The result for one arrival. A conflict has no grant: its digest has no receipt."""

    sender: str
    tid: str
    result: Result
    grant: Grant | None


@dataclass(frozen=True, slots=True)
class InboxItem:
    """An item for intake or for a person."""

    sender: str
    tid: str
    digest: bytes
    patient_id: str | None
    pseudonym: bytes = field(repr=False)
    key_id: str
    sealed: bytes = field(repr=False)
    outcome: Outcome
    reason: DeliveryReason
    sequence: int
    received_at: datetime


SignReceipts = Callable[[Sequence[Grant]], Sequence[bytes]]
"""Signs the receipts that one sender gets together."""

_Key = tuple[str, str]


# Registering, the receiver's part


def find_receipt(session: Session, sender: str, tid: str) -> Grant | None:
    """Return what has been granted for a transfer, if it is known.

    Compare its digest before handing it out: the same transfer id with another digest is a
    conflict.
    """
    return find_receipts(session, sender, [tid]).get(tid)


def find_receipts(session: Session, sender: str, tids: Collection[str]) -> dict[str, Grant]:
    """Return what has been granted for several transfers of a sender, of those that are known."""
    rows = _GRANTED.rows(session, {"sender": sender, "tids": list(tids)})
    grants = [_grant_of(dict(zip(_OF_GRANT, row, strict=True))) for row in rows]
    return {grant.tid: grant for grant in grants}


def register(
    session: Session,
    arrivals: Sequence[Arrival],
    now: datetime,
    sign: SignReceipts | None = None,
) -> list[Registration]:
    """Register a group of arrivals, of any senders; return one result each, in their order.

    With ``sign`` the receipts are signed and stored in the same transaction. Nothing here is
    granted before the caller has committed. Senders are locked in the order of their names, so
    two groups cannot deadlock.

    Raises ``MalformedDelivery`` for an arrival of the wrong shape.
    """
    for arrival in arrivals:
        _check(arrival)
    by_sender: dict[str, list[Arrival]] = {}
    for arrival in sorted(arrivals, key=lambda arrival: arrival.sender):
        by_sender.setdefault(arrival.sender, []).append(arrival)
    granted: dict[_Key, Registration] = {}
    rows: list[dict[str, Any]] = []
    last = _lock_counters(session, list(by_sender))
    for sender, group in by_sender.items():
        registered, made = _register_of(session, sender, group, last[sender], now, sign)
        granted |= registered
        rows += made
        last[sender] += len(made)
    # No conflict is possible here: the counters' locks keep other groups of these senders out, and
    # what was there before has been read under them.
    _PUT.run_all(session, rows)
    counted = {row["sender"] for row in rows}
    _COUNT_ON.run_all(session, [{"of": each, "now_last": last[each]} for each in sorted(counted)])
    return [_answer(arrival, granted[_key(arrival)]) for arrival in arrivals]


def _check(arrival: Arrival) -> None:
    if not is_id(arrival.tid) or len(arrival.digest) != 32 or len(arrival.pseudonym) != 32:
        raise MalformedDelivery("an arrival has the wrong shape")
    holds = arrival.outcome is not Outcome.REJECTED
    if holds != bool(arrival.sealed):
        raise MalformedDelivery("content must be there unless the arrival is rejected")
    if arrival.outcome is Outcome.REGISTERED and arrival.patient_id is None:
        raise MalformedDelivery("a registered arrival must name its patient")


def _key(arrival: Arrival) -> _Key:
    return arrival.sender, arrival.tid


def _register_of(
    session: Session,
    sender: str,
    arrivals: Sequence[Arrival],
    last: int,
    now: datetime,
    sign: SignReceipts | None,
) -> tuple[dict[_Key, Registration], list[dict[str, Any]]]:
    """Return what becomes of one sender's arrivals, and the rows to insert, numbered on."""
    tids = [arrival.tid for arrival in arrivals]
    granted = find_receipts(session, sender, tids)
    known = {(sender, tid): grant for tid, grant in granted.items()}
    fresh = {_key(arrival): arrival for arrival in reversed(arrivals) if _key(arrival) not in known}
    in_order = [fresh[key] for key in dict.fromkeys(map(_key, arrivals)) if key in fresh]
    rows = _rows(session, sender, in_order, last, now, sign)
    made = {(sender, row["tid"]): _grant_of(row) for row in rows}
    results = {key: Registration(*key, Result.ALREADY, grant) for key, grant in known.items()}
    new = {key: Registration(*key, Result.NEW, grant) for key, grant in made.items()}
    return results | new, rows


def _lock_counters(session: Session, senders: Sequence[str]) -> dict[str, int]:
    """Lock the counters of senders until the caller's transaction ends; return their numbers."""
    # Sequences must become visible in their order: if 11 could commit before 10, a backup taken
    # between would state the mark 11, and the sender would never learn that 10 was lost.
    asked = {"senders": senders}
    there = {sender for (sender,) in _COUNTED.rows(session, asked)}
    # Before anything is locked: whoever waits here for another group's new counter holds none that
    # the other one could be waiting for.
    for sender in sorted({*senders} - there):
        first = insert_or(session, ReceiptCounter).values(sender=sender, last=0)
        session.execute(first.on_conflict_do_nothing())
    return dict(_COUNTERS_NOW.rows(session, asked))


def _rows(
    session: Session,
    sender: str,
    arrivals: Sequence[Arrival],
    last: int,
    now: datetime,
    sign: SignReceipts | None,
) -> list[dict[str, Any]]:
    if not arrivals:
        return []
    seen = _registered_digests(session, sender, arrivals)
    rows: list[dict[str, Any]] = []
    for sequence, arrival in enumerate(arrivals, last + 1):
        row = _row(arrival, arrival.digest in seen, sequence, now)
        rows.append(row)
        if row["outcome"] == Outcome.REGISTERED.value:
            seen.add(arrival.digest)
    signed = sign([_grant_of(row) for row in rows]) if sign else [None] * len(rows)
    for row, receipt in zip(rows, signed, strict=True):
        row["receipt"] = receipt
    return rows


def _registered_digests(session: Session, sender: str, arrivals: Sequence[Arrival]) -> set[bytes]:
    digests = {arrival.digest for arrival in arrivals if arrival.outcome is Outcome.REGISTERED}
    asked = {"sender": sender, "digests": list(digests)}
    return {digest for (digest,) in _REGISTERED.rows(session, asked)}


def _row(arrival: Arrival, duplicate: bool, sequence: int, now: datetime) -> dict[str, Any]:
    outcome, reason = arrival.outcome, arrival.reason
    if duplicate and outcome is Outcome.REGISTERED:
        outcome, reason = Outcome.DUPLICATE, DeliveryReason.DUPLICATE
    awaiting = _AWAITING.get(outcome)
    return {
        "sender": arrival.sender,
        "tid": arrival.tid,
        "digest": arrival.digest,
        "patient_id": arrival.patient_id,
        "pseudonym": arrival.pseudonym,
        "key_id": arrival.key_id,
        "sealed": arrival.sealed if awaiting else None,
        "outcome": outcome.value,
        "reason": reason.value,
        "sequence": sequence,
        "received_at": now,
        "awaiting": awaiting.value if awaiting else None,
    }


_AWAITING = {
    Outcome.REGISTERED: Awaiting.INTAKE,
    Outcome.HELD_FOR_REVIEW: Awaiting.PERSON,
}


_OF_GRANT = ("sender", "tid", "digest", "outcome", "reason", "sequence", "received_at", "receipt")
_PUT_IN = (*_OF_GRANT, "patient_id", "pseudonym", "key_id", "sealed", "awaiting")
_INBOX, _COUNTERS = cast(Table, Inbox.__table__), cast(Table, ReceiptCounter.__table__)
#: Made once: the receiver runs these for every group, and building them costs more than they do.
_GRANTED = Prepared(
    select(*(_INBOX.c[name] for name in _OF_GRANT)).where(
        _INBOX.c.sender == bindparam("sender"), one_of(_INBOX.c.tid, "tids")
    )
)
_REGISTERED = Prepared(
    select(_INBOX.c.digest).where(
        _INBOX.c.sender == bindparam("sender"),
        one_of(_INBOX.c.digest, "digests"),
        _INBOX.c.outcome == Outcome.REGISTERED.value,
    )
)
_COUNTED = Prepared(select(_COUNTERS.c.sender).where(one_of(_COUNTERS.c.sender, "senders")))
_COUNTERS_NOW = Prepared(
    select(_COUNTERS.c.sender, _COUNTERS.c.last)
    .where(one_of(_COUNTERS.c.sender, "senders"))
    .order_by(_COUNTERS.c.sender)
    .with_for_update()
)
_COUNT_ON = Prepared(
    update(_COUNTERS)
    .where(_COUNTERS.c.sender == bindparam("of"))
    .values(last=bindparam("now_last"))
)
_PUT = Prepared(insert(_INBOX).values({name: bindparam(name) for name in _PUT_IN}))


def _grant_of(row: Any) -> Grant:
    return Grant(
        sender=row["sender"],
        tid=row["tid"],
        digest=row["digest"],
        outcome=Outcome(row["outcome"]),
        reason=DeliveryReason(row["reason"]),
        sequence=row["sequence"],
        at=row["received_at"],
        receipt=row.get("receipt"),
    )


def _answer(arrival: Arrival, found: Registration) -> Registration:
    if found.grant is None or found.grant.digest != arrival.digest:
        return Registration(arrival.sender, arrival.tid, Result.CONFLICT, None)
    return found


# Intake, the jobs' part


def has_pending(session: Session, now: datetime) -> bool:
    """Tell whether anything awaits intake that may be filed now, without locking it."""
    waiting = select(Inbox.tid).where(Inbox.awaiting == Awaiting.INTAKE.value, ~keeps_out(now))
    return session.scalar(waiting.limit(1)) is not None


def pending(session: Session, now: datetime, limit: int = 64) -> list[InboxItem]:
    """Return items for intake, the longest waiting first, locked until the caller commits.

    Items that another intake is working on are skipped. What came from a partner of whom the
    patient takes nothing since goes on waiting, sealed, until the rule ends.
    """
    return _items(session, Awaiting.INTAKE, limit, ~keeps_out(now))


def held(session: Session, limit: int = 64) -> list[InboxItem]:
    """Return items that wait for a person, the longest waiting first."""
    return _items(session, Awaiting.PERSON, limit)


def awaiting_counts(session: Session) -> dict[Awaiting, int]:
    """Count what waits for intake and for a person."""
    rows = session.execute(
        select(Inbox.awaiting, func.count())
        .where(Inbox.awaiting.is_not(None))
        .group_by(Inbox.awaiting)
    )
    return {Awaiting(awaiting): count for awaiting, count in rows if awaiting is not None}


def mark_filed(session: Session, sender: str, tid: str, record_id: str, now: datetime) -> None:
    """Note that the item is filed as ``record_id``, and drop its sealed copy here.

    Raises ``NotAwaiting`` if it does not wait for intake (any more).
    """
    values = {
        "awaiting": None,
        "sealed": None,
        "told": None,
        "filed_at": now,
        "record_id": record_id,
    }
    _step(session, sender, tid, Awaiting.INTAKE, values)


def set_aside(session: Session, sender: str, tid: str, reason: DeliveryReason) -> None:
    """Give an item that intake cannot file to a person. Raises ``NotAwaiting``.

    The receipt stays what it was: what the institution acknowledged, it has.
    """
    values = {"awaiting": Awaiting.PERSON.value, "reason": reason.value}
    _step(session, sender, tid, Awaiting.INTAKE, values)


def approve(session: Session, sender: str, tid: str, patient_id: str) -> None:
    """A person found the patient whose record it is: let intake file it. Raises ``NotAwaiting``."""
    values = {"awaiting": Awaiting.INTAKE.value, "patient_id": patient_id}
    _step(session, sender, tid, Awaiting.PERSON, values)


def decline(session: Session, sender: str, tid: str, now: datetime) -> None:
    """A person decided that it is nobody's here. Raises ``NotAwaiting``.

    The content stays sealed until :func:`drop_declined`: one mistake shall not end a result.
    """
    values = {"awaiting": Awaiting.UNDOING.value, "filed_at": now}
    _step(session, sender, tid, Awaiting.PERSON, values)


def undo_decline(session: Session, sender: str, tid: str) -> None:
    """Let a person decide again about what was declined. Raises ``NotAwaiting``."""
    values = {"awaiting": Awaiting.PERSON.value, "filed_at": None}
    _step(session, sender, tid, Awaiting.UNDOING, values)


def drop_declined(session: Session, by: datetime) -> None:
    """Drop the content of what was declined by then, for good."""
    session.execute(
        update(Inbox)
        .where(Inbox.awaiting == Awaiting.UNDOING.value, Inbox.filed_at <= by)
        .values(awaiting=None, sealed=None, told=None)
        .execution_options(synchronize_session=False)
    )


def _step(
    session: Session, sender: str, tid: str, awaiting: Awaiting, values: Mapping[str, Any]
) -> None:
    stepped = session.execute(
        update(Inbox)
        .where(Inbox.sender == sender, Inbox.tid == tid, Inbox.awaiting == awaiting.value)
        .values(**values)
        .returning(Inbox.tid)
        .execution_options(synchronize_session=False)
    )
    if stepped.one_or_none() is None:
        raise NotAwaiting(f"the item does not wait for {awaiting.value}")


def _items(
    session: Session, awaiting: Awaiting, limit: int, *conditions: ColumnElement[bool]
) -> list[InboxItem]:
    rows = session.execute(
        select(
            Inbox.sender,
            Inbox.tid,
            Inbox.digest,
            Inbox.patient_id,
            Inbox.pseudonym,
            Inbox.key_id,
            Inbox.sealed,
            Inbox.outcome,
            Inbox.reason,
            Inbox.sequence,
            Inbox.received_at,
        )
        .where(Inbox.awaiting == awaiting.value, *conditions)
        .order_by(Inbox.received_at, Inbox.sequence)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Inbox)
    )
    return [_item_of(dict(row._mapping)) for row in rows]


def _item_of(row: dict[str, Any]) -> InboxItem:
    outcome, reason = Outcome(row.pop("outcome")), DeliveryReason(row.pop("reason"))
    return InboxItem(**row, outcome=outcome, reason=reason)
