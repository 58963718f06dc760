"""One institution as its file describes it (PURE).

:func:`parse` checks a whole file at once and reports every problem with its key and what
would be right, so that an operator mends a file in one round.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from medportal.core.errors import ConfigurationError
from medportal.core.permissions import Permission, Reach

LANGUAGES = ("en", "pt")
_SLUG = re.compile(r"[a-z][a-z0-9-]{1,30}")
_ROLE = re.compile(r"[a-z][a-z_]{1,30}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_PORT = r"(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3})"
_ENDPOINT = re.compile(r"[a-z0-9.-]{1,253}:" + _PORT, re.ASCII)
_WARD = re.compile(r"\S.{0,59}")
#: The tables of a tenant file.
_TABLES = frozenset(
    {
        "names",
        "colours",
        "identifiers",
        "database",
        "documents",
        "passwords",
        "sessions",
        "exchange",
    }
)
#: What a role's table may hold.
_ROLE_KEYS = frozenset({"names", "permissions", "clinical", "treating"})


class Kind(StrEnum):
    """What an institution is; it changes words and defaults, never code paths of security."""

    HOSPITAL = "hospital"
    LABORATORY = "laboratory"


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the tenant's catalogue: names by language, permission -> reach.

    ``treating`` roles may be a patient's treating doctor, to whom sensitive categories open.
    """

    id: str
    names: Mapping[str, str]
    grants: Mapping[Permission, Reach]
    clinical: bool = False
    treating: bool = False


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """Passwords: least length in characters, argon2id cost."""

    minimum_length: int = 15
    time_cost: int = 3
    memory_kib: int = 65_536
    parallelism: int = 1


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How long a session lives without use, and at most."""

    idle: timedelta = timedelta(minutes=30)
    absolute: timedelta = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class IdentifierScheme:
    """How people are numbered here: a name for the scheme and its count of digits."""

    scheme: str
    digits: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where partners reach the receiver, and the address it listens on (host:port).

    Empty for an institution that only sends.
    """

    endpoint: str = ""
    listen: str = ""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One institution, frozen."""

    id: str
    kind: Kind
    names: Mapping[str, str]
    hostnames: tuple[str, ...]
    colours: Mapping[str, str]
    default_language: str
    time_zone: str
    demonstration: bool
    identifiers: IdentifierScheme
    database_url: str = field(repr=False)
    documents: str
    roles: Mapping[str, Role]
    passwords: PasswordPolicy
    sessions: SessionPolicy
    exchange: Exchange
    wards: tuple[str, ...]

    def name(self, language: str) -> str:
        """Return the institution's name in a language, or in its own."""
        return self.names.get(language) or self.names[self.default_language]


class _Reader:
    """Collects problems while values are taken out of a parsed file."""

    def __init__(self, file: str, data: Mapping[str, Any]) -> None:
        self.file = file
        self.data = data
        self.problems: list[str] = []
        self.seen: set[str] = set()

    def problem(self, key: str, what: str) -> None:
        """Note one problem; the value itself is never repeated, it may be a secret."""
        self.problems.append(f"{self.file}: {key}: {what}")

    def table(self, key: str) -> Mapping[str, Any]:
        """Return a table, empty where absent or malformed."""
        self.seen.add(key)
        value = self.data.get(key, {})
        if isinstance(value, dict):
            return value
        self.problem(key, "must be a table")
        return {}

    def text(self, key: str, pattern: re.Pattern[str], hint: str, default: str = "") -> str:
        """Return a text that fits ``pattern``; ``hint`` says what would be right."""
        self.seen |= {key.split(".")[0], key}
        value: Any = self.data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None and default:
            return default
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self.problem(key, hint)
        return ""

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number within bounds."""
        table, name = key.split(".")
        self.seen.add(key)
        value = self.table(table).get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.problem(key, f"must be a whole number from {least} to {most}")
        return default

    def names(self, key: str, value: object) -> Mapping[str, str]:
        """Return a text for each language."""
        self.seen |= {f"{key}.{language}" for language in LANGUAGES}
        if isinstance(value, dict) and all(
            isinstance(value.get(lang), str) and value[lang].strip() for lang in LANGUAGES
        ):
            return {lang: value[lang] for lang in LANGUAGES}
        self.problem(key, f"must give a name in each of {', '.join(LANGUAGES)}")
        return dict.fromkeys(LANGUAGES, "?")

    def strings(self, key: str, pattern: re.Pattern[str], hint: str) -> tuple[str, ...]:
        """Return a list of texts that all fit ``pattern``."""
        self.seen.add(key)
        value = self.data.get(key, [])
        if isinstance(value, list) and all(
            isinstance(item, str) and pattern.fullmatch(item) for item in value
        ):
            return tuple(value)
        self.problem(key, hint)
        return ()


def parse(
    file: str,
    data: Mapping[str, Any],
    contrast: Callable[[str, str], float],
) -> Tenant:
    """Return the tenant that ``data`` (a parsed TOML file) describes.

    ``contrast`` gives the WCAG contrast ratio of two colours. Raises
    ``ConfigurationError`` with every problem of the file at once.
    """
    reader = _Reader(file, data)
    tenant = Tenant(
        id=reader.text("id", _SLUG, 'must be a lower-case slug such as "hospital"'),
        kind=_kind(reader),
        names=reader.names("names", reader.table("names")),
        hostnames=_hostnames(reader),
        colours=_colours(reader, contrast),
        default_language=reader.text(
            "default_language", re.compile("|".join(LANGUAGES)), "must be en or pt", "en"
        ),
        time_zone=_time_zone(reader),
        demonstration=_flag(reader, "demonstration"),
        identifiers=IdentifierScheme(
            reader.text("identifiers.scheme", _SLUG, "must name the numbering scheme"),
            reader.integer("identifiers.digits", 8, 4, 20),
        ),
        database_url=_database_url(reader),
        documents=reader.text("documents.store", re.compile("sql"), 'must be "sql"', "sql"),
        roles=_roles(reader),
        passwords=PasswordPolicy(
            reader.integer("passwords.minimum_length", 15, 8, 64),
            reader.integer("passwords.time_cost", 3, 1, 20),
            reader.integer("passwords.memory_kib", 65_536, 8, 4_194_304),
            reader.integer("passwords.parallelism", 1, 1, 16),
        ),
        sessions=SessionPolicy(
            timedelta(minutes=reader.integer("sessions.idle_minutes", 30, 1, 1_440)),
            timedelta(minutes=reader.integer("sessions.absolute_minutes", 720, 5, 10_080)),
        ),
        exchange=_exchange(reader),
        wards=reader.strings("wards", _WARD, "must be a list of names of 1 to 60 characters"),
    )
    for key in sorted(_keys(data) - reader.seen):
        reader.problem(key, "is not a known key")
    if reader.problems:
        # One malformed table is a problem of each of its keys: said once.
        raise ConfigurationError(*dict.fromkeys(reader.problems))
    return tenant


def _keys(data: Mapping[str, Any]) -> set[str]:
    """Return the keys of a file with those of its tables; roles check their own."""
    inner = {
        f"{key}.{name}"
        for key, value in data.items()
        if isinstance(value, dict) and key != "roles"
        for name in value
    }
    # Of a table that is unknown itself, naming the table is enough.
    return set(data) | {key for key in inner if key.split(".")[0] in _TABLES}


def _database_url(reader: _Reader) -> str:
    hint = "must be a sqlite:/// or postgresql:// address"
    url = reader.text("database.url", re.compile(r"(sqlite:////?|postgresql://).+"), hint)
    try:
        # Reading the port looks at it.
        urlsplit(url).port  # noqa: B018
    except ValueError:
        reader.problem("database.url", f"{hint} (write signs of a password as %XX)")
    return url


def _kind(reader: _Reader) -> Kind:
    value = reader.text("kind", re.compile("|".join(Kind)), "must be hospital or laboratory")
    return Kind(value) if value else Kind.HOSPITAL


def _time_zone(reader: _Reader) -> str:
    hint = "must be a time zone such as Europe/Lisbon"
    name = reader.text("time_zone", re.compile(r"[A-Za-z_]+(/[A-Za-z_+-]+)*"), hint, "UTC")
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reader.problem("time_zone", hint)
    return name


def _flag(reader: _Reader, key: str) -> bool:
    reader.seen.add(key)
    value = reader.data.get(key, False)
    if not isinstance(value, bool):
        reader.problem(key, "must be true or false")
        return False
    return value


def _hostnames(reader: _Reader) -> tuple[str, ...]:
    names = reader.strings("hostnames", _HOST, "must be a list of lower-case host names, no port")
    if not names and "hostnames" not in {p.split(": ")[1] for p in reader.problems}:
        reader.problem("hostnames", "must name at least one host")
    return names


def _colours(reader: _Reader, contrast: Callable[[str, str], float]) -> Mapping[str, str]:
    keys = ("brand", "brand_text", "accent")
    colours = {
        key: reader.text(f"colours.{key}", _COLOUR, "must be a colour such as #1a2b3c")
        for key in keys
    }
    if all(colours.values()):
        if contrast(colours["brand"], colours["brand_text"]) < 4.5:
            reader.problem("colours", "brand_text on brand must have a contrast of 4.5 (WCAG AA)")
        if contrast(colours["accent"], "#ffffff") < 4.5:
            reader.problem("colours", "accent on white must have a contrast of 4.5 (WCAG AA)")
    return colours


def _roles(reader: _Reader) -> Mapping[str, Role]:
    roles = {}
    for name, value in reader.table("roles").items():
        key = f"roles.{name}"
        if not _ROLE.fullmatch(name) or not isinstance(value, dict):
            reader.problem(key, "must be a table with a lower-case name")
            continue
        for unknown in sorted(set(value) - _ROLE_KEYS):
            reader.problem(f"{key}.{unknown}", "is not a known key")
        roles[name] = Role(
            id=name,
            names=reader.names(f"{key}.names", value.get("names")),
            grants=_grants(reader, key, value.get("permissions", {})),
            clinical=_role_flag(reader, f"{key}.clinical", value.get("clinical", False)),
            treating=_role_flag(reader, f"{key}.treating", value.get("treating", False)),
        )
    if not roles:
        reader.problem("roles", "must define at least one role")
    return roles


def _role_flag(reader: _Reader, key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    reader.problem(key, "must be true or false")
    return False


def _grants(reader: _Reader, key: str, value: object) -> Mapping[Permission, Reach]:
    if not isinstance(value, dict):
        reader.problem(f"{key}.permissions", "must map permissions to any, assigned or own")
        return {}
    grants = {}
    for name, reach in value.items():
        try:
            grants[Permission(name)] = Reach(reach)
        except ValueError:
            reader.problem(
                f"{key}.permissions.{name}", "must be a known permission with any, assigned or own"
            )
    return grants


def _exchange(reader: _Reader) -> Exchange:
    if not reader.table("exchange"):
        return Exchange()
    hint = "must be host:port"
    return Exchange(
        reader.text("exchange.endpoint", _ENDPOINT, hint),
        reader.text("exchange.listen", _ENDPOINT, hint),
    )
