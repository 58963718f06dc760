"""How transactions begin: SQLite is proven with two connections."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from medportal.tenancy.engines import make_engine, reading


@pytest.fixture
def sqlite(new_database):
    """Give an engine that does not wait for locks, so that a conflict shows at once."""
    engine = make_engine(new_database("sqlite"))

    def connect():
        connection = engine.connect()
        connection.connection.driver_connection.execute("PRAGMA busy_timeout = 0")
        return connection

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE tally (n INTEGER)"))
        connection.execute(text("INSERT INTO tally VALUES (0)"))
    yield engine, connect
    engine.dispose()


READ = text("SELECT n FROM tally")
COUNT = text("UPDATE tally SET n = n + 1")


def test_a_writing_transaction_has_the_lock_from_its_first_statement(sqlite):
    _, connect = sqlite
    with connect() as one, connect() as other:
        assert one.scalar(READ) == 0
        # The other one only reads, but in a transaction that may write: it does not begin.
        with pytest.raises(OperationalError, match="locked"):
            other.scalar(READ)
        other.rollback()
        one.execute(COUNT)
        one.commit()
        assert other.scalar(READ) == 1


def test_readers_go_on_beside_a_writer_and_keep_their_snapshot(sqlite):
    _, connect = sqlite
    with connect() as writer, connect() as plain:
        reader = plain.execution_options(medportal_begin="DEFERRED")
        assert reader.scalar(READ) == 0
        writer.execute(COUNT)
        writer.commit()
        assert reader.scalar(READ) == 0, "the snapshot of the first statement"
        reader.rollback()
        assert reader.scalar(READ) == 1


def test_what_reading_first_and_writing_later_would_do(sqlite):
    # Why writing transactions begin IMMEDIATE: this fails at once, whatever the timeout.
    _, connect = sqlite
    with connect() as writer, connect() as plain:
        upgraded = plain.execution_options(medportal_begin="DEFERRED")
        assert upgraded.scalar(READ) == 0
        writer.execute(COUNT)
        writer.commit()
        with pytest.raises(OperationalError, match="locked"):
            upgraded.execute(COUNT)


def test_reading_begins_deferred_and_shares_the_pool(sqlite):
    engine, _ = sqlite
    statements = []
    reader = reading(engine)
    assert reader.pool is engine.pool
    with reader.connect() as connection:
        connection.connection.driver_connection.set_trace_callback(statements.append)
        connection.scalar(READ)
        connection.connection.driver_connection.set_trace_callback(None)
    assert statements[0] == "BEGIN DEFERRED"
    with engine.connect() as connection:
        connection.connection.driver_connection.set_trace_callback(statements.append)
        connection.scalar(READ)
        connection.connection.driver_connection.set_trace_callback(None)
    assert "BEGIN IMMEDIATE" in statements


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("secure_delete", 1),
        ("busy_timeout", 10_000),
    ],
)
def test_how_sqlite_is_set(new_database, pragma, value):
    engine = make_engine(new_database("sqlite"))
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    engine.dispose()


def test_a_whole_transaction_is_undone(engine):
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.execute(text("CREATE TABLE made (id INTEGER)"))
        raise ZeroDivisionError
    with engine.connect() as connection, pytest.raises(Exception, match="made"):
        connection.execute(text("SELECT * FROM made"))
