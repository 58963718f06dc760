"""What a list or a picture needs of a record, taken quickly out of proved bytes (PURE).

:func:`medportal.records.fhir.read` builds everything again to show that the bytes are the one
encoding; that is done once, before a record counts as proved (:mod:`medportal.records.opening`).
:func:`glance` is for the many times after that: it takes what it needs from where it is known
to stand.
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from medportal.core.categories import Category
from medportal.records import fhir_write as terms
from medportal.records.content import RecordKind, RecordStatus
from medportal.records.interpret import SEVERITY, Interpretation

_KINDS = {code: kind for kind, (code, _words) in terms.REPORT_CODES.items()}
_MEANINGS = {code: meaning for meaning, code in terms.INTERPRETATIONS.items()}
#: What a text can come to that is no record.
MALFORMED = (
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    RecursionError,
)
# Digits stay text until they are a decimal; floats would round what was signed.
_JSON = json.JSONDecoder(parse_float=str, parse_int=str)
USUAL = frozenset({Interpretation.NORMAL, Interpretation.UNKNOWN})


class Seen(NamedTuple):
    """One value as it was signed: a number with its range, or a code.

    ``part`` is the LOINC code of a component, of a blood pressure; ``name`` the English name
    that was signed, for what the catalogue here does not know. ``category`` is FHIR's.
    """

    code: str
    part: str | None
    name: str
    category: str
    number: Decimal | None
    coded: str
    unit: str
    unit_text: str
    low: Decimal | None
    high: Decimal | None
    meaning: Interpretation

    @property
    def is_notable(self) -> bool:
        """Tell whether the value lies outside its usual range."""
        return self.meaning not in USUAL


@dataclass(frozen=True, slots=True)
class Glance:
    """A record at a glance; ``diagnosis`` and ``notes`` are whole, as they were signed.

    The first fields say which record this is, in the words of
    :class:`medportal.records.content.ClinicalRecord`.
    """

    id: str
    version: int
    kind: RecordKind
    category: Category
    author_id: str
    replaces: str | None
    author: str
    status: RecordStatus
    effective: date | datetime
    diagnosis: str
    diagnosis_code: str
    notes: str
    count: int
    values: tuple[Seen, ...]

    @property
    def headline(self) -> str:
        """Return the first line of the diagnosis, or else of the notes."""
        return (self.diagnosis or self.notes).partition("\n")[0].rstrip()

    @property
    def notable(self) -> list[Seen]:
        """Return the values outside their usual range, the most serious first."""
        found = [value for value in self.values if value.is_notable]
        return sorted(found, key=lambda value: -SEVERITY[value.meaning])


def glance(content: bytes) -> Glance:
    """Return a record at a glance.

    What is no record raises one of ``MALFORMED``. Nothing shows here that ``content`` is the one
    encoding of a record: the caller knows whose bytes these are.
    """
    bundle = _JSON.decode(content.decode())
    resources = [entry["resource"] for entry in bundle["entry"]]
    report, author = resources[0], resources[2]
    condition = next((one for one in resources[4:5] if one["resourceType"] == "Condition"), None)
    observations = [one for one in resources[4:] if one["resourceType"] == "Observation"]
    code = {} if condition is None else condition["code"]
    stated = {one["url"]: one["valueString"] for one in report.get("extension", ())}
    return Glance(
        id=report["identifier"][0]["value"],
        version=int(report["meta"]["versionId"]),
        kind=_KINDS[_coded(report["code"])],
        category=Category(_coded(report["category"][0])),
        author_id=author["identifier"][0]["value"],
        replaces=stated.get(terms.REPLACES),
        author=author["name"][0]["text"],
        status=RecordStatus(report["status"]),
        effective=_moment(report["effectiveDateTime"]),
        diagnosis=code.get("text", ""),
        diagnosis_code=_coded(code) if "coding" in code else "",
        notes=report.get("conclusion", ""),
        count=len(observations),
        values=tuple(value for one in observations for value in _values(one)),
    )


def _values(observation: Mapping[str, Any]) -> list[Seen]:
    code, category = _coded(observation["code"]), _coded(observation["category"][0])
    parts = observation.get("component")
    if parts is None:
        return [_seen(observation, code, None, category)]
    return [_seen(part, code, _coded(part["code"]), category) for part in parts]


def _seen(node: Mapping[str, Any], code: str, part: str | None, category: str) -> Seen:
    quantity = node.get("valueQuantity")
    limits = node["referenceRange"][0] if "referenceRange" in node else {}
    meaning = node.get("interpretation")
    number, unit, unit_text = None, "", ""
    if quantity:
        number, unit = Decimal(quantity["value"]), quantity.get("code", "")
        unit_text = quantity.get("unit", "")
    # By position: a page has some sixty of them.
    return Seen(
        code,
        part,
        node["code"]["text"],
        category,
        number,
        _coded(node["valueCodeableConcept"]) if "valueCodeableConcept" in node else "",
        unit,
        unit_text,
        Decimal(limits["low"]["value"]) if "low" in limits else None,
        Decimal(limits["high"]["value"]) if "high" in limits else None,
        Interpretation.UNKNOWN if meaning is None else _MEANINGS[_coded(meaning[0])],
    )


def _coded(concept: Mapping[str, Any]) -> str:
    code: str = concept["coding"][0]["code"]
    return code


def day_of(moment: date | datetime) -> date:
    """Return the day of a moment, as the index has it."""
    return moment.date() if isinstance(moment, datetime) else moment


def _moment(text: str) -> date | datetime:
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


def folded(text: str) -> str:
    """Return a text as searching compares it: without case, accents and further white space."""
    parts = unicodedata.normalize("NFKD", text)
    plain = "".join(each for each in parts if not unicodedata.combining(each))
    return " ".join(plain.casefold().split())


def words_of(text: str) -> tuple[str, ...]:
    """Return the words that somebody looks for; none if there is nothing to look for."""
    return tuple(folded(text).split())


def holds(seen: Glance, words: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Tell whether all words stand in the texts of a record or in names of its values.

    ``names`` are those that the values have here, besides what was signed.
    """
    texts = (
        seen.diagnosis,
        seen.diagnosis_code,
        seen.notes,
        seen.author,
        *(f"{value.name} {value.coded}" for value in seen.values),
        *names,
    )
    hay = folded("\n".join(texts))
    return all(word in hay for word in words)
