"""The form that changes a password."""

import colander

from medportal.identity.forms.fields import add_new_password, password_field, same_twice
from medportal.tenancy.tenant import PasswordPolicy
from medportal.web.i18n import _


def password_schema(policy: PasswordPolicy, *, has_second_factor: bool) -> colander.Schema:
    """Return the schema of a password change."""
    schema = colander.Schema(validator=same_twice)
    schema.add(password_field("old", _("Current password"), "current-password"))
    add_new_password(schema, policy, has_second_factor=has_second_factor)
    return schema
