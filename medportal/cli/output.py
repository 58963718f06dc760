"""What a command says: rows as a table or as JSON lines on standard output, progress on the other.

Standard output is for programs that read it; whatever is meant for people alone goes to standard
error.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

#: How often long work says how far it has come.
PROGRESS_SECONDS = 2.0
#: More fields than this of a single row do not fit beside each other in a terminal.
WIDE = 5
#: The longest word for which a column makes room, at the cost of its neighbours.
WORD = 19
#: Exit status after Ctrl-C, as shells have it: 128 and the signal's number.
INTERRUPTED = 130


class Step(Protocol):
    """How far a long command is: what is being done, and how many of how many."""

    @property
    def step(self) -> str:
        """Return what is being done."""

    @property
    def done(self) -> int:
        """Return how many are done."""

    @property
    def total(self) -> int:
        """Return of how many."""


def show(rows: list[dict[str, Any]], title: str, *, as_json: bool) -> None:
    """Print rows as JSON lines or as a table; a single wide row as one line for each field."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False, sort_keys=True, default=str))
        return
    # Imported here: most commands that scripts run ask for JSON.
    from rich.box import SIMPLE_HEAVY
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    upright = len(rows) == 1 and len(rows[0]) > WIDE
    if upright:
        rows = [{"field": name, "value": value} for name, value in rows[0].items()]
    table = Table(
        # As text: what stands in square brackets is a part of a path or a name, and no markup.
        title=Text(_on_one_screen(title), "table.title"),
        title_justify="left",
        show_header=not upright,
        box=SIMPLE_HEAVY,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in rows[0] if rows else ["-"]:
        # Nothing is cut short: paths and codes are there to be used. Words stay whole if they can.
        words = " ".join([name, *(str(row[name]) for row in rows)]).split()
        table.add_column(
            Text(_on_one_screen(name)), overflow="fold", min_width=min(max(map(len, words)), WORD)
        )
    for row in rows:
        table.add_row(*(Text(_on_one_screen(str(value))) for value in row.values()))
    Console().print(table)


def _on_one_screen(value: str) -> str:
    """Return a value with what would move a terminal's cursor written out, as ``\\x1b``."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in value)


def say(line: str) -> None:
    """Tell a person something, on standard error."""
    click.echo(line, err=True)


def say_steps() -> Callable[[Step], None]:
    """Return what tells how far a long command is: at most a line a second for each step."""
    last: list[float | str] = [0.0, ""]

    def told(progress: Step) -> None:
        now = time.monotonic()
        if progress.step == last[1] and now - float(last[0]) < 1:
            return
        last[:] = [now, progress.step]
        say(f"{progress.step}: {progress.done} of {progress.total}")

    return told


class Counts(Protocol):
    """How much of a backup is written."""

    @property
    def rows(self) -> int:
        """Return how many rows."""

    @property
    def documents(self) -> int:
        """Return how many documents."""


def say_counts() -> Callable[[Counts], None]:
    """Return what says every few seconds how much of a backup is written."""
    is_time = _every_few_seconds()

    def progress(counts: Counts) -> None:
        if is_time():
            say(f"{counts.rows} rows, {counts.documents} documents")

    return progress


def say_documents(name: str) -> Callable[[int, int], None]:
    """Return what says every few seconds how many documents were looked at."""
    is_time = _every_few_seconds()

    def progress(done: int, total: int) -> None:
        if is_time():
            say(f"{name}: {done} of {total} documents")

    return progress


def _every_few_seconds() -> Callable[[], bool]:
    """Return what tells whether something is to be said again."""
    said = time.monotonic()

    def is_time() -> bool:
        nonlocal said
        if time.monotonic() - said < PROGRESS_SECONDS:
            return False
        said = time.monotonic()
        return True

    return is_time


@contextmanager
def may_be_interrupted(words: str) -> Iterator[None]:
    """Say on Ctrl-C what it means for the work that was under way, and end with status 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"medportal: interrupted: {words}")
        sys.exit(INTERRUPTED)
