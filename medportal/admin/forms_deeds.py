"""Forms with which an account is changed: each asks why."""

from collections.abc import Sequence
from typing import Any

import colander

from medportal.admin.words import WHY
from medportal.core.reasons import Reason
from medportal.identity.accounts import LONGEST_NOTE
from medportal.identity.forms.email import email_field
from medportal.web.forms import area, checkbox, hidden, radios
from medportal.web.i18n import _

Choices = Sequence[tuple[str, Any]]


def deed_schema(reasons: Sequence[Reason], *first: Any) -> colander.Schema:
    """Return a schema that asks for a reason and a note, after the fields in ``first``."""
    schema = colander.Schema()
    for node in (*first, _reason_node(reasons), note_node()):
        schema.add(node)
    return schema


def role_node(roles: Choices) -> Any:
    """Return the node of one role; ``roles`` are (id, words)."""
    return colander.SchemaNode(
        colander.String(),
        name="role",
        title=_("Role"),
        validator=colander.OneOf([role for role, _words in roles]),
        widget=radios(roles),
    )


def new_email_node() -> Any:
    """Return the node of the address that somebody gets."""
    return email_field(title=_("New email address"))


def note_node() -> Any:
    """Return the node of what colleagues should know."""
    return colander.SchemaNode(
        colander.String(),
        name="note",
        title=_("Note for colleagues"),
        description=_("What they need to understand this later. Nothing about health."),
        missing="",
        preparer=_one_kind_of_line_end,
        validator=colander.All(colander.Length(max=LONGEST_NOTE), _is_legible),
        widget=area(rows=3),
    )


def checked_schema() -> colander.Schema:
    """Return the schema with which a request is approved: it asks for a look, not only a click.

    ``seen`` says what there was to look at (see ``approvals.seal``).
    """
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(colander.String(), name="seen", title="", missing="", widget=hidden())
    )
    schema.add(
        colander.SchemaNode(
            colander.Boolean(),
            name="checked",
            title=_(
                "I have checked this with the person, or with whoever is responsible for them."
            ),
            missing=False,
            validator=_is_checked,
            widget=checkbox(),
        )
    )
    return schema


def _is_checked(node: Any, value: bool) -> None:
    if not value:
        raise colander.Invalid(node, _("Check it first, then tick the box."))


def _reason_node(reasons: Sequence[Reason]) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name="reason",
        title=_("Reason"),
        validator=colander.OneOf([str(reason) for reason in reasons]),
        widget=radios([(str(reason), WHY[reason]) for reason in reasons]),
    )


def _one_kind_of_line_end(typed: Any) -> Any:
    return typed.replace("\r\n", "\n").strip() if isinstance(typed, str) else typed


def _is_legible(node: Any, value: str) -> None:
    if not all(character.isprintable() or character == "\n" for character in value):
        raise colander.Invalid(node, _("Use letters, digits and ordinary signs only."))
