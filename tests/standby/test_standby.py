"""A PostgreSQL primary dies under load, its synchronous standby takes over: nothing is lost.

The walk is that of docs/operations.md. Two real servers on loopback; the portal's own engine, with
the address that the document gives, and an application that is not started anew.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from crx_institutions import CATALOGUE, clinical_record, subject
from free_ports import free_port
from installation import Installation, install
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import DBAPIError

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.audit.verifier import verify_session
from medportal.core.clock import utcnow
from medportal.ops.verify_log import CaTrust
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import statement
from medportal.records.fhir import to_fhir
from medportal.records.models import Record, RecordVersion
from medportal.records.service import file_record
from medportal.records.statement import SealedContent
from medportal.tenancy.engines import make_engine
from medportal.tenancy.schema import migrate
from medportal.vault.stores import documents_of

#: Within this everything has to have happened that is waited for.
PATIENCE = 120.0


@dataclass
class Server:
    """One PostgreSQL server: its directory, its port, and as whom its programs run."""

    programs: Path
    data: Path
    port: int
    user: str | None

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.programs / program), *arguments],
            check=True,
            user=self.user,
            cwd=self.data.parent,
            timeout=PATIENCE,
            stdout=subprocess.DEVNULL,
        )

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        log = str(self.data.with_suffix(".log"))
        self.run("pg_ctl", "-D", str(self.data), "-w", "-s", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.run("pg_ctl", "-D", str(self.data), "-w", "-s", "-m", "immediate", "stop")

    def dies(self) -> None:
        """End every process of the server with SIGKILL, as a loss of power does."""
        first = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        family = [first, *children_of(first)]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(is_alive(pid) for pid in family))
        (self.data / "postmaster.pid").unlink()

    def sql(self, command: str) -> Any:
        engine = create_engine(
            f"postgresql+psycopg://portal@127.0.0.1:{self.port}/postgres",
            isolation_level="AUTOCOMMIT",
        )
        try:
            with engine.connect() as connection:
                found = connection.execute(text(command))
                return found.scalar() if found.returns_rows else None
        finally:
            engine.dispose()


def children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_for(happened: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


@dataclass
class Pair:
    """A primary and its synchronous standby, and the address of both."""

    primary: Server
    standby: Server

    @property
    def url(self) -> str:
        return (
            f"postgresql://portal@/portal?host=127.0.0.1:{self.primary.port}"
            f"&host=127.0.0.1:{self.standby.port}"
            "&target_session_attrs=read-write&connect_timeout=5"
        )


@pytest.fixture
def pair(want_present: Callable[[object, str], None]) -> Iterator[Pair]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    want_present(found, "PostgreSQL's server programs are not installed")
    programs = found[-1].parent
    want_present((programs / "pg_basebackup").exists(), "pg_basebackup is not installed")
    home = Path(tempfile.mkdtemp(prefix="medportal-standby-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(home, user)
    made = Pair(
        Server(programs, home / "primary", free_port(), user),
        Server(programs, home / "standby", free_port(), user),
    )
    try:
        begin(made)
        yield made
    finally:
        for server in (made.standby, made.primary):
            server.stop()
        shutil.rmtree(home)


def begin(made: Pair) -> None:
    """Set both up as docs/operations.md says."""
    primary, standby = made.primary, made.standby
    data = str(primary.data)
    primary.run("initdb", "-D", data, "-A", "trust", "-U", "portal", "-E", "UTF8", "--no-sync")
    primary.start()
    primary.sql("CREATE DATABASE portal")
    primary_is = f"host=127.0.0.1 port={primary.port} user=portal application_name=standby_a"
    primary.run(
        "pg_basebackup",
        "-d",
        primary_is,
        "-D",
        str(standby.data),
        "-R",
        "-X",
        "stream",
        "-c",
        "fast",
    )
    standby.start()
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (standby_a)'")
    primary.sql("SELECT pg_reload_conf()")
    wait_for(lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == "quorum")
    engine = make_engine(made.url)
    migrate(engine)
    engine.dispose()


@dataclass
class Load:
    """Files records and events, one after another, and notes which were acknowledged."""

    portal: Installation
    records: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    refused: int = 0
    surprises: list[BaseException] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        until = time.monotonic() + 2 * PATIENCE
        while not self.stopping.is_set() and time.monotonic() < until:
            try:
                self.one()
            except DBAPIError:
                self.refused += 1
                self.stopping.wait(0.1)
            except BaseException as error:
                self.surprises.append(error)
                return

    def one(self) -> None:
        record, keys, now = clinical_record("hospital"), self.portal.keys("hospital"), utcnow()
        content = to_fhir(record, subject(), CATALOGUE)
        fields = statement.statement_fields(
            content, record.id, 1, "hospital", record.author_id, record.category, now
        )
        signed = sign_statement(keys.signer(Purpose.RECORD), statement.LABEL, fields).to_bytes()
        event = Event.create(Action.RECORD_CREATED, now=now, object=record.id)
        with self.portal.session("hospital") as session, session.begin():
            file_record(
                session,
                documents_of(keys.tenant, session),
                keys,
                record,
                SealedContent(content, signed),
                patient_id=self.portal.person("patient"),
                origin="hospital",
                local_id=record.id,
                now=now,
            )
            append(session, event)
        # Only now has anybody been told that it is there.
        self.records.append(record.id)
        self.events.append(event.id)


def test_nothing_acknowledged_is_lost_and_the_portal_goes_on(
    pair: Pair, tmp_path: Path, key_material: Path, new_database: Any
) -> None:
    urls = {"hospital": pair.url, "laboratory": new_database("sqlite")}
    portal = install(tmp_path / "p", key_material, urls)
    browser = portal.signed_in("doctor")
    browser.get("/results", status=200)
    load = Load(portal)
    workers = [threading.Thread(target=load) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        wait_for(lambda: len(load.records) >= 20 or load.surprises)
        pair.primary.dies()
        wait_for(lambda: load.refused >= 3 or load.surprises)
        acknowledged = len(load.records)
        # Nobody can be told that anything was written, or be shown anything: the page says so.
        answer = browser.get("/results", status=503)
        assert "Retry-After" in answer.headers
        assert pair.standby.sql("SELECT pg_is_in_recovery()") is True
        # Nothing is written to a standby, and what waited is refused.
        assert len(load.records) == acknowledged
        pair.standby.run("pg_ctl", "-D", str(pair.standby.data), "-w", "-s", "promote")
        wait_for(lambda: len(load.records) >= acknowledged + 10 or load.surprises)
    finally:
        load.stopping.set()
        for worker in workers:
            worker.join()
    assert load.surprises == []
    # The same application, the same session of the same browser.
    browser.get("/results", status=200)
    with portal.session("hospital") as session:
        records = set(session.scalars(select(Record.id)))
        versions = session.scalars(select(RecordVersion.document_id)).all()
        events = set(session.scalars(select(AuditEvent.id)))
        stored = documents_of(portal.settings.tenant("hospital"), session).get_many(versions)
    assert set(load.records) <= records
    assert set(load.events) <= events
    assert set(stored) == set(versions)
    jobs = portal.jobs("hospital")
    while jobs.turn(utcnow()):
        pass
    with portal.session("hospital") as session:
        trust = CaTrust(portal.keys("hospital").keystore.ca)
        report = verify_session(session, tenant="hospital", trust=trust)
    assert report.ok and report.pending == 0
    portal.registry.dispose()
    portal.app.registry["tenants"].dispose()


def test_without_its_standby_the_primary_acknowledges_nothing(pair: Pair) -> None:
    """What one synchronous standby costs: it is why there should be two."""
    engine = make_engine(pair.url)
    pair.standby.dies()
    try:
        with engine.connect() as connection:
            connection.execute(text("CREATE TABLE waits (id integer)"))
            waiting = threading.Thread(target=connection.commit)
            waiting.start()
            activity = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                " AND datname = 'portal'"
            )
            wait_for(lambda: pair.primary.sql(activity) == 1)
            assert waiting.is_alive()
            # The standby comes back, and what waited is acknowledged.
            pair.standby.start()
            waiting.join(PATIENCE)
            assert not waiting.is_alive()
    finally:
        engine.dispose()
