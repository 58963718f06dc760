"""The exact bytes of a record, valid FHIR R4B, strictly read."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medportal.core.categories import Category
from medportal.records import catalogue as catalogue_module
from medportal.records import exact_json
from medportal.records.catalogue import Catalogue, Definition
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
    Value,
    check_form,
    check_subject,
)
from medportal.records.errors import (
    ContentTooLarge,
    DuplicateKey,
    FhirError,
    InvalidContent,
    NotANumber,
    NotCanonicalRecord,
    UnexpectedContent,
)
from medportal.records.fhir import MAX_BYTES, from_fhir, read, to_fhir
from medportal.records.interpret import Interpretation, Urgency

CATALOGUE = catalogue_module.load()

printable = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Co", "Cn", "Cf"]), min_size=1, max_size=60
).filter(lambda text: text == text.strip())
ids = st.text("0123456789abcdef", min_size=32, max_size=32)
diagnosis_codes = st.from_regex(re.compile(r"[A-Z][0-9]{2}(\.[0-9]{1,2})?"), fullmatch=True)
days = st.dates(date(1900, 1, 1), date(2030, 1, 1))
moments = st.datetimes(datetime(1900, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


def numbers_of(definition: Definition) -> st.SearchStrategy[Decimal]:
    low, high = definition.plausible
    return st.decimals(low, high, places=definition.decimals)


def values_of(definition: Definition) -> st.SearchStrategy[Value]:
    if definition.options:
        return st.builds(Coded, st.sampled_from(definition.options))
    if definition.components:
        systolic = st.decimals(121, 300, places=0)
        return st.builds(BloodPressure, systolic, st.decimals(20, 120, places=0))
    return st.builds(Quantity, numbers_of(definition), st.just(definition.unit))


entered = [one for one in CATALOGUE.definitions.values() if one.forms]
observations = st.lists(
    st.sampled_from(entered).flatmap(
        lambda one: st.builds(Observation, st.just(one.code), values_of(one))
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda one: one.code,
).map(tuple)


@st.composite
def records(draw: st.DrawFn) -> ClinicalRecord:
    first = draw(st.booleans())
    diagnosis = draw(st.none() | printable)
    later = [status for status in RecordStatus if status is not RecordStatus.FINAL]
    return ClinicalRecord(
        id=draw(ids),
        version=1 if first else draw(st.integers(2, 999_999_999)),
        kind=draw(st.sampled_from(RecordKind)),
        category=draw(st.sampled_from(Category)),
        status=RecordStatus.FINAL if first else draw(st.sampled_from(later)),
        effective=draw(days | moments),
        author_id=draw(ids),
        author_name=draw(printable),
        institution=draw(printable),
        observations=draw(observations),
        diagnosis=diagnosis,
        notes=draw(st.none() | printable),
        replaces=None if first else draw(ids) + draw(ids),
        change_reason=None if first else draw(st.none() | printable),
        diagnosis_code=None if diagnosis is None else draw(st.none() | diagnosis_codes),
    )


subjects = st.builds(
    Subject,
    identifier_scheme=printable,
    number=printable,
    name=printable,
    birth_date=days,
    sex=st.sampled_from(Sex),
)


Change = Callable[[Any], object]


def resource(data: Any, place: int) -> Any:
    return data["entry"][place]["resource"]


def changed(change: Change, content: bytes) -> bytes:
    data = exact_json.decode(content)
    change(data)
    return exact_json.encode(data)


# A busy machine is no reason to fail.
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(records(), subjects)
def test_round_trip_is_identity_and_valid_r4b(record: ClinicalRecord, subject: Subject) -> None:
    assert (check_form(record), check_subject(subject)) == ((), ())
    content = to_fhir(record, subject, CATALOGUE)
    assert from_fhir(content) == (record, subject)
    assert Bundle.model_validate_json(content).type == "collection"
    read_again, _ = from_fhir(content)
    assert to_fhir(read_again, subject, CATALOGUE) == content


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(FhirError):
        read(data)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_another_record(place: int, byte: int) -> None:
    record, subject = _a_record()
    content = bytearray(to_fhir(record, subject, CATALOGUE))
    place %= len(content)
    same = content[place] == byte
    content[place] = byte
    try:
        found = from_fhir(bytes(content))
    except FhirError:
        assert not same
    else:
        assert read(bytes(content)) and (found == (record, subject) or not same)


def _a_record() -> tuple[ClinicalRecord, Subject]:
    record = ClinicalRecord(
        id="1" * 32,
        version=1,
        kind=RecordKind.CLINICAL,
        category=Category.LABORATORY,
        status=RecordStatus.FINAL,
        effective=date(2026, 5, 1),
        author_id="2" * 32,
        author_name="Paulo Marques",
        institution="laboratory",
        observations=(Observation("2823-3", Quantity(Decimal("5.0"), "mmol/L")),),
    )
    return record, Subject("citizen-card", "17645234", "Amanda", date(1980, 2, 3), Sex.FEMALE)


def test_the_bytes_as_a_partner_sees_them(
    laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    content = to_fhir(laboratory_record, subject, catalogue)
    resources = [entry["resource"] for entry in json.loads(content)["entry"]]
    report, patient, author, institution, blood_type, pressure, potassium, inr, _ = resources
    assert report["code"]["coding"] == [{"system": "http://loinc.org", "code": "11502-2"}]
    assert report["category"][0]["coding"][0]["code"] == "laboratory"
    assert report["conclusion"] == laboratory_record.notes
    assert len(report["result"]) == 5
    assert patient["identifier"][0]["value"] == "17645234"
    assert patient["gender"] == "female"
    assert author["name"] == [{"text": "Paulo Marques"}]
    assert institution["identifier"][0]["value"] == "laboratory"
    assert blood_type["valueCodeableConcept"]["text"] == "A+"
    assert [part["interpretation"][0]["coding"][0]["code"] for part in pressure["component"]] == [
        "H",
        "N",
    ]
    assert potassium["valueQuantity"]["system"] == "http://unitsofmeasure.org"
    assert potassium["referenceRange"][0]["high"]["value"] == 5.1
    # An INR has no unit to read, only one for machines.
    assert "unit" not in inr["valueQuantity"]
    assert inr["valueQuantity"]["code"] == "{INR}"
    # The trailing zero was measured and stays.
    assert b'"value":5.0}' in content


def test_diagnosis_and_predecessor(
    hospital_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    content = to_fhir(hospital_record, subject, catalogue)
    resources = [entry["resource"] for entry in json.loads(content)["entry"]]
    assert resources[0]["code"]["coding"][0]["code"] == "11506-3"
    assert resources[0]["extension"] == [
        {"url": "urn:medportal:fhir:replaces", "valueString": "ab" * 32},
        {"url": "urn:medportal:fhir:change-reason", "valueString": "Saturação medida de novo."},
    ]
    assert resources[0]["effectiveDateTime"] == "2026-05-01T10:15:30.250000Z"
    assert resources[4]["resourceType"] == "Condition"
    assert resources[4]["code"] == {
        "coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10"}],
        "text": hospital_record.diagnosis,
    }
    assert [one["code"] for one in resources[5]["code"]["coding"]] == ["59408-5", "2708-6"]
    assert from_fhir(content) == (hospital_record, subject)


WRITTEN_BEFORE = Path(__file__).parent / "written_before"


def test_bytes_written_before_there_were_reasons_and_codes_are_read(
    laboratory_record: ClinicalRecord, hospital_record: ClinicalRecord, subject: Subject
) -> None:
    """The files are bytes of the application before it knew either; nothing changes in them."""
    without = replace(hospital_record, change_reason=None, diagnosis_code=None)
    for name, record in (("laboratory_record", laboratory_record), ("hospital_record", without)):
        written = (WRITTEN_BEFORE / f"{name}.json").read_bytes()
        assert from_fhir(written) == (record, subject)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: resource(data, 0)["extension"].reverse(),
        lambda data: resource(data, 0)["extension"].append(resource(data, 0)["extension"][1]),
        lambda data: resource(data, 0)["extension"].append(
            {"url": "urn:medportal:fhir:more", "valueString": "x"}
        ),
        lambda data: resource(data, 4)["code"]["coding"].append({"system": "x", "code": "I10"}),
        lambda data: resource(data, 4)["code"]["coding"][0].update(system="http://example.org"),
        lambda data: resource(data, 4)["code"]["coding"][0].update(display="Hypertension"),
    ],
)
def test_nothing_hides_beside_reason_and_code(
    change: Change, hospital_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    content = changed(change, to_fhir(hospital_record, subject, catalogue))
    with pytest.raises(NotCanonicalRecord):
        from_fhir(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: resource(data, 0).update(extension=["x"]),
        lambda data: resource(data, 0)["extension"][1].update(valueString=Decimal(7)),
        lambda data: resource(data, 0)["extension"][1].update(valueString="x" * 501),
        lambda data: resource(data, 0)["extension"][1].update(valueString="a\u202eb"),
        lambda data: resource(data, 4)["code"].update(coding=[]),
        lambda data: resource(data, 4)["code"]["coding"][0].update(code="i10"),
        lambda data: resource(data, 4)["code"]["coding"][0].update(code="<script>"),
    ],
)
def test_a_reason_or_code_that_is_none_is_refused(
    change: Change, hospital_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    content = changed(change, to_fhir(hospital_record, subject, catalogue))
    with pytest.raises(FhirError):
        from_fhir(content)


def test_a_retraction_takes_back_the_diagnosis_too(
    hospital_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    retraction = replace(hospital_record, status=RecordStatus.ENTERED_IN_ERROR)
    content = to_fhir(retraction, subject, catalogue)
    assert content.count(b'"entered-in-error"') == 2 + len(retraction.observations)
    Bundle.model_validate_json(content)
    bare = replace(retraction, observations=(), diagnosis=None, diagnosis_code=None)
    assert from_fhir(to_fhir(bare, subject, catalogue)) == (bare, subject)


def test_answers_and_what_they_mean(
    laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    answers = {"malaria-antigen": "positive", "urine-glucose": "trace", "rubella-igg": "positive"}
    observed = tuple(
        Observation(catalogue.by_key(key).code, Coded(code)) for key, code in answers.items()
    )
    record = replace(laboratory_record, observations=observed)
    content = to_fhir(record, subject, catalogue)
    Bundle.model_validate_json(content)
    malaria, glucose, rubella = (e["resource"] for e in json.loads(content)["entry"][4:])
    coding = {"system": "urn:medportal:answer", "code": "positive"}
    assert malaria["valueCodeableConcept"] == {"coding": [coding], "text": "positive"}
    meanings = [one["interpretation"][0]["coding"][0]["code"] for one in (malaria, glucose)]
    assert meanings == ["AA", "A"]
    assert "interpretation" not in rubella
    reading = read(content)
    assert (reading.record, reading.urgency()) == (record, Urgency.CRITICAL)


def test_urgency_looks_into_the_parts_of_a_blood_pressure(
    laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    def urgency(diastolic: int) -> Urgency:
        pressure = BloodPressure(Decimal(150), Decimal(diastolic))
        record = replace(laboratory_record, observations=(Observation("85354-9", pressure),))
        return read(to_fhir(record, subject, catalogue)).urgency()

    assert (urgency(95), urgency(125)) == (Urgency.USUAL, Urgency.CRITICAL)


def test_what_the_author_saw_stays_with_the_record(
    laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    reading = read(to_fhir(laboratory_record, subject, catalogue))
    potassium = reading.shown[2]
    assert potassium.name == "Potassium"
    assert (potassium.low, potassium.high) == (Decimal("3.5"), Decimal("5.1"))
    assert potassium.interpretation is Interpretation.NORMAL
    assert potassium.unit_text == "mmol/L"
    # Another institution's catalogue calls it otherwise and has another range: no matter.
    theirs = to_fhir(laboratory_record, subject, _renamed(catalogue))
    assert read(theirs).shown[2].name == "Kalium"
    assert from_fhir(theirs) == (laboratory_record, subject)


def _renamed(catalogue: Catalogue) -> Catalogue:
    old = catalogue.by_key("potassium")
    new = replace(old, names={"en": "Kalium", "pt": "Kalium"}, ranges=())
    return replace(catalogue, definitions={**catalogue.definitions, "potassium": new})


def test_nothing_unfit_is_written(
    laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    for record, about in (
        (replace(laboratory_record, author_name=""), subject),
        (laboratory_record, replace(subject, number="")),
        (replace(laboratory_record, observations=(Observation("1-8", Coded("A+")),)), subject),
    ):
        with pytest.raises(InvalidContent):
            to_fhir(record, about, catalogue)


def test_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ContentTooLarge):
        read(b"[" * (MAX_BYTES + 1))


UNEXPECTED: list[Change] = [
    lambda data: data.pop("entry"),
    lambda data: data.update(entry={}),
    lambda data: data.update(entry=[]),
    lambda data: data["entry"].pop(0),
    lambda data: data.update(entry=data["entry"][:3]),
    lambda data: data["entry"].insert(0, "x"),
    lambda data: resource(data, 0).update(status="preliminary"),
    lambda data: resource(data, 0).update(status=["final"]),
    lambda data: resource(data, 0).update(identifier=[]),
    lambda data: resource(data, 0)["identifier"][0].update(value="short"),
    lambda data: resource(data, 0)["meta"].update(versionId="01"),
    lambda data: resource(data, 0)["meta"].update(versionId="9" * 10),
    lambda data: resource(data, 0).update(effectiveDateTime="2026-05"),
    lambda data: resource(data, 0).update(effectiveDateTime="2026-05-01T10:00:00"),
    lambda data: resource(data, 0).update(effectiveDateTime="2026-05-01T10:00:00+01:00"),
    lambda data: resource(data, 0)["code"].update(coding=[]),
    lambda data: resource(data, 0)["code"]["coding"][0].update(code="1-8"),
    lambda data: resource(data, 0)["category"][0]["coding"][0].update(code="poetry"),
    lambda data: resource(data, 0).update(conclusion="bad \x07 bell"),
    lambda data: resource(data, 0).update(conclusion=["x"]),
    lambda data: resource(data, 0).update(extension=[{"valueString": "x"}]),
    lambda data: resource(data, 1).update(gender="f"),
    lambda data: resource(data, 1).update(birthDate="3/2/1980"),
    lambda data: resource(data, 1)["identifier"][0].update(system="http://example.org"),
    lambda data: resource(data, 1)["name"].append({"text": "Another"}),
    lambda data: resource(data, 4)["code"].update(text="x" * 201),
    lambda data: resource(data, 4)["code"]["coding"].append({"code": "nonsense"}),
    lambda data: resource(data, 6)["valueQuantity"].update(value="5.0"),
    lambda data: resource(data, 6)["valueQuantity"].update(unit="\u202e"),
    lambda data: resource(data, 6)["valueQuantity"].update(value=Decimal("-0.0")),
    lambda data: resource(data, 6)["interpretation"][0]["coding"][0].update(code="POS"),
    lambda data: resource(data, 5)["component"].pop(),
    lambda data: data["entry"].append({"resource": resource(data, 6)}),
]
NOT_CANONICAL: list[Change] = [
    lambda data: data.update(type="searchset"),
    lambda data: data.update(unknown="member"),
    lambda data: data["entry"][0].update(fullUrl="urn:uuid:" + "0" * 8 + "-0000" * 3 + "0" * 12),
    lambda data: resource(data, 0).update(text={"div": "<script>alert(1)</script>"}),
    lambda data: resource(data, 0)["result"].pop(),
    lambda data: resource(data, 0)["subject"].update(reference="Patient/1"),
    lambda data: resource(data, 0).update(note="x"),
    lambda data: resource(data, 1).update(deceasedBoolean="true"),
    lambda data: resource(data, 1).update(birthDate="19800203"),
    lambda data: resource(data, 4).update(status="preliminary"),
    lambda data: resource(data, 4).update(referenceRange=[{"low": {"value": Decimal(1)}}]),
    lambda data: resource(data, 5)["component"].reverse(),
    lambda data: resource(data, 6).update(resourceType="Basic"),
    lambda data: resource(data, 6)["valueQuantity"].update(comparator="<"),
    lambda data: resource(data, 6).update(component=resource(data, 5)["component"]),
    lambda data: resource(data, 6).update(valueCodeableConcept=resource(data, 4)["code"]),
]


@pytest.mark.parametrize("change", UNEXPECTED)
def test_what_is_not_a_record_is_refused_with_its_place(
    change: Change, laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    content = changed(change, to_fhir(laboratory_record, subject, catalogue))
    with pytest.raises(UnexpectedContent) as caught:
        from_fhir(content)
    assert caught.value.path
    assert "Amanda" not in str(caught.value)


@pytest.mark.parametrize("change", NOT_CANONICAL)
def test_nothing_stands_in_a_record_that_is_not_read(
    change: Change, laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    original = to_fhir(laboratory_record, subject, catalogue)
    content = changed(change, original)
    if content == original:
        pytest.fail("this change changes nothing")
    with pytest.raises(NotCanonicalRecord):
        from_fhir(content)


def test_the_same_json_in_other_bytes_is_refused(
    laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    content = to_fhir(laboratory_record, subject, catalogue)
    data = json.loads(content)
    for other in (
        content + b"\n",
        json.dumps(data, indent=1).encode(),
        content.replace("Júlio".encode(), b"J\\u00falio"),
    ):
        assert other != content
        with pytest.raises(FhirError):
            from_fhir(other)
    for other, error in (
        (content.replace(b'"value":201}', b'"value":2.01e2}'), NotANumber),
        (content.replace(b'"value":201}', b'"value":NaN}'), NotANumber),
        (content.replace(b'"type":', b'"type":"collection","type":'), DuplicateKey),
    ):
        with pytest.raises(error):
            from_fhir(other)
