"""What patients' rules about partners do to the outbox and the inbox, on both engines."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from medportal.access.rules import Effect, Rule, Subject, Thing, What, Whom, winning
from medportal.core.ids import new_id
from medportal.delivery import blocks, inbox, outbox
from medportal.delivery.blocks import Block, BlockEffect, BlockScope
from medportal.delivery.errors import LostLease
from medportal.delivery.models import Outbox
from medportal.delivery.outbox import LEASE, Outgoing, ReceiptFacts
from medportal.delivery.states import DeliveryReason, DeliveryState, Outcome
from medportal.tenancy.engines import make_engine

Begin = sessionmaker[Session]
Make = Callable[..., Outgoing]
PATIENT = "a" * 32
DAY = timedelta(days=1)


def block(clock: Any, **values: Any) -> Block:
    usual = {
        "rule_id": new_id(),
        "patient_id": PATIENT,
        "partner": "hospital",
        "effect": BlockEffect.BLOCK,
        "what": BlockScope.EVERYTHING,
        "what_id": "",
        "since": clock.now,
        "until": None,
    }
    return Block(**(usual | values))


def rule(begin: Begin, made: Block) -> Block:
    with begin.begin() as session:
        blocks.put(session, made)
    return made


def put(begin: Begin, clock: Any, item: Outgoing) -> Outgoing:
    with begin.begin() as session:
        outbox.enqueue(session, item, clock.now)
    return item


def claimed(begin: Begin, clock: Any, worker: str = "w1") -> list[Any]:
    with begin.begin() as session:
        return outbox.claim(session, worker, "hospital", clock.now)


def state(begin: Begin, item: Outgoing) -> tuple[str, str]:
    with begin.begin() as session:
        query = select(Outbox.state, Outbox.reason).where(Outbox.tid == item.tid)
        return tuple(session.execute(query).one())


def settle(begin: Begin, clock: Any, patient_id: str | None = None) -> tuple[list[str], list[str]]:
    """Withhold and lift, as the portal and the jobs do; return the transfer ids of each."""
    with begin.begin() as session:
        withheld = outbox.withhold_stopped(session, clock.now, patient_id)
        lifted = outbox.lift_freed(session, clock.now, patient_id)
    return [one.tid for one in withheld], [one.tid for one in lifted]


def due(begin: Begin, clock: Any) -> bool:
    with begin.begin() as session:
        return outbox.has_turned(session, clock.now)


# Sending


def test_what_waits_is_not_claimed_from_the_moment_on_in_which_a_rule_counts(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    mine = put(begin, clock, outgoing(patient_id=PATIENT))
    other = put(begin, clock, outgoing())
    rule(begin, block(clock))
    assert [claim.tid for claim in claimed(begin, clock)] == [other.tid]
    assert due(begin, clock)
    assert settle(begin, clock) == ([mine.tid], [])
    assert state(begin, mine) == ("withheld", "rule-here")
    assert not due(begin, clock)
    clock.forward(days=30)
    assert mine.tid not in [claim.tid for claim in claimed(begin, clock)]


def test_ending_a_rule_releases_what_waited_and_nothing_else(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    made = rule(begin, block(clock))
    kept = rule(begin, block(clock, patient_id="b" * 32))
    mine = put(begin, clock, outgoing(patient_id=PATIENT))
    theirs = put(begin, clock, outgoing(patient_id=kept.patient_id))
    assert state(begin, mine) == state(begin, theirs) == ("withheld", "rule-here")
    with begin.begin() as session:
        blocks.drop(session, made.rule_id)
    assert settle(begin, clock, PATIENT) == ([], [mine.tid])
    assert state(begin, mine) == ("waiting", "rule-lifted")
    assert [claim.tid for claim in claimed(begin, clock)] == [mine.tid]


def test_a_rule_of_another_partner_or_patient_stops_nothing(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    rule(begin, block(clock, partner="laboratory"))
    rule(begin, block(clock, patient_id="b" * 32))
    item = put(begin, clock, outgoing(patient_id=PATIENT))
    assert [claim.tid for claim in claimed(begin, clock)] == [item.tid]
    assert not due(begin, clock)


def test_a_rule_begins_and_ends_to_the_microsecond(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    rule(begin, block(clock, since=clock.now + DAY, until=clock.now + 2 * DAY))
    item = put(begin, clock, outgoing(patient_id=PATIENT))
    instant = timedelta(microseconds=1)
    clock.now += DAY - instant
    assert not due(begin, clock)
    clock.now += instant
    assert settle(begin, clock) == ([item.tid], [])
    clock.now += DAY - instant
    assert not due(begin, clock)
    clock.now += instant
    assert due(begin, clock)
    with begin.begin() as session:
        assert blocks.has_expired(session, clock.now)
        assert len(blocks.forget_expired(session, clock.now)) == 1
        assert not blocks.has_expired(session, clock.now)
    assert settle(begin, clock) == ([], [item.tid])


def test_what_a_worker_holds_is_left_to_it_and_withheld_when_it_failed(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = put(begin, clock, outgoing(patient_id=PATIENT))
    (claim,) = claimed(begin, clock)
    rule(begin, block(clock))
    assert settle(begin, clock) == ([], [])
    with begin.begin() as session:
        outbox.retry(session, claim, DeliveryReason.BUSY, clock.now)
    assert settle(begin, clock) == ([item.tid], [])


def test_what_arrived_while_a_rule_was_made_is_delivered(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = put(begin, clock, outgoing(patient_id=PATIENT))
    (claim,) = claimed(begin, clock)
    rule(begin, block(clock))
    with begin.begin() as session:
        facts = ReceiptFacts(Outcome.REGISTERED, 1, clock.now, b"receipt")
        outbox.complete(session, claim, facts, clock.now)
    assert settle(begin, clock) == ([], [])
    assert state(begin, item)[0] == DeliveryState.DELIVERED


def test_what_a_dead_worker_held_is_withheld_and_the_dead_writes_nothing(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    item = put(begin, clock, outgoing(patient_id=PATIENT))
    (claim,) = claimed(begin, clock)
    rule(begin, block(clock))
    clock.now += LEASE
    assert settle(begin, clock) == ([item.tid], [])
    with pytest.raises(LostLease), begin.begin() as session:
        outbox.retry(session, claim, DeliveryReason.BUSY, clock.now)


def test_what_has_no_category_is_stopped_by_a_rule_about_any(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    rule(begin, block(clock, what=BlockScope.CATEGORY, what_id="genetics"))
    old = put(begin, clock, outgoing(patient_id=PATIENT, category=""))
    other = put(begin, clock, outgoing(patient_id=PATIENT, category="laboratory"))
    assert state(begin, old)[0] == "withheld"
    assert state(begin, other)[0] == "waiting"
    rule(
        begin,
        block(clock, effect=BlockEffect.ALLOW, what=BlockScope.CATEGORY, what_id="laboratory"),
    )
    assert settle(begin, clock) == ([], [])


def test_a_rule_about_a_record_goes_for_its_corrections(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    first = outgoing(patient_id=PATIENT)
    rule(begin, block(clock, what=BlockScope.RECORD, what_id=first.record_id))
    later = outgoing(patient_id=PATIENT, chain=first.chain, version=2)
    for item in (first, later):
        assert state(begin, put(begin, clock, item))[0] == "withheld"


def test_open_deliveries_are_counted_for_the_preview(
    begin: Begin, clock: Any, outgoing: Make
) -> None:
    one = put(begin, clock, outgoing(patient_id=PATIENT, category="genetics"))
    put(begin, clock, outgoing(patient_id=PATIENT, category="laboratory"))
    put(begin, clock, outgoing())
    rule(begin, block(clock, what=BlockScope.RECORD, what_id=one.record_id))
    settle(begin, clock)
    with begin.begin() as session:
        counts = [
            outbox.count_open(session, PATIENT, "hospital", what, what_id)
            for what, what_id in (
                (BlockScope.EVERYTHING, ""),
                (BlockScope.CATEGORY, "laboratory"),
                (BlockScope.RECORD, one.record_id),
                (BlockScope.RECORD, new_id()),
            )
        ]
        assert outbox.withheld_summary(session) == [("hospital", 1, clock.now)]
    assert counts == [2, 1, 1, 0]


CATEGORIES = ("laboratory", "genetics")
RECORDS = ("1" * 32, "2" * 32)
SCOPES = (
    [(BlockScope.EVERYTHING, "")]
    + [(BlockScope.CATEGORY, each) for each in CATEGORIES]
    + [(BlockScope.RECORD, each) for each in RECORDS]
)
AT = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
TERMS = [(AT - DAY, None), (AT, AT + DAY), (AT - DAY, AT), (AT + DAY, None)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def one_engine(request: pytest.FixtureRequest, new_database: Any) -> Any:
    made: Engine = make_engine(new_database(request.param))
    yield made
    made.dispose()


@given(
    made=st.lists(
        st.tuples(
            st.sampled_from(list(BlockEffect)), st.sampled_from(SCOPES), st.sampled_from(TERMS)
        ),
        max_size=5,
    ),
    category=st.sampled_from(CATEGORIES),
    record=st.sampled_from(RECORDS),
)
def test_the_databases_answer_is_that_of_the_rules(
    one_engine: Engine, made: list[Any], category: str, record: str
) -> None:
    rules = [
        Rule(new_id(), Effect(e), Whom.INSTITUTION, "hospital", What(w), i, since, until)
        for e, (w, i), (since, until) in made
    ]
    subject = Subject("", "hospital")
    decides = winning(rules, subject, Thing(record, category), AT)
    with Session(one_engine) as session:
        for each in rules:
            effect, what = BlockEffect(each.effect), BlockScope(each.what)
            blocks.put(
                session,
                Block(
                    each.id, PATIENT, "hospital", effect, what, each.what_id, each.since, each.until
                ),
            )
        asked = blocks.Sending("hospital", PATIENT, category, record, record)
        stopped = blocks.stops_now(session, asked, AT)
    assert stopped == (decides is not None and decides.effect is Effect.BLOCK)


# Taking in


def test_only_a_block_of_everything_in_force_refuses_what_comes(begin: Begin, clock: Any) -> None:
    def refuses(patient_id: str = PATIENT, partner: str = "hospital") -> bool:
        with begin.begin() as session:
            return blocks.refuses(session, patient_id, partner, clock.now)

    rule(begin, block(clock, what=BlockScope.CATEGORY, what_id="genetics"))
    rule(begin, block(clock, effect=BlockEffect.ALLOW))
    rule(begin, block(clock, since=clock.now + DAY))
    assert not refuses()
    rule(begin, block(clock))
    assert refuses()
    assert not refuses("") and not refuses(partner="laboratory") and not refuses("b" * 32)


def test_what_was_taken_before_a_rule_waits_for_its_end_unfiled(
    begin: Begin, clock: Any, arrival: Callable[..., Any]
) -> None:
    item, other = arrival(patient_id=PATIENT), arrival()
    with begin.begin() as session:
        inbox.register(session, [item, other], clock.now, lambda grants: [b"receipt"] * len(grants))
    made = rule(begin, block(clock, partner=item.sender))
    with begin.begin() as session:
        assert [each.tid for each in inbox.pending(session, clock.now)] == [other.tid]
        inbox.mark_filed(session, other.sender, other.tid, new_id(), clock.now)
        assert not inbox.has_pending(session, clock.now)
    with begin.begin() as session:
        blocks.drop(session, made.rule_id)
        assert inbox.has_pending(session, clock.now)
        assert [each.tid for each in inbox.pending(session, clock.now)] == [item.tid]


def test_the_token_differs_when_a_rule_comes_or_goes(begin: Begin, clock: Any) -> None:
    first, other = block(clock), block(clock, until=clock.now)
    steps = [
        lambda session: None,
        lambda session: blocks.put(session, first),
        # One ends while another is made: as many as before, and not the same.
        lambda session: (blocks.drop(session, first.rule_id), blocks.put(session, other)),
        lambda session: blocks.forget_expired(session, clock.now),
    ]
    tokens = []
    for step in steps:
        with begin.begin() as session:
            step(session)
            tokens.append(blocks.state_of_blocks(session))
    assert len(set(tokens)) == len(steps)
    with begin.begin() as session:
        blocks.drop(session, first.rule_id)
        assert blocks.forget_expired(session, clock.now) == []
        assert blocks.state_of_blocks(session) == tokens[-1]
