"""Series: what was measured more than once, in the order in which it was true (PURE)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal

from medportal.records.content import RecordStatus, is_loinc
from medportal.records.glance import Glance, Seen
from medportal.records.interpret import Interpretation

#: A series of one value is no trend.
LEAST = 2


@dataclass(frozen=True, slots=True)
class Point:
    """One number, when it was true, and in which record it stands.

    ``day`` is in days since the first year, with the time of day as a fraction where it is known.
    """

    day: float
    on: date
    record_id: str
    origin: str
    number: Decimal
    low: Decimal | None
    high: Decimal | None
    meaning: Interpretation


@dataclass(frozen=True, slots=True)
class Line:
    """The points of one measurement, oldest first; ``part`` as in :class:`Seen`."""

    part: str | None
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Everything that was measured of one kind in one unit: one line, of a pressure two.

    ``code`` is its LOINC code, ``name`` the English one that was signed last, ``category``
    FHIR's.
    """

    code: str
    name: str
    category: str
    unit: str
    unit_text: str
    lines: tuple[Line, ...]

    @property
    def key(self) -> str:
        """Return what names this series in an address."""
        return self.code

    @property
    def points(self) -> tuple[Point, ...]:
        """Return the points of the longest line: of a blood pressure, mostly the systolic one."""
        return max(self.lines, key=lambda line: len(line.points)).points


@dataclass(frozen=True, slots=True)
class Source:
    """A record that was opened: what it is called here, where it came from, what it says."""

    record_id: str
    origin: str
    seen: Glance


def is_key(text: str) -> bool:
    """Tell whether a text can name a series."""
    return is_loinc(text)


def series_of(sources: Iterable[Source]) -> list[Series]:
    """Return every repeated measurement, by its first appearance in the records.

    What was taken back says nothing. Values of one kind in two units are two series: nothing
    is converted.
    """
    found: dict[tuple[str, str], dict[str | None, list[tuple[Point, Seen]]]] = {}
    for source in sources:
        if source.seen.status is RecordStatus.ENTERED_IN_ERROR:
            continue
        for value, number in _numbers(source.seen):
            lines = found.setdefault((value.code, value.unit), {})
            lines.setdefault(value.part, []).append((_point(source, value, number), value))
    made = (_series(code, lines) for (code, _unit), lines in found.items())
    # Of a pressure, either of the two may have been measured more often than the other.
    return [one for one in made if any(len(line.points) >= LEAST for line in one.lines)]


def _numbers(seen: Glance) -> Iterator[tuple[Seen, Decimal]]:
    for value in seen.values:
        if value.number is not None:
            yield value, value.number


def _point(source: Source, value: Seen, number: Decimal) -> Point:
    effective = source.seen.effective
    return Point(
        day=_day(effective),
        on=effective.date() if isinstance(effective, datetime) else effective,
        record_id=source.record_id,
        origin=source.origin,
        number=number,
        low=value.low,
        high=value.high,
        meaning=value.meaning,
    )


def _day(moment: date | datetime) -> float:
    if not isinstance(moment, datetime):
        return float(moment.toordinal())
    utc = moment.astimezone(UTC)
    midnight = datetime.combine(utc.date(), time(), UTC)
    return utc.toordinal() + (utc - midnight).total_seconds() / 86_400


def _series(code: str, lines: dict[str | None, list[tuple[Point, Seen]]]) -> Series:
    ordered = {
        part: sorted(points, key=lambda one: (one[0].day, one[0].record_id))
        for part, points in lines.items()
    }
    last = next(iter(ordered.values()))[-1][1]
    return Series(
        code=code,
        name=last.name,
        category=last.category,
        unit=last.unit,
        unit_text=last.unit_text,
        lines=tuple(
            Line(part, points[-1][1].name, tuple(point for point, _seen in points))
            for part, points in ordered.items()
        ),
    )
