"""What a command shows is what was there: values are no markup and move no cursor."""

import json

import pytest

from medportal.cli.output import show

HOSTILE = [
    "/srv/[/b]/backups",
    "[bold]a name[/bold]",
    "[/]",
    "[link=https://example.org]here[/link]",
    "\\[red]",
    "[",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("fields", [2, 8], ids=["beside-each-other", "upright"])
def test_square_brackets_are_a_part_of_a_value(
    capsys: pytest.CaptureFixture[str], value: str, fields: int
) -> None:
    row = {f"field {place}": place for place in range(fields - 1)}
    # As wide as need be, so that nothing is folded.
    show([{**row, value: value}], f"Backup in {value}", as_json=False)
    said = capsys.readouterr().out
    assert said.replace(" ", "").replace("\n", "").count(value.replace(" ", "")) == 3


@pytest.mark.parametrize("value", [*HOSTILE, "\x1b[2J", "two\nlines"])
def test_json_is_what_it_was(capsys: pytest.CaptureFixture[str], value: str) -> None:
    show([{"path": value, value: 1}], value, as_json=True)
    said = capsys.readouterr().out
    assert json.loads(said) == {"path": value, value: 1}
    assert said.count("\n") == 1


@pytest.mark.parametrize("sign", ["\x1b[2J", "\x07", "\r", "\u202e", "\x9b"])
def test_a_value_moves_no_cursor(capsys: pytest.CaptureFixture[str], sign: str) -> None:
    show([{"name": f"a{sign}b"}], "Names", as_json=False)
    said = capsys.readouterr().out
    assert sign not in said
    assert f"a{repr(sign)[1:-1]}b" in said
