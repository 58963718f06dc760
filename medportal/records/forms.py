"""The entry form of a record, made from the catalogue.

Inputs are texts: what was typed is read by :mod:`medportal.records.entry`, which knows
decimal commas and plausible bounds, and its problems are put beside the inputs.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import colander
from deform.widget import HiddenWidget

from medportal.access.category_words import CATEGORY_WORDS
from medportal.core.categories import Category, is_sensitive
from medportal.core.ids import is_id, new_id
from medportal.records.catalogue import Catalogue, Definition, ReferenceRange
from medportal.records.content import MAX_TEXT, RecordKind, Sex
from medportal.records.entry import Field, form_fields, text_fields
from medportal.records.errors import Problem
from medportal.records.interpret import reference_range
from medportal.web.forms import Form, area, select, text
from medportal.web.i18n import _

TEXTS = {
    "diagnosis": (_("Diagnosis"), 3),
    "notes": (_("Notes"), 4),
}
DIAGNOSIS_CODE = "diagnosis_code"
CATEGORY = "category"
#: What the live marks beside the inputs say; the marks of a saved record say the same.
MARK_WORDS = {
    "low": _("↓ Low"),
    "high": _("↑ High"),
    "critical-low": _("↓↓ Critically low"),
    "critical-high": _("↑↑ Critically high"),
    "implausible": _("Check this value"),
    "abnormal": _("! Not as usual"),
    "critical-abnormal": _("!! Critical"),
}
PROBLEMS = {
    "required": _("Enter a value, or empty the other part too."),
    "required-with-code": _("Write the diagnosis in words too, beside its code."),
    "not-a-diagnosis-code": _("Enter a code of ICD-10, for example I10 or E11.9."),
    "two-categories": _(
        "These results belong into two records: not everybody who may see one kind may see the "
        "other. Enter them one after the other."
    ),
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
#: Of a range, in the order in which ``values.js`` reads them, after the plausible bounds.
LIMITS = ("low", "high", "critical_low", "critical_high")
RECORD_ID = "record_id"
OTHER_PROBLEM = _("Check this value.")


def record_schema(
    kind: RecordKind,
    catalogue: Catalogue,
    language: str,
    today: str,
    person: tuple[Sex, int] | None = None,
) -> colander.Schema:
    """Return the schema of the entry form for records of ``kind``.

    ``person`` is the patient's sex and age: what is usual for them stands beside the inputs, and
    a script marks there what is not. What is signed is judged by the age on the record's date.
    """
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
        if any(field.definition.sensitive for field in group.fields):
            section.description = _(
                "A record with one of these is kept apart, and fewer people may open it."
            )
        for field in group.fields:
            section.add(_node(field, catalogue, language, person))
        schema.add(section)
    for name in text_fields(kind):
        schema.add(_code_node() if name == DIAGNOSIS_CODE else _text_node(name))
    schema.add(_category_node())
    return schema


def _text_node(name: str) -> Any:
    title, rows = TEXTS[name]
    return colander.SchemaNode(
        colander.String(),
        name=name,
        title=title,
        missing="",
        validator=colander.Length(max=MAX_TEXT + 1000),
        widget=area(rows),
    )


def _code_node() -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=DIAGNOSIS_CODE,
        title=_("Code of the diagnosis (ICD-10)"),
        description=_("If you know it, for example I10 or E11.9."),
        missing="",
        validator=colander.Length(max=20),
        widget=text(width=10, spellcheck=False, autocomplete="off"),
    )


def _category_node() -> Any:
    sensitive = [(one.value, CATEGORY_WORDS[one]) for one in Category if is_sensitive(one)]
    return colander.SchemaNode(
        colander.String(),
        name=CATEGORY,
        title=_("Is this sensitive?"),
        description=_("A sensitive record is kept apart, and fewer people may open it."),
        missing="",
        validator=colander.Length(max=40),
        widget=select([("", _("No, or as its results are")), *sensitive]),
    )


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


def values_of(kind: RecordKind, catalogue: Catalogue, typed: Mapping[str, str]) -> dict[str, Any]:
    """Return what was typed as the form of :func:`record_schema` is filled with it.

    The other way round than :func:`typed_of`; see also ``entry.typed_of_record``.
    """
    sections = {
        group.group.key: {_name(field.key): typed.get(field.key, "") for field in group.fields}
        for group in form_fields(kind, catalogue)
    }
    own = ("effective", CATEGORY, *text_fields(kind))
    return {**{name: typed.get(name, "") for name in own}, **sections}


def show_problems(
    form: Form, kind: RecordKind, catalogue: Catalogue, problems: Iterable[Problem]
) -> None:
    """Put problems beside the inputs that they are about."""
    places = {
        field.key: f"{group.group.key}/{_name(field.key)}"
        for group in form_fields(kind, catalogue)
        for field in group.fields
    }
    own = {"effective", CATEGORY, *text_fields(kind)}
    for problem in problems:
        place = places.get(problem.field) or (problem.field if problem.field in own else None)
        form.fail(place, _words(problem))


def _words(problem: Problem) -> Any:
    words = PROBLEMS.get(problem.code, OTHER_PROBLEM)
    return words % dict(problem.params) if problem.params else words


def _node(field: Field, catalogue: Catalogue, language: str, person: tuple[Sex, int] | None) -> Any:
    definition = field.definition
    usual = None if person is None else reference_range(definition, *person)
    if field.options:
        words = [(option, catalogue.answer(option, language)) for option in field.options]
        widget = select([("", ""), *words])
    else:
        # On a phone the keyboard of numbers has no minus.
        decimal = definition.plausible[0] >= 0
        widget = text(decimal=decimal, width=5, unit=_beside(definition, usual, language))
    widget.attributes = {
        **(getattr(widget, "attributes", None) or {}),
        **_marks(definition, usual),
    }
    # Nearly every input of this form is left empty; that each may be need not be said each time.
    widget.says_optional = False
    return colander.SchemaNode(
        colander.String(),
        name=_name(field.key),
        title=definition.name(language),
        missing="",
        validator=colander.Length(max=40),
        widget=widget,
    )


def _beside(definition: Definition, usual: ReferenceRange | None, language: str) -> str:
    """Return what stands after an input: the unit, and what is usual where that is known."""
    low, high = (
        ("", "") if usual is None else (_number(usual.low, language), _number(usual.high, language))
    )
    span = f"{low}–{high}" if low and high else f"≥ {low}" if low else f"≤ {high}" if high else ""
    return f"{definition.unit_text} ({span})".strip() if span else definition.unit_text


def _number(number: Decimal | None, language: str) -> str:
    return "" if number is None else str(number).replace(".", "," if language == "pt" else ".")


def _marks(definition: Definition, usual: ReferenceRange | None) -> dict[str, str]:
    """Return the limits that ``values.js`` goes by, as attributes of an input."""
    if definition.options:
        codes = {"usual": definition.usual, "critical": definition.critical}
        return {f"data-{name}": " ".join(some) for name, some in codes.items() if some}
    limits: list[Decimal | None] = [*definition.plausible]
    limits += [None] * 4 if usual is None else [getattr(usual, name) for name in LIMITS]
    return {"data-limits": " ".join("-" if limit is None else str(limit) for limit in limits)}


def _name(key: str) -> str:
    """Return the name of an input: a dot would read as a part of a path."""
    return key.replace(".", "__")


def _key(name: str) -> str:
    return name.replace("__", ".")
