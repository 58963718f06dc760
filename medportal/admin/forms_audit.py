"""Forms of the audit log: search, export."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from enum import StrEnum
from typing import Any

import colander

from medportal.patients.forms import number_words
from medportal.tenancy.tenant import Tenant
from medportal.web.forms import date_parts, hidden, radios, select, text
from medportal.web.i18n import _

Choices = Sequence[tuple[str, Any]]


class Whom(StrEnum):
    """What a number in the search stands for."""

    PERSON = "person"
    PATIENT = "patient"


class Format(StrEnum):
    """In which form the log is handed out."""

    LINES = "lines"
    FHIR = "fhir"


FORMATS = (
    (
        str(Format.LINES),
        _("The whole log with its signed heads (JSON Lines), to be checked elsewhere"),
    ),
    (str(Format.FHIR), _("The events that fit, as FHIR AuditEvent (a resource a line)")),
)


def search_schema(
    tenant: Tenant, actions: Choices, outcomes: Choices, is_number: Callable[[str], bool]
) -> colander.Schema:
    """Return the schema of the search; ``actions`` and ``outcomes`` are (code, words)."""

    def check_number(node: Any, value: str) -> None:
        if not is_number(value):
            raise colander.Invalid(node, number_words(tenant.identifiers))

    schema = colander.Schema(validator=_check_order)
    nodes = (
        colander.SchemaNode(
            colander.String(),
            name="number",
            title=_("Citizen card number"),
            missing="",
            validator=colander.All(colander.Length(max=40), check_number),
            widget=text(numeric=tenant.identifiers.is_numeric, width=20, autocomplete="off"),
        ),
        colander.SchemaNode(
            colander.String(),
            name="whom",
            title=_("This number is of"),
            default=str(Whom.PERSON),
            missing=str(Whom.PERSON),
            validator=colander.OneOf(list(Whom)),
            widget=radios(
                (
                    (str(Whom.PERSON), _("the person who did something")),
                    (str(Whom.PATIENT), _("the patient whom it was about")),
                )
            ),
        ),
        _choice("action", _("Action"), actions),
        _choice("outcome", _("Outcome"), outcomes),
        _day("since", _("From this day on")),
        _day("until", _("Up to this day, included")),
    )
    for node in nodes:
        schema.add(node)
    return schema


def export_schema(kept: Iterable[str]) -> colander.Schema:
    """Return the schema of the export; ``kept`` are the names of what the search wanted."""
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="format",
            title=_("What to export"),
            validator=colander.OneOf(list(Format)),
            widget=radios(FORMATS),
        )
    )
    for name in kept:
        schema.add(
            colander.SchemaNode(
                colander.String(),
                name=name,
                missing="",
                validator=colander.Length(max=100),
                widget=hidden(),
            )
        )
    return schema


def _choice(name: str, title: Any, values: Choices) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=name,
        title=title,
        missing="",
        validator=colander.OneOf([value for value, _words in values]),
        widget=select([("", _("All")), *values]),
    )


def _day(name: str, title: Any) -> Any:
    return colander.SchemaNode(
        colander.Date(),
        name=name,
        title=title,
        missing=None,
        validator=colander.Range(min=date(2000, 1, 1), max=date(2999, 12, 31)),
        widget=date_parts(),
    )


def _check_order(node: Any, values: dict[str, Any]) -> None:
    if values["since"] and values["until"] and values["since"] > values["until"]:
        problem = colander.Invalid(node)
        problem["until"] = _("This day lies before the first one.")
        raise problem
