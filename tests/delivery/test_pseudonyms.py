"""Pseudonyms and demographic tags: what is equal, what is not, and what is refused."""

import unicodedata
from datetime import date
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medportal.patients.pseudonyms import (
    MalformedIdentifier,
    PartnerKey,
    demographic_tag,
    normal_name,
    normal_number,
    pseudonym,
    same_tag,
)

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
BORN = date(1980, 2, 29)
NUMBERS = st.from_regex(r"[1-9A-Z][0-9A-Z]{3,31}", fullmatch=True)
NAMES = st.text(min_size=1, max_size=40)


def name_or_nothing(text: str) -> str | None:
    try:
        return normal_name(text)
    except MalformedIdentifier:
        return None


def test_a_pseudonym_is_the_hmac_that_the_protocol_defines() -> None:
    expected = "b291c592328196e4f58d1fc5b4d56af89e84fed5cddf23e67f5a4e5c717f6dec"
    assert pseudonym(KEY, "citizen-card", "12345678").hex() == expected


@pytest.mark.parametrize(
    "typed",
    [
        "12345678",
        " 12345678 ",
        "1234 5678",
        "12.345-678",
        "１２３４５６７８",
        "1234\u00a05678",
        "123/45678",
    ],
)
def test_one_number_typed_in_many_ways_is_one_pseudonym(typed: str) -> None:
    assert pseudonym(KEY, "citizen-card", typed) == pseudonym(KEY, "citizen-card", "12345678")


@given(NUMBERS, NUMBERS)
def test_different_numbers_have_different_pseudonyms(one: str, other: str) -> None:
    same = normal_number(one) == normal_number(other)
    assert (pseudonym(KEY, "citizen-card", one) == pseudonym(KEY, "citizen-card", other)) is same


@given(NUMBERS.filter(lambda number: number.strip("0") != ""))
def test_key_and_scheme_separate(number: str) -> None:
    one = pseudonym(KEY, "citizen-card", number)
    assert len(one) == 32
    assert one != pseudonym(OTHER, "citizen-card", number)
    assert one != pseudonym(KEY, "passport", number)


def test_leading_zeros_belong_to_the_number() -> None:
    assert pseudonym(KEY, "citizen-card", "01234567") != pseudonym(KEY, "citizen-card", "1234567")


@pytest.mark.parametrize(
    "number",
    [
        "",
        " ",
        "---",
        "123",
        "0000",
        "00000000",
        "1" * 33,
        "1234é678",
        "1234;5678",
        "12345678\x00",
        "①②③",
        "None?",
    ],
)
def test_an_empty_or_malformed_number_is_refused_and_not_shown(number: str) -> None:
    with pytest.raises(MalformedIdentifier) as caught:
        pseudonym(KEY, "citizen-card", number)
    assert number.strip() == "" or number not in str(caught.value)


@pytest.mark.parametrize("scheme", ["", "C", "citizen card", "a" * 32, "citizen-card\n"])
def test_a_malformed_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(MalformedIdentifier):
        pseudonym(KEY, scheme, "12345678")


@given(st.text())
def test_normal_numbers_are_plain_and_stay_so(text: str) -> None:
    try:
        number = normal_number(text)
    except MalformedIdentifier:
        return
    assert number.isascii()
    assert number.isalnum()
    assert normal_number(number) == number


def test_a_short_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        pseudonym(KEY[:31], "citizen-card", "12345678")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("André Proença", "ANDRE  PROENCA"),
        ("D'Ávila-Reis, José", "d avila reis jose"),
        ("Strauß", "STRAUSS"),
        ("Jose\u0301", "José"),
        ("ﬁona", "Fiona"),
        ("Ana\u200b Maria", "ana maria"),
    ],
)
def test_one_name_written_in_many_ways_is_one_name(one: str, other: str) -> None:
    assert same_tag(demographic_tag(KEY, one, BORN), demographic_tag(KEY, other, BORN))


@pytest.mark.parametrize("other", ["Ana Mario", "Ana", "Maria Ana", "Anamaria"])
def test_different_names_differ(other: str) -> None:
    mine = demographic_tag(KEY, "Ana Maria", BORN)
    assert not same_tag(mine, demographic_tag(KEY, other, BORN))


@pytest.mark.parametrize("name", ["", " ", "-", "1234", "\u0301", "\u200b"])
def test_a_name_without_a_letter_is_refused(name: str) -> None:
    with pytest.raises(MalformedIdentifier):
        demographic_tag(KEY, name, BORN)


@given(NAMES)
def test_normalising_a_name_once_is_enough(text: str) -> None:
    name = name_or_nothing(text)
    assume(name is not None)
    assert name is not None
    assert normal_name(name) == name
    assert name == " ".join(name.split())


@given(NAMES, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_the_way_a_name_is_encoded_does_not_matter(
    text: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"]
) -> None:
    assert name_or_nothing(unicodedata.normalize(form, text)) == name_or_nothing(text)


@given(st.dates(), st.dates())
def test_birth_dates_and_keys_separate_tags(one: date, other: date) -> None:
    mine = demographic_tag(KEY, "Ana", one)
    assert same_tag(mine, demographic_tag(KEY, "Ana", other)) is (one == other)
    assert not same_tag(mine, demographic_tag(OTHER, "Ana", one))


def test_keys_and_people_do_not_show_in_logs() -> None:
    assert KEY.hex() not in repr(PartnerKey("hospital", "k1", KEY))
    assert repr(KEY) not in repr(PartnerKey("hospital", "k1", KEY))
