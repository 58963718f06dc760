"""The document for privacy officers is the table's, whole and current."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from medportal.access import document as documents
from medportal.access.decisions import TABLE
from medportal.access.document import PERMISSION_WORDS, WAY_WORDS, document
from medportal.cli import main
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "access.md"


@pytest.fixture(scope="module")
def text(tenants):
    return document(list(tenants.values()))


def test_the_file_is_current(text):
    """If this fails: medportal tenant access > docs/access.md."""
    assert FILE.read_text("utf-8") == text


def test_the_command_prints_it(text, monkeypatch):
    monkeypatch.chdir(ROOT)
    said = CliRunner().invoke(main, ["--config", "development.ini", "tenant", "access"])
    assert said.exit_code == 0, said.output
    assert said.stdout == text


def test_every_permission_stands_in_it_once_with_all_its_ways(text):
    assert set(PERMISSION_WORDS) == set(Permission)
    assert len(set(PERMISSION_WORDS.values())) == len(Permission)
    ways_of = {}
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        _title, codes, ways = section.split("\n\n")[:3]
        for code in re.findall(r"`([a-z:-]+)`", codes):
            assert code not in ways_of
            ways_of[code] = ways
    assert set(ways_of) == set(Permission)
    for permission, clauses in TABLE.items():
        lines = ways_of[permission].strip().splitlines()
        shared = lines.pop(0) if lines[0].startswith("- In any case: ") else ""
        assert len(lines) == len(clauses)
        for line, clause in zip(lines, clauses, strict=True):
            assert WAY_WORDS[clause.because] in line
            for condition in clause.conditions:
                assert (condition.name in line) is not (condition.name in shared)
            for duty in clause.duties:
                assert documents.OBLIGATION_WORDS[duty.obligation] in line


def test_every_code_of_a_refusal_is_explained(text):
    codes = {c.otherwise for clauses in TABLE.values() for way in clauses for c in way.conditions}
    for code in codes:
        assert re.search(rf"^\| `{code}` \| \w", text, re.MULTILINE), code
    assert {Reason.PATIENT_BLOCKS, Reason.SENSITIVE, Reason.NOT_ASSIGNED} <= codes


def test_each_institution_has_its_table_of_roles(text, tenants):
    for tenant in tenants.values():
        section = text.split(f"## Roles of {tenant.names['en']}\n")[1].split("\n## ")[0]
        head = next(line for line in section.splitlines() if line.startswith("| |"))
        for role in tenant.roles.values():
            assert role.names["en"] in head
        rows = {
            line.split(" | ")[0].removeprefix("| "): line.strip("| ").split(" | ")[1:]
            for line in section.splitlines()
            if line.startswith("| ") and not line.startswith("| |")
        }
        for permission, words in PERMISSION_WORDS.items():
            held = [str(r.grants.get(permission, "-")) for r in tenant.roles.values()]
            assert rows.get(words, ["-"] * len(held)) == held


def test_it_follows_the_catalogue(tenants):
    """Proof that the table of roles is read and not written down."""
    hospital = tenants["hospital"]
    fewer = replace(hospital, roles={"porter": hospital.roles["porter"]})
    changed = document([fewer])
    assert "| | Porter |" in changed
    assert "Enter a record |" not in changed.split("## Roles of")[1]


def test_every_condition_has_a_name_of_its_own():
    """Two that sound alike would be one to whoever reads the document."""
    conditions = {c for clauses in TABLE.values() for way in clauses for c in way.conditions}
    assert len({c.name for c in conditions}) == len(conditions)
