"""Writers of one process take turns; what ends a transaction gives the turn away."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from medportal.tenancy.engines import make_engine

COUNT = text("UPDATE tally SET n = n + 1")
READ = text("SELECT n FROM tally")
NEVER = text("INSERT INTO tally VALUES (NULL)")


@pytest.fixture
def engines(new_database: Callable[[str], str]) -> Iterator[tuple[Engine, Engine]]:
    """Give two engines on one file, as two processes have them."""
    url = new_database("sqlite")
    ours, theirs = make_engine(url), make_engine(url)
    with ours.begin() as connection:
        connection.execute(text("CREATE TABLE tally (n INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO tally VALUES (0)"))
    yield ours, theirs
    ours.dispose()
    theirs.dispose()


def turn_of(connection: Connection) -> Any:
    return connection.connection.driver_connection._turn  # type: ignore[union-attr]


def commit(connection: Connection) -> None:
    connection.execute(COUNT)
    connection.commit()


def roll_back(connection: Connection) -> None:
    connection.execute(COUNT)
    connection.rollback()


def fail(connection: Connection) -> None:
    with pytest.raises(IntegrityError):
        connection.execute(NEVER)
    connection.rollback()


def drop(connection: Connection) -> None:
    connection.execute(COUNT)
    connection.invalidate()


@pytest.mark.parametrize("end", [commit, roll_back, fail, drop])
def test_what_ends_a_transaction_gives_the_turn_away(engines, end):
    ours, _ = engines
    with ours.connect() as connection:
        connection.scalar(READ)
        turn = turn_of(connection)
        assert turn.locked()
        end(connection)
        assert not turn.locked()
    with ours.begin() as connection:
        connection.execute(COUNT)


def test_a_connection_that_only_goes_back_to_the_pool_gives_the_turn_away(engines):
    ours, _ = engines
    with ours.connect() as connection:
        connection.execute(COUNT)
        turn = turn_of(connection)
    assert not turn.locked()


def test_who_reads_takes_no_turn(engines):
    ours, _ = engines
    with ours.connect() as writer, ours.connect() as plain:
        writer.execute(COUNT)
        assert plain.execution_options(medportal_begin="DEFERRED").scalar(READ) == 0
        writer.commit()


def test_who_may_not_begin_in_time_gives_the_turn_away_and_hears_it_as_ever(engines):
    ours, theirs = engines
    with theirs.connect() as elsewhere, ours.connect() as here:
        elsewhere.execute(COUNT)
        here.connection.driver_connection.execute("PRAGMA busy_timeout = 20")
        with pytest.raises(OperationalError, match="locked"):
            here.execute(COUNT)
        assert not turn_of(here).locked()
        assert here.connection.driver_connection.execute("PRAGMA busy_timeout").fetchone() == (20,)
        here.rollback()
        elsewhere.commit()
        commit(here)
        assert here.scalar(READ) == 2


def test_nobody_s_count_is_lost_when_many_threads_of_two_processes_write(engines):
    def often(engine: Engine) -> None:
        for _ in range(20):
            with engine.begin() as connection:
                connection.execute(COUNT)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(often, engines * 4))
    with engines[0].connect() as connection:
        assert connection.scalar(READ) == 160


def test_who_waits_for_a_turn_in_vain_hears_it_once_and_goes_on_later(engines):
    ours, _ = engines
    with ours.connect() as holder, ours.connect() as other:
        holder.execute(COUNT)
        other.connection.driver_connection.execute("PRAGMA busy_timeout = 20")
        with pytest.raises(OperationalError, match="locked"):
            other.execute(COUNT)
        other.rollback()
        holder.commit()
        commit(other)
