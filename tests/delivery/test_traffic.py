"""What was carried is counted once, by the hour, without reading old rows again."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, func, insert, select

from medportal.core.ids import new_id
from medportal.delivery import traffic
from medportal.delivery.models import Inbox, Outbox, ReceiptCounter, TrafficHour, TrafficMark
from medportal.delivery.traffic import Direction, End

NOW = datetime(2026, 3, 29, 12, 30, tzinfo=UTC)


def sent(session, at, *, partner="hospital", state="delivered", count=1):
    rows = []
    for _each in range(count):
        record = new_id()
        rows.append(
            {
                "tid": new_id(),
                "partner": partner,
                "record_id": record,
                "version": 1,
                "chain": record,
                "patient_id": new_id(),
                "pseudonym": b"p" * 32,
                "key_id": "k",
                "digest": b"d" * 32,
                "sealed": b"s",
                "state": state,
                "reason": "registered",
                "attempts": 1,
                "created_at": at,
                "next_at": at,
                "settled_at": at,
                "fence": 1,
            }
        )
    session.execute(insert(Outbox), rows)


def received(session, at, *, sender="laboratory", outcome="registered", count=1):
    last = session.scalar(select(ReceiptCounter.last).where(ReceiptCounter.sender == sender))
    if last is None:
        session.execute(insert(ReceiptCounter).values(sender=sender, last=0))
    rows = [
        {
            "sender": sender,
            "tid": new_id(),
            "digest": b"d" * 32,
            "pseudonym": b"p" * 32,
            "key_id": "k",
            "outcome": outcome,
            "reason": outcome,
            "sequence": (last or 0) + place + 1,
            "received_at": at,
        }
        for place in range(count)
    ]
    session.execute(insert(Inbox), rows)
    counter = ReceiptCounter.__table__
    session.execute(
        counter.update().where(counter.c.sender == sender).values(last=(last or 0) + count)
    )


def count_all(session, now=NOW):
    turns = 1
    while traffic.count(session, now):
        turns += 1
    return turns


def seen(session, now=NOW, partner="", since=timedelta(days=31)):
    return {
        (one.hour, one.direction, one.end): one.count
        for one in traffic.traffic(session, now - since, now, partner).hours
    }


def test_each_hour_has_what_came_to_an_end_in_it(session):
    hour = NOW.replace(minute=0) - timedelta(hours=3)
    sent(session, hour, count=2)
    sent(session, hour + timedelta(minutes=59, seconds=59), state="held-for-review")
    sent(session, hour + timedelta(hours=1), state="rejected")
    received(session, hour, count=3)
    received(session, hour, outcome="rejected")
    count_all(session)
    assert seen(session) == {
        (hour, Direction.SENT, End.ARRIVED): 3,
        (hour + timedelta(hours=1), Direction.SENT, End.REFUSED): 1,
        (hour, Direction.RECEIVED, End.ARRIVED): 3,
        (hour, Direction.RECEIVED, End.REFUSED): 1,
    }


def test_partners_apart_and_all_of_them_together(session):
    at = NOW - timedelta(hours=5)
    sent(session, at, count=2)
    sent(session, at, partner="clinic", count=5)
    received(session, at, sender="clinic", count=7)
    count_all(session)
    assert sum(seen(session, partner="hospital").values()) == 2
    assert sum(seen(session, partner="clinic").values()) == 12
    assert sum(seen(session).values()) == 14


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not-counted"])
def test_what_is_new_is_seen_before_it_is_counted(session, counted):
    count_all(session, NOW - timedelta(hours=1))
    for minutes in (0, 1, 10, 29, 40, 50):
        sent(session, NOW - timedelta(minutes=minutes))
        received(session, NOW - timedelta(minutes=minutes))
    if counted:
        count_all(session, NOW + timedelta(minutes=3))
    found = seen(session, NOW + timedelta(minutes=3))
    expected = {NOW.replace(minute=0): 4, NOW.replace(minute=0) - timedelta(hours=1): 2}
    for (hour, _direction, end), number in found.items():
        assert (number, end) == (expected[hour], End.ARRIVED)
    assert len(found) == 4


def test_nothing_counts_twice_however_often_and_whenever_it_is_counted(session):
    """Also while things keep coming, and at moments within an hour."""
    count_all(session, NOW - timedelta(minutes=1))
    total = 0
    for minutes in range(0, 300, 7):
        moment = NOW + timedelta(minutes=minutes)
        sent(session, moment, count=3)
        received(session, moment, count=2)
        total += 5
        traffic.count(session, moment)
        assert sum(seen(session, moment).values()) == total
    late = NOW + timedelta(hours=6)
    count_all(session, late)
    rows = select(func.sum(TrafficHour.count)).where(TrafficHour.partner == "")
    assert session.scalar(rows) == total == sum(seen(session, late).values())


def test_a_page_that_is_behind_says_so_and_reads_nothing_that_is_not_counted(session):
    count_all(session)
    sent(session, NOW + timedelta(hours=1), count=3)
    found = traffic.traffic(session, NOW, NOW + timedelta(days=2))
    assert (found.is_behind, found.hours) == (True, ())
    assert found.until == NOW - traffic.LAG
    assert traffic.traffic(session, NOW, NOW + timedelta(minutes=5)).is_behind is False


def test_before_the_first_count_nothing_is_there(session):
    found = traffic.traffic(session, NOW - timedelta(days=2), NOW)
    assert found == traffic.Traffic((), True, None)


def test_the_first_count_goes_back_a_month_a_part_at_a_time(session):
    for days in (1, 20, 30, 40):
        sent(session, NOW - timedelta(days=days))
    # Each time two days of it; what lies between is leapt over.
    assert count_all(session) == 3
    assert sum(seen(session, since=timedelta(days=60)).values()) == 3


def test_many_receipts_are_counted_a_part_at_a_time(session, monkeypatch):
    monkeypatch.setattr(traffic, "ROWS_AT_ONCE", 10)
    received(session, NOW - timedelta(hours=2), count=25)
    count_all(session)
    assert sum(seen(session).values()) == 25


def test_an_idle_institution_writes_nothing_for_an_hour(session):
    count_all(session)
    assert not traffic.has_uncounted(session, NOW + timedelta(minutes=30))
    assert traffic.has_uncounted(session, NOW + timedelta(minutes=70))
    sent(session, NOW)
    assert traffic.has_uncounted(session, NOW + timedelta(minutes=3))
    count_all(session, NOW + timedelta(minutes=3))
    assert not traffic.has_uncounted(session, NOW + timedelta(minutes=4))
    received(session, NOW)
    assert traffic.has_uncounted(session, NOW + timedelta(minutes=4))


def test_old_hours_are_forgotten(session):
    sent(session, NOW - timedelta(days=20))
    count_all(session)
    traffic.forget_old(session, NOW)
    assert seen(session)
    traffic.forget_old(session, NOW + timedelta(days=400))
    assert session.scalar(select(func.count()).select_from(TrafficHour)) == 0
    assert session.scalar(select(func.count()).select_from(TrafficMark)) > 0


def test_a_picture_reads_no_row_of_what_was_delivered(session):
    """The statements that a page runs are bounded by indexes, whatever was sent before."""
    at = NOW - timedelta(days=3)
    sent(session, at, count=300)
    received(session, at, count=300)
    count_all(session)
    received(session, NOW, count=2)
    statements = []

    def note(_connection, _cursor, statement, parameters, *_rest):
        statements.append((statement, parameters))

    engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", note)
    try:
        traffic.traffic(session, NOW - timedelta(days=31), NOW)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(statements) <= 5
    if engine.dialect.name == "sqlite":
        for statement, parameters in statements:
            plan = session.connection().exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", parameters
            )
            for line in plan:
                told = line[-1]
                assert not told.startswith(("SCAN outbox", "SCAN inbox")), told
