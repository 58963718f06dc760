"""The form that signs somebody in."""

import colander

from medportal.identity.forms.fields import next_field, number_field, password_field
from medportal.web.i18n import _


def sign_in_schema(next_path: str) -> colander.Schema:
    """Return the schema of the sign-in form."""
    schema = colander.Schema()
    schema.add(number_field())
    schema.add(password_field("password", _("Password"), "current-password"))
    schema.add(next_field(next_path))
    return schema
