"""A record's Bundle made member by member, and encoded value by value: slow, and plain to see.

This is how the first records were written. What the application writes is compared with it.
"""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from medportal.records import exact_json
from medportal.records import fhir_write as terms
from medportal.records.content import (
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordStatus,
    Subject,
)
from medportal.records.fhir_write import Shown
from medportal.records.interpret import Interpretation

Json = dict[str, Any]


def plainly_written(record: ClinicalRecord, subject: Subject, shown: tuple[Shown, ...]) -> bytes:
    return exact_json.encode(bundle(record, subject, shown))


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
    return f"urn:uuid:{uuid5(UUID(record.id), f'{record.version}/{name}')}"


def _report(record: ClinicalRecord) -> Json:
    code, text = terms.REPORT_CODES[record.kind]
    report = {
        "resourceType": "DiagnosticReport",
        "meta": {"versionId": str(record.version)},
        "identifier": [{"system": terms.RECORD, "value": record.id}],
        "status": record.status.value,
        "category": [_concept(terms.RECORD_CATEGORY, record.category)],
        "code": {**_concept(terms.LOINC, code), "text": text},
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
    extensions = {terms.REPLACES: record.replaces, terms.CHANGE_REASON: record.change_reason}
    stated = [
        {"url": url, "valueString": text} for url, text in extensions.items() if text is not None
    ]
    return {**report, "extension": stated} if stated else report


def _patient(subject: Subject) -> Json:
    scheme = f"{terms.IDENTIFIER}{subject.identifier_scheme}"
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
        "identifier": [{"system": terms.PERSON, "value": record.author_id}],
        "name": [{"text": record.author_name}],
    }


def _organization(record: ClinicalRecord) -> Json:
    return {
        "resourceType": "Organization",
        "identifier": [{"system": terms.INSTITUTION, "value": record.institution}],
    }


def _condition(record: ClinicalRecord) -> Json:
    code = record.diagnosis_code
    condition = {
        "resourceType": "Condition",
        "category": [_concept(terms.CONDITION_CATEGORY, "encounter-diagnosis")],
        "code": {**({} if code is None else _concept(terms.ICD10, code)), "text": record.diagnosis},
        "subject": _reference(record, "patient"),
        "asserter": _reference(record, "author"),
    }
    if record.status is RecordStatus.ENTERED_IN_ERROR:
        condition["verificationStatus"] = _concept(
            terms.CONDITION_VERIFICATION, record.status.value
        )
    return condition


def _observation(record: ClinicalRecord, one: Observation, shown: Shown) -> Json:
    return {
        "resourceType": "Observation",
        "status": record.status.value,
        "category": [_concept(terms.OBSERVATION_CATEGORY, shown.category)],
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
        system = terms.BLOOD_TYPE if one.code == terms.BLOOD_TYPE_CODE else terms.ANSWER
        concept = {**_concept(system, one.value.code), "text": one.value.code}
        return {"valueCodeableConcept": concept, **_meaning(shown)}
    values = one.value.systolic, one.value.diastolic
    parts = zip((terms.SYSTOLIC, terms.DIASTOLIC), values, shown.components, strict=True)
    return {"component": [_component(*part) for part in parts]}


def _component(code: str, number: Decimal, shown: Shown) -> Json:
    return {"code": _code(code, shown), **_measured(number, terms.MILLIMETRES_OF_MERCURY, shown)}


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
    return {
        "interpretation": [
            _concept(terms.INTERPRETATION, terms.INTERPRETATIONS[shown.interpretation])
        ]
    }


def _quantity(number: Decimal, unit: str, shown: Shown) -> Json:
    # FHIR knows no empty strings: a unit that people do not read is left out.
    read = {"unit": shown.unit_text} if shown.unit_text else {}
    return {"value": number, **read, "system": terms.UCUM, "code": unit}


def _code(code: str, shown: Shown) -> Json:
    codings = [{"system": terms.LOINC, "code": one} for one in (code, *shown.also)]
    return {"coding": codings, "text": shown.name}


def _concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": str(code)}]}


def _reference(record: ClinicalRecord, name: str) -> Json:
    return {"reference": full_url(record, name)}


def _moment(moment: date | datetime) -> str:
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return moment.isoformat()
