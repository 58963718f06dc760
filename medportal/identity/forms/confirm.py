"""The form in which somebody shows again that it is they."""

from collections.abc import Collection

import colander

from medportal.core.identity import Method
from medportal.identity.forms.fields import next_field, password_field
from medportal.identity.forms.second_factor import second_code_field
from medportal.web.i18n import _


def confirm_schema(next_path: str, factors: Collection[Method]) -> colander.Schema:
    """Return the schema of the page that asks again; ``next_path`` is where to go then.

    Whoever has second ``factors`` gives one of them too: a password that somebody looked up
    over their shoulder must not be enough to change what protects them from that.
    """
    schema = colander.Schema()
    schema.add(password_field("password", _("Your password"), "current-password"))
    if factors:
        schema.add(second_code_field(Method.TOTP in factors))
    schema.add(next_field(next_path))
    return schema
