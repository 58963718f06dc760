"""What changed from one version to the next, and which versions continue what is held."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from medportal.core.categories import Category
from medportal.records import catalogue as catalogues
from medportal.records.changes import How, PartChange, ValueChange, changes
from medportal.records.content import (
    BloodPressure,
    ClinicalRecord,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
)
from medportal.records.errors import AlreadyFiled, CorrectionUnfit, OriginalMissing
from medportal.records.fhir import Reading, read, to_fhir
from medportal.records.succession import Held, check_continues

SUBJECT = Subject("citizen-card", "17645234", "Amanda Júlio", date(1980, 2, 3), Sex.FEMALE)
PRESSURE = Observation("85354-9", BloodPressure(Decimal(128), Decimal(81)))
WEIGHT = Observation("29463-7", Quantity(Decimal("70.0"), "kg"))
RECORD = ClinicalRecord(
    id="a" * 32,
    version=1,
    kind=RecordKind.MEDICAL,
    category=Category.CLINICAL_NOTE,
    status=RecordStatus.FINAL,
    effective=date(2026, 5, 1),
    author_id="b" * 32,
    author_name="Rui Matos",
    institution="hospital",
    observations=(PRESSURE, WEIGHT),
    notes="Words",
)


def reading(subject=SUBJECT, **other) -> Reading:
    return read(to_fhir(replace(RECORD, **other), subject, catalogues.load()))


def test_the_same_changed_in_nothing():
    later = {"version": 2, "status": RecordStatus.CORRECTED, "replaces": "c" * 64}
    assert changes(reading(), reading(**later, change_reason="Why")) == ()


def test_parts_are_added_changed_and_removed():
    found = changes(
        reading(),
        reading(notes=None, diagnosis="Cough", effective=date(2026, 5, 2)),
    )
    assert found == (
        PartChange("effective", How.CHANGED, date(2026, 5, 1), date(2026, 5, 2)),
        PartChange("diagnosis", How.ADDED, None, "Cough"),
        PartChange("notes", How.REMOVED, "Words", None),
    )


def test_values_are_told_in_their_order_the_new_ones_last():
    height = Observation("8302-2", Quantity(Decimal(171), "cm"))
    other = Observation("85354-9", BloodPressure(Decimal(120), Decimal(81)))
    found = changes(reading(), reading(observations=(height, other)))
    assert [(type(c), c.code, c.how) for c in found] == [
        (ValueChange, "85354-9", How.CHANGED),
        (ValueChange, "29463-7", How.REMOVED),
        (ValueChange, "8302-2", How.ADDED),
    ]
    assert found[0].before.observation == PRESSURE and found[0].after.observation == other
    assert found[1].after is None and found[2].before is None


def test_another_order_alone_is_no_change():
    assert changes(reading(), reading(observations=(WEIGHT, PRESSURE))) == ()


def test_a_value_written_with_other_digits_changed():
    written = Observation("29463-7", Quantity(Decimal("70"), "kg"))
    (found,) = changes(reading(), reading(observations=(PRESSURE, written)))
    assert found.how is How.CHANGED


@pytest.mark.parametrize("what", ["whole", "component"])
def test_a_value_that_is_judged_otherwise_changed(what):
    before = reading()
    pressure, weight = before.shown
    part = replace(pressure.components[0], high=Decimal(999))
    shown = {
        "whole": (pressure, replace(weight, low=Decimal(1))),
        "component": (replace(pressure, components=(part, pressure.components[1])), weight),
    }[what]
    (found,) = changes(before, replace(before, shown=shown))
    assert found.how is How.CHANGED
    assert found.code == ("29463-7" if what == "whole" else "85354-9")


def test_what_it_says_of_the_patient_is_told_last():
    other = replace(SUBJECT, name="Amanda Júlio Reis", sex=Sex.OTHER)
    found = changes(reading(), reading(other, notes="Other"))
    assert [c.part for c in found if isinstance(c, PartChange)] == ["notes", "name", "sex"]


def test_a_category_that_changed_is_told():
    (found,) = changes(reading(), reading(category=Category.MENTAL_HEALTH))
    assert found.part == "category"


HELD = Held("d" * 32, "e" * 32, "medical", b"p" * 32, None, is_here=False, is_beside=True)
SECOND = replace(
    RECORD, version=2, status=RecordStatus.CORRECTED, replaces=(b"p" * 32).hex(), change_reason="W"
)
DIGEST = b"q" * 32


@pytest.mark.parametrize(
    "held",
    [
        HELD,
        replace(HELD, before=None, is_beside=True),
        replace(HELD, replaced_after=DIGEST),
        replace(HELD, before=None, replaced_after=DIGEST),
    ],
)
def test_what_fits_on_both_sides_continues(held):
    check_continues(held, SECOND, DIGEST, "e" * 32, may_leave_gap=False)


def test_a_gap_is_taken_only_from_a_person():
    alone = replace(HELD, before=None, is_beside=False)
    with pytest.raises(OriginalMissing):
        check_continues(alone, SECOND, DIGEST, "e" * 32, may_leave_gap=False)
    check_continues(alone, SECOND, DIGEST, "e" * 32, may_leave_gap=True)


@pytest.mark.parametrize(
    ("held", "record", "patient", "field"),
    [
        (HELD, SECOND, "f" * 32, "patient"),
        (HELD, replace(SECOND, kind=RecordKind.CLINICAL), "e" * 32, "kind"),
        (HELD, replace(SECOND, replaces="00" * 32), "e" * 32, "replaces"),
        (HELD, replace(SECOND, replaces=None), "e" * 32, "replaces"),
        (replace(HELD, replaced_after=b"r" * 32), SECOND, "e" * 32, "replaces"),
    ],
)
def test_what_does_not_fit_is_named(held, record, patient, field):
    with pytest.raises(CorrectionUnfit) as caught:
        check_continues(held, record, DIGEST, patient, may_leave_gap=True)
    assert caught.value.field == field


def test_a_version_that_is_here_is_not_filed_again():
    with pytest.raises(AlreadyFiled):
        check_continues(replace(HELD, is_here=True), SECOND, DIGEST, "e" * 32, may_leave_gap=True)
