"""Records a second through CRX/1, from the outbox's row to the verified receipt that is kept.

Run as ``python -m bench.exchange [--quick] [--engine sqlite|postgresql] [--scale]``. Senders and
receiver are processes of their own over TLS on loopback; every commit is durable (``synchronous =
FULL``, ``fsync`` on). In the same run, by turns: the usual way and a plain HTTPS POST
(:mod:`bench.usual`), and the floor, the bare cryptography of a record on two processes.

``per_second`` counts from the moment at which rows become due to the moment at which the last of
them has its receipt in the sender's database. ``ms`` is from claim to receipt, p50 and p99, while
everything is due at once; ``paced_ms`` from the row's commit on, while one comes every 40 ms.
``ratio_of_cpu`` is the same in work instead of time: what a record costs both sides' processors,
which other work on the machine changes less.

``--scale``: seconds of the processor a record, with outboxes and inbox that hold a million rows
against empty ones, and with many laboratories against one.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from bench import postgres, usual
from bench.houses import HOSPITAL, LATER, House, enrol, found
from bench.outbox import delivered_row
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Inbox, Outbox, ReceiptCounter

WARM = 8
FLOOR_SECONDS = 3.0
PACE, PACED = 0.04, 150
LEAST_OF_EACH = 32
"""How many records each of many laboratories sends at least: a turn's worth."""

PATIENCE = 300.0
"""Seconds after which a run that does not end has failed."""

NewUrl = Callable[[str], str]


@dataclass(frozen=True)
class Place:
    """Where a run lives: its directory, its port, and addresses for databases."""

    state: Path
    port: int
    url: NewUrl


class Process:
    """A process that says when it is ready, and what it used when it ends."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line(), "a process did not start"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def said(self) -> dict[str, Any]:
        return dict(json.loads(self._line()))

    def used(self) -> dict[str, Any]:
        self._process.send_signal(signal.SIGUSR1)
        return self.said()

    def end(self) -> dict[str, Any]:
        """End it in good order; return what it used."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        said = [json.loads(line) for line in self._process.stdout or ()]
        self._process.wait(30)
        return dict(said[-1]) if said else {}

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()


@contextmanager
def processes() -> Iterator[list[Process]]:
    """Give a list whose processes are gone afterwards, whatever happened."""
    started: list[Process] = []
    try:
        yield started
    finally:
        for each in started:
            each.kill()


def free_port() -> int:
    """Return a port that is free, and so is the next one."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


# Ours.


@dataclass(frozen=True)
class Fleet:
    """The hospital and the laboratories that send to it."""

    place: Place
    hospital: House
    laboratories: Sequence[House]

    @classmethod
    def of(cls, place: Place, count: int) -> "Fleet":
        names = [f"lab{number}" for number in range(count)]
        hospital, *laboratories = [
            found(place.state, name, place.port, place.url(name)) for name in (HOSPITAL, *names)
        ]
        enrol(hospital, laboratories, place.port)
        return cls(place, hospital, laboratories)

    def close(self) -> None:
        for house in (self.hospital, *self.laboratories):
            house.engine.dispose()


def start(fleet: Fleet, senders: int, running: list[Process]) -> None:
    """Start the receiver, and the laboratories in so many processes."""
    place = fleet.place
    common = (place.state, place.port)
    hospital = f"{HOSPITAL}={fleet.hospital.url}"
    running.append(Process("bench.exchange_process", "receive", *common, hospital))
    for first in range(senders):
        mine = [f"{each.id}={each.url}" for each in fleet.laboratories[first::senders]]
        running.append(Process("bench.exchange_process", "send", *common, *mine))


def wait_until(condition: Callable[[], bool], every: float) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("the run does not end")
        time.sleep(every)


def is_drained(house: House) -> bool:
    """Tell whether nothing that is due waits."""
    query = select(Outbox.tid).where(Outbox.settled_at.is_(None), Outbox.created_at <= utcnow())
    with house.engine.connect() as connection:
        return connection.execute(query.limit(1)).first() is None


def all_drained(houses: Sequence[House]) -> bool:
    return all(map(is_drained, houses))


def make_due(houses: Sequence[House]) -> None:
    """Let everything that was queued for later be due now."""
    for house in houses:
        now = utcnow()
        with Session(house.engine) as session, session.begin():
            session.execute(
                update(Outbox)
                .where(Outbox.settled_at.is_(None), Outbox.next_at > now)
                .values(next_at=now, created_at=now)
            )


def drain(fleet: Fleet, senders: int, records: int) -> dict[str, Any]:
    """Let ``records`` of each laboratory go at once; return what it took."""
    houses = fleet.laboratories
    for house in houses:
        house.queue(WARM, utcnow())
        house.queue(records, utcnow() + LATER)
    with processes() as running:
        start(fleet, senders, running)
        wait_until(lambda: all_drained(houses), 0.1)
        before = [each.used()["cpu"] for each in running]
        began = time.perf_counter()
        make_due(houses)
        wait_until(lambda: all_drained(houses), 0.02)
        took = time.perf_counter() - began
        used = [each.end() for each in running]
    check(fleet, records)
    total = records * len(houses)
    cpu = [round((u["cpu"] - b) / total * 1e6) for u, b in zip(used, before, strict=True)]
    return {
        "per_second": round(total / took, 1),
        "ms": spread(delivery_times(houses, Outbox.asked_at)),
        "cpu_us": {"receiver": cpu[0], "senders": sum(cpu[1:])},
        "rss_mib": {"receiver": used[0]["rss_mib"], "sender": max(u["rss_mib"] for u in used[1:])},
    }


def check(fleet: Fleet, records: int) -> None:
    """Stop unless every record arrived once, and was receipted."""
    for house in fleet.laboratories:
        with house.engine.connect() as connection:
            states = connection.execute(
                select(Outbox.state, func.count(), func.count(Outbox.receipt)).group_by(
                    Outbox.state
                )
            ).all()
        with fleet.hospital.engine.connect() as connection:
            there = connection.scalar(
                select(func.count()).select_from(Inbox).where(Inbox.sender == house.id)
            )
        assert [row[0] for row in states] == ["delivered"], states
        assert states[0][1] == states[0][2] == there, (states, there)


def delivery_times(houses: Sequence[House], since: Any) -> list[float]:
    """Return the milliseconds of every delivery but the warming ones, in one list."""
    times: list[float] = []
    for house in houses:
        query = select(Outbox.settled_at, since).order_by(Outbox.created_at).offset(WARM)
        with house.engine.connect() as connection:
            rows = connection.execute(query).all()
        times += [(settled - began).total_seconds() * 1000 for settled, began in rows]
    return times


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99."""
    hundredths = statistics.quantiles(milliseconds, n=100)
    return {"p50": round(hundredths[49], 1), "p99": round(hundredths[98], 1)}


def paced(fleet: Fleet) -> dict[str, float]:
    """Queue a record every now and then; return how long each was on its way."""
    house = fleet.laboratories[0]
    house.queue(WARM, utcnow())
    with processes() as running:
        start(fleet, 1, running)
        wait_until(lambda: is_drained(house), 0.1)
        for _ in range(PACED):
            house.queue(1, utcnow())
            time.sleep(PACE)
        wait_until(lambda: is_drained(house), 0.1)
    return spread(delivery_times([house], Outbox.created_at))


def forget(fleet: Fleet) -> None:
    """Empty outboxes and inbox, so that the next run begins like the first."""
    for house in (fleet.hospital, *fleet.laboratories):
        with house.engine.begin() as connection:
            for table in ("outbox", "inbox", "audit_event", "partner_mark", "receipt_counter"):
                connection.execute(text(f"DELETE FROM {table}"))


# The others.


def usual_way(place: Place, body: bytes, clients: int, records: int, role: str) -> dict[str, Any]:
    """Drain outboxes the usual way (``send``), or post the same bodies (``post``)."""
    state = place.state / f"usual-{role}-{clients}"
    state.mkdir()
    usual.prepare(state, clients)
    urls = [place.url(f"usual_{role}_{clients}_{number}") for number in range(clients)]
    for url in urls:
        usual.fill(url, body, records + 1)
    port = free_port()
    with processes() as running:
        server = place.url(f"usual_{role}_{clients}_server")
        running.append(Process("bench.usual", "serve", state, port, server))
        for number, url in enumerate(urls):
            running.append(Process("bench.usual", role, state, port, f"client{number}", url))
        before, began = running[0].used()["cpu"], time.perf_counter()
        for each in running[1:]:
            each.go()
        said = [each.said() for each in running[1:]]
        took = time.perf_counter() - began
        used = [running[0].used(), *(each.end() for each in running[1:])]
        running[0].end()
    times = [1000 * seconds for each in said for seconds in each["times"]]
    cpu = [used[0]["cpu"] - before, sum(each["cpu"] for each in said)]
    return {
        "per_second": round(len(times) / took, 1),
        "ms": spread(times),
        "cpu_us": {
            "receiver": round(cpu[0] / len(times) * 1e6),
            "senders": round(cpu[1] / len(times) * 1e6),
        },
        "rss_mib": {"receiver": used[0]["rss_mib"], "sender": used[1]["rss_mib"]},
    }


def floor() -> tuple[float, float]:
    """Return records a second of bare cryptography on two processes, and microseconds of each."""
    with processes() as running:
        running += [Process("bench.usual", "floor", FLOOR_SECONDS) for _ in range(2)]
        for each in running:
            each.go()
        said = [each.said() for each in running]
    count = sum(each["count"] for each in said)
    return round(count / FLOOR_SECONDS, 1), round(sum(e["cpu"] for e in said) / count * 1e6)


# The report.


def compare(place: Place, engine: str, laboratories: int, records: int) -> dict[str, Any]:
    """Measure everything once with so many laboratories, by turns."""
    fleet = Fleet.of(place, laboratories)
    body = fleet.laboratories[0].parcel()
    (bare, bare_us), each = floor(), max(1, records // laboratories)
    load = os.getloadavg()[0]
    the_usual = usual_way(place, body, laboratories, each, "send")
    ours = drain(fleet, laboratories, each)
    plain = usual_way(place, body, laboratories, each, "post")
    found = {
        "bench": "exchange",
        "engine": engine,
        "laboratories": laboratories,
        "records": each * laboratories,
        "bytes": len(body),
        "load": round(load, 1),
        "crx": ours,
        "usual": the_usual,
        "post": plain,
        "floor": {"per_second": bare, "cpu_us": bare_us},
        "ratio": {
            "usual": round(ours["per_second"] / the_usual["per_second"], 2),
            "post": round(ours["per_second"] / plain["per_second"], 2),
            "floor": round(ours["per_second"] / bare, 2),
        },
        "ratio_of_cpu": {
            "usual": round(total_cpu(the_usual) / total_cpu(ours), 2),
            "post": round(total_cpu(plain) / total_cpu(ours), 2),
            "floor": round(bare_us / total_cpu(ours), 2),
        },
    }
    if laboratories == 1:
        forget(fleet)
        found["paced_ms"] = paced(fleet)
    fleet.close()
    return found


def total_cpu(found: dict[str, Any]) -> float:
    """Return the microseconds of both sides' processors that a record took."""
    return float(sum(found["cpu_us"].values()))


def fill_up(fleet: Fleet, rows: int) -> None:
    """Add what has been delivered over the years, at both ends."""
    laboratory, step = fleet.laboratories[0], 10_000
    for first in range(0, rows, step):
        numbers = range(first, min(first + step, rows))
        delivered = [{**delivered_row(n), "sealed": bytes(64)} for n in numbers]
        with laboratory.engine.begin() as connection:
            connection.execute(insert(Outbox), delivered)
        with fleet.hospital.engine.begin() as connection:
            connection.execute(
                insert(Inbox), [arrived_row(laboratory.id, row) for row in delivered]
            )
    with fleet.hospital.engine.begin() as connection:
        connection.execute(insert(ReceiptCounter).values(sender=laboratory.id, last=rows))


def arrived_row(sender: str, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "sender": sender,
        "tid": row["tid"],
        "digest": row["digest"],
        "patient_id": row["patient_id"],
        "pseudonym": row["pseudonym"],
        "key_id": row["key_id"],
        "outcome": "registered",
        "reason": "registered",
        "sequence": row["receipt_sequence"],
        "received_at": row["settled_at"],
        "receipt": row["receipt"],
        "record_id": new_id(),
    }


def by_rows(place: Place, engine: str, rows: Sequence[int], records: int) -> dict[str, Any]:
    """Return the cost of a record with so many delivered before it."""
    costs = {}
    for number in rows:
        inner = Place(
            place.state / f"rows{number}", free_port(), lambda n, at=number: place.url(f"{n}_{at}")
        )
        inner.state.mkdir()
        fleet = Fleet.of(inner, 1)
        fill_up(fleet, number)
        costs[str(number)] = drain_filled(fleet, records)
        fleet.close()
    return {"bench": "exchange_rows", "engine": engine, "records": records, "delivered": costs}


def drain_filled(fleet: Fleet, records: int) -> dict[str, Any]:
    house = fleet.laboratories[0]
    house.queue(WARM, utcnow())
    house.queue(records, utcnow() + LATER)
    with processes() as running:
        start(fleet, 1, running)
        wait_until(lambda: is_drained(house), 0.2)
        before = [each.used()["cpu"] for each in running]
        began = time.perf_counter()
        make_due([house])
        wait_until(lambda: is_drained(house), 0.05)
        took = time.perf_counter() - began
        used = [each.end() for each in running]
    cpu = [round((u["cpu"] - b) / records * 1e6) for u, b in zip(used, before, strict=True)]
    return {"per_second": round(records / took, 1), "receiver": cpu[0], "sender": cpu[1]}


def by_laboratories(
    place: Place, engine: str, counts: Sequence[int], records: int
) -> dict[str, Any]:
    """Return the cost of a record with so many laboratories connected, in one sending process."""
    costs = {}
    for count in counts:
        inner = Place(
            place.state / f"labs{count}", free_port(), lambda n, at=count: place.url(f"{n}_{at}")
        )
        inner.state.mkdir()
        fleet = Fleet.of(inner, count)
        each = max(LEAST_OF_EACH, records // count)
        found = drain(fleet, 1, each)
        costs[str(count)] = {"each": each, "per_second": found["per_second"], **found["cpu_us"]}
        costs[str(count)]["rss_mib"] = found["rss_mib"]["receiver"]
        fleet.close()
    return {"bench": "exchange_laboratories", "engine": engine, "connected": costs}


@contextmanager
def sqlite_urls(directory: Path) -> Iterator[NewUrl]:
    yield lambda name: f"sqlite:///{directory}/{name}.sqlite"


@contextmanager
def postgres_urls(programs: Path) -> Iterator[NewUrl]:
    with postgres.server(programs) as address:
        import psycopg

        def new(name: str) -> str:
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name.replace('-', '_')}")  # type: ignore[arg-type]
            return address.replace("/postgres?", f"/{name.replace('-', '_')}?")

        yield new


def run(engine: str, urls: NewUrl, directory: Path, options: argparse.Namespace) -> None:
    records = 400 if options.quick else options.records
    parts: list[Callable[[Place], dict[str, Any]]] = []
    if options.scale:
        rows = (0, 20_000) if options.quick else (0, options.rows)
        counts = (1, 8) if options.quick else (1, 64, 200)
        parts.append(lambda place: by_rows(place, engine, rows, records))
        parts.append(lambda place: by_laboratories(place, engine, counts, records))
    else:
        wanted = options.laboratories or [1, 8]
        parts += [lambda place, n=n: compare(place, engine, n, records) for n in wanted]
    for number, part in enumerate(parts):
        state = directory / f"{engine}{number}"
        state.mkdir()
        place = Place(state, free_port(), lambda name, at=number: urls(f"{name}_{engine}{at}"))
        print(json.dumps(part(place)), flush=True)
        shutil.rmtree(state)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few records, to see that it works")
    parser.add_argument("--scale", action="store_true", help="by rows and by laboratories")
    parser.add_argument("--engine", choices=["sqlite", "postgresql"])
    parser.add_argument("--laboratories", type=int, action="append")
    parser.add_argument("--records", type=int, default=4_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    # Stopped from outside it still ends its processes and removes its files.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="medportal-bench-") as name:
        directory, programs = Path(name), postgres.programs()
        if options.engine != "postgresql":
            with sqlite_urls(directory) as urls:
                run("sqlite", urls, directory, options)
        if programs and options.engine != "sqlite":
            with postgres_urls(programs) as urls:
                run("postgresql", urls, directory, options)


if __name__ == "__main__":
    main(sys.argv[1:])
