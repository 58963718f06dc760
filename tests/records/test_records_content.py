"""What makes a record fit to be signed."""

import sys
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from medportal.core.categories import Category
from medportal.records.catalogue import Catalogue
from medportal.records.content import (
    MAX_OBSERVATIONS,
    MAX_REASON,
    MAX_TEXT,
    BloodPressure,
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordStatus,
    Subject,
    _printable,
    age_on,
    check_form,
    check_subject,
    effective_date,
    is_diagnosis_code,
    is_loinc,
    validate,
)
from medportal.records.errors import InvalidContent


def problems(
    record: ClinicalRecord, catalogue: Catalogue, now: datetime, subject: Subject | None = None
) -> set[tuple[str, str]]:
    with pytest.raises(InvalidContent) as caught:
        validate(record, catalogue, now=now, subject=subject)
    return {(problem.field, problem.code) for problem in caught.value.problems}


def test_good_records_come_back_unchanged(
    laboratory_record: ClinicalRecord,
    hospital_record: ClinicalRecord,
    catalogue: Catalogue,
    subject: Subject,
    now: datetime,
) -> None:
    for record in (laboratory_record, hospital_record):
        assert validate(record, catalogue, now=now, subject=subject) is record
        assert validate(record, catalogue, now=now) is record


def test_all_problems_come_at_once_and_repeat_nothing_typed(
    laboratory_record: ClinicalRecord, catalogue: Catalogue, subject: Subject, now: datetime
) -> None:
    bad = replace(
        laboratory_record,
        id="x",
        author_name=" ",
        effective=date(2026, 5, 6),
        notes="SECRET" + "\x07",
        observations=(Observation("2823-3", Quantity(Decimal(99), "mmol/L")),),
    )
    with pytest.raises(InvalidContent) as caught:
        validate(bad, catalogue, now=now, subject=replace(subject, name=""))
    assert {(problem.field, problem.code) for problem in caught.value.problems} == {
        ("id", "malformed"),
        ("author_name", "required"),
        ("effective", "in-the-future"),
        ("notes", "unprintable"),
        ("potassium", "implausible"),
        ("name", "required"),
    }
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a\x00b", "unprintable"),
        ("a\rb", "unprintable"),
        ("a\ud800", "unprintable"),
        ("a\ue000b", "unprintable"),
        ("invoice\u202efdp.exe", "unprintable"),
        ("x" * (MAX_TEXT + 1), "too-long"),
        (" x", "space-around"),
        ("", "required"),
    ],
)
def test_texts_that_cannot_be_shown_safely_are_refused(
    hospital_record: ClinicalRecord, catalogue: Catalogue, now: datetime, text: str, code: str
) -> None:
    found = problems(replace(hospital_record, diagnosis=text), catalogue, now)
    assert found == {("diagnosis", code)}


def test_what_python_prints_is_refused_nowhere() -> None:
    """The short way in ``text_problem`` says of no character what the long one would not."""
    short = (c for c in map(chr, range(sys.maxunicode + 1)) if c.isprintable())
    assert [c for c in short if not _printable(c)] == []


def test_a_name_is_one_line_and_a_note_may_be_many(
    laboratory_record: ClinicalRecord, catalogue: Catalogue, now: datetime
) -> None:
    validate(replace(laboratory_record, notes="one\n\ttwo"), catalogue, now=now)
    two_lines = replace(laboratory_record, author_name="one\ntwo")
    assert problems(two_lines, catalogue, now) == {("author_name", "unprintable")}


@pytest.mark.parametrize(
    ("version", "status", "replaces", "found"),
    [
        (0, RecordStatus.AMENDED, "ab" * 32, {("version", "malformed")}),
        (1_000_000_000, RecordStatus.AMENDED, "ab" * 32, {("version", "malformed")}),
        (1, RecordStatus.FINAL, "ab" * 32, {("replaces", "not-a-successor")}),
        (1, RecordStatus.AMENDED, None, {("replaces", "not-a-successor")}),
        (2, RecordStatus.CORRECTED, None, {("replaces", "not-a-successor")}),
        (2, RecordStatus.FINAL, "ab" * 32, {("replaces", "not-a-successor")}),
        (2, RecordStatus.CORRECTED, "AB" * 32, {("replaces", "malformed")}),
        (2, RecordStatus.CORRECTED, "ab", {("replaces", "malformed")}),
    ],
)
def test_the_first_version_replaces_nothing_and_later_ones_something(
    laboratory_record: ClinicalRecord,
    catalogue: Catalogue,
    now: datetime,
    version: int,
    status: RecordStatus,
    replaces: str | None,
    found: set[tuple[str, str]],
) -> None:
    bad = replace(
        laboratory_record,
        version=version,
        status=status,
        replaces=replaces,
        change_reason=None if version == 1 else "Trocado.",
    )
    assert problems(bad, catalogue, now) == found


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (None, "required"),
        ("", "required"),
        (" x", "space-around"),
        ("x" * (MAX_REASON + 1), "too-long"),
        ("a\u202eb", "unprintable"),
        ("a\x00b", "unprintable"),
    ],
)
def test_a_later_version_says_why(
    hospital_record: ClinicalRecord,
    catalogue: Catalogue,
    now: datetime,
    reason: str | None,
    code: str,
) -> None:
    bad = replace(hospital_record, change_reason=reason)
    assert problems(bad, catalogue, now) == {("change_reason", code)}
    # A version made before reasons were is still a version: only new ones need them.
    assert (check_form(bad) == ()) is (reason is None)


def test_a_first_version_changes_nothing(
    laboratory_record: ClinicalRecord, catalogue: Catalogue, now: datetime
) -> None:
    bad = replace(laboratory_record, change_reason="Porque sim.")
    assert problems(bad, catalogue, now) == {("change_reason", "not-a-successor")}


@pytest.mark.parametrize("code", ["A00", "I10", "E11.9", "M16.10", "Z99.9", "U07.1"])
def test_codes_that_have_the_shape_of_icd_10(
    hospital_record: ClinicalRecord, catalogue: Catalogue, now: datetime, code: str
) -> None:
    assert is_diagnosis_code(code)
    coded = replace(hospital_record, diagnosis_code=code)
    assert validate(coded, catalogue, now=now) is coded


@pytest.mark.parametrize(
    "code", ["", "i10", "I1", "I 10", "I10.", "I10.123", "I10-", "10", "I١٠", "I10\n", "I10 "]
)
def test_codes_that_have_not(
    hospital_record: ClinicalRecord, catalogue: Catalogue, now: datetime, code: str
) -> None:
    found = problems(replace(hospital_record, diagnosis_code=code), catalogue, now)
    assert found == {("diagnosis_code", "not-a-diagnosis-code")}


def test_a_code_stands_beside_words(
    hospital_record: ClinicalRecord, catalogue: Catalogue, now: datetime
) -> None:
    found = problems(replace(hospital_record, diagnosis=None), catalogue, now)
    assert found == {("diagnosis", "required-with-code")}


def test_nothing_sensitive_stands_in_an_ordinary_record(
    laboratory_record: ClinicalRecord, catalogue: Catalogue, now: datetime
) -> None:
    hiv = replace(laboratory_record, observations=(Observation("56888-1", Coded("negative")),))
    assert problems(hiv, catalogue, now) == {("category", "not-sensitive-enough")}
    other = replace(hiv, category=Category.GENETICS)
    assert problems(other, catalogue, now) == {("category", "not-sensitive-enough")}
    right = replace(hiv, category=Category.SEXUAL_HEALTH)
    assert validate(right, catalogue, now=now) is right


def test_a_record_says_something_unless_it_takes_something_back(
    laboratory_record: ClinicalRecord, catalogue: Catalogue, now: datetime
) -> None:
    empty = replace(laboratory_record, observations=(), notes=None)
    assert problems(empty, catalogue, now) == {("observations", "empty-record")}
    retraction = replace(
        empty,
        version=2,
        status=RecordStatus.ENTERED_IN_ERROR,
        replaces="ab" * 32,
        change_reason="Doente errado.",
    )
    assert validate(retraction, catalogue, now=now) is retraction


def test_nothing_is_observed_twice_or_endlessly(
    laboratory_record: ClinicalRecord, catalogue: Catalogue, now: datetime
) -> None:
    one = laboratory_record.observations[0]
    twice = replace(laboratory_record, observations=(one, one))
    assert problems(twice, catalogue, now) == {("observations", "twice")}
    many = replace(laboratory_record, observations=(one,) * (MAX_OBSERVATIONS + 1))
    assert ("observations", "too-many") in problems(many, catalogue, now)


@pytest.mark.parametrize(
    "observation",
    [
        Observation("2823-4", Quantity(Decimal("4.2"), "mmol/L")),
        Observation("2823-3", Quantity(Decimal("4.2"), "")),
        Observation("2823-3", Quantity(Decimal("NaN"), "mmol/L")),
        Observation("2823-3", Quantity(Decimal("Infinity"), "mmol/L")),
        Observation("2823-3", Quantity(Decimal("-0"), "mmol/L")),
        Observation("2823-3", Quantity(Decimal("4E+1"), "mmol/L")),
        Observation("2823-3", Quantity(Decimal("4." + "1" * 13), "mmol/L")),
        Observation("2823-3", Quantity(Decimal("1234567890123"), "mmol/L")),
        Observation("85354-9", BloodPressure(Decimal(120), Decimal("sNaN"))),
        Observation("882-1", Coded("A+\n")),
    ],
)
def test_observations_that_cannot_be_written_down_are_refused(
    laboratory_record: ClinicalRecord, observation: Observation
) -> None:
    bad = replace(laboratory_record, observations=(observation,))
    found = {(problem.field, problem.code) for problem in check_form(bad)}
    assert found == {("observations.0", "malformed")}


def test_nothing_is_observed_in_the_future_or_before_birth(
    laboratory_record: ClinicalRecord, catalogue: Catalogue, subject: Subject, now: datetime
) -> None:
    def at(moment: date) -> ClinicalRecord:
        return replace(laboratory_record, effective=moment)

    # 09:30 in UTC: at the far side of the date line it is still the same day.
    for good in (date(2026, 5, 4), now + timedelta(minutes=5), subject.birth_date):
        validate(at(good), catalogue, now=now, subject=subject)
    validate(at(date(2026, 5, 5)), catalogue, now=now + timedelta(hours=1))
    future = {("effective", "in-the-future")}
    assert problems(at(date(2026, 5, 5)), catalogue, now) == future
    assert problems(at(now + timedelta(minutes=6)), catalogue, now) == future
    assert problems(at(date(1200, 1, 1)), catalogue, now) == {("effective", "too-early")}
    before = at(subject.birth_date - timedelta(days=2))
    assert problems(before, catalogue, now, subject) == {("effective", "before-birth")}


def test_instants_are_in_utc(
    laboratory_record: ClinicalRecord, catalogue: Catalogue, now: datetime
) -> None:
    for zone in (None, timezone(timedelta(hours=1))):
        bad = replace(laboratory_record, effective=datetime(2026, 5, 1, 10, tzinfo=zone))
        assert problems(bad, catalogue, now) == {("effective", "not-utc")}


def test_a_subject_is_complete(subject: Subject) -> None:
    assert check_subject(subject) == ()
    bad = replace(subject, number="", identifier_scheme="x" * 65, birth_date=date(1, 1, 1))
    assert {(problem.field, problem.code) for problem in check_subject(bad)} == {
        ("number", "required"),
        ("identifier_scheme", "too-long"),
        ("birth_date", "too-early"),
    }


def test_age_in_completed_years() -> None:
    born = date(2000, 2, 29)
    assert age_on(born, date(2001, 2, 28)) == 0
    assert age_on(born, date(2001, 3, 1)) == 1
    assert age_on(born, date(1999, 3, 1)) == -1


def test_the_day_of_a_record_and_its_observations(
    laboratory_record: ClinicalRecord, hospital_record: ClinicalRecord
) -> None:
    assert effective_date(laboratory_record) == date(2026, 5, 1)
    assert effective_date(hospital_record) == date(2026, 5, 1)
    assert laboratory_record.observation("882-1") == laboratory_record.observations[0]
    assert laboratory_record.observation("718-7") is None


def test_loinc_codes_carry_a_check_digit() -> None:
    for good in ("85354-9", "8480-6", "2823-3", "882-1", "62292-8"):
        assert is_loinc(good)
    for bad in ("85354-8", "8480", "8480-", "-6", "8480-66", "84806", "12345678-1", "٨-6", 7, None):
        assert not is_loinc(bad)
