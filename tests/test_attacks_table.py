"""The table of attacks names tests that exist, and leaves no attack without one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "attacks.md"
ROW = re.compile(r"^\|(.+)\|(.+)\|(.+)\|$", re.MULTILINE)
NAME = re.compile(r"`(test_[a-z0-9_]+)`")


def rows() -> list[tuple[str, str, str]]:
    found = ROW.findall(TABLE.read_text(encoding="utf-8"))
    return [row for row in found if "---" not in row[0] and row[2].strip() != "test"]


def written() -> set[str]:
    tests = (ROOT / "tests").rglob("test_*.py")
    return {
        name
        for path in tests
        for name in re.findall(r"^def (test_[a-z0-9_]+)\(", path.read_text("utf-8"), re.MULTILINE)
    }


def test_every_test_that_the_table_of_attacks_names_is_there() -> None:
    named = set(NAME.findall(TABLE.read_text(encoding="utf-8")))
    assert len(named) > 40
    assert named - written() == set()


def test_every_attack_in_the_table_has_a_test() -> None:
    assert len(rows()) > 40
    assert [attack for attack, _stops, tests in rows() if not NAME.findall(tests)] == []
