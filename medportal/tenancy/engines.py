"""Engines: one per tenant, made when first used."""

from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from medportal.tenancy.postgres_plans import keep_plans
from medportal.tenancy.sqlite_turns import TurnTaking

#: Execution option: how SQLite begins a transaction on this connection.
BEGIN = "medportal_begin"
BUSY_TIMEOUT_MS = 10_000
#: How much of the file each connection to SQLite keeps in memory. Ids are random, so writers touch
#: pages all over: what does not fit is read again at every transaction.
CACHE_KIB = 8_000
#: What libpq waits for a connection (seconds), and for a server to confirm that something arrived
#: (milliseconds; tcp(7), TCP_USER_TIMEOUT), where the address says nothing else.
PATIENCE = {"connect_timeout": "10", "tcp_user_timeout": "30000"}


def make_engine(url: str) -> Engine:
    """Return an engine for a tenant's database address (SQLite or PostgreSQL).

    On SQLite every transaction begins IMMEDIATE unless the engine or connection carries
    the execution option ``BEGIN: "DEFERRED"``: a transaction that read first and writes
    later would otherwise fail at once with BUSY_SNAPSHOT if anybody committed between.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            parsed,
            pool_size=10,
            max_overflow=20,
            pool_timeout=30,
            connect_args={"factory": TurnTaking},
        )
        turn = Lock()
        event.listen(engine, "connect", lambda new, _record: _prepare_sqlite(new, turn))
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # What is left to the network would hang for a quarter of an hour on a server that vanished.
    patience = {name: value for name, value in PATIENCE.items() if name not in parsed.query}
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        connect_args=patience,
        pool_size=10,
        max_overflow=10,
        pool_pre_ping=True,
    )
    keep_plans(engine)
    return engine


def reading(engine: Engine) -> Engine:
    """Return the same engine for transactions that only read, and see one moment.

    A row of the index, its document and the patient's key belong together: read one after the
    other while keys change, they would be of different moments, and look damaged.
    """
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{BEGIN: "DEFERRED"})
    return engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")


def _prepare_sqlite(dbapi_connection: Any, turn: Lock) -> None:
    dbapi_connection.share(turn)
    # The driver must not begin transactions by itself: it would always begin DEFERRED.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # Deleted content is overwritten, so that erased keys do not linger in free pages.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get(BEGIN, "IMMEDIATE")

    def begin() -> object:
        return connection.exec_driver_sql(f"BEGIN {mode}")

    if mode == "IMMEDIATE":
        raw: Any = connection.connection.dbapi_connection
        raw.begin_writing(begin)
    else:
        begin()
