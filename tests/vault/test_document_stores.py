"""What every document store does: one suite, run against each of them.

Another kind of store joins as one more subclass with a ``store`` fixture.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from mongo_server import MongoServer
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from medportal.core.ids import new_id
from medportal.tenancy.tenant import Documents
from medportal.vault import mongo
from medportal.vault.documents import (
    BATCH,
    MAX_DOCUMENT,
    AfterCommit,
    DocumentKeeper,
    DocumentStore,
    FallbackDocumentStore,
    Kept,
    SqlDocumentStore,
)
from medportal.vault.errors import DocumentConflict, DocumentMissing, DocumentTooLarge
from medportal.vault.models import Document

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=2)


class Contract:
    """What pages rely on; subclasses give the store."""

    @pytest.mark.parametrize("sealed", [b"", b"\x00", bytes(range(256)) * 4, b"x" * MAX_DOCUMENT])
    def test_a_document_comes_back(self, store: DocumentStore, sealed: bytes) -> None:
        doc_id = new_id()
        store.put(doc_id, sealed)
        found = store.get(doc_id)
        assert type(found) is bytes
        assert found == sealed

    def test_a_document_is_not_too_large(self, store: DocumentStore) -> None:
        doc_id = new_id()
        with pytest.raises(DocumentTooLarge):
            store.put(doc_id, b"x" * (MAX_DOCUMENT + 1))
        assert store.get_many([doc_id]) == {}

    def test_a_missing_document_is_named(self, store: DocumentStore) -> None:
        store.put(new_id(), b"another")
        with pytest.raises(DocumentMissing):
            store.get(new_id())

    def test_writing_the_same_again_changes_nothing(self, store: DocumentStore) -> None:
        doc_id = new_id()
        store.put(doc_id, b"sealed")
        store.put(doc_id, b"sealed")
        assert store.get(doc_id) == b"sealed"

    def test_a_document_never_changes(self, store: DocumentStore) -> None:
        doc_id = new_id()
        store.put(doc_id, b"sealed")
        with pytest.raises(DocumentConflict):
            store.put(doc_id, b"Sealed")
        assert store.get(doc_id) == b"sealed"

    def test_many_are_read_at_once_and_missing_ones_left_out(self, store: DocumentStore) -> None:
        ids = [new_id() for _ in range(BATCH + 3)]
        for doc_id in ids:
            store.put(doc_id, doc_id.encode())
        wanted = [*ids, new_id(), ids[0]]
        assert store.get_many(wanted) == {doc_id: doc_id.encode() for doc_id in ids}
        assert store.get_many([]) == {}
        assert store.get_many(iter(ids[:2])) == {doc_id: doc_id.encode() for doc_id in ids[:2]}

    def test_what_is_removed_is_gone_and_the_rest_stays(self, store: DocumentStore) -> None:
        first, second = new_id(), new_id()
        store.put(first, b"one")
        store.put(second, b"two")
        assert store.remove([first, new_id(), first]) == 1
        assert store.remove([first]) == 0
        assert store.remove([]) == 0
        assert store.get_many([first, second]) == {second: b"two"}

    @pytest.mark.parametrize("hostile", ["", "$ne", "a" * 31, "A" * 32, "' OR 1=1 --", "é" * 32])
    def test_an_id_is_only_ever_an_id(self, store: DocumentStore, hostile: str) -> None:
        store.put(new_id(), b"sealed")
        with pytest.raises(DocumentMissing):
            store.get(hostile)
        assert store.get_many([hostile]) == {}
        assert store.remove([hostile]) == 0


class KeeperContract(Contract):
    """What operators rely on besides."""

    @pytest.fixture
    def store(self, keeper: DocumentKeeper) -> DocumentStore:
        return keeper

    def test_everything_is_listed_by_id_and_nothing_twice(self, keeper: DocumentKeeper) -> None:
        before = keeper.count()
        ids = sorted(new_id() for _ in range(7))
        for doc_id in reversed(ids):
            keeper.put(doc_id, b"sealed")
        found: list[Kept] = []
        while part := keeper.listing(found[-1].id if found else "", limit=3):
            assert len(part) <= 3
            found += part
        assert [kept.id for kept in found] == sorted(kept.id for kept in found)
        assert len(found) == keeper.count() == before + 7
        ours = [kept for kept in found if kept.id in set(ids)]
        assert ours == [Kept(doc_id, NOW, None) for doc_id in ids]

    def test_many_are_written_at_once(self, keeper: DocumentKeeper) -> None:
        documents = {new_id(): bytes([n % 256]) * 1000 for n in range(BATCH + 9)}
        some = dict(list(documents.items())[::7])
        keeper.put_many(some)
        keeper.put_many(documents)
        keeper.put_many({})
        assert keeper.get_many(documents) == documents

    def test_large_ones_are_written_at_once_too(self, keeper: DocumentKeeper) -> None:
        documents = {new_id(): bytes([n]) * 3_000_000 for n in range(12)}
        keeper.put_many(documents)
        assert keeper.get_many(documents) == documents

    def test_of_many_the_one_that_differs_is_refused(self, keeper: DocumentKeeper) -> None:
        taken = new_id()
        keeper.put(taken, b"sealed")
        with pytest.raises(DocumentConflict):
            keeper.put_many({new_id(): b"new", taken: b"other"})
        assert keeper.get(taken) == b"sealed"

    def test_of_many_the_one_too_large_is_refused(self, keeper: DocumentKeeper) -> None:
        with pytest.raises(DocumentTooLarge):
            keeper.put_many({new_id(): b"x" * (MAX_DOCUMENT + 1)})

    def test_what_is_set_aside_is_marked_and_can_be_read(self, keeper: DocumentKeeper) -> None:
        aside, other = sorted([new_id(), new_id()])
        keeper.put(aside, b"one")
        keeper.put(other, b"two")
        keeper.set_aside([aside, new_id()], LATER)
        keeper.set_aside([], LATER)
        assert self._marks(keeper, aside, other) == [LATER, None]
        assert keeper.get(aside) == b"one"
        keeper.put(aside, b"one")
        assert self._marks(keeper, aside, other) == [LATER, None]
        keeper.take_back([aside, other])
        assert self._marks(keeper, aside, other) == [None, None]

    def _marks(self, keeper: DocumentKeeper, *ids: str) -> list[datetime | None]:
        found = {kept.id: kept.set_aside_at for kept in keeper.listing("", 100_000)}
        return [found[doc_id] for doc_id in ids]


class TestSqlStore(KeeperContract):
    @pytest.fixture
    def keeper(self, session: Session) -> DocumentKeeper:
        return SqlDocumentStore(session, lambda: NOW)

    def test_it_notes_when(self, store: DocumentStore, session: Session) -> None:
        doc_id = new_id()
        store.put(doc_id, b"sealed")
        row = session.get(Document, doc_id)
        assert row is not None
        assert row.created_at == NOW

    def test_it_takes_part_in_the_transaction(self, session: Session) -> None:
        store = SqlDocumentStore(session, lambda: NOW)
        doc_id = new_id()
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            store.put(doc_id, b"sealed")
            raise ZeroDivisionError
        assert store.get_many([doc_id]) == {}


@pytest.fixture(scope="module")
def database(mongodb: MongoServer) -> Iterator[Documents]:
    documents = mongodb.new_database()
    mongo.migrate("hospital", documents)
    yield documents
    mongo.close_clients()


class TestMongoStore(KeeperContract):
    @pytest.fixture
    def keeper(self, database: Documents) -> DocumentKeeper:
        return mongo.keeper("hospital", database, lambda: NOW)


class TestFallbackStore(Contract):
    """While documents move, pages see one store."""

    @pytest.fixture
    def first(self, session: Session) -> DocumentStore:
        return SqlDocumentStore(session, lambda: NOW)

    @pytest.fixture
    def second(self, database: Documents) -> DocumentStore:
        return mongo.keeper("hospital", database)

    @pytest.fixture
    def store(self, first: DocumentStore, second: DocumentStore) -> DocumentStore:
        return FallbackDocumentStore(first, second)

    def test_it_writes_to_the_first_and_reads_from_both(
        self, store: DocumentStore, first: DocumentStore, second: DocumentStore
    ) -> None:
        new, old = new_id(), new_id()
        store.put(new, b"new")
        second.put(old, b"old")
        assert first.get(new) == b"new"
        assert second.get_many([new]) == {}
        assert store.get(old) == b"old"
        assert store.get_many([new, old, new_id()]) == {new: b"new", old: b"old"}

    def test_it_removes_from_both(
        self, store: DocumentStore, first: DocumentStore, second: DocumentStore
    ) -> None:
        doc_id = new_id()
        first.put(doc_id, b"sealed")
        second.put(doc_id, b"sealed")
        assert store.remove([doc_id]) == 1
        assert first.get_many([doc_id]) == second.get_many([doc_id]) == {}


class TestWithinTransaction:
    """A store outside of SQL: what a rollback brings back is not removed."""

    @pytest.fixture
    def within(self, engine: Engine, database: Documents) -> Iterator[tuple[Session, str]]:
        doc_id = new_id()
        mongo.keeper("hospital", database).put(doc_id, b"sealed")
        with Session(engine) as session:
            yield session, doc_id

    @pytest.mark.parametrize("commits", [True, False])
    def test_only_a_commit_removes(
        self, within: tuple[Session, str], database: Documents, commits: bool
    ) -> None:
        session, doc_id = within
        keeper = mongo.keeper("hospital", database)
        store = AfterCommit(keeper, session)
        session.execute(text("SELECT 1"))
        assert store.remove([doc_id, doc_id]) == 1
        assert store.get(doc_id) == b"sealed"
        (session.commit if commits else session.rollback)()
        # Nothing of it is left for the next transaction.
        session.execute(text("SELECT 1"))
        session.commit()
        assert keeper.get_many([doc_id]) == ({} if commits else {doc_id: b"sealed"})
        assert store.remove([]) == 0

    def test_a_server_that_is_gone_then_does_not_undo_the_commit(
        self, within: tuple[Session, str], database: Documents, mongodb: MongoServer
    ) -> None:
        session, doc_id = within
        keeper = mongo.keeper("hospital", database)
        session.execute(text("SELECT 1"))
        AfterCommit(keeper, session).remove([doc_id])
        with mongodb.failing(["delete"], errorCode=8):
            session.commit()
        # What is left behind can be read and is found by a sweep.
        assert keeper.get(doc_id) == b"sealed"
