"""Tables to take along: no formula, no broken JSON, nothing held in memory."""

import csv
import json
from io import StringIO
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.access.downloads import (
    CHUNK,
    FORMULA,
    attachment,
    csv_pieces,
    json_pieces,
    safe_cell,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"))


def read(pieces):
    return list(csv.reader(StringIO(b"".join(pieces).decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "＝1",
        "\u00a0=1",
        "=cmd|' /C calc'!A0",
    ],
    ids=ascii,
)
def test_no_cell_begins_as_a_formula(text):
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Ana", "1=1", "a-b", "Maria-João", "–", "'=1"])
def test_other_cells_stay_as_they_are(text):
    assert safe_cell(text) == text


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2)))
def test_a_table_is_read_back_as_it_was_written(rows):
    head, *found = read(csv_pieces(["a", "b"], rows))
    assert head == ["a", "b"]
    assert found == [[safe_cell(cell) for cell in row] for row in rows]
    assert not any(cell.startswith(FORMULA) for row in found for cell in row)


@given(st.lists(st.dictionaries(TEXT, TEXT)))
def test_json_is_read_back_as_it_was_written(entries):
    pieces = json_pieces({"made": "now", "narrowed": {}}, "entries", entries)
    assert json.loads(b"".join(pieces)) == {"made": "now", "narrowed": {}, "entries": entries}


def test_rows_are_made_when_they_are_sent():
    """A log without an end would do: nothing waits for the last row."""
    endless = ([str(number)] for number in count())
    answer = attachment(csv_pieces(["n"], endless), "text/csv", "n.csv")
    first = next(answer.app_iter)
    assert first.decode("utf-8-sig").startswith('"n"\r\n"0"\r\n"1"\r\n')
    assert CHUNK <= len(first) < CHUNK + 100
    answer.app_iter.close()
