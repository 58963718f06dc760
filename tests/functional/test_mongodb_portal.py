"""The portal with its documents in MongoDB: the same pages, and a clear one when it is gone."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from functional_helpers import page_text
from installation import TENANTS, Browser, Installation, install
from mongo_server import MongoServer
from pymongo import MongoClient
from sqlalchemy import create_engine, func, select, text
from webtest import TestResponse

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.cli import main
from medportal.core.clock import utcnow
from medportal.core.errors import MedportalError
from medportal.delivery.inbox import Arrival, register
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.parcel import inbox_info, outbox_info
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.ops.stores import Stores
from medportal.records.models import Record, RecordVersion
from medportal.vault import mongo
from medportal.vault.models import Document

MARKER = "Quillwort fever of the right elbow"
NO_DISK = 14031


def table(documents: Any, store: str = "mongodb", fallback: str = "") -> str:
    """Return what a tenant's file says of its document store."""
    lines = [f'store = "{store}"', f'url = "{documents.url}"', f'user = "{documents.user}"']
    lines += [f'fallback = "{fallback}"'] if fallback else []
    lines += [f'password_file = "{documents.password_file}"', f'ca_file = "{documents.ca_file}"']
    return "\n".join(lines)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def portal(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    key_material: Path,
    new_database: Any,
    mongodb: MongoServer,
) -> Iterator[Installation]:
    """Give an installation on each engine; each institution has a MongoDB database of its own."""
    urls = {tenant: new_database(request.param) for tenant in TENANTS}
    stores = {tenant: mongodb.new_database() for tenant in TENANTS}
    for tenant, documents in stores.items():
        mongo.migrate(tenant, documents)
    tables = {tenant: table(documents) for tenant, documents in stores.items()}
    made = install(tmp_path_factory.mktemp("mongodb") / "p", key_material, urls, tables)
    yield made
    made.registry.dispose()
    made.app.registry["tenants"].dispose()
    mongo.close_clients()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shorten the waits for a server that does not answer."""
    monkeypatch.setattr(mongo, "SELECTION_MS", 600)
    monkeypatch.setattr(mongo, "OPERATION_MS", 1_500)
    mongo.close_clients()
    yield
    mongo.close_clients()


def entry_form(portal: Installation, browser: Browser, role_tenant: str = "hospital") -> Any:
    path = f"/patients/{portal.person('patient', role_tenant)}/records/new"
    return browser.get(path).forms["form"]


def enter(portal: Installation, diagnosis: str = MARKER) -> tuple[Browser, str]:
    """Enter a record at the hospital; return the doctor's browser and its address."""
    browser = portal.signed_in("doctor")
    form = entry_form(portal, browser)
    form["effective"], form["diagnosis"] = "05/02/2026", diagnosis
    answer = form.submit()
    assert answer.status_int == 303, page_text(answer)
    return browser, answer.headers["Location"]


def counts(portal: Installation, tenant: str = "hospital") -> tuple[int, ...]:
    with portal.session(tenant) as session:
        tables = (Record, RecordVersion, Document, Outbox)
        return tuple(session.scalar(select(func.count()).select_from(t)) or 0 for t in tables)


def kept(portal: Installation, tenant: str = "hospital") -> int:
    return mongo.keeper(tenant, portal.settings.tenant(tenant).documents).count()


def the_document(portal: Installation, address: str) -> str:
    record = address.rpartition("/")[2]
    with portal.session("hospital") as session:
        found = session.scalars(
            select(RecordVersion.document_id).where(RecordVersion.record_id == record)
        )
        return found.one()


def collection(
    portal: Installation, client: MongoClient[dict[str, Any]], tenant: str = "hospital"
) -> Any:
    url = portal.settings.tenant(tenant).documents.url
    return client[url.rpartition("/")[2].partition("?")[0]][mongo.DOCUMENTS]


def test_a_record_lies_in_mongodb_and_nowhere_else(
    portal: Installation, mongodb: MongoServer
) -> None:
    before = kept(portal), kept(portal, "laboratory")
    browser, address = enter(portal)
    assert MARKER in page_text(browser.get(address))
    assert (kept(portal), kept(portal, "laboratory")) == (before[0] + 1, before[1])
    assert counts(portal)[2] == 0
    with mongodb.administrator() as client:
        row = collection(portal, client).find_one({"_id": the_document(portal, address)})
    # Ciphertext under a random id; of whom it is, this server is not told.
    assert set(row) == {"_id", "sealed", "created_at"}
    assert MARKER.encode() not in row["sealed"]
    assert portal.person("patient").encode() not in row["sealed"]


@pytest.mark.parametrize("what", ["changed", "gone", "swapped", "no-bytes"])
def test_what_was_done_to_a_document_is_said_and_nothing_is_shown(
    portal: Installation, mongodb: MongoServer, what: str
) -> None:
    browser, address = enter(portal, f"{MARKER} {what}")
    _browser, other = enter(portal, "Of another record")
    document = {"_id": the_document(portal, address)}
    with mongodb.administrator() as client:
        rows = collection(portal, client)
        sealed = rows.find_one(document)["sealed"]
        match what:
            case "changed":
                last = bytes([sealed[-1] ^ 1])
                rows.update_one(document, {"$set": {"sealed": sealed[:-1] + last}})
            case "gone":
                rows.delete_one(document)
            case "swapped":
                theirs = rows.find_one({"_id": the_document(portal, other)})["sealed"]
                rows.update_one(document, {"$set": {"sealed": theirs}})
            case "no-bytes":
                rows.update_one(
                    document,
                    {"$set": {"sealed": "text"}},
                    bypass_document_validation=True,
                )
    page = page_text(browser.get(address, expect_errors=True))
    assert MARKER not in page
    assert "Of another record" not in page
    timeline = page_text(browser.get(f"/patients/{portal.person('patient')}"))
    assert f"{MARKER} {what}" not in timeline


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "how",
    [
        {"errorCode": NO_DISK},
        {"closeConnection": True},
        {"blockConnection": True, "blockTimeMS": 2_500},
        {"errorCode": 10107},
    ],
    ids=["full", "gone", "slow", "failing-over"],
)
def test_nothing_typed_is_lost_when_the_store_fails(
    portal: Installation, mongodb: MongoServer, how: dict[str, Any]
) -> None:
    browser = portal.signed_in("doctor")
    typed = f'{MARKER} <script>alert("1")</script> "quoted" & ção'
    form = entry_form(portal, browser)
    form["effective"], form["diagnosis"] = "05/02/2026", typed
    before = counts(portal)
    with mongodb.failing(["insert"], **how):
        answer = form.submit(expect_errors=True)
        assert answer.status_int == 503
        # Again, while it still fails, from the page that kept it.
        answer = answer.forms["again"].submit(expect_errors=True)
    assert answer.status_int == 503
    assert answer.headers["Retry-After"] == "30"
    assert "no-store" in answer.headers["Cache-Control"]
    assert "What you entered is kept on this page" in page_text(answer)
    assert "<script>alert" not in answer.text
    assert counts(portal) == before
    mongo.close_clients()
    done = answer.forms["again"].submit()
    assert done.status_int == 303
    assert typed in page_text(done.follow())
    once_more = answer.forms["again"].submit(expect_errors=True)
    assert once_more.status_int in {303, 422}
    # Sent once more than needed, it is still one record.
    assert counts(portal)[0] == before[0] + 1


@pytest.mark.usefixtures("quick")
def test_a_reader_is_told_that_it_is_not_now(portal: Installation, mongodb: MongoServer) -> None:
    browser, address = enter(portal)
    events = len(portal.events("hospital"))
    with mongodb.failing(["find"], closeConnection=True):
        page = browser.get(address, expect_errors=True)
    assert page.status_int == 503
    assert "We cannot answer right now" in page_text(page)
    assert MARKER not in page.text
    # Nothing to send again, and nobody read anything.
    assert "again" not in page.forms
    assert len(portal.events("hospital")) == events
    mongo.close_clients()
    assert MARKER in page_text(browser.get(address))


@pytest.mark.usefixtures("quick")
def test_a_record_is_not_called_damaged_because_a_server_is_gone(
    portal: Installation, mongodb: MongoServer
) -> None:
    browser, address = enter(portal)
    with mongodb.failing(["find"], errorCode=10107):
        for path in (address, f"/patients/{portal.person('patient')}"):
            page = browser.get(path, expect_errors=True)
            assert page.status_int == 503 or MARKER not in page.text
            assert "damaged" not in page_text(page).lower()


def arrive(portal: Installation) -> str:
    """Let the hospital's receiver have taken in a record of the laboratory."""
    browser = portal.signed_in("responsible", "laboratory")
    form = entry_form(portal, browser, "laboratory")
    form["effective"], form["body-temperature"] = "03/02/2026", "38.4"
    assert form.submit().status_int == 303
    with portal.session("laboratory") as session:
        row = session.scalars(select(Outbox).order_by(Outbox.created_at.desc())).first()
    assert row is not None
    opened = portal.keys("laboratory").open_outgoing(
        row.sealed, outbox_info("laboratory", "hospital", row.tid)
    )
    sealed = (
        portal.keys("hospital")
        .sealer("inbox")
        .seal(opened, inbox_info("hospital", "laboratory", row.tid))
    )
    arrival = Arrival(
        sender="laboratory",
        tid=row.tid,
        digest=row.tid.encode(),
        pseudonym=b"p" * 32,
        key_id="k",
        outcome=Outcome.REGISTERED,
        reason=DeliveryReason.REGISTERED,
        patient_id=portal.person("patient"),
        sealed=sealed,
    )
    with portal.session("hospital") as session, session.begin():
        register(session, [arrival], utcnow())
    return row.tid


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", [{"errorCode": NO_DISK}, {"closeConnection": True}])
def test_intake_waits_until_the_store_is_back(
    portal: Installation, mongodb: MongoServer, how: dict[str, Any]
) -> None:
    tid = arrive(portal)
    before = counts(portal)
    jobs = portal.jobs("hospital")
    with mongodb.failing(["insert"], **how):
        jobs.turn(utcnow())
    with portal.session("hospital") as session:
        waiting = session.scalars(select(Inbox).where(Inbox.tid == tid)).one()
        assert waiting.sealed is not None
        assert waiting.filed_at is None
    assert counts(portal) == before
    mongo.close_clients()
    jobs.turn(utcnow() + timedelta(minutes=2))
    assert counts(portal)[0] == before[0] + 1


@pytest.mark.usefixtures("quick")
def test_another_institutions_store_is_not_used(portal: Installation, mongodb: MongoServer) -> None:
    """A mistake in a file: both institutions name the same database."""
    browser, address = enter(portal)
    with mongodb.administrator() as client:
        about = collection(portal, client).database[mongo.ABOUT]
        about.update_one({"_id": mongo.OWNER}, {"$set": {"tenant": "laboratory"}})
        mongo.close_clients()
        try:
            assert browser.get(address, expect_errors=True).status_int == 503
        finally:
            about.update_one({"_id": mongo.OWNER}, {"$set": {"tenant": "hospital"}})
    mongo.close_clients()
    assert MARKER in page_text(browser.get(address))


@pytest.mark.parametrize("portal", ["postgresql"], indirect=True)
def test_a_sql_server_that_is_gone_is_told_too(portal: Installation) -> None:
    browser = portal.signed_in("doctor")
    form = entry_form(portal, browser)
    form["effective"], form["diagnosis"] = "05/02/2026", MARKER
    database = portal.registry.database("hospital")
    name = database.engine.url.database
    elsewhere = database.engine.url.set(database="postgres")
    admin = create_engine(elsewhere, isolation_level="AUTOCOMMIT")

    def allow(yes: bool, connection: Any) -> None:
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {yes}'))

    with admin.connect() as connection:
        allow(False, connection)
        others = "FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"), {"name": name})
        try:
            answers = [form.submit(expect_errors=True) for _ in range(2)]
        finally:
            allow(True, connection)
    admin.dispose()
    assert [answer.status_int for answer in answers] == [503, 503]
    answer = answers[-1]
    assert MARKER in answer.forms["again"]["diagnosis"].value
    assert answer.forms["again"].submit().status_int == 303


# Moving, sweeping, looking: the command line.


@pytest.fixture
def moving(
    tmp_path: Path, key_material: Path, new_database: Any, mongodb: MongoServer
) -> Iterator["Moving"]:
    made = Moving(tmp_path, key_material, new_database, mongodb)
    yield made
    made.close()


class Moving:
    """An institution that begins with its documents in SQL, and its command line."""

    def __init__(
        self, directory: Path, key_material: Path, new_database: Any, server: MongoServer
    ) -> None:
        self.server = server
        self.stores = {tenant: server.new_database() for tenant in TENANTS}
        self.tables = {name: table(d, "sql") for name, d in self.stores.items()}
        urls = {tenant: new_database("sqlite") for tenant in TENANTS}
        self.portal = install(directory / "p", key_material, urls, self.tables)
        self.ini = directory / "portal.ini"
        lines = ["[app:main]", "use = egg:medportal"]
        lines += [f"{key} = {value}" for key, value in self.portal.raw.items()]
        self.ini.write_text("\n".join(lines) + "\n", "utf-8")

    def switch(self, store: str, fallback: str = "") -> None:
        """Change the hospital's file and restart the portal."""
        file = Path(self.portal.raw["medportal.tenants_dir"]) / "hospital.toml"
        new = table(self.stores["hospital"], store, fallback)
        content = file.read_text("utf-8").replace(self.tables["hospital"], new)
        file.write_text(content, "utf-8")
        self.tables["hospital"] = new
        self.restart()

    def restart(self) -> None:
        from medportal.config import make_app
        from medportal.settings import parse_settings
        from medportal.tenancy.registry import TenantRegistry

        self.close()
        self.portal.settings = parse_settings(self.portal.raw)
        self.portal.registry = TenantRegistry(self.portal.settings.tenants)
        self.portal.app = make_app(self.portal.raw)

    def run(self, *words: str, status: int = 0) -> list[dict[str, Any]]:
        done = CliRunner().invoke(main, ["--config", str(self.ini), "--json", *words])
        assert done.exit_code == status, done.output + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def close(self) -> None:
        self.portal.registry.dispose()
        self.portal.app.registry["tenants"].dispose()
        mongo.close_clients()


def test_documents_move_while_the_portal_serves(moving: Moving) -> None:
    portal = moving.portal
    browser, first = enter(portal)
    (row,) = moving.run("store", "copy", "hospital", "--to", "mongodb")
    assert (row["copied"], row["as filed"], row["wrong"]) == (1, 1, 0)
    (row,) = moving.run("store", "copy", "hospital", "--to", "mongodb")
    assert (row["copied"], row["as filed"]) == (0, 1)
    # One that is filed between the copy and the change of the file.
    _browser, second = enter(portal)
    moving.switch("mongodb", "sql")
    browser, third = enter(portal)
    for address in (first, second, third):
        assert MARKER in page_text(browser.get(address))
    problems = CliRunner().invoke(
        main,
        ["--config", str(moving.ini), "store", "copy", "hospital", "--from", "sql", "--clear"],
    )
    assert problems.exit_code == 2
    assert "still in use" in problems.stderr
    moving.switch("mongodb")
    (row,) = moving.run("store", "copy", "hospital", "--from", "sql", "--clear")
    assert (row["copied"], row["as filed"], row["wrong"], row["removed"]) == (0, 3, 0, 2)
    assert counts(moving.portal)[2] == 0
    browser = moving.portal.signed_in("doctor")
    for address in (first, second, third):
        assert MARKER in page_text(browser.get(address))
    # And back again.
    (row,) = moving.run("store", "copy", "hospital", "--to", "sql")
    assert (row["copied"], row["as filed"]) == (3, 3)
    moving.switch("sql")
    assert MARKER in page_text(moving.portal.signed_in("doctor").get(third))


def test_a_copy_goes_on_where_it_was_interrupted_and_says_what_is_wrong(moving: Moving) -> None:
    portal = moving.portal
    addresses = [enter(portal)[1] for _ in range(3)]
    with moving.server.failing(["insert"], errorCode=NO_DISK):
        done = CliRunner().invoke(
            main, ["--config", str(moving.ini), "store", "copy", "hospital", "--to", "mongodb"]
        )
    assert done.exit_code == 2
    assert "its disk is full" in done.stderr
    assert moving.stores["hospital"].url not in done.stderr
    damaged, gone, changed = (the_document(portal, address) for address in addresses)
    with portal.session("hospital") as session, session.begin():
        session.get_one(Document, damaged).sealed = b"other bytes"
        session.delete(session.get_one(Document, gone))
    keeper = mongo.keeper("hospital", portal.settings.tenant("hospital").documents)
    keeper.put(changed, b"what somebody put there before")
    words = ["--config", str(moving.ini), "--json", "store", "copy", "hospital", "--to", "mongodb"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    row = json.loads(done.stdout)
    assert (row["copied"], row["mended"], row["as filed"], row["wrong"]) == (0, 1, 1, 2)
    assert f"document {gone}: missing" in done.stderr
    assert f"document {damaged}: " in done.stderr
    keeper = mongo.keeper("hospital", portal.settings.tenant("hospital").documents)
    assert keeper.get_many([damaged, gone]) == {}
    (row,) = moving.run("store", "status", "hospital", "--verify", status=1)
    assert (row["named"], row["as filed"], row["wrong"]) == (3, 1, 2)


def test_a_copy_that_ended_early_is_in_the_log_with_what_it_did(moving: Moving) -> None:
    portal = moving.portal
    for _ in range(2):
        enter(portal)
    tenant = portal.settings.tenant("hospital")
    held = Stores(tenant, portal.registry.database("hospital"))

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    def told() -> list[dict[str, Any]]:
        with portal.session("hospital") as session:
            copied = select(AuditEvent.body).where(AuditEvent.action == "documents-copied")
            bodies = session.scalars(copied.order_by(AuditEvent.at, AuditEvent.id))
            return [dict(Event.from_bytes(body).details) for body in bodies]

    with pytest.raises(KeyboardInterrupt):
        held.copy("sql", "mongodb", stop, "process:command-line")
    (first,) = told()
    assert (first["copied"], first["removed"], first["ended"]) == (2, 0, "early")
    # A copy that could change nothing is nothing to tell of.
    with moving.server.failing(["find"], errorCode=NO_DISK), pytest.raises(MedportalError):
        held.copy("sql", "mongodb", stop, "process:command-line")
    assert len(told()) == 1
    moving.switch("mongodb")
    emptied = Stores(portal.settings.tenant("hospital"), portal.registry.database("hospital"))
    rounds = iter([lambda: None])

    def stop_later(_done: int, _total: int) -> None:
        # The copy's own round may end; the one that empties may not.
        next(rounds, stop_now)()

    def stop_now() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        emptied.copy("sql", "mongodb", stop_later, "process:command-line", clear=True)
    second = told()[1]
    assert (second["copied"], second["removed"], second["ended"]) == (0, 2, "early")
    (row,) = moving.run("store", "copy", "hospital", "--from", "sql", "--clear")
    assert (row["as filed"], row["removed"]) == (2, 0)
    assert "ended" not in told()[2]


def test_a_sweep_sets_aside_what_no_record_names(moving: Moving) -> None:
    portal = moving.portal
    browser, address = enter(portal)
    moving.run("store", "copy", "hospital", "--to", "mongodb")
    moving.switch("mongodb")
    documents = moving.portal.settings.tenant("hospital").documents
    now = utcnow()
    for age in (timedelta(hours=1), timedelta(days=2), timedelta(days=40)):
        mongo.keeper("hospital", documents, lambda age=age: now - age).put(
            f"{age.days:032x}", b"nobody's"
        )
    keeper = mongo.keeper("hospital", documents)
    keeper.set_aside([f"{40:032x}"], now - timedelta(days=31))
    # One that a record names again, after a restore say.
    keeper.set_aside([the_document(moving.portal, address)], now)
    (row,) = moving.run("store", "sweep", "hospital")
    assert row == {"documents": 4, "set aside": 1, "taken back": 1, "removed": 1}
    keeper = mongo.keeper("hospital", documents)
    assert keeper.get(f"{2:032x}") == b"nobody's"
    marks = {k.id: k.set_aside_at is not None for k in keeper.listing()}
    assert marks == {
        f"{0:032x}": False,
        f"{2:032x}": True,
        the_document(moving.portal, address): False,
    }
    (row,) = moving.run("store", "sweep", "hospital")
    assert row == {"documents": 3, "set aside": 0, "taken back": 0, "removed": 0}
    assert MARKER in page_text(moving.portal.signed_in("doctor").get(address))


def test_what_was_erased_is_not_carried_on(moving: Moving) -> None:
    portal = moving.portal
    _browser, address = enter(portal)
    document = the_document(portal, address)
    moving.run("store", "copy", "hospital", "--to", "mongodb")
    with portal.session("hospital") as session, session.begin():
        portal.keys("hospital").vault.destroy_patient_key(
            session, portal.person("patient"), utcnow()
        )
    mongo.migrate("hospital", moving.stores["hospital"])
    keeper = mongo.keeper("hospital", portal.settings.tenant("hospital").documents)
    assert keeper.remove([document]) == 1
    (row,) = moving.run("store", "copy", "hospital", "--to", "mongodb")
    assert (row["copied"], row["erased"], row["wrong"]) == (0, 1, 0)
    # Where it still lies, a sweep finds it a day later, and removes it after the other thirty.
    with portal.session("hospital") as session, session.begin():
        session.get_one(Document, document).created_at = utcnow() - timedelta(days=2)
    (row,) = moving.run("store", "sweep", "hospital", "--store", "sql")
    assert row["set aside"] == 1


def test_status_says_where_documents_lie(moving: Moving) -> None:
    enter(moving.portal)
    moving.run("store", "copy", "hospital", "--to", "mongodb")
    sql, other = moving.run("store", "status", "hospital")
    assert (sql["store"], sql["use"], sql["documents"], sql["named"]) == ("sql", "in use", 1, 1)
    assert (other["store"], other["use"], other["documents"]) == ("mongodb", "not in use", 1)
    assert other["set"] == moving.server.replica_set
    password = Path(moving.stores["hospital"].password_file).read_text("utf-8").strip()
    assert password not in json.dumps(other)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["copy", "hospital"], "say which way"),
        (["copy", "hospital", "--to", "sql", "--from", "sql"], "not copied into itself"),
        (["status", "nowhere"], "no tenant of that name"),
    ],
)
def test_clumsy_commands_are_explained(moving: Moving, words: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["--config", str(moving.ini), "store", *words])
    assert done.exit_code == 2
    assert said in done.stderr


def test_migrating_a_tenant_makes_its_collection(moving: Moving) -> None:
    moving.switch("mongodb")
    done = CliRunner().invoke(main, ["--config", str(moving.ini), "store", "status", "hospital"])
    assert done.exit_code == 2
    assert "medportal tenant migrate" in done.stderr
    browser = moving.portal.signed_in("doctor")
    refused: TestResponse = browser.get(
        f"/patients/{moving.portal.person('patient')}/records/{'a' * 32}", expect_errors=True
    )
    assert refused.status_int in {404, 503}
    moving.run("tenant", "migrate", "hospital")
    _browser, address = enter(moving.portal)
    assert MARKER in page_text(browser.get(address))
