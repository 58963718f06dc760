"""A tenant with cheap password hashes, and people."""

import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from medportal.identity.people import Profile, register_person
from medportal.tenancy.parsing import parse
from medportal.tenancy.tenant import PasswordPolicy
from medportal.web.colour import contrast

FILE = Path(__file__).resolve().parents[2] / "tenants" / "hospital.toml"
NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
CHEAP = PasswordPolicy(minimum_length=15, time_cost=1, memory_kib=8)


@pytest.fixture(scope="session")
def tenant():
    """Give the demonstration hospital."""
    data = tomllib.loads(FILE.read_text("utf-8"))
    del data["exchange"], data["mail"], data["address"]
    return replace(parse("hospital.toml", data, contrast), passwords=CHEAP)


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def register(session):
    """Give a function that registers somebody; the same number is the same person."""

    def made(number="17645234", role="doctor", name="Amanda Júlio", by=None):
        return register_person(
            session,
            scheme="citizen-card",
            number=number,
            profile=Profile(name, date(1980, 2, 3), "female"),
            role=role,
            by=by,
            now=NOW,
        )

    return made
