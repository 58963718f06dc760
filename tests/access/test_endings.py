"""What ends with an account or with a role, and does not come back with it."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from medportal.access import wards
from medportal.access.glass import Stated, break_glass, steps_of
from medportal.admin import service
from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.core.reasons import Reason
from medportal.identity import accounts
from medportal.identity.accounts import Why
from medportal.identity.credentials import set_password
from medportal.vault.keyring import TenantKeyring, new_key
from medportal.vault.service import Vault

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
PASSWORD = "four tall herons wade at low tide"  # noqa: S105


@pytest.fixture
def hospital(tenants):
    return tenants["hospital"]


@pytest.fixture
def admin(session, person, hospital, now):
    made = person("admin")
    set_password(session, made, hospital.passwords, PASSWORD, now)
    return made


@pytest.fixture
def at_work(session, person, hospital, now):
    """Give a doctor in a team, with the glass to one patient broken; and that patient."""
    vault = Vault("hospital", TenantKeyring({1: new_key()}, 1))
    doctor, patient, ward = person(), person("patient"), hospital.wards[0]
    roles = ("doctor",)
    common = {"ward": ward, "staff_id": doctor, "assignable_roles": roles, "by": None, "now": now}
    wards.join(session, **common, until=now + HOUR)
    wards.join(session, **common, since=now + 2 * HOUR)
    break_glass(
        session, vault, patient, doctor, Stated(Reason.EMERGENCY, "x" * 30), now, lasts=HOUR
    )
    session.flush()
    return doctor, patient


def is_at_work(session, hospital, doctor, patient, at):
    return (
        bool(steps_of(session, patient, doctor, at)),
        wards.is_member(session, hospital.wards[0], doctor, at),
    )


def why(admin):
    return Why(admin, Reason.SUSPECTED_MISUSE, "")


def events(session, action):
    rows = session.scalars(select(AuditEvent.body).where(AuditEvent.action == str(action)))
    return [Event.from_bytes(body) for body in rows]


def test_a_suspension_ends_both_for_good(session, hospital, admin, at_work, now):
    doctor, patient = at_work
    later = now + MINUTE
    assert is_at_work(session, hospital, doctor, patient, later) == (True, True)
    service.suspend(session, hospital, doctor, why(admin), later)
    service.reinstate(session, doctor, why(admin), later)
    session.expire_all()
    assert is_at_work(session, hospital, doctor, patient, later) == (False, False)
    (ended,) = events(session, Action.GLASS_CLOSED)
    assert (ended.actor, ended.patient) == (admin, patient)
    assert ended.reasons == ("suspected-misuse",) and ended.details["roles"] == "admin"
    left = events(session, Action.TEAM_CHANGED)
    assert [(each.actor, each.object, each.details["change"]) for each in left] == [
        (admin, doctor, "left")
    ] * 2


def test_the_last_role_for_it_takes_both_along(session, hospital, admin, at_work, now):
    doctor, patient = at_work
    later = now + MINUTE
    accounts.grant_role(session, doctor, "porter", by=admin, now=now)
    accounts.grant_role(session, doctor, "nurse", by=admin, now=now)
    session.flush()
    service.remove_role(session, hospital, doctor, "doctor", why(admin), later)
    session.expire_all()
    # A nurse is in teams too, and may break the glass.
    assert is_at_work(session, hospital, doctor, patient, later) == (True, True)
    service.remove_role(session, hospital, doctor, "nurse", why(admin), later)
    session.expire_all()
    # A porter is in teams, and may not.
    assert is_at_work(session, hospital, doctor, patient, later) == (False, True)
    service.remove_role(session, hospital, doctor, "porter", why(admin), later)
    session.expire_all()
    assert is_at_work(session, hospital, doctor, patient, later) == (False, False)
