"""A glance says what reading says, of every record that can be written."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.demo.people import HOSPITAL, LABORATORY
from medportal.demo.synthetic import Author, generate
from medportal.records import catalogue as catalogues
from medportal.records.content import BloodPressure, Coded, Quantity, RecordStatus, effective_date
from medportal.records.fhir import read, to_fhir
from medportal.records.glance import MALFORMED, day_of, folded, glance, holds, words_of
from medportal.records.interpret import Interpretation

AUTHORS = {HOSPITAL: [Author("a" * 32, "Ana")], LABORATORY: [Author("b" * 32, "Paulo")]}


def flat(reading):
    """Return the values of a reading as a glance has them, one for each number."""
    for one, shown in zip(reading.record.observations, reading.shown, strict=True):
        match one.value:
            case Quantity(number, unit):
                yield one.code, None, number, "", unit, shown
            case Coded(code):
                yield one.code, None, None, code, "", shown
            case BloodPressure(high, low):
                parts = zip(("8480-6", "8462-4"), (high, low), shown.components, strict=True)
                for part, number, beside in parts:
                    yield one.code, part, number, "", "mm[Hg]", beside


def assert_same(content):
    reading, seen = read(content), glance(content)
    record = reading.record
    for name in ("id", "version", "kind", "category", "author_id", "replaces"):
        assert getattr(seen, name) == getattr(record, name)
    assert day_of(seen.effective) == effective_date(record)
    assert (seen.author, seen.status, seen.effective) == (
        record.author_name,
        record.status,
        record.effective,
    )
    assert (seen.diagnosis, seen.diagnosis_code, seen.notes) == (
        record.diagnosis or "",
        record.diagnosis_code or "",
        record.notes or "",
    )
    assert seen.count == len(record.observations)
    assert [(v.code, v.part, v.number, v.coded, v.unit) for v in seen.values] == [
        each[:5] for each in flat(reading)
    ]
    for value, (*_ids, shown) in zip(seen.values, flat(reading), strict=True):
        assert (value.low, value.high, value.meaning, value.name, value.unit_text) == (
            shown.low,
            shown.high,
            shown.interpretation,
            shown.name,
            shown.unit_text,
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_glance_agrees_with_reading(seed):
    catalogue = catalogues.load()
    made = generate(
        seed, today=date(2026, 5, 1), authors=AUTHORS, catalogue=catalogue, count=6, years=3
    )
    contents = [to_fhir(record, one.subject, catalogue) for one in made for record in one.records]
    assert len(contents) > 20
    for content in contents:
        assert_same(content)


def test_a_glance_at_instants_codes_and_what_was_taken_back(laboratory_record, subject, catalogue):
    at = datetime(2026, 4, 30, 8, 15, tzinfo=UTC)
    coded = replace(
        laboratory_record,
        effective=at,
        diagnosis="Gripe\n  mais",
        diagnosis_code="J11.1",
    )
    assert_same(to_fhir(coded, subject, catalogue))
    assert glance(to_fhir(coded, subject, catalogue)).headline == "Gripe"
    taken_back = replace(
        laboratory_record,
        version=2,
        status=RecordStatus.ENTERED_IN_ERROR,
        observations=(),
        notes=None,
        replaces="0" * 64,
        change_reason="Another patient's.",
    )
    content = to_fhir(taken_back, subject, catalogue)
    assert_same(content)
    assert glance(content).values == () and glance(content).headline == ""


def test_numbers_keep_their_digits(laboratory_record, subject, catalogue):
    seen = glance(to_fhir(laboratory_record, subject, catalogue))
    assert "5.0" in [str(value.number) for value in seen.values]


def test_the_most_serious_values_come_first(laboratory_record, subject, catalogue):
    potassium = next(one for one in laboratory_record.observations if one.code == "2823-3")
    critical = replace(potassium, value=Quantity(Decimal("2.1"), "mmol/L"))
    observations = tuple(
        critical if one is potassium else one for one in laboratory_record.observations
    )
    content = to_fhir(replace(laboratory_record, observations=observations), subject, catalogue)
    notable = glance(content).notable
    assert [value.code for value in notable][0] == "2823-3"
    assert notable[0].meaning is Interpretation.CRITICAL_LOW and len(notable) > 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hipertensão\t ARTERIAL ", ("hipertensao", "arterial")),
        ("", ()),
        (" \n ", ()),
        ("Straße", ("strasse",)),
        ("ﬁbrose", ("fibrose",)),
    ],
)
def test_words_are_compared_without_case_and_accents(text, expected):
    assert words_of(text) == expected


@given(st.text(max_size=200))
def test_a_text_holds_each_of_its_own_words(text):
    assert all(word in folded(text) for word in words_of(text))


def test_every_word_has_to_stand_somewhere(laboratory_record, subject, catalogue):
    seen = glance(to_fhir(laboratory_record, subject, catalogue))
    assert holds(seen, words_of("paulo potassium"), ())
    assert not holds(seen, words_of("paulo unicorn"), ())
    assert holds(seen, words_of("potássio"), ("Potássio",))
    assert holds(seen, (), ())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'{"entry": []}',
        b'{"entry": [1, 2, 3]}',
        b'{"entry": [{"resource": {}}]}',
        b"[" * 100_000,
        b'{"entry": [{"resource": {"status": "final"}}, {}, {"resource": {}}]}',
    ],
)
def test_what_is_no_record_is_told_apart(content):
    with pytest.raises(MALFORMED):
        glance(content)


def test_a_number_that_is_none_is_told_apart(laboratory_record, subject, catalogue):
    content = to_fhir(laboratory_record, subject, catalogue)
    with pytest.raises(MALFORMED):
        glance(content.replace(b'"value":5.0', b'"value":"five"'))
