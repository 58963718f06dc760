"""Forms of emergency access: the reason for it, and what its review found."""

from collections.abc import Mapping
from typing import Any

import colander

from medportal.access.glass import REASONS
from medportal.access.reviews import FINDINGS
from medportal.core.reasons import Reason
from medportal.web.forms import area, radios
from medportal.web.i18n import _

#: Shorter than this says nothing that a reviewer could check.
LEAST_WORDS = 10
MOST_WORDS = 500

REASON_WORDS: Mapping[Reason, Any] = {
    Reason.EMERGENCY: _("An emergency"),
    Reason.COVERING: _("I stand in for a colleague who looks after the patient"),
    Reason.REFERRAL: _("A colleague asked for my advice about the patient"),
    Reason.SAFETY: _("The patient's safety"),
    Reason.OTHER: _("Another reason"),
}
#: The same, as said of somebody else.
STATED_WORDS: Mapping[Reason, Any] = {
    Reason.EMERGENCY: _("An emergency"),
    Reason.COVERING: _("Standing in for a colleague who looks after the patient"),
    Reason.REFERRAL: _("Asked for advice by a colleague"),
    Reason.SAFETY: _("The patient's safety"),
    Reason.OTHER: _("Another reason"),
}
FINDING_WORDS: Mapping[Reason, Any] = {
    Reason.JUSTIFIED: _("The access was right"),
    Reason.NOT_JUSTIFIED: _("The access was not right"),
    Reason.FOLLOWED_UP: _("It has to be looked into further, which is being done"),
}


def glass_schema() -> colander.Schema:
    """Return the schema with which somebody says why they need emergency access."""
    schema = colander.Schema()
    schema.add(
        _choice_node("reason", _("Why do you need it?"), {r: REASON_WORDS[r] for r in REASONS})
    )
    schema.add(
        _words_node(
            _("What happened?"),
            _(
                "In a sentence or two, for whoever checks this access. The patient does not see "
                "these words, but may ask for them."
            ),
        )
    )
    return schema


def finding_schema() -> colander.Schema:
    """Return the schema with which a review is closed; only what was right needs no words."""
    schema = colander.Schema(validator=_needs_words)
    schema.add(
        _choice_node("finding", _("What did you find?"), {f: FINDING_WORDS[f] for f in FINDINGS})
    )
    schema.add(
        _words_node(
            _("Note for colleagues"),
            _("What was checked, and what follows from it. The patient sees the finding alone."),
            missing="",
        )
    )
    return schema


def _choice_node(name: str, title: str, choices: Mapping[Reason, Any]) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=name,
        title=title,
        validator=colander.OneOf([str(choice) for choice in choices]),
        widget=radios([(str(choice), words) for choice, words in choices.items()]),
    )


def _words_node(title: str, description: str, missing: Any = colander.required) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name="words",
        title=title,
        description=description,
        missing=missing,
        preparer=_one_kind_of_line_end,
        validator=colander.All(
            colander.Length(
                min=LEAST_WORDS,
                max=MOST_WORDS,
                min_err=_("Say a little more, so that it can be understood later."),
            ),
            _is_legible,
        ),
        widget=area(rows=4),
    )


def _one_kind_of_line_end(typed: Any) -> Any:
    return typed.replace("\r\n", "\n").strip() if isinstance(typed, str) else typed


def _is_legible(node: Any, value: str) -> None:
    if not all(sign.isprintable() or sign == "\n" for sign in value):
        raise colander.Invalid(node, _("Use letters, digits and ordinary signs only."))
    if not any(sign.isalpha() for sign in value):
        raise colander.Invalid(node, _("Say it in words."))


def _needs_words(node: Any, values: dict[str, str]) -> None:
    if values["finding"] == Reason.JUSTIFIED or values["words"]:
        return
    problem = colander.Invalid(node)
    problem["words"] = _("Say what was not right, or what is being looked into.")
    raise problem
