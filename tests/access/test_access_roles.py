"""What the committed role catalogues come to, role by role."""

import itertools
from datetime import timedelta

import pytest

from medportal.access.decisions import (
    AccessFacts,
    AssignmentFacts,
    PatientFacts,
    RecordFacts,
    decide,
)
from medportal.access.facts import held_permissions
from medportal.core.categories import Category
from medportal.core.identity import Identity
from medportal.core.permissions import Permission as P
from medportal.core.permissions import Reach

ME, PATIENT = "a" * 32, "c" * 32
CLINICAL = {P.RECORD_LIST, P.RECORD_READ, P.RECORD_CREATE}
#: Written by hand from the access model: role -> what it may do about an assigned patient.
ASSIGNED = {
    "doctor": {P.PATIENT_SEE, P.PATIENT_BED, P.PATIENT_DEMOGRAPHICS, *CLINICAL},
    "nurse": {P.PATIENT_SEE, P.PATIENT_BED, P.PATIENT_DEMOGRAPHICS, *CLINICAL},
    "porter": {P.PATIENT_SEE, P.PATIENT_BED},
    "volunteer": {P.PATIENT_SEE},
    "patient_assistant": {P.PATIENT_SEE, P.PATIENT_BED},
    "clinical_assistant": {P.PATIENT_SEE, P.PATIENT_BED},
    "ward_clerk": {P.PATIENT_SEE, P.PATIENT_BED, P.PATIENT_DEMOGRAPHICS, P.CARE_MANAGE},
    "admin": set(),
    "privacy_officer": set(),
    "auditor": set(),
    "patient": set(),
}
UNASSIGNED = {role: set() for role in ASSIGNED} | {"ward_clerk": ASSIGNED["ward_clerk"]}


def identity(now, *roles):
    return Identity(ME, "hospital", frozenset(roles), "s", now)


def answer(
    tenant, roles, now, *, assigned=False, is_self=False, author=None, category="laboratory"
):
    who = identity(now, *roles)
    times = (AssignmentFacts(True, now - timedelta(days=1), None),) if assigned else ()
    facts = AccessFacts(
        held_permissions(tenant, who),
        PatientFacts(PATIENT, True, is_self, times),
        RecordFacts("d" * 32, True, author, category),
    )
    return decide(who, facts, now).permissions


def about(permissions):
    return {p for p in permissions if p.startswith("patient:")}


@pytest.mark.parametrize("role", sorted(ASSIGNED))
def test_the_hospitals_roles(tenants, now, role):
    hospital = tenants["hospital"]
    assert set(hospital.roles) == set(ASSIGNED)
    assert about(answer(hospital, [role], now, assigned=True)) == ASSIGNED[role]
    assert about(answer(hospital, [role], now)) == UNASSIGNED[role]


@pytest.mark.parametrize("tenant", ["hospital", "laboratory"])
@pytest.mark.parametrize("role", ["admin", "privacy_officer", "auditor"])
def test_who_runs_the_institution_never_reads(tenants, now, tenant, role):
    """Whatever the assignment, the category and the authorship: no clinical content."""
    for assigned, is_self, author, category in itertools.product(
        (True, False), (True, False), (ME, None), (*Category, "")
    ):
        got = answer(
            tenants[tenant],
            [role],
            now,
            assigned=assigned,
            is_self=is_self,
            author=author,
            category=category,
        )
        assert not got & CLINICAL
        assert not about(got)


@pytest.mark.parametrize("tenant", ["hospital", "laboratory"])
def test_an_admin_who_is_a_patient_reads_their_own_record_as_patients_do(tenants, now, tenant):
    roles = ["admin", "patient"]
    mine = answer(tenants[tenant], roles, now, is_self=True)
    assert P.RECORD_READ in mine
    assert P.RECORD_CREATE not in mine
    assert not answer(tenants[tenant], roles, now, assigned=True) & CLINICAL


def test_a_doctor_who_is_a_patient_reads_their_own_record_only_as_a_patient(tenants, now):
    hospital = tenants["hospital"]
    assert not about(answer(hospital, ["doctor"], now, is_self=True, assigned=True))
    both = answer(hospital, ["doctor", "patient"], now, is_self=True, assigned=True)
    assert P.RECORD_READ in both
    assert P.RECORD_CREATE not in both


def test_the_responsible_reads_and_writes_for_all_but_themselves(tenants, now):
    laboratory = tenants["laboratory"]
    got = answer(laboratory, ["responsible"], now)
    assert {*CLINICAL, P.DELIVERY_FOLLOW} <= got
    assert P.CARE_MANAGE not in got
    assert not about(answer(laboratory, ["responsible"], now, is_self=True))


def test_roles_add_up_and_unknown_ones_give_nothing(tenants, now):
    hospital = tenants["hospital"]
    held = held_permissions(hospital, identity(now, "doctor", "patient", "wizard"))
    assert held[P.RECORD_READ] == {Reach.ASSIGNED, Reach.OWN}
    assert held[P.RECORD_CREATE] == {Reach.ASSIGNED}
    assert held_permissions(hospital, identity(now, "wizard")) == {}
    assert held_permissions(hospital, identity(now)) == {}
    assert held_permissions(hospital, None) == {}


def test_a_role_of_the_other_institution_gives_nothing(tenants, now):
    assert held_permissions(tenants["hospital"], identity(now, "responsible")) == {}
    assert held_permissions(tenants["laboratory"], identity(now, "doctor")) == {}
