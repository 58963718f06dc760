"""The forms with which somebody chooses a first password."""

from typing import Any

import colander

from medportal.identity.forms.fields import add_new_password, number_field, same_twice, text_field
from medportal.tenancy.tenant import PasswordPolicy
from medportal.web.forms import hidden, text
from medportal.web.i18n import _

_LONGEST_CODE = 60


def activation_schema(policy: PasswordPolicy) -> colander.Schema:
    """Return the schema for somebody who has a code and no mail address."""
    schema = colander.Schema(validator=same_twice)
    schema.add(number_field())
    schema.add(code_field())
    add_new_password(schema, policy)
    return schema


def linked_activation_schema(policy: PasswordPolicy, token: str) -> colander.Schema:
    """Return the schema for somebody who opened a mailed link: it names whom it is for."""
    schema = colander.Schema(validator=same_twice)
    schema.add(link_field(token))
    schema.add(code_field())
    add_new_password(schema, policy)
    return schema


def code_field() -> Any:
    """Return the field for a code from the desk."""
    return text_field(
        name="code",
        title=_("Code from the desk"),
        description=_(
            "The twelve letters and digits on the paper that you were given, such as "
            "ABCD-EFGH-JKMN."
        ),
        validator=colander.Length(max=_LONGEST_CODE),
        widget=text(autocomplete="one-time-code", spellcheck=False, width=20),
    )


def link_field(token: str) -> Any:
    """Return the hidden field for the token of a link.

    It goes with the form and not in the form's address, which browsers and servers write down.
    """
    return text_field(name="link", missing="", default=token, widget=hidden())
