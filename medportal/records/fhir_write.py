"""Writing a record as FHIR R4 resources, and the terms in which that is done (PURE).

Sources: https://hl7.org/fhir/R4/ (bundle, diagnosticreport, observation, condition,
patient), the vital signs profile there, and https://terminology.hl7.org. Where no public
code system fits, ours is a ``urn:medportal:`` one.

Each resource is a form whose gaps a record fills (:class:`medportal.records.exact_json.Form`):
what is the same in all records is put in order and written once, not once a record.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import sha1
from typing import Any
from uuid import UUID

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
from medportal.records.exact_json import Form, Gap, number, text
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


_BUNDLE = Form({"resourceType": "Bundle", "type": "collection", "entry": [Gap("entries")]})
_ENTRY = Form({"fullUrl": Gap("address"), "resource": Gap("resource")})
_REFERENCE = Form({"reference": Gap("address")})
_CODING = Form({"system": Gap("system"), "code": Gap("code")})
_EXTENSION = Form({"url": Gap("url"), "valueString": Gap("value")})
_UNREAD_QUANTITY = Form({"value": Gap("value"), "system": UCUM, "code": Gap("code")})
_QUANTITY = Form({"value": Gap("value"), "unit": Gap("unit"), "system": UCUM, "code": Gap("code")})
_REPORT = Form(
    {
        "resourceType": "DiagnosticReport",
        "meta": {"versionId": Gap("version")},
        "identifier": [{"system": RECORD, "value": Gap("id")}],
        "status": Gap("status"),
        "category": [{"coding": [Gap("category")]}],
        "code": {"coding": [Gap("code")], "text": Gap("kind")},
        "subject": Gap("patient"),
        "effectiveDateTime": Gap("effective"),
        "performer": [Gap("institution")],
        "resultsInterpreter": [Gap("author")],
        "result": [Gap("results")],
        "conclusion": Gap("notes"),
        "extension": [Gap("extensions")],
    }
)
_PATIENT = Form(
    {
        "resourceType": "Patient",
        "identifier": [{"system": Gap("scheme"), "value": Gap("number")}],
        "name": [{"text": Gap("name")}],
        "gender": Gap("gender"),
        "birthDate": Gap("birth"),
    }
)
_PRACTITIONER = Form(
    {
        "resourceType": "Practitioner",
        "identifier": [{"system": PERSON, "value": Gap("id")}],
        "name": [{"text": Gap("name")}],
    }
)
_ORGANIZATION = Form(
    {
        "resourceType": "Organization",
        "identifier": [{"system": INSTITUTION, "value": Gap("id")}],
    }
)
_CONDITION = Form(
    {
        "resourceType": "Condition",
        "category": [{"coding": [{"system": CONDITION_CATEGORY, "code": "encounter-diagnosis"}]}],
        "code": {"coding": [Gap("code")], "text": Gap("diagnosis")},
        "subject": Gap("patient"),
        "asserter": Gap("author"),
        "verificationStatus": {"coding": [Gap("verification")]},
    }
)
# What an observation says: a quantity, an answer, or the components of a blood pressure.
_MEASURED = {
    "code": {"coding": [Gap("codes")], "text": Gap("name")},
    "valueQuantity": Gap("quantity"),
    "referenceRange": [{"low": Gap("low"), "high": Gap("high")}],
    "interpretation": [{"coding": [Gap("meaning")]}],
}
_COMPONENT = Form(_MEASURED)
_OBSERVATION = Form(
    {
        "resourceType": "Observation",
        "status": Gap("status"),
        "category": [{"coding": [Gap("category")]}],
        "subject": Gap("patient"),
        "effectiveDateTime": Gap("effective"),
        "performer": [Gap("institution")],
        **_MEASURED,
        "valueCodeableConcept": {"coding": [Gap("answer")], "text": Gap("answered")},
        "component": [Gap("components")],
    }
)


@dataclass(frozen=True, slots=True)
class _Written:
    """What several resources of a record say alike, as it is written."""

    patient: str
    author: str
    institution: str
    status: str
    effective: str


def bundle(record: ClinicalRecord, subject: Subject, shown: tuple[Shown, ...]) -> str:
    """Return the Bundle of a record, written; ``shown`` has one entry for each observation."""
    names = [f"observation/{one.code}" for one in record.observations]
    leading = ["report", "patient", "author", "institution"]
    leading += [] if record.diagnosis is None else ["diagnosis"]
    addresses = [text(address) for address in _addresses(record, [*leading, *names])]
    refer = [_REFERENCE.fill(address=address) for address in addresses]
    _, patient, author, institution = refer[:4]
    written = _Written(patient, author, institution, text(record.status), _moment(record.effective))
    resources = [
        _report(record, written, refer[len(leading) :]),
        _patient(subject),
        _PRACTITIONER.fill(id=text(record.author_id), name=text(record.author_name)),
        _ORGANIZATION.fill(id=text(record.institution)),
        *([] if record.diagnosis is None else [_condition(record, record.diagnosis, written)]),
        *(
            _observation(one, beside, written)
            for one, beside in zip(record.observations, shown, strict=True)
        ),
    ]
    entries = zip(addresses, resources, strict=True)
    return _BUNDLE.fill(
        entries=",".join(
            [_ENTRY.fill(address=address, resource=resource) for address, resource in entries]
        )
    )


def full_url(record: ClinicalRecord, name: str) -> str:
    """Return the address of one resource: a name-based UUID (RFC 9562) of the record's id."""
    return next(_addresses(record, [name]))


def _addresses(record: ClinicalRecord, names: Iterable[str]) -> Iterator[str]:
    """Give the addresses of a record's resources; what is hashed first is the same for all."""
    begun = sha1(UUID(record.id).bytes, usedforsecurity=False)
    begun.update(f"{record.version}/".encode())
    for name in names:
        hashed = begun.copy()
        hashed.update(name.encode())
        # RFC 9562, section 5.5: the first 128 bits but for the version and the variant.
        digits = hashed.hexdigest()
        variant = _VARIANT[digits[16]]
        yield (
            f"urn:uuid:{digits[:8]}-{digits[8:12]}-5{digits[13:16]}"
            f"-{variant}{digits[17:20]}-{digits[20:32]}"
        )


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""A UUID's seventeenth digit, whose first two bits are the variant."""


def _report(record: ClinicalRecord, written: _Written, results: list[str]) -> str:
    code, kind = REPORT_CODES[record.kind]
    extensions = [
        _EXTENSION.fill(url=text(url), value=text(value))
        for url, value in ((REPLACES, record.replaces), (CHANGE_REASON, record.change_reason))
        if value is not None
    ]
    return _REPORT.fill_some(
        version=text(str(record.version)),
        id=text(record.id),
        status=written.status,
        category=_coding(RECORD_CATEGORY, record.category),
        code=_coding(LOINC, code),
        kind=text(kind),
        patient=written.patient,
        effective=written.effective,
        institution=written.institution,
        author=written.author,
        results=",".join(results) or None,
        notes=_stated(record.notes),
        extensions=",".join(extensions) or None,
    )


def _patient(subject: Subject) -> str:
    return _PATIENT.fill(
        scheme=text(f"{IDENTIFIER}{subject.identifier_scheme}"),
        number=text(subject.number),
        name=text(subject.name),
        gender=text(subject.sex),
        birth=text(subject.birth_date.isoformat()),
    )


def _condition(record: ClinicalRecord, diagnosis: str, written: _Written) -> str:
    code, retracted = record.diagnosis_code, record.status is RecordStatus.ENTERED_IN_ERROR
    return _CONDITION.fill_some(
        code=None if code is None else _coding(ICD10, code),
        diagnosis=text(diagnosis),
        patient=written.patient,
        author=written.author,
        verification=_coding(CONDITION_VERIFICATION, record.status) if retracted else None,
    )


def _observation(one: Observation, shown: Shown, written: _Written) -> str:
    return _OBSERVATION.fill_some(
        status=written.status,
        category=_coding(OBSERVATION_CATEGORY, shown.category),
        patient=written.patient,
        effective=written.effective,
        institution=written.institution,
        **_code(one.code, shown),
        **_value(one, shown),
    )


def _value(one: Observation, shown: Shown) -> dict[str, str | None]:
    if isinstance(one.value, Quantity):
        return _measured(one.value.value, one.value.unit, shown)
    if isinstance(one.value, Coded):
        system = BLOOD_TYPE if one.code == BLOOD_TYPE_CODE else ANSWER
        answer = one.value.code
        return {
            # Whoever writes an answer chooses it: none of them is kept.
            "answer": _coding.__wrapped__(system, answer),
            "answered": text(answer),
            "meaning": _meaning(shown),
        }
    values = one.value.systolic, one.value.diastolic
    parts = zip((SYSTOLIC, DIASTOLIC), values, shown.components, strict=True)
    return {"components": ",".join([_component(*part) for part in parts])}


def _component(code: str, value: Decimal, shown: Shown) -> str:
    measured = _measured(value, MILLIMETRES_OF_MERCURY, shown)
    return _COMPONENT.fill_some(**_code(code, shown), **measured)


def _measured(value: Decimal, unit: str, shown: Shown) -> dict[str, str | None]:
    # FHIR knows no empty strings: a unit that people do not read is left out.
    form = _QUANTITY if shown.unit_text else _UNREAD_QUANTITY
    code, read = text(unit), text(shown.unit_text)
    low, high = shown.low, shown.high
    return {
        "quantity": form.fill(value=number(value), unit=read, code=code),
        "low": None if low is None else form.fill(value=number(low), unit=read, code=code),
        "high": None if high is None else form.fill(value=number(high), unit=read, code=code),
        "meaning": _meaning(shown),
    }


def _meaning(shown: Shown) -> str | None:
    if shown.interpretation is Interpretation.UNKNOWN:
        return None
    return _coding(INTERPRETATION, INTERPRETATIONS[shown.interpretation])


def _code(code: str, shown: Shown) -> dict[str, str]:
    codes = ",".join([_coding(LOINC, one) for one in (code, *shown.also)])
    return {"codes": codes, "name": text(shown.name)}


# The same few codes stand in all records. Nothing else is kept, and of no code whose it was.
@lru_cache(maxsize=1024)
def _coding(system: str, code: str) -> str:
    return _CODING.fill(system=text(system), code=text(code))


def _stated(value: str | None) -> str | None:
    return None if value is None else text(value)


def _moment(moment: date | datetime) -> str:
    if isinstance(moment, datetime):
        return text(moment.astimezone(UTC).isoformat().replace("+00:00", "Z"))
    return text(moment.isoformat())
