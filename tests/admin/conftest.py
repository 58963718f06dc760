"""Both tenants with cheap password hashes, and people who work there."""

import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from medportal.core.reasons import Reason
from medportal.identity.accounts import Why
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile, register_person
from medportal.tenancy.parsing import parse
from medportal.tenancy.tenant import Mail, PasswordPolicy
from medportal.web.colour import contrast

FOLDER = Path(__file__).resolve().parents[2] / "tenants"
NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
CHEAP = PasswordPolicy(minimum_length=15, time_cost=1, memory_kib=8)
GOOD = "quiet rivers carry small boats"
BORN = date(1980, 2, 3)
#: A server that no test speaks to: the outbox is enough.
MAIL = Mail("mail.hospital.example:587", "no-reply@hospital.example")


def read(name):
    """Return a tenant as its file describes it; what other files hold is left out."""
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    for key in ("exchange", "mail", "address"):
        data.pop(key, None)
    return replace(parse(f"{name}.toml", data, contrast), passwords=CHEAP)


@pytest.fixture(scope="session")
def hospital():
    """Give the demonstration hospital, which sends mail."""
    return replace(read("hospital"), mail=MAIL)


@pytest.fixture(scope="session")
def laboratory():
    """Give the demonstration laboratory, which sends none."""
    return read("laboratory")


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def somebody():
    """Give a function that registers somebody in a role, activated unless said otherwise."""
    numbers = iter(range(20_000_000, 30_000_000))

    def made(session, *roles, name="Amanda Júlio", email="amanda@example.org", active=True):
        number = str(next(numbers))
        profile = Profile(name, BORN, "female", email=email)
        for role in roles:
            person_id = register_person(
                session,
                scheme="citizen-card",
                number=number,
                profile=profile,
                role=role,
                by=None,
                now=NOW,
            ).person_id
        session.flush()
        if active:
            set_password(session, person_id, CHEAP, GOOD, NOW)
        return person_id

    return made


@pytest.fixture
def why():
    """Give a function that says who does something, and why."""

    def said(by, reason=Reason.NEW_DUTY, note=""):
        return Why(by, reason, note)

    return said
