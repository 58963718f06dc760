"""Pictures of trends as SVG: lines, the usual range as a band, marks told apart by shape (PURE).

Presentation attributes and classes only, so that the strictest policy shows it; no word is
put in that was not escaped. Every picture has a title and a description for screen readers, and
a table of the same values stands beside it on the page.

What lies outside its range is told by shape and by its value in words: a triangle that points
up or down, inside a circle where it is critical.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from html import escape
from itertools import groupby

from medportal.records.interpret import Interpretation
from medportal.records.trends import Point

WIDTH, HEIGHT = 720, 340
#: Of the picture for a phone, whose letters are then about as large as those of the page.
PHONE_WIDTH = 340
LEFT, RIGHT, TOP, BOTTOM = 66, 30, 30, 46
#: How far apart labels have to be, as letters of this size are wide.
LETTER, LINE_HEIGHT = 9.5, 16
#: Half the width of a mark.
MARK = 6
MOST_TICKS = 6
SMALL_WIDTH, SMALL_HEIGHT, SMALL_EDGE = 240, 64, 8
UP = frozenset({Interpretation.HIGH, Interpretation.CRITICAL_HIGH})
DOWN = frozenset({Interpretation.LOW, Interpretation.CRITICAL_LOW})
CRITICAL = frozenset(
    {
        Interpretation.CRITICAL_LOW,
        Interpretation.CRITICAL_HIGH,
        Interpretation.CRITICAL_ABNORMAL,
    }
)
#: Steps between ticks, in months; the first that gives few enough of them is taken.
MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600)
#: For less than that many days, ticks stand at days.
DAYS_ALONE = 62


@dataclass(frozen=True, slots=True)
class Words:
    """What a picture says: its name and description, and how numbers and days are written."""

    title: str
    description: str
    number: Callable[[Decimal], str]
    day: Callable[[date], str]
    month: Callable[[date], str]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a picture: its points, oldest first."""

    points: tuple[Point, ...]


#: The middle of a label or mark, the foot of its letters, and half its width.
_Box = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Which days and numbers a picture spans, and where they are drawn."""

    first: float
    last: float
    low: Decimal
    high: Decimal
    left: float
    right: float
    top: float
    bottom: float

    def x(self, day: float) -> float:
        """Return where a day is drawn; a single day stands in the middle."""
        if self.last == self.first:
            return (self.left + self.right) / 2
        share = (day - self.first) / (self.last - self.first)
        return self.left + share * (self.right - self.left)

    def y(self, number: Decimal) -> float:
        """Return where a number is drawn."""
        share = float((number - self.low) / (self.high - self.low))
        return self.bottom - share * (self.bottom - self.top)


def picture(curves: Sequence[Curve], words: Words, name: str, width: int = WIDTH) -> str:
    """Return the picture of one to a few curves with axes, bands and marks.

    ``name`` makes the ids of this picture's title unlike those of others on the page. Raises
    ``ValueError`` without any point.
    """
    ticks = _number_ticks(_span(curves))
    frame = _frame(curves, ticks[0], ticks[-1], (LEFT, width - RIGHT, TOP, HEIGHT - BOTTOM))
    parts = [
        *(one for curve in curves for one in _band(curve, frame)),
        *_number_axis(ticks, frame, words),
        *_day_axis(frame, words),
        *(_line(curve, frame, place) for place, curve in enumerate(curves)),
        *(mark for curve in curves for mark in _marks(curve, frame)),
        *_labels(curves, frame, words),
    ]
    title, described = f"{name}-title", f"{name}-desc"
    return (
        f'<svg class="trend" viewBox="0 0 {width} {HEIGHT}" role="img" focusable="false" '
        f'aria-labelledby="{escape(title)} {escape(described)}">'
        f'<title id="{escape(title)}">{escape(words.title)}</title>'
        f'<desc id="{escape(described)}">{escape(words.description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def small_picture(curves: Sequence[Curve]) -> str:
    """Return the shape of a trend without words, for beside its name and newest value.

    Screen readers pass it by: what it shows stands beside it in words.
    """
    low, high = _span(curves)
    corners = SMALL_EDGE, SMALL_WIDTH - SMALL_EDGE, SMALL_EDGE, SMALL_HEIGHT - SMALL_EDGE
    frame = _frame(curves, low, high, corners)
    parts = [
        *(one for curve in curves for one in _band(curve, frame)),
        *(_line(curve, frame, place) for place, curve in enumerate(curves)),
        *(mark for curve in curves for mark in _small_marks(curve, frame)),
    ]
    return (
        f'<svg class="trend trend--small" viewBox="0 0 {SMALL_WIDTH} {SMALL_HEIGHT}" '
        f'aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )


def _span(curves: Sequence[Curve]) -> tuple[Decimal, Decimal]:
    """Return the lowest and highest number to be drawn: all values, and what is usual."""
    points = [point for curve in curves for point in curve.points]
    if not points:
        raise ValueError("a picture needs a point")
    numbers = [point.number for point in points]
    low, high = min(numbers), max(numbers)
    limits = [limit for point in points for limit in (point.low, point.high) if limit is not None]
    room = (high - low) or abs(high) or Decimal(1)
    # A limit far away would press the values into a line; the band then runs out of the picture.
    near = [limit for limit in limits if low - room * 2 <= limit <= high + room * 2]
    low, high = min([low, *near]), max([high, *near])
    return (low, high) if low < high else (low - room / 2, high + room / 2)


def _frame(
    curves: Sequence[Curve],
    low: Decimal,
    high: Decimal,
    corners: tuple[float, float, float, float],
) -> _Frame:
    days = [point.day for curve in curves for point in curve.points]
    return _Frame(min(days), max(days), low, high, *corners)


def _number_ticks(span: tuple[Decimal, Decimal]) -> list[Decimal]:
    """Return round numbers, evenly apart, the first below and the last above the span."""
    low, high = span
    rough = (high - low) / (MOST_TICKS - 1)
    unit = Decimal(1).scaleb(rough.adjusted())
    step = next(unit * by for by in (1, 2, 5, 10, 20) if unit * by >= rough)
    first, last = (
        (low / step).to_integral_value("ROUND_FLOOR"),
        (high / step).to_integral_value("ROUND_CEILING"),
    )
    exact = min(0, step.normalize().as_tuple().exponent)
    return [
        ((first + place) * step).quantize(Decimal(1).scaleb(int(exact)))
        for place in range(int(last - first) + 1)
    ]


def _number_axis(ticks: Sequence[Decimal], frame: _Frame, words: Words) -> Iterator[str]:
    for tick in ticks:
        y = frame.y(tick)
        yield (
            f'<path class="trend__grid" d="M{_at(frame.left)} {_at(y)}H{_at(frame.right)}" '
            'stroke="currentColor" stroke-opacity="0.2" fill="none"/>'
        )
        yield _text(frame.left - 10, y + 5, words.number(tick), anchor="end")


def _day_axis(frame: _Frame, words: Words) -> Iterator[str]:
    baseline = frame.bottom + 6
    end = -LETTER
    for day, label in _day_ticks(frame, words):
        x = frame.x(day)
        # Half a label stands on either side of its tick, and none runs out of the picture.
        half = len(label) * LETTER / 2
        x_text = min(max(x, half + 2), frame.right + RIGHT - half - 2)
        yield (
            f'<path class="trend__grid" d="M{_at(x)} {_at(frame.bottom)}V{_at(baseline)}" '
            'stroke="currentColor" stroke-opacity="0.5" fill="none"/>'
        )
        if x_text - half > end + LETTER:
            yield _text(x_text, baseline + 20, label, anchor="middle")
            end = x_text + half


def _day_ticks(frame: _Frame, words: Words) -> list[tuple[float, str]]:
    """Return days to write below the picture: firsts of months, or days where there are few."""
    first, last = date.fromordinal(int(frame.first)), date.fromordinal(int(frame.last))
    days = (last - first).days
    if days <= DAYS_ALONE:
        step = max(1, -(-days // (MOST_TICKS - 2)))
        found = [first + timedelta(days=place) for place in range(0, days + 1, step)]
        return [(float(max(day.toordinal(), frame.first)), words.day(day)) for day in found]
    months = (last.year - first.year) * 12 + last.month - first.month
    step = next((each for each in MONTHS if months // each < MOST_TICKS), MONTHS[-1])
    begin = first.year * 12 + first.month - 1
    # Twelve is the first month that a date can have: a partner may sign any year.
    counts = range(max(12, begin - begin % step), begin + months + 1, step)
    starts = [date(count // 12, count % 12 + 1, 1) for count in counts]
    return [(float(one.toordinal()), words.month(one)) for one in starts if one >= first]


def _band(curve: Curve, frame: _Frame) -> Iterator[str]:
    """Yield the usual range: it belongs to each value, and changes half way between two."""
    points = curve.points
    for (low, high), group in groupby(enumerate(points), lambda one: (one[1].low, one[1].high)):
        if low is None and high is None:
            continue
        places = [place for place, _point in group]
        first, last = places[0], places[-1]
        left = _between(points[first - 1], points[first], frame) if first else frame.left
        at_end = last == len(points) - 1
        right = frame.right if at_end else _between(points[last], points[last + 1], frame)
        top = frame.top if high is None else _within(frame.y(high), frame)
        bottom = frame.bottom if low is None else _within(frame.y(low), frame)
        yield (
            f'<rect class="trend__band" x="{_at(left)}" y="{_at(top)}" '
            f'width="{_at(right - left)}" height="{_at(max(0.0, bottom - top))}" '
            'fill="#0b6b3a" fill-opacity="0.12"/>'
        )


def _between(one: Point, other: Point, frame: _Frame) -> float:
    return (frame.x(one.day) + frame.x(other.day)) / 2


def _within(y: float, frame: _Frame) -> float:
    return min(max(y, frame.top), frame.bottom)


def _line(curve: Curve, frame: _Frame, place: int) -> str:
    path = "L".join(f"{_at(frame.x(p.day))} {_at(frame.y(p.number))}" for p in curve.points)
    # A second curve is dashed: two are told apart without colour.
    dashes = ' stroke-dasharray="7 5"' if place else ""
    return (
        f'<path class="trend__line" d="M{path}" fill="none" stroke="currentColor" '
        f'stroke-width="2" stroke-linejoin="round"{dashes}/>'
    )


def _marks(curve: Curve, frame: _Frame) -> Iterator[str]:
    for point in curve.points:
        yield _mark(point, frame.x(point.day), frame.y(point.number))


def _small_marks(curve: Curve, frame: _Frame) -> Iterator[str]:
    """Yield what is outside its range, and the newest point."""
    for point in curve.points:
        if point.meaning in UP | DOWN or point is curve.points[-1]:
            yield _mark(point, frame.x(point.day), frame.y(point.number))


def _mark(point: Point, x: float, y: float) -> str:
    if point.meaning not in UP | DOWN:
        return (
            f'<circle class="trend__mark" cx="{_at(x)}" cy="{_at(y)}" r="4" fill="currentColor"/>'
        )
    up = -1 if point.meaning in UP else 1
    corners = f"M{_at(x)} {_at(y + up * 7)}L{_at(x + 7)} {_at(y - up * 5)}H{_at(x - 7)}Z"
    kind = "bad" if point.meaning in CRITICAL else "warn"
    ring = (
        f'<circle class="trend__ring" cx="{_at(x)}" cy="{_at(y)}" r="11" fill="none" '
        'stroke="#a3171f" stroke-width="2"/>'
        if point.meaning in CRITICAL
        else ""
    )
    colour = "#a3171f" if kind == "bad" else "#7a4b00"
    return f'{ring}<path class="trend__mark trend__mark--{kind}" d="{corners}" fill="{colour}"/>'


def _labels(curves: Sequence[Curve], frame: _Frame, words: Words) -> Iterator[str]:
    """Yield the value beside every mark outside its range and beside the newest, if it has room.

    The newest and the critical ones come first: what finds no room stands in the table.
    """
    marks = [(frame.x(p.day), frame.y(p.number), MARK) for c in curves for p in c.points]
    taken: list[_Box] = []
    asked = [
        (point is not curve.points[-1], point.meaning not in CRITICAL, -point.day, point)
        for curve in curves
        for point in curve.points
        if point.meaning in UP | DOWN or point is curve.points[-1]
    ]
    for *_order, point in sorted(asked, key=lambda one: one[:3]):
        label = words.number(point.number)
        half = len(label) * LETTER / 2
        x = min(max(frame.x(point.day), frame.left + half), frame.right + RIGHT - half - 2)
        own = frame.x(point.day), frame.y(point.number)
        boxes = [*taken, *((mx, my + 5, size) for mx, my, size in marks if (mx, my) != own)]
        free = [y for y in _heights(point, own[1], frame) if _is_free((x, y, half), boxes)]
        if free:
            taken.append((x, free[0], half))
            yield _text(x, free[0], label, anchor="middle", css="trend__value")


def _heights(point: Point, y: float, frame: _Frame) -> list[float]:
    """Return where the label of a mark at ``y`` may stand: where it points, or else opposite."""
    above, below = y - 15, y + 26
    wanted = [below, above] if point.meaning in DOWN else [above, below]
    return [each for each in wanted if 14 < each < frame.bottom]


def _is_free(box: _Box, others: Sequence[_Box]) -> bool:
    x, y, half = box
    return all(abs(x - ox) > half + oh + 4 or abs(y - oy) > LINE_HEIGHT for ox, oy, oh in others)


def _text(x: float, y: float, words: str, *, anchor: str, css: str = "trend__label") -> str:
    return (
        f'<text class="{css}" x="{_at(x)}" y="{_at(y)}" text-anchor="{anchor}" '
        f'fill="currentColor" font-size="15">{escape(words)}</text>'
    )


def _at(number: float) -> str:
    """Return a coordinate, exact to a tenth of a unit."""
    return f"{number:.1f}".removesuffix(".0")
