"""Restores and checkpoints: what they excuse, and that they excuse nothing else."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.orm import Session

from medportal.audit import lines, merkle, store, verifier
from medportal.audit.append import append
from medportal.audit.checking import Kind, LoggedStatement, Report, verify_log
from medportal.audit.errors import (
    BadSignature,
    LogDamaged,
    MalformedHead,
    MalformedLine,
    NothingLost,
    NothingToPrune,
)
from medportal.audit.events import Action, Event
from medportal.audit.heads import Head, HeadSigner, SignedHead
from medportal.audit.maintenance import declare_restore, prune
from medportal.audit.models import AuditEvent, AuditHead, AuditNode, AuditStatement
from medportal.audit.sequence import sequence
from medportal.audit.statements import (
    Checkpoint,
    Restore,
    SignedStatement,
    from_body,
    sign_statement,
    to_body,
    verify_statement,
)
from medportal.core import canonical
from medportal.core.errors import MedportalError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=30)
RESTORE = Restore("hospital", 4, bytes(32), 10, bytes(32), NOW)
CHECKPOINT = Checkpoint("hospital", 4, bytes(32), NOW)
Maker = Callable[..., Event]


def grow(engine: Engine, signer: HeadSigner, make: Maker, numbers: range) -> SignedHead:
    with Session(engine) as session, session.begin():
        for number in numbers:
            append(session, make(number))
    with Session(engine) as session, session.begin():
        signed = sequence(session, signer, NOW + timedelta(minutes=numbers.stop))
    assert signed is not None
    return signed


@pytest.fixture
def log(engine: Engine, signer: HeadSigner, make_event: Maker) -> Engine:
    """Give a log of ten events, a second apart, under heads of sizes 4, 7 and 10."""
    for numbers in (range(4), range(4, 7), range(7, 10)):
        grow(engine, signer, make_event, numbers)
    return engine


def heads_of(log: Engine, *sizes: int) -> list[SignedHead]:
    with Session(log) as session:
        found = [store.head_of_size(session, size) for size in sizes]
    return [head for head in found if head is not None]


def check(log: Engine, authority: Any, held: tuple[SignedHead, ...] = ()) -> Report:
    """Verify the database and its export, which must agree."""
    with Session(log) as session:
        report = verifier.verify_session(
            session, tenant="hospital", trust=authority.trust, held=held
        )
    with Session(log) as session:
        found = list(verifier.export_lines(session, "hospital"))
    offline = lines.verify_lines(found, tenant="hospital", trust=authority.trust, held=held)
    assert replace(report, pending=None) == offline
    return report


def restore_to(log: Engine, size: int) -> None:
    """Make the database what it was when it had ``size`` events."""
    with Session(log) as session, session.begin():
        session.execute(delete(AuditEvent).where(AuditEvent.sequence >= size))
        session.execute(delete(AuditHead).where(AuditHead.size > size))
        for node in session.scalars(select(AuditNode)).all():
            if (node.index + 1) << node.level > size:
                session.delete(node)


def declared(log: Engine, signer: HeadSigner, lost: SignedHead, kept: int | None = None) -> None:
    with Session(log) as session, session.begin():
        declare_restore(session, signer, lost.head, LATER, kept)


# The statements themselves.


@pytest.mark.parametrize("statement", [RESTORE, CHECKPOINT], ids=["restore", "checkpoint"])
def test_a_statement_is_read_back_and_every_byte_of_it_counts(
    signer: HeadSigner, authority: Any, statement: Any
) -> None:
    signed = sign_statement(signer, statement)
    data = signed.to_bytes()
    assert SignedStatement.from_bytes(data) == signed
    assert verify_statement(signed, tenant="hospital", trust=authority.trust) == statement
    for at in range(len(to_body(statement))):
        flipped = bytearray(to_body(statement))
        flipped[at] ^= 1
        try:
            changed = replace(signed, statement=from_body(bytes(flipped)))
        except MalformedHead:
            continue
        with pytest.raises(MedportalError):
            verify_statement(changed, tenant="hospital", trust=authority.trust)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "other"},
        {"kind": None},
        {"tenant": 5},
        {"kept": -1},
        {"kept": True},
        {"kept": "4"},
        {"kept": 10},
        {"lost_size": 4},
        {"kept_root": b"short"},
        {"kept_root": None},
        {"lost_root": b"short"},
        {"lost_root": None},
        {"at": "now"},
        {"v": 2},
        {"more": 1},
    ],
    ids=lambda fields: "-".join(f"{k}-{v}" for k, v in fields.items()),
)
def test_what_is_not_well_formed_is_no_statement(fields: dict[str, Any]) -> None:
    whole = {**canonical.decode(to_body(RESTORE)), **fields}
    with pytest.raises(MalformedHead):
        from_body(canonical.encode(whole))


@pytest.mark.parametrize("body", [b"", b"\xa0", b"\x80", b"\x05", b"noise"])
def test_noise_is_no_statement(body: bytes) -> None:
    with pytest.raises(MalformedHead):
        from_body(body)


def test_a_head_is_no_statement_and_a_statement_no_head(signer: HeadSigner) -> None:
    head = signer.sign(Head("hospital", 4, bytes(32), NOW))
    with pytest.raises(MalformedHead):
        SignedStatement.from_bytes(head.to_bytes())
    with pytest.raises(MalformedHead):
        SignedHead.from_bytes(sign_statement(signer, RESTORE).to_bytes())


def test_signatures_of_another_label_do_not_hold(signer: HeadSigner, authority: Any) -> None:
    """Head keys sign heads and statements; one cannot pass for the other."""
    body = to_body(RESTORE)
    forged = SignedStatement(RESTORE, signer.sign_bytes("medportal log head 1", body))
    with pytest.raises(BadSignature):
        verify_statement(forged, tenant="hospital", trust=authority.trust)


def test_a_statement_of_another_institution_is_refused(signer: HeadSigner, authority: Any) -> None:
    with pytest.raises(BadSignature, match="another institution"):
        verify_statement(
            sign_statement(signer, RESTORE), tenant="laboratory", trust=authority.trust
        )


# Restores.


def test_after_a_restore_the_sequencer_waits_until_it_is_declared(
    log: Engine, signer: HeadSigner, authority: Any, make_event: Maker
) -> None:
    seven, pinned = heads_of(log, 7, 10)
    restore_to(log, 7)
    with Session(log) as session, session.begin():
        append(session, make_event(50))
    with Session(log) as session, pytest.raises(LogDamaged), session.begin():
        sequence(session, signer, NOW, pinned=pinned.head)
    with Session(log) as session, session.begin():
        said, newest = declare_restore(session, signer, pinned.head, LATER)
    assert said.statement == Restore("hospital", 7, seven.head.root, 10, pinned.head.root, LATER)
    # The waiting event and the one about the restore are under a head at once.
    assert newest.head.size == 9
    grown = grow(log, signer, make_event, range(60, 63))
    assert grown.head.size == 12
    report = check(log, authority)
    assert report.ok and report.restores == (said.statement,) and report.explained == 0
    with Session(log) as session:
        bodies = session.scalars(
            select(AuditEvent.body).where(AuditEvent.action == str(Action.RESTORED))
        )
        (event,) = map(Event.from_bytes, bodies)
    assert event.details == {"kept": 7, "lost": 3, "root": pinned.head.root.hex()}


def test_a_restore_explains_heads_of_the_lost_part_and_no_others(
    log: Engine, signer: HeadSigner, authority: Any, make_event: Maker
) -> None:
    four, seven, ten = heads_of(log, 4, 7, 10)
    restore_to(log, 4)
    declared(log, signer, ten)
    grow(log, signer, make_event, range(60, 70))
    report = check(log, authority, (four, seven, ten))
    assert report.ok and report.explained == 2
    # A fork before what was kept, and one after what was lost, stay forks.
    before = signer.sign(Head("hospital", 3, bytes(32), NOW))
    after = signer.sign(Head("hospital", 12, bytes(32), NOW))
    other = signer.sign(Head("hospital", 10, bytes(32), NOW))
    for forked in (before, after, other):
        finding = check(log, authority, (forked,)).finding
        assert finding is not None
        assert (finding.kind, finding.until) == (Kind.FORKED, forked.head.size)
    beyond = signer.sign(Head("hospital", 500, bytes(32), NOW))
    finding = check(log, authority, (beyond,)).finding
    assert finding is not None and finding.kind is Kind.TRUNCATED


def test_a_lost_head_beyond_the_log_is_explained(
    log: Engine, signer: HeadSigner, authority: Any
) -> None:
    (ten,) = heads_of(log, 10)
    restore_to(log, 4)
    declared(log, signer, ten)
    report = check(log, authority, (ten,))
    assert report.ok and (report.size, report.explained) == (5, 1)


def test_there_is_no_restore_to_declare_where_nothing_was_lost(
    log: Engine, signer: HeadSigner
) -> None:
    seven, ten = heads_of(log, 7, 10)
    for head in (seven, ten):
        with pytest.raises(NothingLost):
            declared(log, signer, head)
    forked = signer.sign(Head("hospital", 7, bytes(32), NOW))
    # Events were written after the restore: the operator has to say how many came before.
    with pytest.raises(ValueError, match="how many"):
        declared(log, signer, forked)
    for kept in (-1, 7, 11):
        with pytest.raises(ValueError, match="how many"):
            declared(log, signer, forked, kept)


def test_a_restore_found_out_later_is_declared_with_what_was_kept(
    log: Engine, signer: HeadSigner, authority: Any, make_event: Maker
) -> None:
    """The pin was restored too, so the log went on; a partner's head tells of it."""
    seven, ten = heads_of(log, 7, 10)
    restore_to(log, 4)
    grow(log, signer, make_event, range(60, 70))
    finding = check(log, authority, (seven, ten)).finding
    assert finding is not None and finding.kind is Kind.FORKED
    declared(log, signer, ten, kept=4)
    assert check(log, authority, (seven, ten)).explained == 2


def test_a_restore_into_nothing(log: Engine, signer: HeadSigner, authority: Any) -> None:
    (ten,) = heads_of(log, 10)
    restore_to(log, 0)
    declared(log, signer, ten)
    report = check(log, authority, (ten,))
    assert report.ok and report.size == 1 and report.restores[0].kept == 0


def resigned(log: Engine, signer: HeadSigner, **changes: Any) -> None:
    """Put a statement in place of the one there is, signed by the institution itself."""
    with Session(log) as session, session.begin():
        (said,) = store.statements(session)
        assert said is not None
        forge(session, sign_statement(signer, replace(said.statement, **changes)))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"kept": 0, "kept_root": merkle.EMPTY_ROOT, "lost_size": 4000}, Kind.BAD_STATEMENT),
        ({"lost_size": 4000}, Kind.BAD_STATEMENT),
        ({"lost_root": bytes(32)}, Kind.BAD_STATEMENT),
        ({"kept": 3}, Kind.REWRITTEN),
        ({"kept_root": bytes(32)}, Kind.REWRITTEN),
        ({"kept": 0}, Kind.REWRITTEN),
    ],
    ids=["everything", "more", "another-loss", "fewer", "another-tree", "nothing"],
)
def test_a_restore_is_believed_only_beside_its_event_and_on_its_tree(
    log: Engine,
    signer: HeadSigner,
    authority: Any,
    make_event: Maker,
    changes: dict[str, Any],
    kind: Kind,
) -> None:
    (ten,) = heads_of(log, 10)
    restore_to(log, 4)
    declared(log, signer, ten)
    grow(log, signer, make_event, range(60, 63))
    assert check(log, authority).ok
    resigned(log, signer, **changes)
    finding = check(log, authority, (ten,)).finding
    assert finding is not None and finding.kind is kind


def test_an_event_that_comes_before_what_was_kept_tells_of_no_restore(
    log: Engine, signer: HeadSigner, authority: Any
) -> None:
    """Somebody wrote the event into a log first, and fits a later restore to it."""
    later = Head("hospital", 99, bytes(32), NOW)
    details = Restore("hospital", 11, bytes(32), 99, bytes(32), NOW).details
    with Session(log) as session, session.begin():
        append(session, Event.create(Action.RESTORED, now=NOW, details=details))
        sequence(session, signer, NOW)
        said = Restore("hospital", 11, store.frontier(session, 11).root(), 99, bytes(32), LATER)
        forge(session, sign_statement(signer, said))
    finding = check(log, authority, (signer.sign(later),)).finding
    assert finding is not None and finding.kind is Kind.BAD_STATEMENT


def test_a_restore_beyond_the_log_is_no_excuse(
    log: Engine, signer: HeadSigner, authority: Any
) -> None:
    with Session(log) as session, session.begin():
        forge(session, sign_statement(signer, replace(RESTORE, kept=50, lost_size=60)))
    finding = check(log, authority).finding
    assert finding is not None and (finding.kind, finding.sequence) == (Kind.BAD_STATEMENT, 10)


def test_a_head_signed_after_the_restore_is_no_lost_one(
    log: Engine, signer: HeadSigner, authority: Any
) -> None:
    (ten,) = heads_of(log, 10)
    restore_to(log, 4)
    declared(log, signer, ten)
    fork = signer.sign(Head("hospital", 7, bytes(32), LATER + timedelta(seconds=1)))
    finding = check(log, authority, (ten, fork)).finding
    assert finding is not None and finding.kind is Kind.TRUNCATED
    excused = check(log, authority, (ten,))
    assert excused.ok and excused.is_excused and not check(log, authority).is_excused


def test_pruning_keeps_the_event_that_tells_of_a_restore(
    log: Engine, signer: HeadSigner, authority: Any, make_event: Maker
) -> None:
    (ten,) = heads_of(log, 10)
    restore_to(log, 4)
    with Session(log) as session, session.begin():
        declare_restore(session, signer, ten.head, NOW + timedelta(minutes=20))
    grow(log, signer, make_event, range(3000, 3003))
    grow(log, signer, make_event, range(6000, 6003))
    assert pruned(log, signer, 5000).size == 8
    report = check(log, authority, (ten,))
    assert report.is_excused and report.forgotten == 8
    with pytest.raises(NothingToPrune):
        pruned(log, signer, 5000)


# Pruning.


def pruned(log: Engine, signer: HeadSigner, seconds: int) -> Checkpoint:
    with Session(log) as session, session.begin():
        checkpoint, _head = prune(session, signer, NOW + timedelta(seconds=seconds), LATER)
    return checkpoint


def test_pruning_forgets_words_and_the_rest_verifies(
    log: Engine, signer: HeadSigner, authority: Any, make_event: Maker
) -> None:
    held = tuple(heads_of(log, 4, 7, 10))
    checkpoint = pruned(log, signer, 8)
    assert (checkpoint.size, checkpoint.root) == (7, held[1].head.root)
    with Session(log) as session:
        lowest = session.scalar(select(func.min(AuditEvent.sequence)))
        assert (lowest, session.scalar(select(func.min(AuditHead.size)))) == (7, 7)
    grow(log, signer, make_event, range(60, 63))
    report = check(log, authority, held)
    assert report.ok and (report.forgotten, report.size) == (7, 14)
    # Heads of before can still be compared, to the last bit.
    fork = signer.sign(Head("hospital", 3, bytes(32), NOW))
    finding = check(log, authority, (fork,)).finding
    assert finding is not None and (finding.kind, finding.until) == (Kind.FORKED, 3)
    assert pruned(log, signer, 10_000).size > 7
    assert check(log, authority, held).ok


def test_events_that_come_late_are_not_forgotten_with_older_ones(
    log: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    """Numbers are given by arrival: a head over a younger event is not reached."""
    grow(log, signer, make_event, range(3, 4))
    assert pruned(log, signer, 5).size == 4


def test_what_is_pruned_already_or_too_young_is_said(log: Engine, signer: HeadSigner) -> None:
    with pytest.raises(NothingToPrune):
        pruned(log, signer, 2)
    pruned(log, signer, 5)
    with pytest.raises(NothingToPrune):
        pruned(log, signer, 5)


def test_an_empty_log_has_nothing_to_prune(engine: Engine, signer: HeadSigner) -> None:
    with pytest.raises(NothingToPrune):
        pruned(engine, signer, 5)


def test_a_tree_that_was_changed_gets_no_checkpoint(log: Engine, signer: HeadSigner) -> None:
    with Session(log) as session, session.begin():
        session.execute(update(AuditNode).where(AuditNode.level == 2).values(hash=bytes(32)))
    with pytest.raises(LogDamaged):
        pruned(log, signer, 8)


def forge(session: Session, signed: SignedStatement) -> None:
    session.execute(delete(AuditStatement))
    store.add_statement(session, signed)


def lose_statement(s: Session) -> None:
    s.execute(delete(AuditStatement))


def prune_more(s: Session) -> None:
    s.execute(delete(AuditEvent).where(AuditEvent.sequence == 7))


def lose_old_leaf(s: Session) -> None:
    s.execute(delete(AuditNode).where(AuditNode.level == 0, AuditNode.index == 2))


def change_old_leaf(s: Session) -> None:
    of = (AuditNode.level == 0) & (AuditNode.index == 2)
    s.execute(update(AuditNode).where(of).values(hash=bytes(32)))


def spoil_body(s: Session) -> None:
    s.execute(update(AuditStatement).values(body=b"noise"))


def spoil_time(s: Session) -> None:
    s.execute(update(AuditStatement).values(at=NOW))


def spoil_signatures(s: Session) -> None:
    s.execute(update(AuditStatement).values(signatures=b"\x80"))


def cut_before_the_checkpoint(s: Session) -> None:
    s.execute(delete(AuditEvent))
    s.execute(delete(AuditHead))
    s.execute(delete(AuditNode).where(AuditNode.level == 0, AuditNode.index >= 4))


def bring_back_a_forgery(s: Session) -> None:
    event = Event.from_bytes(s.scalars(select(AuditEvent.body).limit(1)).one())
    event = replace(event, id="f" * 32)
    append(s, event)
    s.execute(update(AuditEvent).where(AuditEvent.id == event.id).values(sequence=2))


@pytest.mark.parametrize(
    ("tamper", "kind", "sequence_"),
    [
        (lose_statement, Kind.DELETED, 0),
        (prune_more, Kind.DELETED, 7),
        (lose_old_leaf, Kind.DELETED, 2),
        (change_old_leaf, Kind.REWRITTEN, 0),
        (spoil_body, Kind.BAD_STATEMENT, 0),
        (spoil_time, Kind.BAD_STATEMENT, 0),
        (spoil_signatures, Kind.BAD_STATEMENT, 0),
        (cut_before_the_checkpoint, Kind.UNSIGNED, 0),
        (bring_back_a_forgery, Kind.EDITED, 2),
    ],
)
def test_tampering_with_a_pruned_log_is_named(
    log: Engine,
    signer: HeadSigner,
    authority: Any,
    tamper: Callable[[Session], None],
    kind: Kind,
    sequence_: int,
) -> None:
    pruned(log, signer, 8)
    with Session(log) as session, session.begin():
        tamper(session)
    finding = check(log, authority).finding
    assert finding is not None
    assert (finding.kind, finding.sequence) == (kind, sequence_)


def test_a_statement_needs_the_institutions_own_signature(
    log: Engine, signer: HeadSigner, stranger: Any, authority: Any
) -> None:
    pruned(log, signer, 8)
    with Session(log) as session, session.begin():
        session.execute(delete(AuditEvent).where(AuditEvent.sequence < 10))
        forge(
            session,
            sign_statement(stranger.head_signer(), Checkpoint("hospital", 10, b"r" * 32, NOW)),
        )
    finding = check(log, authority).finding
    assert finding is not None and finding.kind is Kind.BAD_STATEMENT


def test_a_checkpoint_of_another_tree_is_named(
    log: Engine, signer: HeadSigner, authority: Any
) -> None:
    with Session(log) as session, session.begin():
        forge(session, sign_statement(signer, Checkpoint("hospital", 4, bytes(32), NOW)))
    finding = check(log, authority).finding
    assert finding is not None and (finding.kind, finding.until) == (Kind.REWRITTEN, 4)


def test_a_checkpoint_beyond_the_log_is_named(
    log: Engine, signer: HeadSigner, authority: Any
) -> None:
    with Session(log) as session, session.begin():
        forge(session, sign_statement(signer, Checkpoint("hospital", 40, bytes(32), NOW)))
    finding = check(log, authority).finding
    assert finding is not None
    assert (finding.kind, finding.sequence, finding.until) == (Kind.TRUNCATED, 10, 40)


def test_a_statement_that_comes_late_is_out_of_place(
    log: Engine, signer: HeadSigner, authority: Any
) -> None:
    with Session(log) as session:
        entries = list(verifier.log_entries(session))
    late = [*entries, LoggedStatement(sign_statement(signer, RESTORE))]
    finding = verify_log(late, tenant="hospital", trust=authority.trust).finding
    assert finding is not None and (finding.kind, finding.sequence) == (Kind.BAD_STATEMENT, 10)


def test_two_heads_of_one_size_are_a_fork_without_any_log(
    signer: HeadSigner, authority: Any
) -> None:
    one, other = (signer.sign(Head("hospital", 5, root * 32, NOW)) for root in (b"a", b"b"))
    finding = verify_log([], tenant="hospital", trust=authority.trust, held=(one, other)).finding
    assert finding is not None and (finding.kind, finding.until) == (Kind.FORKED, 5)


def test_an_unreadable_statement_travels_with_the_export(log: Engine, signer: HeadSigner) -> None:
    with Session(log) as session, session.begin():
        session.execute(
            insert(AuditStatement).values(digest=b"d", at=NOW, body=b"noise", signatures=b"\x80")
        )
    with Session(log) as session:
        found = list(verifier.export_lines(session, "hospital"))
    assert '"statement":null' in found[1]
    with pytest.raises(MalformedLine):
        list(lines.from_lines([found[0], found[1].replace("null", '"AAAA"')]))


def test_the_empty_tree_is_no_checkpoint_of_anything(
    engine: Engine, signer: HeadSigner, authority: Any
) -> None:
    with Session(engine) as session, session.begin():
        forge(session, sign_statement(signer, Checkpoint("hospital", 0, merkle.EMPTY_ROOT, NOW)))
    assert check(engine, authority).ok
