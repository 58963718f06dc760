"""The form of support needs: transport note, diet, allergies."""

import unicodedata
from typing import Any

import colander

from medportal.patients.support import LONGEST, Needs, Noted
from medportal.web.forms import area, hidden
from medportal.web.i18n import _

#: Marks that turn the direction of text: they can make a line read as what it does not say.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def support_schema() -> colander.Schema:
    """Return the schema with which support needs are kept."""
    schema = colander.Schema()
    schema.add(
        _words(
            "transport",
            _("Transport note"),
            _("How to move the patient: bed, wheelchair, on foot, oxygen. Porters see it."),
        )
    )
    schema.add(_words("diet", _("Diet"), _("What the patient may and may not eat and drink.")))
    schema.add(
        _words("allergies", _("Allergies"), _("What the patient is allergic to, and what happens."))
    )
    # The version that was looked at: see ``support.keep``.
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="seen",
            missing="",
            validator=colander.Length(max=32),
            widget=hidden(),
        )
    )
    return schema


def values_of(noted: Noted) -> dict[str, str]:
    """Return what stands in the form before anything is typed."""
    needs = noted.needs
    return {
        "transport": needs.transport,
        "diet": needs.diet,
        "allergies": needs.allergies,
        "seen": noted.version,
    }


def needs_of(values: dict[str, Any]) -> Needs:
    """Return what was typed."""
    return Needs(values["transport"], values["diet"], values["allergies"])


def _words(name: str, title: str, description: str) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=name,
        title=title,
        description=description,
        missing="",
        preparer=_tidy,
        validator=colander.All(
            colander.Length(
                max=LONGEST,
                max_err=_("Write at most ${n} characters.", mapping={"n": LONGEST}),
            ),
            _can_be_read,
        ),
        widget=area(rows=3),
    )


def _tidy(value: Any) -> Any:
    """Return a text in one form: composed, its lines ended alike, nothing around it."""
    if not isinstance(value, str):
        return value
    return "\n".join(unicodedata.normalize("NFC", value).splitlines()).strip()


def _can_be_read(node: Any, value: str) -> None:
    if any(_is_hidden(character) for character in value):
        raise colander.Invalid(node, _("Use letters, digits and ordinary signs only."))


def _is_hidden(character: str) -> bool:
    if character in _TURNING:
        return True
    return character != "\n" and unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn"}
