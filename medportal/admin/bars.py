"""What was carried over time, as SVG: bars up for sent, down for received (PURE).

Presentation attributes and classes only, so that the strictest policy shows it; no word is put
in that was not escaped. What was refused is an outline at the end of its bar: told by shape, not
by colour alone. Every picture has a title and a description, and stands beside a table of the
same numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 260
#: Of the picture for a phone, whose letters are then about as large as those of the page.
PHONE_WIDTH = 340
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 16, 34
#: How much of a column's room its bar takes.
SHARE = 0.7
#: How wide a letter is, about.
LETTER = 9.0
LEAST = 2.0
"""No bar is lower than this: one transfer among thousands still shows."""


@dataclass(frozen=True, slots=True)
class Column:
    """What was carried in one hour or on one day; ``label`` is what stands below it."""

    label: str
    sent: int
    sent_refused: int
    received: int
    received_refused: int

    @property
    def up(self) -> int:
        """Return how many were sent, whatever came of them."""
        return self.sent + self.sent_refused

    @property
    def down(self) -> int:
        """Return how many were received, whatever came of them."""
        return self.received + self.received_refused


@dataclass(frozen=True, slots=True)
class Words:
    """What a picture says: its name and description, and how numbers are written."""

    title: str
    description: str
    number: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where columns stand, and how high one transfer is."""

    width: int
    columns: int
    up: int
    down: int

    @property
    def step(self) -> float:
        return (self.width - LEFT - RIGHT) / self.columns

    @property
    def unit(self) -> float:
        return (HEIGHT - TOP - BOTTOM) / max(1, self.up + self.down)

    @property
    def zero(self) -> float:
        """Return where nothing is drawn: the line from which bars go up and down."""
        return TOP + self.up * self.unit if self.up + self.down else HEIGHT - BOTTOM

    def left(self, place: int) -> float:
        return LEFT + place * self.step


def picture(columns: Sequence[Column], words: Words, name: str, width: int = WIDTH) -> str:
    """Return the picture of some columns, the oldest on the left.

    ``name`` makes the ids of this picture's title unlike those of others on the page. Raises
    ``ValueError`` without any column.
    """
    if not columns:
        raise ValueError("a picture needs a column")
    frame = _Frame(
        width, len(columns), max(one.up for one in columns), max(one.down for one in columns)
    )
    parts = [*_axis(frame, words), *_labels(columns, frame)]
    for place, column in enumerate(columns):
        parts += _bar(place, column.sent, column.sent_refused, frame, -1)
        parts += _bar(place, column.received, column.received_refused, frame, 1)
    title, described = escape(f"{name}-title"), escape(f"{name}-desc")
    return (
        f'<svg class="trend" viewBox="0 0 {width} {HEIGHT}" role="img" focusable="false" '
        f'aria-labelledby="{title} {described}">'
        f'<title id="{title}">{escape(words.title)}</title>'
        f'<desc id="{described}">{escape(words.description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _axis(frame: _Frame, words: Words) -> Iterator[str]:
    lines = [(0, frame.zero)]
    if frame.up:
        lines.append((frame.up, float(TOP)))
    if frame.down:
        lines.append((frame.down, float(HEIGHT - BOTTOM)))
    for number, y in lines:
        opacity = "0.6" if number == 0 else "0.2"
        yield (
            f'<path class="trend__grid" d="M{LEFT} {_at(y)}H{frame.width - RIGHT}" '
            f'stroke="currentColor" stroke-opacity="{opacity}" fill="none"/>'
        )
        yield _text(LEFT - 8, y + 5, words.number(number), anchor="end")


def _labels(columns: Sequence[Column], frame: _Frame) -> Iterator[str]:
    """Yield the labels that find room, the newest first: it is the one looked for."""
    longest = max(len(one.label) for one in columns) * LETTER + LETTER
    every = max(1, -int(-longest // frame.step))
    end = frame.width + LETTER
    for place in range(len(columns) - 1, -1, -every):
        half = len(columns[place].label) * LETTER / 2
        x = min(max(frame.left(place) + frame.step / 2, half), frame.width - half)
        # The newest is moved to the left where it would run out of the picture.
        if x + half <= end - LETTER:
            yield _text(x, HEIGHT - 10, columns[place].label, anchor="middle")
            end = x - half


def _bar(place: int, arrived: int, refused: int, frame: _Frame, down: int) -> Iterator[str]:
    """Yield a bar that goes up (``down`` is -1) or down (1), refused ones at its far end."""
    x, width = frame.left(place) + frame.step * (1 - SHARE) / 2, frame.step * SHARE
    base = frame.zero
    if arrived:
        height = max(LEAST, arrived * frame.unit)
        y = base if down > 0 else base - height
        kind = "received" if down > 0 else "sent"
        opacity = "0.55" if down > 0 else "1"
        yield (
            f'<rect class="bar bar--{kind}" x="{_at(x)}" y="{_at(y)}" width="{_at(width)}" '
            f'height="{_at(height)}" fill="currentColor" fill-opacity="{opacity}"/>'
        )
        base += down * height
    if refused:
        height = max(LEAST, refused * frame.unit)
        y = base if down > 0 else base - height
        yield (
            f'<rect class="bar bar--refused" x="{_at(x)}" y="{_at(y)}" width="{_at(width)}" '
            f'height="{_at(height)}" fill="none" stroke="#a3171f" stroke-width="2"/>'
        )


def _text(x: float, y: float, words: str, *, anchor: str) -> str:
    return (
        f'<text class="trend__label" x="{_at(x)}" y="{_at(y)}" text-anchor="{anchor}" '
        f'fill="currentColor" font-size="15">{escape(words)}</text>'
    )


def _at(number: float) -> str:
    """Return a coordinate, exact to a tenth of a unit."""
    return f"{number:.1f}".removesuffix(".0")
