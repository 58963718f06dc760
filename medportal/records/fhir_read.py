"""Taking a record out of parsed FHIR resources (PURE).

This reads what it needs and says where something is amiss. That nothing else stands
there is shown by :func:`medportal.records.fhir.read`, which writes the record again and
compares the bytes.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from medportal.core.categories import Category
from medportal.records import fhir_write as terms
from medportal.records.content import (
    MAX_LABEL,
    MAX_NAME,
    BloodPressure,
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordStatus,
    Sex,
    Subject,
    Value,
    is_loinc,
    text_problem,
)
from medportal.records.errors import UnexpectedContent
from medportal.records.fhir_write import Shown
from medportal.records.interpret import Interpretation

T = TypeVar("T")

_VERSION = re.compile(r"[1-9][0-9]{0,9}")
_KINDS = {code: kind for kind, (code, _) in terms.REPORT_CODES.items()}
_INTERPRETATIONS = {code: meaning for meaning, code in terms.INTERPRETATIONS.items()}
# Report, patient, author and institution come first, then the diagnosis if there is one.
_LEADING = ("DiagnosticReport", "Patient", "Practitioner", "Organization")


class Node:
    """A place in parsed JSON, which knows its path: written out only where something is amiss."""

    __slots__ = ("_above", "_step", "value")

    def __init__(self, value: Any, above: "Node | None", step: str | int) -> None:
        """Take a value at a step, a member's name or an item's number, below another node."""
        self.value, self._above, self._step = value, above, step

    @property
    def path(self) -> str:
        """Where the value stands, as in ``Bundle.entry[0].resource``."""
        if self._above is None:
            return str(self._step)
        is_member = isinstance(self._step, str)
        return (
            f"{self._above.path}.{self._step}" if is_member else f"{self._above.path}[{self._step}]"
        )

    def get(self, name: str) -> "Node | None":
        """Return a member, or ``None`` where it is absent."""
        if not isinstance(self.value, dict):
            raise UnexpectedContent(self.path)
        return Node(self.value[name], self, name) if name in self.value else None

    def __getitem__(self, name: str) -> "Node":
        value = self.value
        if not isinstance(value, dict):
            raise UnexpectedContent(self.path)
        if name not in value:
            raise UnexpectedContent(f"{self.path}.{name}")
        return Node(value[name], self, name)

    def items(self) -> list["Node"]:
        """Return the items of a list."""
        if not isinstance(self.value, list):
            raise UnexpectedContent(self.path)
        return [Node(item, self, place) for place, item in enumerate(self.value)]

    def only(self) -> "Node":
        """Return the single item of a list."""
        if not isinstance(self.value, list) or len(self.value) != 1:
            raise UnexpectedContent(self.path)
        return Node(self.value[0], self, 0)

    def text(self, limit: int | None = None) -> str:
        """Return a text; with ``limit``, one that is printable and no longer."""
        if not isinstance(self.value, str):
            raise UnexpectedContent(self.path)
        if limit is not None and text_problem(self.value, limit) is not None:
            raise UnexpectedContent(self.path)
        return self.value

    def number(self) -> Decimal:
        """Return a number."""
        if not isinstance(self.value, Decimal):
            raise UnexpectedContent(self.path)
        return self.value

    def as_(self, convert: Callable[[str], T]) -> T:
        """Return a text converted; what ``convert`` refuses is unexpected here."""
        try:
            return convert(self.text())
        except (ValueError, KeyError):
            # Without the cause, whose message quotes the content.
            raise UnexpectedContent(self.path) from None


def read_bundle(data: Any) -> tuple[ClinicalRecord, Subject, tuple[Shown, ...]]:
    """Return record, subject and what was shown. Raises ``UnexpectedContent``."""
    resources = [entry["resource"] for entry in Node(data, None, "Bundle")["entry"].items()]
    for expected, resource in zip(_LEADING, resources, strict=False):
        if resource["resourceType"].text() != expected:
            raise UnexpectedContent(f"{resource.path}.resourceType")
    if len(resources) < len(_LEADING):
        raise UnexpectedContent("Bundle.entry")
    report, patient, author, institution, *rest = resources
    conditions = [one for one in rest[:1] if one["resourceType"].text() == "Condition"]
    pairs = [_observation(one) for one in rest[len(conditions) :]]
    record = ClinicalRecord(
        **_report(report),
        author_id=author["identifier"].only()["value"].text(),
        author_name=author["name"].only()["text"].text(),
        institution=institution["identifier"].only()["value"].text(),
        observations=tuple(observation for observation, _ in pairs),
        **_diagnosis(conditions[0]["code"] if conditions else None),
    )
    return record, _subject(patient), tuple(shown for _, shown in pairs)


def _report(report: Node) -> dict[str, Any]:
    notes, extensions = report.get("conclusion"), _extensions(report.get("extension"))
    return {
        "id": report["identifier"].only()["value"].text(),
        "version": report["meta"]["versionId"].as_(_version),
        "kind": _coded(report["code"]).as_(_KINDS.__getitem__),
        "category": _coded(report["category"].only()).as_(Category),
        "status": report["status"].as_(RecordStatus),
        "effective": report["effectiveDateTime"].as_(_moment),
        "notes": None if notes is None else notes.text(),
        "replaces": extensions.get(terms.REPLACES),
        "change_reason": extensions.get(terms.CHANGE_REASON),
    }


def _extensions(node: Node | None) -> dict[str, str]:
    items = [] if node is None else node.items()
    return {item["url"].text(): item["valueString"].text() for item in items}


def _diagnosis(code: Node | None) -> dict[str, Any]:
    if code is None:
        return {}
    coding = {} if code.get("coding") is None else {"diagnosis_code": _coded(code).text()}
    return {"diagnosis": code["text"].text(), **coding}


def _subject(patient: Node) -> Subject:
    identifier = patient["identifier"].only()
    return Subject(
        identifier_scheme=identifier["system"].as_(_scheme),
        number=identifier["value"].text(),
        name=patient["name"].only()["text"].text(),
        birth_date=patient["birthDate"].as_(date.fromisoformat),
        sex=patient["gender"].as_(Sex),
    )


def _observation(node: Node) -> tuple[Observation, Shown]:
    components = node.get("component")
    parts = [] if components is None else components.items()
    shown = _shown(node, node["category"].only(), tuple(_component(part) for part in parts))
    return Observation(_coded(node["code"]).text(), _value(node, parts)), shown


def _component(part: Node) -> Shown:
    # The category is that of the whole and not written again.
    return _shown(part, None, ())


def _value(node: Node, parts: list[Node]) -> Value:
    concept = node.get("valueCodeableConcept")
    if concept is not None:
        return Coded(_coded(concept).text())
    if len(parts) == 2:
        systolic, diastolic = (part["valueQuantity"]["value"].number() for part in parts)
        return BloodPressure(systolic, diastolic)
    quantity = node["valueQuantity"]
    return Quantity(quantity["value"].number(), quantity["code"].text())


def _shown(node: Node, category: Node | None, components: tuple[Shown, ...]) -> Shown:
    quantity, limits = node.get("valueQuantity"), node.get("referenceRange")
    unit = None if quantity is None else quantity.get("unit")
    interpretation = node.get("interpretation")
    return Shown(
        name=node["code"]["text"].text(MAX_NAME),
        also=tuple(_loinc(one["code"]) for one in node["code"]["coding"].items()[1:]),
        category="" if category is None else _coded(category).text(MAX_LABEL),
        unit_text="" if unit is None else unit.text(MAX_LABEL),
        low=_limit(limits, "low"),
        high=_limit(limits, "high"),
        interpretation=_interpretation(interpretation),
        components=components,
    )


def _limit(limits: Node | None, name: str) -> Decimal | None:
    limit = None if limits is None else limits.only().get(name)
    return None if limit is None else limit["value"].number()


def _interpretation(node: Node | None) -> Interpretation:
    if node is None:
        return Interpretation.UNKNOWN
    return _coded(node.only()).as_(_INTERPRETATIONS.__getitem__)


def _coded(concept: Node) -> Node:
    codings = concept["coding"].items()
    if not codings:
        raise UnexpectedContent(f"{concept.path}.coding")
    return codings[0]["code"]


def _loinc(node: Node) -> str:
    if not is_loinc(node.text()):
        raise UnexpectedContent(node.path)
    return node.text()


def _scheme(system: str) -> str:
    if not system.startswith(terms.IDENTIFIER):
        raise ValueError("not an identifier system of medportal")
    return system.removeprefix(terms.IDENTIFIER)


def _version(text: str) -> int:
    if _VERSION.fullmatch(text) is None:
        raise ValueError("not a version")
    return int(text)


def _moment(text: str) -> date | datetime:
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
