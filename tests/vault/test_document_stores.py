"""What every document store does: one suite, run against each of them.

Another kind of store joins as one more subclass with a ``store`` fixture.
"""

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from medportal.core.ids import new_id
from medportal.vault.documents import BATCH, DocumentStore, SqlDocumentStore
from medportal.vault.errors import DocumentConflict, DocumentMissing
from medportal.vault.models import Document

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Contract:
    """The suite; subclasses give the store."""

    @pytest.mark.parametrize("sealed", [b"", b"\x00", bytes(range(256)) * 4, b"x" * 2_000_000])
    def test_a_document_comes_back(self, store: DocumentStore, sealed: bytes) -> None:
        doc_id = new_id()
        store.put(doc_id, sealed)
        found = store.get(doc_id)
        assert type(found) is bytes
        assert found == sealed

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


class TestSqlStore(Contract):
    @pytest.fixture
    def store(self, session: Session) -> DocumentStore:
        return SqlDocumentStore(session, lambda: NOW)

    def test_it_notes_when(self, store: DocumentStore, session: Session) -> None:
        doc_id = new_id()
        store.put(doc_id, b"sealed")
        row = session.get(Document, doc_id)
        assert row is not None
        assert row.created_at == NOW
