"""Forms of erasure: whose, why, and what the second person confirms."""

from typing import Any

import colander

from medportal.core.reasons import Reason
from medportal.erasure.service import REASONS
from medportal.web.forms import checkbox, radios
from medportal.web.i18n import _

REASON_WORDS = {
    Reason.PERSON_ASKED: _("The patient asked for it"),
    Reason.EXPIRED: _("The time for which the records must be kept is over"),
    Reason.WRONG_DATA: _("The data should never have been here"),
}


def ask_schema(gets_mail: bool) -> colander.Schema:
    """Return the schema with which an erasure is asked for; where no mail goes, paper did."""
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="reason",
            title=_("Why"),
            validator=colander.OneOf([str(reason) for reason in REASONS]),
            widget=radios([(str(reason), REASON_WORDS[reason]) for reason in REASONS]),
        )
    )
    if not gets_mail:
        words = _(
            "I have told the patient in writing that the records are to be erased, and how to take "
            "them along before."
        )
        schema.add(_sure_node(words, "on_paper"))
    schema.add(
        _sure_node(
            _("I have checked that this is the right patient, and that nothing stands against it.")
        )
    )
    return schema


def agree_schema() -> colander.Schema:
    """Return the schema with which the second person agrees: a look, not only a click."""
    schema = colander.Schema()
    schema.add(
        _sure_node(
            _(
                "I have checked the reason, and that the patient could take the records along. I "
                "know that nobody can bring them back."
            )
        )
    )
    return schema


def _sure_node(title: Any, name: str = "checked") -> Any:
    return colander.SchemaNode(
        colander.Boolean(),
        name=name,
        title=title,
        missing=False,
        widget=checkbox(),
        validator=_is_ticked,
    )


def _is_ticked(node: Any, value: bool) -> None:
    if not value:
        raise colander.Invalid(node, _("Tick this once you have checked it."))
