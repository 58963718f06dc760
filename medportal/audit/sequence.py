"""The sequencer: gives events their numbers, grows the Merkle tree, signs a head.

One batch costs O(batch * log n) and does not grow with the log. One sequencer works on a
tenant's log at a time: PostgreSQL by an advisory lock that ends with the transaction,
SQLite because a transaction that writes first excludes every other writer. Should both
fail, the unique sequence numbers and nodes make the second batch fail whole.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import false, func, select, update
from sqlalchemy.orm import Session

from medportal.audit import heads, merkle, store
from medportal.audit.errors import BadProof, LogDamaged
from medportal.audit.heads import Head, HeadSigner, SignedHead
from medportal.audit.merkle import Frontier, Node
from medportal.audit.models import AuditHead

LOCK_KEY = 0x6D65_6470_6175_6474
"""The advisory lock's number: each tenant has a database of its own, so one will do."""


def sequence(
    session: Session,
    signer: HeadSigner,
    now: datetime,
    limit: int = 1000,
    pinned: Head | None = None,
) -> SignedHead | None:
    """Take up to ``limit`` waiting events into the log and sign its new head.

    Works in the caller's transaction, which should do nothing else. Returns ``None`` if
    nothing waits. ``pinned`` is the last head that the caller remembers on its own.

    Raises ``LogDamaged`` if the stored log contradicts its last head or ``pinned``: a
    rewritten log must not get a fresh signature.
    """
    lock(session)
    waiting = store.unsequenced(session, limit)
    if not waiting:
        return None
    frontier = _trusted_frontier(session, signer.tenant, pinned)
    grown, nodes = _grow(frontier, (row.body for row in waiting))
    signed = signer.sign(Head(signer.tenant, grown.size, grown.root(), now))
    store.give_sequence(session, [row.id for row in waiting], frontier.size)
    store.add_nodes(session, nodes)
    store.add_head(session, signed)
    return signed


def lock(session: Session) -> None:
    """Let nobody else work on this log until the transaction ends."""
    if session.get_bind(AuditHead).dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(LOCK_KEY)))
        return
    # A write that changes no row takes SQLite's write lock before anything is read.
    session.execute(update(AuditHead).where(false()).values(size=AuditHead.size))


def _trusted_frontier(session: Session, tenant: str, pinned: Head | None) -> Frontier:
    last = store.last_head(session)
    highest = store.highest_sequence(session)
    if last is None:
        if highest is not None or (pinned is not None and pinned.size):
            raise LogDamaged("the log has lost its heads")
        return Frontier()
    if last.head.tenant != tenant:
        raise LogDamaged("the log is another institution's")
    if highest is None or highest + 1 != last.head.size:
        raise LogDamaged("the last head and the last event do not fit")
    frontier = store.frontier(session, last.head.size)
    if frontier.root() != last.head.root:
        raise LogDamaged("the Merkle tree does not lead to the last head")
    if pinned is not None:
        _check_pinned(session, pinned, last.head)
    return frontier


def _check_pinned(session: Session, pinned: Head, last: Head) -> None:
    def lookup(level: int, index: int) -> bytes:
        return store.node(session, level, index)

    try:
        proof = merkle.consistency_proof(pinned.size, last.size, lookup)
        heads.check_extends(pinned, last, proof)
    except (ValueError, BadProof):
        raise LogDamaged("the log does not continue the head last seen") from None


def _grow(frontier: Frontier, bodies: Iterable[bytes]) -> tuple[Frontier, list[Node]]:
    nodes: list[Node] = []
    for body in bodies:
        frontier, completed = frontier.append(merkle.leaf_hash(body))
        nodes.extend(completed)
    return frontier, nodes
