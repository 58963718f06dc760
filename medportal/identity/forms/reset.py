"""The forms of a forgotten password."""

from typing import Any

import colander

from medportal.identity.forms.activation import code_field, link_field
from medportal.identity.forms.fields import add_new_password, number_field, same_twice, text_field
from medportal.tenancy.tenant import PasswordPolicy
from medportal.web.forms import text
from medportal.web.i18n import _

_LONGEST_CODE = 60


def reset_schema() -> colander.Schema:
    """Return the schema with which somebody asks for a link."""
    schema = colander.Schema()
    schema.add(number_field())
    return schema


def finish_schema(
    policy: PasswordPolicy, token: str, *, has_factor: bool, has_app: bool
) -> colander.Schema:
    """Return the schema with which somebody shows a second half and chooses a password.

    ``has_factor`` tells that it is a second factor's code, ``has_app`` that it may be an app's.
    """
    schema = colander.Schema(validator=same_twice)
    schema.add(link_field(token))
    schema.add(_factor_field(has_app) if has_factor else code_field())
    add_new_password(schema, policy, has_second_factor=has_factor)
    return schema


def _factor_field(has_app: bool) -> Any:
    return text_field(
        name="code",
        title=_("Code") if has_app else _("Recovery code"),
        description=(
            _("The six digits that your app shows now, or one of your recovery codes.")
            if has_app
            else _("One of the codes that you kept on paper, such as ABCD-EFGH-JKMN.")
        ),
        validator=colander.Length(max=_LONGEST_CODE),
        widget=text(autocomplete="one-time-code", spellcheck=False, width=20),
    )
