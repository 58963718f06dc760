"""People in care at the hospital, for the tests of pages of care."""

from datetime import date, timedelta
from itertools import count
from typing import Any

from medportal.access.care import assign
from medportal.access.models import CareKind
from medportal.core.clock import utcnow
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile, register_person
from medportal.patients import support
from medportal.patients.service import Registration, register_patient
from medportal.patients.support import Needs

GOOD = "quiet rivers carry small boats"
CARING = ("doctor", "nurse", "porter", "volunteer", "patient_assistant", "clinical_assistant")
_numbers = count(52_000_001)
TRANSPORT, DIET, ALLERGIES = "Wheelchair, two people", "No salt at all", "Penicillin: rash"


def new_patient(portal: Any, name: str, ward: str = "", bed: str = "", **more: Any) -> str:
    """Register a patient at the hospital; return their id."""
    born = more.pop("born", date(1951, 4, 5))
    with portal.session("hospital") as session, session.begin():
        return register_patient(
            session,
            Registration(
                "citizen-card",
                more.pop("number", None) or str(next(_numbers)),
                Profile(name, born, "female", language="en", **more),
                ward=ward,
                bed=bed,
            ),
            portal.keys("hospital").partner_keys(),
            by=None,
            now=utcnow(),
        )[0]


def new_staff(portal: Any, role: str, name: str, tenant: str = "hospital") -> tuple[str, Any]:
    """Register somebody who works at an institution; return their id and a signed-in browser."""
    number = str(next(_numbers))
    with portal.session(tenant) as session, session.begin():
        person_id = register_person(
            session,
            scheme="citizen-card",
            number=number,
            profile=Profile(name, date(1980, 2, 3), "female", language="en"),
            role=role,
            by=None,
            now=utcnow(),
        ).person_id
        policy = portal.settings.tenant(tenant).passwords
        set_password(session, person_id, policy, GOOD, utcnow())
    browser = portal.browser(tenant)
    assert browser.sign_in(number, GOOD).status_int == 303
    return person_id, browser


def put_in_charge(portal: Any, patient: str, staff: str, **more: Any) -> str:
    """Assign somebody to a patient, as one of the team."""
    with portal.session("hospital") as session, session.begin():
        return assign(
            session,
            patient_id=patient,
            staff_id=staff,
            kind=more.pop("kind", CareKind.TEAM),
            assignable_roles=CARING,
            treating_roles=("doctor",),
            by=None,
            now=more.pop("now", None) or utcnow() - timedelta(seconds=1),
            **more,
        )


def note_needs(portal: Any, patient: str, needs: Needs | None = None) -> str:
    """Note support needs of a patient; return the version."""
    vault = portal.keys("hospital").vault
    with portal.session("hospital") as session, session.begin():
        seen = support.current(session, vault, patient).version
        kept = support.keep(
            session,
            vault,
            patient,
            needs or Needs(TRANSPORT, DIET, ALLERGIES),
            seen=seen,
            by=None,
            now=utcnow(),
        )
        assert kept is not None
        return kept.version
