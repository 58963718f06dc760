"""Queries of the audit room."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Row as SqlRow
from sqlalchemy import Select, and_, func, insert, or_, select, update
from sqlalchemy.orm import Session

from medportal.audit.errors import LogDamaged, MalformedHead
from medportal.audit.heads import Credential, Head, HeadSignature, SignedHead
from medportal.audit.merkle import Frontier, Node, peak_places
from medportal.audit.models import (
    AuditCredential,
    AuditEvent,
    AuditHead,
    AuditNode,
    AuditStatement,
)
from medportal.audit.statements import SignedStatement, from_body, to_body
from medportal.core import canonical
from medportal.vault.store import insert_if_absent

PAGE = 1000
LOWEST = -(2**63)

_HIGHEST = select(func.max(AuditEvent.sequence)).where(AuditEvent.sequence.is_not(None))
"""The condition says what the partial index says, so that it is used."""

EventRow = SqlRow[int | None, str, datetime, str, str, str | None, str | None, str | None, bytes]
"""Number, id, time, action, outcome, actor, patient, object and body of a stored event."""


def has_unsequenced(session: Session) -> bool:
    """Tell whether an event waits for its number."""
    waiting = select(AuditEvent.id).where(AuditEvent.sequence.is_(None)).limit(1)
    return session.scalar(waiting) is not None


def unsequenced(session: Session, limit: int) -> Sequence[SqlRow[str, bytes]]:
    """Return id and body of the oldest events without a sequence number."""
    statement = (
        select(AuditEvent.id, AuditEvent.body)
        .where(AuditEvent.sequence.is_(None))
        .order_by(AuditEvent.at, AuditEvent.id)
        .limit(limit)
    )
    return session.execute(statement).all()


def count_unsequenced(session: Session) -> int:
    """Count the events that are not in the Merkle log yet."""
    statement = select(func.count()).where(AuditEvent.sequence.is_(None))
    return session.scalar(statement) or 0


def give_sequence(session: Session, ids: Sequence[str], first: int) -> None:
    """Number these events from ``first`` on."""
    rows = [{"id": event_id, "sequence": first + place} for place, event_id in enumerate(ids)]
    session.execute(update(AuditEvent), rows)


def add_nodes(session: Session, nodes: Sequence[Node]) -> None:
    """Store complete nodes; a node that is there already is an integrity error."""
    rows = [{"level": node.level, "index": node.index, "hash": node.hash} for node in nodes]
    session.execute(insert(AuditNode), rows)


def node(session: Session, level: int, index: int) -> bytes:
    """Return a stored node; raises ``LogDamaged`` if it is missing."""
    statement = select(AuditNode.hash).where(AuditNode.level == level, AuditNode.index == index)
    found = session.scalar(statement)
    if found is None:
        raise LogDamaged("a node of the Merkle tree is missing")
    return found


def frontier(session: Session, size: int) -> Frontier:
    """Return the frontier of the first ``size`` (at least one) events in one query.

    Raises ``LogDamaged`` if a node is missing.
    """
    places = peak_places(size)
    statement = select(AuditNode.level, AuditNode.index, AuditNode.hash).where(
        or_(*(and_(AuditNode.level == level, AuditNode.index == i) for level, i in places))
    )
    # A row's attribute ``index`` would be the method that every tuple has.
    found = {(level, index): value for level, index, value in session.execute(statement)}
    if len(found) != len(places):
        raise LogDamaged("a node of the Merkle tree is missing")
    return Frontier(size, tuple(found[place] for place in places))


def add_head(session: Session, signed: SignedHead) -> None:
    """Store a head, and its credentials unless they are there."""
    _add_credentials(session, signed.signatures)
    head = signed.head
    session.execute(
        insert(AuditHead).values(
            size=head.size,
            root=head.root,
            at=head.at,
            body=head.to_bytes(),
            signatures=_signatures_to_bytes(signed.signatures),
        )
    )


def _add_credentials(session: Session, signatures: Iterable[HeadSignature]) -> None:
    for item in signatures:
        values = {"digest": item.credential.digest(), "body": item.credential.to_bytes()}
        insert_if_absent(session, AuditCredential, values)


def add_statement(session: Session, signed: SignedStatement) -> None:
    """Store a statement, and its credentials unless they are there."""
    _add_credentials(session, signed.signatures)
    session.execute(
        insert(AuditStatement).values(
            digest=signed.digest(),
            at=signed.statement.at,
            body=to_body(signed.statement),
            signatures=_signatures_to_bytes(signed.signatures),
        )
    )


def statements(session: Session) -> list[SignedStatement | None]:
    """Return all statements, oldest first; ``None`` for an unreadable one."""
    every = select(AuditStatement).execution_options(populate_existing=True)
    rows = sorted(session.scalars(every), key=lambda row: (row.at, row.digest))
    credentials = _credentials(session, rows)
    return [_readable_statement(row, credentials) for row in rows]


def _readable_statement(
    row: AuditStatement, credentials: dict[bytes, Credential]
) -> SignedStatement | None:
    try:
        items = _signature_items(row)
        signatures = tuple(_signature(item, credentials) for item in items)
        signed = SignedStatement(from_body(row.body), signatures)
    except MalformedHead:
        return None
    return signed if (signed.statement.at, signed.digest()) == (row.at, row.digest) else None


def last_head(session: Session) -> SignedHead | None:
    """Return the newest head; raises ``MalformedHead``."""
    return _one_head(session, select(AuditHead).order_by(AuditHead.size.desc()).limit(1))


def has_heads(session: Session) -> bool:
    """Tell whether anything of this log was ever signed, as far as the database knows."""
    return session.scalar(select(AuditHead.size).limit(1)) is not None


def head_of_size(session: Session, size: int) -> SignedHead | None:
    """Return the head of exactly this size; raises ``MalformedHead``."""
    return _one_head(session, select(AuditHead).where(AuditHead.size == size))


def head_covering(session: Session, sequence: int) -> SignedHead | None:
    """Return the first head that covers the event ``sequence``; raises ``MalformedHead``."""
    later = select(AuditHead).where(AuditHead.size > sequence)
    return _one_head(session, later.order_by(AuditHead.size).limit(1))


def _one_head(session: Session, statement: Select[AuditHead]) -> SignedHead | None:
    row = session.scalar(statement.execution_options(populate_existing=True))
    return None if row is None else _signed_head(row, _credentials(session, [row]))


def highest_sequence(session: Session) -> int | None:
    """Return the highest sequence number given so far."""
    return session.scalar(_HIGHEST)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the log reached at one instant: exclusive ends of numbers, leaves and heads."""

    events: int
    leaves: int
    heads: int


def bounds(session: Session) -> Bounds:
    """Return all ends in one statement, so that a batch committed meanwhile is out or in as one."""
    row = session.execute(
        select(
            _HIGHEST.scalar_subquery(),
            select(func.max(AuditNode.index)).where(AuditNode.level == 0).scalar_subquery(),
            select(func.max(AuditHead.size)).scalar_subquery(),
        )
    ).one()
    events, leaf_count, heads = (-1 if value is None else value for value in row)
    return Bounds(events + 1, leaf_count + 1, heads + 1)


def heads(session: Session, end: int) -> Iterator[tuple[int, SignedHead | None]]:
    """Give size and head of all heads below ``end`` by size; ``None`` for an unreadable one."""
    after = LOWEST
    while page := _head_page(session, after, end):
        credentials = _credentials(session, page)
        for row in page:
            yield row.size, _readable(row, credentials)
        after = page[-1].size


def events(session: Session, end: int) -> Iterator[tuple[int, EventRow]]:
    """Give number and columns of all numbered events below ``end`` by number."""
    after = LOWEST
    while page := _event_page(session, after, end):
        yield from page
        after = page[-1][0]


def leaves(session: Session, end: int) -> Iterator[tuple[int, bytes]]:
    """Give number and hash of all stored leaves below ``end`` by number."""
    after = LOWEST
    while page := _leaf_page(session, after, end):
        yield from page
        after = page[-1][0]


def _head_page(session: Session, after: int, end: int) -> Sequence[AuditHead]:
    statement = (
        select(AuditHead)
        .where(AuditHead.size > after, AuditHead.size < end)
        .order_by(AuditHead.size)
        .limit(PAGE)
        .execution_options(populate_existing=True)
    )
    return session.scalars(statement).all()


def _event_page(session: Session, after: int, end: int) -> list[tuple[int, EventRow]]:
    statement = (
        select(
            AuditEvent.sequence,
            AuditEvent.id,
            AuditEvent.at,
            AuditEvent.action,
            AuditEvent.outcome,
            AuditEvent.actor,
            AuditEvent.patient,
            AuditEvent.object,
            AuditEvent.body,
        )
        .where(AuditEvent.sequence > after, AuditEvent.sequence < end)
        .order_by(AuditEvent.sequence)
        .limit(PAGE)
    )
    # The condition leaves no row without a number.
    return [(cast("int", row[0]), row) for row in session.execute(statement)]


def _leaf_page(session: Session, after: int, end: int) -> list[tuple[int, bytes]]:
    statement = (
        select(AuditNode.index, AuditNode.hash)
        .where(AuditNode.level == 0, AuditNode.index > after, AuditNode.index < end)
        .order_by(AuditNode.index)
        .limit(PAGE)
    )
    return [(index, value) for index, value in session.execute(statement)]


def _credentials(
    session: Session, rows: Iterable[AuditHead | AuditStatement]
) -> dict[bytes, Credential]:
    """Return the credentials that these heads refer to, by digest, as far as readable."""
    wanted = {digest for row in rows for digest in _wanted(row)}
    statement = select(AuditCredential.body).where(AuditCredential.digest.in_(sorted(wanted)))
    found = (_readable_credential(body) for body in session.scalars(statement))
    # Kept under the digest computed here: a changed credential is a missing one.
    return {credential.digest(): credential for credential in found if credential is not None}


def _wanted(row: AuditHead | AuditStatement) -> list[bytes]:
    try:
        return [digest for *_, digest in _signature_items(row)]
    except MalformedHead:
        return []


def _readable_credential(body: bytes) -> Credential | None:
    try:
        return Credential.from_bytes(body)
    except MalformedHead:
        return None


def _readable(row: AuditHead, credentials: dict[bytes, Credential]) -> SignedHead | None:
    try:
        return _signed_head(row, credentials)
    except MalformedHead:
        return None


def _signed_head(row: AuditHead, credentials: dict[bytes, Credential]) -> SignedHead:
    """Put a head together; its columns must repeat what its body says."""
    head = Head.from_bytes(row.body)
    if (head.size, head.root, head.at) != (row.size, row.root, row.at):
        raise MalformedHead("the columns of a head contradict it")
    return SignedHead(head, tuple(_signature(item, credentials) for item in _signature_items(row)))


def _signature(item: list[Any], credentials: dict[bytes, Credential]) -> HeadSignature:
    algorithm, key_id, value, digest = item
    credential = credentials.get(digest)
    if credential is None:
        raise MalformedHead("a credential is missing")
    return HeadSignature(algorithm, key_id, value, credential)


def _signature_items(row: AuditHead | AuditStatement) -> list[list[Any]]:
    try:
        items = canonical.decode(row.signatures)
    except canonical.NotCanonical:
        items = None
    if not isinstance(items, list) or not all(map(_is_signature_item, items)):
        raise MalformedHead("the signatures of a head cannot be read")
    return items


def _is_signature_item(item: Any) -> bool:
    kinds = (str, str, bytes, bytes)
    return (
        isinstance(item, list)
        and len(item) == len(kinds)
        and all(isinstance(value, kind) for value, kind in zip(item, kinds, strict=True))
    )


def _signatures_to_bytes(signatures: Iterable[HeadSignature]) -> bytes:
    return canonical.encode(
        [[s.algorithm, s.key_id, s.value, s.credential.digest()] for s in signatures]
    )
