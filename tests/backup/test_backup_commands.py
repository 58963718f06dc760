"""``medportal backup`` as an operator runs it, and what it says."""

import json
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Elsewhere, Site
from click.testing import CliRunner, Result

from medportal.cli import main


@pytest.fixture(scope="module")
def ini(site: Site) -> Path:
    return written(site.directory / "site.ini", site.portal.raw)


def written(path: Path, raw: dict[str, str]) -> Path:
    lines = ["[app:main]", "use = egg:medportal", *(f"{key} = {raw[key]}" for key in raw)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def run(ini: Path, *words: Any) -> Result:
    return CliRunner().invoke(main, ["--config", str(ini), "--json", *map(str, words)])


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def ini_of(place: Elsewhere) -> Path:
    return written(place.settings.state.parent / "there.ini", place.raw)


def test_an_operator_backs_up_checks_and_restores(site: Site, ini: Path) -> None:
    opens = ("--key", site.away, "--passphrase-file", site.passphrase)
    (made,) = rows(
        run(
            ini,
            *("backup", "create", "hospital"),
            *("--to", site.directory / "shelf", "--keys-to", site.directory / "safe"),
        )
    )
    assert made["damaged"] == 0
    found = rows(run(ini, "backup", "verify", made["data"], made["keys"], *opens))
    assert [(row["part"], row["state"]) for row in found] == [("data", "whole"), ("keys", "whole")]
    place = site.elsewhere()
    words = ("backup", "restore", "hospital", "--data", made["data"], "--keys", made["keys"])
    # Nobody forgets the erased without saying so.
    for unsaid in ((), ("--ledger-of-the-backup", "--ledger", made["data"])):
        refused = run(ini_of(place), *words, *unsaid, *opens)
        assert (refused.exit_code, "which ledger of erasures" in refused.stderr) == (2, True)
    words = (*words, "--ledger-of-the-backup")
    result = run(ini_of(place), *words, *opens)
    (done,) = rows(result)
    assert (done["documents"], done["erased_again"]) == (len(site.contents), 0)
    assert "audit accept-restore" in result.stderr
    assert "After a restore" in result.stderr
    assert (done["erasures_known"], done["cannot_be_opened"]) == (0, 0)
    assert place.contents() == site.contents
    again = run(ini_of(place), *words, *opens)
    assert again.exit_code == 2
    assert "a backup is restored beside nothing" in again.stderr


def test_a_key_is_made_once_for_a_directory(site: Site, ini: Path) -> None:
    words = ("backup", "key", "laboratory", "--passphrase-file", site.passphrase)
    there = site.directory / "away-laboratory"
    rows(run(ini, *words, "--to", there))
    assert sorted(path.name for path in there.iterdir()) == [
        "authority.crt",
        "backup.key",
        "backup.pub",
    ]
    assert (there / "backup.key").stat().st_mode & 0o777 == 0o600
    again = run(ini, *words, "--to", there)
    assert (again.exit_code, "name another directory" in again.stderr) == (2, True)


def test_mistakes_are_told_in_a_line(site: Site, ini: Path, tmp_path: Path) -> None:
    opens = ("--key", site.away, "--passphrase-file", site.passphrase)
    same = run(ini, "backup", "create", "hospital", "--to", tmp_path, "--keys-to", tmp_path)
    assert (same.exit_code, "name two" in same.stderr) == (2, True)
    (tmp_path / "note.txt").write_text("no backup")
    none = run(ini, "backup", "verify", tmp_path / "note.txt", *opens)
    assert (none.exit_code, "no backup of medportal" in none.stderr) == (2, True)
    wrong = tmp_path / "wrong.passphrase"
    wrong.write_text("another passphrase altogether\n")
    wrong.chmod(0o600)
    words = ("backup", "verify", tmp_path / "note.txt", "--key", site.away)
    told = run(ini, *words, "--passphrase-file", wrong)
    assert (told.exit_code, "does not open the key file" in told.stderr) == (2, True)
    alone = run(
        ini,
        *("backup", "restore", "hospital", "--data", tmp_path / "note.txt"),
        *("--keys", tmp_path / "note.txt", "--head", tmp_path / "note.txt", *opens),
    )
    assert (alone.exit_code, "belong together" in alone.stderr) == (2, True)


def test_a_damaged_document_is_an_exit_status(
    site: Site, ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medportal.backup.making._write_documents", lambda *arguments: 2)
    result = run(
        ini,
        *("backup", "create", "hospital"),
        *("--to", site.directory / "harmed", "--keys-to", site.directory / "harmed-keys"),
    )
    assert result.exit_code == 1
    assert "missing or not what their rows say" in result.stderr
