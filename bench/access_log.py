"""What a page of a patient's access log costs with 10,000 and with a million events in the log.

The patient has the same number of events in both; a doctor, by whom the log is narrowed once,
has a tenth of all. Times are medians in microseconds, both sizes by turns in one run: the ratios
should stay near 1. ``index`` tells whether every query went by the index on patient and time.

Run as ``python -m bench.access_log [SMALL_URL LARGE_URL]``, two databases without tables of the
audit room; without them on SQLite in a temporary directory.
"""

import json
import secrets
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from bench.outbox import by_turns
from medportal.access.explanations import Topic, topic_actions
from medportal.access.log import Place, Wanted, events_of, newest
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.ids import new_id
from medportal.db import Base
from medportal.tenancy.engines import make_engine

SIZES = (10_000, 1_000_000)
OF_THE_PATIENT = 400
PATIENTS = 5_000
BATCH = 10_000
START = datetime(2026, 1, 1, tzinfo=UTC)
INDEX = "ix_audit_event_patient_time"
TABLES = ("audit_event",)
PATIENT, DOCTOR = new_id(), new_id()
#: As long as the body of an event about a patient usually is.
BODY = secrets.token_bytes(420)


def row_of(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": event.at,
        "action": str(event.action),
        "outcome": str(event.outcome),
        "actor": event.actor,
        "patient": event.patient,
        "object": event.object,
        "body": event.to_bytes(),
        "sequence": None,
    }


def event_of(at: datetime, nth: int) -> Event:
    """Return the nth event of the patient: the same in a log of any size, but for the time."""
    return Event.create(
        Action.GLASS_BROKEN if nth % 40 == 0 else Action.RECORD_READ,
        now=at,
        actor=DOCTOR if nth % 2 else new_id(),
        patient=PATIENT,
        object=new_id(),
        reasons=["assigned-care"],
        details={"place": "on-site", "roles": "doctor", "basis": new_id()},
    )


def rows(size: int) -> Iterator[dict[str, Any]]:
    """Give the events of a log, the patient's own evenly among the others."""
    patients = [new_id() for _ in range(PATIENTS)]
    others = [new_id() for _ in range(200)]
    every = size // OF_THE_PATIENT
    for number in range(size):
        at = START + timedelta(seconds=10 * number)
        if number % every == 0:
            yield row_of(event_of(at, number // every))
            continue
        # Only the columns are looked at: nobody reads this body.
        yield {
            "id": new_id(),
            "at": at,
            "action": str(Action.RECORD_READ),
            "outcome": str(Outcome.ALLOWED),
            "actor": DOCTOR if number % 10 == 0 else others[number % 200],
            "patient": patients[number % PATIENTS],
            "object": None,
            "body": BODY,
            "sequence": None,
        }


def fill(engine: Engine, size: int) -> None:
    Base.metadata.create_all(engine, tables=[Base.metadata.tables[name] for name in TABLES])
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # For filling alone: with the usual 2 MB, six growing indexes are read again and again.
            connection.exec_driver_sql("PRAGMA cache_size = -600000")
        for pending in batches(rows(size)):
            connection.execute(insert(AuditEvent), pending)
            connection.commit()
        connection.execute(text("ANALYZE"))
        connection.commit()
        connection.invalidate()


def batches(found: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while pending := list(islice(found, BATCH)):
        yield pending


class Run:
    """One log and the pages that a patient opens of it."""

    def __init__(self, engine: Engine, size: int) -> None:
        self.engine = engine
        middle = START + timedelta(seconds=5 * size)
        # As much of the time as holds ten events of the patient.
        days = timedelta(seconds=10 * size) * 10 / OF_THE_PATIENT
        topic = topic_actions(Topic.EMERGENCY)
        self.asked: dict[str, tuple[Wanted, Place | None]] = {
            "newest": (Wanted(), None),
            "older": (Wanted(), (middle, "f" * 32)),
            "others": (Wanted(but=PATIENT), None),
            "one person": (Wanted(actor=DOCTOR), None),
            "one topic": (Wanted(actions=tuple(map(str, topic))), None),
            "refused": (Wanted(outcomes=(str(Outcome.DENIED),)), None),
            "some days": (Wanted(since=middle - days, until=middle), None),
        }

    def page(self, name: str) -> None:
        wanted, after = self.asked[name]
        with Session(self.engine) as session:
            events_of(session, PATIENT, wanted, after=after, limit=26)

    def by_index(self) -> bool:
        """Tell whether every page is found by the index on patient and time, and not sorted."""
        return all(goes_by_index(self.engine, *asked) for asked in self.asked.values())


def goes_by_index(engine: Engine, wanted: Wanted, after: Place | None) -> bool:
    plan = plan_of(engine, wanted, after)
    return INDEX in plan and "SCAN" not in plan.replace("INDEX SCAN", "") and "TEMP" not in plan


def plan_of(engine: Engine, wanted: Wanted, after: Place | None) -> str:
    """Return how a database carries out the query of a page."""
    query = newest(PATIENT, wanted, after=after, limit=26)
    words = query.compile(engine, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"{explain} {words}".replace("%", "%%"))
        return "\n".join(" ".join(str(cell) for cell in row) for row in found)


def bench(small: Engine, large: Engine) -> dict[str, Any]:
    runs = []
    for engine, size in zip((small, large), SIZES, strict=True):
        fill(engine, size)
        runs.append(Run(engine, size))
    low, high = runs
    steps = {
        f"{side} {name}": (lambda run=run, name=name: run.page(name))  # type: ignore[misc]
        for name in low.asked
        for side, run in (("low", low), ("high", high))
    }
    medians = by_turns(steps)
    pairs = {name: (medians[f"low {name}"], medians[f"high {name}"]) for name in low.asked}
    return {
        "bench": "access log",
        "engine": small.dialect.name,
        "events": list(SIZES),
        "of_the_patient": OF_THE_PATIENT,
        "micros": {name: list(pair) for name, pair in pairs.items()},
        "ratio": {name: round(high / low, 2) for name, (low, high) in pairs.items()},
        "index": [run.by_index() for run in runs],
    }


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        urls = arguments or [f"sqlite:///{directory}/{name}.sqlite" for name in ("small", "large")]
        small, large = map(make_engine, urls)
        print(json.dumps(bench(small, large)))
        small.dispose()
        large.dispose()


if __name__ == "__main__":
    main(sys.argv[1:])
