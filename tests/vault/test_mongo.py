"""MongoDB that is gone, slow, full, failing over, somebody else's, hostile: named, bounded."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mongo_server
import pytest
from bson.binary import Binary
from mongo_server import MongoServer
from pymongo import MongoClient
from structlog.testing import capture_logs

from medportal.core.ids import new_id
from medportal.tenancy.tenant import Documents
from medportal.vault import mongo
from medportal.vault.errors import (
    DocumentMissing,
    DocumentsUnavailable,
    StoreProblem,
    Tampered,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOT_PRIMARY, SHUTTING_DOWN, OUT_OF_DISK, W_TIMEOUT = 10107, 91, 14031, 64


@pytest.fixture(scope="module")
def database(mongodb: MongoServer) -> Iterator[Documents]:
    documents = mongodb.new_database()
    mongo.migrate("hospital", documents)
    yield documents
    mongo.close_clients()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shorten the waits; the connections made with them are closed."""
    monkeypatch.setattr(mongo, "SELECTION_MS", 600)
    monkeypatch.setattr(mongo, "OPERATION_MS", 1_500)
    mongo.close_clients()
    yield
    mongo.close_clients()


def store(documents: Documents) -> mongo.MongoDocumentStore:
    return mongo.keeper("hospital", documents)


def problem(documents: Documents, tenant: str = "hospital") -> StoreProblem:
    with pytest.raises(DocumentsUnavailable) as refused:
        mongo.keeper(tenant, documents).get(new_id())
    return refused.value.problem


def name_of(documents: Documents) -> str:
    return documents.url.rpartition("/")[2].partition("?")[0]


def raw(server: MongoServer, documents: Documents, client: MongoClient[dict[str, Any]]) -> Any:
    return client[name_of(documents)][mongo.DOCUMENTS]


# Who we are, who they are, whose it is.


def test_another_password_is_refused(database: Documents, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("another", "utf-8")
    file.chmod(0o600)
    documents = replace(database, password_file=str(file))
    assert problem(documents) is StoreProblem.SIGN_IN


def test_a_password_that_was_changed_is_read_anew(mongodb: MongoServer) -> None:
    documents = mongodb.new_database()
    mongo.migrate("hospital", documents)
    store(documents).put(new_id(), b"sealed")
    mongodb.change_password(documents, "another one")
    mongo.close_clients()
    assert problem(documents) is StoreProblem.SIGN_IN
    Path(documents.password_file).write_text("another one\n", "utf-8")
    doc_id = new_id()
    store(documents).put(doc_id, b"sealed")
    assert store(documents).get(doc_id) == b"sealed"


@pytest.mark.usefixtures("quick")
def test_a_certificate_of_another_authority_is_refused(database: Documents, tmp_path: Path) -> None:
    mongo_server.make_certificate(tmp_path)
    documents = replace(database, ca_file=str(tmp_path / "ca.crt"))
    assert problem(documents) is StoreProblem.CERTIFICATE
    # Nor do the system's authorities vouch for it.
    assert problem(replace(database, ca_file="")) is StoreProblem.CERTIFICATE


@pytest.mark.usefixtures("quick")
def test_a_certificate_for_another_host_is_refused(database: Documents) -> None:
    documents = replace(database, url=database.url.replace("127.0.0.1", "localhost"))
    # The set's own list of servers would lead away from the name that was asked for.
    documents = replace(documents, url=documents.url.partition("?")[0])
    assert problem(documents) is StoreProblem.CERTIFICATE


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", "open"])
def test_a_password_file_that_is_unfit_is_named(
    database: Documents, tmp_path: Path, content: bytes | str | None
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(0o644 if content == "open" else 0o600)
    assert problem(replace(database, password_file=str(file))) is StoreProblem.FILES


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_file_that_is_unfit_is_named(
    database: Documents, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_text(content, "utf-8")
    assert problem(replace(database, ca_file=str(file))) is StoreProblem.FILES


def test_without_an_address_it_is_not_set_up() -> None:
    assert problem(Documents(store="mongodb")) is StoreProblem.NOT_SET_UP


def test_the_database_of_another_institution_is_refused(database: Documents) -> None:
    assert problem(database, "laboratory") is StoreProblem.OTHER_INSTITUTION
    with pytest.raises(DocumentsUnavailable) as refused:
        mongo.migrate("laboratory", database)
    assert refused.value.problem is StoreProblem.OTHER_INSTITUTION


def test_a_user_reads_no_other_database(mongodb: MongoServer, database: Documents) -> None:
    others = mongodb.new_database()
    mongo.migrate("laboratory", others)
    # With the hospital's own user at the laboratory's database.
    documents = replace(database, url=others.url)
    assert problem(documents) is StoreProblem.SIGN_IN


def test_a_database_that_is_not_migrated_is_refused(mongodb: MongoServer) -> None:
    documents = mongodb.new_database()
    assert problem(documents) is StoreProblem.NOT_MIGRATED
    mongo.migrate("hospital", documents)
    with pytest.raises(DocumentMissing):
        store(documents).get(new_id())


def test_a_database_of_a_newer_program_is_refused(mongodb: MongoServer) -> None:
    documents = mongodb.new_database()
    mongo.migrate("hospital", documents)
    with mongodb.administrator() as client:
        about = client[name_of(documents)][mongo.ABOUT]
        about.update_one({"_id": mongo.OWNER}, {"$set": {"version": mongo.VERSION + 1}})
    mongo.close_clients()
    assert problem(documents) is StoreProblem.NOT_MIGRATED
    with pytest.raises(DocumentsUnavailable) as refused:
        mongo.migrate("hospital", documents)
    assert refused.value.problem is StoreProblem.NOT_MIGRATED


def test_migrating_makes_rules_and_index_and_may_be_run_again(mongodb: MongoServer) -> None:
    documents = mongodb.new_database()
    for _ in range(2):
        mongo.migrate("hospital", documents)
    with mongodb.administrator() as client:
        collection = raw(mongodb, documents, client)
        index = collection.index_information()["set_aside"]
        assert index["key"] == [("set_aside_at", 1)]
        assert index["partialFilterExpression"] == {"set_aside_at": {"$exists": True}}
        assert "$jsonSchema" in collection.options()["validator"]


@pytest.mark.parametrize(
    "row",
    [
        {"_id": "short", "sealed": b"x", "created_at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"_id": "a" * 32, "sealed": "text", "created_at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"_id": "a" * 32, "sealed": b"x"},
        {
            "_id": "a" * 32,
            "sealed": b"x",
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "patient": "17645234",
        },
    ],
)
def test_the_database_itself_takes_nothing_but_documents(
    database: Documents, row: dict[str, Any]
) -> None:
    known = mongo._connection("hospital", database)
    with pytest.raises(DocumentsUnavailable), mongo.named(known.client):
        known.database[mongo.DOCUMENTS].insert_one(row)


# A server that lies.


@pytest.mark.parametrize("sealed", ["text", 7, None, Binary(b"x", 128), {"$ne": 1}])
def test_what_is_no_document_is_not_given_out(
    mongodb: MongoServer, database: Documents, sealed: object
) -> None:
    doc_id = new_id()
    with mongodb.administrator() as client:
        collection = raw(mongodb, database, client)
        collection.with_options().database.command(
            "insert",
            mongo.DOCUMENTS,
            documents=[{"_id": doc_id, "sealed": sealed}],
            bypassDocumentValidation=True,
        )
    with pytest.raises(Tampered):
        store(database).get(doc_id)
    assert store(database).get_many([doc_id]) == {}
    assert store(database).remove([doc_id]) == 1


ODD_ROWS: list[dict[str, Any]] = [
    {"sealed": b"x"},
    {"sealed": b"x", "created_at": "yesterday"},
    {"sealed": b"x", "created_at": NOW, "set_aside_at": "never"},
    {"_id": "zz", "sealed": b"x", "created_at": NOW},
    {"_id": "0" * 31 + "G", "sealed": b"x", "created_at": NOW},
]


@pytest.mark.parametrize("odd", ODD_ROWS, ids=["bare", "text", "mark", "id", "letter"])
def test_what_has_another_shape_stops_no_listing(
    mongodb: MongoServer, database: Documents, odd: dict[str, Any]
) -> None:
    """It is passed over and counted; what stands behind it is listed all the same."""
    ids = sorted(new_id() for _one in range(3))
    for doc_id in ids:
        store(database).put(doc_id, b"sealed")
    row = {"_id": new_id(), **odd}
    with mongodb.administrator() as client:
        collection = raw(mongodb, database, client)
        collection.with_options().database.command(
            "insert", mongo.DOCUMENTS, documents=[row], bypassDocumentValidation=True
        )
        with capture_logs() as logs:
            found = [kept.id for kept in store(database).listing("", 100_000)]
        paged: list[str] = []
        while part := store(database).listing(paged[-1] if paged else "", 1):
            paged += [kept.id for kept in part]
        collection.delete_many({"_id": row["_id"]})
    assert paged == found
    assert row["_id"] not in found and [each for each in found if each in ids] == ids
    assert [(one["event"], one["count"]) for one in logs] == [("documents of another shape", 1)]


# A server that is gone, slow, full, failing over.


@pytest.mark.usefixtures("quick")
def test_nobody_there(database: Documents) -> None:
    url = f"mongodb://127.0.0.1:1/{name_of(database)}"
    assert problem(replace(database, url=url)) is StoreProblem.UNREACHABLE


FAULTS = [
    ({"errorCode": OUT_OF_DISK}, StoreProblem.FULL),
    ({"errorCode": 13}, StoreProblem.SIGN_IN),
    ({"errorCode": 50}, StoreProblem.TIMED_OUT),
    ({"errorCode": 8}, StoreProblem.REFUSED),
    ({"errorCode": NOT_PRIMARY}, StoreProblem.NOT_PRIMARY),
    ({"closeConnection": True}, StoreProblem.UNREACHABLE),
    ({"blockConnection": True, "blockTimeMS": 2_500}, StoreProblem.TIMED_OUT),
    ({"writeConcernError": {"code": W_TIMEOUT, "errmsg": "x"}}, StoreProblem.NOT_DURABLE),
    ({"writeConcernError": {"code": SHUTTING_DOWN, "errmsg": "x"}}, StoreProblem.NOT_DURABLE),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("how", "expected"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_write_that_fails_is_named(
    mongodb: MongoServer, database: Documents, how: dict[str, Any], expected: StoreProblem
) -> None:
    doc_id = new_id()
    kept = store(database)
    with mongodb.failing(["insert"], **how), pytest.raises(DocumentsUnavailable) as refused:
        kept.put(doc_id, b"sealed")
    # What a retry meets when a set has no primary is reported as the wait for one.
    assert refused.value.problem in {expected, StoreProblem.TIMED_OUT}
    assert refused.value.problem is expected or expected in {
        StoreProblem.NOT_PRIMARY,
        StoreProblem.UNREACHABLE,
    }
    mongo.close_clients()
    # The same write, once more, is right whether the first one was written or not.
    store(database).put(doc_id, b"sealed")
    assert store(database).get(doc_id) == b"sealed"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("how", "expected"),
    [fault for fault in FAULTS if "writeConcernError" not in fault[0]],
    ids=lambda value: str(value)[:40],
)
def test_a_read_that_fails_is_named(
    mongodb: MongoServer, database: Documents, how: dict[str, Any], expected: StoreProblem
) -> None:
    kept = store(database)
    with mongodb.failing(["find"], **how):
        for read in (lambda: kept.get("a" * 32), lambda: kept.get_many(["a" * 32])):
            with pytest.raises(DocumentsUnavailable) as refused:
                read()
            assert refused.value.problem in {expected, StoreProblem.TIMED_OUT} or (
                # By the second time the connection is closed, or the server is marked unknown.
                expected in {StoreProblem.SIGN_IN, StoreProblem.NOT_PRIMARY}
                and refused.value.problem is StoreProblem.UNREACHABLE
            )


def test_a_connection_lost_in_mid_write_is_tried_again(
    mongodb: MongoServer, database: Documents
) -> None:
    doc_id = new_id()
    kept = store(database)
    with mongodb.failing(["insert"], times=1, closeConnection=True):
        kept.put(doc_id, b"sealed")
    assert kept.get(doc_id) == b"sealed"
    with mongodb.failing(["find"], times=1, closeConnection=True):
        assert kept.get(doc_id) == b"sealed"


def test_in_a_bulk_a_fault_is_not_taken_for_a_duplicate(
    mongodb: MongoServer, database: Documents
) -> None:
    kept = store(database)
    taken = new_id()
    kept.put(taken, b"sealed")
    failing = {"writeConcernError": {"code": W_TIMEOUT, "errmsg": "x"}}
    with (
        mongodb.failing(["insert"], **failing),
        pytest.raises(DocumentsUnavailable) as refused,
    ):
        kept.put_many({taken: b"sealed", new_id(): b"new"})
    assert refused.value.problem is StoreProblem.NOT_DURABLE


def test_what_was_acknowledged_survives_a_kill(mongodb: MongoServer, database: Documents) -> None:
    if mongodb.process is None:
        pytest.skip("the server is not ours to kill")
    kept = store(database)
    acknowledged: list[str] = []
    begun = threading.Event()

    def write() -> None:
        while True:
            doc_id = new_id()
            try:
                kept.put(doc_id, doc_id.encode())
            except DocumentsUnavailable:
                return
            acknowledged.append(doc_id)
            if len(acknowledged) == 20:
                begun.set()

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    assert begun.wait(60)
    mongodb.kill()
    for writer in writers:
        writer.join(60)
    mongodb.start()
    mongo_server.ready(mongodb)
    found = store(database).get_many(acknowledged)
    assert len(acknowledged) >= 20
    assert found == {doc_id: doc_id.encode() for doc_id in acknowledged}


def test_no_message_repeats_an_address_a_user_or_a_password(
    mongodb: MongoServer, database: Documents
) -> None:
    password = Path(database.password_file).read_text("utf-8").strip()
    with (
        mongodb.failing(["find"], errorCode=8),
        pytest.raises(DocumentsUnavailable) as refused,
    ):
        store(database).get(new_id())
    said = str(refused.value)
    for secret in (password, mongodb.address, name_of(database), database.password_file):
        assert secret not in said
    assert database.password_file not in repr(database)


def test_every_problem_has_words() -> None:
    said = {str(DocumentsUnavailable(problem)) for problem in StoreProblem}
    assert len(said) == len(StoreProblem)


def test_connections_are_bounded_and_shared(mongodb: MongoServer, database: Documents) -> None:
    known = mongo._connection("hospital", database)
    assert mongo._connection("hospital", database) is known
    assert known.client.options.pool_options.max_pool_size == mongo.POOL
    doc_id = new_id()
    store(database).put(doc_id, b"sealed")
    results: list[bytes] = []
    readers = [
        threading.Thread(target=lambda: results.append(store(database).get(doc_id)))
        for _ in range(3 * mongo.POOL)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert results == [b"sealed"] * (3 * mongo.POOL)


def test_reads_and_writes_ask_for_a_majority_and_the_journal(database: Documents) -> None:
    collection = mongo._connection("hospital", database).database[mongo.DOCUMENTS]
    assert collection.write_concern.document == {"w": "majority", "j": True}
    assert collection.read_concern.level == "majority"
    assert mongo._connection("hospital", database).client.options.retry_writes is True
