"""The index of pseudonyms: complete or BUSY, never a wrong "unknown", on both engines."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from medportal.core.ids import new_id
from medportal.patients import partner_index
from medportal.patients.models_index import PartnerIndex
from medportal.patients.partner_index import Build, Hit, IndexIncomplete, PseudonymTaken
from medportal.patients.pseudonyms import (
    Demographics,
    MalformedIdentifier,
    PartnerKey,
    demographic_tag,
    pseudonym,
)

Begin = sessionmaker[Session]
LAB = PartnerKey("laboratory", "k1", bytes(range(32)))
NEWER = PartnerKey("laboratory", "k2", bytes(range(1, 33)))
CLINIC = PartnerKey("clinic", "k1", bytes(range(2, 34)))
Answer = Hit | IndexIncomplete | None


def patient(number: str = "12345678", **values: Any) -> Demographics:
    usual: dict[str, Any] = {
        "patient_id": new_id(),
        "identifiers": (("citizen-card", number),),
        "name": "Ana Maria",
        "birth_date": date(1980, 2, 29),
    }
    return Demographics(**(usual | values))


def register(begin: Begin, keys: list[PartnerKey], *people: Demographics) -> None:
    with begin.begin() as session:
        for one in people:
            partner_index.index_patient(session, keys, one)


def ask(begin: Begin, key: PartnerKey, number: str, scheme: str = "citizen-card") -> Answer:
    with begin.begin() as session:
        name = pseudonym(key.key, scheme, number)
        return partner_index.lookup(session, key.partner, key.key_id, name)


def start(begin: Begin, key: PartnerKey) -> Build:
    with begin.begin() as session:
        return partner_index.begin_index(session, key)


def build(begin: Begin, building: Build, *people: Demographics) -> int:
    with begin.begin() as session:
        return partner_index.build_index(session, building, lambda _: iter(people))


def finish(begin: Begin, clock: Any, building: Build) -> bool:
    with begin.begin() as session:
        return partner_index.finish_index(session, building, clock.now)


def complete(begin: Begin, clock: Any, *keys: PartnerKey) -> None:
    for key in keys:
        assert finish(begin, clock, start(begin, key))


def test_a_registered_patient_is_found_by_each_partner_under_its_own_key(
    begin: Begin, clock: Any
) -> None:
    ana = patient()
    complete(begin, clock, LAB, NEWER, CLINIC)
    register(begin, [LAB, NEWER, CLINIC], ana)
    for key in (LAB, NEWER, CLINIC):
        tag = demographic_tag(key.key, ana.name, ana.birth_date)
        assert ask(begin, key, "1234 5678") == Hit(ana.patient_id, tag)
        assert ask(begin, key, "87654321") is None
    crossed = replace(CLINIC, key=LAB.key)
    assert ask(begin, crossed, "12345678") is None


def test_until_an_index_is_complete_a_miss_is_not_an_unknown(begin: Begin, clock: Any) -> None:
    assert ask(begin, LAB, "12345678") == IndexIncomplete()
    building = start(begin, LAB)
    assert ask(begin, LAB, "12345678") == IndexIncomplete()
    ana, rui = patient(), patient("23456789")
    assert build(begin, building, ana) == 1
    assert isinstance(ask(begin, LAB, "12345678"), Hit)
    assert ask(begin, LAB, "23456789") == IndexIncomplete()
    assert build(begin, building, rui) == 1
    assert finish(begin, clock, building)
    assert isinstance(ask(begin, LAB, "23456789"), Hit)
    assert ask(begin, LAB, "34567890") is None
    with begin.begin() as session:
        assert partner_index.incomplete_indexes(session) == []


def test_starting_again_makes_an_index_incomplete_again(begin: Begin, clock: Any) -> None:
    complete(begin, clock, LAB)
    assert ask(begin, LAB, "12345678") is None
    start(begin, LAB)
    assert ask(begin, LAB, "12345678") == IndexIncomplete()


def test_a_registration_without_a_partners_key_makes_its_index_incomplete(
    begin: Begin, clock: Any
) -> None:
    complete(begin, clock, LAB, CLINIC)
    register(begin, [CLINIC], patient())
    assert ask(begin, LAB, "12345678") == IndexIncomplete()
    assert isinstance(ask(begin, CLINIC, "12345678"), Hit)
    register(begin, [], patient("23456789"))
    assert ask(begin, CLINIC, "23456789") == IndexIncomplete()
    with begin.begin() as session:
        assert partner_index.incomplete_indexes(session) == [("clinic", "k1"), ("laboratory", "k1")]


def test_a_build_overtaken_by_a_registration_without_its_key_does_not_finish(
    begin: Begin, clock: Any
) -> None:
    building = start(begin, LAB)
    build(begin, building)
    register(begin, [CLINIC], patient())
    assert not finish(begin, clock, building)
    assert ask(begin, LAB, "12345678") == IndexIncomplete()


@pytest.mark.parametrize("asked", [b"", bytes(31), bytes(33)])
def test_what_cannot_be_a_pseudonym_is_not_looked_up(begin: Begin, asked: bytes) -> None:
    with pytest.raises(MalformedIdentifier), begin.begin() as session:
        partner_index.lookup(session, "laboratory", "k1", asked)


@pytest.mark.parametrize("number", ["", "   ", "00000000", "12é45678"])
def test_an_empty_or_malformed_number_is_never_indexed(
    begin: Begin, clock: Any, number: str
) -> None:
    with pytest.raises(MalformedIdentifier):
        register(begin, [LAB], patient(number))
    building = start(begin, LAB)
    good = patient(identifiers=(("citizen-card", number), ("passport", "AB123456")))
    nameless = patient("34567890", name=" ")
    assert build(begin, building, good, nameless) == 2
    with begin.begin() as session:
        assert session.scalar(select(func.count()).select_from(PartnerIndex)) == 1
    assert isinstance(ask(begin, LAB, "AB 123456", "passport"), Hit)


def test_a_patient_without_identifiers_is_registered_and_cannot_be_asked_for(begin: Begin) -> None:
    register(begin, [LAB], patient(identifiers=(), name=""))
    with begin.begin() as session:
        assert session.scalar(select(func.count()).select_from(PartnerIndex)) == 0


def test_changed_demographics_replace_what_was_indexed(begin: Begin, clock: Any) -> None:
    complete(begin, clock, LAB)
    ana = patient()
    register(begin, [LAB], ana)
    renamed = replace(ana, name="Ana Costa", identifiers=(("citizen-card", "87654321"),))
    register(begin, [LAB], renamed)
    assert ask(begin, LAB, "12345678") is None
    tag = demographic_tag(LAB.key, "Ana Costa", ana.birth_date)
    assert ask(begin, LAB, "87654321") == Hit(ana.patient_id, tag)
    register(begin, [LAB], renamed)
    assert ask(begin, LAB, "87654321") == Hit(ana.patient_id, tag)


def test_an_identifier_never_moves_to_another_patient_by_itself(begin: Begin) -> None:
    ana, other = patient(), patient()
    register(begin, [LAB], ana)
    with pytest.raises(PseudonymTaken):
        register(begin, [LAB], other)
    with begin.begin() as session:
        partner_index.unindex_patient(session, ana.patient_id)
    register(begin, [LAB], other)
    found = ask(begin, LAB, "12345678")
    assert isinstance(found, Hit)
    assert found.patient_id == other.patient_id


def test_a_revoked_partner_or_key_is_forgotten(begin: Begin, clock: Any) -> None:
    complete(begin, clock, LAB, NEWER, CLINIC)
    register(begin, [LAB, NEWER, CLINIC], patient())
    with begin.begin() as session:
        partner_index.drop_index(session, "laboratory", "k1")
    assert ask(begin, LAB, "12345678") == IndexIncomplete()
    assert isinstance(ask(begin, NEWER, "12345678"), Hit)
    with begin.begin() as session:
        partner_index.drop_index(session, "laboratory")
    assert ask(begin, NEWER, "12345678") == IndexIncomplete()
    assert isinstance(ask(begin, CLINIC, "12345678"), Hit)


@contextmanager
def in_background(work: Any) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work)
    thread.start()
    yield thread
    thread.join(30)
    assert not thread.is_alive()


def test_a_registration_under_way_is_seen_by_a_build_that_starts_meanwhile(
    engine: Engine, begin: Begin
) -> None:
    """A process that lacks the new key is still registering when the build wants to begin."""
    started: list[Build] = []
    session = begin()
    partner_index.index_patient(session, [], patient())
    with in_background(lambda: started.append(start(begin, LAB))) as waiting:
        waiting.join(0.3)
        assert waiting.is_alive()
        assert started == []
        session.commit()
        session.close()
    assert len(started) == 1
