"""Reading what people type into the entry forms (PURE).

A number may be written as in Portuguese (``5,1``) or as in English (``5.1``), whatever
the language of the page: no value has more than two decimals, so a mark before exactly
three digits can only group thousands, and is refused instead of being guessed at. The few
values with three decimals are all below a thousand; with them the mark can only be a decimal one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeVar

from medportal.core.categories import Category, is_sensitive
from medportal.records.catalogue import (
    MAX_DECIMALS,
    Catalogue,
    Definition,
    Group,
    ValueKind,
    number_problems,
)
from medportal.records.content import (
    MAX_TEXT,
    BloodPressure,
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordKind,
    Value,
    effective_date,
    is_diagnosis_code,
    text_problem,
)
from medportal.records.errors import InvalidContent, Problem

K = TypeVar("K")
T = TypeVar("T")

MAX_TYPED_NUMBER = 20
_NUMBER = re.compile(r"([-\u2212]?)([0-9]+)(?:[.,]([0-9]+))?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:[.,' \u00a0\u202f][0-9]{3})+(?:[.,][0-9]+)?")
_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_DAY_FIRST = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})")
# Minus, plus and comparison signs: what people write when they mean more than a number.
_SIGNED = re.compile(r"[-+<>\u2212\u2264\u2265].*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Field:
    """One input of an entry form.

    ``key`` names the input ("glucose", "blood-pressure.systolic"); ``definition`` gives
    its name, unit, decimals and bounds; ``options`` is empty unless a code is chosen;
    ``part_of`` is the key of the compound observation it belongs to.
    """

    key: str
    definition: Definition
    options: tuple[str, ...]
    part_of: str | None


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """Inputs that stand together under one heading."""

    group: Group
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What was typed, read: ready to become a record once author and ids are known."""

    effective: date
    observations: tuple[Observation, ...]
    diagnosis: str | None
    notes: str | None
    diagnosis_code: str | None = None
    category: Category | None = None


def form_fields(kind: RecordKind, catalogue: Catalogue) -> tuple[FieldGroup, ...]:
    """Return the inputs that the entry form for records of ``kind`` shows, in order."""
    return tuple(
        FieldGroup(group, tuple(field for one in members for field in _fields(one, catalogue)))
        for group, members in catalogue.entered_in(kind)
    )


def text_fields(kind: RecordKind) -> tuple[str, ...]:
    """Return the names of the free texts of the form; only a hospital makes diagnoses."""
    return ("diagnosis", "diagnosis_code", "notes") if kind is RecordKind.MEDICAL else ("notes",)


def parse_entry(kind: RecordKind, typed: Mapping[str, str], catalogue: Catalogue) -> Entry:
    """Return what the whole form says.

    ``typed`` maps the names of inputs ("effective", the texts of :func:`text_fields`, the
    keys of :func:`form_fields`) to what was typed; empty and absent are the same. Raises
    ``InvalidContent`` with every problem of every input, unknown inputs included.
    """
    collector = _Collector()
    effective = collector.read(parse_date, "effective", typed.get("effective", ""))
    texts = {
        name: collector.read(
            parse_code if name == "diagnosis_code" else parse_text, name, typed.get(name, "")
        )
        for name in text_fields(kind)
    }
    category = collector.read(parse_category, "category", typed.get("category", ""))
    fields = [field for group in form_fields(kind, catalogue) for field in group.fields]
    values = {
        field.key: collector.read(parse_field, field, typed.get(field.key, "")) for field in fields
    }
    known = {"effective", "category", *texts, *values}
    collector.problems.extend(Problem("", "unknown-field") for _ in sorted(set(typed) - known))
    if not collector.problems:
        collector.problems.extend(_whole_problems(fields, texts, values))
    if collector.problems or effective is None:
        raise InvalidContent(tuple(collector.problems))
    observations = tuple(_observations(kind, values, catalogue))
    # Told now, while it can be mended: what cannot be in one record raises here.
    catalogue.category_for(kind, observations, category)
    return Entry(
        effective=effective,
        observations=observations,
        diagnosis=texts.get("diagnosis"),
        notes=texts["notes"],
        diagnosis_code=texts.get("diagnosis_code"),
        category=category,
    )


def typed_of_record(record: ClinicalRecord, catalogue: Catalogue) -> dict[str, str]:
    """Return what somebody would type to say what a record says: the keys of :func:`parse_entry`.

    Numbers have a decimal point, and the date is written as ``2026-05-01``. Observations that
    the form for this kind of record does not show are left out. What was signed with a code
    that proved wrong is typed where it belongs, so a new version says it with the right one.
    """
    texts = {name: getattr(record, name) or "" for name in text_fields(record.kind)}
    sensitive = record.category if is_sensitive(record.category) else ""
    typed = {"effective": effective_date(record).isoformat(), "category": sensitive, **texts}
    for _, members in catalogue.entered_in(record.kind):
        for definition in members:
            observation = _said(record, definition)
            if observation is not None:
                keys = [field.key for field in _fields(definition, catalogue)]
                typed.update(zip(keys, _typed(observation.value), strict=True))
    return {key: text for key, text in typed.items() if text}


def not_in_form(record: ClinicalRecord, catalogue: Catalogue) -> tuple[Observation, ...]:
    """Return the observations that the form for this kind of record does not show."""
    shown = {
        code
        for _, members in catalogue.entered_in(record.kind)
        for one in members
        for code in (one.code, *one.was)
    }
    return tuple(one for one in record.observations if one.code not in shown)


def _said(record: ClinicalRecord, definition: Definition) -> Observation | None:
    found = map(record.observation, (definition.code, *definition.was))
    return next((one for one in found if one is not None), None)


def parse_field(field: Field, text: str) -> Decimal | str | None:
    """Return the number or the code that was typed into one input; ``None`` if empty.

    Raises ``InvalidContent`` with one or more problems of that input.
    """
    if not text.strip():
        return None
    if field.definition.kind is ValueKind.CODED:
        return _parse_option(field, text.strip())
    return parse_number(field.key, field.definition, text)


def parse_number(key: str, definition: Definition, text: str) -> Decimal:
    """Return the number typed as ``text``, with the digits that were typed.

    Raises ``InvalidContent``: "not-a-number", "sign-not-allowed" (also for ``<`` and
    ``>``), "grouped-number" for thousands marks, "too-many-decimals" or "implausible".
    """
    text = text.strip()
    match = _NUMBER.fullmatch(text[: MAX_TYPED_NUMBER + 1])
    code = _number_code(definition, text, match is not None)
    if match is None or code is not None:
        raise _invalid(key, code or "not-a-number")
    minus, whole, decimals = match.groups()
    number = Decimal(f"{whole}.{decimals}" if decimals else whole)
    # Nothing below zero is nothing: "-0" would be another encoding of the same number.
    number = -number if minus and number else number
    problems = tuple(number_problems(key, definition, number))
    if problems:
        raise InvalidContent(problems)
    return number


def parse_date(key: str, text: str) -> date:
    """Return the date typed as ``2026-05-01``, ``1/5/2026``, ``01-05-2026`` or ``1.5.2026``.

    Without the browser's date picker people in Portugal and Britain write the day first.
    Raises ``InvalidContent``: "not-a-date", also for an empty text.
    """
    text = text.strip()
    iso, day_first = _ISO_DATE.fullmatch(text), _DAY_FIRST.fullmatch(text)
    parts = iso.groups() if iso else day_first.groups()[::-1] if day_first else ()
    try:
        return date(*map(int, parts))
    except (TypeError, ValueError):
        # Without the cause, whose message may quote what was typed.
        raise _invalid(key, "not-a-date") from None


def parse_text(key: str, text: str) -> str | None:
    """Return a free text with line ends as line feeds; ``None`` if it is empty.

    Raises ``InvalidContent``: "too-long" or "unprintable".
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    code = text_problem(text, MAX_TEXT, lines=True)
    if code in ("too-long", "unprintable"):
        raise _invalid(key, code, {"limit": str(MAX_TEXT)} if code == "too-long" else {})
    return text or None


def parse_code(key: str, text: str) -> str | None:
    """Return an ICD-10 code as it is written, ``I10`` or ``E11.9``; ``None`` if it is empty.

    Small letters, spaces around it and a comma for the point are taken as meant. Raises
    ``InvalidContent``: "not-a-diagnosis-code".
    """
    code = text.strip().upper().replace(",", ".")
    if code and not is_diagnosis_code(code):
        raise _invalid(key, "not-a-diagnosis-code")
    return code or None


def parse_category(key: str, text: str) -> Category | None:
    """Return the sensitive category that somebody chose; ``None`` for none.

    Raises ``InvalidContent``: "not-an-option".
    """
    if not text:
        return None
    if text not in set(Category) or not is_sensitive(text):
        raise _invalid(key, "not-an-option")
    return Category(text)


class _Collector:
    """Runs parsers and keeps their problems, so that a form shows all of them at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def read(self, parse: Callable[[K, str], T], key: K, text: str) -> T | None:
        try:
            return parse(key, text)
        except InvalidContent as invalid:
            self.problems.extend(invalid.problems)
            return None


def _fields(definition: Definition, catalogue: Catalogue) -> Iterator[Field]:
    for part in catalogue.components(definition):
        yield Field(f"{definition.key}.{part.key}", part, (), definition.key)
    if not definition.components:
        yield Field(definition.key, definition, definition.options, None)


def _parse_option(field: Field, text: str) -> str:
    # A minus sign from a word processor is meant as one.
    typed = text.upper().replace("\u2212", "-").replace(" ", "")
    option = next((one for one in field.options if one.upper() == typed), None)
    if option is None:
        raise _invalid(field.key, "not-an-option")
    return option


def _number_code(definition: Definition, text: str, plain: bool) -> str | None:
    """Return what is wrong with a typed number, before its size is looked at.

    ``plain`` tells that it is digits with at most one mark among them and a minus before.
    """
    if len(text) > MAX_TYPED_NUMBER:
        return "not-a-number"
    may_be_negative = plain and definition.plausible[0] < 0
    if _SIGNED.fullmatch(text) and not may_be_negative:
        return "sign-not-allowed"
    three_decimals = plain and definition.decimals == MAX_DECIMALS
    if _GROUPED.fullmatch(text) and not three_decimals:
        return "grouped-number"
    return None if plain else "not-a-number"


def _whole_problems(
    fields: list[Field], texts: Mapping[str, str | None], values: Mapping[str, Decimal | str | None]
) -> Iterator[Problem]:
    """Yield what is wrong with inputs that are right one by one."""
    if not any(value is not None for value in (*texts.values(), *values.values())):
        yield Problem("", "empty-record")
    if texts.get("diagnosis_code") is not None and texts.get("diagnosis") is None:
        yield Problem("diagnosis", "required-with-code")
    for field in fields:
        parts = [values[one.key] for one in fields if one.part_of == field.part_of]
        missing = values[field.key] is None and any(part is not None for part in parts)
        if field.part_of is not None and missing:
            yield Problem(field.key, "required")


def _observations(
    kind: RecordKind, values: Mapping[str, Decimal | str | None], catalogue: Catalogue
) -> Iterator[Observation]:
    for _, members in catalogue.entered_in(kind):
        for definition in members:
            keys = [field.key for field in _fields(definition, catalogue)]
            value = _value(definition, [values[key] for key in keys])
            if value is not None:
                yield Observation(definition.code, value)


def _typed(value: Value) -> tuple[str, ...]:
    match value:
        case BloodPressure(systolic, diastolic):
            return str(systolic), str(diastolic)
        case Quantity(number, _):
            return (str(number),)
        case Coded(code):
            return (code,)


def _value(definition: Definition, read: list[Decimal | str | None]) -> Value | None:
    match read:
        case [Decimal() as systolic, Decimal() as diastolic]:
            return BloodPressure(systolic, diastolic)
        case [Decimal() as number]:
            return Quantity(number, definition.unit)
        case [str() as code]:
            return Coded(code)
        case _:
            return None


def _invalid(key: str, code: str, params: Mapping[str, str] | None = None) -> InvalidContent:
    return InvalidContent((Problem(key, code, params or {}),))
