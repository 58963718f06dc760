"""The form that asks what to take along."""

from enum import StrEnum
from typing import Any

import colander

from medportal.web.forms import radios
from medportal.web.i18n import LANGUAGES, _


class Format(StrEnum):
    """What kind of file; the value is also how its name ends."""

    PDF = "pdf"
    FHIR = "json"


class Span(StrEnum):
    """How far back."""

    ALL = "all"
    FIVE_YEARS = "5"
    YEAR = "1"


FORMATS = [
    (str(Format.PDF), _("PDF, to print and to read")),
    (str(Format.FHIR), _("FHIR, for the programs of another institution")),
]
SPANS = [
    (str(Span.ALL), _("Everything")),
    (str(Span.FIVE_YEARS), _("The last five years")),
    (str(Span.YEAR), _("The last year")),
]


def export_schema() -> Any:
    """Return the form that asks what to take along of everything."""
    return _schema(("span", _("How much"), SPANS), *_kinds())


def record_schema() -> Any:
    """Return the form that asks as what kind of file one record is taken along."""
    return _schema(*_kinds())


_Question = tuple[str, Any, list[tuple[str, Any]]]


def _kinds() -> tuple[_Question, _Question]:
    return (
        ("format", _("Kind of file"), FORMATS),
        ("language", _("Language of the PDF"), list(LANGUAGES.items())),
    )


def _schema(*questions: _Question) -> Any:
    schema = colander.Schema()
    for name, title, choices in questions:
        schema.add(
            colander.SchemaNode(
                colander.String(),
                name=name,
                title=title,
                validator=colander.OneOf([value for value, _words in choices]),
                widget=radios(choices),
            )
        )
    return schema
