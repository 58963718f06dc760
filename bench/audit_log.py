"""Sequencing, verifying and reading with an event: how many a second. One JSON line each.

Run as ``python -m bench.audit_log``. Sequencing takes batches of a thousand as jobs does; that the
last cost as much as the first (a ratio near 1) says that the log's length does not count.
Verification is of the stored log and of its export. Audited reads are a record's page at a time (a
decision, the record opened and checked, the page, the event committed), by one reader and by
eight at once, on SQLite and on PostgreSQL. They are threads of one process, so what one processor
computes for a page (``milliseconds``, ``computed``) is the bound; ``writing`` is the median of how
long a page's writing transaction is open from its insert to after its commit, and
``commits_share`` the sum of these by the time that eight readers took. On SQLite, where one writes
at a time, near 1 would mean that the lock is the bound. Sign-in and first pages are not counted.
"""

import json
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert
from sqlalchemy.event import listen, remove
from sqlalchemy.orm import Session
from webtest import TestApp

from bench.sign_ins import PASSWORD, Portal, databases
from medportal.access.care import assign
from medportal.access.models import CareKind
from medportal.audit import lines, verifier
from medportal.audit.events import Action, Event
from medportal.audit.heads import HeadSigner
from medportal.audit.models import AuditEvent
from medportal.audit.sequence import sequence
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile, register_person
from medportal.keys import TenantKeys
from medportal.ops.verify_log import CaTrust
from medportal.patients.service import Registration, register_patient
from medportal.pki.profiles import Purpose
from medportal.tenancy.registry import Database

BATCH = 1000
EVENTS = 10_000
READERS = 8
READS = 25
SCHEME, PATIENT, DOCTOR = "citizen-card", "30000001", "30000002"


def fill(session: Session, count: int) -> None:
    """Add events as the portal writes them, waiting for their numbers."""
    for first in range(0, count, BATCH):
        rows = []
        for _number in range(first, min(first + BATCH, count)):
            event = Event.create(
                Action.RECORD_READ,
                now=utcnow(),
                actor=new_id(),
                session=new_id(),
                patient=new_id(),
                object=new_id(),
                reasons=["assigned-care"],
                details={"roles": "doctor", "place": "on-site", "basis": new_id()},
            )
            rows.append(
                {
                    "id": event.id,
                    "at": event.at,
                    "action": str(event.action),
                    "outcome": str(event.outcome),
                    "actor": event.actor,
                    "patient": event.patient,
                    "object": event.object,
                    "body": event.to_bytes(),
                }
            )
        session.execute(insert(AuditEvent), rows)


def signer_of(keys: TenantKeys) -> HeadSigner:
    return HeadSigner(
        keys.tenant.id,
        classical=keys.signer(Purpose.HEAD),
        post_quantum=keys.signer(Purpose.HEAD_PQ),
    )


def number_all(engine: Engine, signer: HeadSigner) -> list[float]:
    """Sequence whatever waits; return the seconds of each batch."""
    taken = []
    while True:
        began = time.perf_counter()
        with Session(engine) as session, session.begin():
            signed = sequence(session, signer, utcnow(), limit=BATCH)
        if signed is None:
            return taken
        taken.append(time.perf_counter() - began)


def log_bench(engine: Engine, keys: TenantKeys) -> dict[str, Any]:
    """Return events a second of the sequencer and of the verifier."""
    with Session(engine) as session, session.begin():
        fill(session, EVENTS)
    signer = signer_of(keys)
    taken = number_all(engine, signer)
    tenant, trust = keys.tenant.id, CaTrust(keys.keystore.ca)
    began = time.perf_counter()
    with Session(engine) as session:
        report = verifier.verify_session(session, tenant=tenant, trust=trust)
    stored = time.perf_counter() - began
    with Session(engine) as session:
        exported = list(verifier.export_lines(session, tenant))
    began = time.perf_counter()
    offline = lines.verify_lines(exported, tenant=tenant, trust=trust)
    alone = time.perf_counter() - began
    if not (report.ok and offline.ok):
        raise SystemExit("the log that was measured is not whole")
    first, last = sum(taken[1:4]), sum(taken[-4:-1])
    return {
        "events": report.size,
        "per_second": {
            "sequenced": round(sum([BATCH] * len(taken)) / sum(taken)),
            "verified in the database": round(report.size / stored),
            "verified from an export": round(offline.size / alone),
        },
        "last_batches_to_first": round(last / first, 2),
    }


class Reading:
    """A doctor, a patient and a record, and browsers that read it."""

    def __init__(self, portal: Portal, keys: TenantKeys) -> None:
        self._portal = portal
        database = Database(portal.tenant)
        profile = Profile("Some Body", date(1980, 2, 3), "female", language="en")
        now = utcnow()
        with database.writer() as session, session.begin():
            patient, _new = register_patient(
                session,
                Registration(SCHEME, PATIENT, profile),
                keys.partner_keys(),
                by=None,
                now=now,
            )
            doctor = register_person(
                session,
                scheme=SCHEME,
                number=DOCTOR,
                profile=profile,
                role="doctor",
                by=None,
                now=now,
            ).person_id
            session.flush()
            set_password(session, doctor, portal.tenant.passwords, PASSWORD, now)
            assign(
                session,
                patient_id=patient,
                staff_id=doctor,
                kind=CareKind.TREATING,
                assignable_roles=("doctor",),
                treating_roles=("doctor",),
                by=None,
                now=now,
            )
        database.dispose()
        self.path = self._enter(patient)

    def browser(self) -> TestApp:
        """Return the doctor's browser, signed in."""
        app = self._portal.browser()
        form = app.get("/sign-in").forms["form"]
        form["number"], form["password"] = DOCTOR, PASSWORD
        if form.submit(expect_errors=True).status_int != 303:
            raise SystemExit("the doctor could not sign in")
        return app

    def _enter(self, patient: str) -> str:
        form = self.browser().get(f"/patients/{patient}/records/new").forms["form"]
        form["effective"], form["height"], form["notes"] = "05/02/2026", "171", "Sleeps well."
        return str(form.submit().follow().request.path)


class Writing:
    """How long each transaction that inserts an event was open from there to after its commit.

    The insert is what such a transaction does, so little was open before it.
    """

    def __init__(self, engine: Engine) -> None:
        self.taken: list[float] = []
        self._engine = engine

    def __enter__(self) -> "Writing":
        listen(self._engine, "before_cursor_execute", self._execute)
        listen(self._engine, "checkin", self._end)
        return self

    def __exit__(self, *_error: object) -> None:
        remove(self._engine, "before_cursor_execute", self._execute)
        remove(self._engine, "checkin", self._end)

    def _execute(self, connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO audit_event"):
            connection.info["written_since"] = time.perf_counter()

    def _end(self, _dbapi_connection: Any, record: Any) -> None:
        since = record.info.pop("written_since", None)
        if since is not None:
            self.taken.append(time.perf_counter() - since)


@dataclass(frozen=True, slots=True)
class Reads:
    """What reading by some readers at once came to."""

    per_second: float
    computed: float
    writing: float
    share: float


def reads_of(reading: Reading, engine: Engine, readers: int) -> Reads:
    """Let so many read the page of a record, each after a page that is not counted."""
    browsers = [reading.browser() for _ in range(readers)]
    problems: list[str] = []

    def read(browser: TestApp) -> None:
        answer = browser.get(reading.path, expect_errors=True)
        if answer.status_int != 200 or "Sleeps well." not in answer.text:
            problems.append(answer.status)

    def run(browser: TestApp) -> None:
        for _ in range(READS):
            read(browser)

    for browser in browsers:
        read(browser)
    workers = [threading.Thread(target=run, args=(browser,)) for browser in browsers]
    with Writing(engine) as writing:
        began, computed = time.perf_counter(), time.process_time()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        took, computed = time.perf_counter() - began, time.process_time() - computed
    if problems:
        raise SystemExit(f"readers were refused: {sorted(set(problems))}")
    count = readers * READS
    if len(writing.taken) != count:
        raise SystemExit(f"{count} pages were read, {len(writing.taken)} events written")
    return Reads(
        count / took, computed / count, statistics.median(writing.taken), sum(writing.taken) / took
    )


def bench(engine: str, url: str, directory: Path) -> dict[str, Any]:
    portal = Portal(directory, url)
    keys = TenantKeys(portal.tenant, directory / "state" / portal.tenant.id)
    reading = Reading(portal, keys)
    served = portal.app.registry["tenants"].database(portal.tenant.id).engine
    one, several = (reads_of(reading, served, readers) for readers in (1, READERS))
    database = Database(portal.tenant)
    measured = log_bench(database.engine, keys)
    database.dispose()
    return {
        "bench": "audit_log",
        "engine": engine,
        "audited_reads_per_second": {
            "1 reader": round(one.per_second, 1),
            f"{READERS} readers": round(several.per_second, 1),
        },
        "milliseconds": {
            "computed": round(one.computed * 1000, 1),
            "writing": round(one.writing * 1000, 1),
        },
        "commits_share": round(several.share, 2),
        **measured,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name, databases(Path(name)) as urls:
        for engine, url in urls.items():
            directory = Path(name) / engine
            directory.mkdir()
            print(json.dumps(bench(engine, url, directory)), flush=True)


if __name__ == "__main__":
    main()
