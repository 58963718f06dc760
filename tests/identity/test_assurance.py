"""Which roles count: every combination of role, methods and place, against a table by hand."""

from dataclasses import replace

import pytest

from medportal.core.identity import Method
from medportal.core.reasons import Reason
from medportal.identity.assurance import assure
from medportal.tenancy.tenant import SecondFactorPolicy

ALONE = frozenset({Method.PASSWORD})
SHORT = frozenset({Method.SHORT_PASSWORD})
STRONG = [
    frozenset({Method.PASSWORD, Method.TOTP}),
    frozenset({Method.PASSWORD, Method.RECOVERY_CODE}),
    frozenset({Method.PASSKEY}),
    frozenset({Method.SHORT_PASSWORD, Method.TOTP}),
]


@pytest.fixture
def strict(tenant):
    """Give a hospital that wants a second factor of doctors, and of all staff elsewhere."""
    doctor = replace(tenant.roles["doctor"], second_factor=True)
    return replace(
        tenant,
        roles={**tenant.roles, "doctor": doctor},
        second_factor=SecondFactorPolicy(remote_staff=True),
    )


@pytest.mark.parametrize("on_site", [True, False])
def test_the_demonstration_asks_for_nothing_more(tenant, on_site):
    held = {"doctor", "patient", "porter"}
    assured = assure(tenant, held, ALONE, on_site=on_site)
    assert (assured.roles, assured.withheld) == (held, frozenset())


@pytest.mark.parametrize("methods", STRONG)
@pytest.mark.parametrize("on_site", [True, False])
def test_a_second_factor_opens_everything(strict, methods, on_site):
    held = {"doctor", "patient", "porter"}
    assured = assure(strict, held, methods, on_site=on_site)
    assert (assured.roles, assured.withheld) == (held, frozenset())


def test_a_role_that_wants_a_second_factor_is_withheld_without(strict):
    assured = assure(strict, {"doctor", "patient"}, ALONE, on_site=True)
    assert assured.roles == {"patient"}
    assert assured.withheld == {Reason.SECOND_FACTOR_NEEDED}


def test_elsewhere_all_staff_need_it_and_patients_do_not(strict):
    assured = assure(strict, {"doctor", "patient", "porter"}, ALONE, on_site=False)
    assert assured.withheld_roles == {"doctor", "patient", "porter"} - assured.roles
    assert assured.roles == {"patient"}
    assert assured.withheld == {
        Reason.SECOND_FACTOR_NEEDED,
        Reason.SECOND_FACTOR_NEEDED_OFF_SITE,
    }
    assert assure(strict, {"porter"}, ALONE, on_site=True).roles == {"porter"}


@pytest.mark.parametrize("on_site", [True, False])
def test_a_short_password_alone_opens_nothing(strict, tenant, on_site):
    for institution in (strict, tenant):
        assured = assure(institution, {"doctor", "patient"}, SHORT, on_site=on_site)
        assert assured.roles == frozenset()
        assert assured.withheld == {Reason.PASSWORD_TOO_SHORT}


def test_a_role_that_the_catalogue_forgot_needs_no_more_than_others(tenant):
    assert assure(tenant, {"gone"}, ALONE, on_site=True).roles == {"gone"}
