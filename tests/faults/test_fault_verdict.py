"""The verdict of a run finds what it is there to find: a doctored database does not pass."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, StaticPool, create_engine, delete, insert, update
from sqlalchemy.orm import Session

from faults import verdict
from faults.clerk import FAMILY, NOTES
from faults.world import WorldError
from medportal.audit.models import AuditEvent
from medportal.db import Base
from medportal.delivery.models import Inbox, Outbox
from medportal.records.models import Record, RecordVersion

NOW = datetime(2026, 5, 1, tzinfo=UTC)
VERSIONS = 3
TABLES = [each.__table__ for each in (Outbox, Inbox, Record, RecordVersion, AuditEvent)]
RECORD, LOCAL = "a" * 32, "b" * 32
NUMBER = "17000101"


def tid(version: int) -> str:
    return f"{version:032x}"


def digest(version: int) -> bytes:
    return bytes([version]) * 32


@dataclass
class Books:
    """What the verdict asks of an institution, over a database in memory."""

    engine: Engine
    logs: Path
    says: dict[str, Any] = field(default_factory=lambda: {"finding": "whole", "wrong": 0})

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with Session(self.engine) as session:
            yield session

    def command(self, *words: str) -> str:
        if self.says.get("status"):
            raise WorldError("audit verify: 1")
        return json.dumps(self.says)

    def do(self, statement: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(statement)


def sent(version: int) -> dict[str, Any]:
    return {
        "tid": tid(version),
        "partner": "hospital",
        "record_id": RECORD,
        "version": version,
        "chain": RECORD,
        "patient_id": "c" * 32,
        "pseudonym": b"",
        "key_id": "k",
        "digest": digest(version),
        "sealed": b"",
        "state": "delivered",
        "reason": "registered",
        "attempts": 0,
        "created_at": NOW,
        "next_at": NOW,
        "settled_at": NOW,
        "fence": 1,
        "receipt": b"signed",
        "receipt_sequence": version,
    }


def came(version: int) -> dict[str, Any]:
    return {
        "sender": "laboratory",
        "tid": tid(version),
        "digest": digest(version),
        "pseudonym": b"",
        "key_id": "k",
        "outcome": "registered",
        "reason": "registered",
        "sequence": version,
        "received_at": NOW,
        "filed_at": NOW,
    }


def filed(version: int) -> dict[str, Any]:
    return {
        "record_id": LOCAL,
        "version": version,
        "document_id": tid(version),
        "document_digest": b"",
        "content_digest": digest(version),
        "replaces": digest(version - 1) if version > 1 else None,
        "category": "laboratory",
        "status": "final",
        "effective_on": date(2026, 5, 1),
        "created_at": NOW,
    }


HEAD = {
    "id": LOCAL,
    "patient_id": "d" * 32,
    "origin": "laboratory",
    "origin_record_id": RECORD,
    "kind": "clinical",
    "category": "laboratory",
    "effective_on": date(2026, 5, 1),
    "current_version": VERSIONS,
    "status": "final",
    "created_at": NOW,
}


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[dict[str, Books]]:
    """Give both institutions after a run in which all went well: one record, corrected twice."""
    made = {}
    for name in ("laboratory", "hospital"):
        engine = create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        Base.metadata.create_all(engine, tables=TABLES)
        made[name] = Books(engine, tmp_path)
    numbers = range(1, VERSIONS + 1)
    made["laboratory"].do(insert(Outbox).values([sent(n) for n in numbers]))
    made["hospital"].do(insert(Inbox).values([came(n) for n in numbers]))
    made["hospital"].do(insert(Record).values(HEAD))
    made["hospital"].do(insert(RecordVersion).values([filed(n) for n in numbers]))
    (tmp_path / "sender.log").write_text('{"event": "link up"}\n')
    yield made
    for books in made.values():
        books.engine.dispose()


@pytest.fixture
def clerk() -> Any:
    subject = SimpleNamespace(number=NUMBER, birth_date=date(1931, 3, 4))
    entered = {(RECORD, n): digest(n) for n in range(1, VERSIONS + 1)}
    return SimpleNamespace(entered=entered, patients=[SimpleNamespace(subject=subject)])


def test_a_run_in_which_all_went_well_has_no_problems(houses, clerk):
    assert verdict.check(houses, clerk) == []
    assert verdict.is_settled(houses, clerk.entered)
    assert verdict.receipts_without_record(houses) == []


Doctor = Callable[[dict[str, Books], Any], None]


def at(house: str, statement: Any) -> Doctor:
    return lambda houses, _clerk: houses[house].do(statement)


DOCTORED = {
    "lost at the hospital": (
        at("hospital", delete(Inbox).where(Inbox.sequence == 2)),
        f"transfer {tid(2)} was receipted and is not there",
    ),
    "another content there": (
        at("hospital", update(Inbox).where(Inbox.sequence == 2).values(digest=b"x")),
        f"transfer {tid(2)} was receipted and is not there",
    ),
    "not filed": (
        at("hospital", delete(RecordVersion).where(RecordVersion.version == 3)),
        "filed is not what was entered; missing: 1",
    ),
    "filed twice": (
        lambda houses, _clerk: (
            houses["hospital"].do(insert(Record).values({**HEAD, "id": "e" * 32, "origin": "x"})),
            houses["hospital"].do(
                insert(RecordVersion).values(
                    {**filed(1), "record_id": "e" * 32, "document_id": "f" * 32}
                )
            ),
        ),
        "a version was filed twice",
    ),
    "filed with another content": (
        at("hospital", update(RecordVersion).values(content_digest=b"x")),
        "filed is not what was entered; missing: 0",
    ),
    "an older version is shown": (
        at("hospital", update(Record).values(current_version=1)),
        f"{RECORD} shows an older version than 2",
    ),
    "the chain is broken": (
        at("hospital", update(RecordVersion).values(replaces=None)),
        f"version 2 of {RECORD} does not follow the one before",
    ),
    "no receipt": (
        at("laboratory", update(Outbox).where(Outbox.version == 1).values(receipt=None)),
        f"{RECORD} has no receipt",
    ),
    "rejected": (
        at("laboratory", update(Outbox).where(Outbox.version == 1).values(state="rejected")),
        "1 are ('rejected', 'registered')",
    ),
    "out of order": (
        lambda houses, _clerk: [
            houses["laboratory"].do(
                update(Outbox).where(Outbox.version == n).values(receipt_sequence=4 - n)
            )
            for n in (1, 3)
        ],
        f"corrections of {RECORD} came out of order: [3, 2, 1]",
    ),
    "another receipt here than there": (
        at("hospital", update(Inbox).where(Inbox.sequence == 3).values(sequence=9)),
        f"{tid(3)} has another receipt here than there",
    ),
    "a gap in the receipts": (
        at("hospital", update(Inbox).where(Inbox.sequence == 3).values(sequence=9)),
        "the sequence of receipts has gaps",
    ),
    "held": (
        at("hospital", update(Inbox).where(Inbox.sequence == 3).values(outcome="held-for-review")),
        "1 are held-for-review",
    ),
    "never queued": (
        lambda _houses, clerk: clerk.entered.update({("0" * 32, 1): b"x"}),
        "what was entered is not what was queued",
    ),
    "an audit log that is not whole": (
        lambda houses, _clerk: houses["hospital"].says.update(finding="changed"),
        "medportal audit verify hospital: {'finding': 'changed', 'wrong': 0}",
    ),
    "an audit log that does not verify": (
        lambda houses, _clerk: houses["laboratory"].says.update(status=1),
        "medportal audit verify laboratory: audit verify: 1",
    ),
    "a document that is not as it was filed": (
        lambda houses, _clerk: houses["hospital"].says.update(wrong=1),
        "medportal store status hospital --verify: {'finding': 'whole', 'wrong': 1}",
    ),
}


@pytest.mark.parametrize("what", DOCTORED)
def test_it_says_what_is_not_as_it_must_be(houses, clerk, what):
    doctor, said = DOCTORED[what]
    doctor(houses, clerk)
    assert said in verdict.check(houses, clerk)


@pytest.mark.parametrize("word", [FAMILY.split()[0], NOTES, NUMBER, "1931-03-04"])
def test_it_finds_what_is_personal_in_a_log(houses, clerk, tmp_path, word):
    (tmp_path / "receiver.log").write_text(f'{{"event": "from {word}"}}\n')
    assert verdict.check(houses, clerk) == ["receiver.log says something of a person"]


def test_it_finds_a_traceback_in_a_log(houses, clerk, tmp_path):
    (tmp_path / "postgresql-x.log").write_text("Traceback (most recent call last):\n")
    assert verdict.check(houses, clerk) == ["postgresql-x.log holds a traceback"]


def test_it_finds_what_is_no_event_in_a_log_of_the_product(houses, clerk, tmp_path):
    for name in ("jobs", "postgresql-x"):
        (tmp_path / f"{name}.log").write_text("socket.send() raised exception.\n")
    assert verdict.check(houses, clerk) == ["jobs.log holds a line of another form"]


@pytest.mark.parametrize(
    ("house", "statement", "what"),
    [
        ("laboratory", update(Outbox).values(settled_at=None), "stuck: 3 not receipted"),
        ("hospital", update(Inbox).values(filed_at=None), "stuck: 3 not filed"),
        ("laboratory", delete(Outbox).where(Outbox.version == 1), "stuck: 1 not queued"),
    ],
)
def test_what_is_under_way_is_not_settled(houses, clerk, house, statement, what):
    houses[house].do(statement)
    assert not verdict.is_settled(houses, clerk.entered)
    assert what in verdict.what_is_stuck(houses, clerk.entered)


def test_a_database_that_is_away_settles_nothing(houses, clerk):
    Base.metadata.drop_all(houses["hospital"].engine, tables=TABLES)
    assert not verdict.is_settled(houses, clerk.entered)
    assert verdict.receipts_without_record(houses) is None
