"""Where sealed documents live: the port, and the store in the tenant's own SQL database.

A store holds ciphertext under random ids and never changes it. SQL rows elsewhere pin the
hash of each document, so a store is trusted for nothing but availability.
"""

from collections.abc import Iterable
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.core.clock import Clock, utcnow
from medportal.vault.errors import DocumentConflict, DocumentMissing
from medportal.vault.models import Document
from medportal.vault.store import insert_if_absent

BATCH = 500


class DocumentStore(Protocol):
    """What every document store does; one contract suite runs against all of them."""

    def put(self, doc_id: str, sealed: bytes) -> None:
        """Keep a document. The same bytes again change nothing; other bytes under the same
        id raise ``DocumentConflict``."""

    def get(self, doc_id: str) -> bytes:
        """Return a document; raises ``DocumentMissing``."""

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, bytes]:
        """Return those documents that exist, by id."""


class SqlDocumentStore:
    """Documents in a table of the same database, written in the caller's transaction."""

    def __init__(self, session: Session, clock: Clock = utcnow) -> None:
        """Bind to the caller's session; ``clock`` stamps what is written."""
        self._session = session
        self._clock = clock

    def put(self, doc_id: str, sealed: bytes) -> None:
        """Keep a document; see :class:`DocumentStore`."""
        values = {"id": doc_id, "sealed": sealed, "created_at": self._clock()}
        if insert_if_absent(self._session, Document, values):
            return
        if self.get(doc_id) != sealed:
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
        wanted = list(dict.fromkeys(doc_ids))
        # Databases bound the number of parameters of one statement.
        for start in range(0, len(wanted), BATCH):
            part = wanted[start : start + BATCH]
            statement = select(Document.id, Document.sealed).where(Document.id.in_(part))
            found.update((row.id, row.sealed) for row in self._session.execute(statement))
        return found
