"""A grant is proof of a decision; nobody makes one up."""

import copy
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest

from medportal.access.decisions import decide
from medportal.access.errors import NotPermitted
from medportal.access.grants import Grant, mint
from medportal.access.question import AccessFacts, AssignmentFacts, PatientFacts, RecordFacts
from medportal.core.identity import Identity
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason
from medportal.identity.errors import NotFresh

PATIENT = "c" * 32
HELD = {Permission.RECORD_READ: frozenset({Reach.ANY})}


@pytest.fixture
def asker(now):
    return Identity("a" * 32, "hospital", frozenset({"doctor"}), "s", now)


@pytest.fixture
def decision(asker, now):
    return decide(asker, AccessFacts(HELD, PatientFacts(PATIENT, True)), now)


def test_minting(asker, decision, now):
    grant = mint(asker, decision, Permission.RECORD_READ, PATIENT, now, "d" * 32)
    assert grant.identity is asker
    assert (grant.permission, grant.patient_id) == (Permission.RECORD_READ, PATIENT)
    assert grant.record_id == "d" * 32
    assert grant.because == (Reason.ROLE_ANY,)
    assert grant.at == now
    assert mint(asker, decision, Permission.RECORD_READ, PATIENT, now).record_id is None


def test_a_grant_says_on_what_it_rests(asker, now):
    held = {Permission.RECORD_READ: frozenset({Reach.ASSIGNED})}
    care = AssignmentFacts(False, now, None, "as1")
    decision = decide(asker, AccessFacts(held, PatientFacts(PATIENT, True, False, (care,))), now)
    assert mint(asker, decision, Permission.RECORD_READ, PATIENT, now).basis == "as1"


def test_what_the_decision_does_not_give_is_not_minted(asker, decision, now):
    for permission in set(Permission) - set(decision.permissions):
        with pytest.raises(NotPermitted):
            mint(asker, decision, permission, PATIENT, now)


def test_nobody_gets_no_grant(decision, now):
    with pytest.raises(NotPermitted):
        mint(None, decision, Permission.RECORD_READ, PATIENT, now)


@pytest.mark.parametrize("by", [None, object(), True, "mint"])
def test_a_grant_cannot_be_constructed(asker, now, by):
    with pytest.raises(NotPermitted):
        Grant(asker, Permission.RECORD_READ, PATIENT, None, (Reason.ROLE_ANY,), None, now, by)
    with pytest.raises(NotPermitted):
        Grant(asker, Permission.RECORD_READ, PATIENT, None, (Reason.ROLE_ANY,), None, now)


def test_a_grant_cannot_be_changed(asker, decision, now):
    grant = mint(asker, decision, Permission.RECORD_READ, PATIENT, now)
    with pytest.raises(FrozenInstanceError):
        grant.patient_id = "e" * 32


def test_a_grant_for_one_patient_is_not_made_into_one_for_another(asker, decision, now):
    grant = mint(asker, decision, Permission.RECORD_READ, PATIENT, now)
    for change in ({"patient_id": "e" * 32}, {"permission": Permission.RECORD_CREATE}):
        with pytest.raises(NotPermitted):
            replace(grant, **change)


def test_how_a_grant_is_minted_does_not_show(asker, decision, now):
    grant = mint(asker, decision, Permission.RECORD_READ, PATIENT, now)
    assert copy.copy(grant) == grant
    assert "object object" not in repr(grant)


def test_who_has_to_prove_who_they_are_first_gets_no_grant_until_then(asker, now):
    """A sensitive record, looked at from elsewhere: the session alone is not enough."""
    genetics = RecordFacts("d" * 32, True, None, "genetics", "hospital")
    facts = AccessFacts(HELD, PatientFacts(PATIENT, True), genetics, fresh_for=timedelta(minutes=9))

    def minted(who):
        decision = decide(who, facts, now)
        return mint(who, decision, Permission.RECORD_READ, PATIENT, now, "d" * 32)

    for long_ago in (None, now - timedelta(minutes=9)):
        with pytest.raises(NotFresh):
            minted(replace(asker, confirmed_at=long_ago))
    just_so = now - timedelta(minutes=9) + timedelta(microseconds=1)
    assert minted(replace(asker, confirmed_at=just_so)).because == (Reason.ROLE_ANY,)
    assert minted(replace(asker, on_site=True)).because == (Reason.ROLE_ANY,)
