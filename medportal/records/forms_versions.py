"""The forms of later versions: amend, take back, move to the right person."""

from typing import Any

import colander

from medportal.core.ids import is_id, new_id
from medportal.records.catalogue import Catalogue
from medportal.records.content import MAX_REASON, RecordKind, RecordStatus, Sex, text_problem
from medportal.records.forms import OTHER_PROBLEM, PROBLEMS, RECORD_ID, record_schema
from medportal.records.store import VERSION
from medportal.web.forms import area, checkbox, hidden, radios
from medportal.web.i18n import _

BASE = "base"
STATUS = "status"
REASON = "change_reason"
#: What the form of a later version asks besides what a record says.
OWN = (BASE, STATUS, REASON)
KINDS = (
    (RecordStatus.CORRECTED.value, _("Something was wrong, and is corrected")),
    (RecordStatus.AMENDED.value, _("It was right, and something is added")),
)


def amend_schema(
    kind: RecordKind,
    catalogue: Catalogue,
    language: str,
    person: tuple[Sex, int],
    version: int,
) -> colander.Schema:
    """Return the schema of the form that makes a later version of a record."""
    schema = record_schema(kind, catalogue, language, "", person)
    del schema[RECORD_ID]
    schema.add(_base_node(version))
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name=STATUS,
            title=_("What do you change?"),
            validator=colander.OneOf([value for value, _words in KINDS]),
            widget=radios(KINDS),
        )
    )
    schema.add(_reason_node(_("Why do you change it?")))
    return schema


def retract_schema(version: int) -> colander.Schema:
    """Return the schema of the form that takes a record back."""
    schema = colander.Schema()
    schema.add(_base_node(version))
    schema.add(_reason_node(_("Why should it not have been?")))
    return schema


def move_schema(patient_id: str, version: int) -> colander.Schema:
    """Return the schema of the form that moves a record to the patient that was found."""
    schema = colander.Schema()
    schema.add(_base_node(version))
    schema.add(_id_node("right", patient_id))
    # Made with the form, so that the same form sent twice is one record.
    schema.add(_id_node(RECORD_ID, new_id()))
    schema.add(
        colander.SchemaNode(
            colander.Boolean(),
            name="compared",
            title=_("I compared both people, and this record belongs to the second."),
            validator=_is_ticked,
            widget=checkbox(),
        )
    )
    return schema


def _base_node(version: int) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=BASE,
        default=str(version),
        validator=colander.Regex(rf"\A{VERSION.pattern}\Z", OTHER_PROBLEM),
        widget=hidden(),
    )


def _id_node(name: str, value: str) -> Any:
    def check(node: Any, typed: str) -> None:
        if not is_id(typed):
            raise colander.Invalid(node, OTHER_PROBLEM)

    return colander.SchemaNode(
        colander.String(), name=name, default=value, validator=check, widget=hidden()
    )


def _reason_node(title: Any) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=REASON,
        title=title,
        description=_("Everybody who reads the record reads this too, the patient among them."),
        preparer=_one_kind_of_line_end,
        validator=_is_reason,
        widget=area(2),
    )


def _one_kind_of_line_end(value: Any) -> Any:
    return value.replace("\r\n", "\n").replace("\r", "\n").strip() if value else value


def _is_reason(node: Any, value: str) -> None:
    code = text_problem(value, MAX_REASON, lines=True)
    if code is not None:
        words = PROBLEMS.get(code, OTHER_PROBLEM)
        limited = words % {"limit": str(MAX_REASON)} if code == "too-long" else words
        raise colander.Invalid(node, limited)


def _is_ticked(node: Any, value: bool) -> None:
    if not value:
        raise colander.Invalid(node, _("Compare both people first, then tick this."))
