"""Seals, the check without a key, and which backups go."""

import json
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Site
from click.testing import CliRunner, Result

from medportal.backup import making
from medportal.backup.errors import (
    BackupDamaged,
    NotABackup,
    NothingWhole,
    NotSignedHere,
    TooOld,
)
from medportal.backup.making import Made, Places
from medportal.backup.pruning import Keep
from medportal.backup.seals import seal_of
from medportal.cli import main
from medportal.core.clock import utcnow
from medportal.ops import backup

# What lies in directories is the same for every engine.
pytestmark = pytest.mark.parametrize("site", ["sqlite"], indirect=True)
ROOT = Path(__file__).resolve().parents[2]
#: Certificates begin when the tests do, so the days of these backups lie ahead.
NOW = utcnow() + timedelta(days=4)


@dataclass
class Kept:
    """Two directories with backups of some days, the oldest first."""

    site: Site
    places: Places
    made: list[Made]

    def check(self, at_most: timedelta | None = None) -> Any:
        settings = self.site.settings
        return backup.check_sealed(settings, settings.tenant("hospital"), self.places, NOW, at_most)

    def prune(self, data: int, keys: int = 0) -> list[Path]:
        settings = self.site.settings
        wanted = Keep(data, keys or data)
        done = backup.prune(settings, settings.tenant("hospital"), self.places, wanted)
        return sorted(done.removed)

    def there(self) -> list[str]:
        return sorted(p.name for d in (self.places.data, self.places.keys) for p in d.iterdir())

    def of(self, *days: int, part: str = "") -> list[Path]:
        parts = (part,) if part else ("data", "keys")
        return sorted(getattr(self.made[day], each) for day in days for each in parts)


@pytest.fixture
def kept(site: Site) -> Kept:
    base = site.directory / secrets.token_hex(4)
    places = Places(base / "data", base / "keys")
    return Kept(site, places, [create(site, places, days) for days in (3, 2, 1)])


def create(site: Site, places: Places, days: int, tenant: str = "hospital") -> Made:
    known = site.settings.tenant(tenant)
    database = site.portal.registry.database(tenant)
    at = NOW - timedelta(days=days)
    return backup.create(site.settings, known, database, places, at, lambda counts: None)


def test_a_backup_of_the_future_passes_for_nothing(kept: Kept) -> None:
    kept.check(timedelta(hours=30))
    create(kept.site, kept.places, -1)
    for at_most in (None, timedelta(hours=30)):
        with pytest.raises(BackupDamaged, match="of the future"):
            kept.check(at_most)


def harm(path: Path, place: int = -1, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


def test_the_newest_backup_is_read_back_without_its_key(kept: Kept) -> None:
    data, keys = kept.check(timedelta(hours=25))
    assert (data.path, keys.path) == (kept.made[-1].data, kept.made[-1].keys)
    assert data.size == kept.made[-1].data.stat().st_size
    with pytest.raises(TooOld, match="too old"):
        kept.check(timedelta(hours=23))


@pytest.mark.parametrize("part", ["data", "keys"])
@pytest.mark.parametrize("place", [-1, 4000])
def test_a_changed_byte_of_either_file_is_noticed(kept: Kept, part: str, place: int) -> None:
    harm(getattr(kept.made[-1], part), place)
    with pytest.raises(BackupDamaged, match="not as it was written"):
        kept.check()


def test_a_file_that_was_cut_short_is_noticed(kept: Kept) -> None:
    path = kept.made[-1].data
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BackupDamaged):
        kept.check()


def test_a_pair_that_is_none_is_noticed(kept: Kept) -> None:
    for path in (kept.made[-1].keys, seal_of(kept.made[-1].keys)):
        path.unlink()
    with pytest.raises(BackupDamaged, match="two backups"):
        kept.check()


def test_every_byte_of_a_seal_counts(kept: Kept) -> None:
    seal = seal_of(kept.made[-1].data)
    whole = seal.read_bytes()
    for place in range(0, len(whole), 97):
        # Not the lowest bit: one may say how many bits of a certificate's signature are unused,
        # which nothing covers and which changes nothing where that many are zero (X.690, 8.6.2).
        harm(seal, place, 0x80)
        with pytest.raises(NotSignedHere):
            kept.check()
        seal.write_bytes(whole)
    seal.write_bytes(b"")
    with pytest.raises(NotSignedHere):
        kept.check()
    seal.write_bytes(whole)
    kept.check()


def test_a_seal_of_another_backup_or_part_seals_nothing(kept: Kept) -> None:
    seal = seal_of(kept.made[-1].data)
    for other in (kept.made[0].data, kept.made[-1].keys):
        seal.write_bytes(seal_of(other).read_bytes())
        with pytest.raises(NotSignedHere, match="of another file"):
            kept.check()


def test_so_many_stay_and_the_others_go_with_their_seals(kept: Kept) -> None:
    assert kept.prune(3) == []
    assert kept.prune(2) == kept.of(0)
    assert kept.prune(1) == kept.of(1)
    assert kept.there() == sorted(
        each for path in kept.of(2) for each in (path.name, seal_of(path).name)
    )
    assert kept.prune(1) == []
    kept.check()


def test_keys_files_go_earlier(kept: Kept) -> None:
    assert kept.prune(2, 1) == sorted([*kept.of(0), *kept.of(1, part="keys")])
    # The data file of which the keys are gone still counts, and goes in its turn.
    kept.made.append(create(kept.site, kept.places, 0))
    assert kept.prune(2, 1) == sorted([*kept.of(1, part="data"), *kept.of(2, part="keys")])


def test_what_is_damaged_is_not_counted(kept: Kept) -> None:
    harm(kept.made[2].data)
    assert kept.prune(2) == [kept.made[0].keys]
    assert kept.made[0].data.exists() and kept.made[2].data.exists()


@pytest.mark.parametrize("part", ["data", "keys"])
def test_the_newest_pair_that_is_whole_stays_whatever_is_damaged(kept: Kept, part: str) -> None:
    harm(getattr(kept.made[2], part))
    removed = kept.prune(1)
    # Of the newest backup one file is damaged: the one before it is what could be restored.
    assert set(removed) <= set(kept.of(0))
    assert all(path.exists() for path in kept.of(1, 2))


def test_where_nothing_is_whole_nothing_goes(kept: Kept) -> None:
    before = kept.there()
    for made in kept.made:
        harm(made.keys)
    with pytest.raises(NothingWhole):
        kept.prune(1)
    assert kept.there() == before


def test_what_is_not_ours_stops_everything(kept: Kept) -> None:
    before = kept.there()
    note = kept.places.data / "holiday.data.backup"
    note.write_bytes(b"pictures")
    with pytest.raises(NotABackup):
        kept.prune(1)
    note.unlink()
    # A backup of ours under another name is not what it says either.
    renamed = kept.made[0].data.rename(kept.places.data / "hospital-old.data.backup")
    with pytest.raises(NotABackup, match="renamed"):
        kept.prune(1)
    renamed.rename(kept.made[0].data)
    # Keys among the data: they would outlive their time.
    strayed = kept.places.data / kept.made[0].keys.name
    strayed.write_bytes(kept.made[0].keys.read_bytes())
    with pytest.raises(NotABackup, match="no data file"):
        kept.prune(1)
    strayed.unlink()
    assert kept.there() == before


def test_another_institutions_backups_are_refused(kept: Kept) -> None:
    site = kept.site
    there = site.directory / secrets.token_hex(4)
    laboratory = site.settings.tenant("laboratory")
    if not (site.settings.home("laboratory") / "backup").exists():
        backup.create_backup_key(site.settings, laboratory, there, site.passphrase)
    create(site, kept.places, 9, "laboratory")
    with pytest.raises(NotABackup, match="no data file of a backup of hospital"):
        kept.prune(1)


def test_a_file_without_a_seal_is_left_alone(kept: Kept) -> None:
    seal_of(kept.made[0].data).unlink()
    assert kept.prune(1) == sorted([*kept.of(1), kept.made[0].keys])
    assert kept.made[0].data.exists()


def test_a_link_to_elsewhere_takes_nothing_with_it(kept: Kept) -> None:
    away = kept.site.directory / secrets.token_hex(4)
    away.mkdir()
    moved = kept.made[0].data.rename(away / kept.made[0].data.name)
    kept.made[0].data.symlink_to(moved)
    kept.prune(1)
    assert moved.exists() and not kept.made[0].data.is_symlink()


def test_a_backup_that_fails_leaves_no_seal(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept.there()

    def stops(*arguments: Any) -> None:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(making, "_tell", stops)
    with pytest.raises(OSError, match="No space"):
        create(kept.site, kept.places, 0)
    assert kept.there() == before


def test_a_run_that_was_killed_between_file_and_seal_goes_on(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink
    done: list[Path] = []

    def dies(path: Path, **more: Any) -> None:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(path)
        unlink(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            kept.prune(1)
    # A seal without a file is nothing to anybody.
    assert kept.prune(1)
    kept.check()


def run(ini: Path, *words: Any) -> Result:
    return CliRunner().invoke(main, ["--config", str(ini), "--json", *map(str, words)])


def test_the_steps_of_the_timer_do_what_they_say(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very lines of the unit, with this machine's paths."""
    monkeypatch.setattr("medportal.cli.backup.utcnow", lambda: NOW)
    site = kept.site
    ini = site.directory / "timer.ini"
    raw = site.portal.raw
    lines = ["[app:main]", "use = egg:medportal", *(f"{key} = {raw[key]}" for key in raw)]
    ini.write_text("\n".join(lines) + "\n", "utf-8")
    values = {
        "ID": "hospital",
        "DATA": kept.places.data,
        "KEYS": kept.places.keys,
        "KEEP": 2,
        "KEEP_KEYS": 1,
    }
    unit = (ROOT / "deploy/seven-hosts/units/medportal-backup.service").read_text()
    steps = re.findall(r"^Exec(?:Start|StopPost)=\S+ --config \S+ (.*)$", unit, re.MULTILINE)
    said = []
    for step in steps:
        words = [re.sub(r"\$\{(\w+)\}", lambda name: str(values[name[1]]), w) for w in step.split()]
        result = run(ini, *words)
        assert result.exit_code == 0, result.output
        said.append([json.loads(line) for line in result.stdout.splitlines()])
    (made,), checked, removed = said
    assert [row["file"] for row in checked] == [made["data"], made["keys"]]
    assert len(removed) == 2 + 3
    unit = (ROOT / "deploy/seven-hosts/units/medportal-backup-verify.service").read_text()
    (step,) = re.findall(r"^ExecStart=\S+ --config \S+ (.*)$", unit, re.MULTILINE)
    values |= {"KEY": site.away, "MAX_AGE": 48}
    step = step.replace("%d/backup.passphrase", str(site.passphrase))
    words = [re.sub(r"\$\{(\w+)\}", lambda name: str(values[name[1]]), w) for w in step.split()]
    opened = run(ini, *words)
    assert opened.exit_code == 0, opened.output
    assert [json.loads(line)["part"] for line in opened.stdout.splitlines()] == ["data", "keys"]


def test_a_failure_is_an_exit_status(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medportal.cli.backup.utcnow", lambda: NOW)
    ini = kept.site.directory / "failing.ini"
    raw = kept.site.portal.raw
    lines = ["[app:main]", "use = egg:medportal", *(f"{key} = {raw[key]}" for key in raw)]
    ini.write_text("\n".join(lines) + "\n", "utf-8")
    there = ("hospital", "--data", kept.places.data, "--keys", kept.places.keys)
    assert run(ini, "backup", "prune", *there, "--keep", 0).exit_code == 2
    for made in kept.made:
        harm(made.data)
    harmed = run(ini, "backup", "check", *there)
    assert (harmed.exit_code, "not as it was written" in harmed.stderr) == (2, True)
    pruned = run(ini, "backup", "prune", *there, "--keep", 1)
    assert (pruned.exit_code, "nothing was removed" in pruned.stderr) == (2, True)
    opens = ("--key", kept.site.away, "--passphrase-file", kept.site.passphrase)
    old = run(ini, "backup", "verify", kept.places.keys, "--max-age", 1, *opens)
    assert (old.exit_code, "too old" in old.stderr) == (2, True)
    empty = kept.site.directory / "empty"
    empty.mkdir()
    none = run(ini, "backup", "verify", empty, *opens)
    assert (none.exit_code, "there is no backup in" in none.stderr) == (2, True)
