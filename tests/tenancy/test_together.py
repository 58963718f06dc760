"""Events of several requests in one transaction: durable before anybody returns, on each engine."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.tenancy.together import Together

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: How long anything here may take before the test gives up.
SECONDS = 20


class Amiss(Exception):
    """What is amiss with one part."""


def made():
    return Event.create(Action.PATIENTS_LISTED, now=NOW, actor="0" * 32)


def writing(one):
    return lambda session: append(session, one)


def kept(engine):
    """Return the ids of the events that another connection sees."""
    with Session(engine) as session:
        return set(session.scalars(select(AuditEvent.id)))


class Crowd:
    """Threads that each write one part; the first is held in its transaction until all wait."""

    def __init__(self, engine):
        self.engine, self.commits = engine, 0
        self.is_held, self.go_on = threading.Event(), threading.Event()
        self.together = Together(lambda: Session(engine))
        self.threads, self.seen, self.errors = [], {}, {}
        event.listen(engine, "commit", self._count)

    def _count(self, _connection):
        self.commits += 1

    def hold(self, session):
        self.is_held.set()
        assert self.go_on.wait(SECONDS)

    def begin(self, name, *writes, sees=None):
        def run():
            try:
                self.together.write(writes)
                self.seen[name] = sees is None or sees in kept(self.engine)
            except Exception as error:
                self.errors[name] = error

        thread = threading.Thread(target=run)
        self.threads.append(thread)
        thread.start()

    def wait_for(self, count):
        """Return when so many parts wait behind the one that is held."""
        turn = threading.Event()
        for _ in range(SECONDS * 100):
            if len(self.together._waiting) == count:
                return
            turn.wait(0.01)
        raise AssertionError("they do not wait")

    def let_go(self):
        self.go_on.set()
        for thread in self.threads:
            thread.join(SECONDS)
            assert not thread.is_alive()


@pytest.fixture
def crowd(engine):
    found = Crowd(engine)
    yield found
    found.go_on.set()


def test_who_comes_alone_waits_for_nobody(crowd):
    one = made()
    crowd.together.write([writing(one)])
    assert kept(crowd.engine) == {one.id}
    assert crowd.commits == 1


def test_who_comes_meanwhile_shares_one_commit(crowd):
    first, others = made(), [made() for _ in range(5)]
    crowd.begin("first", crowd.hold, writing(first), sees=first.id)
    assert crowd.is_held.wait(SECONDS)
    for place, one in enumerate(others):
        crowd.begin(place, writing(one), sees=one.id)
    crowd.wait_for(len(others))
    assert crowd.seen == {}, "nobody returns before the commit"
    crowd.let_go()
    assert crowd.errors == {}
    assert crowd.seen == dict.fromkeys(["first", *range(5)], True), "durable when they return"
    assert kept(crowd.engine) == {one.id for one in [first, *others]}
    assert crowd.commits == 2


def test_what_is_amiss_with_one_part_is_told_to_that_one(crowd):
    def fails(_session):
        raise Amiss

    first, good, other = made(), made(), made()
    crowd.begin("first", crowd.hold, writing(first), sees=first.id)
    assert crowd.is_held.wait(SECONDS)
    crowd.begin("good", writing(good), sees=good.id)
    crowd.begin("bad", fails)
    crowd.begin("other", writing(other), sees=other.id)
    crowd.wait_for(3)
    crowd.let_go()
    assert set(crowd.errors) == {"bad"}
    assert isinstance(crowd.errors["bad"], Amiss)
    assert crowd.seen == {"first": True, "good": True, "other": True}
    assert kept(crowd.engine) == {first.id, good.id, other.id}


def test_a_row_that_the_database_refuses_takes_no_other_with_it(crowd):
    twice, good = made(), made()
    crowd.together.write([writing(twice)])
    crowd.begin("first", crowd.hold)
    assert crowd.is_held.wait(SECONDS)
    crowd.begin("twice", writing(twice))
    crowd.begin("good", writing(good), sees=good.id)
    crowd.wait_for(2)
    crowd.let_go()
    assert isinstance(crowd.errors.pop("twice"), SQLAlchemyError)
    assert crowd.errors == {}
    assert kept(crowd.engine) == {twice.id, good.id}


def test_a_commit_that_fails_is_an_error_of_everybody_whose_event_is_not_kept(crowd):
    def refuse(_session):
        raise Amiss

    first, others = made(), [made() for _ in range(3)]
    crowd.begin("first", crowd.hold, writing(first))
    assert crowd.is_held.wait(SECONDS)
    for place, one in enumerate(others):
        crowd.begin(place, writing(one))
    crowd.wait_for(3)
    event.listen(Session, "before_commit", refuse)
    try:
        crowd.let_go()
    finally:
        event.remove(Session, "before_commit", refuse)
    assert {type(error) for error in crowd.errors.values()} == {Amiss}
    assert set(crowd.errors) == {"first", 0, 1, 2}
    assert crowd.seen == {}
    assert kept(crowd.engine) == set()
    # And whoever comes afterwards finds the way free.
    after = made()
    crowd.together.write([writing(after)])
    assert kept(crowd.engine) == {after.id}


def test_many_at_once_all_get_through(crowd):
    crowd.go_on.set()
    own = {name: [made() for _ in range(6)] for name in range(8)}

    def several(name):
        for one in own[name]:
            crowd.together.write([writing(one)])
            assert one.id in kept(crowd.engine)

    threads = [threading.Thread(target=several, args=(name,)) for name in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    with Session(crowd.engine) as session:
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == 48
