"""Removal from a store outside of SQL waits for the commit that counts."""

from collections.abc import Iterable, Mapping

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from medportal.vault.documents import AfterCommit


class Outside:
    """A store that no transaction of the database reaches; notes what is removed."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def put(self, doc_id: str, sealed: bytes) -> None:
        raise AssertionError("nothing is put here")

    def put_many(self, documents: Mapping[str, bytes]) -> None:
        raise AssertionError("nothing is put here")

    def get(self, doc_id: str) -> bytes:
        raise AssertionError("nothing is read here")

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, bytes]:
        raise AssertionError("nothing is read here")

    def remove(self, doc_ids: Iterable[str]) -> int:
        wanted = list(doc_ids)
        self.removed += wanted
        return len(wanted)


def test_the_end_of_a_savepoint_removes_nothing(engine: Engine) -> None:
    outside = Outside()
    with Session(engine) as session, session.begin():
        session.execute(text("SELECT 1"))
        store = AfterCommit(outside, session)
        with session.begin_nested():
            store.remove(["inner"])
        # What comes after can still fail, and would bring the row back.
        assert outside.removed == []
        with session.begin_nested():
            session.execute(text("SELECT 1"))
        assert outside.removed == []
        store.remove(["outer"])
    assert outside.removed == ["inner", "outer"]


def test_after_a_savepoint_a_rollback_keeps_everything(engine: Engine) -> None:
    outside = Outside()
    with Session(engine) as session:
        store = AfterCommit(outside, session)
        with session.begin_nested():
            store.remove(["inner"])
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()
    assert outside.removed == []


def test_what_a_savepoint_took_back_is_not_removed(engine: Engine) -> None:
    outside = Outside()
    with Session(engine) as session, session.begin():
        store = AfterCommit(outside, session)
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            store.remove(["taken-back"])
            raise ZeroDivisionError
        store.remove(["later"])
    assert outside.removed == ["later"]


def test_each_transaction_of_a_session_counts_by_itself(engine: Engine) -> None:
    outside = Outside()
    with Session(engine) as session:
        store = AfterCommit(outside, session)
        for name in ("first", "second"):
            session.execute(text("SELECT 1"))
            store.remove([name])
            session.commit()
            assert outside.removed[-1] == name
        session.execute(text("SELECT 1"))
        session.commit()
    assert outside.removed == ["first", "second"]
