"""Forms of complaints: what looks wrong, and the answer."""

from typing import Any

import colander

from medportal.access.complaints import FINDINGS
from medportal.core.reasons import Reason
from medportal.web.forms import area, radios
from medportal.web.i18n import _

LONGEST = 4000
FINDING_WORDS = {
    Reason.JUSTIFIED: _("The access was right"),
    Reason.NOT_JUSTIFIED: _("The access was not right"),
    Reason.FOLLOWED_UP: _("It has to be looked into further, which is being done"),
}


def complaint_schema() -> colander.Schema:
    """Return the schema in which a patient says what looks wrong."""
    schema = colander.Schema()
    schema.add(
        _words_node(
            "text",
            _("What looks wrong to you?"),
            _("The privacy officer reads this, and nobody else who works here."),
        )
    )
    return schema


def answer_schema() -> colander.Schema:
    """Return the schema of an answer: what was found, and words for the patient."""
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="finding",
            title=_("What you found"),
            validator=colander.OneOf([str(finding) for finding in FINDINGS]),
            widget=radios([(str(finding), FINDING_WORDS[finding]) for finding in FINDINGS]),
        )
    )
    schema.add(
        _words_node(
            "answer",
            _("Your answer"),
            _("The patient reads this. Say what happened, why, and what is done now."),
        )
    )
    return schema


def _words_node(name: str, title: Any, description: Any) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=name,
        title=title,
        description=description,
        preparer=_one_kind_of_line_end,
        validator=colander.All(colander.Length(max=LONGEST), _is_legible),
        widget=area(rows=5),
    )


def _one_kind_of_line_end(typed: Any) -> Any:
    return typed.replace("\r\n", "\n").strip() if isinstance(typed, str) else typed


def _is_legible(node: Any, value: str) -> None:
    """Refuse what cannot be read: signs without a shape, or a text made of nothing else."""
    if not all(character.isprintable() or character in "\n\t" for character in value):
        raise colander.Invalid(node, _("Use letters, digits and ordinary signs only."))
    if not any(character.isalnum() for character in value):
        raise colander.Invalid(node, _("Write a few words."))
