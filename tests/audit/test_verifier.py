"""Every kind of tampering is found and named, in the database and in an exported file."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.orm import Session

from medportal.audit import lines, merkle, store, verifier
from medportal.audit.append import append
from medportal.audit.checking import Kind, LoggedHead, Position, Report, verify_log
from medportal.audit.errors import BadSignature, MalformedLine
from medportal.audit.events import Event
from medportal.audit.heads import Credential, Head, HeadSigner, SignedHead
from medportal.audit.models import AuditCredential, AuditEvent, AuditHead, AuditNode
from medportal.audit.sequence import sequence
from medportal.tenancy.engines import reading

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Maker = Callable[..., Event]


@pytest.fixture
def log(engine: Engine, signer: HeadSigner, make_event: Maker) -> Engine:
    """Give a log of twelve events under heads of sizes 5, 10 and 12."""
    for numbers in (range(5), range(5, 10), range(10, 12)):
        with Session(engine) as session, session.begin():
            for number in numbers:
                append(session, make_event(number))
        with Session(engine) as session, session.begin():
            sequence(session, signer, NOW)
    return engine


def check(log: Engine, authority: Any, held: tuple[SignedHead, ...] = ()) -> Report:
    """Verify the database and its export, which must agree."""
    with Session(log) as session:
        report = verifier.verify_session(
            session, tenant="hospital", trust=authority.trust, held=held
        )
        exported = list(verifier.export_lines(session, "hospital"))
    offline = lines.verify_lines(exported, tenant="hospital", trust=authority.trust, held=held)
    assert replace(report, pending=None) == offline
    return report


def heads_of(log: Engine) -> list[SignedHead]:
    with Session(log) as session:
        found = [store.head_of_size(session, size) for size in (5, 10, 12)]
    return [head for head in found if head is not None]


def at(number: int) -> Any:
    return AuditEvent.sequence == number


def leaf(number: int) -> Any:
    return (AuditNode.level == 0) & (AuditNode.index == number)


def body_of(session: Session, number: int) -> bytes:
    return session.scalars(select(AuditEvent.body).where(at(number))).one()


def forged(session: Session, number: int) -> bytes:
    event = Event.from_bytes(body_of(session, number))
    return replace(event, reasons=("role-any",)).to_bytes()


def move(session: Session, old: int, new: int) -> None:
    session.execute(update(AuditEvent).where(at(old)).values(sequence=new))


def insert_event(session: Session, number: int | None, event: Event) -> None:
    append(session, event)
    session.execute(update(AuditEvent).where(AuditEvent.id == event.id).values(sequence=number))


def an_event(session: Session) -> Event:
    event = Event.from_bytes(body_of(session, 0))
    return replace(event, id="f" * 32)


# Each tampering changes the log as somebody with write access to the database could.


def edit(s: Session) -> None:
    s.execute(update(AuditEvent).where(at(3)).values(body=forged(s, 3)))


def edit_into_noise(s: Session) -> None:
    s.execute(update(AuditEvent).where(at(3)).values(body=b"noise"))


def edit_with_leaf(s: Session) -> None:
    body = forged(s, 7)
    s.execute(update(AuditEvent).where(at(7)).values(body=body))
    s.execute(update(AuditNode).where(leaf(7)).values(hash=merkle.leaf_hash(body)))


def edit_leaf_only(s: Session) -> None:
    s.execute(update(AuditNode).where(leaf(3)).values(hash=bytes(32)))


def rebuild(s: Session) -> None:
    """Make the whole tree and every stored root fit an edited event."""
    edit(s)
    s.execute(delete(AuditNode))
    frontier, roots = merkle.Frontier(), [merkle.EMPTY_ROOT]
    for body in s.scalars(select(AuditEvent.body).order_by(AuditEvent.sequence)).all():
        frontier, nodes = frontier.append(merkle.leaf_hash(body))
        store.add_nodes(s, nodes)
        roots.append(frontier.root())
    for row in s.scalars(select(AuditHead)).all():
        row.root = roots[row.size]
        row.body = replace(Head.from_bytes(row.body), root=row.root).to_bytes()


def relabel(**values: Any) -> Callable[[Session], None]:
    def tamper(s: Session) -> None:
        s.execute(update(AuditEvent).where(at(3)).values(values))

    return tamper


def delete_event(s: Session) -> None:
    s.execute(delete(AuditEvent).where(at(3)))


def delete_event_and_leaf(s: Session) -> None:
    delete_event(s)
    s.execute(delete(AuditNode).where(leaf(3)))


def delete_before_a_head(s: Session) -> None:
    s.execute(delete(AuditEvent).where(at(4)))
    s.execute(delete(AuditNode).where(leaf(4)))


def delete_and_move_up(s: Session) -> None:
    delete_event(s)
    for number in range(4, 12):
        move(s, number, number - 1)


def hide_as_unsequenced(s: Session) -> None:
    s.execute(update(AuditEvent).where(at(3)).values(sequence=None))


def push_in(s: Session) -> None:
    for number in reversed(range(3, 12)):
        move(s, number, number + 1)
    insert_event(s, 3, an_event(s))


def add_at_the_end(s: Session) -> None:
    insert_event(s, 12, an_event(s))


def add_at_the_end_with_leaf(s: Session) -> None:
    insert_event(s, 12, an_event(s))
    store.add_nodes(s, [merkle.Node(0, 12, merkle.leaf_hash(body_of(s, 12)))])


def add_before_the_start(s: Session) -> None:
    insert_event(s, -1, an_event(s))


def delete_leaf(s: Session) -> None:
    s.execute(delete(AuditNode).where(leaf(3)))


def swap(s: Session) -> None:
    for old, new in ((2, 99), (7, 2), (99, 7)):
        move(s, old, new)


def swap_bodies(s: Session) -> None:
    first, second = body_of(s, 2), body_of(s, 3)
    s.execute(update(AuditEvent).where(at(2)).values(body=second))
    s.execute(update(AuditEvent).where(at(3)).values(body=first))


def move_to_the_end(s: Session) -> None:
    move(s, 3, 12)


def cut_events(s: Session) -> None:
    s.execute(delete(AuditEvent).where(AuditEvent.sequence >= 8))


def cut_events_and_leaves(s: Session) -> None:
    cut_events(s)
    s.execute(delete(AuditNode).where(AuditNode.level == 0, AuditNode.index >= 8))


def cut_everything(s: Session) -> None:
    s.execute(delete(AuditEvent))
    s.execute(delete(AuditNode))


def drop_last_head(s: Session) -> None:
    s.execute(delete(AuditHead).where(AuditHead.size == 12))


def drop_heads(s: Session) -> None:
    s.execute(delete(AuditHead))


def spoil_head(**values: Any) -> Callable[[Session], None]:
    def tamper(s: Session) -> None:
        s.execute(update(AuditHead).where(AuditHead.size == 10).values(values))

    return tamper


def spoil_signature(s: Session) -> None:
    row = s.get_one(AuditHead, 10)
    other = s.get_one(AuditHead, 12)
    row.signatures = other.signatures


def drop_credentials(s: Session) -> None:
    s.execute(delete(AuditCredential))


def spoil_credentials(s: Session) -> None:
    digest = s.scalars(select(AuditCredential.digest)).first()
    s.execute(update(AuditCredential).where(AuditCredential.digest == digest).values(body=b"noise"))


def swap_credentials(s: Session) -> None:
    s.execute(update(AuditCredential).values(body=Credential((), None).to_bytes()))


TAMPERINGS: list[tuple[Callable[[Session], None], Kind, int, int]] = [
    (edit, Kind.EDITED, 3, 4),
    (edit_into_noise, Kind.EDITED, 3, 4),
    (edit_with_leaf, Kind.REWRITTEN, 5, 10),
    (edit_leaf_only, Kind.EDITED, 3, 4),
    (rebuild, Kind.BAD_HEAD, 5, 6),
    (relabel(patient=None), Kind.MISLABELLED, 3, 4),
    (relabel(actor="9" * 32), Kind.MISLABELLED, 3, 4),
    (relabel(object="9" * 32), Kind.MISLABELLED, 3, 4),
    (relabel(action="sign-in"), Kind.MISLABELLED, 3, 4),
    (relabel(outcome="denied"), Kind.MISLABELLED, 3, 4),
    (relabel(at=NOW), Kind.MISLABELLED, 3, 4),
    (relabel(id="9" * 32), Kind.MISLABELLED, 3, 4),
    (delete_event, Kind.DELETED, 3, 4),
    (delete_event_and_leaf, Kind.DELETED, 3, 4),
    (delete_before_a_head, Kind.DELETED, 4, 5),
    (delete_and_move_up, Kind.DELETED, 3, 4),
    (hide_as_unsequenced, Kind.DELETED, 3, 4),
    (push_in, Kind.INSERTED, 3, 4),
    (add_at_the_end, Kind.INSERTED, 12, 13),
    (add_at_the_end_with_leaf, Kind.UNSIGNED, 12, 13),
    (add_before_the_start, Kind.INSERTED, -1, 0),
    (delete_leaf, Kind.INSERTED, 3, 4),
    (swap, Kind.REORDERED, 2, 3),
    (swap_bodies, Kind.REORDERED, 2, 3),
    (move_to_the_end, Kind.REORDERED, 3, 4),
    (cut_events, Kind.TRUNCATED, 8, 9),
    (cut_events_and_leaves, Kind.TRUNCATED, 8, 9),
    (cut_everything, Kind.TRUNCATED, 0, 1),
    (drop_last_head, Kind.UNSIGNED, 10, 12),
    (drop_heads, Kind.UNSIGNED, 0, 12),
    (spoil_head(body=b"noise"), Kind.BAD_HEAD, 10, 11),
    (spoil_head(root=bytes(32)), Kind.BAD_HEAD, 10, 11),
    (spoil_head(at=NOW + timedelta(days=1)), Kind.BAD_HEAD, 10, 11),
    (spoil_head(size=11), Kind.BAD_HEAD, 11, 12),
    (spoil_head(signatures=b"noise"), Kind.BAD_HEAD, 10, 11),
    (spoil_head(signatures=b"\x81\x05"), Kind.BAD_HEAD, 10, 11),
    (spoil_head(signatures=b"\x80"), Kind.BAD_HEAD, 10, 11),
    (spoil_signature, Kind.BAD_HEAD, 10, 11),
    (drop_credentials, Kind.BAD_HEAD, 5, 6),
    (spoil_credentials, Kind.BAD_HEAD, 5, 6),
    (swap_credentials, Kind.BAD_HEAD, 5, 6),
]


def test_a_whole_log_is_good(log: Engine, authority: Any) -> None:
    report = check(log, authority, tuple(heads_of(log)))
    assert (report.ok, report.finding, report.size, report.heads) == (True, None, 12, 3)
    assert report.head == heads_of(log)[-1].head
    assert report.root == heads_of(log)[-1].head.root
    assert report.pending == 0


def test_an_empty_log_is_good(engine: Engine, authority: Any) -> None:
    report = check(engine, authority)
    assert (report.ok, report.size, report.root) == (True, 0, merkle.EMPTY_ROOT)
    assert report.head is None


def test_events_that_wait_are_counted(log: Engine, authority: Any, make_event: Maker) -> None:
    with Session(log) as session, session.begin():
        append(session, make_event(50))
    report = check(log, authority)
    assert (report.ok, report.pending) == (True, 1)


@pytest.mark.parametrize(("tamper", "kind", "start", "until"), TAMPERINGS)
def test_tampering_is_named(
    log: Engine,
    authority: Any,
    tamper: Callable[[Session], None],
    kind: Kind,
    start: int,
    until: int,
) -> None:
    with Session(log) as session, session.begin():
        tamper(session)
    finding = check(log, authority).finding
    assert finding is not None
    assert (finding.kind, finding.sequence, finding.until) == (kind, start, until)
    assert finding.why


def test_a_finding_names_the_event_there(log: Engine, authority: Any) -> None:
    with Session(log) as session, session.begin():
        edit(session)
        expected = session.scalars(select(AuditEvent.id).where(at(3))).one()
    finding = check(log, authority).finding
    assert finding is not None
    assert finding.event_id == expected


def test_an_event_that_was_noise_when_sequenced_is_named(
    log: Engine, authority: Any, signer: HeadSigner, make_event: Maker
) -> None:
    with Session(log) as session, session.begin():
        event = make_event(50)
        append(session, event)
        session.execute(update(AuditEvent).where(AuditEvent.id == event.id).values(body=b"noise"))
    with Session(log) as session, session.begin():
        sequence(session, signer, NOW)
    finding = check(log, authority).finding
    assert finding is not None
    assert (finding.kind, finding.sequence) == (Kind.UNREADABLE, 12)


def cut_back_to_a_head(s: Session) -> None:
    s.execute(delete(AuditEvent).where(AuditEvent.sequence >= 10))
    s.execute(delete(AuditNode).where(AuditNode.level == 0, AuditNode.index >= 10))
    s.execute(delete(AuditHead).where(AuditHead.size > 10))


def test_a_clean_cut_shows_only_against_a_head_held_elsewhere(log: Engine, authority: Any) -> None:
    held = heads_of(log)
    with Session(log) as session, session.begin():
        cut_back_to_a_head(session)
    assert check(log, authority, tuple(held[:2])).ok
    finding = check(log, authority, tuple(held)).finding
    assert finding is not None
    assert (finding.kind, finding.sequence, finding.until) == (Kind.TRUNCATED, 10, 12)


def test_a_log_rewritten_by_the_key_holder_shows_against_a_head_held_elsewhere(
    log: Engine, authority: Any, signer: HeadSigner
) -> None:
    held = heads_of(log)
    with Session(log) as session, session.begin():
        edit(session)
        session.execute(delete(AuditNode))
        session.execute(delete(AuditHead))
        session.execute(update(AuditEvent).values(sequence=None))
    with Session(log) as session, session.begin():
        sequence(session, signer, NOW)
    assert check(log, authority).ok
    finding = check(log, authority, (held[2], held[1])).finding
    assert finding is not None
    assert (finding.kind, finding.sequence, finding.until) == (Kind.FORKED, 0, 10)


def test_a_held_head_is_checked_first(log: Engine, authority: Any) -> None:
    held = heads_of(log)[0]
    forged = replace(held, head=replace(held.head, root=bytes(32)))
    with pytest.raises(BadSignature):
        check(log, authority, (forged,))


def test_an_empty_head_held_elsewhere_fits_any_log(
    log: Engine, authority: Any, signer: HeadSigner
) -> None:
    nothing = signer.sign(Head("hospital", 0, merkle.EMPTY_ROOT, NOW))
    assert check(log, authority, (nothing,)).ok
    odd = signer.sign(Head("hospital", 0, bytes(32), NOW))
    finding = check(log, authority, (odd,)).finding
    assert finding is not None
    assert (finding.kind, finding.sequence, finding.until) == (Kind.FORKED, 0, 0)


def test_the_log_of_another_institution_is_not_this_one(log: Engine, authority: Any) -> None:
    with Session(log) as session:
        report = verifier.verify_session(session, tenant="laboratory", trust=authority.trust)
    assert report.finding is not None
    assert report.finding.kind is Kind.BAD_HEAD


def test_another_authority_does_not_do(log: Engine, stranger: Any) -> None:
    finding = check(log, stranger).finding
    assert finding is not None
    assert finding.kind is Kind.BAD_HEAD


def test_pages_join(
    log: Engine, authority: Any, make_event: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = check(log, authority)
    for page in (1, 2, 5, 12):
        monkeypatch.setattr(store, "PAGE", page)
        assert check(log, authority) == whole


def test_what_is_sequenced_while_reading_is_left_out(
    log: Engine, authority: Any, signer: HeadSigner, make_event: Maker
) -> None:
    with Session(reading(log)) as reader:
        entries = verifier.log_entries(reader)
        first = next(entries)
        with Session(log) as writer, writer.begin():
            append(writer, make_event(50))
        with Session(log) as writer, writer.begin():
            sequence(writer, signer, NOW)
        report = verify_log([first, *entries], tenant="hospital", trust=authority.trust)
    assert (report.ok, report.size, report.heads) == (True, 12, 3)


# Streams that no database gives, but a file may.


def test_a_head_that_comes_too_late_or_twice(log: Engine, authority: Any) -> None:
    with Session(log) as session:
        entries = list(verifier.log_entries(session))
    first = next(entry for entry in entries if isinstance(entry, LoggedHead))
    twice = [*entries[:6], first, *entries[6:]]
    assert verify_log(twice, tenant="hospital", trust=authority.trust).ok
    late = [*(entry for entry in entries if entry != first), first]
    report = verify_log(late, tenant="hospital", trust=authority.trust)
    assert report.finding is not None
    assert (report.finding.kind, report.finding.sequence) == (Kind.BAD_HEAD, 5)


def test_a_number_that_comes_twice(log: Engine, authority: Any) -> None:
    with Session(log) as session:
        entries = list(verifier.log_entries(session))
    doubled = [*entries[:3], *entries[2:]]
    report = verify_log(doubled, tenant="hospital", trust=authority.trust)
    assert report.finding is not None
    assert (report.finding.kind, report.finding.sequence) == (Kind.INSERTED, 2)


def test_labels_may_be_left_out(log: Engine, authority: Any) -> None:
    with Session(log) as session:
        entries = list(verifier.log_entries(session))
    bare = [replace(e, labels=None) if isinstance(e, Position) else e for e in entries]
    exported = list(lines.to_lines(bare, "hospital"))
    assert lines.verify_lines(exported, tenant="hospital", trust=authority.trust).ok


def test_an_export_is_verified_from_a_file(log: Engine, authority: Any, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Session(log) as session, path.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in verifier.export_lines(session, "hospital"))
    with path.open(encoding="utf-8") as file:
        assert lines.verify_lines(file, tenant="hospital", trust=authority.trust).size == 12


def exported(log: Engine) -> list[str]:
    with Session(log) as session:
        return list(verifier.export_lines(session, "hospital"))


def test_an_export_names_credentials_once(log: Engine) -> None:
    kinds = [json.loads(line)["type"] for line in exported(log)]
    assert kinds[0] == "log"
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "log": 1,
        "event": 12,
        "credential": 2,
        "head": 3,
    }


def test_every_line_left_out_is_noticed(log: Engine, authority: Any) -> None:
    """Except the last head with its events, which only a head held elsewhere can show."""
    all_lines = exported(log)
    for place in range(len(all_lines)):
        rest = [*all_lines[:place], *all_lines[place + 1 :]]
        kind = json.loads(all_lines[place])["type"]
        try:
            report = lines.verify_lines(rest, tenant="hospital", trust=authority.trust)
        except MalformedLine:
            assert kind in {"log", "credential"}
            continue
        # An inner head is not needed: the later one covers the same events.
        covered = kind == "head" and place < len(all_lines) - 1
        assert report.ok == covered


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("log", {"format": 2}),
    ("log", {"more": 1}),
    ("log", {"type": "event"}),
    ("event", {"type": "log"}),
    ("event", {"type": "other"}),
    ("event", {"sequence": "0"}),
    ("event", {"sequence": True}),
    ("event", {"body": "*"}),
    ("event", {"body": "é"}),
    ("event", {"body": 5}),
    ("event", {"labels": {"id": "x"}}),
    ("event", {"labels": []}),
    ("head", {"size": None}),
    ("head", {"head": "AAAA"}),
    ("head", {"signatures": None}),
    ("head", {"signatures": [{}]}),
    ("credential", {"chain": None}),
    ("credential", {"chain": [5]}),
]


@pytest.mark.parametrize(("kind", "changes"), CHANGES)
def test_a_malformed_line_is_named(
    log: Engine, authority: Any, kind: str, changes: dict[str, Any]
) -> None:
    all_lines = exported(log)
    place = next(i for i, line in enumerate(all_lines) if json.loads(line)["type"] == kind)
    all_lines[place] = json.dumps({**json.loads(all_lines[place]), **changes})
    with pytest.raises(MalformedLine, match=f"line {place + 1} cannot"):
        lines.verify_lines(all_lines, tenant="hospital", trust=authority.trust)


@pytest.mark.parametrize("line", ["", "{", "[]", "5", "[" * 200_000, "x" * (lines.MAX_LINE + 1)])
def test_noise_is_no_line(line: str, authority: Any) -> None:
    with pytest.raises(MalformedLine, match="line 1 cannot"):
        lines.verify_lines([line], tenant="hospital", trust=authority.trust)


def test_nothing_cascades(log: Engine) -> None:
    """Deleting events deletes nothing else: no row of the log hangs on another."""
    with Session(log) as session, session.begin():
        session.execute(delete(AuditEvent))
        session.execute(delete(AuditCredential))
        assert session.scalars(select(AuditHead.size).order_by(AuditHead.size)).all() == [5, 10, 12]
        session.execute(insert(AuditNode).values(level=0, index=99, hash=bytes(32)))
