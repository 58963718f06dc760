"""Values out of a parsed tenant file, and the problems found on the way (PURE)."""

import re
from collections.abc import Mapping
from typing import Any

from medportal.tenancy.tenant import LANGUAGES

_LONGEST_NAME = 120


class Reader:
    """Collects problems while values are taken out of a parsed file."""

    def __init__(self, file: str, data: Mapping[str, Any]) -> None:
        self.file = file
        self.data = data
        #: Key and what would be right there.
        self.found: list[tuple[str, str]] = []
        self.seen: set[str] = set()

    def problem(self, key: str, what: str) -> None:
        """Note one problem; the value itself is never repeated, it may be a secret."""
        self.found.append((key, what))

    @property
    def problems(self) -> tuple[str, ...]:
        """Return every problem in words, each once, though it may concern several keys."""
        return tuple(dict.fromkeys(f"{self.file}: {key}: {what}" for key, what in self.found))

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

    def optional(self, key: str, pattern: re.Pattern[str], hint: str) -> str:
        """Return a text that may be absent, then empty."""
        table, name = key.split(".")
        if name not in self.table(table):
            self.seen.add(key)
            return ""
        return self.text(key, pattern, hint)

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number within bounds."""
        table, name = key.split(".")
        self.seen.add(key)
        value = self.table(table).get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.problem(key, f"must be a whole number from {least} to {most}")
        return default

    def flag(self, key: str) -> bool:
        """Return true or false of a key of a table; false where absent."""
        table, name = key.split(".")
        self.seen.add(key)
        value = self.table(table).get(name, False)
        if isinstance(value, bool):
            return value
        self.problem(key, "must be true or false")
        return False

    def names(self, key: str, value: object) -> Mapping[str, str]:
        """Return a text for each language."""
        self.seen |= {f"{key}.{language}" for language in LANGUAGES}
        if isinstance(value, dict) and all(_is_name(value.get(lang)) for lang in LANGUAGES):
            return {lang: value[lang] for lang in LANGUAGES}
        self.problem(
            key,
            f"must give a name in each of {', '.join(LANGUAGES)}: "
            f"one line of at most {_LONGEST_NAME} signs that can be seen",
        )
        return dict.fromkeys(LANGUAGES, "?")

    def strings(self, key: str, pattern: re.Pattern[str], hint: str) -> tuple[str, ...]:
        """Return a list of texts that all fit ``pattern``."""
        self.seen |= {key.split(".")[0], key}
        value: Any = self.data
        for part in key.split("."):
            value = value.get(part, []) if isinstance(value, dict) else []
        if isinstance(value, list) and all(
            isinstance(item, str) and pattern.fullmatch(item) for item in value
        ):
            return tuple(value)
        self.problem(key, hint)
        return ()


def _is_name(value: object) -> bool:
    """Tell whether this can be a name: it stands in titles of pages and in heads of mails."""
    return (
        isinstance(value, str)
        and value.isprintable()
        and bool(value.strip())
        and len(value) <= _LONGEST_NAME
    )
