"""Sessions of a request commit with it, or not at all."""

import pytest
from sqlalchemy import create_engine, text
from transaction import TransactionManager

from medportal.tenancy.errors import CommittedAlone
from medportal.tenancy.joined import ReadingSession, WritingSession


@pytest.fixture
def engine(tmp_path):
    made = create_engine(f"sqlite:///{tmp_path}/rows.sqlite")
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE row (id INTEGER PRIMARY KEY)"))
    yield made
    made.dispose()


def count(engine):
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM row"))


def add(session):
    session.execute(text("INSERT INTO row DEFAULT VALUES"))


@pytest.mark.parametrize("kind", [ReadingSession, WritingSession])
def test_none_commits_by_itself(engine, kind):
    manager = TransactionManager(explicit=True)
    manager.begin()
    session = kind(engine, manager)
    add(session)
    with pytest.raises(CommittedAlone, match="never alone"):
        session.commit()
    manager.abort()
    assert count(engine) == 0


def test_it_commits_with_the_request_and_a_part_of_it_may_be_undone(engine):
    manager = TransactionManager(explicit=True)
    manager.begin()
    session = WritingSession(engine, manager)
    add(session)
    with session.begin_nested():
        add(session)
    manager.commit()
    assert count(engine) == 2
