"""Tenant files: every problem at once, with its key and what would be right."""

import copy
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medportal.core.errors import ConfigurationError
from medportal.core.permissions import Permission, Reach
from medportal.tenancy.tenant import Exchange, Kind, PasswordPolicy, Role, Tenant, parse
from medportal.web.colour import contrast

FILES = Path(__file__).resolve().parents[2] / "tenants"
HOSPITAL = tomllib.loads((FILES / "hospital.toml").read_text("utf-8"))
HOSPITAL["exchange"] = {"endpoint": "hospital.example:4000", "listen": "0.0.0.0:4000"}
MARKER = "hunter2-marker"
Change = Callable[[dict[str, Any]], object]


def problems_of(data: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        parse("hospital.toml", data, contrast)
    return refused.value.problems


def hospital(**changes: object) -> dict[str, Any]:
    """Return a valid file with other values at dotted keys; ``...`` takes one away."""
    data = copy.deepcopy(HOSPITAL)
    for dotted, value in changes.items():
        *tables, last = dotted.split(".")
        place: dict[str, Any] = data
        for table in tables:
            place = place.setdefault(table, {})
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return data


def test_a_whole_file_is_read() -> None:
    tenant = parse("hospital.toml", hospital(), contrast)
    assert isinstance(tenant, Tenant)
    assert tenant.kind is Kind.HOSPITAL
    assert tenant.hostnames == ("hospital.localhost",)
    assert tenant.demonstration
    assert tenant.identifiers.digits == 8
    assert tenant.sessions.idle == timedelta(minutes=30)
    assert tenant.exchange == Exchange("hospital.example:4000", "0.0.0.0:4000")
    assert tenant.roles["doctor"].grants[Permission.RECORD_READ] is Reach.ASSIGNED
    assert tenant.roles["doctor"].clinical
    assert tenant.roles["doctor"].treating
    assert not tenant.roles["porter"].clinical
    assert not tenant.roles["nurse"].treating


def test_names_fall_back_to_the_institutions_own_language() -> None:
    tenant = parse("hospital.toml", hospital(), contrast)
    assert tenant.name("pt") == "Hospital da Ribeira"
    assert tenant.name("de") == tenant.name("en") == "Riverside Hospital"


def test_the_shortest_file_gets_the_defaults() -> None:
    shortest = {
        "id": "clinic",
        "kind": "laboratory",
        "hostnames": ["clinic.example"],
        "names": {"en": "Clinic", "pt": "Clínica"},
        "colours": {"brand": "#000000", "brand_text": "#ffffff", "accent": "#000000"},
        "identifiers": {"scheme": "citizen-card"},
        "database": {"url": "postgresql://portal@/clinic"},
        "roles": {"nobody": {"names": {"en": "Nobody", "pt": "Ninguém"}}},
    }
    tenant = parse("clinic.toml", shortest, contrast)
    assert not tenant.demonstration
    assert tenant.time_zone == "UTC"
    assert tenant.default_language == "en"
    assert tenant.passwords == PasswordPolicy()
    assert tenant.exchange == Exchange()
    assert tenant.wards == ()
    assert tenant.roles == {"nobody": Role("nobody", {"en": "Nobody", "pt": "Ninguém"}, {})}


def test_the_database_address_does_not_show() -> None:
    data = hospital(**{"database.url": f"postgresql://portal:{MARKER}@db/hospital"})
    tenant = parse("hospital.toml", data, contrast)
    assert MARKER in tenant.database_url
    assert MARKER not in repr(tenant)


ONE_MISTAKE = [
    ("id", "Hospital", "lower-case slug"),
    ("id", ..., "lower-case slug"),
    ("id", 7, "lower-case slug"),
    ("id", "a", "lower-case slug"),
    ("id", "hospital\n", "lower-case slug"),
    ("kind", "clinic", "hospital or laboratory"),
    ("kind", ..., "hospital or laboratory"),
    ("demonstration", "yes", "true or false"),
    ("default_language", "de", "en or pt"),
    ("time_zone", "Europe/Atlantis", "time zone such as"),
    ("time_zone", "../../etc/passwd", "time zone such as"),
    ("time_zone", "Europe", "time zone such as"),
    ("time_zone", 1, "time zone such as"),
    ("hostnames", [], "at least one host"),
    ("hostnames", ..., "at least one host"),
    ("hostnames", ["hospital.example:8443"], "list of lower-case host names"),
    ("hostnames", ["Hospital.Example"], "list of lower-case host names"),
    ("hostnames", "hospital.example", "list of lower-case host names"),
    ("hostnames", [1], "list of lower-case host names"),
    ("wards", ["x" * 61], "1 to 60 characters"),
    ("wards", [""], "1 to 60 characters"),
    ("wards", {"a": 1}, "1 to 60 characters"),
    ("names", {"en": "Hospital"}, "a name in each of en, pt"),
    ("names", {"en": "Hospital", "pt": "  "}, "a name in each of en, pt"),
    ("names", {"en": "Hospital", "pt": 4}, "a name in each of en, pt"),
    ("names.de", "Krankenhaus", "not a known key"),
    ("colours.brand", "blue", "colour such as"),
    ("colours.brand", "#FFFFFF", "colour such as"),
    ("colours.accent", ..., "colour such as"),
    ("colours", {"brand": "#777777", "brand_text": "#888888", "accent": "#000000"}, "contrast"),
    ("colours", {"brand": "#000000", "brand_text": "#ffffff", "accent": "#eeeeee"}, "contrast"),
    ("identifiers.scheme", "", "numbering scheme"),
    ("identifiers.digits", 3, "whole number from 4 to 20"),
    ("identifiers.digits", True, "whole number from 4 to 20"),
    ("identifiers.digits", "8", "whole number from 4 to 20"),
    ("identifiers.digits", 8.0, "whole number from 4 to 20"),
    ("database.url", "mysql://portal@db/x", "sqlite:/// or postgresql://"),
    ("database.url", ..., "sqlite:/// or postgresql://"),
    ("database.url", "postgresql://portal:a@db:port/x", "write signs of a password as %XX"),
    ("database.url", "postgresql://portal:a/b@[db/x", "write signs of a password as %XX"),
    ("documents.store", "files", 'must be "sql"'),
    ("passwords.minimum_length", 7, "whole number from 8 to 64"),
    ("passwords.minimum_lenght", 15, "not a known key"),
    ("sessions.idle_minutes", 0, "whole number from 1 to 1440"),
    ("sessions.absolute_minutes", 4, "whole number from 5 to 10080"),
    ("exchange.endpoint", "https://hospital.example", "host:port"),
    ("exchange.endpoint", "hospital.example:0", "host:port"),
    ("exchange.endpoint", "hospital.example:65536", "host:port"),
    ("exchange.listen", ..., "host:port"),
    ("roles.Doctor", {}, "lower-case name"),
    ("roles.doctor", "x", "lower-case name"),
    ("roles.doctor.names", {}, "a name in each of"),
    ("roles.doctor.clinical", "yes", "true or false"),
    ("roles.doctor.treating", 1, "true or false"),
    ("roles.doctor.permissions", ["all"], "map permissions to any, assigned or own"),
    ("roles.doctor.permissions.patient:record:erase", "any", "known permission"),
    ("roles.doctor.permissions.patient:record:read", "everybody", "known permission"),
    ("roles.doctor.permissions.patient:record:read", ["any"], "known permission"),
    ("roles.doctor.reach", "any", "not a known key"),
    ("colour", "#ffffff", "not a known key"),
    ("password", {"minimum_length": 15}, "not a known key"),
]


@pytest.mark.parametrize(("key", "value", "hint"), ONE_MISTAKE)
def test_a_mistake_is_told_with_file_key_and_hint(key: str, value: object, hint: str) -> None:
    (problem,) = problems_of(hospital(**{key: value}))
    file, place, what = problem.split(": ", 2)
    assert file == "hospital.toml"
    # A contrast concerns the table; everything else names its key.
    assert place == key
    assert hint in what


@pytest.mark.parametrize("port", ["1", "80", "4000", "9999", "59999", "65535"])
def test_ports_that_there_are(port: str) -> None:
    tenant = parse("h", hospital(**{"exchange.endpoint": f"h.example:{port}"}), contrast)
    assert tenant.exchange.endpoint.endswith(f":{port}")


def test_every_mistake_is_told_at_once() -> None:
    data = hospital()
    for key, value in [
        ("id", "Hospital"),
        ("kind", "clinic"),
        ("hostnames", ["x:1"]),
        ("time_zone", "Mars/Base"),
        ("wards", 3),
        ("surprise", 1),
        ("roles", {}),
        ("passwords", 5),
    ]:
        data[key] = value
    found = [problem.split(": ")[1] for problem in problems_of(data)]
    assert {
        "id",
        "kind",
        "hostnames",
        "time_zone",
        "wards",
        "surprise",
        "roles",
        "passwords",
    } == set(found)
    assert len(found) == len(set(found)), "a problem is said once"


def test_an_empty_file_names_everything_that_is_needed() -> None:
    found = {problem.split(": ")[1] for problem in problems_of({})}
    assert found == {
        "id",
        "kind",
        "names",
        "hostnames",
        "colours.brand",
        "colours.brand_text",
        "colours.accent",
        "identifiers.scheme",
        "database.url",
        "roles",
    }


@pytest.mark.parametrize("key", sorted({key for key, _, _ in ONE_MISTAKE}))
def test_nothing_of_a_value_is_repeated(key: str) -> None:
    data = hospital(**{key: [{"x": MARKER}]})
    assert all(MARKER not in problem for problem in problems_of(data))
    in_text = hospital(**{key: MARKER.upper()})
    assert all(MARKER.upper() not in problem for problem in problems_of(in_text))


@pytest.mark.parametrize("key", sorted(HOSPITAL))
@settings(max_examples=20)
@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_no_value_makes_the_reading_crash(key: str, value: object) -> None:
    data = copy.deepcopy(HOSPITAL)
    data[key] = value
    try:
        parse("hospital.toml", data, contrast)
    except ConfigurationError as error:
        assert all(problem.startswith(f"hospital.toml: {key}") for problem in error.problems)
