"""Forms about one's passkeys."""

import unicodedata

import colander

from medportal.identity.forms.fields import text_field
from medportal.identity.passkeys import LONGEST_NAME
from medportal.web.forms import text
from medportal.web.i18n import _


def clean_name(typed: str) -> str:
    """Return a name for a passkey as it is kept: composed, on one line, without what is unseen."""
    composed = unicodedata.normalize("NFC", typed)
    seen = "".join(ch if ch.isprintable() else " " for ch in composed)
    return " ".join(seen.split())


def passkey_name_schema() -> colander.Schema:
    """Return the schema that names a passkey."""
    schema = colander.Schema()
    schema.add(
        text_field(
            name="name",
            title=_("Name"),
            description=_("So that you know it again: the device that it is on, for example."),
            preparer=lambda typed: clean_name(typed) if typed else typed,
            validator=colander.Length(min=1, max=LONGEST_NAME, min_err=_("Enter a name.")),
            widget=text(autocomplete="off", width=30),
        )
    )
    return schema
