"""Forms about second factors: set an app up, give a code at sign-in, remove one."""

import colander

from medportal.identity.forms.fields import next_field, password_field, text_field
from medportal.web.forms import hidden, text
from medportal.web.i18n import _

_LONGEST_CODE = 60
_LONGEST_MARK = 64


def setup_schema(mark: str) -> colander.Schema:
    """Return the schema with which somebody shows that a new app works.

    ``mark`` says which setup the page shows: another tab may have begun one since.
    """
    schema = colander.Schema()
    schema.add(
        text_field(
            name="code",
            title=_("Code from the app"),
            description=_("Six digits, for example 123 456. The app shows new ones all the time."),
            validator=colander.Length(max=_LONGEST_CODE),
            widget=text(autocomplete="one-time-code", numeric=True, spellcheck=False, width=10),
        )
    )
    schema.add(
        text_field(
            name="setup",
            missing="",
            default=mark,
            validator=colander.Length(max=_LONGEST_MARK),
            widget=hidden(),
        )
    )
    return schema


def second_step_schema(next_path: str, has_app: bool) -> colander.Schema:
    """Return the schema of the second step of sign-in: a code from the app or a recovery code."""
    schema = colander.Schema()
    schema.add(second_code_field(has_app))
    schema.add(next_field(next_path))
    return schema


def second_code_field(has_app: bool) -> colander.SchemaNode:
    """Return the field for a code from the app or a recovery code."""
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


def removal_schema() -> colander.Schema:
    """Return the schema with which somebody removes a second factor."""
    schema = colander.Schema()
    schema.add(password_field("password", _("Your password"), "current-password"))
    return schema
