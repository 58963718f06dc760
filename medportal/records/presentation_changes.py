"""What changed between two versions, as pages show it: in words, with old and new value."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from pyramid.request import Request

from medportal.patients.forms import SEX_WORDS
from medportal.records.catalogue import Catalogue
from medportal.records.changes import Change, How, PartChange, ValueAt, ValueChange
from medportal.records.content import ClinicalRecord
from medportal.records.fhir import Reading
from medportal.records.presentation import CATEGORY_WORDS, Row, rows_of
from medportal.web.i18n import _, format_date, format_datetime, translate

HOW = {
    How.ADDED: ("info", _("Added")),
    How.CHANGED: ("warn", _("Changed")),
    How.REMOVED: ("bad", _("Removed")),
}
NAMES = {
    "category": _("Kind of record"),
    "effective": _("Date"),
    "diagnosis": _("Diagnosis"),
    "diagnosis_code": _("Code of the diagnosis (ICD-10)"),
    "notes": _("Notes"),
    "name": _("Name of the patient"),
    "identifier_scheme": _("Kind of number"),
    "number": _("Number of the patient"),
    "birth_date": _("Date of birth"),
    "sex": _("Sex"),
}


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change: what, how, and the old and the new value, empty where there is none."""

    name: str
    kind: str
    how: str
    before: str
    after: str


def change_rows(
    request: Request, found: Iterable[Change], catalogue: Catalogue, reading: Reading
) -> list[ChangeRow]:
    """Return changes in words; ``reading`` is one of the two versions, whichever."""
    rows: list[ChangeRow] = []
    for change in found:
        match change:
            case PartChange():
                rows.append(_part(request, change))
            case ValueChange():
                rows.append(_value(request, change, catalogue, reading))
    return rows


def _part(request: Request, change: PartChange) -> ChangeRow:
    return _row(
        request,
        translate(request, NAMES[change.part]),
        change.how,
        _words(request, change.part, change.before),
        _words(request, change.part, change.after),
    )


def _row(request: Request, name: str, how: How, before: str, after: str) -> ChangeRow:
    kind, words = HOW[how]
    return ChangeRow(name, kind, translate(request, words), before, after)


def _words(request: Request, part: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return format_datetime(request, value)
    if isinstance(value, date):
        return format_date(request, value)
    if part == "category":
        return translate(request, CATEGORY_WORDS[value])
    return translate(request, SEX_WORDS[value]) if part == "sex" else str(value)


def _value(
    request: Request, change: ValueChange, catalogue: Catalogue, reading: Reading
) -> ChangeRow:
    rows = [_rows(request, at, catalogue, reading) for at in (change.before, change.after)]
    name = (rows[0] or rows[1])[0].name
    if max(map(len, rows)) > 1:
        name = name.partition(": ")[0]
    before, after = (" / ".join(map(_of_value, each)) for each in rows)
    return _row(request, name, change.how, before, after)


def _rows(
    request: Request, at: ValueAt | None, catalogue: Catalogue, reading: Reading
) -> list[Row]:
    if at is None:
        return []
    record: ClinicalRecord = replace(reading.record, observations=(at.observation,))
    return rows_of(request, replace(reading, record=record, shown=(at.shown,)), catalogue)


def _of_value(row: Row) -> str:
    with_unit = f"{row.value} {row.unit}".strip()
    return f"{with_unit} ({row.judgement})" if row.kind not in (None, "ok") else with_unit
