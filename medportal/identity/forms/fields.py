"""Fields that several forms of identity share."""

from collections.abc import Mapping
from typing import Any

import colander
import deform.widget

from medportal.identity.guessing import bits_wanted
from medportal.identity.passwords import MAXIMUM_LENGTH, length_of, minimum_for
from medportal.tenancy.tenant import PasswordPolicy, Tenant
from medportal.web.forms import password, text
from medportal.web.i18n import _


def text_field(**kw: Any) -> Any:
    """Return a node of text."""
    return colander.SchemaNode(colander.String(), **kw)


def number_field() -> Any:
    """Return the field for a citizen card number; the keyboard is that of the scheme here."""
    return text_field(
        name="number",
        title=_("Citizen card number"),
        validator=colander.Length(max=40),
        widget=colander.deferred(_number_widget),
    )


def next_field(next_path: str) -> Any:
    """Return the hidden field that says where to go afterwards."""
    return text_field(
        name="next",
        missing="/",
        default=next_path,
        validator=colander.Length(max=500),
        widget=deform.widget.HiddenWidget(),
    )


def add_new_password(
    schema: colander.Schema, policy: PasswordPolicy, *, has_second_factor: bool = False
) -> None:
    """Add the two fields in which somebody chooses a password, with its strength while typing.

    ``has_second_factor`` says that the account has one, so that a shorter one is enough.
    """
    minimum = minimum_for(policy, has_second_factor)
    new = password_field(
        "new",
        _("New password"),
        "new-password",
        description=_(
            "At least ${minimum} characters. Four or five words that you will remember are good.",
            mapping={"minimum": minimum},
        ),
    )
    new.widget = colander.deferred(
        lambda node, kw: password("new-password", strength=_strength(kw["request"].tenant, minimum))
    )
    schema.add(new)
    schema.add(password_field("again", _("New password, once more"), "new-password"))


def password_field(name: str, title: str, autocomplete: str, **kw: Any) -> Any:
    """Return the field for a password; ``autocomplete`` as browsers know it."""
    return text_field(
        name=name,
        title=title,
        validator=_not_too_long,
        widget=password(autocomplete),
        **kw,
    )


def same_twice(node: colander.SchemaNode, value: dict[str, str]) -> None:
    """Raise ``colander.Invalid`` unless the new password was typed the same twice."""
    if value["new"] != value["again"]:
        error = colander.Invalid(node)
        error["again"] = _("The two new passwords are not the same.")
        raise error


def _number_widget(node: Any, kw: dict[str, Any]) -> Any:
    scheme = kw["request"].tenant.identifiers
    return text(autocomplete="username", numeric=scheme.is_numeric, spellcheck=False, width=20)


def _not_too_long(node: Any, value: str) -> None:
    if length_of(value) > MAXIMUM_LENGTH:
        raise colander.Invalid(node, _("Passwords have at most 256 characters."))


def _strength(tenant: Tenant, minimum: int) -> Mapping[str, str]:
    """Return what the page needs to know to tell how strong a password is (see strength.js)."""
    return {
        "minimum": str(minimum),
        "bits": str(bits_wanted(minimum)),
        "words": " ".join(tenant.names.values()),
    }
