"""What operators do to a log, seldom: declare a restore from a backup, forget what is old.

Both work in the caller's transaction, which should do nothing else, and end with a head that
covers the event about it. The caller has checked the whole log before: what is signed
here is believed later.
"""

from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from medportal.audit import heads, merkle, store
from medportal.audit.append import append
from medportal.audit.errors import BadProof, LogDamaged, NothingLost, NothingToPrune
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.audit.heads import Head, HeadSigner, SignedHead
from medportal.audit.models import AuditEvent, AuditHead
from medportal.audit.sequence import lock, sequence
from medportal.audit.statements import Checkpoint, Restore, SignedStatement, sign_statement

_FORGETTABLE = AuditEvent.action != str(Action.RESTORED)


def declare_restore(
    session: Session, signer: HeadSigner, lost: Head, now: datetime, kept: int | None = None
) -> tuple[SignedStatement, SignedHead]:
    """State that what led to the head ``lost`` is gone, and go on from what is there.

    ``kept`` is how many of the first events are as they were: all that are there, unless events
    were written after the restore. Raises ``NothingLost`` if the log continues ``lost``,
    ``LogDamaged`` if it contradicts itself, ``ValueError`` for a ``kept`` that cannot be.
    """
    lock(session)
    size = _size(session)
    if _continues(session, lost, size):
        raise NothingLost("the log continues this head: nothing was lost")
    held = size if kept is None else kept
    if not 0 <= held <= size or held >= lost.size:
        raise ValueError("say how many of the first events are as they were before the restore")
    kept_root = merkle.root_of(held, lambda level, index: store.node(session, level, index))
    restore = Restore(signer.tenant, held, kept_root, lost.size, lost.root, now)
    said = sign_statement(signer, restore)
    store.add_statement(session, said)
    append(
        session, Event.create(Action.RESTORED, now=now, actor=COMMAND_LINE, details=restore.details)
    )
    return said, sign_all(session, signer, now)


def prune(
    session: Session, signer: HeadSigner, before: datetime, now: datetime
) -> tuple[Checkpoint, SignedHead]:
    """Forget the words of the events before a moment; their hashes stay.

    Events about restores stay too: statements are believed only beside the event about them.
    Ends at a head, before the first event of that moment or later. Raises ``NothingToPrune``,
    and ``LogDamaged`` if the tree does not lead to that head.
    """
    lock(session)
    size = _last_head_before(session, before)
    signed = store.head_of_size(session, size)
    root = store.frontier(session, size).root()
    if signed is None or signed.head.root != root:
        raise LogDamaged("the Merkle tree does not lead to a head")
    checkpoint = Checkpoint(signer.tenant, size, root, now)
    store.add_statement(session, sign_statement(signer, checkpoint))
    session.execute(delete(AuditEvent).where(AuditEvent.sequence < size, _FORGETTABLE))
    session.execute(delete(AuditHead).where(AuditHead.size < size))
    details: dict[str, str | int] = {"events": size, "root": root.hex()}
    append(session, Event.create(Action.AUDIT_PRUNED, now=now, actor=COMMAND_LINE, details=details))
    return checkpoint, sign_all(session, signer, now)


def _size(session: Session) -> int:
    last = store.last_head(session)
    return 0 if last is None else last.head.size


def _continues(session: Session, lost: Head, size: int) -> bool:
    if lost.size > size:
        return False
    last = store.last_head(session)
    assert last is not None  # size would be 0, and a head of no events is none
    proof = merkle.consistency_proof(
        lost.size, size, lambda level, index: store.node(session, level, index)
    )
    try:
        heads.check_extends(lost, last.head, proof)
    except BadProof:
        return False
    return True


def _last_head_before(session: Session, before: datetime) -> int:
    """Return the size of the last head over nothing but events from before a moment.

    The newest head stays: the log goes on from there.
    """
    numbered = AuditEvent.sequence.is_not(None)
    first = session.scalar(
        select(func.min(AuditEvent.sequence)).where(numbered, AuditEvent.at >= before)
    )
    oldest = session.scalar(select(func.min(AuditEvent.sequence)).where(numbered, _FORGETTABLE))
    newest = session.scalar(select(func.max(AuditHead.size)))
    if oldest is None or newest is None:
        raise NothingToPrune("the log is empty")
    fits = [AuditHead.size < newest, AuditHead.size > oldest]
    if first is not None:
        fits.append(AuditHead.size <= first)
    found = session.scalar(select(func.max(AuditHead.size)).where(*fits))
    if found is None:
        raise NothingToPrune("no signed head lies before that day, or all is forgotten already")
    return found


def sign_all(session: Session, signer: HeadSigner, now: datetime) -> SignedHead:
    """Number everything that waits, so that what was just declared is under a head."""
    newest: SignedHead | None = None
    while (signed := sequence(session, signer, now)) is not None:
        newest = signed
    assert newest is not None  # an event about it has just been appended
    return newest
