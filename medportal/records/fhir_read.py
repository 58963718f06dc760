"""Taking a record out of parsed FHIR resources (PURE).

This reads what it needs and says where something is amiss. That nothing else stands
there is shown by :func:`medportal.records.fhir.read`, which writes the record again and
compares the bytes.

The same functions read parsed JSON as it is and in a :class:`Node`, which knows where it stands.
Nodes cost as much as all the rest, so they are for content in which something is amiss.
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


def read_bundle(data: Any) -> tuple[ClinicalRecord, Subject, tuple[Shown, ...]]:
    """Return record, subject and what was shown. Raises ``UnexpectedContent`` with the place."""
    return _bundle(Node(data, None, "Bundle"))


def read_quickly(data: Any) -> tuple[ClinicalRecord, Subject, tuple[Shown, ...]] | None:
    """Return the same, or ``None`` where something is amiss, which :func:`read_bundle` names.

    A member that is ``null`` is read as one that is absent. Who writes again what was read, and
    compares, will see it.
    """
    try:
        return _bundle(data)
    except (AttributeError, LookupError, TypeError, ValueError, UnexpectedContent):
        return None


def _bundle(data: Any) -> tuple[ClinicalRecord, Subject, tuple[Shown, ...]]:
    entries = data["entry"]
    resources = [entry["resource"] for entry in _items(entries)]
    for expected, resource in zip(_LEADING, resources, strict=False):
        if _text(resource["resourceType"]) != expected:
            raise _unexpected(resource["resourceType"])
    if len(resources) < len(_LEADING):
        raise _unexpected(entries)
    report, patient, author, institution, *rest = resources
    conditions = [one for one in rest[:1] if _text(one["resourceType"]) == "Condition"]
    pairs = [_observation(one) for one in rest[len(conditions) :]]
    record = ClinicalRecord(
        **_report(report),
        author_id=_text(_only(author["identifier"])["value"]),
        author_name=_text(_only(author["name"])["text"]),
        institution=_text(_only(institution["identifier"])["value"]),
        observations=tuple(observation for observation, _ in pairs),
        **_diagnosis(conditions[0]["code"] if conditions else None),
    )
    return record, _subject(patient), tuple(shown for _, shown in pairs)


def _plain(node: Any) -> Any:
    return node.value if type(node) is Node else node


def _unexpected(node: Any) -> UnexpectedContent:
    # Without a node there is no path, and nobody who would be told.
    return UnexpectedContent(node.path if type(node) is Node else "")


def _items(node: Any) -> list[Any]:
    """Return the items of a list."""
    if type(node) is list:
        return node
    if type(node) is Node:
        return node.items()
    raise _unexpected(node)


def _only(node: Any) -> Any:
    """Return the single item of a list."""
    items = _items(node)
    if len(items) != 1:
        raise _unexpected(node)
    return items[0]


def _text(node: Any, limit: int | None = None) -> str:
    """Return a text; with ``limit``, one that is printable and no longer."""
    value = _plain(node)
    if not isinstance(value, str):
        raise _unexpected(node)
    if limit is not None and text_problem(value, limit) is not None:
        raise _unexpected(node)
    return value


def _number(node: Any) -> Decimal:
    """Return a number."""
    value = _plain(node)
    if not isinstance(value, Decimal):
        raise _unexpected(node)
    return value


def _as(node: Any, convert: Callable[[str], T]) -> T:
    """Return a text converted; what ``convert`` refuses is unexpected here."""
    try:
        return convert(_text(node))
    except (ValueError, KeyError):
        # Without the cause, whose message quotes the content.
        raise _unexpected(node) from None


def _report(report: Any) -> dict[str, Any]:
    notes, extensions = report.get("conclusion"), _extensions(report.get("extension"))
    return {
        "id": _text(_only(report["identifier"])["value"]),
        "version": _as(report["meta"]["versionId"], _version),
        "kind": _as(_coded(report["code"]), _KINDS.__getitem__),
        "category": _as(_coded(_only(report["category"])), Category),
        "status": _as(report["status"], RecordStatus),
        "effective": _as(report["effectiveDateTime"], _moment),
        "notes": None if notes is None else _text(notes),
        "replaces": extensions.get(terms.REPLACES),
        "change_reason": extensions.get(terms.CHANGE_REASON),
    }


def _extensions(node: Any) -> dict[str, str]:
    items = [] if node is None else _items(node)
    return {_text(item["url"]): _text(item["valueString"]) for item in items}


def _diagnosis(code: Any) -> dict[str, Any]:
    if code is None:
        return {}
    coding = {} if code.get("coding") is None else {"diagnosis_code": _text(_coded(code))}
    return {"diagnosis": _text(code["text"]), **coding}


def _subject(patient: Any) -> Subject:
    identifier = _only(patient["identifier"])
    return Subject(
        identifier_scheme=_as(identifier["system"], _scheme),
        number=_text(identifier["value"]),
        name=_text(_only(patient["name"])["text"]),
        birth_date=_as(patient["birthDate"], date.fromisoformat),
        sex=_as(patient["gender"], Sex),
    )


def _observation(node: Any) -> tuple[Observation, Shown]:
    components = node.get("component")
    parts = [] if components is None else _items(components)
    shown = _shown(node, _only(node["category"]), tuple(_component(part) for part in parts))
    return Observation(_text(_coded(node["code"])), _value(node, parts)), shown


def _component(part: Any) -> Shown:
    # The category is that of the whole and not written again.
    return _shown(part, None, ())


def _value(node: Any, parts: list[Any]) -> Value:
    concept = node.get("valueCodeableConcept")
    if concept is not None:
        return Coded(_text(_coded(concept)))
    if len(parts) == 2:
        systolic, diastolic = (_number(part["valueQuantity"]["value"]) for part in parts)
        return BloodPressure(systolic, diastolic)
    quantity = node["valueQuantity"]
    return Quantity(_number(quantity["value"]), _text(quantity["code"]))


def _shown(node: Any, category: Any, components: tuple[Shown, ...]) -> Shown:
    quantity, limits = node.get("valueQuantity"), node.get("referenceRange")
    unit = None if quantity is None else quantity.get("unit")
    interpretation = node.get("interpretation")
    return Shown(
        name=_text(node["code"]["text"], MAX_NAME),
        also=tuple(_loinc(one["code"]) for one in _items(node["code"]["coding"])[1:]),
        category="" if category is None else _text(_coded(category), MAX_LABEL),
        unit_text="" if unit is None else _text(unit, MAX_LABEL),
        low=_limit(limits, "low"),
        high=_limit(limits, "high"),
        interpretation=_interpretation(interpretation),
        components=components,
    )


def _limit(limits: Any, name: str) -> Decimal | None:
    limit = None if limits is None else _only(limits).get(name)
    return None if limit is None else _number(limit["value"])


def _interpretation(node: Any) -> Interpretation:
    if node is None:
        return Interpretation.UNKNOWN
    return _as(_coded(_only(node)), _INTERPRETATIONS.__getitem__)


def _coded(concept: Any) -> Any:
    codings = _items(concept["coding"])
    if not codings:
        raise _unexpected(concept["coding"])
    return codings[0]["code"]


def _loinc(node: Any) -> str:
    code = _text(node)
    if not is_loinc(code):
        raise _unexpected(node)
    return code


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
