"""What the page of partners costs with a month of a million records: one JSON line.

Run as ``python -m bench.traffic [ROWS] [URL]``, URL an empty database; without it on SQLite in a
temporary directory. ``count`` is what the jobs spend on all of it, once; ``page`` what a page's
pictures, queue and last receipts cost afterwards, ``empty`` the same without a single row.
"""

import json
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from bench.outbox import delivered_row
from medportal.delivery import traffic, waiting
from medportal.delivery.models import Outbox, PartnerMark
from medportal.tenancy.engines import make_engine
from medportal.tenancy.schema import migrate

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
ROUNDS = 20


def fill(session: Session, rows: int) -> None:
    """Deliver ``rows`` records over 30 days."""
    step = timedelta(days=30) / rows
    session.execute(
        insert(PartnerMark).values(partner="hospital", epoch="1" * 32, sequence=0, stated_at=NOW)
    )
    for first in range(0, rows, 5_000):
        made = []
        for number in range(first, min(first + 5_000, rows)):
            row = delivered_row(number)
            row["settled_at"] = row["receipt_at"] = NOW - timedelta(minutes=5) - step * number
            row["receipt_sequence"] = rows - number
            made.append(row)
        session.execute(insert(Outbox), made)


def page(session: Session) -> None:
    """Ask what the page of one partner asks."""
    traffic.traffic(session, NOW - timedelta(days=31), NOW, "hospital")
    waiting.queues(session, ["hospital"])
    waiting.resting(session, ["hospital"])
    waiting.waiting(session, "hospital", NOW)
    waiting.refused(session, "hospital", NOW)
    waiting.last_sent(session, ["hospital"])
    waiting.last_received(session, ["hospital"])


def seconds(session: Session) -> float:
    """Return what a page costs, the best of some rounds."""
    found = []
    for _round in range(ROUNDS):
        begin = time.perf_counter()
        page(session)
        found.append(time.perf_counter() - begin)
    return min(found)


def main(arguments: list[str]) -> None:
    """Measure, and print one line."""
    rows = int(arguments[0]) if arguments else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        url = arguments[1] if len(arguments) > 1 else f"sqlite:///{directory}/x.sqlite"
        engine = make_engine(url)
        migrate(engine)
        with Session(engine) as session, session.begin():
            empty = seconds(session)
        with Session(engine) as session, session.begin():
            fill(session, rows)
        with Session(engine) as session, session.begin():
            if engine.dialect.name == "postgresql":
                session.execute(text("ANALYZE"))
            begin = time.perf_counter()
            while traffic.count(session, NOW):
                pass
            counted = time.perf_counter() - begin
            full = seconds(session)
        engine.dispose()
    figures = {
        "bench": "traffic",
        "engine": engine.dialect.name,
        "rows": rows,
        "count_seconds": round(counted, 2),
        "page_ms": {"empty": round(empty * 1000, 2), "full": round(full * 1000, 2)},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
