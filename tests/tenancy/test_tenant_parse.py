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
from medportal.tenancy.parsing import parse
from medportal.tenancy.tenant import (
    EDITABLE,
    Contact,
    Documents,
    Exchange,
    Kind,
    Mail,
    PasswordPolicy,
    Role,
    SecondFactorPolicy,
    SessionPolicy,
    Tenant,
)
from medportal.web.colour import contrast

FILES = Path(__file__).resolve().parents[2] / "tenants"
HOSPITAL = tomllib.loads((FILES / "hospital.toml").read_text("utf-8"))
HOSPITAL["exchange"] = {"endpoint": "hospital.example:4000", "listen": "0.0.0.0:4000"}
HOSPITAL["address"] = "https://hospital.localhost"
HOSPITAL["mail"]["server"] = "mail.hospital.example:587"
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
    assert tenant.address == "https://clinic.example"
    assert tenant.second_factor == SecondFactorPolicy(remote_staff=False)
    assert tenant.staff_networks == ()
    assert tenant.email_delay == timedelta(hours=72)
    assert tenant.mail is None
    assert tenant.contact == Contact()
    assert tenant.editable == frozenset()
    assert tenant.logo is None
    assert tenant.roles == {"nobody": Role("nobody", {"en": "Nobody", "pt": "Ninguém"}, {})}


def test_the_database_address_does_not_show() -> None:
    data = hospital(**{"database.url": f"postgresql://portal:{MARKER}@db/hospital"})
    tenant = parse("hospital.toml", data, contrast)
    assert MARKER in tenant.database_url
    assert MARKER not in repr(tenant)


def test_what_is_new_in_this_file_is_read() -> None:
    data = hospital(
        **{
            "address": "https://hospital.localhost:8443",
            "editable": ["logo", "names"],
            "second_factor.remote_staff": True,
            "network.staff": ["10.0.0.0/24", "2001:db8::/32", "192.0.2.7"],
            "approvals.email_delay_hours": 24,
            "mail": {"server": "mail.example:465", "sender": "a@b.example", "implicit_tls": True},
            "contact": {"phone": "+351 210 000 000", "email": "", "address": "Rua 1, Porto"},
            "roles.doctor.second_factor": True,
            "roles.doctor.idle_minutes": 15,
            "roles.doctor.absolute_minutes": 480,
        }
    )
    tenant = parse("hospital.toml", data, contrast)
    assert tenant.address == "https://hospital.localhost:8443"
    assert tenant.editable == {"logo", "names"}
    assert tenant.second_factor.remote_staff
    assert tenant.staff_networks == ("10.0.0.0/24", "2001:db8::/32", "192.0.2.7")
    assert tenant.email_delay == timedelta(hours=24)
    assert tenant.mail == Mail("mail.example:465", "a@b.example", implicit_tls=True)
    assert tenant.contact == Contact("+351 210 000 000", "", "Rua 1, Porto")
    assert tenant.roles["doctor"].second_factor
    assert not tenant.roles["nurse"].second_factor
    assert tenant.roles["doctor"].sessions == SessionPolicy(
        timedelta(minutes=15), timedelta(minutes=480)
    )
    assert tenant.roles["nurse"].sessions is None


def test_the_shortest_times_of_somebodys_roles_count() -> None:
    own = {"idle_minutes": 60, "absolute_minutes": 600}
    short = {"idle_minutes": 10, "absolute_minutes": 1000}
    data = hospital()
    data["roles"]["auditor"] |= own
    data["roles"]["doctor"] |= short
    tenant = parse("hospital.toml", data, contrast)

    def minutes(*roles: str) -> tuple[float, float]:
        policy = tenant.sessions_of(roles)
        return policy.idle.total_seconds() / 60, policy.absolute.total_seconds() / 60

    assert minutes() == minutes("nurse") == minutes("no-such-role") == (30, 720)
    assert minutes("auditor") == (60, 600)
    assert minutes("doctor") == (10, 1000)
    assert minutes("doctor", "auditor") == (10, 600)
    # A role without times of its own has the institution's, beside whatever other role.
    assert minutes("auditor", "patient") == (30, 600)


def test_where_the_mails_password_lies_does_not_show() -> None:
    login = {"user": "portal", "password_file": f"/run/{MARKER}"}
    tenant = parse("h", hospital(mail={**HOSPITAL["mail"], **login}), contrast)
    assert tenant.mail is not None
    assert tenant.mail.password_file == f"/run/{MARKER}"
    assert MARKER not in repr(tenant)


ONE_MISTAKE = [
    ("address", "http://hospital.localhost", "address such as https://"),
    ("address", "https://hospital.localhost/", "address such as https://"),
    ("address", "https://hospital.localhost:0", "address such as https://"),
    ("address", "https://a@hospital.localhost", "address such as https://"),
    ("address", 3, "address such as https://"),
    ("address", "https://elsewhere.example", "at one of the hostnames"),
    ("editable", ["roles"], "list of some of names, colours"),
    ("editable", "names", "list of some of names, colours"),
    ("editable", [["names"]], "list of some of names, colours"),
    ("second_factor.remote_staff", "yes", "true or false"),
    ("second_factor.remote_staff", 1, "true or false"),
    ("second_factor.remote_stuff", True, "not a known key"),
    ("network.staff", ["10.0.0.1/24"], "list of networks"),
    ("network.staff", ["10.0.0.0/33"], "list of networks"),
    ("network.staff", ["::ffff:10.0.0.0/120"], "list of networks"),
    ("network.staff", ["ward.example"], "list of networks"),
    ("network.staff", "10.0.0.0/24", "list of networks"),
    ("network.patients", [], "not a known key"),
    ("approvals.email_delay_hours", 0, "whole number from 1 to 720"),
    ("approvals.email_delay_hours", 1.5, "whole number from 1 to 720"),
    ("mail", "mail.example:25", "must be a table"),
    ("mail.server", "mail.example", "host:port"),
    ("mail.server", ..., "host:port"),
    ("mail.sender", "Hospital <a@b.example>", "mail address"),
    ("mail.sender", "a@b.example\r\nBcc: x@y.example", "mail address"),
    ("mail.implicit_tls", "yes", "true or false"),
    ("mail.ca_file", "a\nb", "a path"),
    ("mail.user", "a\r\nb", "one line"),
    ("mail.password_file", 5, "a path"),
    ("mail", {**HOSPITAL["mail"], "password_file": ""}, "belong together"),
    ("mail.password", "x", "not a known key"),
    ("contact.phone", "call us", "number such as"),
    ("contact.phone", "+351;ext=1", "number such as"),
    ("contact.phone", "٣٣٣", "number such as"),
    ("contact.email", "a@b.example\nBcc: x@y", "mail address"),
    ("contact.email", "a b@c.example", "mail address"),
    ("contact.address", "Rua 1\r\nPorto", "one line of at most 200"),
    ("contact.address", "Rua 1\u2028Porto", "one line of at most 200"),
    ("contact.address", "x" * 201, "one line of at most 200"),
    ("contact.fax", "1", "not a known key"),
    ("roles.doctor.second_factor", "yes", "true or false"),
    ("roles.doctor", {"names": HOSPITAL["names"], "idle_minutes": 5}, "must both be whole"),
    ("roles.doctor", {"names": HOSPITAL["names"], "absolute_minutes": 5}, "must both be whole"),
    (
        "roles.doctor",
        {"names": HOSPITAL["names"], "idle_minutes": 0, "absolute_minutes": 5},
        "must both be whole",
    ),
    (
        "roles.doctor",
        {"names": HOSPITAL["names"], "idle_minutes": True, "absolute_minutes": 5},
        "must both be whole",
    ),
    ("names", {"en": "Hospital\r\nBcc: x@y.example", "pt": "Hospital"}, "one line of at most 120"),
    ("names", {"en": "Hospital \u202egro.live", "pt": "Hospital"}, "signs that can be seen"),
    ("names", {"en": "x" * 121, "pt": "Hospital"}, "one line of at most 120"),
    ("roles.doctor.names", {"en": "Doctor\n", "pt": "Médico"}, "one line of at most 120"),
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
    ("documents.store", "files", 'must be "sql" or "mongodb"'),
    ("documents.fallback", "files", 'must be "sql" or "mongodb"'),
    ("documents.fallback", "sql", "the store that documents.store is not"),
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
    # No text of a file has two lines.
    in_text = hospital(**{key: f"{MARKER.upper()}\n"})
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
        # Other host names may be good ones, and the address then is at none of them.
        keys = (key, "address") if key == "hostnames" else (key,)
        told = tuple(f"hospital.toml: {name}" for name in keys)
        assert all(problem.startswith(told) for problem in error.problems)


@pytest.mark.parametrize("key", EDITABLE)
def test_every_key_that_may_be_editable(key: str) -> None:
    assert parse("h", hospital(editable=[key]), contrast).editable == {key}


# --- Where sealed documents lie ---

MONGODB: dict[str, object] = {
    "store": "mongodb",
    "url": "mongodb://db1.example:27017,db2.example/hospital?replicaSet=rs0",
    "user": "portal",
    "password_file": "/run/credentials/mongodb",
}


def test_documents_are_in_sql_unless_the_file_says_otherwise() -> None:
    assert parse("h", hospital(documents={}), contrast).documents == Documents()
    assert parse("h", hospital(documents=MONGODB), contrast).documents == Documents(
        store="mongodb",
        url="mongodb://db1.example:27017,db2.example/hospital?replicaSet=rs0",
        user="portal",
        password_file="/run/credentials/mongodb",
    )


def test_mongodb_may_be_named_before_it_is_used() -> None:
    both = {**MONGODB, "store": "sql", "fallback": "mongodb", "ca_file": "/etc/ca.crt"}
    found = parse("h", hospital(documents=both), contrast).documents
    assert (found.store, found.fallback, found.ca_file) == ("sql", "mongodb", "/etc/ca.crt")


@pytest.mark.parametrize("store", ["mongodb", "sql"])
@pytest.mark.parametrize("name", ["url", "user", "password_file"])
def test_mongodb_needs_all_of_it(name: str, store: str) -> None:
    documents = {**MONGODB, "store": store}
    del documents[name]
    assert problems_of(hospital(documents=documents)) == (
        f"hospital.toml: documents.{name}: is needed for MongoDB",
    )


def test_an_authority_alone_is_a_mistake() -> None:
    found = problems_of(hospital(documents={"store": "sql", "ca_file": "/etc/ca.crt"}))
    assert len(found) == 3


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://portal:hunter2-marker@db1.example/hospital",
        "mongodb://portal@db1.example/hospital",
        "mongodb+srv://db1.example/hospital",
        "mongodb://db1.example/hospital?tls=false",
        "mongodb://db1.example/hospital?replicaSet=rs0&w=0",
        "mongodb://db1.example/hospital?replicaSet=rs0&tlsInsecure=true",
        "mongodb://db1.example/hospital?replicaSet=",
        "mongodb://db1.example/admin",
        "mongodb://db1.example/local?replicaSet=rs0",
        "mongodb://db1.example/config",
        "mongodb://db1.example/Hospital",
        "mongodb://db1.example/hospital/document",
        "mongodb://db1.example/hospital.document",
        "mongodb://db1.example/",
        "mongodb://db1.example",
        "mongodb:///hospital",
        "mongodb://,/hospital",
        "mongodb://db1.example,/hospital",
        "mongodb://db1.example:0/hospital",
        "mongodb://db1.example:65536/hospital",
        "mongodb://%2Ftmp%2Fmongodb.sock/hospital",
        "mongodb://db1.example/hospital\n",
        "https://db1.example/hospital",
        "",
        7,
    ],
)
def test_an_address_says_where_and_nothing_else(url: object) -> None:
    (problem,) = problems_of(hospital(documents={**MONGODB, "url": url}))
    assert problem.startswith("hospital.toml: documents.url: must be mongodb://HOST:PORT")
    assert MARKER not in problem


@pytest.mark.parametrize("name", ["administrators", "local-hospital", "h", "config_2"])
def test_a_database_may_have_a_name_that_begins_as_one_of_mongodbs(name: str) -> None:
    documents = {**MONGODB, "url": f"mongodb://db1.example/{name}"}
    assert parse("h", hospital(documents=documents), contrast).documents.url.endswith(name)


def test_the_password_file_is_not_repeated() -> None:
    documents = parse("h", hospital(documents=MONGODB), contrast).documents
    assert "/run/credentials" not in repr(documents)
