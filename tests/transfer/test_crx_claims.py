"""Genuine partners that claim what is not theirs, and partners at work at the same time."""

from collections import Counter
from typing import Any

import pytest
from crx_attackers import (
    Trio,
    answers,
    asked,
    codes,
    connected,
    direct,
    error_of,
    events,
    hand,
    is_delivered,
    question,
    receiving,
    run,
    sending,
    states,
    until,
)
from crx_institutions import CATALOGUE, NUMBER, House, clinical_record, subject

from medportal.audit.events import Action
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Inbox
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import statement
from medportal.records.fhir import to_fhir
from medportal.transfer import events as ev
from medportal.transfer import messages
from medportal.transfer.errors import Code
from medportal.transfer.framing import encode_frame
from medportal.transfer.messages import Deliver, encode


def inbox_of(house: House, sender: str) -> list[Inbox]:
    return [row for row in house.inbox() if row.sender == sender]


def test_a_genuine_partner_that_gives_anothers_name_is_refused(
    trio: Trio, logbook: list[Any]
) -> None:
    """All of its keys are good, and its own; only HELLO says that it is the laboratory."""
    hospital, laboratory, clinic = trio.houses
    clinic.queue("hospital")
    laboratory.queue("hospital")

    async def attack() -> None:
        async with receiving(hospital, clinic, laboratory):
            async with sending(clinic, institution="laboratory"):
                await until(lambda: states(clinic) == {("retrying", "channel-refused")})
            assert asked(hospital) == []
            async with sending(laboratory):
                await until(lambda: is_delivered(laboratory))

    run(attack())
    assert Code.INSTITUTION in codes(logbook, "partner left")
    assert [row.sender for row in hospital.inbox()] == ["laboratory"]


def test_a_transfer_id_of_another_partner_is_another_transfer(trio: Trio) -> None:
    """The clinic asks and delivers under the laboratory's id: neither its receipt nor its row."""
    hospital, laboratory, clinic = trio.houses
    (tid,) = laboratory.queue("hospital")
    clinic.queue("hospital", tid=tid)

    async def attack() -> None:
        async with receiving(hospital, clinic, laboratory):
            async with sending(laboratory):
                await until(lambda: is_delivered(laboratory))
            async with sending(clinic):
                await until(lambda: is_delivered(clinic))

    run(attack())
    (ours,), (theirs,) = inbox_of(hospital, "laboratory"), inbox_of(hospital, "clinic")
    assert ours.tid == theirs.tid == tid and ours.digest != theirs.digest
    receipts = [house.outbox()[tid].receipt for house in (laboratory, clinic)]
    assert receipts[0] != receipts[1]


def test_a_record_that_another_institution_wrote_is_not_taken_as_ones_own(trio: Trio) -> None:
    """The clinic got a record of the laboratory, and brings it to the hospital as its own."""
    hospital, laboratory, clinic = trio.houses
    record = clinical_record("laboratory")
    content = to_fhir(record, subject(), CATALOGUE)
    fields = statement.statement_fields(
        content, record.id, 1, "laboratory", record.author_id, record.category, utcnow()
    )
    signed = sign_statement(laboratory.keys.signer(Purpose.RECORD), statement.LABEL, fields)
    clinic.queue("hospital", content=content, signed=signed.to_bytes())

    async def attack() -> None:
        async with receiving(hospital, clinic), sending(clinic):
            await until(lambda: states(clinic) == {("rejected", "signature-invalid")})

    run(attack())
    (row,) = hospital.inbox()
    assert row.sealed is None and row.outcome == "rejected"


@pytest.mark.parametrize("where", ["beside the content", "in the content"])
def test_another_patient_than_was_asked_about_is_not_delivered(trio: Trio, where: str) -> None:
    hospital, laboratory, _clinic = trio.houses
    other = "31415926"
    if where == "in the content":
        about = to_fhir(clinical_record("laboratory"), subject(other), CATALOGUE)
        laboratory.queue("hospital", content=about)
    else:
        laboratory.queue("hospital", number=other, asked=NUMBER)

    async def attack() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: states(laboratory) == {("rejected", "identifier-mismatch")})

    run(attack())
    (row,) = hospital.inbox()
    assert row.sealed is None


# Peers by hand.


def test_a_pseudonym_of_another_pair_finds_nobody(trio: Trio) -> None:
    hospital, laboratory, clinic = trio.houses

    async def attack() -> ev.Effect:
        async with receiving(hospital) as port:
            client = await hand(clinic, port)
            answer = await client.ask(NUMBER, laboratory.keys.partner_key("hospital"))
            await client.leave()
            return answer

    # Not "unknown": the hospital has no list of names under a key that it does not share.
    assert isinstance(run(attack()), ev.Again)
    assert [row.patient for row in asked(hospital)] == [None]


def test_an_offer_made_to_one_partner_is_of_no_use_to_another(trio: Trio) -> None:
    """Nor is it on another connection of the same one: a key lives in its own connection."""
    hospital, laboratory, clinic = trio.houses
    tid, sealed = new_id(), bytes(2_000)

    async def attack() -> set[str]:
        async with receiving(hospital, laboratory) as port:
            ours = await hand(laboratory, port, deaf=("OFFER",))
            await ours.put(question(laboratory, tid=tid))
            await until(lambda: bool(ours.kept))
            said = set()
            for house in (clinic, laboratory):
                thief = await hand(house, port)
                await thief.put(encode(Deliver(tid, ours.kept[0].offer, sealed)))
                # STALE_OFFER about a record that this side never asked about.
                said.add((await thief.closed())[0])
            await ours.leave()
            return said

    assert run(attack()) == {Code.UNEXPECTED}
    assert hospital.inbox() == []


def test_nobody_is_looked_up_before_both_sides_have_proved_themselves(trio: Trio) -> None:
    hospital, laboratory, _clinic = trio.houses

    async def attack() -> list[str]:
        async with receiving(hospital) as port:
            said = []
            for bodies in ([], [b"hello"]):
                stream, _channel = await connected(laboratory, port)
                frames = [question(laboratory)]
                if bodies:
                    signer = laboratory.keys.signer(Purpose.EXCHANGE)
                    frames.insert(0, hello(signer))
                await stream.send(b"".join(map(encode_frame, frames)))
                said.append(error_of(await answers(stream)))
            return said

    assert run(attack()) == [Code.UNEXPECTED, Code.UNEXPECTED]
    assert asked(hospital) == []


def hello(signer: Any) -> bytes:
    return encode(
        messages.Hello(
            messages.VERSION,
            "laboratory",
            "hospital",
            bytes(32),
            (messages.SUITE,),
            signer.chain_der,
            signer.crl_der,
            None,
            None,
        )
    )


def test_trying_out_numbers_is_answered_alike_limited_and_shown(trio: Trio) -> None:
    """A probe learns only what a record for that patient would tell, and leaves a trace."""
    hospital, laboratory, clinic = trio.houses
    limits = ev.Limits(misses_rate=0.001, misses_burst=8, unused_rate=0.001, unused_burst=8)

    async def attack() -> list[str]:
        async with receiving(hospital, clinic, limits=limits) as port:
            client = await hand(laboratory, port)
            got = []
            for number in range(20_000_000, 20_000_020):
                effect = await client.ask(str(number))
                got.append(type(effect).__name__)
            await client.leave()
            clinic.queue("hospital")
            async with sending(clinic):
                await until(lambda: is_delivered(clinic))
            return got

    got = run(attack())
    assert got == ["Unheard"] * 8 + ["Again"] * 12
    by_partner = [row for row in asked(hospital) if row.actor == "partner:laboratory"]
    assert [row.patient for row in by_partner] == [None] * 8


def test_a_probe_for_somebody_who_is_known_is_shown_to_that_patient(trio: Trio) -> None:
    hospital, laboratory, _clinic = trio.houses

    async def attack() -> None:
        async with receiving(hospital) as port:
            client = await hand(laboratory, port, deaf=("OFFER",))
            await client.put(question(laboratory))
            await until(lambda: bool(client.kept))
            await client.leave()

    run(attack())
    (event,) = asked(hospital)
    assert event.patient is not None and event.outcome == "allowed"
    assert hospital.inbox() == []


# Several partners at once.


def test_two_laboratories_interleaved_each_keep_their_own(trio: Trio) -> None:
    """The same transfer ids, at the same time, on connections side by side."""
    hospital, laboratory, clinic = trio.houses
    count = 40
    tids = laboratory.queue("hospital", count=count)
    for tid in tids:
        clinic.queue("hospital", tid=tid)

    async def exchange() -> None:
        async with receiving(hospital, laboratory, clinic), sending(laboratory), sending(clinic):
            await until(lambda: is_delivered(laboratory) and is_delivered(clinic))

    run(exchange())
    for house in (laboratory, clinic):
        rows = inbox_of(hospital, house.id)
        assert Counter(row.tid for row in rows) == Counter(tids)
        assert {row.digest for row in rows} == {row.digest for row in house.outbox().values()}
        assert sorted(row.sequence for row in rows) == list(range(1, count + 1))
    assert len(events(hospital, Action.RECORD_RECEIVED)) == 2 * count


def test_a_hospital_sends_to_a_laboratory_and_both_ways_at_once(trio: Trio) -> None:
    hospital, laboratory, _clinic = trio.houses
    laboratory.register()
    there = laboratory.queue("hospital", count=10)
    back = hospital.queue("laboratory", count=10)

    async def exchange() -> None:
        async with (
            receiving(hospital, laboratory),
            receiving(laboratory, hospital),
            sending(laboratory),
            sending(hospital),
        ):
            await until(lambda: is_delivered(laboratory) and is_delivered(hospital))

    run(exchange())
    assert {row.tid for row in hospital.inbox()} == set(there)
    assert {row.tid for row in laboratory.inbox()} == set(back)
    direct(hospital, laboratory, 9)
