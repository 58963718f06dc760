"""The tenants' role catalogues as they are committed, and people in care."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from medportal.identity.people import Profile, register_person
from medportal.patients.service import Registration, register_patient
from medportal.tenancy.loader import load_tenants

FILES = Path(__file__).resolve().parents[2] / "tenants"
NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
NUMBERS = iter(range(10_000_000, 20_000_000))


@pytest.fixture(scope="session")
def tenants():
    """Give both institutions of the demonstration."""
    return load_tenants(
        FILES,
        ["hospital", "laboratory"],
        {
            "state": "unused",
            "exchange_port": "4000",
            "mail_port": "2525",
            "hospital_port": "8443",
            "laboratory_port": "8444",
        },
    )


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def person(session):
    """Give a function that registers somebody in a role and returns their id."""

    def made(role="doctor", name="Somebody"):
        profile = Profile(name, date(1980, 1, 1), "female")
        number = str(next(NUMBERS))
        if role == "patient":
            registration = Registration("citizen-card", number, profile)
            return register_patient(session, registration, [], by=None, now=NOW)[0]
        return register_person(
            session,
            scheme="citizen-card",
            number=number,
            profile=profile,
            role=role,
            by=None,
            now=NOW,
        ).person_id

    return made
