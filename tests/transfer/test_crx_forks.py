"""Logs that do not continue: rewritten, shown in two versions, or gone; and honest restores."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crx_institutions import House, found
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from medportal.audit import sequence as sequencer
from medportal.audit.append import append
from medportal.audit.checking import Kind
from medportal.audit.events import Action, Event
from medportal.audit.heads import HeadSigner, SignedHead
from medportal.audit.maintenance import declare_restore
from medportal.audit.models import AuditCredential, AuditEvent, AuditHead, AuditNode
from medportal.audit.verifier import latest_head, verify_session
from medportal.core.clock import utcnow
from medportal.delivery.conflicts import NONE, OTHER, SHORTER, conflicts
from medportal.delivery.models import PartnerHead, PartnerHeadConflict
from medportal.delivery.receipts import held_head
from medportal.ops.verify_log import CaTrust
from medportal.pki.profiles import Purpose
from medportal.tenancy.engines import make_engine
from medportal.transfer.stores import SqlReceiverStore, SqlSenderStore


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[House]:
    """Give the laboratory, whose log the hospitals watch."""
    made = found(tmp_path / "laboratory", "laboratory")
    yield made
    made.engine.dispose()


def hospital_of(directory: Path, laboratory: House) -> House:
    made = found(directory, "hospital")
    made.trust(laboratory)
    return made


@pytest.fixture
def hospital(tmp_path: Path, laboratory: House) -> Iterator[House]:
    made = hospital_of(tmp_path / "one", laboratory)
    yield made
    made.engine.dispose()


def signer_of(house: House) -> HeadSigner:
    return HeadSigner(house.id, house.keys.signer(Purpose.HEAD), house.keys.signer(Purpose.HEAD_PQ))


def grow(house: House, engine: Any = None, count: int = 1) -> None:
    """Let events happen and be signed, in the house's database or in another one."""
    engine = engine or house.engine
    with Session(engine) as session, session.begin():
        for _ in range(count):
            append(session, Event.create(Action.AUDIT_VIEWED, now=utcnow()))
        sequencer.sequence(session, signer_of(house), utcnow())


def rewrite(house: House) -> None:
    """Take an event out and sign everything anew, as the holder of the keys can."""
    with Session(house.engine) as session, session.begin():
        victim = session.scalars(select(AuditEvent.id).order_by(AuditEvent.sequence).limit(1)).one()
        bodies = session.scalars(
            select(AuditEvent.body).where(AuditEvent.id != victim).order_by(AuditEvent.sequence)
        ).all()
        for table in (AuditEvent, AuditNode, AuditHead, AuditCredential):
            session.execute(delete(table))
        for body in bodies:
            append(session, Event.from_bytes(body))
    grow(house)


def exchange(watcher: House, watched: House, engine: Any = None) -> bool:
    """Play the part of an exchange in which ``watched`` shows its head to ``watcher``."""
    store = SqlReceiverStore(watcher.engine, watcher.keys)
    held = store.welcome(watched.id, None, None, utcnow()).held
    shows = SqlSenderStore(engine or watched.engine, watched.keys, "one")
    own = shows.prepare(watcher.id, None, held, utcnow(), utcnow())
    return store.peer_head(watched.id, own.head, own.consistency, held, utcnow())


def refusals(house: House) -> list[Event]:
    with Session(house.engine) as session:
        bodies = session.scalars(
            select(AuditEvent.body)
            .where(AuditEvent.action == str(Action.PEER_REFUSED))
            .order_by(AuditEvent.at)
        )
        return [Event.from_bytes(body) for body in bodies]


def evidence(house: House) -> list[PartnerHeadConflict]:
    with Session(house.engine, expire_on_commit=False) as session:
        return list(session.scalars(select(PartnerHeadConflict)))


def held_by(house: House) -> SignedHead:
    with Session(house.engine) as session:
        held = held_head(session, "laboratory")
    assert held is not None
    return SignedHead.from_bytes(held.body)


def check(watched: House, *held: SignedHead, engine: Any = None) -> Any:
    with Session(engine or watched.engine) as session:
        return verify_session(
            session, tenant=watched.id, trust=CaTrust(watched.store.ca), held=held
        )


def test_a_log_that_its_own_institution_rewrote_is_caught_at_the_next_exchange(
    hospital: House, laboratory: House
) -> None:
    grow(laboratory, count=5)
    assert exchange(hospital, laboratory)
    before = held_by(hospital)
    rewrite(laboratory)
    grow(laboratory, count=3)
    # To itself the log is whole: every signature on it is real.
    assert check(laboratory).ok
    assert not exchange(hospital, laboratory)
    assert not exchange(hospital, laboratory)
    assert held_by(hospital) == before
    (kept,) = evidence(hospital)
    assert (kept.kind, kept.times, kept.settled_at) == (OTHER, 2, None)
    # Both signed heads are there: whoever has the certificate sees that both are real.
    for body in (kept.held, kept.shown):
        assert SignedHead.from_bytes(body).head.tenant == "laboratory"
    assert kept.held != kept.shown
    first, second = refusals(hospital)
    assert (first.details["new_evidence"], second.details["new_evidence"]) == (1, 0)
    finding = check(laboratory, before).finding
    assert finding is not None and finding.kind is Kind.FORKED


def test_a_log_shown_in_two_versions_to_two_partners_is_caught(
    hospital: House, laboratory: House, tmp_path: Path
) -> None:
    other = hospital_of(tmp_path / "two", laboratory)
    grow(laboratory, count=4)
    assert exchange(hospital, laboratory) and exchange(other, laboratory)
    with laboratory.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(laboratory.home / "portal.sqlite", tmp_path / "second.sqlite")
    second = make_engine(f"sqlite:///{tmp_path / 'second.sqlite'}")
    grow(laboratory, count=2)
    grow(laboratory, second, count=2)
    # Each version continues what was shown before, so each partner alone is content.
    assert exchange(hospital, laboratory)
    assert exchange(other, laboratory, second)
    heads = held_by(hospital), held_by(other)
    assert heads[0].head.size == heads[1].head.size
    # Together they are not, whichever version they are given to check, or none.
    for engine in (None, second):
        finding = check(laboratory, *heads, engine=engine).finding
        assert finding is not None and finding.kind is Kind.FORKED
    # Against a head of the other partner alone it shows, too.
    assert not check(laboratory, heads[1]).ok
    assert not check(laboratory, heads[0], engine=second).ok
    # And once either partner is shown the other version, it has the evidence.
    grow(laboratory, second)
    assert not exchange(hospital, laboratory, second)
    assert [each.kind for each in evidence(hospital)] == [OTHER]
    second.dispose()
    other.engine.dispose()


def test_a_log_that_became_shorter_or_is_gone_is_caught(
    hospital: House, laboratory: House, tmp_path: Path
) -> None:
    grow(laboratory, count=2)
    with laboratory.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(laboratory.home / "portal.sqlite", tmp_path / "older.sqlite")
    older = make_engine(f"sqlite:///{tmp_path / 'older.sqlite'}")
    grow(laboratory, count=2)
    assert exchange(hospital, laboratory)
    assert not exchange(hospital, laboratory, older)
    (kept,) = evidence(hospital)
    assert (kept.kind, kept.held_size, kept.shown_size) == (SHORTER, 4, 2)
    with Session(older) as session, session.begin():
        session.execute(delete(AuditHead))
    assert not exchange(hospital, laboratory, older)
    with Session(hospital.engine) as session, session.begin():
        session.execute(delete(PartnerHeadConflict))
    assert not exchange(hospital, laboratory, older)
    assert [each.kind for each in evidence(hospital)] == [NONE]
    older.dispose()


def test_a_partner_that_never_had_a_log_shows_none(hospital: House, laboratory: House) -> None:
    assert exchange(hospital, laboratory)
    assert not refusals(hospital) and not evidence(hospital)


def test_what_is_not_signed_is_no_evidence(hospital: House, laboratory: House) -> None:
    grow(laboratory)
    assert exchange(hospital, laboratory)
    store = SqlReceiverStore(hospital.engine, hospital.keys)
    held = store.welcome("laboratory", None, None, utcnow()).held
    body = bytearray(held_by(hospital).to_bytes())
    body[60] ^= 1
    assert not store.peer_head("laboratory", bytes(body), (), held, utcnow())
    assert not evidence(hospital)
    assert refusals(hospital)[0].details["new_evidence"] == 0


def test_a_restore_is_declared_believed_and_the_exchange_of_heads_goes_on(
    hospital: House, laboratory: House, tmp_path: Path
) -> None:
    grow(laboratory, count=2)
    with laboratory.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(laboratory.home / "portal.sqlite", tmp_path / "backup.sqlite")
    grow(laboratory, count=2)
    assert exchange(hospital, laboratory)
    with Session(laboratory.engine) as session:
        lost = latest_head(session)
    assert lost is not None
    backup = make_engine(f"sqlite:///{tmp_path / 'backup.sqlite'}")
    with Session(backup) as session, session.begin():
        said, _newest = declare_restore(session, signer_of(laboratory), lost.head, utcnow())
    assert not exchange(hospital, laboratory, backup)
    assert check(laboratory, held_by(hospital), engine=backup).explained == 1
    assert said.statement.tenant == "laboratory"
    with Session(hospital.engine) as session, session.begin():
        session.execute(delete(PartnerHead))
    assert exchange(hospital, laboratory, backup)
    grow(laboratory, backup)
    assert exchange(hospital, laboratory, backup)
    with Session(hospital.engine) as session:
        assert [each.times for each in conflicts(session)] == [1]
    backup.dispose()
