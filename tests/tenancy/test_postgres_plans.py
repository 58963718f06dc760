"""What the server has planned for a connection outlives the transactions that only read."""

import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from medportal.tenancy.engines import make_engine, reading

#: More often than the driver waits until it prepares a statement.
OFTEN = 8
ASKED = text("SELECT count(*) FROM audit_event WHERE actor = :actor")
PREPARED = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%audit_event%'")


@pytest.fixture
def postgres(new_database):
    engine = make_engine(new_database("postgresql"))
    yield engine
    engine.dispose()


def ask(engine):
    with Session(engine) as session:
        assert session.scalar(ASKED, {"actor": "somebody"}) == 0


def prepared(engine):
    with engine.connect() as connection:
        return connection.scalar(PREPARED)


def test_a_statement_of_reading_transactions_stays_prepared(postgres):
    for _ in range(OFTEN):
        ask(reading(postgres))
    assert postgres.pool.checkedin() == 1, "one connection"
    assert prepared(reading(postgres)) == 1


def test_what_may_write_and_is_rolled_back_forgets_them(postgres):
    # Here the driver's caution is right: a table may have been made and unmade.
    for _ in range(OFTEN):
        ask(postgres)
    assert prepared(reading(postgres)) == 0


def test_a_reading_transaction_has_ended_when_its_connection_is_given_back(postgres):
    ask(reading(postgres))
    with postgres.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver.info.transaction_status == TransactionStatus.IDLE
        assert driver.read_only is not True
        connection.execute(text("CREATE TABLE made (n INTEGER)"))
        connection.rollback()
        with pytest.raises(DBAPIError, match="made"):
            connection.execute(text("SELECT n FROM made"))


def test_a_reading_transaction_in_which_something_failed_is_rolled_back(postgres):
    with reading(postgres).connect() as connection:
        with pytest.raises(DBAPIError, match="read-only"):
            connection.execute(text("CREATE TABLE made (n INTEGER)"))
        driver = connection.connection.driver_connection
        assert driver.info.transaction_status == TransactionStatus.INERROR
        connection.rollback()
        assert driver.info.transaction_status == TransactionStatus.IDLE
        assert connection.scalar(text("SELECT 1")) == 1
