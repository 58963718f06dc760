"""Where sealed documents live: the port, and the store in the tenant's own SQL database.

A store holds ciphertext under random ids and never changes it. SQL rows elsewhere pin the
hash of each document, so a store is trusted for nothing but availability: a document that it
changed, swapped or rolled back does not open.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, cast

import structlog
from sqlalchemy import CursorResult, bindparam, delete, event, func, select, update
from sqlalchemy.orm import Session

from medportal.core.clock import Clock, utcnow
from medportal.db.reading import rows_of
from medportal.vault.errors import (
    DocumentConflict,
    DocumentMissing,
    DocumentsUnavailable,
    DocumentTooLarge,
)
from medportal.vault.models import Document
from medportal.vault.store import insert_if_absent, insert_those_absent

log = structlog.get_logger()
BATCH = 500
#: Bytes of a sealed document. A record is some kilobytes; MongoDB takes 16 MiB with all around it.
MAX_DOCUMENT = 8 * 1024 * 1024


class DocumentStore(Protocol):
    """What pages and intake use; one contract suite runs against every kind.

    Every method raises ``DocumentsUnavailable`` where the store cannot be used now.
    """

    def put(self, doc_id: str, sealed: bytes) -> None:
        """Keep a document; returning means that it is durable.

        The same bytes again change nothing; other bytes under the same id raise
        ``DocumentConflict``, more than :data:`MAX_DOCUMENT` of them ``DocumentTooLarge``.
        """

    def put_many(self, documents: Mapping[str, bytes]) -> None:
        """Keep many documents, each as :meth:`put` does."""

    def get(self, doc_id: str) -> bytes:
        """Return a document; raises ``DocumentMissing``."""

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, bytes]:
        """Return those documents that exist, by id."""

    def remove(self, doc_ids: Iterable[str]) -> int:
        """Drop documents for good, once the transaction commits; return how many at most.

        What a store that fails then leaves behind, a sweep finds.
        """


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store says of a document without giving it out."""

    id: str
    created_at: datetime
    set_aside_at: datetime | None


class DocumentKeeper(DocumentStore, Protocol):
    """One store as its operator sees it: besides, it can be listed, swept and filled.

    Where it takes no part in the SQL transaction, :meth:`remove` acts at once, and counts.
    """

    def listing(self, after: str = "", limit: int = BATCH) -> list[Kept]:
        """Return the documents behind the id ``after``, in the order of their ids."""

    def count(self) -> int:
        """Return about how many documents there are."""

    def set_aside(self, doc_ids: Iterable[str], at: datetime) -> None:
        """Mark documents that no record names; they can be read as before."""

    def take_back(self, doc_ids: Iterable[str]) -> None:
        """Take such a mark away."""


def in_batches(doc_ids: Iterable[str], size: int = BATCH) -> Iterator[list[str]]:
    """Return the ids, each once, in lists of at most ``size``: databases bound a statement."""
    wanted = list(dict.fromkeys(doc_ids))
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def require_size(sealed: bytes) -> None:
    """Raise ``DocumentTooLarge`` for what not every store could keep."""
    if len(sealed) > MAX_DOCUMENT:
        raise DocumentTooLarge("a sealed document is larger than a store takes")


_MANY = select(Document.id, Document.sealed).where(
    Document.id.in_(bindparam("ids", expanding=True))
)


class SqlDocumentStore:
    """Documents in a table of the same database, written in the caller's transaction."""

    def __init__(self, session: Session, clock: Clock = utcnow) -> None:
        """Bind to the caller's session; ``clock`` stamps what is written."""
        self._session = session
        self._clock = clock

    def put(self, doc_id: str, sealed: bytes) -> None:
        """Keep a document; see :class:`DocumentStore`."""
        require_size(sealed)
        values = {"id": doc_id, "sealed": sealed, "created_at": self._clock()}
        if insert_if_absent(self._session, Document, values):
            return
        if self.get(doc_id) != sealed:
            raise DocumentConflict("another document has this id")

    def put_many(self, documents: Mapping[str, bytes]) -> None:
        """Keep many documents; see :class:`DocumentStore`."""
        if not documents:
            return
        for sealed in documents.values():
            require_size(sealed)
        now = self._clock()
        rows = [
            {"id": doc_id, "sealed": sealed, "created_at": now}
            for doc_id, sealed in documents.items()
        ]
        if insert_those_absent(self._session, Document, rows) == len(rows):
            return
        found = self.get_many(documents)
        if any(found.get(doc_id) != sealed for doc_id, sealed in documents.items()):
            raise DocumentConflict("another document has this id")

    def get(self, doc_id: str) -> bytes:
        """Return a document; raises ``DocumentMissing``."""
        sealed = self._session.scalar(select(Document.sealed).where(Document.id == doc_id))
        if sealed is None:
            raise DocumentMissing("no document under this id")
        return sealed

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, bytes]:
        """Return those documents that exist, by id."""
        found: dict[str, bytes] = {}
        for part in in_batches(doc_ids):
            found.update(
                (row.id, row.sealed) for row in rows_of(self._session, _MANY, {"ids": part})
            )
        return found

    def remove(self, doc_ids: Iterable[str]) -> int:
        """Drop documents, in the caller's transaction; return how many were there."""
        return sum(
            self._changed(delete(Document).where(Document.id.in_(part)))
            for part in in_batches(doc_ids)
        )

    def listing(self, after: str = "", limit: int = BATCH) -> list[Kept]:
        """Return the documents behind the id ``after``, in the order of their ids."""
        statement = (
            select(Document.id, Document.created_at, Document.set_aside_at)
            .where(Document.id > after)
            .order_by(Document.id)
            .limit(limit)
        )
        return [Kept(*row) for row in self._session.execute(statement)]

    def count(self) -> int:
        """Return how many documents there are."""
        return self._session.scalar(select(func.count()).select_from(Document)) or 0

    def set_aside(self, doc_ids: Iterable[str], at: datetime) -> None:
        """Mark documents that no record names."""
        self._mark(doc_ids, at)

    def take_back(self, doc_ids: Iterable[str]) -> None:
        """Take such a mark away."""
        self._mark(doc_ids, None)

    def _mark(self, doc_ids: Iterable[str], at: datetime | None) -> None:
        for part in in_batches(doc_ids):
            self._changed(update(Document).where(Document.id.in_(part)).values(set_aside_at=at))

    def _changed(self, statement: Any) -> int:
        """Run a statement that changes rows behind the session's back; return how many."""
        result = self._session.execute(statement, execution_options={"synchronize_session": False})
        return cast("CursorResult[Any]", result).rowcount


class AfterCommit:
    """A store outside of SQL, for use within a transaction: removes when that has committed.

    A rollback would bring the rows back, and a store the documents never.
    """

    def __init__(self, store: DocumentStore, session: Session) -> None:
        """Work with ``store``; ``session`` is the one whose commit counts."""
        self._store = store
        self._session = session
        self._waiting: list[str] = []
        self._listening = False

    def put(self, doc_id: str, sealed: bytes) -> None:
        """Keep a document at once; see :class:`DocumentStore`."""
        self._store.put(doc_id, sealed)

    def put_many(self, documents: Mapping[str, bytes]) -> None:
        """Keep many documents at once; see :class:`DocumentStore`."""
        self._store.put_many(documents)

    def get(self, doc_id: str) -> bytes:
        """Return a document; raises ``DocumentMissing``."""
        return self._store.get(doc_id)

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, bytes]:
        """Return those documents that exist, by id."""
        return self._store.get_many(doc_ids)

    def remove(self, doc_ids: Iterable[str]) -> int:
        """Drop documents when the session commits; return how many at most."""
        wanted = list(dict.fromkeys(doc_ids))
        if wanted and not self._listening:
            event.listen(self._session, "after_commit", self._committed)
            # The end of a savepoint too: what it took back is then left for the sweep.
            event.listen(self._session, "after_soft_rollback", self._rolled_back)
            self._listening = True
        self._waiting += wanted
        return len(wanted)

    def _committed(self, session: Session) -> None:
        # The end of a savepoint is told as a commit too, and nothing is certain then.
        if session.in_nested_transaction():
            return
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            self._store.remove(waiting)
        except DocumentsUnavailable as error:
            # The transaction stands. What nobody names any more, the next sweep removes.
            log.warning("documents-left-behind", count=len(waiting), problem=str(error.problem))

    def _rolled_back(self, _session: Session, _ended: object) -> None:
        self._waiting = []


class FallbackDocumentStore:
    """Two stores while documents move: written to the first, read from whichever has it."""

    def __init__(self, first: DocumentStore, second: DocumentStore) -> None:
        """Write to ``first``; look in ``second`` for what it does not hold."""
        self._first = first
        self._second = second

    def put(self, doc_id: str, sealed: bytes) -> None:
        """Keep a document in the first store."""
        self._first.put(doc_id, sealed)

    def put_many(self, documents: Mapping[str, bytes]) -> None:
        """Keep many documents in the first store."""
        self._first.put_many(documents)

    def get(self, doc_id: str) -> bytes:
        """Return a document; raises ``DocumentMissing`` if neither store has it."""
        try:
            return self._first.get(doc_id)
        except DocumentMissing:
            return self._second.get(doc_id)

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, bytes]:
        """Return those documents that exist in either store, by id."""
        wanted = list(doc_ids)
        found = self._first.get_many(wanted)
        missing = [doc_id for doc_id in wanted if doc_id not in found]
        return {**found, **self._second.get_many(missing)} if missing else found

    def remove(self, doc_ids: Iterable[str]) -> int:
        """Drop documents from both stores; return how many were there at most."""
        wanted = list(doc_ids)
        return max(self._first.remove(wanted), self._second.remove(wanted))
