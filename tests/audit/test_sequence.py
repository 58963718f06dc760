"""The sequencer, on both kinds of database."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from medportal.audit import heads, merkle, store, verifier
from medportal.audit.append import append
from medportal.audit.errors import LogDamaged, MalformedHead
from medportal.audit.events import Event
from medportal.audit.heads import Head, HeadSigner
from medportal.audit.models import AuditCredential, AuditEvent, AuditHead, AuditNode
from medportal.audit.sequence import sequence

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Maker = Callable[..., Event]


def add(engine: Engine, make_event: Maker, *numbers: int) -> None:
    with Session(engine) as session, session.begin():
        for number in numbers:
            append(session, make_event(number))


def run(engine: Engine, signer: HeadSigner, **options: Any) -> heads.SignedHead | None:
    with Session(engine) as session, session.begin():
        return sequence(session, signer, NOW, **options)


def test_an_empty_log_gets_no_head(engine: Engine, signer: HeadSigner) -> None:
    assert run(engine, signer) is None
    with Session(engine) as session:
        assert verifier.latest_head(session) is None


def test_events_get_numbers_in_order_of_time(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    add(engine, make_event, 3, 1, 2)
    signed = run(engine, signer)
    assert signed is not None
    assert (signed.head.tenant, signed.head.size, signed.head.at) == ("hospital", 3, NOW)
    with Session(engine) as session:
        rows = session.scalars(select(AuditEvent).order_by(AuditEvent.sequence)).all()
        assert [row.sequence for row in rows] == [0, 1, 2]
        assert [Event.from_bytes(row.body).details["number"] for row in rows] == [1, 2, 3]


def test_batches_grow_the_tree_as_one_would(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    add(engine, make_event, *range(23))
    sizes = []
    while (signed := run(engine, signer, limit=5)) is not None:
        sizes.append(signed.head.size)
    assert sizes == [5, 10, 15, 20, 23]
    with Session(engine) as session:
        bodies = session.scalars(select(AuditEvent.body).order_by(AuditEvent.sequence)).all()
        frontier = merkle.Frontier()
        for body in bodies:
            frontier, _ = frontier.append(merkle.leaf_hash(body))
        newest = verifier.latest_head(session)
        assert newest is not None
        assert newest.head.root == frontier.root()


def test_stored_heads_verify_and_share_credentials(
    engine: Engine, signer: HeadSigner, authority: Any, make_event: Maker
) -> None:
    for number in range(3):
        add(engine, make_event, number)
        run(engine, signer)
    with Session(engine) as session:
        newest = verifier.latest_head(session)
        assert newest is not None
        head = heads.verify_head(newest, tenant="hospital", trust=authority.trust)
        assert head.size == 3
        assert session.scalar(select(func.count()).select_from(AuditCredential)) == 2
        second = verifier.head_of_size(session, 2)
        assert second is not None
        assert second.head.size == 2
        assert verifier.head_of_size(session, 7) is None


def test_proofs_from_storage_verify(engine: Engine, signer: HeadSigner, make_event: Maker) -> None:
    add(engine, make_event, *range(11))
    while run(engine, signer, limit=4) is not None:
        pass
    with Session(engine) as session:
        stored = {head.size: head.root for head in session.scalars(select(AuditHead))}
        assert sorted(stored) == [4, 8, 11]
        for old in stored:
            for new in (size for size in stored if size >= old):
                proof = verifier.consistency_proof(session, old, new)
                merkle.verify_consistency(old, new, stored[old], stored[new], proof)
        for row in session.scalars(select(AuditEvent)):
            assert row.sequence is not None
            proof = verifier.inclusion_proof(session, row.sequence, 11)
            leaf = merkle.leaf_hash(row.body)
            merkle.verify_inclusion(leaf, row.sequence, 11, proof, stored[11])


def test_the_work_of_a_batch_does_not_grow_with_the_log(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    def statements_for(numbers: range) -> int:
        add(engine, make_event, *numbers)
        seen: list[str] = []

        def count(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            seen.append(statement)

        event.listen(engine, "before_cursor_execute", count)
        run(engine, signer)
        event.remove(engine, "before_cursor_execute", count)
        return len(seen)

    run(engine, signer)
    add(engine, make_event, 1000)
    run(engine, signer)
    assert statements_for(range(10)) == statements_for(range(10, 200))


def test_no_query_reads_the_whole_log(
    engine: Engine, signer: HeadSigner, authority: Any, make_event: Maker
) -> None:
    if engine.dialect.name != "sqlite":
        return  # PostgreSQL plans by statistics, which a small table does not have.
    add(engine, make_event, *range(5))
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    run(engine, signer, limit=3)
    run(engine, signer)
    with Session(engine) as session:
        assert verifier.verify_session(session, tenant="hospital", trust=authority.trust).ok
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        for statement, parameters in seen:
            plan = str(
                connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
            )
            # What waits may be read as a whole: that index holds nothing else.
            rest = plan.replace("SCAN audit_event USING INDEX ix_audit_event_unsequenced", "")
            rest = rest.replace(
                "SCAN audit_event USING COVERING INDEX ix_audit_event_unsequenced", ""
            )
            assert "SCAN audit_event" not in rest, (statement, plan)
            assert "TEMP B-TREE" not in plan, (statement, plan)


def test_a_rolled_back_event_leaves_nothing(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    with Session(engine) as session:
        append(session, make_event(1))
        session.rollback()
    assert run(engine, signer) is None


def test_a_rolled_back_batch_is_taken_again(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    add(engine, make_event, 1, 2)
    with Session(engine) as session:
        sequence(session, signer, NOW)
        session.rollback()
    signed = run(engine, signer)
    assert signed is not None
    assert signed.head.size == 2


def test_sequencers_at_once_make_one_log(
    engine: Engine, signer: HeadSigner, authority: Any, make_event: Maker
) -> None:
    add(engine, make_event, *range(40))
    barrier = threading.Barrier(4)
    failures: list[Exception] = []

    def work() -> None:
        barrier.wait()
        try:
            for _ in range(10):
                run(engine, signer, limit=3)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Session(engine) as session:
        report = verifier.verify_session(session, tenant="hospital", trust=authority.trust)
    assert (report.ok, report.size, report.pending) == (True, 40, 0)


def test_numbers_and_nodes_are_unique(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    add(engine, make_event, 1, 2)
    run(engine, signer)
    with Session(engine) as session, pytest.raises(IntegrityError):
        session.execute(update(AuditEvent).values(sequence=0))
    with Session(engine) as session, pytest.raises(IntegrityError):
        store.add_nodes(session, [merkle.Node(0, 0, bytes(32))])


DAMAGES: dict[str, Callable[[Session], Any]] = {
    "heads gone": lambda s: s.execute(delete(AuditHead)),
    "last head gone": lambda s: s.execute(delete(AuditHead).where(AuditHead.size == 5)),
    "last event gone": lambda s: s.execute(delete(AuditEvent).where(AuditEvent.sequence == 4)),
    "events gone": lambda s: s.execute(delete(AuditEvent).where(AuditEvent.sequence >= 0)),
    "peak gone": lambda s: s.execute(delete(AuditNode).where(AuditNode.level == 2)),
    "peak changed": lambda s: s.execute(
        update(AuditNode).where(AuditNode.level == 2).values(hash=bytes(32))
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log_is_not_signed_again(
    engine: Engine, signer: HeadSigner, make_event: Maker, damage: str
) -> None:
    add(engine, make_event, *range(5))
    run(engine, signer, limit=3)
    run(engine, signer)
    add(engine, make_event, 6)
    with Session(engine) as session, session.begin():
        DAMAGES[damage](session)
    with pytest.raises(LogDamaged):
        run(engine, signer)


def test_a_head_that_cannot_be_read_stops_the_sequencer(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    add(engine, make_event, 1)
    run(engine, signer)
    add(engine, make_event, 2)
    with Session(engine) as session, session.begin():
        session.execute(update(AuditHead).values(root=bytes(32)))
    with pytest.raises(MalformedHead):
        run(engine, signer)


def test_the_log_of_another_institution_is_not_signed(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    add(engine, make_event, 1)
    run(engine, signer)
    add(engine, make_event, 2)
    with pytest.raises(LogDamaged, match="another institution"):
        run(engine, replace(signer, tenant="laboratory"))


def test_a_remembered_head_stops_a_rewritten_log(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    add(engine, make_event, *range(5))
    first = run(engine, signer, limit=3)
    second = run(engine, signer)
    assert first is not None
    assert second is not None
    add(engine, make_event, 6)
    assert run(engine, signer, pinned=first.head) is not None
    add(engine, make_event, 7)
    assert run(engine, signer, pinned=second.head) is not None
    add(engine, make_event, 8)
    beyond = Head("hospital", 99, bytes(32), NOW + timedelta(days=1))
    for pinned in (replace(first.head, root=bytes(32)), beyond):
        with pytest.raises(LogDamaged, match="last seen"):
            run(engine, signer, pinned=pinned)


def test_a_remembered_head_stops_a_log_begun_anew(
    engine: Engine, signer: HeadSigner, make_event: Maker
) -> None:
    add(engine, make_event, 1)
    pinned = Head("hospital", 1, bytes(32), NOW)
    with pytest.raises(LogDamaged, match="lost its heads"):
        run(engine, signer, pinned=pinned)


def test_missing_nodes_give_no_proof(engine: Engine, signer: HeadSigner, make_event: Maker) -> None:
    add(engine, make_event, *range(4))
    run(engine, signer)
    with Session(engine) as session, session.begin():
        session.execute(delete(AuditNode).where(AuditNode.level == 1))
        with pytest.raises(LogDamaged):
            verifier.inclusion_proof(session, 0, 4)
