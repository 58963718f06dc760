"""Synthetic patients: the same every time, plausible, and each value within the catalogue."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from medportal.core.categories import Category
from medportal.demo.people import citizen_numbers
from medportal.demo.physiology import REMAINS, strength
from medportal.demo.synthetic import Author, SyntheticPatient, citizen_number, generate
from medportal.records import catalogue as catalogue_module
from medportal.records.content import (
    ClinicalRecord,
    Coded,
    Quantity,
    RecordKind,
    age_on,
    effective_date,
    validate,
)
from medportal.records.fhir import from_fhir, to_fhir
from medportal.records.interpret import Interpretation, interpret_observation

TODAY = date(2026, 5, 4)
CATALOGUE = catalogue_module.load()
AUTHORS: Mapping[str, Sequence[Author]] = {
    "hospital": (Author("a" * 32, "Ana Albuquerque"), Author("c" * 32, "Duarte Figueira")),
    "laboratory": (Author("b" * 32, "Paulo Marques"),),
}


def make(seed: int = 7, **options: Any) -> list[SyntheticPatient]:
    defaults: dict[str, Any] = {"today": TODAY, "authors": AUTHORS, "catalogue": CATALOGUE}
    return list(generate(seed, **{**defaults, **options}))


@pytest.fixture(scope="module")
def patients() -> list[SyntheticPatient]:
    return make()


def test_the_same_seed_gives_the_same_patients(patients: list[SyntheticPatient]) -> None:
    assert make() == patients
    # Asking for fewer changes nothing about those.
    assert make(count=5) == patients[:5]
    assert make(seed=8, count=5) != patients[:5]


def test_a_hundred_citizens_with_numbers_of_their_own(patients: list[SyntheticPatient]) -> None:
    numbers = {one.subject.number for one in patients}
    assert len(patients) == len(numbers) == 100
    assert all(number.isdigit() and len(number) == 8 for number in numbers)
    assert not numbers & citizen_numbers()
    many = {citizen_number(3, position) for position in range(20_000)}
    assert len(many) == 20_000


def test_people_look_like_people(patients: list[SyntheticPatient]) -> None:
    ages = [age_on(one.subject.birth_date, TODAY) for one in patients]
    assert min(ages) >= 18 + 8
    assert max(ages) <= 92
    assert {one.tenants for one in patients} == {("hospital",), ("hospital", "laboratory")}
    assert len({one.subject.name for one in patients}) > 90
    assert all(one.email.endswith("@people.example") for one in patients)
    assert all(one.phone.startswith("+351 900 ") for one in patients)


def test_every_record_could_be_signed_and_read_back(patients: list[SyntheticPatient]) -> None:
    now = datetime.combine(TODAY, datetime.min.time(), UTC)
    ids = [record.id for one in patients for record in one.records]
    assert len(ids) == len(set(ids)) > 1000
    for patient in patients:
        for record in patient.records:
            validate(record, CATALOGUE, now=now, subject=patient.subject)
    for patient in patients[:5]:
        for record in patient.records:
            content = to_fhir(record, patient.subject, CATALOGUE)
            assert from_fhir(content) == (record, patient.subject)


def test_records_come_in_order_from_the_right_institution(
    patients: list[SyntheticPatient],
) -> None:
    for patient in patients:
        days = [effective_date(record) for record in patient.records]
        assert days == sorted(days)
        assert all(day > TODAY - timedelta(days=8 * 366) for day in days)
        assert {record.institution for record in patient.records} <= set(patient.tenants)
        for record in patient.records:
            of_hospital = record.kind is RecordKind.MEDICAL
            assert record.institution == ("hospital" if of_hospital else "laboratory")
            assert record.author_name in {author.name for author in AUTHORS[record.institution]}


def test_years_can_be_chosen() -> None:
    short = make(count=10, years=2)
    assert min(effective_date(record) for one in short for record in one.records) > date(2024, 5, 1)


def values(records: Sequence[ClinicalRecord], key: str) -> list[Decimal]:
    code = CATALOGUE.by_key(key).code
    found = [record.observation(code) for record in records]
    return [one.value.value for one in found if one and isinstance(one.value, Quantity)]


def test_most_values_are_normal_and_some_are_not(patients: list[SyntheticPatient]) -> None:
    counts = Counter(
        interpret_observation(
            CATALOGUE, one, patient.subject.sex, age_on(patient.subject.birth_date, TODAY)
        )
        for patient in patients
        for record in patient.records
        for one in record.observations
    )
    judged = sum(counts.values()) - counts[Interpretation.UNKNOWN]
    assert 0.7 < counts[Interpretation.NORMAL] / judged < 0.97
    assert counts[Interpretation.HIGH] and counts[Interpretation.LOW]


def test_a_patient_keeps_blood_type_and_baseline(patients: list[SyntheticPatient]) -> None:
    for patient in patients:
        types = [record.observation("882-1") for record in patient.records]
        codes = {one.value.code for one in types if one and isinstance(one.value, Coded)}
        assert len(codes) == 1
    # Values of one person lie closer together than those of everybody.
    spreads = []
    everybody = [values(patient.records, "sodium") for patient in patients]
    for found in everybody:
        if len(found) > 4:
            spreads.append(max(found) - min(found))
    union = [value for found in everybody for value in found]
    assert sum(spreads) / len(spreads) < max(union) - min(union)


def test_diabetes_shows_before_its_diagnosis_and_recedes_after(
    patients: list[SyntheticPatient],
) -> None:
    highest = [max(found) for one in patients if (found := values(one.records, "hba1c"))]
    assert max(highest) > Decimal("7.5")
    assert min(highest) < Decimal("5.7")
    assert strength("diabetes", -3) == 0
    assert 0 < strength("diabetes", -0.5) < 1 == strength("diabetes", 0)
    assert strength("diabetes", 5) == REMAINS
    # Nothing gives back what kidneys have lost.
    assert strength("kidney", 5) > 1
    assert strength("kidney", 50) == 2


def test_diagnoses_are_in_both_languages_and_some_are_confidential(
    patients: list[SyntheticPatient],
) -> None:
    records = [record for one in patients for record in one.records]
    texts = {record.diagnosis for record in records if record.diagnosis}
    assert any("hypertension" in text for text in texts)
    assert any("Hipertensão" in text for text in texts)
    sensitive = [one for one in records if one.category is Category.MENTAL_HEALTH]
    assert sensitive
    assert all(one.diagnosis and not one.observations for one in sensitive)
    anxious = [one for one in records if "nxi" in (one.diagnosis or "")]
    assert {one.category for one in anxious} == {Category.MENTAL_HEALTH}
    assert any(record.notes for record in records)


def test_values_of_one_sample_agree(patients: list[SyntheticPatient]) -> None:
    for record in (record for one in patients for record in one.records):
        keys = ("cholesterol", "hdl-cholesterol", "triglycerides", "ldl-cholesterol")
        total, hdl, fats, ldl = (values([record], key) for key in keys)
        if total:
            assert abs(total[0] - hdl[0] - fats[0] / 5 - ldl[0]) <= 2


def test_records_do_not_depend_on_who_the_authors_are() -> None:
    # Each institution loads alone and knows only its own staff.
    alone = {**AUTHORS, "hospital": (Author("d" * 32, "Outra Pessoa"),)}
    for before, after in zip(make(count=10), make(count=10, authors=alone), strict=True):
        assert replace(after, records=()) == replace(before, records=())
        for old, new in zip(before.records, after.records, strict=True):
            expected = replace(old, author_id=new.author_id, author_name=new.author_name)
            assert new == expected
            assert (new.author_name == "Outra Pessoa") == (new.institution == "hospital")
