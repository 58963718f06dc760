"""The first admin: with the code alone, or with an address and both halves."""

import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from medportal.core.errors import ConfigurationError
from medportal.identity import codes
from medportal.identity.errors import LinkNeeded
from medportal.identity.models import Person
from medportal.identity.people import roles_of
from medportal.mail.models import OutgoingMail
from medportal.ops.people import register_admin
from medportal.tenancy.parsing import parse
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Mail
from medportal.web.colour import contrast

FILE = Path(__file__).resolve().parents[2] / "tenants" / "hospital.toml"
NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
NUMBER = "12345678"


@pytest.fixture(params=["sqlite", "postgresql"])
def tenant(request, new_database):
    """Give a hospital with mail on an empty database."""
    data = tomllib.loads(FILE.read_text("utf-8"))
    del data["exchange"], data["mail"], data["address"]
    return replace(
        parse("hospital.toml", data, contrast),
        database_url=new_database(request.param),
        mail=Mail("127.0.0.1:25", "no-reply@hospital.example"),
    )


@pytest.fixture
def database(tenant):
    made = Database(tenant)
    yield made
    made.dispose()


def test_without_an_address_the_code_is_enough(tenant, database):
    made = register_admin(tenant, database, NUMBER, " Ana  Reis ", "1970-01-02", NOW)
    assert made.mail_sent is False
    with database.writer() as session:
        shown = codes.check_code(session, tenant, NUMBER, made.code, NOW)
        person = session.get(Person, shown.person_id)
        assert (person.name, person.birth_date, person.email) == (
            "Ana Reis",
            date(1970, 1, 2),
            "",
        )
        assert roles_of(session, person.id) == {"admin"}


def test_with_an_address_a_link_is_mailed_and_needed(tenant, database):
    made = register_admin(
        tenant, database, NUMBER, "Ana Reis", "1970-01-02", NOW, email="Ana@Example.org"
    )
    assert made.mail_sent is True
    with database.writer() as session:
        assert session.scalar(select(OutgoingMail.address)) == "Ana@example.org"
        with pytest.raises(LinkNeeded):
            codes.check_code(session, tenant, NUMBER, made.code, NOW)


@pytest.mark.parametrize(
    ("number", "born", "email"),
    [
        ("1234", "1970-01-02", ""),
        (NUMBER, "2.1.1970", ""),
        (NUMBER, "1970-01-02", "not an address"),
        (NUMBER, "1970-01-02", "a@example.org\r\nBcc: b@example.org"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(tenant, database, number, born, email):
    with pytest.raises(ConfigurationError):
        register_admin(tenant, database, number, "Ana", born, NOW, email=email)
    with database.writer() as session:
        assert session.scalar(select(Person.id)) is None


def test_nobody_who_is_known_is_taken_over(tenant, database):
    register_admin(tenant, database, NUMBER, "Ana Reis", "1970-01-02", NOW)
    with pytest.raises(ConfigurationError, match="registered already"):
        register_admin(tenant, database, NUMBER, "Ana Reis", "1970-01-02", NOW)
