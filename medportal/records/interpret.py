"""What a value means against its reference range (PURE)."""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

from medportal.records.catalogue import Catalogue, Definition, ReferenceRange
from medportal.records.content import (
    BloodPressure,
    Coded,
    Observation,
    Quantity,
    Sex,
)


class Interpretation(StrEnum):
    """How a value lies to its reference range; ``UNKNOWN`` where there is none to go by.

    An answer such as "positive" has no range: it is ``NORMAL``, or ``ABNORMAL``, or, where
    somebody is to be telephoned, ``CRITICAL_ABNORMAL``.
    """

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL_LOW = "critical-low"
    CRITICAL_HIGH = "critical-high"
    ABNORMAL = "abnormal"
    CRITICAL_ABNORMAL = "critical-abnormal"
    UNKNOWN = "unknown"


class Urgency(StrEnum):
    """How soon somebody should look at a record."""

    USUAL = "usual"
    CRITICAL = "critical"


SEVERITY = {
    Interpretation.UNKNOWN: 0,
    Interpretation.NORMAL: 1,
    Interpretation.LOW: 2,
    Interpretation.HIGH: 2,
    Interpretation.ABNORMAL: 2,
    Interpretation.CRITICAL_LOW: 3,
    Interpretation.CRITICAL_HIGH: 3,
    Interpretation.CRITICAL_ABNORMAL: 3,
}


def is_critical(answer: Interpretation) -> bool:
    """Tell whether a value is one for which a laboratory would telephone."""
    return SEVERITY[answer] >= SEVERITY[Interpretation.CRITICAL_LOW]


def urgency_of(answers: Iterable[Interpretation]) -> Urgency:
    """Return how soon a record with values that lie so should be looked at."""
    return Urgency.CRITICAL if any(map(is_critical, answers)) else Urgency.USUAL


def interpret_answer(definition: Definition, code: str) -> Interpretation:
    """Return what a coded answer means; ``UNKNOWN`` where none is more usual than others."""
    if code in definition.critical:
        return Interpretation.CRITICAL_ABNORMAL
    if not definition.usual or code not in definition.options:
        return Interpretation.UNKNOWN
    return Interpretation.NORMAL if code in definition.usual else Interpretation.ABNORMAL


def interpret(definition: Definition, value: Decimal, sex: Sex, age: int) -> Interpretation:
    """Return how ``value``, in the definition's unit, lies for a person of that sex and age.

    For a sex that has no range of its own, the answer is the one on which the ranges of
    women and men agree, and ``UNKNOWN`` where they differ.
    """
    ranges = {reference_range(definition, one, age) for one in _ranges_of(sex)}
    answers = {_judge(value, one) for one in ranges}
    return answers.pop() if len(answers) == 1 else Interpretation.UNKNOWN


def interpret_observation(
    catalogue: Catalogue, observation: Observation, sex: Sex, age: int
) -> Interpretation:
    """Return how an observation lies; of a blood pressure, the more serious of its parts.

    Observations that this catalogue does not know are ``UNKNOWN``.
    """
    definition = catalogue.find(observation.code)
    if definition is None:
        return Interpretation.UNKNOWN
    match observation.value:
        case Quantity(value, unit) if unit == definition.unit:
            return interpret(definition, value, sex, age)
        case Coded(code):
            return interpret_answer(definition, code)
        case BloodPressure(systolic, diastolic) if definition.components:
            parts = zip(catalogue.components(definition), (systolic, diastolic), strict=True)
            answers = [interpret(part, value, sex, age) for part, value in parts]
            return max(answers, key=lambda answer: SEVERITY[answer])
    return Interpretation.UNKNOWN


def reference_range(definition: Definition, sex: Sex, age: int) -> ReferenceRange | None:
    """Return the range for a person of that sex and age, or ``None``.

    For a sex that has no range of its own, only a range that holds for everybody.
    """
    return next((one for one in definition.ranges if one.covers(sex, age)), None)


def _ranges_of(sex: Sex) -> tuple[Sex, ...]:
    return (sex,) if sex in (Sex.FEMALE, Sex.MALE) else (Sex.FEMALE, Sex.MALE)


def _judge(value: Decimal, one: ReferenceRange | None) -> Interpretation:
    if one is None:
        return Interpretation.UNKNOWN
    # A comparison with what is not stated never decides.
    if one.critical_low is not None and value < one.critical_low:
        return Interpretation.CRITICAL_LOW
    if one.critical_high is not None and value > one.critical_high:
        return Interpretation.CRITICAL_HIGH
    if one.low is not None and value < one.low:
        return Interpretation.LOW
    if one.high is not None and value > one.high:
        return Interpretation.HIGH
    return Interpretation.NORMAL
