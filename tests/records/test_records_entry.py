"""Typed text becomes exact values, or a problem that a person can mend."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medportal.core.categories import Category
from medportal.records import catalogue as catalogue_module
from medportal.records.catalogue import Catalogue
from medportal.records.content import (
    BloodPressure,
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordKind,
)
from medportal.records.entry import (
    Entry,
    Field,
    form_fields,
    not_in_form,
    parse_code,
    parse_date,
    parse_entry,
    parse_field,
    parse_number,
    parse_text,
    text_fields,
    typed_of_record,
)
from medportal.records.errors import InvalidContent


def field(catalogue: Catalogue, key: str) -> Field:
    groups = (*form_fields(RecordKind.CLINICAL, catalogue),)
    return next(one for group in groups for one in group.fields if one.key == key)


def code_of(caught: pytest.ExceptionInfo[InvalidContent]) -> list[str]:
    return [problem.code for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "number"),
    [("5,1", "5.1"), ("5.1", "5.1"), (" 5,0 ", "5.0"), ("5", "5"), ("05.1", "5.1")],
)
def test_point_and_comma_mean_the_same_and_digits_stay(
    catalogue: Catalogue, text: str, number: str
) -> None:
    read = parse_field(field(catalogue, "potassium"), text)
    assert str(read) == number


@pytest.mark.parametrize(
    ("key", "text", "code"),
    [
        ("potassium", "five", "not-a-number"),
        ("potassium", "5,", "not-a-number"),
        ("potassium", ",5", "not-a-number"),
        ("potassium", "5..1", "not-a-number"),
        ("potassium", "5 1", "not-a-number"),
        ("potassium", "0x5", "not-a-number"),
        ("potassium", "1e1", "not-a-number"),
        ("potassium", "\u0665", "not-a-number"),
        ("potassium", "5" * 5000, "not-a-number"),
        ("potassium", "-5", "sign-not-allowed"),
        ("potassium", "+5", "sign-not-allowed"),
        ("potassium", "\u22125", "sign-not-allowed"),
        ("potassium", "<0,3", "sign-not-allowed"),
        ("platelets", "1.000", "grouped-number"),
        ("platelets", "1,000", "grouped-number"),
        ("platelets", "1 000", "grouped-number"),
        ("platelets", "1\u202f000", "grouped-number"),
        ("platelets", "1.000,5", "grouped-number"),
        ("platelets", "250,5", "too-many-decimals"),
        ("potassium", "5,12", "too-many-decimals"),
        ("potassium", "51", "implausible"),
        ("blood-type", "C+", "not-an-option"),
    ],
)
def test_what_cannot_be_meant_is_said(catalogue: Catalogue, key: str, text: str, code: str) -> None:
    with pytest.raises(InvalidContent) as caught:
        parse_field(field(catalogue, key), text)
    assert code_of(caught) == [code]
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"), [("1.015", "1.015"), ("1,030", "1.030"), ("1", "1"), ("1.02", "1.02")]
)
def test_three_decimals_where_no_thousand_can_be_meant(
    catalogue: Catalogue, text: str, number: str
) -> None:
    gravity = catalogue.by_key("urine-specific-gravity")
    assert str(parse_number("gravity", gravity, text)) == number
    for bad, code in (
        ("1015", "implausible"),
        ("1 015", "grouped-number"),
        ("1.0155", "too-many-decimals"),
        ("-1.015", "sign-not-allowed"),
    ):
        with pytest.raises(InvalidContent) as caught:
            parse_number("gravity", gravity, bad)
        assert code_of(caught) == [code]


@pytest.mark.parametrize(
    ("text", "number"), [("-4,5", "-4.5"), ("\u22123", "-3"), ("-0,0", "0.0"), ("2", "2")]
)
def test_what_may_be_negative(catalogue: Catalogue, text: str, number: str) -> None:
    excess = catalogue.by_key("base-excess")
    assert str(parse_number("base-excess", excess, text)) == number
    for bad, code in (
        ("+2", "sign-not-allowed"),
        ("--2", "sign-not-allowed"),
        ("<2", "sign-not-allowed"),
        ("-1.000", "too-many-decimals"),
        ("-99", "implausible"),
    ):
        with pytest.raises(InvalidContent) as caught:
            parse_number("base-excess", excess, bad)
        assert code_of(caught)[0] == code


@pytest.mark.parametrize("text", ["Positive", " POSITIVE ", "positive"])
def test_answers_as_people_write_them(catalogue: Catalogue, text: str) -> None:
    assert parse_field(field(catalogue, "hiv"), text) == "positive"
    with pytest.raises(InvalidContent):
        parse_field(field(catalogue, "urine-nitrite"), "trace")


@pytest.mark.parametrize(
    ("text", "code"),
    [("", None), (" ", None), ("i10", "I10"), (" e11,9 ", "E11.9"), ("M16.10", "M16.10")],
)
def test_diagnosis_codes_as_people_write_them(text: str, code: str | None) -> None:
    assert parse_code("diagnosis_code", text) == code


@pytest.mark.parametrize("text", ["hypertension", "I1", "I10.", "I10.123", "<script>", "\u202eI10"])
def test_what_is_no_diagnosis_code(text: str) -> None:
    with pytest.raises(InvalidContent) as caught:
        parse_code("diagnosis_code", text)
    assert code_of(caught) == ["not-a-diagnosis-code"]


def entered(**typed: str) -> Entry:
    form = {"effective": "2026-05-01", **typed}
    return parse_entry(RecordKind.MEDICAL, form, catalogue_module.load())


def test_a_coded_diagnosis_and_a_chosen_category() -> None:
    entry = entered(diagnosis="Gripe", diagnosis_code="j11.1", category="mental-health")
    assert (entry.diagnosis_code, entry.category) == ("J11.1", Category.MENTAL_HEALTH)
    assert entered(notes="x").category is None
    for typed, field_, code in (
        ({"diagnosis_code": "I10"}, "diagnosis", "required-with-code"),
        ({"notes": "x", "category": "laboratory"}, "category", "not-an-option"),
        ({"notes": "x", "category": "secret"}, "category", "not-an-option"),
    ):
        with pytest.raises(InvalidContent) as caught:
            entered(**typed)
        assert [(one.field, one.code) for one in caught.value.problems] == [(field_, code)]


def test_two_sensitive_categories_are_told_at_entry(catalogue: Catalogue) -> None:
    typed = {"effective": "2026-05-01", "hiv": "negative", "ethanol": "12"}
    with pytest.raises(InvalidContent) as caught:
        parse_entry(RecordKind.CLINICAL, typed, catalogue)
    assert code_of(caught) == ["two-categories"]


def test_a_record_typed_again_says_the_same(
    catalogue: Catalogue, laboratory_record: ClinicalRecord, hospital_record: ClinicalRecord
) -> None:
    for record in (laboratory_record, hospital_record):
        typed = typed_of_record(record, catalogue)
        entry = parse_entry(record.kind, typed, catalogue)
        assert entry.effective == date(2026, 5, 1)
        shown = tuple(
            one for one in record.observations if one not in not_in_form(record, catalogue)
        )
        # The form has an order of its own.
        assert set(entry.observations) == set(shown)
        assert (entry.diagnosis, entry.notes) == (record.diagnosis, record.notes)
        assert entry.diagnosis_code == record.diagnosis_code
    sensitive = replace(hospital_record, category=Category.GENETICS)
    assert typed_of_record(sensitive, catalogue)["category"] == "genetics"


def test_what_the_form_does_not_show_is_named(
    catalogue: Catalogue, hospital_record: ClinicalRecord
) -> None:
    sodium = Observation("2951-2", Quantity(Decimal(140), "mmol/L"))
    more = replace(hospital_record, observations=(*hospital_record.observations, sodium))
    assert not_in_form(more, catalogue) == (sodium,)
    assert "sodium" not in typed_of_record(more, catalogue)


@settings(deadline=None)
@given(st.decimals(min_value="0.01", max_value="99", places=2), st.sampled_from(".,"))
def test_every_number_with_the_right_decimals_is_read_exactly(value: Decimal, mark: str) -> None:
    definition = catalogue_module.load().by_key("tsh")
    assert parse_number("tsh", definition, str(value).replace(".", mark)) == value


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    definition = catalogue_module.load().by_key("platelets")
    try:
        number = parse_number("platelets", definition, text)
    except InvalidContent as invalid:
        assert invalid.problems
    else:
        assert 1 <= number <= 3000


@pytest.mark.parametrize("text", ["AB-", "ab-", " AB - ", "AB\u2212"])
def test_blood_types_as_people_write_them(catalogue: Catalogue, text: str) -> None:
    assert parse_field(field(catalogue, "blood-type"), text) == "AB-"


def test_empty_is_nothing(catalogue: Catalogue) -> None:
    assert parse_field(field(catalogue, "potassium"), "  ") is None
    assert parse_text("notes", " \r\n ") is None


@pytest.mark.parametrize("text", ["2026-05-01", "1/5/2026", "01-05-2026", " 1.5.2026 "])
def test_dates_as_people_write_them(text: str) -> None:
    assert parse_date("effective", text) == date(2026, 5, 1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not-a-date"),
        ("yesterday", "not-a-date"),
        ("2026-02-30", "not-a-date"),
        ("5/13/2026", "not-a-date"),
        ("1/5/26", "not-a-date"),
        ("0000-01-01", "not-a-date"),
        ("20260501", "not-a-date"),
    ],
)
def test_dates_that_are_none(text: str, code: str) -> None:
    with pytest.raises(InvalidContent) as caught:
        parse_date("effective", text)
    assert code_of(caught) == [code]


def test_texts_have_plain_line_ends_and_no_tricks() -> None:
    assert parse_text("notes", " a\r\nb\rc ") == "a\nb\nc"
    for text, code in (("a\x00", "unprintable"), ("x" * 8001, "too-long")):
        with pytest.raises(InvalidContent) as caught:
            parse_text("notes", text)
        assert code_of(caught) == [code]


def test_the_laboratory_form(catalogue: Catalogue) -> None:
    entry = parse_entry(
        RecordKind.CLINICAL,
        {
            "effective": "2026-05-01",
            "potassium": "5,1",
            "blood-type": "o-",
            "blood-pressure.systolic": "120",
            "blood-pressure.diastolic": "80",
            "glucose": "",
            "notes": "Em jejum.",
        },
        catalogue,
    )
    assert entry.effective == date(2026, 5, 1)
    assert entry.observations == (
        Observation("882-1", Coded("O-")),
        Observation("85354-9", BloodPressure(Decimal(120), Decimal(80))),
        Observation("2823-3", Quantity(Decimal("5.1"), "mmol/L")),
    )
    assert (entry.diagnosis, entry.notes) == (None, "Em jejum.")


def test_only_the_hospital_form_has_a_diagnosis(catalogue: Catalogue) -> None:
    assert text_fields(RecordKind.CLINICAL) == ("notes",)
    typed = {"effective": "2026-05-01", "diagnosis": "Gripe"}
    assert parse_entry(RecordKind.MEDICAL, typed, catalogue).diagnosis == "Gripe"
    with pytest.raises(InvalidContent) as caught:
        parse_entry(RecordKind.CLINICAL, typed, catalogue)
    assert code_of(caught) == ["unknown-field"]


def test_every_problem_of_a_form_at_once(catalogue: Catalogue) -> None:
    typed = {"potassium": "x", "notes": "\x00", "glucose": "-1", "<script>": "1"}
    with pytest.raises(InvalidContent) as caught:
        parse_entry(RecordKind.CLINICAL, typed, catalogue)
    assert [(problem.field, problem.code) for problem in caught.value.problems] == [
        ("effective", "not-a-date"),
        ("notes", "unprintable"),
        ("glucose", "sign-not-allowed"),
        ("potassium", "not-a-number"),
        ("", "unknown-field"),
    ]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ({}, [("", "empty-record")]),
        ({"blood-pressure.systolic": "120"}, [("blood-pressure.diastolic", "required")]),
        ({"blood-pressure.diastolic": "80"}, [("blood-pressure.systolic", "required")]),
    ],
)
def test_half_a_blood_pressure_or_nothing_is_no_record(
    catalogue: Catalogue, typed: dict[str, str], found: list[tuple[str, str]]
) -> None:
    with pytest.raises(InvalidContent) as caught:
        parse_entry(RecordKind.CLINICAL, {"effective": "2026-05-01", **typed}, catalogue)
    assert [(problem.field, problem.code) for problem in caught.value.problems] == found
