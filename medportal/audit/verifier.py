"""The verifier over a tenant's database, and the proofs that partners ask for.

Checking itself is in :mod:`medportal.audit.checking` (any stream of entries) and
:mod:`medportal.audit.lines` (an exported file, no database).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqlalchemy.orm import Session

from medportal.audit import merkle, store
from medportal.audit.checking import (
    Entry,
    Finding,
    Kind,
    Labels,
    LoggedHead,
    LoggedStatement,
    Position,
    Report,
    verify_log,
)
from medportal.audit.heads import SignedHead, TrustChain
from medportal.audit.lines import to_lines
from medportal.core.clock import to_micros

__all__ = [
    "Finding",
    "Kind",
    "Report",
    "consistency_proof",
    "export_lines",
    "head_of_size",
    "inclusion_proof",
    "latest_head",
    "log_entries",
    "verify_log",
    "verify_session",
]


def verify_session(
    session: Session, *, tenant: str, trust: TrustChain, held: Iterable[SignedHead] = ()
) -> Report:
    """Check a tenant's stored log; see :func:`medportal.audit.checking.verify_log`.

    Takes as long as the log is: pass a session that only reads, so that it keeps nobody waiting.
    """
    report = verify_log(log_entries(session), tenant=tenant, trust=trust, held=held)
    return replace(report, pending=store.count_unsequenced(session))


def export_lines(session: Session, tenant: str) -> Iterator[str]:
    """Give the log as JSON Lines, as it is stored, damaged or not."""
    return to_lines(log_entries(session), tenant)


def latest_head(session: Session) -> SignedHead | None:
    """Return the newest head, ``None`` for an empty log; raises ``MalformedHead``."""
    return store.last_head(session)


def head_of_size(session: Session, size: int) -> SignedHead | None:
    """Return the head of exactly this size, if there is one; raises ``MalformedHead``."""
    return store.head_of_size(session, size)


def consistency_proof(session: Session, old: int, new: int) -> list[bytes]:
    """Prove that the log of ``new`` events continues the one of ``old``.

    Raises ``ValueError`` unless ``0 <= old <= new``, ``LogDamaged`` if nodes are missing.
    """
    return merkle.consistency_proof(old, new, _lookup(session))


def inclusion_proof(session: Session, sequence: int, size: int) -> list[bytes]:
    """Prove that the event ``sequence`` is in the log of ``size`` events.

    Raises ``ValueError`` unless ``0 <= sequence < size``, ``LogDamaged`` if nodes are missing.
    """
    return merkle.inclusion_proof(sequence, size, _lookup(session))


def log_entries(session: Session) -> Iterator[Entry]:
    """Give the stored log in order: statements, positions, each head after what it covers.

    What is sequenced while this reads is left out, events and heads alike.
    """
    _snapshot(session)
    yield from (LoggedStatement(signed) for signed in store.statements(session))
    ends = store.bounds(session)
    heads = (LoggedHead(size, signed) for size, signed in store.heads(session, ends.heads))
    head = next(heads, None)
    for position in _positions(session, ends):
        while head is not None and head.size <= position.sequence:
            yield head
            head = next(heads, None)
        yield position
    if head is not None:
        yield head
    yield from heads


def _snapshot(session: Session) -> None:
    """Let PostgreSQL show one state to the end, as SQLite does by itself.

    Otherwise a log that is pruned while it is read would look damaged.
    """
    if not session.in_transaction() and session.get_bind().dialect.name == "postgresql":
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def _positions(session: Session, ends: store.Bounds) -> Iterator[Position]:
    """Join events and leaves by number, whichever of the two may be missing."""
    events, leaves = store.events(session, ends.events), store.leaves(session, ends.leaves)
    event, leaf = next(events, None), next(leaves, None)
    while event is not None or leaf is not None:
        number = min(item[0] for item in (event, leaf) if item is not None)
        body, labels, stored = None, None, None
        if event is not None and event[0] == number:
            body, labels = event[1].body, _labels(event[1])
            event = next(events, None)
        if leaf is not None and leaf[0] == number:
            stored = leaf[1]
            leaf = next(leaves, None)
        yield Position(number, body, stored, labels)


def _labels(row: store.EventRow) -> Labels:
    return Labels(
        id=row.id,
        at=to_micros(row.at),
        action=row.action,
        outcome=row.outcome,
        actor=row.actor,
        patient=row.patient,
        object=row.object,
    )


def _lookup(session: Session) -> merkle.Lookup:
    return lambda level, index: store.node(session, level, index)
