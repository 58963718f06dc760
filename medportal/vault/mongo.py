"""Sealed documents in MongoDB: one database and one user an institution, over verified TLS.

1. The connection is TLS, verified against an authority and for the host's name; who we are is
   proved with SCRAM-SHA-256. An address cannot say otherwise (:mod:`medportal.tenancy.tenant`).
2. A write counts when a majority of the servers have it in their journals. Without the journal
   a server that is killed may forget what it acknowledged.
3. Reads ask the primary for what a majority holds: what was read cannot be rolled back.
4. Everything has a time limit, the driver's retry of a failed-over operation included.
5. The database says whose it is; another institution's is refused, whatever the address says.
6. What the server says in words stays here: only codes leave.

A write whose outcome is not known is an error: SQL then names no such document, and if it was
written after all, a sweep finds it.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import IndexModel, MongoClient
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    CollectionInvalid,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from medportal.core.clock import Clock, utcnow
from medportal.core.ids import is_id
from medportal.tenancy.tenant import Documents
from medportal.vault.documents import BATCH, Kept, in_batches, require_size
from medportal.vault.errors import (
    DocumentConflict,
    DocumentMissing,
    DocumentsUnavailable,
    DocumentTooLarge,
    KeyFileError,
    StoreProblem,
    Tampered,
)
from medportal.vault.keyfiles import read_private

#: The shape of the database that this code needs; :func:`migrate` makes it.
VERSION = 1
DOCUMENTS = "document"
ABOUT = "about"
OWNER = "owner"
#: Milliseconds: for finding the primary; for everything that one operation takes, a retry included.
SELECTION_MS = 3_000
OPERATION_MS = 6_000
#: Connections of one process.
POOL = 20
#: Bytes of one message of many documents; MongoDB takes 48 MB.
MESSAGE = 16 * 1024 * 1024

log = structlog.get_logger()
_Row = dict[str, Any]
_DUPLICATE = 11_000
_SIGN_IN = frozenset({13, 18, 8_000})
_OUT_OF_DISK = frozenset({14_031})
_TIMED_OUT = frozenset({50, 89, 262})
_NOT_DURABLE = frozenset({64, 79, 91, 100})
_TOO_LARGE = frozenset({10_334, 17_280, 17_419, 17_420})
_SHAPE = {
    "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "sealed", "created_at"],
        "properties": {
            "_id": {"bsonType": "string", "pattern": "^[0-9a-f]{32}$"},
            "sealed": {"bsonType": "binData"},
            "created_at": {"bsonType": "date"},
            "set_aside_at": {"bsonType": "date"},
        },
        "additionalProperties": False,
    }
}


class MongoDocumentStore:
    """Documents in a collection; nothing here takes part in a SQL transaction."""

    def __init__(self, database: Database[_Row], clock: Clock = utcnow) -> None:
        """Bind to an institution's database; ``clock`` stamps what is written."""
        self._client = database.client
        self._collection = database[DOCUMENTS]
        self._clock = clock

    def put(self, doc_id: str, sealed: bytes) -> None:
        """Keep a document; see :class:`medportal.vault.documents.DocumentStore`."""
        require_size(sealed)
        with named(self._client):
            try:
                self._collection.insert_one(self._row(doc_id, sealed, self._clock()))
                return
            except DuplicateKeyError:
                pass
        self._require_same(doc_id, sealed)

    def put_many(self, documents: Mapping[str, bytes]) -> None:
        """Keep many documents, in as few messages as MongoDB takes."""
        for part in _messages(documents):
            self._put_part({doc_id: documents[doc_id] for doc_id in part})

    def get(self, doc_id: str) -> bytes:
        """Return a document; raises ``DocumentMissing``, ``Tampered`` for one that is no bytes."""
        with named(self._client):
            row = self._collection.find_one({"_id": doc_id}, {"sealed": 1})
        if row is None:
            raise DocumentMissing("no document under this id")
        if type(row.get("sealed")) is not bytes:
            raise Tampered("what the store holds under this id is no document")
        sealed: bytes = row["sealed"]
        return sealed

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, bytes]:
        """Return those documents that exist, by id."""
        found: dict[str, bytes] = {}
        for part in in_batches(doc_ids):
            with named(self._client):
                rows = list(self._collection.find({"_id": {"$in": part}}, {"sealed": 1}))
            wanted = set(part)
            # The server is not believed about what was asked for, nor that it sends bytes.
            found.update(
                (row["_id"], row["sealed"])
                for row in rows
                if row["_id"] in wanted and type(row.get("sealed")) is bytes
            )
        return found

    def remove(self, doc_ids: Iterable[str]) -> int:
        """Drop documents; return how many were there."""
        removed = 0
        for part in in_batches(doc_ids):
            with named(self._client):
                removed += self._collection.delete_many({"_id": {"$in": part}}).deleted_count
        return removed

    def listing(self, after: str = "", limit: int = BATCH) -> list[Kept]:
        """Return the documents behind the id ``after``, in the order of their ids.

        What somebody put there that is no document of ours is passed over, and noted.
        """
        fields = {"created_at": 1, "set_aside_at": 1}
        found: list[Kept] = []
        odd = 0
        # The server gives the rows a few at a time; a short answer would say that it was the last.
        with named(self._client), self._collection.find({"_id": {"$gt": after}}, fields) as cursor:
            for row in cursor.sort("_id", 1).batch_size(limit):
                kept = _kept(row)
                odd += kept is None
                if kept is not None:
                    found.append(kept)
                if len(found) == limit:
                    break
        if odd:
            # Nothing of it is written down: it is whatever somebody chose to put there.
            log.warning("documents of another shape", count=odd)
        return found

    def count(self) -> int:
        """Return about how many documents there are, from the collection's own count."""
        with named(self._client):
            return self._collection.estimated_document_count()

    def set_aside(self, doc_ids: Iterable[str], at: datetime) -> None:
        """Mark documents that no record names."""
        self._update(doc_ids, {"$set": {"set_aside_at": at}})

    def take_back(self, doc_ids: Iterable[str]) -> None:
        """Take such a mark away."""
        self._update(doc_ids, {"$unset": {"set_aside_at": ""}})

    def _update(self, doc_ids: Iterable[str], change: Mapping[str, Any]) -> None:
        for part in in_batches(doc_ids):
            with named(self._client):
                self._collection.update_many({"_id": {"$in": part}}, change)

    def _put_part(self, documents: Mapping[str, bytes]) -> None:
        now = self._clock()
        rows = [self._row(doc_id, sealed, now) for doc_id, sealed in documents.items()]
        taken: list[str] = []
        with named(self._client):
            try:
                self._collection.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                taken = _taken(error, rows)
        for doc_id in taken:
            self._require_same(doc_id, documents[doc_id])

    def _row(self, doc_id: str, sealed: bytes, now: datetime) -> _Row:
        return {"_id": doc_id, "sealed": sealed, "created_at": now}

    def _require_same(self, doc_id: str, sealed: bytes) -> None:
        """Raise ``DocumentConflict`` unless the id's document is this one, and durable."""
        try:
            found = self.get(doc_id)
        except DocumentMissing:
            # There, and not yet on a majority: an earlier attempt that nobody has confirmed.
            raise DocumentsUnavailable(StoreProblem.NOT_DURABLE) from None
        if found != sealed:
            raise DocumentConflict("another document has this id")


def _kept(row: _Row) -> Kept | None:
    """Return what a row says of a document; ``None`` unless it has the shape of one."""
    doc_id, created_at = row.get("_id"), row.get("created_at")
    set_aside_at = row.get("set_aside_at")
    if not (isinstance(doc_id, str) and is_id(doc_id) and isinstance(created_at, datetime)):
        return None
    if not isinstance(set_aside_at, datetime | None):
        return None
    return Kept(doc_id, created_at, set_aside_at)


def _messages(documents: Mapping[str, bytes]) -> Iterator[list[str]]:
    """Return the ids in lists whose documents fit into one message together."""
    part: list[str] = []
    size = 0
    for doc_id, sealed in documents.items():
        require_size(sealed)
        if part and (size + len(sealed) > MESSAGE or len(part) == BATCH):
            yield part
            part, size = [], 0
        part.append(doc_id)
        size += len(sealed)
    if part:
        yield part


def _taken(error: BulkWriteError, rows: list[_Row]) -> list[str]:
    """Return the ids that were taken; raise ``error`` if anything else went wrong."""
    details: Mapping[str, Any] = error.details or {}
    problems = details.get("writeErrors", [])
    if details.get("writeConcernErrors") or any(p.get("code") != _DUPLICATE for p in problems):
        raise error
    return [rows[problem["index"]]["_id"] for problem in problems]


@contextmanager
def named(client: MongoClient[_Row]) -> Iterator[None]:
    """Turn what the driver raises into ``DocumentsUnavailable`` or ``DocumentTooLarge``."""
    try:
        yield
    except (PyMongoError, BSONError) as error:
        if _code(error) in _TOO_LARGE:
            raise DocumentTooLarge("a sealed document is larger than the store takes") from error
        problem = problem_of(error)
        if problem is StoreProblem.SIGN_IN:
            # The password may have been changed in its file since it was read.
            _forget(client)
        raise DocumentsUnavailable(problem) from error


def problem_of(error: Exception) -> StoreProblem:
    """Return the code of what the driver raised."""
    code = _code(error)
    if code in _OUT_OF_DISK:
        return StoreProblem.FULL
    if code in _SIGN_IN:
        return StoreProblem.SIGN_IN
    if isinstance(error, WriteConcernError) or code in _NOT_DURABLE:
        return StoreProblem.NOT_DURABLE
    if isinstance(error, NotPrimaryError):
        return StoreProblem.NOT_PRIMARY
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return StoreProblem.CERTIFICATE
    if code in _TIMED_OUT:
        return StoreProblem.TIMED_OUT
    return _of_connection(error)


def _of_connection(error: Exception) -> StoreProblem:
    if isinstance(error, AutoReconnect) and "Connection refused" in str(error):
        return StoreProblem.UNREACHABLE
    if isinstance(error, PyMongoError) and error.timeout:
        return StoreProblem.TIMED_OUT
    # The second: another request closed this client, since its password is refused.
    if isinstance(error, ConnectionFailure | InvalidOperation):
        return StoreProblem.UNREACHABLE
    return StoreProblem.REFUSED


def _code(error: Exception) -> int | None:
    """Return the server's code: its own, or the first of those of a bulk."""
    if isinstance(error, BulkWriteError):
        details: Mapping[str, Any] = error.details or {}
        told = [*details.get("writeErrors", []), *details.get("writeConcernErrors", [])]
        codes = [one["code"] for one in told if one.get("code") != _DUPLICATE]
        return codes[0] if codes else None
    return error.code if isinstance(error, OperationFailure) else None


@dataclass(slots=True)
class _Open:
    """A client of this process, and whether it was looked at whose database it reaches."""

    client: MongoClient[_Row]
    database: Database[_Row]
    is_checked: bool = False


_lock = threading.Lock()
#: By process too: a client does not survive a fork.
_open: dict[tuple[int, str, Documents], _Open] = {}


def keeper(tenant_id: str, documents: Documents, clock: Clock = utcnow) -> MongoDocumentStore:
    """Return an institution's store; its connections are shared within the process.

    The first call of a process looks at whose database it is and whether it is migrated.
    Raises ``DocumentsUnavailable``.
    """
    known = _connection(tenant_id, documents)
    if not known.is_checked:
        _require_ours(known.database, tenant_id)
        known.is_checked = True
    return MongoDocumentStore(known.database, clock)


def migrate(tenant_id: str, documents: Documents) -> None:
    """Make an institution's database as this code needs it; safe to run again.

    Raises ``DocumentsUnavailable``, also for a database that is another institution's or of a
    newer program.
    """
    database = _connection(tenant_id, documents).database
    owner = {"_id": OWNER, "tenant": tenant_id, "version": VERSION}
    with named(database.client):
        found = database[ABOUT].find_one({"_id": OWNER})
    if found is not None:
        _require_tenant(found, tenant_id)
        if found.get("version", 0) > VERSION:
            raise DocumentsUnavailable(StoreProblem.NOT_MIGRATED)
    with named(database.client):
        _make_collection(database)
        # Last, so that what was interrupted is not taken for done.
        database[ABOUT].replace_one({"_id": OWNER}, owner, upsert=True)


def _make_collection(database: Database[_Row]) -> None:
    try:
        database.create_collection(DOCUMENTS, validator=_SHAPE)
    except CollectionInvalid:
        database.command("collMod", DOCUMENTS, validator=_SHAPE)
    # What is set aside is a handful; the index holds those alone.
    database[DOCUMENTS].create_indexes(
        [
            IndexModel(
                [("set_aside_at", 1)],
                name="set_aside",
                partialFilterExpression={"set_aside_at": {"$exists": True}},
            )
        ]
    )


def describe(tenant_id: str, documents: Documents) -> dict[str, str]:
    """Return what an operator is told of the servers. Raises ``DocumentsUnavailable``."""
    client = _connection(tenant_id, documents).client
    with named(client):
        hello = client.admin.command("hello")
        version = client.server_info()["version"]
    # A router of a sharded cluster names no set.
    router = "router of a cluster" if hello.get("msg") == "isdbgrid" else "single server"
    servers = ", ".join(hello.get("hosts", [])) or "-"
    return {
        "version": str(version),
        "set": str(hello.get("setName") or router),
        "servers": servers,
    }


def _forget(client: MongoClient[_Row]) -> None:
    """Let the next call make a new client."""
    with _lock:
        for place in [place for place, known in _open.items() if known.client is client]:
            del _open[place]
    client.close()


def close_clients() -> None:
    """Close every connection of this process; they are opened anew when needed."""
    with _lock:
        for known in _open.values():
            known.client.close()
        _open.clear()


def _require_ours(database: Database[_Row], tenant_id: str) -> None:
    with named(database.client):
        found = database[ABOUT].find_one({"_id": OWNER})
    if found is None:
        raise DocumentsUnavailable(StoreProblem.NOT_MIGRATED)
    _require_tenant(found, tenant_id)
    if found.get("version") != VERSION:
        raise DocumentsUnavailable(StoreProblem.NOT_MIGRATED)


def _require_tenant(owner: Mapping[str, Any], tenant_id: str) -> None:
    if owner.get("tenant") != tenant_id:
        raise DocumentsUnavailable(StoreProblem.OTHER_INSTITUTION)


def _connection(tenant_id: str, documents: Documents) -> _Open:
    place = (os.getpid(), tenant_id, documents)
    with _lock:
        if place not in _open:
            client = _client(documents)
            _open[place] = _Open(client, _database(client, documents))
        return _open[place]


def _client(documents: Documents) -> MongoClient[_Row]:
    """Return a client that connects when first used. Raises ``DocumentsUnavailable``."""
    if not documents.url:
        raise DocumentsUnavailable(StoreProblem.NOT_SET_UP)
    try:
        return MongoClient(
            documents.url,
            username=documents.user,
            password=_password(documents),
            authMechanism="SCRAM-SHA-256",
            authSource=_name(documents),
            tls=True,
            tlsCAFile=documents.ca_file or None,
            tlsAllowInvalidCertificates=False,
            tlsAllowInvalidHostnames=False,
            serverSelectionTimeoutMS=SELECTION_MS,
            connectTimeoutMS=SELECTION_MS,
            timeoutMS=OPERATION_MS,
            maxPoolSize=POOL,
            maxIdleTimeMS=300_000,
            retryReads=True,
            retryWrites=True,
            appname="medportal",
            connect=False,
        )
    # ValueError: a password that is no text, or a malformed certificate.
    except (KeyFileError, OSError, ValueError, ConfigurationError) as error:
        raise DocumentsUnavailable(StoreProblem.FILES) from error


def _password(documents: Documents) -> str:
    password = read_private(Path(documents.password_file)).decode("utf-8").strip("\r\n")
    if not password:
        raise KeyFileError("the password file is empty")
    return password


def _name(documents: Documents) -> str:
    name: str = parse_uri(documents.url)["database"]
    return name


def _database(client: MongoClient[_Row], documents: Documents) -> Database[_Row]:
    return client.get_database(
        _name(documents),
        codec_options=CodecOptions(tz_aware=True),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern(w="majority", j=True),
    )
