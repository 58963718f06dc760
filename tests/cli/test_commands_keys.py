"""Commands about keys as an operator runs them: their words and their exit statuses."""

import json
import re
import signal
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from cli_helpers import HOSPITAL, Commands, put_aside
from click.testing import CliRunner

from medportal.cli import main
from medportal.vault import keystore

KINDS = {
    "tenant key 1": "portal",
    "patient keys": "portal",
    "inbox key": "jobs",
    "outbox key": "outbox",
    "inbox.pub": "jobs",
    "outbox.pub": "outbox",
    "authority": "ca",
    "web": "portal",
    "channel": "exchange",
    "exchange": "exchange",
    "record": "portal",
    "receipt": "exchange",
    "head": "jobs",
    "head-pq": "jobs",
    "pair key": "pair",
    "backup key": "",
    "keys of pairs": "pair",
    **{f"{g}.passphrase": g for g in ("ca", "portal", "pair", "exchange", "outbox", "jobs")},
}
#: Which group's passphrase a command needs.
NEEDS = [
    ("portal", ("keys", "rotate", HOSPITAL, "--settle", "0")),
    ("portal", ("keys", "rekey", HOSPITAL, "--settle", "0", "--yes")),
    ("portal", ("portal",)),
    ("pair", ("portal",)),
    ("portal", ("jobs", HOSPITAL)),
    ("jobs", ("jobs", HOSPITAL)),
    ("pair", ("jobs", HOSPITAL)),
    ("jobs", ("backup", "create", HOSPITAL, "--to", "{tmp}/data", "--keys-to", "{tmp}/keys")),
    ("jobs", ("audit", "pin", HOSPITAL, "--yes")),
    ("outbox", ("transfer", "send", HOSPITAL)),
    ("exchange", ("transfer", "receive", HOSPITAL)),
    ("exchange", ("partner", "export", HOSPITAL, "--output", "{tmp}/descriptor")),
]


@pytest.fixture(scope="module")
def with_backup_key(commands: Commands) -> Path:
    passphrase = commands.directory / "backup.passphrase"
    passphrase.write_text("a passphrase that is kept in a safe\n")
    passphrase.chmod(0o600)
    away = commands.directory / "away"
    commands.rows("backup", "key", HOSPITAL, "--to", away, "--passphrase-file", passphrase)
    return away


def versions(commands: Commands) -> list[int]:
    passphrase = commands.passphrase("portal").read_bytes().strip()
    return sorted(keystore.load(commands.home / "vault" / "tenant.keystore", passphrase).versions)


def test_the_inventory_names_every_kind_of_key_with_age_and_purpose(
    commands: Commands, with_backup_key: Path
) -> None:
    rows = commands.rows("keys", "status", HOSPITAL)
    assert {row["key"]: row["group"] for row in rows} == KINDS
    assert max(Counter(row["key"] for row in rows).values()) == 1
    for row in rows:
        assert row["purpose"] and row["state"] and row["tenant"] == HOSPITAL
        if row["key"] != "keys of pairs":
            assert row["days"] >= 0
            assert date.fromisoformat(row["made"])
    told = commands.run("keys", "status", HOSPITAL, as_json=False).stdout
    # Names and dates are whole words in eighty columns.
    assert "exchange.passphrase" in told
    assert re.search(r"\d{4}-\d\d-\d\d", told)


def test_the_inventory_knows_how_the_backup_key_stands(
    commands: Commands, with_backup_key: Path
) -> None:
    def stands(tenant: str) -> dict[str, object]:
        (row,) = [r for r in commands.rows("keys", "status", tenant) if r["key"] == "backup key"]
        return row

    here = stands(HOSPITAL)
    assert (here["state"], here["number"]) == ("in use", 1)
    # Nobody on this machine opens a backup: its private half is where the operator put it.
    assert (with_backup_key / "backup.key").exists()
    assert not list(commands.home.rglob("backup.key"))
    with put_aside(commands.home / "backup" / "backup.pub") as path:
        path.write_bytes(b"no key at all")
        assert stands(HOSPITAL)["state"].startswith("cannot be used: ")
    none = stands("laboratory")
    assert (none["state"], none["days"]) == ("missing: run medportal backup key", "")


CASES = [("lost", *one) for one in NEEDS] + [
    (fault, *NEEDS[i]) for fault in ("wrong", "open") for i in (0, 2, 5, 7, 9)
]


@pytest.mark.parametrize(
    ("fault", "group", "words"),
    CASES,
    ids=lambda found: "-".join(found[:2]) if isinstance(found, tuple) else found,
)
def test_a_passphrase_file_that_does_not_serve_is_refused_with_words_that_help(
    commands: Commands,
    with_backup_key: Path,
    tmp_path: Path,
    fault: str,
    group: str,
    words: tuple[str, ...],
) -> None:
    said = [word.format(tmp=tmp_path) for word in words]
    with put_aside(commands.passphrase(group)) as path:
        if fault == "open":
            path.write_bytes(path.with_name(f"{path.name}.aside").read_bytes())
            path.chmod(0o644)
        if fault == "wrong":
            path.write_text("another passphrase altogether\n")
            path.chmod(0o600)
        told = commands.refusal(*said)
    if fault == "wrong":
        assert "does not open" in told
    else:
        assert f"{group}.passphrase" in told
    assert ("chmod 600" if fault == "open" else "put") in told.lower()


@pytest.mark.parametrize("group", ["ca", "portal", "pair", "exchange", "outbox", "jobs"])
def test_init_makes_no_new_passphrase_for_keys_that_are_there(
    commands: Commands, group: str
) -> None:
    with put_aside(commands.passphrase(group)) as path:
        told = commands.refusal("keys", "init", HOSPITAL)
        assert not path.exists()
        states = {row["key"]: row["state"] for row in commands.rows("keys", "status", HOSPITAL)}
    assert states[f"{group}.passphrase"] == "missing"
    assert f"{group}.passphrase is missing" in told
    assert "put the file back" in told


def test_init_makes_nothing_where_nothing_is_missing(commands: Commands) -> None:
    assert commands.rows("keys", "init", HOSPITAL) == [{"tenant": HOSPITAL, "made": "nothing"}]


@pytest.mark.parametrize("deed", ["rotate", "rekey"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["int", "kill"])
def test_a_change_of_keys_that_was_interrupted_goes_on(
    commands: Commands, deed: str, number: signal.Signals
) -> None:
    (before,) = versions(commands)
    yes = ["--yes"] if deed == "rekey" else []
    words = ("keys", deed, HOSPITAL, *yes)
    status, said = commands.stopped_at("patient", number, *words, "--settle", "60")
    if number == signal.SIGINT:
        assert status == 130
        assert "run the same command again" in said.lower()
        assert "Traceback" not in said
    else:
        assert status == -signal.SIGKILL
    assert versions(commands) == [before, before + 1]
    states = [row["state"] for row in commands.rows("keys", "status", HOSPITAL)]
    assert any(f"run keys {deed} to finish" in state for state in states)
    (done,) = commands.rows(*words, "--settle", "0")
    assert (done["version"], done["damaged"]) == (before + 1, 0)
    assert versions(commands) == [before + 1]


def test_a_rotation_waits_for_a_rekey_that_was_interrupted(commands: Commands) -> None:
    words = ("keys", "rekey", HOSPITAL, "--yes")
    commands.stopped_at("patient", signal.SIGKILL, *words, "--settle", "60")
    assert "run medportal keys rekey first" in commands.refusal(
        "keys", "rotate", HOSPITAL, "--settle", "0"
    )
    commands.rows(*words, "--settle", "0")


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "rekey", HOSPITAL),
        ("audit", "pin", HOSPITAL),
        ("audit", "prune", HOSPITAL, "--before", "2020-01-01"),
    ],
    ids=lambda words: words[1],
)
def test_what_cannot_be_undone_wants_a_yes(commands: Commands, words: tuple[str, ...]) -> None:
    before = versions(commands), commands.portal.events(HOSPITAL)
    done = commands.run(*words)
    # Not 1, which means done.
    assert done.returncode == 130
    assert "medportal: stopped: nobody said yes" in done.stderr
    assert (versions(commands), commands.portal.events(HOSPITAL)) == before


def test_a_name_is_looked_at_before_anybody_is_asked(commands: Commands) -> None:
    told = commands.refusal("keys", "rekey", "nowhere")
    assert "Go on?" not in told
    assert "no tenant of that name" in told


@pytest.mark.parametrize(
    "options",
    [
        ("--boxes", "--finish"),
        ("--finish", "--give-up-damaged"),
        ("--boxes", "--give-up-damaged"),
        ("--boxes", "--settle", "5"),
        ("--finish", "--settle", "120"),
        ("--fresh",),
        ("--finish", "--fresh"),
        ("--give-up-shut",),
        ("--boxes", "--give-up-shut"),
    ],
    ids="".join,
)
def test_options_that_contradict_each_other_are_refused_in_words(
    commands: Commands, options: tuple[str, ...]
) -> None:
    arguments = ["--config", str(commands.ini), "keys", "rekey", HOSPITAL, *options, "--yes"]
    files = {p.name: p.read_bytes() for p in (commands.home / "vault").iterdir()}
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert re.search("is for --|do not go together", done.output)
    assert {p.name: p.read_bytes() for p in (commands.home / "vault").iterdir()} == files


def test_a_rekey_without_the_passphrase_of_a_box_does_the_rest_and_says_so(
    commands: Commands,
) -> None:
    words = ("keys", "rekey", HOSPITAL, "--yes")
    # One that nobody finished: the boxes of the next are not taken for its.
    commands.rows(*words, "--settle", "0")
    (before,) = versions(commands)
    with put_aside(commands.passphrase("outbox")):
        done = commands.run(*words, "--settle", "0")
    assert done.returncode == 1
    (row,) = map(json.loads, done.stdout.splitlines())
    assert (row["outbox"], row["version"]) == (None, before + 1)
    assert row["inbox"] is not None
    assert "the outbox keeps its key" in done.stderr and "outbox.passphrase" in done.stderr
    assert versions(commands) == [before + 1]
    states = {row["key"]: row["state"] for row in commands.rows("keys", "status", HOSPITAL)}
    assert states["inbox.pub"] == f"fingerprint {row['inbox_fingerprint']}"
    assert row["inbox_fingerprint"] in done.stderr
    (boxes,) = commands.rows(*words, "--boxes")
    # What was carried already is not replaced again.
    assert boxes["inbox_fingerprint"] == row["inbox_fingerprint"]
    assert boxes["outbox_fingerprint"] != row["outbox_fingerprint"]
    vault = commands.home / "vault"
    older = {box: len(list(vault.glob(f"{box}-*.key"))) for box in ("inbox", "outbox")}
    assert min(older.values()) >= 2
    (gone,) = commands.rows(*words, "--finish")
    assert {box: gone[box] for box in older} == older
    assert gone["given_up"] == 0


def test_a_passphrase_is_changed_and_the_log_tells(commands: Commands, tmp_path: Path) -> None:
    new = tmp_path / "new.passphrase"
    new.write_text("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHI\n")
    new.chmod(0o600)
    words = ("keys", "passphrase", HOSPITAL, "pair", "--new-passphrase-file", new)
    result = commands.run(*words)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["changed"] == 1
    assert "make a backup" in result.stderr
    assert "0123456789" not in result.stdout + result.stderr
    assert commands.passphrase("pair").read_text() == new.read_text()
    told = [e for e in commands.portal.events(HOSPITAL) if e[0] == "passphrase-changed"]
    assert len(told) >= 2
    assert "already" in commands.refusal(*words)
