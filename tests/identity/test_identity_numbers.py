"""Numbers as people type them, and as attackers do."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.identity.numbers import normal_number
from medportal.tenancy.tenant import IdentifierScheme

CARD = IdentifierScheme("citizen-card", 8)


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("17645234", "17645234"),
        (" 176 45.234 ", "17645234"),
        ("17-64-52-34", "17645234"),
        ("1764\u00a05234", "17645234"),
        ("\t17645234\t", "17645234"),
        ("00000001", "00000001"),
        ("１７６４５２３４", "17645234"),  # full width
        ("𝟏𝟕𝟔𝟒𝟓𝟐𝟑𝟒", "17645234"),  # mathematical bold
        ("①7645234", "17645234"),  # compatibility digits are the digits that they show
        ("17645²34", "17645234"),
    ],
)
def test_legible_forms_are_one_number(typed: str, number: str) -> None:
    assert normal_number(CARD, typed) == number


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "1764523",
        "176452345",
        "1764523a",
        "١٧٦٤٥٢٣٤",  # Arabic-Indic digits are other characters
        "१७६४५२३४",
        "1764523٤",
        "+17645234",
        "17645234\n",
        "1764\u200b5234",  # zero width space
        "\u202e17645234",  # right to left override
        "17645234\x00",
        "⑩764523",  # one character, two digits: eight in all, but see below
        "½7645234",
        "17645234'--",
        "１７６４５２３４５",
        "九7645234",
        "0x176452",
        "1e000008",
        "1_764523",
    ],
)
def test_what_is_no_number(typed: str) -> None:
    # "⑩764523" becomes "10764523" by compatibility: nobody can take it for another number.
    wanted = "10764523" if typed == "⑩764523" else None
    assert normal_number(CARD, typed) == wanted


@given(st.text(max_size=12), st.integers(4, 20))
def test_the_result_is_plain_digits_of_the_schemes_length(typed: str, digits: int) -> None:
    scheme = IdentifierScheme("any", digits)
    number = normal_number(scheme, typed)
    if number is not None:
        assert len(number) == digits
        assert set(number) <= set("0123456789")
        assert normal_number(scheme, number) == number


@given(st.from_regex(r"[0-9]{8}", fullmatch=True), st.data())
def test_separators_anywhere_change_nothing(number: str, data: st.DataObject) -> None:
    typed = "".join(
        ch + data.draw(st.text(st.sampled_from(" .-\u00a0\t"), max_size=2)) for ch in number
    )
    assert normal_number(CARD, typed) == number
    assert normal_number(CARD, unicodedata.normalize("NFD", typed)) == number
