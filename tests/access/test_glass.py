"""Breaking the glass: what is kept, how long it opens, and how it ends, on both engines."""

import threading
from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.access.decisions import decide
from medportal.access.errors import GlassRefused
from medportal.access.facts import asker_facts, patient_facts
from medportal.access.glass import (
    REASON_NOTE,
    Stated,
    break_glass,
    end_glass,
    open_words,
    steps_of,
)
from medportal.access.models import BrokenGlass
from medportal.access.question import RecordFacts
from medportal.core.identity import Identity
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.accounts import commitment
from medportal.identity.models import Person
from medportal.identity.people import Profile, register_person
from medportal.mail.models import OutgoingMail
from medportal.patients.service import Registration, register_patient
from medportal.vault.errors import VaultError
from medportal.vault.keyring import TenantKeyring, new_key
from medportal.vault.service import Vault

HOUR = timedelta(hours=1)
MOMENT = timedelta(microseconds=1)
WORDS = "Found unconscious in the lift, no colleague of the ward was there."
WHY = Stated(Reason.EMERGENCY, WORDS)


@pytest.fixture(scope="module")
def vault():
    return Vault("hospital", TenantKeyring({1: new_key()}, 1))


@pytest.fixture
def smash(session, vault, now):
    """Give a function that breaks the glass and flushes."""

    def made(patient, staff, at=now, *, sensitive=False, why=WHY):
        broken = break_glass(
            session, vault, patient, staff, why, at, lasts=HOUR, sensitive=sensitive
        )
        session.flush()
        return broken

    return made


def allows(session, tenant, staff, patient, at, permission=Permission.RECORD_READ, category=None):
    """Tell what a doctor may do, from the database to the decision."""
    who = Identity(staff, tenant.id, frozenset({"doctor"}), "s", at)
    record = None if category is None else RecordFacts("1" * 32, True, None, category)
    facts = replace(
        asker_facts(tenant, who), patient=patient_facts(session, who, patient, at), record=record
    )
    return decide(who, facts, at).allows(permission)


def test_opens_one_patient_to_one_person_for_an_hour(session, tenants, person, smash, now):
    hospital, patient, another = tenants["hospital"], person("patient"), person("patient")
    doctor, other = person(), person()
    assert not allows(session, hospital, doctor, patient, now)
    smash(patient, doctor)
    assert allows(session, hospital, doctor, patient, now)
    assert allows(session, hospital, doctor, patient, now + HOUR - MOMENT)
    # The end itself is outside.
    assert not allows(session, hospital, doctor, patient, now + HOUR)
    assert not allows(session, hospital, doctor, patient, now - MOMENT)
    assert not allows(session, hospital, other, patient, now)
    assert not allows(session, hospital, doctor, another, now)


def test_sensitive_categories_take_the_second_step(session, tenants, person, smash, now):
    hospital, patient, doctor = tenants["hospital"], person("patient"), person()

    def reads(category, at=now):
        return allows(session, hospital, doctor, patient, at, category=category)

    smash(patient, doctor)
    assert reads("laboratory")
    assert not reads("mental-health")
    assert not reads("nobody-mapped-this")
    smash(patient, doctor, sensitive=True)
    assert reads("mental-health")
    assert reads("nobody-mapped-this")
    assert not reads("mental-health", now + HOUR)


def test_the_second_step_needs_the_first(session, person, smash, now):
    patient, doctor = person("patient"), person()
    with pytest.raises(GlassRefused) as refused:
        smash(patient, doctor, sensitive=True)
    assert refused.value.code == "first-step"
    smash(patient, doctor)
    with pytest.raises(GlassRefused) as refused:
        smash(patient, doctor, now + HOUR, sensitive=True)
    assert refused.value.code == "first-step"
    assert len(session.scalars(select(BrokenGlass)).all()) == 1


def test_the_same_step_is_not_taken_twice(session, person, smash, now):
    patient, doctor = person("patient"), person()
    first = smash(patient, doctor)
    for sensitive in (False, True, False):
        if sensitive:
            smash(patient, doctor, sensitive=True)
        with pytest.raises(GlassRefused) as refused:
            smash(patient, doctor, now + HOUR / 2, sensitive=sensitive)
        assert refused.value.code == "already-open"
    assert [step.sensitive for step in steps_of(session, patient, doctor, now)] == [False, True]
    # Nor is it longer for trying.
    assert steps_of(session, patient, doctor, now)[0].until == first.step.until == now + HOUR
    # When it is over, it takes a new reason and a new step.
    again = smash(patient, doctor, now + HOUR)
    assert steps_of(session, patient, doctor, now + HOUR) == [again.step]


def test_a_request_that_began_a_moment_before_sees_the_step(session, person, smash, now):
    """Of two at once the later writer may have the earlier time; both are one step all the same."""
    patient, doctor = person("patient"), person()
    step = smash(patient, doctor).step
    with pytest.raises(GlassRefused) as refused:
        smash(patient, doctor, now - MOMENT)
    assert refused.value.code == "already-open"
    assert end_glass(session, patient, doctor, step.id, now - MOMENT) == [step.id]
    assert steps_of(session, patient, doctor, now) == []


def test_nobody_breaks_their_own_glass(session, person, smash):
    patient = person("patient")
    with pytest.raises(GlassRefused) as refused:
        smash(patient, patient)
    assert refused.value.code == "not-to-yourself"
    assert session.scalars(select(BrokenGlass)).all() == []


def test_words_are_sealed_and_committed_to(session, vault, person, smash):
    patient, doctor = person("patient"), person()
    broken = smash(patient, doctor)
    row = session.get(BrokenGlass, broken.step.id)
    assert b"unconscious" not in row.text
    opened = open_words(session, vault, patient, REASON_NOTE, row.id, row.text)
    assert opened.text == WORDS
    assert opened.commitment == broken.commitment
    # With the log and a guess, but without the salt, nothing is learned.
    assert commitment(b"", WORDS) != broken.commitment
    assert row.reason == "emergency"
    assert "unconscious" not in repr(broken) + repr(opened) + repr(WHY)


def test_words_belong_to_their_step_and_patient(session, vault, person, smash):
    patient, another, doctor = person("patient"), person("patient"), person()
    mine = session.get(BrokenGlass, smash(patient, doctor).step.id)
    theirs = session.get(BrokenGlass, smash(another, doctor).step.id)
    for patient_id, purpose, note in (
        (patient, REASON_NOTE, theirs.id),
        (patient, "glass-finding", mine.id),
        (another, REASON_NOTE, mine.id),
    ):
        with pytest.raises(VaultError):
            open_words(session, vault, patient_id, purpose, note, mine.text)
    cut = mine.text[:-1] + bytes([mine.text[-1] ^ 1])
    with pytest.raises(VaultError):
        open_words(session, vault, patient, REASON_NOTE, mine.id, cut)


def test_the_same_words_look_different_each_time(session, person, smash):
    patient, another, doctor = person("patient"), person("patient"), person()
    assert smash(patient, doctor).commitment != smash(another, doctor).commitment


def test_the_patient_gets_a_mail_for_each_step(session, person, smash):
    patient, doctor = person("patient"), person()
    session.get(Person, patient).email = "amanda@example.org"
    session.flush()
    smash(patient, doctor)
    smash(patient, doctor, sensitive=True)
    mails = session.scalars(select(OutgoingMail)).all()
    assert [(mail.kind, mail.person_id) for mail in mails] == [("glass-broken", patient)] * 2
    assert all(doctor not in str(mail.params) for mail in mails)


def test_ending_ends_both_steps_at_once(session, tenants, person, smash, now):
    hospital, patient, doctor = tenants["hospital"], person("patient"), person()
    first, second = smash(patient, doctor), smash(patient, doctor, sensitive=True)
    middle = now + HOUR / 2
    ended = end_glass(session, patient, doctor, first.step.id, middle)
    assert ended == sorted([first.step.id, second.step.id])
    session.expire_all()
    assert not allows(session, hospital, doctor, patient, middle)
    assert steps_of(session, patient, doctor, middle) == []
    assert session.get(BrokenGlass, second.step.id).until == middle
    # Again changes nothing.
    assert end_glass(session, patient, doctor, first.step.id, now + HOUR) == []
    session.expire_all()
    assert session.get(BrokenGlass, first.step.id).until == middle


def test_only_ones_own_step_is_ended(session, person, smash, now):
    patient, another = person("patient"), person("patient")
    doctor, other = person(), person()
    mine, theirs = smash(patient, doctor), smash(patient, other)
    assert end_glass(session, patient, doctor, theirs.step.id, now) is None
    assert end_glass(session, another, doctor, mine.step.id, now) is None
    assert end_glass(session, patient, doctor, "0" * 32, now) is None
    assert end_glass(session, patient, doctor, mine.step.id, now) == [mine.step.id]
    assert [step.id for step in steps_of(session, patient, other, now)] == [theirs.step.id]


def test_two_at_once_are_one_step(engine, vault, now):
    """A form sent twice: the second waits for the first, then finds the step open."""
    profile = Profile("Somebody", date(1980, 1, 1), "female")
    with Session(engine) as session, session.begin():
        patient, _ = register_patient(
            session, Registration("citizen-card", "1", profile), [], by=None, now=now
        )
        doctor = register_person(
            session,
            scheme="citizen-card",
            number="2",
            profile=profile,
            role="doctor",
            by=None,
            now=now,
        ).person_id
    begun, outcomes = threading.Event(), []

    def second():
        with Session(engine) as session:
            begun.set()
            try:
                with session.begin():
                    break_glass(session, vault, patient, doctor, WHY, now, lasts=HOUR)
                    outcomes.append("broken")
            except GlassRefused as refused:
                outcomes.append(refused.code)

    thread = threading.Thread(target=second)
    with Session(engine) as session, session.begin():
        break_glass(session, vault, patient, doctor, WHY, now, lasts=HOUR)
        session.flush()
        thread.start()
        begun.wait(10)
        # Long enough for the second to get as far as it can; it cannot come past the first.
        thread.join(0.5)
        assert outcomes == []
    thread.join(30)
    assert outcomes == ["already-open"]
    with Session(engine) as session:
        assert len(session.scalars(select(BrokenGlass)).all()) == 1
