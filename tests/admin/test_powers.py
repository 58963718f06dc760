"""Which roles take a second person: a table written by hand, for every role of both tenants."""

from dataclasses import replace

import pytest

from medportal.core.permissions import Permission, Reach
from medportal.identity import powers
from medportal.tenancy.tenant import Role

#: Not derived from the files of the tenants: those are what it tests.
GUARDED = {
    "hospital": {
        "admin": True,
        "privacy_officer": True,
        "auditor": True,
        "doctor": True,
        "nurse": True,
        "ward_clerk": True,
        "porter": False,
        "volunteer": False,
        "patient_assistant": True,
        "clinical_assistant": True,
    },
    "laboratory": {
        "admin": True,
        "privacy_officer": True,
        "auditor": True,
        "responsible": True,
    },
}
CASES = [(t, role, answer) for t, roles in GUARDED.items() for role, answer in roles.items()]


@pytest.fixture(params=["hospital", "laboratory"])
def tenant(request):
    return request.getfixturevalue(request.param)


def role(**kw):
    return Role(id="made_up", names={"en": "x", "pt": "x"}, **{"grants": {}, **kw})


@pytest.mark.parametrize(("name", "role_id", "answer"), CASES)
def test_every_role_of_the_catalogues(request, name, role_id, answer):
    catalogue = request.getfixturevalue(name).roles
    assert powers.is_guarded(catalogue[role_id]) is answer


def test_the_table_names_every_role_but_the_patients_and_the_representatives(tenant):
    assert {r.id for r in powers.grantable_roles(tenant)} == set(GUARDED[tenant.id])
    assert set(tenant.roles) == set(GUARDED[tenant.id]) | {"patient", "representative"}
    assert powers.guarded_roles(tenant) == {r for r, yes in GUARDED[tenant.id].items() if yes}


def test_patients_and_representatives_are_not_made_here():
    assert not powers.may_be_granted_here("patient")
    assert not powers.may_be_granted_here("representative")
    assert powers.may_be_granted_here("porter")


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("reach", Reach)
def test_a_permission_is_guarded_unless_it_is_known_to_be_harmless(permission, reach):
    harmless = {
        "patients:list:view",
        "patient:summary:view",
        "patient:bed:view",
        "patient:transport:view",
        "delivery:state:view",
        "delivery:queue:view",
    }
    assert powers.is_guarded(role(grants={permission: reach})) is (permission not in harmless)


def test_a_clinical_or_treating_role_is_guarded_whatever_it_holds():
    assert not powers.is_guarded(role())
    assert powers.is_guarded(role(clinical=True))
    assert powers.is_guarded(role(treating=True))


@pytest.mark.parametrize(
    ("held", "guarded", "vouched"),
    [
        ((), False, False),
        (("porter",), False, False),
        (("porter", "volunteer"), False, False),
        (("auditor",), True, True),
        (("patient",), True, False),
        (("porter", "patient"), True, False),
        (("representative",), True, False),
        (("porter", "representative"), True, False),
        (("doctor",), True, True),
        (("porter", "doctor"), True, True),
        (("patient", "doctor"), True, True),
        (("admin",), True, True),
        (("no_longer_in_the_file",), True, False),
        (("porter", "no_longer_in_the_file"), True, False),
    ],
)
def test_what_opening_an_account_takes_and_who_stood_behind_it(hospital, held, guarded, vouched):
    assert powers.opens_guarded_things(hospital, held) is guarded
    assert powers.is_vouched_for(hospital, held) is vouched


def test_who_manages_people(hospital):
    assert powers.managing_roles(hospital) == {"admin"}
    deciding = powers.roles_with(hospital, Permission.APPROVALS_DECIDE)
    assert deciding == {"admin", "privacy_officer"}
    none = replace(hospital, roles={})
    assert powers.managing_roles(none) == powers.guarded_roles(none) == frozenset()
