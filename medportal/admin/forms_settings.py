"""Forms of the institution's settings: one for each part that its file leaves to admins."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import colander

from medportal.admin.settings_words import KEYS
from medportal.tenancy.overlay import LOGO, Value, bounds, tidy, values_of
from medportal.tenancy.tenant import Tenant
from medportal.web import colour
from medportal.web.forms import FileData, checkbox, file, hidden, text
from medportal.web.i18n import _

_WHOLE = re.compile(r"0*([0-9]{1,5})", re.ASCII)
_SHORT_COLOUR = re.compile(r"#([0-9a-f])([0-9a-f])([0-9a-f])")
LONGEST_NAME = 120
LONGEST_LINE = 200


class WholeNumber(colander.SchemaType):  # type: ignore[misc]  # colander has no types
    """A whole number in ASCII digits; spaces around it and zeros before it do not matter."""

    def serialize(self, node: Any, appstruct: Any) -> Any:
        """Return what the field shows."""
        return appstruct if appstruct is colander.null else str(appstruct)

    def deserialize(self, node: Any, cstruct: Any) -> Any:
        """Return the number; raises ``colander.Invalid`` for anything else."""
        typed = cstruct.strip() if isinstance(cstruct, str) else ""
        if not typed:
            return colander.null
        found = _WHOLE.fullmatch(typed)
        if found is None:
            raise colander.Invalid(node, _("Enter a whole number, in digits."))
        return int(found[1])


def settings_schema(part: str, tenant: Tenant, file_tenant: Tenant) -> colander.Schema:
    """Return the form of one part; fields are named as the keys of its table.

    ``version`` comes back as it was sent: which version of the settings somebody looked at.
    """
    schema = _SCHEMAS[part](tenant, file_tenant)
    schema.add(colander.SchemaNode(colander.String(), name="version", widget=hidden()))
    return schema


def fields_of(part: str, tenant: Tenant) -> dict[str, Value]:
    """Return what the fields of a part show at first."""
    return {} if part == LOGO else dict(values_of(tenant)[part])


def suggestion(values: Mapping[str, str]) -> tuple[str, str, float]:
    """Return which of three colours is too faint, the nearest that would do, and its contrast."""
    on_brand = colour.contrast(values["brand"], values["brand_text"])
    if on_brand < colour.TEXT_CONTRAST:
        return "brand_text", colour.readable_on(values["brand"]), on_brand
    return (
        "accent",
        colour.darkened(values["accent"], colour.WHITE),
        colour.contrast(values["accent"], colour.WHITE),
    )


def _names(_tenant: Tenant, _file: Tenant) -> colander.Schema:
    schema = colander.Schema()
    for language in ("en", "pt"):
        schema.add(_line(f"names.{language}", LONGEST_NAME, lang=language))
    return schema


def _colours(_tenant: Tenant, _file: Tenant) -> colander.Schema:
    schema = colander.Schema()
    hints = {
        "brand": _("Six digits or letters from a to f after #, for example #0b4f6c."),
        "brand_text": _("They have to stand out from the ground: black or white usually do."),
        "accent": _("They have to stand out from white."),
    }
    for key, hint in hints.items():
        schema.add(
            colander.SchemaNode(
                colander.String(),
                name=key,
                title=KEYS[f"colours.{key}"],
                description=hint,
                preparer=_as_colour,
                validator=colander.Length(max=7),
                widget=text(width=10, autocomplete="off", spellcheck=False),
            )
        )
    return schema


def _logo(tenant: Tenant, _file: Tenant) -> colander.Schema:
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            FileData(),
            name=LOGO,
            title=_("Picture"),
            description=_(
                "A PNG file of at most 64 KB, 16 to 1024 pixels wide and high. It is shown on "
                "white, as high as two lines of text."
            ),
            missing=None,
            widget=file("image/png"),
        )
    )
    if tenant.logo is not None:
        schema.add(
            _question("remove", _("Remove the picture and show the built-in symbol again"), None)
        )
    return schema


def _contact(_tenant: Tenant, _file: Tenant) -> colander.Schema:
    schema = colander.Schema()
    schema.add(
        _line(
            "contact.phone",
            40,
            kind="tel",
            hint=_("As it is dialled, for example +351 210 000 000."),
        )
    )
    schema.add(
        _line(
            "contact.email",
            LONGEST_LINE,
            kind="email",
            hint=_("One that somebody reads. It stands at the foot of each page and in emails."),
        )
    )
    schema.add(_line("contact.address", LONGEST_LINE))
    for child in schema.children:
        child.missing = ""
    return schema


def _passwords(_tenant: Tenant, file: Tenant) -> colander.Schema:
    return _numbers(file, "passwords", _("characters"))


def _sessions(_tenant: Tenant, file: Tenant) -> colander.Schema:
    return _numbers(file, "sessions", _("minutes"))


def _second_factor(_tenant: Tenant, _file: Tenant) -> colander.Schema:
    schema = colander.Schema()
    schema.add(
        _question(
            "remote_staff",
            KEYS["second_factor.remote_staff"],
            _(
                "Staff who are not in one of the institution's networks see their pages only "
                "after signing in with an app or a passkey as well."
            ),
        )
    )
    return schema


_SCHEMAS: Mapping[str, Callable[[Tenant, Tenant], colander.Schema]] = {
    "names": _names,
    "colours": _colours,
    LOGO: _logo,
    "contact": _contact,
    "passwords": _passwords,
    "sessions": _sessions,
    "second_factor": _second_factor,
}


def _numbers(file_tenant: Tenant, table: str, unit: str) -> colander.Schema:
    schema = colander.Schema()
    limits = bounds(file_tenant)
    for key in values_of(file_tenant)[table]:
        least, most = limits[f"{table}.{key}"]
        schema.add(
            colander.SchemaNode(
                WholeNumber(),
                name=key,
                title=KEYS[f"{table}.{key}"],
                description=_(
                    "From ${least} to ${most}: the institution's file allows nothing less strict.",
                    mapping={"least": least, "most": most},
                ),
                widget=text(numeric=True, unit=unit, width=5, autocomplete="off"),
            )
        )
    return schema


def _line(
    dotted: str, most: int, *, kind: str = "text", hint: str | None = None, lang: str | None = None
) -> Any:
    widget = text(kind=kind, width=30, autocomplete="off", spellcheck=False)
    if lang is not None:
        widget.attributes["lang"] = lang
    return colander.SchemaNode(
        colander.String(),
        name=dotted.split(".")[1],
        title=KEYS[dotted],
        description=hint,
        preparer=lambda value: tidy(value) if isinstance(value, str) else value,
        validator=colander.Length(max=most),
        widget=widget,
    )


def _question(name: str, title: str, hint: str | None) -> Any:
    return colander.SchemaNode(
        colander.Boolean(), name=name, title=title, description=hint, widget=checkbox()
    )


def _as_colour(typed: Any) -> Any:
    """Return a colour as it is written in a file: small letters, six of them, after #."""
    if not isinstance(typed, str):
        return typed
    plain = "#" + typed.strip().lower().removeprefix("#")
    return _SHORT_COLOUR.sub(r"#\1\1\2\2\3\3", plain) if len(plain) == 4 else plain
