"""On PostgreSQL each process has a role that can do what the process does, and no more."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from functional_helpers import page_text
from installation import TENANTS, Installation, install, raw_settings, tenant_files
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.audit.verifier import verify_session
from medportal.backup import tables
from medportal.backup.making import Places
from medportal.config import make_app
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Outbox
from medportal.jobs import Jobs
from medportal.models import Base
from medportal.ops import backup
from medportal.ops.audit import verify_tenant_log
from medportal.ops.grants import (
    VERSION,
    NoSuchRole,
    NotPostgres,
    ProcessRole,
    apply,
    rights_of,
    statements,
)
from medportal.ops.verify_log import CaTrust
from medportal.settings import parse_settings
from medportal.tenancy.engines import make_engine
from medportal.tenancy.registry import TenantRegistry
from medportal.transfer.ports import AcceptedRecord, Known, Question, Result, ResultKind
from medportal.transfer.stores import SqlReceiverStore, SqlSenderStore

DATABASE_ROLES = {process: f"medportal {process}" for process in ProcessRole}


@dataclass
class Guarded:
    """An installation whose database has a role for each process."""

    owner: Installation
    urls: dict[str, str]
    directory: Any

    def url(self, tenant: str, process: ProcessRole) -> str:
        role = DATABASE_ROLES[process].replace(" ", "%20")
        return self.urls[tenant].replace("//portal@", f"//{role}@")

    def engine(self, tenant: str, process: ProcessRole) -> Engine:
        return make_engine(self.url(tenant, process))

    @contextmanager
    def connection(self, tenant: str, process: ProcessRole) -> Iterator[Connection]:
        engine = self.engine(tenant, process)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def acting(self, process: ProcessRole) -> Installation:
        """Return the installation as a process of this role sees it."""
        urls = {tenant: self.url(tenant, process) for tenant in TENANTS}
        files = tenant_files(self.directory / str(process), urls)
        raw = raw_settings(files, self.owner.settings.home("hospital").parent)
        settings = parse_settings(raw)
        registry = TenantRegistry(settings.tenants)
        return Installation(settings, raw, make_app(raw), registry, self.owner.ids)


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, key_material: Any, new_database: Any
) -> Iterator[Guarded]:
    urls = {tenant: new_database("postgresql") for tenant in TENANTS}
    directory = tmp_path_factory.mktemp("guarded")
    made = install(directory / "owner", key_material, urls)
    for tenant in TENANTS:
        with made.registry.database(tenant).engine.begin() as connection:
            for process, role in DATABASE_ROLES.items():
                known = "SELECT 1 FROM pg_roles WHERE rolname = :role"
                if connection.scalar(text(known), {"role": role}) is None:
                    connection.exec_driver_sql(f'CREATE ROLE "{role}" LOGIN')
                apply(connection, process, role)
    yield Guarded(made, urls, directory)
    made.registry.dispose()
    made.app.registry["tenants"].dispose()


@pytest.fixture(scope="module")
def portal_process(guarded: Guarded) -> Iterator[Installation]:
    made = guarded.acting(ProcessRole.PORTAL)
    yield made
    made.registry.dispose()
    made.app.registry["tenants"].dispose()


@pytest.fixture(scope="module")
def entered(portal_process: Installation) -> str:
    """Let the laboratory enter a record through the portal; return what the page says."""
    browser = portal_process.signed_in("responsible", "laboratory")
    path = f"/patients/{portal_process.person('patient', 'laboratory')}/records/new"
    form = browser.get(path).forms["form"]
    form["effective"], form["body-temperature"] = "03/02/2026", "38.4"
    return page_text(form.submit().follow())


def test_the_portal_does_its_work_in_its_role(portal_process: Installation, entered: str) -> None:
    assert "38.4" in entered
    patient = portal_process.person("patient")
    doctor = portal_process.signed_in("doctor")
    form = doctor.get(f"/patients/{patient}/records/new").forms["form"]
    form["effective"], form["notes"] = "03/02/2026", "Sleeps well"
    assert "Sleeps well" in page_text(form.submit().follow())
    assert "Sleeps well" in page_text(
        portal_process.signed_in("patient").get("/").follow().click("Medical record, 3 February")
    )
    auditor = portal_process.signed_in("auditor")
    assert "Person doctor" in page_text(auditor.get("/audit"))
    assert auditor.get("/audit/proofs").status_int == 200
    assert auditor.get(f"/patients/{patient}", status=404)


FORBIDDEN = {
    "change": "UPDATE audit_event SET outcome = 'allowed'",
    "number": "UPDATE audit_event SET sequence = 1",
    "delete": "DELETE FROM audit_event",
    "truncate": "TRUNCATE audit_event",
    "node": "INSERT INTO audit_node (level, index, hash) VALUES (9, 9, 'x')",
    "head": "INSERT INTO audit_head (size, root, at, body, signatures)"
    " VALUES (9, 'x', now(), 'x', 'x')",
    "credential": "INSERT INTO audit_credential (digest, body) VALUES ('x', 'x')",
    "statement": "INSERT INTO audit_statement (digest, at, body, signatures)"
    " VALUES ('x', now(), 'x', 'x')",
    "upsert": "INSERT INTO audit_event SELECT * FROM audit_event"
    " ON CONFLICT (id) DO UPDATE SET body = 'x'",
    "trigger": "ALTER TABLE audit_event DISABLE TRIGGER ALL",
    "drop": "DROP TABLE audit_event",
    "index": "DROP INDEX uq_audit_event_sequence",
    "rename": "ALTER TABLE audit_event RENAME TO audit_old",
    "shadow": "CREATE TABLE audit_shadow (id text)",
    "rule": "CREATE RULE quiet AS ON INSERT TO audit_event DO INSTEAD NOTHING",
    "give": 'GRANT ALL ON audit_event TO "medportal portal"',
    "owner": 'ALTER TABLE audit_event OWNER TO "medportal portal"',
    "become": "SET ROLE portal",
    "numbered": "INSERT INTO audit_event (id, at, action, outcome, body, sequence)"
    " VALUES ('x', now(), 'sign-in', 'allowed', 'x', 9000000000000000000)",
    "partner-head": "DELETE FROM partner_head",
    "past-head": "DELETE FROM partner_head_past",
    "past-head-lost": "UPDATE partner_head_past SET lost_at = now()",
    "past-head-changed": "UPDATE partner_head_past SET root = 'x'",
    "evidence": "DELETE FROM partner_head_conflict",
    "evidence-settled": "UPDATE partner_head_conflict SET settled_at = now()",
    "evidence-changed": "UPDATE partner_head_conflict SET shown = 'x'",
}
#: What the sequencer has to be able to do.
SEQUENCER_MAY = {"number", "node", "head", "credential"}


@pytest.mark.parametrize("attempt", FORBIDDEN)
@pytest.mark.parametrize("process", list(ProcessRole), ids=str)
def test_no_process_can_change_what_is_in_the_log(
    guarded: Guarded, entered: str, process: ProcessRole, attempt: str
) -> None:
    if process is ProcessRole.JOBS and attempt in SEQUENCER_MAY:
        attempt = "change"
    with guarded.connection("laboratory", process) as connection:
        assert connection.scalar(text("SELECT count(*) FROM audit_event"))
        if attempt == "give":
            # PostgreSQL gives what one may give away, which is nothing, and warns.
            connection.exec_driver_sql(FORBIDDEN[attempt])
            connection.commit()
            attempt = "change"
        with pytest.raises(DBAPIError) as refused:
            connection.exec_driver_sql(FORBIDDEN[attempt])
    assert refused.value.orig.sqlstate in {"42501", "22023"}


@pytest.mark.parametrize("process", list(ProcessRole), ids=str)
def test_every_process_can_add_an_event(guarded: Guarded, process: ProcessRole) -> None:
    engine = guarded.engine("hospital", process)
    event = Event.create(Action.AUDIT_VIEWED, now=utcnow())
    with Session(engine) as session, session.begin():
        append(session, event)
    with Session(engine) as session:
        assert session.scalar(select(AuditEvent.id).where(AuditEvent.id == event.id))
    engine.dispose()


@pytest.mark.parametrize("process", [ProcessRole.SENDER, ProcessRole.RECEIVER], ids=str)
@pytest.mark.parametrize("table", ["person", "patient", "record", "document", "patient_key"])
def test_who_faces_partners_reads_no_people_and_no_records(
    guarded: Guarded, process: ProcessRole, table: str
) -> None:
    opened = guarded.connection("hospital", process)
    with opened as connection, pytest.raises(ProgrammingError) as refused:
        connection.exec_driver_sql(f"SELECT * FROM {table}")
    assert refused.value.orig.sqlstate == "42501"


def test_jobs_number_and_sign_in_their_role(guarded: Guarded, entered: str) -> None:
    made = guarded.acting(ProcessRole.JOBS)
    for tenant in TENANTS:
        known = made.settings.tenant(tenant)
        jobs = Jobs(made.settings, known, made.registry.database(tenant))
        while jobs.turn(utcnow()):
            pass
        assert [step.name for step in jobs._steps if step.failures] == []
        with made.session(tenant) as session:
            trust = CaTrust(made.keys(tenant).keystore.ca)
            report = verify_session(session, tenant=tenant, trust=trust)
        assert report.ok and report.size > 0 and report.pending == 0
    made.registry.dispose()
    made.app.registry["tenants"].dispose()


def test_a_record_travels_between_the_roles_that_face_partners(
    guarded: Guarded, entered: str
) -> None:
    now = utcnow()
    jobs_of(guarded, "laboratory")
    engines = (
        guarded.engine("laboratory", ProcessRole.SENDER),
        guarded.engine("hospital", ProcessRole.RECEIVER),
    )
    sender = SqlSenderStore(engines[0], guarded.owner.keys("laboratory"), "one")
    receiver = SqlReceiverStore(engines[1], guarded.owner.keys("hospital"))
    assert list(sender.due(now)) == ["hospital"]
    welcome = receiver.welcome("laboratory", None, None, now)
    own = sender.prepare("hospital", welcome.mark, welcome.held, now, now)
    assert own.head is not None
    assert receiver.peer_head("laboratory", own.head, own.consistency, welcome.held, now)
    assert receiver.peer_head("laboratory", own.head, (), welcome.held, now) is not None
    sender.reachable("hospital", now)
    sender.standing("hospital")
    (record,) = sender.claim("hospital", 5, now)
    sender.renew([record], now)
    question = Question(record.tid, record.key_id, record.pseudonym)
    answer = receiver.answer("laboratory", [question], now)[record.tid]
    assert isinstance(answer, Known)
    (signed,) = receiver.commit(
        [
            AcceptedRecord(
                sender="laboratory",
                tid=record.tid,
                digest=record.digest,
                patient=answer.patient,
                key_id=record.key_id,
                pseudonym=record.pseudonym,
                fits=True,
                refusal="",
                payload=record.payload,
            )
        ],
        now,
    )
    assert isinstance(signed, bytes)
    receiver.registrations()
    sender.finished("hospital", [Result(record, ResultKind.UNKNOWN)], now)
    sender.changed("hospital", now)
    with Session(engines[0]) as session:
        assert session.scalars(select(Outbox.state)).one() == "unknown-patient"
    for engine in engines:
        engine.dispose()


def jobs_of(guarded: Guarded, tenant: str) -> None:
    while guarded.owner.jobs(tenant).turn(utcnow()):
        pass


def test_rights_name_tables_that_there_are(guarded: Guarded) -> None:
    with guarded.owner.registry.database("hospital").engine.connect() as connection:
        found = connection.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        )
        tables = set(found)
    for process in ProcessRole:
        assert set(rights_of(process)) <= tables
    # Nobody has a new table by oversight on their side, and the portal has every one.
    assert set(rights_of(ProcessRole.PORTAL)) == tables
    for process in ProcessRole:
        for table, rights in rights_of(process).items():
            if table.startswith("audit_"):
                assert not {"UPDATE", "DELETE", "TRUNCATE"} & set(rights)


def test_a_role_is_quoted_and_must_exist(guarded: Guarded) -> None:
    hostile = 'x"; DROP TABLE audit_event; --'
    lines = statements(ProcessRole.PORTAL, hostile)
    assert all('"x""; DROP TABLE audit_event; --"' in line for line in lines if " TO " in line)
    with guarded.owner.registry.database("hospital").engine.connect() as connection:
        with pytest.raises(NoSuchRole):
            apply(connection, ProcessRole.PORTAL, hostile)
        with pytest.raises(NoSuchRole):
            apply(connection, ProcessRole.PORTAL, f"nobody-{new_id()}")


def test_a_file_has_no_roles(tmp_path: Any) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'x.sqlite'}")
    with engine.connect() as connection, pytest.raises(NotPostgres):
        apply(connection, ProcessRole.PORTAL, "x")
    engine.dispose()


def test_backups_read_what_they_hold_and_change_nothing(guarded: Guarded, entered: str) -> None:
    rights = rights_of(ProcessRole.BACKUP)
    closed = {"login_session", "passkey_challenge", "sign_in_throttle"}
    assert set(rights) == {*Base.metadata.tables, VERSION} - closed
    # No right is given that making a backup has no use for.
    with guarded.connection("hospital", ProcessRole.BACKUP) as connection:
        there = tables.reflect(connection)
    held = {table.name for table in (*tables.data_tables(there), *tables.key_tables(there))}
    assert set(rights) == held | tables.APART
    changing = {table for table, given in rights.items() if set(given) != {"SELECT"}}
    assert changing == {"audit_event"}
    with guarded.connection("hospital", ProcessRole.BACKUP) as connection:
        for table in sorted(rights):
            connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"')
        for table in sorted(closed):
            with pytest.raises(ProgrammingError), connection.begin_nested():
                connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"')
        for table in sorted(set(rights) - changing):
            with pytest.raises(ProgrammingError), connection.begin_nested():
                connection.exec_driver_sql(f'DELETE FROM "{table}"')


def test_a_backup_is_made_in_its_role(guarded: Guarded, entered: str, tmp_path: Any) -> None:
    made = guarded.acting(ProcessRole.BACKUP)
    hospital = made.settings.tenant("hospital")
    passphrase = tmp_path / "backup.passphrase"
    passphrase.write_text("a passphrase that is kept in a safe\n")
    passphrase.chmod(0o600)
    backup.create_backup_key(made.settings, hospital, tmp_path / "away", passphrase)
    done = backup.create(
        made.settings,
        hospital,
        made.registry.database("hospital"),
        Places(tmp_path / "data", tmp_path / "keys"),
        utcnow(),
        lambda counts: None,
    )
    opens = backup.opener(tmp_path / "away", passphrase)
    checked = backup.verify([done.data, done.keys], opens, utcnow()).whole
    assert done.damaged == 0 and checked[0].counts.rows > 0
    # The weekly check of the log is made in the same role.
    database = made.registry.database("hospital")
    assert verify_tenant_log(made.settings, hospital, database, ()).is_whole
    made.registry.dispose()
    made.app.registry["tenants"].dispose()
