"""A catalogue, a patient and one record of each kind, for the tests of records."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

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
    RecordStatus,
    Sex,
    Subject,
)


@pytest.fixture
def catalogue() -> Catalogue:
    """The catalogue that comes with medportal."""
    return catalogue_module.load()


@pytest.fixture
def now() -> datetime:
    """The instant at which the tests play."""
    return datetime(2026, 5, 4, 9, 30, tzinfo=UTC)


@pytest.fixture
def subject() -> Subject:
    """A woman of 46."""
    return Subject("citizen-card", "17645234", "Amanda Júlio", date(1980, 2, 3), Sex.FEMALE)


@pytest.fixture
def laboratory_record() -> ClinicalRecord:
    """A laboratory's record with a value of every shape and a note."""
    return ClinicalRecord(
        id="0123456789abcdef" * 2,
        version=1,
        kind=RecordKind.CLINICAL,
        category=Category.LABORATORY,
        status=RecordStatus.FINAL,
        effective=date(2026, 5, 1),
        author_id="fedcba9876543210" * 2,
        author_name="Paulo Marques",
        institution="laboratory",
        observations=(
            Observation("882-1", Coded("A+")),
            Observation("85354-9", BloodPressure(Decimal(152), Decimal(81))),
            Observation("2823-3", Quantity(Decimal("5.0"), "mmol/L")),
            Observation("6301-6", Quantity(Decimal("1.1"), "{INR}")),
            Observation("2093-3", Quantity(Decimal(201), "mg/dL")),
        ),
        notes='Amostra "ligeiramente" hemolisada.\nRepetir o potássio.',
    )


@pytest.fixture
def hospital_record() -> ClinicalRecord:
    """A hospital's second version of a record, with a coded diagnosis and an instant."""
    return ClinicalRecord(
        id="00112233445566778899aabbccddeeff",
        version=2,
        kind=RecordKind.MEDICAL,
        category=Category.CLINICAL_NOTE,
        status=RecordStatus.AMENDED,
        effective=datetime(2026, 5, 1, 10, 15, 30, 250_000, tzinfo=UTC),
        author_id="a" * 32,
        author_name="Ana Albuquerque",
        institution="hospital",
        observations=(
            Observation("59408-5", Quantity(Decimal(97), "%")),
            Observation("8302-2", Quantity(Decimal("168.5"), "cm")),
        ),
        diagnosis="Hipertensão arterial essencial",
        replaces="ab" * 32,
        change_reason="Saturação medida de novo.",
        diagnosis_code="I10",
    )
