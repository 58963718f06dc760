"""The entry form of a record, made from the catalogue.

Inputs are texts: what was typed is read by :mod:`medportal.records.entry`, which knows
decimal commas and plausible bounds, and its problems are put beside the inputs.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import colander
from deform.widget import HiddenWidget

from medportal.core.ids import is_id, new_id
from medportal.records.catalogue import Catalogue
from medportal.records.content import MAX_TEXT, RecordKind
from medportal.records.entry import Field, form_fields, text_fields
from medportal.records.errors import Problem
from medportal.web.forms import Form, area, select, text
from medportal.web.i18n import _

TEXTS = {
    "diagnosis": (_("Diagnosis"), 3),
    "notes": (_("Notes"), 4),
}
PROBLEMS = {
    "required": _("Enter a value, or empty the other part too."),
    "not-a-date": _("Enter a date, for example 31/12/2026."),
    "not-a-number": _("Enter a number, for example 5.1 or 5,1."),
    "sign-not-allowed": _("Enter a number without a sign before it."),
    "grouped-number": _("Write the number without a mark between the thousands."),
    "too-many-decimals": _("Use at most ${decimals} decimals."),
    "implausible": _("Check this value: possible are ${low} to ${high} ${unit}."),
    "diastolic-not-below-systolic": _("The diastolic value has to be below the systolic one."),
    "not-an-option": _("Choose one of the list."),
    "too-long": _("Shorten this to at most ${limit} characters."),
    "unprintable": _("This holds signs that cannot be printed. Type it again."),
    "empty-record": _("Enter at least one value or text."),
    "in-the-future": _("The date is in the future."),
    "before-birth": _("The date is before the patient was born."),
    "too-early": _("Check the year of the date."),
}
RECORD_ID = "record_id"
OTHER_PROBLEM = _("Check this value.")


def record_schema(
    kind: RecordKind, catalogue: Catalogue, language: str, today: str
) -> colander.Schema:
    """Return the schema of the entry form for records of ``kind``."""
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="effective",
            title=_("Date of the observations"),
            description=_("Day, month and year, for example 31/12/2026."),
            default=today,
            validator=colander.Length(max=20),
            widget=text(numeric=False, width=10),
        )
    )
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name=RECORD_ID,
            # Made with the form, so that the same form sent twice is one record.
            default=new_id(),
            validator=_is_record_id,
            widget=HiddenWidget(),
        )
    )
    for group in form_fields(kind, catalogue):
        section = colander.Schema(name=group.group.key, title=group.group.names[language])
        for field in group.fields:
            section.add(_node(field, language))
        schema.add(section)
    for name in text_fields(kind):
        title, rows = TEXTS[name]
        schema.add(
            colander.SchemaNode(
                colander.String(),
                name=name,
                title=title,
                missing="",
                validator=colander.Length(max=MAX_TEXT + 1000),
                widget=area(rows),
            )
        )
    return schema


def _is_record_id(node: Any, value: str) -> None:
    if not is_id(value):
        raise colander.Invalid(node, OTHER_PROBLEM)


def typed_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what was typed, by the keys that :func:`entry.parse_entry` takes."""
    typed: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            typed.update({_key(inner): text for inner, text in value.items() if text})
        elif value and name != RECORD_ID:
            typed[name] = value
    return typed


def show_problems(
    form: Form, kind: RecordKind, catalogue: Catalogue, problems: Iterable[Problem]
) -> None:
    """Put problems beside the inputs that they are about."""
    places = {
        field.key: f"{group.group.key}/{_name(field.key)}"
        for group in form_fields(kind, catalogue)
        for field in group.fields
    }
    own = {"effective", *text_fields(kind)}
    for problem in problems:
        place = places.get(problem.field) or (problem.field if problem.field in own else None)
        form.fail(place, _words(problem))


def _words(problem: Problem) -> Any:
    words = PROBLEMS.get(problem.code, OTHER_PROBLEM)
    return words % dict(problem.params) if problem.params else words


def _node(field: Field, language: str) -> Any:
    definition = field.definition
    if field.options:
        widget = select([("", ""), *((option, option) for option in field.options)])
    else:
        widget = text(decimal=True, width=5, unit=definition.unit_text)
    return colander.SchemaNode(
        colander.String(),
        name=_name(field.key),
        title=definition.name(language),
        missing="",
        validator=colander.Length(max=40),
        widget=widget,
    )


def _name(key: str) -> str:
    """Return the name of an input: a dot would read as a part of a path."""
    return key.replace(".", "__")


def _key(name: str) -> str:
    return name.replace("__", ".")
