"""``docs/asvs.md`` counts right, and every test that it names is there."""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "asvs.md").read_text("utf-8")
STATES = {"met", "n/a", "gap"}
#: A file below ``tests/``, a function in it, or a function in the file named before.
_NAMED = re.compile(r"`([\w/]+\.py)?(?:::(\w+))?`")
_SEE = re.compile(r"\bas (\d+\.\d+(?:\.\d+)?)")
_SECTION = re.compile(r"## (?:V(\d+\.\d+)|Cookies)\b")


@dataclass(frozen=True)
class Row:
    """One requirement as the page has it."""

    section: str
    id: str
    level: str
    asks: str
    state: str
    how: str
    test: str

    @property
    def named(self) -> list[tuple[str, str]]:
        """Return the tests that the row names: file, and function or nothing."""
        file, found = "", []
        for match in _NAMED.finditer(self.test):
            file = match[1] or file
            found.append((file, match[2] or ""))
        return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" |")]


def _rows() -> list[Row]:
    section, found = "", []
    for line in TEXT.splitlines():
        if heading := _SECTION.match(line):
            section = heading[1] or "3.3"
        if re.match(r"\| \d+\.\d+\.\d+ ", line):
            found.append(Row(section, *_cells(line)))
    return found


ROWS = _rows()
IDS = [row.id for row in ROWS]


@cache
def _functions(file: str) -> frozenset[str]:
    path = TESTS / file
    tree = ast.parse(path.read_text("utf-8")) if path.is_file() else ast.Module([], [])
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def test_ids_are_unique_and_stand_in_their_section() -> None:
    assert len(IDS) > 50
    assert [name for name, count in Counter(IDS).items() if count > 1] == []
    assert [row.id for row in ROWS if row.id.rpartition(".")[0] != row.section] == []


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_row_says_how_it_stands_and_what_shows_it(row: Row) -> None:
    assert row.level in {"1", "2"}
    assert row.state in STATES
    assert row.asks and row.how, "also what is not met has a reason"
    # What no test can show says so in words.
    assert row.test or row.state == "n/a"
    for other in _SEE.findall(f"{row.how} {row.test}"):
        assert other in {*IDS, *(known.section for known in ROWS)}


@pytest.mark.parametrize("row", [row for row in ROWS if row.named], ids=lambda row: row.id)
def test_every_named_test_is_there(row: Row) -> None:
    for file, function in row.named:
        there = _functions(file)
        assert there, f"{file} is no file of tests"
        assert not function or function in there, f"{file} has no {function}"


def test_the_counts_at_the_top_are_those_of_the_rows() -> None:
    said = {
        section: (int(one), int(two))
        for section, one, two in re.findall(r"\| V(\d\.\d) [^|]*\| (\d+) \| (\d+) ", TEXT)
    }
    levels = Counter((row.section, row.level) for row in ROWS)
    assert {s: (levels[s, "1"], levels[s, "2"]) for s in said} == said
    assert {row.section for row in ROWS} - {"3.3"} <= set(said)


def test_the_totals_in_words_are_those_of_the_rows() -> None:
    chapters = Counter(row.section.partition(".")[0] for row in ROWS)
    found = re.search(r"\(May 2025\): (\d+) and (\d+)\.", TEXT)
    assert found and [int(n) for n in found.groups()] == [chapters["6"], chapters["7"]]


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    there = {re.sub(r"[^\w -]", "", words).lower().replace(" ", "-") for words in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= there
