"""What the committed role catalogues come to, role by role."""

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from medportal.access.decisions import decide
from medportal.access.facts import asker_facts, held_permissions
from medportal.access.question import (
    AssignmentFacts,
    GlassFacts,
    PatientFacts,
    RecordFacts,
    Term,
)
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.categories import Category
from medportal.core.identity import Identity
from medportal.core.permissions import Permission as P
from medportal.core.permissions import Reach

ME, PATIENT, RECORD = "a" * 32, "c" * 32, "d" * 32
CLINICAL = {P.RECORD_LIST, P.RECORD_READ, P.RECORD_CREATE}
PLACED = {P.PATIENT_SEE, P.PATIENT_BED}
NURSING = {
    *PLACED,
    *CLINICAL,
    P.PATIENT_DEMOGRAPHICS,
    P.PATIENT_TRANSPORT,
    P.PATIENT_ALERTS,
    P.PATIENT_VITALS,
    P.SUPPORT_KEEP,
    P.GLASS_BREAK,
    P.RECORD_AMEND,
    P.RESULT_ACKNOWLEDGE,
}
CLERK = {
    *PLACED,
    P.PATIENT_DEMOGRAPHICS,
    P.PATIENT_TRANSPORT,
    P.PATIENT_ALERTS,
    P.DEMOGRAPHICS_KEEP,
    P.SUPPORT_KEEP,
    P.CARE_MANAGE,
}
#: Written by hand from the access model: role -> what it may do about an assigned patient, where
#: an ordinary record is looked at.
ASSIGNED = {
    "doctor": {*NURSING, P.RECORD_EXPORT},
    "nurse": NURSING,
    "porter": {*PLACED, P.PATIENT_TRANSPORT},
    "volunteer": {P.PATIENT_SEE},
    "patient_assistant": {*PLACED, P.PATIENT_TRANSPORT, P.PATIENT_ALERTS},
    "clinical_assistant": {
        *PLACED,
        P.PATIENT_TRANSPORT,
        P.PATIENT_ALERTS,
        P.PATIENT_VITALS,
    },
    "ward_clerk": CLERK,
    "admin": set(),
    "privacy_officer": set(),
    "auditor": set(),
    "patient": set(),
    "representative": set(),
}
UNASSIGNED = {role: set() for role in ASSIGNED} | {
    "ward_clerk": CLERK,
    "doctor": {P.GLASS_BREAK},
    "nurse": {P.GLASS_BREAK},
}
#: What one may do about oneself, as a patient, and about those for whom one stands.
OWN = {
    *PLACED,
    P.PATIENT_DEMOGRAPHICS,
    P.PATIENT_TRANSPORT,
    P.PATIENT_ALERTS,
    P.PATIENT_VITALS,
    P.RECORD_LIST,
    P.RECORD_READ,
    P.RECORD_EXPORT,
    P.RULES_MANAGE,
    P.ACCESS_LOG_VIEW,
    P.COMPLAINT_MAKE,
}
#: A laboratory keeps neither beds nor notes for those who move and feed people.
OWN_AT_LABORATORY = OWN - {
    P.PATIENT_BED,
    P.PATIENT_TRANSPORT,
    P.PATIENT_ALERTS,
    P.PATIENT_VITALS,
}
#: What goes with no patient in view.
AT_LARGE = {
    "admin": {
        P.DELIVERIES_VIEW,
        P.PEOPLE_MANAGE,
        P.APPROVALS_DECIDE,
        P.SETTINGS_MANAGE,
        P.PARTNERS_MANAGE,
    },
    "privacy_officer": {
        P.AUDIT_VIEW,
        P.AUDIT_EXPORT,
        P.REVIEWS_DECIDE,
        P.COMPLAINTS_ANSWER,
        P.APPROVALS_DECIDE,
        P.ERASURE_DECIDE,
    },
    "auditor": {P.AUDIT_VIEW, P.AUDIT_EXPORT},
    "doctor": {P.PATIENTS_LIST, P.PATIENTS_FIND},
    "nurse": {P.PATIENTS_LIST, P.PATIENTS_FIND},
    "ward_clerk": {
        P.PATIENTS_LIST,
        P.PATIENTS_FIND,
        P.PATIENTS_REGISTER,
        P.TEAMS_MANAGE,
        P.HELD_DECIDE,
    },
    "porter": {P.PATIENTS_LIST},
    "volunteer": {P.PATIENTS_LIST},
    "patient_assistant": {P.PATIENTS_LIST},
    "clinical_assistant": {P.PATIENTS_LIST},
    "patient": set(),
    "representative": set(),
}
RESPONSIBLE = {
    P.PATIENTS_LIST,
    P.PATIENTS_FIND,
    P.PATIENTS_REGISTER,
    P.DELIVERIES_VIEW,
    P.HELD_DECIDE,
}


def identity(now, *roles):
    return Identity(ME, "hospital", frozenset(roles), "s", now)


def answer(
    tenant,
    roles,
    now,
    *,
    assigned=False,
    is_self=False,
    author=None,
    category="laboratory",
    **more,
):
    who = identity(now, *roles)
    times = (AssignmentFacts(True, now - timedelta(days=1), None),) if assigned else ()
    facts = replace(
        asker_facts(tenant, who),
        patient=PatientFacts(PATIENT, True, is_self, times, **more),
        record=RecordFacts(RECORD, True, author, category),
    )
    return decide(who, facts, now).permissions


def rule(now, whom, whom_id, effect=Effect.ALLOW, what=What.EVERYTHING, what_id=""):
    return Rule("e" * 32, effect, whom, whom_id, what, what_id, now, None)


def about(permissions):
    return {p for p in permissions if p.startswith("patient:")}


@pytest.mark.parametrize("role", sorted(ASSIGNED))
def test_the_hospitals_roles(tenants, now, role):
    hospital = tenants["hospital"]
    assert set(hospital.roles) == set(ASSIGNED)
    assert about(answer(hospital, [role], now, assigned=True)) == ASSIGNED[role]
    assert about(answer(hospital, [role], now)) == UNASSIGNED[role]


@pytest.mark.parametrize("role", sorted(AT_LARGE))
def test_what_the_roles_give_without_a_patient(tenants, now, role):
    who = identity(now, role)
    got = decide(who, asker_facts(tenants["hospital"], who), now).permissions
    assert got == AT_LARGE[role] | {P.HOME_VIEW, P.ACCOUNT_CHANGE}


@pytest.mark.parametrize("role", sorted(ASSIGNED))
def test_a_patients_rule_lifts_a_role_no_higher_than_an_assignment_does(tenants, now, role):
    """Whoever is named, and by what, reads what they would if they looked after the patient."""
    hospital = tenants["hospital"]
    for whom, whom_id in (
        (Whom.PERSON, ME),
        (Whom.ROLE, role),
        (Whom.INSTITUTION, "hospital"),
    ):
        got = about(answer(hospital, [role], now, rules=(rule(now, whom, whom_id),)))
        # To write, to take along and to act on a result are no part of it; to break the
        # glass is of no use.
        reading = ASSIGNED[role] - {
            P.RECORD_CREATE,
            P.RECORD_AMEND,
            P.RECORD_EXPORT,
            P.RESULT_ACKNOWLEDGE,
            P.SUPPORT_KEEP,
        }
        assert got == reading | UNASSIGNED[role]


def test_who_takes_a_record_along_looks_after_the_patient_as_far_as_that_goes(tenants, now):
    """Reading by glass, by a rule or as its author carries nothing out."""
    hospital = tenants["hospital"]
    glass = (GlassFacts("f" * 32, now, now + timedelta(hours=1), sensitive=True),)
    allowed = (rule(now, Whom.PERSON, ME, what=What.RECORD, what_id=RECORD),)
    blocked = (rule(now, Whom.PERSON, ME, Effect.BLOCK, What.RECORD, RECORD),)
    for category in (Category.LABORATORY, Category.MENTAL_HEALTH):
        for more in ({"glass": glass}, {"rules": allowed}, {"author": ME}):
            got = answer(hospital, ["doctor"], now, category=category, **more)
            assert P.RECORD_READ in got and P.RECORD_EXPORT not in got, (category, more)
        got = answer(
            hospital, ["doctor"], now, category=category, assigned=True, rules=blocked, glass=glass
        )
        assert P.RECORD_READ in got and P.RECORD_EXPORT not in got
        assert P.RECORD_EXPORT in answer(
            hospital, ["doctor"], now, category=category, assigned=True
        )


@pytest.mark.parametrize("role", sorted(set(ASSIGNED) - {"doctor", "nurse"}))
def test_a_broken_glass_is_of_use_to_clinicians_alone(tenants, now, role):
    glass = (GlassFacts("f" * 32, now, now + timedelta(hours=1), sensitive=True),)
    got = about(answer(tenants["hospital"], [role], now, glass=glass))
    assert got == UNASSIGNED[role]


def test_an_allowed_role_counts_for_what_that_role_may(tenants, now):
    """Volunteers may see where somebody lies; one who is a doctor too does not read for it."""
    hospital, both = tenants["hospital"], ["doctor", "volunteer"]
    volunteers = (rule(now, Whom.ROLE, "volunteer"),)
    got = about(answer(hospital, both, now, rules=volunteers))
    assert got == {P.PATIENT_SEE, P.GLASS_BREAK}
    doctors = (rule(now, Whom.ROLE, "doctor"),)
    assert P.RECORD_READ in answer(hospital, both, now, rules=doctors)
    # Nor does it lift what the patient blocks for everybody else here.
    shut = rule(now, Whom.INSTITUTION, "hospital", Effect.BLOCK)
    got = answer(hospital, both, now, assigned=True, rules=(*volunteers, shut))
    assert P.PATIENT_SEE in got
    assert P.RECORD_READ not in got


def test_whoever_is_no_doctor_any_more_treats_nobody(tenants, now):
    hospital = tenants["hospital"]
    sensitive = {"assigned": True, "category": Category.GENETICS}
    assert P.RECORD_READ in answer(hospital, ["doctor"], now, **sensitive)
    got = answer(hospital, ["nurse"], now, **sensitive)
    assert P.RECORD_READ not in got
    assert P.RECORD_LIST in got


@pytest.mark.parametrize("tenant", ["hospital", "laboratory"])
@pytest.mark.parametrize("role", ["patient", "representative"])
def test_own_is_oneself_or_those_for_whom_one_stands(tenants, now, tenant, role):
    wanted = OWN if tenant == "hospital" else OWN_AT_LABORATORY
    stands = {"represents": (Term(now, now + timedelta(days=1)),)}
    assert about(answer(tenants[tenant], [role], now, is_self=True)) == wanted
    assert about(answer(tenants[tenant], [role], now, **stands)) == wanted
    assert about(answer(tenants[tenant], [role], now)) == set()


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
    assert {P.PATIENT_SEE, P.PATIENT_DEMOGRAPHICS, P.DEMOGRAPHICS_KEEP} <= got
    assert about(got) == CLINICAL | {
        P.PATIENT_SEE,
        P.PATIENT_DEMOGRAPHICS,
        P.DEMOGRAPHICS_KEEP,
        P.RECORD_AMEND,
    }
    assert got - about(got) == {
        *RESPONSIBLE,
        P.DELIVERY_FOLLOW,
        P.HOME_VIEW,
        P.ACCOUNT_CHANGE,
    }
    assert not about(answer(laboratory, ["responsible"], now, is_self=True))


def test_a_blocked_responsible_registers_and_enters_and_does_not_read(tenants, now):
    blocked = (rule(now, Whom.PERSON, ME, Effect.BLOCK),)
    got = answer(tenants["laboratory"], ["responsible"], now, rules=blocked)
    assert about(got) == {
        P.PATIENT_SEE,
        P.PATIENT_DEMOGRAPHICS,
        P.DEMOGRAPHICS_KEEP,
        P.RECORD_CREATE,
    }


def test_roles_add_up_and_unknown_ones_give_nothing(tenants, now):
    hospital = tenants["hospital"]
    held = held_permissions(hospital, identity(now, "doctor", "patient", "wizard"))
    assert held[P.RECORD_READ] == {Reach.ASSIGNED, Reach.OWN}
    assert held[P.RECORD_CREATE] == {Reach.ASSIGNED}
    assert held_permissions(hospital, identity(now, "wizard")) == {}
    assert held_permissions(hospital, identity(now)) == {}
    assert held_permissions(hospital, None) == {}


def test_what_is_known_of_the_asker(tenants, now):
    hospital = tenants["hospital"]
    facts = asker_facts(hospital, identity(now, "doctor", "patient", "porter", "wizard"))
    assert facts.by_role[P.RECORD_READ] == {"doctor"}
    assert facts.by_role[P.PATIENT_SEE] == {"doctor", "porter"}
    assert facts.by_role[P.RULES_MANAGE] == set()
    assert facts.treats
    assert facts.fresh_for == hospital.access.fresh_for
    assert not asker_facts(hospital, identity(now, "nurse")).treats
    nobody = asker_facts(hospital, None)
    assert (nobody.held, nobody.by_role, nobody.treats) == ({}, {}, False)


def test_a_role_of_the_other_institution_gives_nothing(tenants, now):
    assert held_permissions(tenants["hospital"], identity(now, "responsible")) == {}
    assert held_permissions(tenants["laboratory"], identity(now, "doctor")) == {}


def told(tenant, roles, withheld, now, rules):
    """Return what somebody may do of whom these roles count, and those are withheld."""
    who = replace(identity(now, *roles), withheld_roles=frozenset(withheld))
    times = (AssignmentFacts(True, now - timedelta(days=1), None),)
    facts = replace(
        asker_facts(tenant, who),
        patient=PatientFacts(PATIENT, True, False, times, rules=rules),
        record=RecordFacts(RECORD, True, None, "laboratory"),
    )
    return decide(who, facts, now).permissions


@pytest.mark.parametrize("effect", list(Effect))
def test_to_withhold_a_role_never_gives_anything(tenants, now, effect):
    """Whoever proves less is not past a rule about the role that is then withheld."""
    hospital = tenants["hospital"]
    for one, other in itertools.permutations(hospital.roles, 2):
        for rules in ((), *((rule(now, Whom.ROLE, each, effect),) for each in (one, other))):
            whole = told(hospital, {one, other}, (), now, rules)
            assert told(hospital, {one}, {other}, now, rules) <= whole, (one, other, rules)


def test_a_block_of_doctors_holds_for_a_nurse_whose_role_of_doctor_is_withheld(tenants, now):
    rules = (rule(now, Whom.ROLE, "doctor", Effect.BLOCK),)
    assert P.RECORD_READ in told(tenants["hospital"], {"nurse"}, (), now, rules)
    assert P.RECORD_READ not in told(tenants["hospital"], {"nurse"}, {"doctor"}, now, rules)
