"""Statements that are rendered once mean what they meant before, on both engines."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from medportal.db.prepared import Prepared, one_of
from medportal.db.reading import table
from medportal.delivery.models import BoxKey, PartnerHead

Begin = sessionmaker[Session]
KEYS = table(BoxKey)
HEADS = table(PartnerHead)
PUT = Prepared(insert(KEYS).values({name: bindparam(name) for name in ("box", "key_id", "since")}))
FOUND = Prepared(
    select(KEYS.c.key_id, KEYS.c.since)
    .where(KEYS.c.box == "inbox", one_of(KEYS.c.key_id, "ids"))
    .order_by(KEYS.c.key_id)
)
DESTROY = Prepared(
    update(KEYS)
    .where(one_of(KEYS.c.key_id, "ids"), KEYS.c.destroyed_at.is_(None))
    .values(destroyed_at=bindparam("now"))
    .returning(KEYS.c.key_id, KEYS.c.destroyed_at)
)


def put(session: Session, count: int, now: Any) -> list[str]:
    ids = [f"{number:016}" for number in range(count)]
    PUT.run_all(session, [{"box": "inbox", "key_id": each, "since": now} for each in ids])
    return ids


def test_lists_of_every_length_find_what_is_in_them(begin: Begin, clock: Any) -> None:
    with begin.begin() as session:
        ids = put(session, 12, clock.now)
        for length in range(10):
            found = FOUND.rows(session, {"ids": ids[:length]})
            assert found == [(each, clock.now) for each in ids[:length]]
        assert FOUND.scalar(session, {"ids": ["unheard-of", ids[3]]}) == ids[3]
        assert FOUND.scalar(session, {"ids": ["unheard-of"]}) is None


def test_bytes_are_found_in_a_list_too(begin: Begin, clock: Any) -> None:
    query = Prepared(select(HEADS.c.partner, HEADS.c.root).where(one_of(HEADS.c.root, "roots")))
    with begin.begin() as session:
        for partner, root in (("a", b"\0" * 32), ("b", b"\xff" * 32)):
            session.add(
                PartnerHead(partner=partner, size=1, root=root, body=b"", held_at=clock.now)
            )
        # What waits in the session is written before anything is looked for.
        found = query.rows(session, {"roots": [b"\xff" * 32, b"'" * 32, b"\xff" * 32]})
    assert found == [("b", b"\xff" * 32)]


def test_a_list_in_a_statement_that_writes(begin: Begin, clock: Any) -> None:
    later = clock.now + timedelta(seconds=1, microseconds=7)
    with begin.begin() as session:
        ids = put(session, 4, clock.now)
        DESTROY.run(session, {"ids": [], "now": later})
        gone = DESTROY.rows(session, {"ids": ids[:3], "now": later})
        assert sorted(gone) == [(each, later) for each in ids[:3]]
        assert DESTROY.rows(session, {"ids": ids, "now": later}) == [(ids[3], later)]


def test_it_is_of_the_callers_transaction_and_fails_as_every_statement_does(
    begin: Begin, clock: Any
) -> None:
    with begin() as session:
        ids = put(session, 2, clock.now)
        session.rollback()
        assert FOUND.rows(session, {"ids": ids}) == []
        put(session, 1, clock.now)
        with pytest.raises(IntegrityError):
            PUT.run(session, {"box": "inbox", "key_id": ids[0], "since": clock.now})
