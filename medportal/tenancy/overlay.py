"""What admins changed of their institution's file, laid over it (PURE).

The file says with ``editable`` what may be changed on a page. It stays the floor: policies
for passwords, sessions and second factors can be made stricter there, never looser. A change
is read by the same rules as the file, and what does not fit, or does no longer since the file
was changed, is left out key by key: the file counts there.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from medportal.tenancy.logo import LogoRefused, cleaned
from medportal.tenancy.parsing import (
    read_colours,
    read_contact,
    read_passwords,
    read_second_factor,
    read_sessions,
)
from medportal.tenancy.reader import Reader
from medportal.tenancy.tenant import EDITABLE, LANGUAGES, Tenant

Contrast = Callable[[str, str], float]
Value = str | int | bool
#: Table -> key -> value, of what differs from the file.
Changes = Mapping[str, Mapping[str, Value]]

#: The keys of each table that can be edited. ``logo`` is no table: a picture, or none.
KEYS: Mapping[str, tuple[str, ...]] = {
    "names": LANGUAGES,
    "colours": ("brand", "brand_text", "accent"),
    "contact": ("phone", "email", "address"),
    "sessions": ("idle_minutes", "absolute_minutes"),
    "passwords": ("minimum_length", "minimum_with_second_factor"),
    "second_factor": ("remote_staff",),
}
LOGO = "logo"
#: Colours are judged together, by their contrast; of the others each key stands for itself.
_TOGETHER = frozenset({"colours"})
#: Shorter times than these would keep everybody from working, the admin who set them included.
SHORTEST_IDLE = 5
SHORTEST_SESSION = 60
#: A password of this length or more is never "too short" on a page: by asking for longer ones one
#: admin could make every password weak, and so withhold every role.
LONGEST_PASSWORD = 24
_MINUTE = timedelta(minutes=1)

_READERS: Mapping[str, Callable[[Reader, Contrast], Any]] = {
    "names": lambda reader, contrast: reader.names("names", reader.table("names")),
    "colours": read_colours,
    "contact": lambda reader, contrast: read_contact(reader),
    "sessions": lambda reader, contrast: read_sessions(reader),
    "passwords": lambda reader, contrast: read_passwords(reader),
    "second_factor": lambda reader, contrast: read_second_factor(reader),
}


class Why(StrEnum):
    """Why a change does not count."""

    #: The file does not leave this to admins.
    NOT_EDITABLE = "not-editable"
    #: There is no such key.
    UNKNOWN = "unknown"
    #: Not what the file's rules allow there.
    MALFORMED = "malformed"
    #: Signs that do not belong into a name or an address.
    SIGNS = "signs"
    #: Colours that cannot be told apart well enough.
    CONTRAST = "contrast"
    #: Looser than the file, or so strict that nobody could work.
    OUT_OF_BOUNDS = "out-of-bounds"


@dataclass(frozen=True, slots=True)
class Overlaid:
    """An institution with its admins' changes, and the keys of those that do not count."""

    tenant: Tenant
    left_out: Mapping[str, Why] = field(default_factory=dict)


class UnreadableChanges(ValueError):
    """A text that is no JSON object of changes."""


def apply(file: Tenant, changes: Changes, logo: bytes | None, contrast: Contrast) -> Overlaid:
    """Return ``file`` with what fits of ``changes``, and what does not fit and why.

    ``contrast`` gives the WCAG contrast ratio of two colours.
    """
    tenant, left_out = file, dict[str, Why]()
    for table, wanted in changes.items():
        reason = _why_no_table(file, table, wanted)
        if reason is not None:
            left_out[table] = reason
            continue
        value, others = _read_table(file, table, wanted, contrast)
        tenant = replace(tenant, **{table: value})
        left_out |= others
    reason = _why_no_logo(file, logo)
    if reason is not None:
        left_out[LOGO] = reason
    elif logo is not None:
        tenant = replace(tenant, logo=logo)
    return Overlaid(tenant, left_out)


def values_of(tenant: Tenant) -> dict[str, dict[str, Value]]:
    """Return every value that can be edited, as a file has it: table -> key -> value."""
    tables = _tables(tenant)
    return {table: {key: tables[table][key] for key in keys} for table, keys in KEYS.items()}


def difference(file: Tenant, wanted: Changes) -> dict[str, dict[str, Value]]:
    """Return what of ``wanted`` differs from the file; tables without any are left out."""
    own = values_of(file)
    differing = {
        table: {key: value for key, value in values.items() if own[table].get(key) != value}
        for table, values in wanted.items()
    }
    return {table: values for table, values in differing.items() if values}


def changed_keys(before: Changes, after: Changes) -> dict[str, list[str]]:
    """Return the keys, by table, in which two sets of changes differ."""
    found = {
        table: sorted(
            key
            for key in {*before.get(table, {}), *after.get(table, {})}
            if before.get(table, {}).get(key) != after.get(table, {}).get(key)
        )
        for table in EDITABLE
    }
    return {table: keys for table, keys in found.items() if keys}


def bounds(file: Tenant) -> dict[str, tuple[int, int]]:
    """Return the least and the most that each policy may be set to: never looser than the file."""
    idle, absolute = file.sessions.idle // _MINUTE, file.sessions.absolute // _MINUTE
    alone, beside = file.passwords.minimum_length, file.passwords.minimum_with_second_factor
    return {
        "passwords.minimum_length": (alone, max(alone, LONGEST_PASSWORD)),
        "passwords.minimum_with_second_factor": (beside, max(beside, LONGEST_PASSWORD)),
        "sessions.idle_minutes": (min(SHORTEST_IDLE, idle), idle),
        "sessions.absolute_minutes": (min(SHORTEST_SESSION, absolute), absolute),
        "second_factor.remote_staff": (int(file.second_factor.remote_staff), 1),
    }


def tidy(text: str) -> str:
    """Return a text in one form of Unicode, its words parted by single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def is_ordinary(text: str) -> bool:
    """Tell whether a text is tidy and made of Latin letters, digits and usual signs.

    The portal speaks English and Portuguese. A letter of another script that looks the same
    has no business in a name that people trust, nor have invisible signs and angle brackets.
    """
    return text == tidy(text) and all(_is_ordinary(sign) for sign in text)


def dump(changes: Changes) -> str:
    """Return changes as text."""
    return json.dumps(changes, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def load(text: str) -> dict[str, dict[str, Value]]:
    """Return the changes of a text. Raises ``UnreadableChanges``; nothing of it is repeated."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise UnreadableChanges from None
    if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise UnreadableChanges
    return found


def _tables(tenant: Tenant) -> dict[str, dict[str, Value]]:
    return {
        "names": dict(tenant.names),
        "colours": dict(tenant.colours),
        "contact": asdict(tenant.contact),
        "sessions": {
            "idle_minutes": tenant.sessions.idle // _MINUTE,
            "absolute_minutes": tenant.sessions.absolute // _MINUTE,
        },
        "passwords": asdict(tenant.passwords),
        "second_factor": asdict(tenant.second_factor),
    }


def _why_no_table(file: Tenant, table: str, wanted: Mapping[str, Value]) -> Why | None:
    if table not in KEYS:
        return Why.UNKNOWN
    return None if table in file.editable or not wanted else Why.NOT_EDITABLE


def _why_no_logo(file: Tenant, logo: bytes | None) -> Why | None:
    if logo is None:
        return None
    if LOGO not in file.editable:
        return Why.NOT_EDITABLE
    try:
        return None if cleaned(logo) == logo else Why.MALFORMED
    except LogoRefused:
        return Why.MALFORMED


def _read_table(
    file: Tenant, table: str, wanted: Mapping[str, Value], contrast: Contrast
) -> tuple[Any, dict[str, Why]]:
    """Return a table of the tenant with what fits of ``wanted``, and what does not."""
    current, left_out = _tables(file)[table], dict[str, Why]()
    for part in _parts(table, wanted):
        reasons = _why_not(file, table, current, part, contrast)
        if reasons:
            left_out |= reasons
        else:
            current |= part
    return _READERS[table](Reader("", {table: current}), contrast), left_out


def _parts(table: str, wanted: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
    if table in _TOGETHER:
        yield dict(wanted)
    else:
        yield from ({key: value} for key, value in wanted.items())


def _why_not(
    file: Tenant,
    table: str,
    current: Mapping[str, Value],
    part: Mapping[str, Value],
    contrast: Contrast,
) -> dict[str, Why]:
    """Return why a part of a table cannot count, by dotted key; empty if it can."""
    unknown = {f"{table}.{key}": Why.UNKNOWN for key in part if key not in KEYS[table]}
    if unknown:
        return unknown
    reader = Reader("", {table: {**current, **part}})
    _READERS[table](reader, contrast)
    if reader.found:
        return _why_unread(table, part, [key for key, _what in reader.found])
    limits = bounds(file)
    return {
        f"{table}.{key}": reason
        for key, value in part.items()
        if (reason := _why_no_value(f"{table}.{key}", value, limits)) is not None
    }


def _why_unread(table: str, part: Mapping[str, Value], found: list[str]) -> dict[str, Why]:
    if table in _TOGETHER:
        # A problem of the table as a whole is one of contrast; the others name their key.
        return {key: Why.CONTRAST if key == table else Why.MALFORMED for key in found}
    return {f"{table}.{key}": Why.MALFORMED for key in part}


def _why_no_value(key: str, value: Value, limits: Mapping[str, tuple[int, int]]) -> Why | None:
    if key in limits:
        least, most = limits[key]
        return None if least <= int(value) <= most else Why.OUT_OF_BOUNDS
    return None if is_ordinary(str(value)) else Why.SIGNS


def _is_ordinary(sign: str) -> bool:
    if sign.isascii():
        return sign.isprintable() and sign not in "<>"
    category = unicodedata.category(sign)
    is_latin = category[0] == "L" and unicodedata.name(sign, "").startswith("LATIN ")
    # Hyphens and dashes, quotation marks as they are printed, and the "ª" and "º" of "1.º".
    return is_latin or sign in "ªº" or category in {"Pd", "Pi", "Pf"}
