"""Patients' rules about a partner, at both ends of a transfer."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from crx_institutions import NUMBER, SCHEME, House, enrol, found
from crx_simulator import World, record_of
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from test_crx_loopback import events, receiving, sending, states, until

from medportal.audit.events import Action, Event
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.delivery import blocks, inbox, outbox
from medportal.delivery.blocks import Block, BlockEffect, BlockScope
from medportal.delivery.models import Inbox, Outbox, PartnerBlock, ReceiptCounter
from medportal.patients.pseudonyms import pseudonym
from medportal.transfer import events as ev
from medportal.transfer.ports import AcceptedRecord, Known, NotKnown, Question
from medportal.transfer.stores import SqlReceiverStore, SqlSenderStore


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def founded(request: Any, tmp_path_factory: Any, new_database: Any) -> Iterator[Any]:
    state = tmp_path_factory.mktemp("var")
    hospital, laboratory = (
        found(state, name, database=new_database(request.param))
        for name in ("hospital", "laboratory")
    )
    enrol(hospital, laboratory)
    yield hospital, laboratory, hospital.register()
    hospital.engine.dispose()
    laboratory.engine.dispose()


@pytest.fixture
def houses(founded: Any) -> tuple[House, House, str]:
    for house in founded[:2]:
        with Session(house.engine) as session, session.begin():
            for table in (Outbox, Inbox, ReceiptCounter, PartnerBlock):
                session.execute(delete(table))
    return founded


def put(house: House, patient_id: str, partner: str, **values: Any) -> str:
    usual = {"effect": BlockEffect.BLOCK, "what": BlockScope.EVERYTHING, "what_id": ""}
    rule_id = new_id()
    made = Block(
        rule_id,
        patient_id,
        partner,
        since=utcnow() - timedelta(seconds=1),
        until=None,
        **(usual | values),
    )
    with Session(house.engine) as session, session.begin():
        blocks.put(session, made)
    return rule_id


def change(house: House, work: Callable[[Session], object]) -> None:
    with Session(house.engine) as session, session.begin():
        work(session)


def question(laboratory: House, number: str = NUMBER) -> Question:
    key = laboratory.keys.partner_key("hospital")
    return Question(new_id(), key.key_id, pseudonym(key.key, SCHEME, number))


def accepted(asked: Question, patient: str) -> AcceptedRecord:
    digest = hashlib.sha256(asked.tid.encode()).digest()
    return AcceptedRecord(
        "laboratory", asked.tid, digest, patient, asked.key_id, asked.pseudonym, True, "", b"parcel"
    )


def queries(hospital: House) -> set[str | None]:
    return {event.object for event in events(hospital, Action.QUERY_RECEIVED)}


def test_a_rule_at_the_sender_stops_the_transfer_before_any_query_and_its_end_releases_it(houses):
    hospital, laboratory, _patient = houses
    stopped, free = laboratory.queue("hospital", count=2)
    patient_id = laboratory.outbox()[stopped].patient_id
    rule_id = put(laboratory, patient_id, "hospital")
    change(laboratory, lambda s: outbox.withhold_stopped(s, utcnow(), patient_id))

    def release(session: Session) -> None:
        blocks.drop(session, rule_id)
        assert [one.tid for one in outbox.lift_freed(session, utcnow(), patient_id)] == [stopped]

    async def run() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: laboratory.outbox()[free].state == "delivered")
            assert laboratory.outbox()[stopped].state == "withheld"
            assert laboratory.outbox()[stopped].asked_at is None
            assert stopped not in queries(hospital) and free in queries(hospital)
            change(laboratory, release)
            await until(lambda: states(laboratory) == {("delivered", "registered")})

    asyncio.run(run())
    assert {row.tid for row in hospital.inbox()} == {stopped, free}


def test_the_sender_neither_calls_for_nor_claims_what_a_rule_stops(houses):
    _hospital, laboratory, _patient = houses
    (tid,) = laboratory.queue("hospital")
    store = SqlSenderStore(laboratory.engine, laboratory.keys, "one")
    assert list(store.due(utcnow())) == ["hospital"]
    put(laboratory, laboratory.outbox()[tid].patient_id, "hospital")
    assert list(store.due(utcnow())) == []
    assert list(store.claim("hospital", 8, utcnow())) == []


def test_what_was_claimed_before_a_rule_is_found_by_the_one_who_holds_it(houses):
    _hospital, laboratory, _patient = houses
    stopped, _free = laboratory.queue("hospital", count=2)
    store = SqlSenderStore(laboratory.engine, laboratory.keys, "one")
    held = store.claim("hospital", 8, utcnow())
    assert len(held) == 2 and store.stopped(held, utcnow()) == frozenset()
    rows = laboratory.outbox()
    put(
        laboratory,
        rows[stopped].patient_id,
        "hospital",
        what=BlockScope.RECORD,
        what_id=rows[stopped].record_id,
    )
    assert store.stopped(held, utcnow()) == {stopped}


def test_what_a_rule_stops_between_question_and_offer_is_given_back_unsent():
    world = World()
    stopped = record_of(world.lab, tid="0" * 32)
    ports = replace(world.sender_ports(), is_stopped=lambda tid: tid == stopped.tid)
    world.sender = replace(world.sender, ports=ports)
    world.connect()
    world.storage.register()
    world.submit(stopped, record_of(world.lab, tid="1" * 32))
    assert [e.record.tid for e in world.done if isinstance(e, ev.Release)] == ["0" * 32]
    receipts = [e.record.tid for e in world.done if isinstance(e, ev.HaveReceipt)]
    assert receipts == ["1" * 32]
    assert world.sender.records == {}


def test_to_a_partner_whom_the_patient_refuses_nobody_is_registered(houses):
    hospital, laboratory, patient = houses
    store = SqlReceiverStore(hospital.engine, hospital.keys)
    asked, stranger = question(laboratory), question(laboratory, "55566677")
    assert isinstance(store.answer("laboratory", [asked], utcnow())[asked.tid], Known)
    put(hospital, patient, "laboratory")
    answers = store.answer("laboratory", [asked, stranger], utcnow())
    assert answers[asked.tid] == answers[stranger.tid] == NotKnown()
    told = {
        body.object: body
        for row in events(hospital, Action.QUERY_RECEIVED)
        if (body := Event.from_bytes(row.body)).object in answers
    }
    refused = told[asked.tid]
    assert (refused.patient, refused.outcome, refused.reasons) == (
        patient,
        "denied",
        (Reason.PATIENT_BLOCKS,),
    )
    assert told[stranger.tid].patient is None and told[stranger.tid].reasons == ()


@pytest.mark.parametrize("what", [BlockScope.CATEGORY, BlockScope.RECORD])
def test_what_is_sealed_when_asked_for_is_refused_by_no_rule_about_a_part(houses, what):
    hospital, laboratory, patient = houses
    store = SqlReceiverStore(hospital.engine, hospital.keys)
    put(hospital, patient, "laboratory", what=what, what_id="laboratory")
    asked = question(laboratory)
    assert isinstance(store.answer("laboratory", [asked], utcnow())[asked.tid], Known)


def test_a_rule_made_between_question_and_commit_answers_as_for_nobody(houses):
    hospital, laboratory, patient = houses
    store = SqlReceiverStore(hospital.engine, hospital.keys)
    asked = question(laboratory)
    assert isinstance(store.answer("laboratory", [asked], utcnow())[asked.tid], Known)
    put(hospital, patient, "laboratory")
    gone = question(laboratory, "55566677")
    answers = store.commit([accepted(asked, patient), accepted(gone, new_id())], utcnow())
    assert all(isinstance(answer, bytes) for answer in answers)
    # Nothing is told apart, and nothing is filed: both wait, sealed, for a person.
    assert {(row.tid, row.outcome, row.reason, row.awaiting) for row in hospital.inbox()} == {
        (tid, "held-for-review", "patient-ambiguous", "person") for tid in (asked.tid, gone.tid)
    }
    # Not even a person's word files it as long as the rule stands.
    with Session(hospital.engine) as session, session.begin():
        inbox.approve(session, "laboratory", asked.tid, patient)
        assert not inbox.has_pending(session, utcnow())


def test_one_patients_rule_leaves_the_others_of_a_group(houses):
    hospital, laboratory, patient = houses
    other = hospital.register("23456789")
    store = SqlReceiverStore(hospital.engine, hospital.keys)
    mine, theirs = question(laboratory), question(laboratory, "23456789")
    put(hospital, patient, "laboratory")
    answers = store.commit([accepted(mine, patient), accepted(theirs, other)], utcnow())
    assert all(isinstance(answer, bytes) for answer in answers)
    assert {row.tid: row.outcome for row in hospital.inbox()} == {
        mine.tid: "held-for-review",
        theirs.tid: "registered",
    }


def test_the_end_of_a_rule_lets_partners_ask_again_as_a_registration_does(houses):
    hospital, laboratory, patient = houses
    store = SqlReceiverStore(hospital.engine, hospital.keys)
    before = store.registrations()
    rule_id = put(hospital, patient, "laboratory")
    assert store.registrations() != before
    change(hospital, lambda session: blocks.drop(session, rule_id))
    assert store.registrations() != before
    with Session(laboratory.engine) as session:
        assert session.scalars(select(PartnerBlock)).all() == []
