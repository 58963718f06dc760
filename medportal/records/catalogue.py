"""The catalogue of observations: codes, names, units, bounds, ranges (PURE).

:func:`parse` turns the text of ``catalogue.toml`` into frozen values and checks it as a
whole; :func:`load` does so with the file of this package, once per process.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any, cast

from medportal.core.categories import Category, is_sensitive
from medportal.records.content import (
    BloodPressure,
    Coded,
    Observation,
    Quantity,
    RecordKind,
    Sex,
    is_loinc,
)
from medportal.records.errors import CatalogueError, InvalidContent, Problem, UnknownObservation

FORMAT = 1
LANGUAGES = ("en", "pt")
MAX_DECIMALS = 3
# A mark before three digits could group thousands: only where no value is that large is it
# surely a decimal mark.
THOUSAND = Decimal(1000)
ADULT = 18
OLDEST = 200
# What FHIR's observation categories have words for; the others are for whole records.
OBSERVED = (Category.VITAL_SIGNS, Category.LABORATORY)
# The order of the components: how a blood pressure is written.
PRESSURE_PARTS = ("systolic", "diastolic")


class ValueKind(StrEnum):
    """What shape the value of an observation has."""

    QUANTITY = "quantity"
    CODED = "coded"
    BLOOD_PRESSURE = "blood-pressure"


@dataclass(frozen=True, slots=True)
class ReferenceRange:
    """What is usual for people of ``sex`` (``None``: both) aged ``from_age`` to ``to_age``.

    Ages are completed years, both included. A value from ``low`` to ``high``, both
    included, is normal; one below ``critical_low`` or above ``critical_high`` is critical.
    """

    sex: Sex | None
    from_age: int
    to_age: int
    low: Decimal | None
    high: Decimal | None
    critical_low: Decimal | None
    critical_high: Decimal | None

    def covers(self, sex: Sex, age: int) -> bool:
        """Tell whether this range speaks of people of that sex and age."""
        return self.sex in (None, sex) and self.from_age <= age <= self.to_age


@dataclass(frozen=True, slots=True)
class Group:
    """A panel: observations that forms and pages show together."""

    key: str
    category: Category
    names: Mapping[str, str]
    code: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """One observation that may be made.

    ``code`` is its LOINC code, ``also`` further LOINC codes emitted beside it and ``was`` codes
    that it was signed with by mistake, because they mean something else; ``unit`` is UCUM and
    ``unit_text`` what people read; ``plausible`` are bounds, both included, outside which a
    value is refused; ``options`` are the codes of a coded value, of which ``usual`` are as
    expected and ``critical`` ask for a telephone call, and ``components`` the keys of the parts
    of a compound one. ``sensitive`` is the category of a record that holds this, where that must
    be a sensitive one.
    """

    key: str
    code: str
    also: tuple[str, ...]
    group: str
    category: Category
    kind: ValueKind
    names: Mapping[str, str]
    forms: frozenset[RecordKind]
    unit: str
    unit_text: str
    decimals: int
    plausible: tuple[Decimal, Decimal]
    ranges: tuple[ReferenceRange, ...]
    options: tuple[str, ...]
    components: tuple[str, ...]
    usual: tuple[str, ...] = ()
    critical: tuple[str, ...] = ()
    sensitive: Category | None = None
    was: tuple[str, ...] = ()

    def name(self, language: str) -> str:
        """Return the name in a language, in English where it is not spoken here."""
        return self.names.get(language, self.names["en"])


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All definitions, by key and in the order of the file; ``answers`` are words for codes."""

    groups: Mapping[str, Group]
    definitions: Mapping[str, Definition]
    codes: Mapping[str, str]
    answers: Mapping[str, Mapping[str, str]]

    def by_key(self, key: str) -> Definition:
        """Return the definition of that key. Raises ``UnknownObservation``."""
        if key not in self.definitions:
            raise UnknownObservation("no observation of that key")
        return self.definitions[key]

    def by_code(self, code: str) -> Definition:
        """Return the definition of that LOINC code. Raises ``UnknownObservation``."""
        if code not in self.codes:
            raise UnknownObservation("no observation of that code")
        return self.definitions[self.codes[code]]

    def find(self, code: str) -> Definition | None:
        """Return the definition of that LOINC code, or ``None``.

        For showing records of partners, whose catalogue may know more than ours.
        """
        return self.definitions.get(self.codes.get(code, ""))

    def answer(self, code: str, language: str) -> str:
        """Return the words for a coded value; those without any, as ``A+``, are their own."""
        words = self.answers.get(code, {})
        return words.get(language, words.get("en", code))

    def sensitive(self, observation: Observation) -> Category | None:
        """Return the category that a record with this needs: see ``content.ValueRules``."""
        definition = self.find(observation.code)
        return None if definition is None else definition.sensitive

    def category_for(
        self,
        kind: RecordKind,
        observations: tuple[Observation, ...],
        chosen: Category | None = None,
    ) -> Category:
        """Return the category of a record that holds these, ``chosen`` by its author or not.

        What is sensitive makes the whole record so. Raises ``InvalidContent`` for two
        sensitive categories in one record: who may see one need not see the other.
        """
        found = {chosen} if chosen is not None and is_sensitive(chosen) else set()
        found |= {one for one in map(self.sensitive, observations) if one is not None}
        if len(found) > 1:
            raise InvalidContent((Problem("category", "two-categories"),))
        ordinary = Category.LABORATORY if kind is RecordKind.CLINICAL else Category.CLINICAL_NOTE
        return found.pop() if found else ordinary

    def entered_in(self, kind: RecordKind) -> tuple[tuple[Group, tuple[Definition, ...]], ...]:
        """Return the groups and definitions that the entry form of ``kind`` shows."""
        shown = ((group, tuple(self._members(group.key, kind))) for group in self.groups.values())
        return tuple((group, members) for group, members in shown if members)

    def components(self, definition: Definition) -> tuple[Definition, ...]:
        """Return the definitions of the parts of a compound observation."""
        return tuple(self.definitions[key] for key in definition.components)

    def problems(self, observation: Observation) -> tuple[Problem, ...]:
        """Return what makes an observation impossible: see ``content.ValueRules``."""
        definition = self.find(observation.code)
        if definition is None or not definition.forms:
            return (Problem("observations", "unknown-observation"),)
        return tuple(self._value_problems(definition, observation))

    def _members(self, group: str, kind: RecordKind) -> Iterator[Definition]:
        for definition in self.definitions.values():
            if definition.group == group and kind in definition.forms:
                yield definition

    def _value_problems(
        self, definition: Definition, observation: Observation
    ) -> Iterator[Problem]:
        match definition.kind, observation.value:
            case ValueKind.QUANTITY, Quantity(value, unit):
                if unit != definition.unit:
                    yield Problem(definition.key, "wrong-unit", {"unit": definition.unit})
                yield from number_problems(definition.key, definition, value)
            case ValueKind.CODED, Coded(code):
                if code not in definition.options:
                    yield Problem(definition.key, "not-an-option")
            case ValueKind.BLOOD_PRESSURE, BloodPressure() as pressure:
                yield from self._pressure_problems(definition, pressure)
            case _:
                yield Problem(definition.key, "wrong-kind-of-value")

    def _pressure_problems(self, whole: Definition, pressure: BloodPressure) -> Iterator[Problem]:
        values = pressure.systolic, pressure.diastolic
        for part, value in zip(self.components(whole), values, strict=True):
            yield from number_problems(f"{whole.key}.{part.key}", part, value)
        if pressure.diastolic >= pressure.systolic:
            yield Problem(f"{whole.key}.diastolic", "diastolic-not-below-systolic")


def number_problems(field: str, definition: Definition, value: Decimal) -> Iterator[Problem]:
    """Yield what is wrong with a number: too many decimals, or beyond belief."""
    low, high = definition.plausible
    limits = {"low": str(low), "high": str(high), "unit": definition.unit_text}
    if not value.is_finite():
        yield Problem(field, "not-a-number")
        return
    if -cast(int, value.as_tuple().exponent) > definition.decimals:
        yield Problem(field, "too-many-decimals", {"decimals": str(definition.decimals)})
    if not low <= value <= high:
        yield Problem(field, "implausible", limits)


@cache
def load() -> Catalogue:
    """Return the catalogue that comes with medportal. Raises ``CatalogueError``."""
    return parse(files(__package__).joinpath("catalogue.toml").read_text("utf-8"))


def parse(text: str) -> Catalogue:
    """Return the catalogue that a TOML text describes.

    Raises ``CatalogueError`` with every problem found.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(("not TOML",)) from error
    if data.get("format") != FORMAT:
        raise CatalogueError((f"format must be {FORMAT}",))
    return _Reader(data).catalogue()


class _Reader:
    """Takes typed values out of parsed TOML and collects what is wrong on the way."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.problems: list[str] = []

    def catalogue(self) -> Catalogue:
        groups = {group.key: group for group in map(self._group, self._tables("group"))}
        rows = [self._definition(table, groups) for table in self._tables("observation")]
        definitions = {row.key: row for row in rows}
        if len(definitions) != len(rows):
            self.problems.append("two observations have one key")
        codes = {row.code: row.key for row in rows}
        if len(codes) != len(rows):
            self.problems.append("two observations have one code")
        for row in rows:
            self._require(not set(row.was) & set(codes), row, "a code that was wrong is in use")
        for row in rows:
            self._check(row, definitions)
        answers = {
            self._text(table, "code", "answer"): self._names(table, "answer")
            for table in self._tables("answer")
        }
        if self.problems:
            raise CatalogueError(tuple(self.problems))
        return Catalogue(groups, definitions, codes, answers)

    def _tables(self, name: str) -> list[Mapping[str, Any]]:
        tables = self.data.get(name, [])
        if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
            return tables
        self.problems.append(f"{name} must be a list of tables")
        return []

    def _group(self, table: Mapping[str, Any]) -> Group:
        key = self._text(table, "key", "group")
        self._only(table, key, {"key", "category", "names", "loinc"})
        code = table.get("loinc")
        if code is not None and not is_loinc(code):
            self.problems.append(f"{key}: loinc is not a LOINC code")
        return Group(key, self._category(table, key), self._names(table, key), code)

    def _definition(self, table: Mapping[str, Any], groups: Mapping[str, Group]) -> Definition:
        key = self._text(table, "key", "observation")
        self._only(table, key, KNOWN_KEYS)
        group = self._text(table, "group", key)
        if group not in groups:
            self.problems.append(f"{key}: no group of that name")
        return Definition(
            key=key,
            code=self._loinc(table.get("loinc"), key),
            also=tuple(self._loinc(code, key) for code in self._strings(table, "also", key)),
            group=group,
            category=self._category_of(table, key, groups),
            kind=self._kind(table, key),
            names=self._names(table, key),
            forms=self._forms(table, key),
            unit=self._text(table, "unit", key, default=""),
            unit_text=self._text(table, "unit_text", key, default=""),
            decimals=self._integer(table, "decimals", key, 0, MAX_DECIMALS),
            plausible=self._bounds(table, key),
            ranges=tuple(self._range(one, key) for one in table.get("range", [])),
            options=self._strings(table, "options", key),
            components=self._strings(table, "components", key),
            usual=self._strings(table, "usual", key),
            critical=self._strings(table, "critical", key),
            sensitive=self._sensitive(table, key),
            was=tuple(self._loinc(code, key) for code in self._strings(table, "was", key)),
        )

    def _only(self, table: Mapping[str, Any], key: str, known: set[str]) -> None:
        self.problems.extend(f"{key}: unknown key {name}" for name in sorted(set(table) - known))

    def _text(
        self, table: Mapping[str, Any], name: str, key: str, default: str | None = None
    ) -> str:
        value = table.get(name, default)
        if isinstance(value, str) and (value or default is not None):
            return value
        self.problems.append(f"{key}: {name} must be a text")
        return ""

    def _integer(self, table: Mapping[str, Any], name: str, key: str, low: int, high: int) -> int:
        value = table.get(name, low)
        if type(value) is int and low <= value <= high:
            return value
        self.problems.append(f"{key}: {name} must be a whole number from {low} to {high}")
        return low

    def _strings(self, table: Mapping[str, Any], name: str, key: str) -> tuple[str, ...]:
        values = table.get(name, [])
        if isinstance(values, list) and all(isinstance(value, str) for value in values):
            return tuple(values)
        self.problems.append(f"{key}: {name} must be a list of texts")
        return ()

    def _loinc(self, code: object, key: str) -> str:
        if is_loinc(code):
            return str(code)
        self.problems.append(f"{key}: loinc is not a LOINC code")
        return ""

    def _names(self, table: Mapping[str, Any], key: str) -> Mapping[str, str]:
        names = table.get("names")
        if isinstance(names, dict) and set(names) == set(LANGUAGES) and all(names.values()):
            return {language: str(names[language]) for language in LANGUAGES}
        self.problems.append(f"{key}: names must give each of {', '.join(LANGUAGES)}")
        return dict.fromkeys(LANGUAGES, "")

    def _category(self, table: Mapping[str, Any], key: str) -> Category:
        if table.get("category") in OBSERVED:
            return Category(table["category"])
        self.problems.append(f"{key}: category is unknown")
        return Category.LABORATORY

    def _category_of(
        self, table: Mapping[str, Any], key: str, groups: Mapping[str, Group]
    ) -> Category:
        """Return the category of an observation: its own, or else its group's."""
        group = groups.get(str(table.get("group")))
        if "category" in table or group is None:
            return self._category(table, key)
        return group.category

    def _sensitive(self, table: Mapping[str, Any], key: str) -> Category | None:
        value = table.get("sensitive")
        if value is None:
            return None
        if value in set(Category) and is_sensitive(value):
            return Category(value)
        self.problems.append(f"{key}: sensitive must be a sensitive category")
        return None

    def _kind(self, table: Mapping[str, Any], key: str) -> ValueKind:
        if table.get("value") in set(ValueKind):
            return ValueKind(table["value"])
        self.problems.append(f"{key}: value is unknown")
        return ValueKind.QUANTITY

    def _forms(self, table: Mapping[str, Any], key: str) -> frozenset[RecordKind]:
        forms = self._strings(table, "forms", key)
        if set(forms) <= set(RecordKind):
            return frozenset(map(RecordKind, forms))
        self.problems.append(f"{key}: forms has an unknown kind")
        return frozenset()

    def _decimal(self, table: Mapping[str, Any], name: str, key: str) -> Decimal | None:
        value = table.get(name)
        if value is None:
            return None
        try:
            # Only texts: a TOML float has lost its decimals already.
            number = Decimal(value if isinstance(value, str) else "NaN")
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
        self.problems.append(f"{key}: {name} must be a decimal in quotes")
        return None

    def _bounds(self, table: Mapping[str, Any], key: str) -> tuple[Decimal, Decimal]:
        texts = self._strings(table, "plausible", key) or ("0", "0")
        named = dict(zip(("low", "high"), texts, strict=False))
        low, high = (self._decimal(named, name, key) for name in ("low", "high"))
        return low or Decimal(0), high or Decimal(0)

    def _range(self, table: Mapping[str, Any], key: str) -> ReferenceRange:
        self._only(table, f"{key}: range", RANGE_KEYS)
        sex = table.get("sex")
        if sex not in (None, Sex.FEMALE, Sex.MALE):
            self.problems.append(f"{key}: sex must be female or male")
            sex = None
        return ReferenceRange(
            sex=None if sex is None else Sex(sex),
            from_age=self._integer({"from_age": ADULT, **table}, "from_age", key, 0, OLDEST),
            to_age=self._integer({"to_age": OLDEST, **table}, "to_age", key, 0, OLDEST),
            low=self._decimal(table, "low", key),
            high=self._decimal(table, "high", key),
            critical_low=self._decimal(table, "critical_low", key),
            critical_high=self._decimal(table, "critical_high", key),
        )

    def _check(self, row: Definition, definitions: Mapping[str, Definition]) -> None:
        """Note contradictions between the parts of one definition."""
        quantity = row.kind is ValueKind.QUANTITY
        self._require(bool(row.unit) is quantity, row, "unit and a quantity go together")
        self._require((row.plausible[0] < row.plausible[1]) is quantity, row, "plausible bounds")
        coded = row.kind is ValueKind.CODED
        self._require(bool(row.options) is coded, row, "options and a coded value go together")
        judged = set(row.usual) | set(row.critical)
        apart = not set(row.usual) & set(row.critical)
        self._require(judged <= set(row.options) and apart, row, "usual and critical options")
        unmistakable = row.decimals < MAX_DECIMALS or row.plausible[1] < THOUSAND
        self._require(unmistakable, row, "three decimals need bounds below a thousand")
        parts = PRESSURE_PARTS if row.kind is ValueKind.BLOOD_PRESSURE else ()
        self._require(row.components == parts, row, "components")
        missing = [name for name in row.components if name not in definitions]
        self._require(not missing, row, "a component is not defined")
        for one in row.ranges:
            self._require(_in_order(row, one), row, "a range is out of order")
        for first, second in combinations(row.ranges, 2):
            self._require(not _overlap(first, second), row, "two ranges overlap")

    def _require(self, holds: bool, row: Definition, what: str) -> None:
        if not holds:
            self.problems.append(f"{row.key}: {what}")


RANGE_KEYS = {"sex", "from_age", "to_age", "low", "high", "critical_low", "critical_high"}
KNOWN_KEYS = {
    *("key", "loinc", "also", "group", "category", "value", "forms", "names", "unit", "unit_text"),
    *("decimals", "plausible", "range", "options", "components", "usual", "critical", "sensitive"),
    "was",
}


def _in_order(row: Definition, one: ReferenceRange) -> bool:
    low, high = row.plausible
    steps = [low, one.critical_low, one.low, one.high, one.critical_high, high]
    known = [step for step in steps if step is not None]
    judges = one.low is not None or one.high is not None
    return judges and known == sorted(known) and one.from_age <= one.to_age


def _overlap(first: ReferenceRange, second: ReferenceRange) -> bool:
    same_sex = None in (first.sex, second.sex) or first.sex is second.sex
    return same_sex and first.from_age <= second.to_age and second.from_age <= first.to_age
