"""The form of a mail address, and the field that other forms share."""

from typing import Any

import colander

from medportal.identity.emails import normal_email
from medportal.identity.forms.activation import link_field
from medportal.identity.forms.fields import text_field
from medportal.web.forms import text
from medportal.web.i18n import _


def email_schema() -> colander.Schema:
    """Return the schema with which somebody asks for another address."""
    schema = colander.Schema()
    schema.add(email_field(title=_("New email address"), autocomplete="email"))
    return schema


def confirmation_schema(token: str) -> colander.Schema:
    """Return the schema of the button that confirms an address."""
    schema = colander.Schema()
    schema.add(link_field(token))
    return schema


def email_field(*, title: str = _("Email"), autocomplete: str = "off", **kw: Any) -> Any:
    """Return a field for a mail address; its value is in normal form. ``missing`` if optional."""
    return text_field(
        name="email",
        title=title,
        preparer=_normal,
        validator=_check,
        widget=text(kind="email", width=30, autocomplete=autocomplete, spellcheck=False),
        **kw,
    )


def _normal(typed: Any) -> Any:
    if not isinstance(typed, str):
        return typed
    return (normal_email(typed) or typed) if typed.strip() else colander.null


def _check(node: colander.SchemaNode, value: str) -> None:
    if normal_email(value) is None:
        raise colander.Invalid(
            node,
            _(
                "That is not an email address that we can write to. It looks like "
                "name@example.org, without spaces, accents or quotation marks before the @."
            ),
        )
