"""How values lie to reference ranges, at and around every limit."""

from decimal import Decimal

import pytest

from medportal.records.catalogue import Catalogue
from medportal.records.content import BloodPressure, Coded, Observation, Quantity, Sex
from medportal.records.interpret import (
    Interpretation,
    Urgency,
    interpret,
    interpret_answer,
    interpret_observation,
    is_critical,
    reference_range,
    urgency_of,
)

I = Interpretation  # noqa: E741 - the table below reads better so


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("6.9", I.CRITICAL_LOW),
        ("7.0", I.LOW),
        ("11.9", I.LOW),
        ("12.0", I.NORMAL),
        ("16.0", I.NORMAL),
        ("16.1", I.HIGH),
        ("20.0", I.HIGH),
        ("20.1", I.CRITICAL_HIGH),
    ],
)
def test_limits_belong_to_the_milder_side(
    catalogue: Catalogue, value: str, meaning: Interpretation
) -> None:
    haemoglobin = catalogue.by_key("haemoglobin")
    assert interpret(haemoglobin, Decimal(value), Sex.FEMALE, 40) is meaning


def test_the_sexes_differ_and_others_get_what_both_agree_on(catalogue: Catalogue) -> None:
    haemoglobin = catalogue.by_key("haemoglobin")
    assert interpret(haemoglobin, Decimal("12.5"), Sex.FEMALE, 40) is I.NORMAL
    assert interpret(haemoglobin, Decimal("12.5"), Sex.MALE, 40) is I.LOW
    for sex in (Sex.OTHER, Sex.UNKNOWN):
        assert interpret(haemoglobin, Decimal("12.5"), sex, 40) is I.UNKNOWN
        assert interpret(haemoglobin, Decimal("14.0"), sex, 40) is I.NORMAL
        assert interpret(haemoglobin, Decimal("6.0"), sex, 40) is I.CRITICAL_LOW
        assert reference_range(haemoglobin, sex, 40) is None
    sodium = catalogue.by_key("sodium")
    assert interpret(sodium, Decimal(140), Sex.OTHER, 40) is I.NORMAL
    assert reference_range(sodium, Sex.OTHER, 40) == sodium.ranges[0]


def test_without_a_range_nothing_is_normal(catalogue: Catalogue) -> None:
    weight, sodium, psa = map(catalogue.by_key, ("weight", "sodium", "psa"))
    assert interpret(weight, Decimal(70), Sex.MALE, 40) is I.UNKNOWN
    # The ranges are those of adults.
    assert interpret(sodium, Decimal(140), Sex.MALE, 17) is I.UNKNOWN
    assert interpret(sodium, Decimal(140), Sex.MALE, 18) is I.NORMAL
    assert interpret(psa, Decimal(1), Sex.FEMALE, 40) is I.UNKNOWN
    assert interpret(psa, Decimal(1), Sex.OTHER, 40) is I.UNKNOWN


def test_age_chooses_the_range(catalogue: Catalogue) -> None:
    rate = catalogue.by_key("sedimentation-rate")
    assert interpret(rate, Decimal(18), Sex.MALE, 49) is I.HIGH
    assert interpret(rate, Decimal(18), Sex.MALE, 50) is I.NORMAL


@pytest.mark.parametrize(
    ("age", "meaning"), [(0, I.UNKNOWN), (1, I.NORMAL), (4, I.NORMAL), (5, I.LOW), (15, I.LOW)]
)
def test_children_have_their_own_ranges(
    catalogue: Catalogue, age: int, meaning: Interpretation
) -> None:
    haemoglobin = catalogue.by_key("haemoglobin")
    assert interpret(haemoglobin, Decimal("11.0"), Sex.MALE, age) is meaning


@pytest.mark.parametrize(
    ("key", "code", "meaning"),
    [
        ("urine-glucose", "negative", I.NORMAL),
        ("urine-glucose", "trace", I.ABNORMAL),
        ("urine-glucose", "3+", I.ABNORMAL),
        ("urine-glucose", "4+", I.UNKNOWN),
        ("malaria-antigen", "positive", I.CRITICAL_ABNORMAL),
        ("malaria-antigen", "indeterminate", I.ABNORMAL),
        ("rubella-igg", "positive", I.UNKNOWN),
        ("blood-type", "A+", I.UNKNOWN),
    ],
)
def test_answers(catalogue: Catalogue, key: str, code: str, meaning: Interpretation) -> None:
    definition = catalogue.by_key(key)
    assert interpret_answer(definition, code) is meaning
    observation = Observation(definition.code, Coded(code))
    assert interpret_observation(catalogue, observation, Sex.FEMALE, 3) is meaning


def test_how_urgent_a_record_is() -> None:
    critical = {one for one in I if is_critical(one)}
    assert critical == {I.CRITICAL_LOW, I.CRITICAL_HIGH, I.CRITICAL_ABNORMAL}
    for one in I:
        assert urgency_of((I.NORMAL, one)) == ("critical" if one in critical else "usual")
    assert urgency_of(()) is Urgency.USUAL


@pytest.mark.parametrize(
    ("systolic", "diastolic", "meaning"),
    [
        (120, 80, I.NORMAL),
        (150, 80, I.HIGH),
        (120, 95, I.HIGH),
        (150, 50, I.HIGH),
        (85, 95, I.LOW),
        (150, 130, I.CRITICAL_HIGH),
        (60, 35, I.CRITICAL_LOW),
    ],
)
def test_the_more_serious_part_of_a_blood_pressure(
    catalogue: Catalogue, systolic: int, diastolic: int, meaning: Interpretation
) -> None:
    pressure = BloodPressure(Decimal(systolic), Decimal(diastolic))
    observation = Observation("85354-9", pressure)
    assert interpret_observation(catalogue, observation, Sex.MALE, 40) is meaning


@pytest.mark.parametrize(
    ("observation", "meaning"),
    [
        (Observation("2951-2", Quantity(Decimal(140), "mmol/L")), I.NORMAL),
        (Observation("2951-2", Quantity(Decimal(140), "mg/dL")), I.UNKNOWN),
        (Observation("2951-2", BloodPressure(Decimal(120), Decimal(80))), I.UNKNOWN),
        (Observation("882-1", Coded("A+")), I.UNKNOWN),
        (Observation("1-8", Quantity(Decimal(140), "mmol/L")), I.UNKNOWN),
    ],
)
def test_what_cannot_be_judged_is_unknown(
    catalogue: Catalogue, observation: Observation, meaning: Interpretation
) -> None:
    assert interpret_observation(catalogue, observation, Sex.MALE, 40) is meaning
