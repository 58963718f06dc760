"""What an operator mistypes or misplaces is told in a line, without a trace."""

import json
from pathlib import Path

import pytest
from cli_helpers import HOSPITAL, Commands

UNKNOWN = [
    ("keys", "init", "nowhere"),
    ("keys", "status", "nowhere"),
    ("keys", "rotate", "nowhere"),
    ("keys", "rekey", "nowhere", "--yes"),
    ("store", "status", "nowhere"),
    ("store", "sweep", "nowhere"),
    ("store", "copy", "nowhere", "--to", "mongodb"),
    ("backup", "create", "nowhere", "--to", "a", "--keys-to", "b"),
    ("audit", "verify", "nowhere"),
    ("audit", "head", "nowhere", "--output", "a"),
    ("audit", "export", "nowhere", "--output", "a"),
    ("tenant", "migrate", "nowhere"),
    ("partner", "list", "nowhere"),
    ("mail", "status", "nowhere"),
    ("sessions", "end", "nowhere", "--reason", "test"),
    ("jobs", "nowhere"),
    ("transfer", "send", "nowhere"),
]


@pytest.mark.parametrize("words", UNKNOWN, ids=lambda words: "-".join(words[:2]))
def test_an_institution_that_is_not_served_here(commands: Commands, words: tuple[str, ...]) -> None:
    told = commands.refusal(*words)
    assert told.count("\n") == 1
    assert "served: hospital, laboratory" in told


def test_a_refusal_of_the_program_itself(commands: Commands) -> None:
    """Say as a process what the others say inside this one."""
    words = ("keys", "status", "nowhere")
    done = commands.run_as_process(*words)
    assert done == commands.run(*words)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no ini at all", "File contains no section headers."),
        (
            "[app:main]\nuse = egg:nothing-of-that-name\n",
            "[app:main] use: names a package that is not installed",
        ),
        (
            "[app:main]\nuse = egg:medportal\nmedportal.state_dir = %(gone)s\n",
            "[app:main] medportal.state_dir: a variable is unknown or malformed",
        ),
        ("[other]\n", "No section 'main'"),
        ("[app:main]\nuse = egg:medportal\n", "medportal.tenants"),
    ],
    ids=["no-ini", "no-package", "no-variable", "no-section", "no-settings"],
)
def test_a_bad_ini_file(commands: Commands, tmp_path: Path, text: str, words: str) -> None:
    bad = Commands(commands.portal, tmp_path)
    bad.ini.write_text(text, "utf-8")
    assert words in bad.refusal("tenant", "check")


def test_an_ini_file_that_is_not_there(commands: Commands, tmp_path: Path) -> None:
    told = Commands(commands.portal, tmp_path).refusal("tenant", "check")
    assert "does not exist" in told


def test_the_document_for_a_privacy_officer_comes_as_json_too(commands: Commands) -> None:
    (row,) = commands.rows("tenant", "access")
    assert row["markdown"].startswith("# Who may see what")
    assert commands.run("tenant", "access", as_json=False).stdout == row["markdown"]
    grants = ("tenant", "grants", HOSPITAL, "--process", "sender", "--role", "sender", "--print")
    lines = [row["statement"] for row in commands.rows(*grants)]
    plain = commands.run(*grants, as_json=False).stdout.splitlines()
    assert plain == [f"{line};" for line in lines] and plain


def test_what_is_said_as_json_is_json(commands: Commands) -> None:
    for words in (
        ("tenant", "check"),
        ("store", "status", HOSPITAL),
        ("store", "status", HOSPITAL, "--verify"),
        ("store", "sweep", HOSPITAL),
        ("audit", "verify", HOSPITAL),
        ("mail", "status", HOSPITAL),
        ("partner", "list", HOSPITAL),
    ):
        done = commands.run(*words)
        assert done.returncode == 0, (words, done.stderr)
        assert [json.loads(line) for line in done.stdout.splitlines()]
