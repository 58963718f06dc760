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
from faults.cast import Way
from faults.clerk import FAMILY, NOTES
from faults.world import WorldError
from medportal.audit.models import AuditEvent
from medportal.db import Base
from medportal.delivery.models import Inbox, Outbox
from medportal.records.models import Record, RecordVersion

NOW = datetime(2026, 5, 1, tzinfo=UTC)
VERSIONS = 3
TABLES = [each.__table__ for each in (Outbox, Inbox, Record, RecordVersion, AuditEvent)]
NUMBERS = range(1, VERSIONS + 1)
NUMBER = "17000101"
LAB, LAB_2, HOSPITAL = "laboratory", "laboratory-2", "hospital"
#: Two laboratories that send, and the hospital that sends to one of them.
WAYS = [Way(LAB, HOSPITAL), Way(LAB_2, HOSPITAL), Way(HOSPITAL, LAB_2)]


@dataclass
class Books:
    """What the verdict asks of an institution, over a database in memory."""

    id: str
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


def number_of(way: Way) -> int:
    return WAYS.index(way) + 1


def tid(way: Way, version: int) -> str:
    return f"{100 * number_of(way) + version:032x}"


def record(way: Way) -> str:
    """Return the id of the record that goes a way, where it comes from."""
    return f"{number_of(way)}" * 32


def local(way: Way) -> str:
    """Return its id where it goes."""
    return "abc"[number_of(way) - 1] * 32


def digest(way: Way, version: int) -> bytes:
    return bytes([number_of(way), version]) * 16


def sent(way: Way, version: int) -> dict[str, Any]:
    return {
        "tid": tid(way, version),
        "partner": way.receiver,
        "record_id": record(way),
        "version": version,
        "chain": record(way),
        "patient_id": "c" * 32,
        "pseudonym": b"",
        "key_id": "k",
        "digest": digest(way, version),
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


def came(way: Way, version: int) -> dict[str, Any]:
    return {
        "sender": way.sender,
        "tid": tid(way, version),
        "digest": digest(way, version),
        "pseudonym": b"",
        "key_id": "k",
        "outcome": "registered",
        "reason": "registered",
        "sequence": version,
        "received_at": NOW,
        "filed_at": NOW,
    }


def filed(way: Way, version: int, id_: str) -> dict[str, Any]:
    return {
        "record_id": id_,
        "version": version,
        "document_id": tid(way, version),
        "document_digest": b"",
        "content_digest": digest(way, version),
        "replaces": digest(way, version - 1) if version > 1 else None,
        "category": "laboratory",
        "status": "final",
        "effective_on": date(2026, 5, 1),
        "created_at": NOW,
    }


def head(way: Way, id_: str) -> dict[str, Any]:
    return {
        "id": id_,
        "patient_id": "d" * 32,
        "origin": way.sender,
        "origin_record_id": record(way),
        "kind": "clinical",
        "category": "laboratory",
        "effective_on": date(2026, 5, 1),
        "current_version": VERSIONS,
        "status": "final",
        "created_at": NOW,
    }


def send(houses: dict[str, Books], way: Way) -> None:
    """Let one record, corrected twice, have gone a way as it should."""
    sender, receiver = houses[way.sender], houses[way.receiver]
    sender.do(insert(Outbox).values([sent(way, n) for n in NUMBERS]))
    receiver.do(insert(Inbox).values([came(way, n) for n in NUMBERS]))
    for books, id_ in ((sender, record(way)), (receiver, local(way))):
        books.do(insert(Record).values(head(way, id_)))
        books.do(insert(RecordVersion).values([filed(way, n, id_) for n in NUMBERS]))


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[dict[str, Books]]:
    """Give all institutions after a run in which all went well."""
    made = {}
    for name in (LAB, LAB_2, HOSPITAL):
        engine = create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        Base.metadata.create_all(engine, tables=TABLES)
        made[name] = Books(name, engine, tmp_path)
    for way in WAYS:
        send(made, way)
    (tmp_path / "sender-laboratory.log").write_text('{"event": "link up"}\n')
    yield made
    for books in made.values():
        books.engine.dispose()


@pytest.fixture
def entered() -> dict[Way, dict[tuple[str, int], bytes]]:
    return {way: {(record(way), n): digest(way, n) for n in NUMBERS} for way in WAYS}


@pytest.fixture
def patients() -> Any:
    subject = SimpleNamespace(number=NUMBER, birth_date=date(1931, 3, 4))
    return [SimpleNamespace(subject=subject)]


def test_a_run_in_which_all_went_well_has_no_problems(houses, entered, patients):
    assert verdict.check(houses, entered, patients) == []
    assert verdict.is_settled(houses, entered)
    for way in WAYS:
        assert verdict.receipts_without_record(houses, way) == []


Doctor = Callable[[dict[str, Books], Way], Any]


def at_sender(statement: Any, *, where: Any = None) -> Doctor:
    """Change what the sending side has queued."""

    def doctor(houses: dict[str, Books], way: Way) -> None:
        its = statement.where(Outbox.partner == way.receiver)
        houses[way.sender].do(its if where is None else its.where(where))

    return doctor


def at_receiver(statement: Any) -> Doctor:
    """Change what the receiving side has of that sender."""

    def doctor(houses: dict[str, Books], way: Way) -> None:
        its = {
            "inbox": Inbox.sender == way.sender,
            "record": Record.origin == way.sender,
            "record_version": RecordVersion.record_id == local(way),
        }
        houses[way.receiver].do(statement.where(its[statement.table.name]))

    return doctor


def file_twice(houses: dict[str, Books], way: Way) -> None:
    """File a version again, under another record of the same origin."""
    books = houses[way.receiver]
    other = {**head(way, "e" * 32), "origin_record_id": "e" * 32}
    books.do(insert(Record).values(other))
    twice = {**filed(way, 1, "e" * 32), "document_id": "f" * 32}
    books.do(insert(RecordVersion).values(twice))


def queue_twice(houses: dict[str, Books], way: Way) -> None:
    """Queue a version again, in another chain."""
    twice = {**sent(way, 3), "tid": "f" * 32, "chain": "f" * 32}
    houses[way.sender].do(insert(Outbox).values(twice))


#: What is done to one way, and what is said of it.
DOCTORED: dict[str, tuple[Doctor, Callable[[Way], str]]] = {
    "lost": (
        at_receiver(delete(Inbox).where(Inbox.sequence == 2)),
        lambda way: f"transfer {tid(way, 2)} was receipted and is not there",
    ),
    "another content there": (
        at_receiver(update(Inbox).where(Inbox.sequence == 2).values(digest=b"x")),
        lambda way: f"transfer {tid(way, 2)} was receipted and is not there",
    ),
    "another transfer there": (
        at_receiver(update(Inbox).where(Inbox.sequence == 2).values(tid="f" * 32)),
        lambda way: "the transfers that came are not those that were sent",
    ),
    "not filed": (
        at_receiver(delete(RecordVersion).where(RecordVersion.version == 3)),
        lambda way: "filed is not what was entered; missing: 1",
    ),
    "filed twice": (file_twice, lambda way: "filed is not what was entered; missing: 0"),
    "filed with another content": (
        at_receiver(update(RecordVersion).values(content_digest=b"x")),
        lambda way: "filed is not what was entered; missing: 0",
    ),
    "an older version is shown": (
        at_receiver(update(Record).values(current_version=1)),
        lambda way: f"{record(way)} shows an older version than 2",
    ),
    "the chain is broken": (
        at_receiver(update(RecordVersion).values(replaces=None)),
        lambda way: f"version 2 of {record(way)} does not follow the one before",
    ),
    "no receipt": (
        at_sender(update(Outbox).where(Outbox.version == 1).values(receipt=None)),
        lambda way: f"{record(way)} has no receipt",
    ),
    "rejected": (
        at_sender(update(Outbox).where(Outbox.version == 1).values(state="rejected")),
        lambda way: "1 are ('rejected', 'registered')",
    ),
    "out of order": (
        at_sender(update(Outbox).values(receipt_sequence=VERSIONS + 1 - Outbox.version)),
        lambda way: f"corrections of {record(way)} came out of order: [3, 2, 1]",
    ),
    "another receipt here than there": (
        at_receiver(update(Inbox).where(Inbox.sequence == 3).values(sequence=9)),
        lambda way: f"{tid(way, 3)} has another receipt here than there",
    ),
    "a gap in the receipts": (
        at_receiver(update(Inbox).where(Inbox.sequence == 3).values(sequence=9)),
        lambda way: "the sequence of receipts has gaps",
    ),
    "held": (
        at_receiver(update(Inbox).where(Inbox.sequence == 3).values(outcome="held-for-review")),
        lambda way: "1 are held-for-review",
    ),
    "queued twice": (queue_twice, lambda way: "a version was queued twice"),
    "never queued": (
        at_sender(delete(Outbox).where(Outbox.version == 3)),
        lambda way: "what was entered is not what was queued",
    ),
}


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("what", DOCTORED)
def test_it_says_of_each_way_what_is_not_as_it_must_be(houses, entered, patients, what, way):
    doctor, said = DOCTORED[what]
    doctor(houses, way)
    found = verdict.check(houses, entered, patients)
    assert f"{way}: {said(way)}" in found
    # Nothing is said of the others.
    assert all(problem.startswith(f"{way}: ") for problem in found)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_version_that_was_entered_and_is_nowhere_is_missed_at_both_ends(
    houses, entered, patients, way
):
    entered[way]["0" * 32, 1] = b"x"
    found = verdict.check(houses, entered, patients)
    assert f"{way}: what was entered is not what was queued" in found
    assert f"{way}: filed is not what was entered; missing: 1" in found
    assert f"{way.sender}, its own: filed is not what was entered; missing: 1" in found


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_it_says_what_an_institution_has_lost_of_its_own(houses, entered, patients, way):
    lost = delete(RecordVersion).where(RecordVersion.record_id == record(way))
    houses[way.sender].do(lost.where(RecordVersion.version == 2))
    problem = f"{way.sender}, its own: filed is not what was entered; missing: 1"
    assert verdict.check(houses, entered, patients) == [problem]


@pytest.mark.parametrize("version", [1, 2])
def test_what_came_from_one_laboratory_and_is_filed_as_the_others_is_said_of_both(
    houses, entered, patients, version
):
    first, second = (Way(lab, HOSPITAL) for lab in (LAB, LAB_2))
    moved = update(RecordVersion).where(
        RecordVersion.record_id == local(second), RecordVersion.version == version
    )
    houses[HOSPITAL].do(delete(RecordVersion).where(RecordVersion.record_id == local(first)))
    houses[HOSPITAL].do(moved.values(record_id=local(first)))
    found = verdict.check(houses, entered, patients)
    assert f"{first}: filed is not what was entered; missing: 2" in found
    assert f"{second}: filed is not what was entered; missing: 1" in found


STRANGE = {
    "is queued for": insert(Outbox).values({**sent(WAYS[2], 1), "tid": "f" * 32, "partner": "x"}),
    "came from": insert(Inbox).values({**came(WAYS[0], 1), "sender": "x"}),
    "is filed as from": insert(Record).values({**head(WAYS[0], "f" * 32), "origin": "x"}),
}


@pytest.mark.parametrize("what", STRANGE)
def test_it_says_what_nobody_sent_or_is_for_nobody(houses, entered, patients, what):
    houses[HOSPITAL].do(STRANGE[what])
    assert verdict.check(houses, entered, patients) == [f"{HOSPITAL}: something {what} x"]


def test_what_is_passed_on_to_another_laboratory_is_said(houses, entered, patients):
    """A partner that sends to nobody here has nothing to queue, and nothing of a third one."""
    houses[LAB].do(insert(Inbox).values({**came(WAYS[1], 1), "sender": HOSPITAL}))
    assert verdict.check(houses, entered, patients) == [f"{LAB}: something came from {HOSPITAL}"]


@pytest.mark.parametrize("house", [LAB, LAB_2, HOSPITAL])
@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ({"finding": "changed"}, "medportal audit verify {}: {{'finding': 'changed', 'wrong': 0}}"),
        ({"status": 1}, "medportal audit verify {}: audit verify: 1"),
        ({"wrong": 1}, "medportal store status {} --verify: {{'finding': 'whole', 'wrong': 1}}"),
    ],
    ids=["a log that is not whole", "a log that does not verify", "a document that was changed"],
)
def test_it_says_whose_log_or_store_is_not_whole(houses, entered, patients, house, says, problem):
    houses[house].says.update(says)
    found = verdict.check(houses, entered, patients)
    assert problem.format(house) in found
    assert all(f" {house}" in each for each in found)


@pytest.mark.parametrize("word", [FAMILY.split()[0], NOTES, NUMBER, "1931-03-04"])
def test_it_finds_what_is_personal_in_a_log(houses, entered, patients, tmp_path, word):
    (tmp_path / "receiver-laboratory-2.log").write_text(f'{{"event": "from {word}"}}\n')
    found = verdict.check(houses, entered, patients)
    assert found == ["receiver-laboratory-2.log says something of a person"]


def test_it_finds_a_traceback_in_a_log(houses, entered, patients, tmp_path):
    (tmp_path / "database-x.log").write_text("Traceback (most recent call last):\n")
    assert verdict.check(houses, entered, patients) == ["database-x.log holds a traceback"]


def test_it_finds_what_is_no_event_in_a_log_of_the_product(houses, entered, patients, tmp_path):
    for name in ("jobs-x", "database-x", "documents-x"):
        (tmp_path / f"{name}.log").write_text("socket.send() raised exception.\n")
    found = verdict.check(houses, entered, patients)
    assert found == ["jobs-x.log holds a line of another form"]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    ("doctor", "what"),
    [
        (at_sender(update(Outbox).values(settled_at=None)), "3 not receipted"),
        (at_receiver(update(Inbox).values(filed_at=None)), "3 not filed"),
        (at_sender(delete(Outbox).where(Outbox.version == 1)), "1 not queued"),
    ],
    ids=["not receipted", "not filed", "not queued"],
)
def test_what_is_under_way_is_not_settled(houses, entered, doctor, what, way):
    doctor(houses, way)
    assert not verdict.is_settled(houses, entered)
    found = [each for each in verdict.what_is_stuck(houses, entered) if "not " in each]
    assert found == [f"stuck: {what}, {way}"]


@pytest.mark.parametrize("house", [LAB, LAB_2, HOSPITAL])
def test_what_is_not_in_a_signed_log_is_not_settled(houses, entered, house):
    event = {"id": "e" * 32, "at": NOW, "action": "x", "outcome": "done", "body": b"{}"}
    houses[house].do(insert(AuditEvent).values(event))
    assert not verdict.is_settled(houses, entered)
    said = f"stuck: 1 not in the signed log of the {house}"
    assert verdict.what_is_stuck(houses, entered) == [said]


@pytest.mark.parametrize("house", [LAB_2, HOSPITAL])
def test_a_database_that_is_away_settles_nothing(houses, entered, house):
    Base.metadata.drop_all(houses[house].engine, tables=TABLES)
    assert not verdict.is_settled(houses, entered)
    for way in WAYS:
        asked = verdict.receipts_without_record(houses, way)
        assert asked == (None if house in {way.sender, way.receiver} else [])
