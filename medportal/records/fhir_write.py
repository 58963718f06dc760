"""Writing a record as FHIR R4 resources, and the terms in which that is done (PURE).

Sources: https://hl7.org/fhir/R4/ (bundle, diagnosticreport, observation, condition,
patient), the vital signs profile there, and https://terminology.hl7.org. Where no public
code system fits, ours is a ``urn:medportal:`` one.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

from medportal.core.categories import Category
from medportal.records.content import (
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Subject,
)
from medportal.records.interpret import Interpretation

Json = dict[str, Any]

LOINC = "http://loinc.org"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
UCUM = "http://unitsofmeasure.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
OBSERVATION_CATEGORY = f"{TERMINOLOGY}/observation-category"
INTERPRETATION = f"{TERMINOLOGY}/v3-ObservationInterpretation"
CONDITION_CATEGORY = f"{TERMINOLOGY}/condition-category"
CONDITION_VERIFICATION = f"{TERMINOLOGY}/condition-ver-status"
RECORD_CATEGORY = "urn:medportal:category"
BLOOD_TYPE = "urn:medportal:blood-type"
ANSWER = "urn:medportal:answer"
RECORD = "urn:medportal:record"
PERSON = "urn:medportal:person"
INSTITUTION = "urn:medportal:institution"
IDENTIFIER = "urn:medportal:identifier:"
REPLACES = "urn:medportal:fhir:replaces"
CHANGE_REASON = "urn:medportal:fhir:change-reason"

# The one observation whose answers are blood types; all others answer in words of ANSWER.
BLOOD_TYPE_CODE = "882-1"
SYSTOLIC = "8480-6"
DIASTOLIC = "8462-4"
MILLIMETRES_OF_MERCURY = "mm[Hg]"

# What a record is as a document, in LOINC: a laboratory report, a progress note.
REPORT_CODES = {
    RecordKind.CLINICAL: ("11502-2", "Laboratory report"),
    RecordKind.MEDICAL: ("11506-3", "Progress note"),
}
OBSERVATION_CATEGORIES = {
    Category.VITAL_SIGNS: "vital-signs",
    Category.LABORATORY: "laboratory",
}
INTERPRETATIONS = {
    Interpretation.LOW: "L",
    Interpretation.NORMAL: "N",
    Interpretation.HIGH: "H",
    Interpretation.CRITICAL_LOW: "LL",
    Interpretation.CRITICAL_HIGH: "HH",
    Interpretation.ABNORMAL: "A",
    Interpretation.CRITICAL_ABNORMAL: "AA",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What was shown beside one value when it was signed.

    It comes from the catalogue of that day and stays with the record, so that a later
    catalogue, or a partner's, changes nothing of what the author saw: ``name`` in English,
    further LOINC codes, FHIR category, the unit as read, the normal range, how the value
    lies in it, and the same for each component of a blood pressure.
    """

    name: str
    also: tuple[str, ...]
    category: str
    unit_text: str
    low: Decimal | None
    high: Decimal | None
    interpretation: Interpretation
    components: tuple["Shown", ...] = ()


def bundle(record: ClinicalRecord, subject: Subject, shown: tuple[Shown, ...]) -> Json:
    """Return the Bundle of a record; ``shown`` has one entry for each observation."""
    observations = [
        (f"observation/{one.code}", _observation(record, one, beside))
        for one, beside in zip(record.observations, shown, strict=True)
    ]
    resources = [
        ("report", _report(record)),
        ("patient", _patient(subject)),
        ("author", _practitioner(record)),
        ("institution", _organization(record)),
        *([] if record.diagnosis is None else [("diagnosis", _condition(record))]),
        *observations,
    ]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": full_url(record, name), "resource": resource}
            for name, resource in resources
        ],
    }


def full_url(record: ClinicalRecord, name: str) -> str:
    """Return the address of one resource: a name-based UUID (RFC 9562) of the record's id."""
    return _address(record.id, record.version, name)


# Every resource names the patient and the institution; hashing them once is enough.
@lru_cache(maxsize=256)
def _address(record_id: str, version: int, name: str) -> str:
    return f"urn:uuid:{uuid5(_space(record_id), f'{version}/{name}')}"


@lru_cache(maxsize=16)
def _space(record_id: str) -> UUID:
    return UUID(record_id)


def _report(record: ClinicalRecord) -> Json:
    code, text = REPORT_CODES[record.kind]
    report = {
        "resourceType": "DiagnosticReport",
        "meta": {"versionId": str(record.version)},
        "identifier": [{"system": RECORD, "value": record.id}],
        "status": record.status.value,
        "category": [_concept(RECORD_CATEGORY, record.category)],
        "code": {**_concept(LOINC, code), "text": text},
        "subject": _reference(record, "patient"),
        "effectiveDateTime": _moment(record.effective),
        "performer": [_reference(record, "institution")],
        "resultsInterpreter": [_reference(record, "author")],
    }
    if record.observations:
        results = [f"observation/{one.code}" for one in record.observations]
        report["result"] = [_reference(record, name) for name in results]
    if record.notes is not None:
        report["conclusion"] = record.notes
    extensions = {REPLACES: record.replaces, CHANGE_REASON: record.change_reason}
    stated = [
        {"url": url, "valueString": text} for url, text in extensions.items() if text is not None
    ]
    return {**report, "extension": stated} if stated else report


def _patient(subject: Subject) -> Json:
    scheme = f"{IDENTIFIER}{subject.identifier_scheme}"
    return {
        "resourceType": "Patient",
        "identifier": [{"system": scheme, "value": subject.number}],
        "name": [{"text": subject.name}],
        "gender": subject.sex.value,
        "birthDate": subject.birth_date.isoformat(),
    }


def _practitioner(record: ClinicalRecord) -> Json:
    return {
        "resourceType": "Practitioner",
        "identifier": [{"system": PERSON, "value": record.author_id}],
        "name": [{"text": record.author_name}],
    }


def _organization(record: ClinicalRecord) -> Json:
    return {
        "resourceType": "Organization",
        "identifier": [{"system": INSTITUTION, "value": record.institution}],
    }


def _condition(record: ClinicalRecord) -> Json:
    code = record.diagnosis_code
    condition = {
        "resourceType": "Condition",
        "category": [_concept(CONDITION_CATEGORY, "encounter-diagnosis")],
        "code": {**({} if code is None else _concept(ICD10, code)), "text": record.diagnosis},
        "subject": _reference(record, "patient"),
        "asserter": _reference(record, "author"),
    }
    if record.status is RecordStatus.ENTERED_IN_ERROR:
        condition["verificationStatus"] = _concept(CONDITION_VERIFICATION, record.status.value)
    return condition


def _observation(record: ClinicalRecord, one: Observation, shown: Shown) -> Json:
    return {
        "resourceType": "Observation",
        "status": record.status.value,
        "category": [_concept(OBSERVATION_CATEGORY, shown.category)],
        "code": _code(one.code, shown),
        "subject": _reference(record, "patient"),
        "effectiveDateTime": _moment(record.effective),
        "performer": [_reference(record, "institution")],
        **_value(one, shown),
    }


def _value(one: Observation, shown: Shown) -> Json:
    if isinstance(one.value, Quantity):
        return _measured(one.value.value, one.value.unit, shown)
    if isinstance(one.value, Coded):
        system = BLOOD_TYPE if one.code == BLOOD_TYPE_CODE else ANSWER
        concept = {**_concept(system, one.value.code), "text": one.value.code}
        return {"valueCodeableConcept": concept, **_meaning(shown)}
    values = one.value.systolic, one.value.diastolic
    parts = zip((SYSTOLIC, DIASTOLIC), values, shown.components, strict=True)
    return {"component": [_component(*part) for part in parts]}


def _component(code: str, number: Decimal, shown: Shown) -> Json:
    return {"code": _code(code, shown), **_measured(number, MILLIMETRES_OF_MERCURY, shown)}


def _measured(number: Decimal, unit: str, shown: Shown) -> Json:
    members: Json = {"valueQuantity": _quantity(number, unit, shown)}
    limits = {"low": shown.low, "high": shown.high}
    stated = {
        name: _quantity(limit, unit, shown) for name, limit in limits.items() if limit is not None
    }
    if stated:
        members["referenceRange"] = [stated]
    return {**members, **_meaning(shown)}


def _meaning(shown: Shown) -> Json:
    if shown.interpretation is Interpretation.UNKNOWN:
        return {}
    return {"interpretation": [_concept(INTERPRETATION, INTERPRETATIONS[shown.interpretation])]}


def _quantity(number: Decimal, unit: str, shown: Shown) -> Json:
    # FHIR knows no empty strings: a unit that people do not read is left out.
    read = {"unit": shown.unit_text} if shown.unit_text else {}
    return {"value": number, **read, "system": UCUM, "code": unit}


def _code(code: str, shown: Shown) -> Json:
    codings = [{"system": LOINC, "code": one} for one in (code, *shown.also)]
    return {"coding": codings, "text": shown.name}


def _concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": str(code)}]}


def _reference(record: ClinicalRecord, name: str) -> Json:
    return {"reference": full_url(record, name)}


def _moment(moment: date | datetime) -> str:
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return moment.isoformat()
