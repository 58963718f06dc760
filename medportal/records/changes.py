"""What changed from one version of a record to the next (PURE)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from medportal.records.content import ClinicalRecord, Observation, Subject
from medportal.records.fhir import Reading
from medportal.records.fhir_write import Shown

#: The parts of a record besides its values, in the order in which they are told.
PARTS = ("category", "effective", "diagnosis", "diagnosis_code", "notes")
#: What it says of the patient, as registered when it was signed.
ABOUT = ("name", "identifier_scheme", "number", "birth_date", "sex")


class How(StrEnum):
    """What happened to a part of a record."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class ValueAt:
    """One value of one version, with what was shown beside it."""

    observation: Observation
    shown: Shown


@dataclass(frozen=True, slots=True)
class PartChange:
    """A part of the record, or of what it says of the patient, that is not as it was.

    ``part`` is one of :data:`PARTS` or :data:`ABOUT`.
    """

    part: str
    how: How
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A value that is not as it was, in itself or in how it is judged."""

    code: str
    how: How
    before: ValueAt | None
    after: ValueAt | None


Change = PartChange | ValueChange


def changes(before: Reading, after: Reading) -> tuple[Change, ...]:
    """Return what is not in ``after`` as it was in ``before``.

    First the parts of the record, then its values (those that were, in their order, then those
    that are new), then what it says of the patient. A value whose usual range or meaning is
    another counts as changed, though the number be the same.
    """
    return (
        *_parts(PARTS, before.record, after.record),
        *_values(before, after),
        *_parts(ABOUT, before.subject, after.subject),
    )


def _parts(
    names: tuple[str, ...], before: ClinicalRecord | Subject, after: ClinicalRecord | Subject
) -> Iterator[PartChange]:
    for name in names:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield PartChange(name, _how(old, new), old, new)


def _values(before: Reading, after: Reading) -> Iterator[ValueChange]:
    old, new = _by_code(before), _by_code(after)
    for code in (*old, *(code for code in new if code not in old)):
        was, is_now = old.get(code), new.get(code)
        if not _same(was, is_now):
            yield ValueChange(code, _how(was, is_now), was, is_now)


def _by_code(reading: Reading) -> dict[str, ValueAt]:
    pairs = zip(reading.record.observations, reading.shown, strict=True)
    return {one.code: ValueAt(one, shown) for one, shown in pairs}


def _same(before: ValueAt | None, after: ValueAt | None) -> bool:
    """Tell whether a value says the same; 5.0 and 5.00 were measured otherwise."""
    if before is None or after is None:
        return before is after
    written = [str(one.observation.value) for one in (before, after)]
    return written[0] == written[1] and _judged(before.shown) == _judged(after.shown)


def _judged(shown: Shown) -> tuple[object, ...]:
    return (
        shown.low,
        shown.high,
        shown.interpretation,
        *(_judged(component) for component in shown.components),
    )


def _how(before: object, after: object) -> How:
    if before is None:
        return How.ADDED
    return How.REMOVED if after is None else How.CHANGED
