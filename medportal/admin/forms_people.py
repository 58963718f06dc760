"""Forms about people: search, find, register."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import colander

from medportal.admin.forms_deeds import note_node
from medportal.identity.directory import Standing
from medportal.identity.forms.email import email_field
from medportal.patients.forms import (
    birth_date_node,
    language_node,
    name_node,
    number_node,
    optional_node,
    sex_node,
)
from medportal.tenancy.tenant import Tenant
from medportal.web.forms import checkboxes, select, text
from medportal.web.i18n import _

STANDING_WORDS = {
    Standing.ACTIVE: _("Active"),
    Standing.SUSPENDED: _("Suspended"),
    Standing.HELD: _("Held for review after a restore"),
    Standing.NOT_ACTIVATED: _("Not activated yet"),
    Standing.WITHOUT_SECOND_FACTOR: _("Without a second proof"),
}
LONGEST_SEARCH = 100
Choices = Sequence[tuple[str, Any]]


def search_schema(roles: Choices) -> colander.Schema:
    """Return the schema with which people are searched; ``roles`` are (id, words)."""
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="name",
            title=_("Name"),
            description=_("How the name, or one of its words, begins."),
            missing="",
            validator=colander.Length(max=LONGEST_SEARCH),
            widget=text(width=20, autocomplete="off", spellcheck=False),
        )
    )
    schema.add(_choice("role", _("Role"), _("All roles"), roles))
    standings = [(str(standing), words) for standing, words in STANDING_WORDS.items()]
    schema.add(_choice("standing", _("State"), _("All"), standings))
    return schema


def registration_schema(
    tenant: Tenant,
    today: date,
    roles: Choices,
    is_number: Callable[[str], bool],
    is_name: Callable[[str], bool],
) -> colander.Schema:
    """Return the schema with which staff are registered; ``roles`` are (id, words)."""
    schema = colander.Schema()
    for node in (
        number_node(tenant, is_number),
        name_node(is_name),
        birth_date_node(today),
        sex_node(),
        email_field(missing=""),
        optional_node("phone", _("Phone"), 40, kind="tel"),
        optional_node("city", _("City"), 100),
        language_node(tenant),
        _roles(roles),
        note_node(),
    ):
        schema.add(node)
    return schema


def _roles(roles: Choices) -> Any:
    return colander.SchemaNode(
        colander.Set(),
        name="roles",
        title=_("Roles"),
        validator=colander.All(
            colander.Length(min=1, min_err=_("Choose at least one role.")),
            colander.ContainsOnly([role for role, _words in roles]),
        ),
        widget=checkboxes(roles),
    )


def _choice(name: str, title: Any, everything: Any, values: Choices) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=name,
        title=title,
        missing="",
        validator=colander.OneOf([value for value, _words in values]),
        widget=select([("", everything), *values]),
    )
