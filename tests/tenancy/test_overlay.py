"""What admins change over the file: the same rules as the file, and never looser than it."""

import copy
import json
import tomllib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import chunk, png

from medportal.tenancy.overlay import (
    KEYS,
    LOGO,
    UnreadableChanges,
    Why,
    apply,
    bounds,
    changed_keys,
    difference,
    dump,
    is_ordinary,
    load,
    tidy,
    values_of,
)
from medportal.tenancy.parsing import parse
from medportal.tenancy.tenant import EDITABLE, Tenant
from medportal.web.colour import contrast

FILES = Path(__file__).resolve().parents[2] / "tenants"
DATA = tomllib.loads((FILES / "hospital.toml").read_text("utf-8"))
DATA |= {"address": "https://hospital.localhost", "exchange": {}}
DATA["mail"]["server"] = "mail.hospital.example:587"


def tenant_of(**tables: Any) -> Tenant:
    data = copy.deepcopy(DATA)
    for table, value in tables.items():
        data[table] = {**data[table], **value} if isinstance(value, dict) else value
    return parse("hospital.toml", data, contrast)


FILE = tenant_of()


def test_nothing_changed_is_the_file() -> None:
    found = apply(FILE, {}, None, contrast)
    assert found.tenant == FILE
    assert found.left_out == {}
    assert difference(FILE, values_of(FILE)) == {}


def test_every_editable_key_is_one_of_a_table_or_the_logo() -> None:
    assert set(EDITABLE) == {*KEYS, LOGO}
    assert set(values_of(FILE)) == set(KEYS)


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("names", {"en": "Hospital of the River"}),
    ("names", {"en": "Saint Luke's (north) 2", "pt": "Centro de Saúde n.º 1 – “Ribeira”"}),
    ("colours", {"brand": "#123456"}),
    ("colours", {"brand": "#ffffff", "brand_text": "#000000"}),
    ("contact", {"phone": "808 24 24 24", "email": "", "address": "Praça 5 de Outubro, 1.º Esq."}),
    ("sessions", {"idle_minutes": 5}),
    ("sessions", {"idle_minutes": 30, "absolute_minutes": 60}),
    ("passwords", {"minimum_length": 24, "minimum_with_second_factor": 24}),
    ("second_factor", {"remote_staff": True}),
]


@pytest.mark.parametrize(("table", "values"), GOOD)
def test_what_fits_counts(table: str, values: dict[str, Any]) -> None:
    found = apply(FILE, {table: values}, None, contrast)
    assert found.left_out == {}
    assert values_of(found.tenant) == {
        **values_of(FILE),
        table: {**values_of(FILE)[table], **values},
    }
    # All else is the file's, above all what nobody edits on a page.
    assert replace(found.tenant, **{table: getattr(FILE, table)}) == FILE


def test_the_cost_of_a_password_is_the_files() -> None:
    file = tenant_of(passwords={"time_cost": 7, "memory_kib": 1024, "parallelism": 2})
    found = apply(file, {"passwords": {"minimum_length": 20}}, None, contrast).tenant.passwords
    assert found == replace(file.passwords, minimum_length=20)
    refused = apply(file, {"passwords": {"time_cost": 1}}, None, contrast)
    assert refused.left_out == {"passwords.time_cost": Why.UNKNOWN}
    assert refused.tenant == file


BAD: list[tuple[str, dict[str, Any], dict[str, Why]]] = [
    # Never looser than the file.
    ("passwords", {"minimum_length": 14}, {"passwords.minimum_length": Why.OUT_OF_BOUNDS}),
    (
        "passwords",
        {"minimum_with_second_factor": 7},
        {"passwords.minimum_with_second_factor": Why.MALFORMED},
    ),
    # Nor so strict that every password there is would be short.
    ("passwords", {"minimum_length": 25}, {"passwords.minimum_length": Why.OUT_OF_BOUNDS}),
    (
        "passwords",
        {"minimum_with_second_factor": 25},
        {"passwords.minimum_with_second_factor": Why.OUT_OF_BOUNDS},
    ),
    ("passwords", {"minimum_length": 65}, {"passwords.minimum_length": Why.MALFORMED}),
    ("passwords", {"minimum_length": -1}, {"passwords.minimum_length": Why.MALFORMED}),
    ("passwords", {"minimum_length": "20"}, {"passwords.minimum_length": Why.MALFORMED}),
    ("passwords", {"minimum_length": True}, {"passwords.minimum_length": Why.MALFORMED}),
    ("passwords", {"minimum_length": 20.0}, {"passwords.minimum_length": Why.MALFORMED}),
    ("sessions", {"idle_minutes": 31}, {"sessions.idle_minutes": Why.OUT_OF_BOUNDS}),
    ("sessions", {"absolute_minutes": 721}, {"sessions.absolute_minutes": Why.OUT_OF_BOUNDS}),
    # Nor so strict that nobody could work, or change it back.
    ("sessions", {"idle_minutes": 4}, {"sessions.idle_minutes": Why.OUT_OF_BOUNDS}),
    ("sessions", {"absolute_minutes": 59}, {"sessions.absolute_minutes": Why.OUT_OF_BOUNDS}),
    ("sessions", {"idle_minutes": 0}, {"sessions.idle_minutes": Why.MALFORMED}),
    ("second_factor", {"remote_staff": 1}, {"second_factor.remote_staff": Why.MALFORMED}),
    ("second_factor", {"remote_staff": "true"}, {"second_factor.remote_staff": Why.MALFORMED}),
    # The file's rules for colours.
    ("colours", {"brand": "red"}, {"colours.brand": Why.MALFORMED}),
    ("colours", {"brand": "#FFFFFF"}, {"colours.brand": Why.MALFORMED}),
    ("colours", {"brand": "#fff"}, {"colours.brand": Why.MALFORMED}),
    ("colours", {"accent": "#0b6b8f; } body {"}, {"colours.accent": Why.MALFORMED}),
    ("colours", {"accent": None}, {"colours.accent": Why.MALFORMED}),
    ("colours", {"brand": "#eeeeee"}, {"colours": Why.CONTRAST}),
    ("colours", {"accent": "#ffff00"}, {"colours": Why.CONTRAST}),
    ("colours", {"ground": "#000000"}, {"colours.ground": Why.UNKNOWN}),
    # Names and addresses that people trust.
    ("names", {"en": ""}, {"names.en": Why.MALFORMED}),
    ("names", {"en": "   "}, {"names.en": Why.MALFORMED}),
    ("names", {"en": "x" * 121}, {"names.en": Why.MALFORMED}),
    ("names", {"en": "Hospital\r\nBcc: x@y.example"}, {"names.en": Why.MALFORMED}),
    ("names", {"en": "Hospital\u202elatipsoH"}, {"names.en": Why.MALFORMED}),
    ("names", {"en": "Hos\u200bpital"}, {"names.en": Why.MALFORMED}),
    ("names", {"en": "Hospital\x00"}, {"names.en": Why.MALFORMED}),
    ("names", {"en": 5}, {"names.en": Why.MALFORMED}),
    ("names", {"en": ["Hospital"]}, {"names.en": Why.MALFORMED}),
    ("names", {"en": "<script>alert(1)</script>"}, {"names.en": Why.SIGNS}),
    ("names", {"en": "Riversidе Hospital"}, {"names.en": Why.SIGNS}),
    ("names", {"en": "Ｈospital"}, {"names.en": Why.SIGNS}),
    ("names", {"en": "Hospital ٣"}, {"names.en": Why.SIGNS}),
    ("names", {"en": "Sau\u0301de"}, {"names.en": Why.SIGNS}),
    ("names", {"en": "Hospital  River"}, {"names.en": Why.SIGNS}),
    ("names", {"en": "Hospital 🏥"}, {"names.en": Why.SIGNS}),
    ("names", {"de": "Krankenhaus"}, {"names.de": Why.UNKNOWN}),
    ("contact", {"phone": "call me"}, {"contact.phone": Why.MALFORMED}),
    ("contact", {"phone": "tel:1;x"}, {"contact.phone": Why.MALFORMED}),
    ("contact", {"email": "a@b\r\nBcc: c@d"}, {"contact.email": Why.MALFORMED}),
    ("contact", {"email": "a@b?bcc=c@d.example"}, {"contact.email": Why.MALFORMED}),
    ("contact", {"address": "<b>Rua</b>"}, {"contact.address": Why.SIGNS}),
    ("contact", {"address": "x" * 201}, {"contact.address": Why.MALFORMED}),
    ("contact", {"fax": "1"}, {"contact.fax": Why.UNKNOWN}),
]


@pytest.mark.parametrize(("table", "values", "why"), BAD)
def test_what_does_not_fit_is_left_out(
    table: str, values: dict[str, Any], why: dict[str, Why]
) -> None:
    found = apply(FILE, {table: values}, None, contrast)
    assert found.left_out == why
    assert found.tenant == FILE


def test_one_bad_key_takes_no_good_one_with_it() -> None:
    found = apply(
        FILE,
        {
            "names": {"en": "<script>", "pt": "Hospital do Rio"},
            "sessions": {"idle_minutes": 500, "absolute_minutes": 600},
            "surprise": {"x": 1},
        },
        b"<svg/>",
        contrast,
    )
    assert dict(found.tenant.names) == {"en": FILE.names["en"], "pt": "Hospital do Rio"}
    assert found.tenant.sessions.idle == FILE.sessions.idle
    assert found.tenant.sessions.absolute == timedelta(minutes=600)
    assert found.tenant.logo is None
    assert found.left_out == {
        "names.en": Why.SIGNS,
        "sessions.idle_minutes": Why.OUT_OF_BOUNDS,
        "surprise": Why.UNKNOWN,
        LOGO: Why.MALFORMED,
    }


def test_colours_count_together_or_not_at_all() -> None:
    """One of them alone may be what made the others readable."""
    found = apply(FILE, {"colours": {"brand": "#ffff00", "accent": "#123456"}}, None, contrast)
    assert found.left_out == {"colours": Why.CONTRAST}
    assert found.tenant.colours == FILE.colours


@pytest.mark.parametrize(("table", "values"), GOOD)
def test_what_the_file_no_longer_leaves_to_admins_is_the_files(
    table: str, values: dict[str, Any]
) -> None:
    file = tenant_of(editable=[name for name in EDITABLE if name != table])
    found = apply(file, {table: values}, png(), contrast)
    assert found.left_out == {table: Why.NOT_EDITABLE}
    assert found.tenant == replace(file, logo=png())


def test_nor_a_logo() -> None:
    file = tenant_of(editable=[name for name in EDITABLE if name != LOGO])
    found = apply(file, {"names": {}, "contact": {}}, png(), contrast)
    assert found.left_out == {LOGO: Why.NOT_EDITABLE}
    assert found.tenant == file


@pytest.mark.parametrize("logo", [b"", b"<svg/>", png() + b"x", png(more=chunk(b"tEXt", b"x"))])
def test_a_logo_that_was_put_in_the_database_by_hand_is_left_out(logo: bytes) -> None:
    found = apply(FILE, {}, logo, contrast)
    assert found.left_out == {LOGO: Why.MALFORMED}
    assert found.tenant.logo is None


def test_a_file_made_stricter_than_the_admins_wins() -> None:
    changes = {
        "passwords": {"minimum_length": 16},
        "sessions": {"idle_minutes": 20, "absolute_minutes": 600},
        "second_factor": {"remote_staff": False},
    }
    file = tenant_of(
        passwords={"minimum_length": 18},
        sessions={"idle_minutes": 10, "absolute_minutes": 700},
        second_factor={"remote_staff": True},
    )
    found = apply(file, changes, None, contrast)
    assert found.tenant.passwords.minimum_length == 18
    assert found.tenant.sessions.idle == timedelta(minutes=10)
    assert found.tenant.sessions.absolute == timedelta(minutes=600)
    assert found.tenant.second_factor.remote_staff
    assert set(found.left_out) == {
        "passwords.minimum_length",
        "sessions.idle_minutes",
        "second_factor.remote_staff",
    }


def test_passwords_that_are_long_in_the_file_stay_so() -> None:
    file = tenant_of(passwords={"minimum_length": 40})
    assert bounds(file)["passwords.minimum_length"] == (40, 40)
    found = apply(file, {"passwords": {"minimum_with_second_factor": 20}}, None, contrast)
    assert found.left_out == {} and found.tenant.passwords.minimum_length == 40


def test_times_that_are_short_in_the_file_can_stay_so() -> None:
    file = tenant_of(sessions={"idle_minutes": 2, "absolute_minutes": 10})
    limits = bounds(file)
    assert limits["sessions.idle_minutes"] == (2, 2)
    assert limits["sessions.absolute_minutes"] == (10, 10)


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers())
TABLES = st.dictionaries(
    st.sampled_from(sorted({key for keys in KEYS.values() for key in keys})) | st.text(max_size=5),
    VALUES,
    max_size=4,
)


@given(
    st.dictionaries(st.sampled_from([*EDITABLE, "roles", "database"]), TABLES, max_size=4),
    st.none() | st.binary(max_size=40),
)
def test_no_changes_are_a_crash_and_none_loosens_the_file(
    changes: dict[str, Any], logo: bytes | None
) -> None:
    found = apply(FILE, changes, logo, contrast).tenant
    assert found.passwords.minimum_length >= FILE.passwords.minimum_length
    assert found.passwords.minimum_with_second_factor >= FILE.passwords.minimum_with_second_factor
    assert found.sessions.idle <= FILE.sessions.idle
    assert found.sessions.absolute <= FILE.sessions.absolute
    assert found.second_factor.remote_staff >= FILE.second_factor.remote_staff
    assert found.roles == FILE.roles
    assert found.staff_networks == FILE.staff_networks
    assert found.database_url == FILE.database_url


# Differences.


def test_only_what_differs_is_kept() -> None:
    wanted = values_of(FILE)
    wanted["names"] = {**wanted["names"], "en": "Other"}
    wanted["second_factor"] = {"remote_staff": True}
    assert difference(FILE, wanted) == {
        "names": {"en": "Other"},
        "second_factor": {"remote_staff": True},
    }


def test_what_a_version_changed_is_told_by_key() -> None:
    before = {"names": {"en": "A", "pt": "B"}, "contact": {"phone": "1"}}
    after = {"names": {"en": "C", "pt": "B"}, "sessions": {"idle_minutes": 5}}
    assert changed_keys(before, after) == {
        "names": ["en"],
        "contact": ["phone"],
        "sessions": ["idle_minutes"],
    }
    assert changed_keys(before, before) == {}


# Texts.


@given(st.text(max_size=40))
def test_tidying_is_done_once(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize("text", ["Hospital São João", "1.ª", "D'Ávila–Reis", "ŁÓDŹ ſtraße", ""])
def test_ordinary_texts(text: str) -> None:
    assert is_ordinary(text)


@pytest.mark.parametrize(
    "text",
    [" x", "x ", "a<b", "Ελλάς", "\u00a0", "a\tb", "x\u0327", "ﬁ\u200d", "病院", "½", "\ud800"],
)
def test_texts_that_are_not(text: str) -> None:
    assert not is_ordinary(text)


@given(
    st.dictionaries(
        st.sampled_from(sorted(KEYS)),
        st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.booleans()),
    )
)
def test_changes_come_back_as_they_were_kept(changes: dict[str, Any]) -> None:
    assert load(dump(changes)) == changes


def test_the_longest_changes_fit_into_their_column() -> None:
    longest = values_of(FILE) | {
        "names": {"en": "á" * 120, "pt": "á" * 120},
        "contact": {"phone": "1" * 40, "email": "a" * 320, "address": "á" * 200},
    }
    assert len(dump(longest)) < 8000


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"x"', '{"names": 5}', '{"names": ["x"]}', "[" * 100_000, "\x00"],
)
def test_what_is_no_json_of_changes(text: str) -> None:
    with pytest.raises(UnreadableChanges) as refused:
        load(text)
    assert str(refused.value) == ""


def test_strange_values_are_read_and_left_out() -> None:
    text = json.dumps({"names": {"en": {"x": 1}}, "passwords": {"minimum_length": 1e309}})
    found = apply(FILE, load(text), None, contrast)
    assert found.tenant == FILE
    assert set(found.left_out) == {"names.en", "passwords.minimum_length"}
