"""Forms of identity: sign in, activate, change the password."""

from typing import Any

import colander
import deform.widget

from medportal.tenancy.tenant import PasswordPolicy
from medportal.web.forms import password, text
from medportal.web.i18n import _

MAX_PASSWORD_INPUT = 256


def _text(**kw: Any) -> Any:
    return colander.SchemaNode(colander.String(), **kw)


def sign_in_schema(next_path: str) -> colander.Schema:
    """Return the schema of the sign-in form."""
    schema = colander.Schema()
    schema.add(
        _text(
            name="number",
            title=_("Citizen card number"),
            validator=colander.Length(max=40),
            widget=text(autocomplete="username", numeric=True, width=20),
        )
    )
    schema.add(_password("password", _("Password"), "current-password"))
    schema.add(
        _text(
            name="next",
            missing="/",
            default=next_path,
            validator=colander.Length(max=500),
            widget=deform.widget.HiddenWidget(),
        )
    )
    return schema


def activation_schema(policy: PasswordPolicy) -> colander.Schema:
    """Return the schema with which somebody chooses a first password."""
    schema = colander.Schema(validator=_same_twice)
    schema.add(
        _text(
            name="number",
            title=_("Citizen card number"),
            validator=colander.Length(max=40),
            widget=text(autocomplete="username", numeric=True, width=20),
        )
    )
    schema.add(
        _text(
            name="code",
            title=_("Activation code"),
            description=_("The twelve letters and digits on the paper that you were given."),
            validator=colander.Length(max=40),
            widget=text(autocomplete="one-time-code", spellcheck=False, width=20),
        )
    )
    _new_password_fields(schema, policy)
    return schema


def password_schema(policy: PasswordPolicy) -> colander.Schema:
    """Return the schema of a password change."""
    schema = colander.Schema(validator=_same_twice)
    schema.add(_password("old", _("Current password"), "current-password"))
    _new_password_fields(schema, policy)
    return schema


def _new_password_fields(schema: colander.Schema, policy: PasswordPolicy) -> None:
    schema.add(
        _password(
            "new",
            _("New password"),
            "new-password",
            description=_(
                "At least ${minimum} characters. Four or five words that you will remember are "
                "good.",
                mapping={"minimum": policy.minimum_length},
            ),
        )
    )
    schema.add(_password("again", _("New password, once more"), "new-password"))


def _password(name: str, title: str, autocomplete: str, **kw: Any) -> Any:
    return _text(
        name=name,
        title=title,
        validator=colander.Length(max=MAX_PASSWORD_INPUT),
        widget=password(autocomplete),
        **kw,
    )


def _same_twice(node: colander.SchemaNode, value: dict[str, str]) -> None:
    if value["new"] != value["again"]:
        error = colander.Invalid(node)
        error["again"] = _("The two new passwords are not the same.")
        raise error
