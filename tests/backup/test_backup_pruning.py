"""Seals, the check without a key, and which backups go."""

import errno
import json
import os
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Site
from click.testing import CliRunner, Result

from medportal.backup import making, shelves
from medportal.backup.errors import (
    BackupDamaged,
    NotABackup,
    NothingWhole,
    NotSignedHere,
    TooLong,
)
from medportal.backup.making import Made, Places
from medportal.backup.pruning import Pruned
from medportal.backup.seals import Sealed, draft_of, seal_of
from medportal.backup.watching import Watched
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

    def check(self, at_most: timedelta | None = None, **more: Any) -> Watched:
        settings = self.site.settings
        now = NOW + timedelta(days=more.pop("later", 0))
        return backup.check_sealed(
            settings, settings.tenant("hospital"), self.places, now, at_most=at_most, **more
        )

    def wrong(self, **more: Any) -> str:
        """Return what is not well, a line for each thing."""
        return "\n".join(self.check(**more).wrong)

    def run(self, data: int, keys_days: int | None = None, later: int = 0) -> Pruned:
        settings = self.site.settings
        return backup.prune(
            settings,
            settings.tenant("hospital"),
            self.places,
            NOW + timedelta(days=later),
            keep=data,
            keys_days=keys_days,
        )

    def prune(self, data: int, keys_days: int | None = None, later: int = 0) -> list[Path]:
        return sorted(self.run(data, keys_days, later).removed)

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
    assert kept.wrong(at_most=timedelta(hours=30)) == ""
    before = create(kept.site, kept.places, -1)
    for at_most in (None, timedelta(hours=30)):
        said = kept.wrong(at_most=at_most)
        assert said.count("of the future") == 2
        assert str(before.data) in said and str(before.keys) in said
    # It would stand in for a newer one, and its keys would stay for longer than anybody was told.
    there = kept.there()
    with pytest.raises(BackupDamaged, match="of the future"):
        kept.prune(1)
    assert kept.there() == there


def harm(path: Path, place: int = -1, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


def test_the_newest_backup_is_read_back_without_its_key(kept: Kept) -> None:
    found = kept.check(timedelta(hours=25))
    data, keys = found.read
    assert (data.path, keys.path) == (kept.made[-1].data, kept.made[-1].keys)
    assert data.size == kept.made[-1].data.stat().st_size
    assert found.wrong == ()
    late = kept.check(timedelta(hours=23))
    assert [each.path for each in late.read] == [data.path, keys.path]
    assert all("too old" in said for said in late.wrong) and len(late.wrong) == 2


def test_every_file_is_read_if_asked_for(kept: Kept) -> None:
    harm(kept.made[0].data)
    harm(kept.made[1].keys)
    assert kept.wrong() == ""
    found = kept.check(every=True)
    assert found.wrong == (
        f"{kept.made[0].data} is not as it was written",
        f"{kept.made[1].keys} is not as it was written",
    )
    assert sorted(each.path for each in found.read) == sorted(
        {*kept.of(0, 1, 2)} - {kept.made[0].data, kept.made[1].keys}
    )


@pytest.mark.parametrize("part", ["data", "keys"])
@pytest.mark.parametrize("day", [0, 2])
def test_a_missing_seal_is_said_of_whichever_file(kept: Kept, part: str, day: int) -> None:
    path = getattr(kept.made[day], part)
    seal_of(path).unlink()
    found = kept.check(timedelta(hours=25) if day < 2 else None)
    assert [said.startswith(f"{path} has no seal") for said in found.wrong] == [True]
    # What stands on the shelf before it is the last that is known to be whole: it stays.
    assert getattr(kept.made[1 if day == 2 else 2], part) in [each.path for each in found.read]


def test_a_file_that_cannot_be_read_is_said(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that gives nothing back."""
    broken, opens = kept.made[2].data, Path.open
    read: list[int] = []

    def worn(path: Path, *words: Any, **more: Any) -> Any:
        if path == broken:
            # The header, first, can still be read; the rest cannot.
            read.append(1)
            if len(read) > 1:
                raise OSError(5, "Input/output error", str(path))
        return opens(path, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", worn)
        assert kept.wrong() == f"{broken} cannot be read: Input/output error"
    broken.unlink()
    broken.symlink_to("nowhere")
    said = kept.wrong()
    assert f"{broken} cannot be read: No such file" in said
    assert "of two backups" in said


@pytest.mark.parametrize("part", ["data", "keys"])
@pytest.mark.parametrize("place", [-1, 4000])
def test_a_changed_byte_of_either_file_is_noticed(kept: Kept, part: str, place: int) -> None:
    path = getattr(kept.made[-1], part)
    harm(path, place)
    assert kept.wrong() == f"{path} is not as it was written"


def test_a_file_that_was_cut_short_is_noticed(kept: Kept) -> None:
    path = kept.made[-1].data
    path.write_bytes(path.read_bytes()[:-1])
    assert kept.wrong() == f"{path} is not as it was written"


def test_a_pair_that_is_none_is_noticed(kept: Kept) -> None:
    for path in (kept.made[-1].keys, seal_of(kept.made[-1].keys)):
        path.unlink()
    assert kept.wrong() == "the newest data file and the newest keys file are of two backups"


def test_an_empty_shelf_is_noticed(kept: Kept) -> None:
    for path in kept.places.keys.iterdir():
        path.unlink()
    assert "there is no backup here" in kept.wrong()


def test_every_byte_of_a_seal_counts(kept: Kept) -> None:
    seal = seal_of(kept.made[-1].data)
    whole = seal.read_bytes()
    for place in range(0, len(whole), 97):
        # Not the lowest bit: one may say how many bits of a certificate's signature are unused,
        # which nothing covers and which changes nothing where that many are zero (X.690, 8.6.2).
        harm(seal, place, 0x80)
        assert str(seal).removesuffix(".seal") in kept.wrong()
        with pytest.raises(NotSignedHere):
            kept.prune(1)
        seal.write_bytes(whole)
    seal.write_bytes(b"")
    assert "the seal of" in kept.wrong()
    seal.write_bytes(whole)
    assert kept.wrong() == ""


def test_a_seal_of_another_backup_or_part_seals_nothing(kept: Kept) -> None:
    seal = seal_of(kept.made[-1].data)
    for other in (kept.made[0].data, kept.made[-1].keys):
        seal.write_bytes(seal_of(other).read_bytes())
        assert "of another file" in kept.wrong()


def test_so_many_data_files_stay_and_the_others_go_with_their_seals(kept: Kept) -> None:
    assert kept.prune(3) == []
    assert kept.prune(2) == kept.of(0, part="data")
    assert kept.prune(1) == kept.of(1, part="data")
    stay = [kept.made[2].data, *kept.of(0, 1, 2, part="keys")]
    assert kept.there() == sorted(
        each for path in stay for each in (path.name, path.name + ".seal")
    )
    assert kept.prune(1) == []


def test_keys_files_go_by_days_early_enough_for_a_night_that_fails(kept: Kept) -> None:
    """Made three, two and one days ago; each goes two days before its days are over."""
    assert kept.prune(9, 6) == []
    assert kept.prune(9, 5) == kept.of(0, part="keys")
    assert kept.prune(9, 4) == kept.of(1, part="keys")
    # Of the newest backup the keys stay, and data files whose keys are gone still count.
    assert kept.prune(9, 1) == []
    kept.made.append(create(kept.site, kept.places, 0))
    assert kept.prune(9, 1) == kept.of(2, part="keys")
    assert kept.prune(2) == kept.of(0, 1, part="data")
    assert kept.wrong() == ""


def test_no_keys_file_outlives_the_promise_whatever_becomes_of_it(kept: Kept) -> None:
    """Damaged, without a seal, or of a backup whose data are damaged: it may still open."""
    days = kept.site.settings.tenant("hospital").retention.backup_days
    harm(kept.made[0].keys)
    seal_of(kept.made[1].keys).unlink()
    harm(kept.made[2].data)
    newest = create(kept.site, kept.places, 0)
    assert kept.prune(9, later=days - 6) == []
    assert kept.prune(9, later=days - 3) == kept.of(0, 1, 2, part="keys")
    assert kept.there() == sorted(
        [
            *(path.name for path in kept.of(0, 1, 2, part="data")),
            *(seal_of(path).name for path in kept.of(0, 1, 2, part="data")),
            *(newest.data.name, newest.keys.name),
            *(seal_of(newest.data).name, seal_of(newest.keys).name),
        ]
    )


def test_nobody_keeps_keys_for_longer_than_people_are_told(kept: Kept) -> None:
    days = kept.site.settings.tenant("hospital").retention.backup_days
    assert kept.prune(9, days) == []
    with pytest.raises(TooLong, match=rf"no keys file is older than {days} days"):
        kept.prune(9, days + 1)


def test_the_last_keys_stay_where_no_backup_follows_and_it_is_said(kept: Kept) -> None:
    days = kept.site.settings.tenant("hospital").retention.backup_days
    assert kept.prune(9, later=days - 1) == kept.of(0, 1, part="keys")
    last = kept.run(9, later=days)
    assert (last.removed, last.overdue) == ((), kept.made[2].keys)
    assert kept.run(9, later=days - 1).overdue is None
    assert "after which an erasure is final" in kept.wrong(later=days)
    assert kept.wrong(later=days - 1) == ""


def test_one_file_that_stays_keeps_no_other(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn, unlink = kept.made[0].keys, Path.unlink

    def refused(path: Path, *words: Any, **more: Any) -> None:
        if path == stubborn:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        unlink(path, *words, **more)

    monkeypatch.setattr(Path, "unlink", refused)
    days = kept.site.settings.tenant("hospital").retention.backup_days
    done = kept.run(1, later=days - 2)
    assert stubborn not in done.removed and kept.made[1].keys in done.removed
    assert done.stuck == (f"{stubborn} cannot be removed: Operation not permitted",)


def test_a_directory_that_is_called_like_a_draft_is_none(kept: Kept) -> None:
    strange = draft_of(kept.made[0].keys)
    strange.mkdir()
    at = (NOW - timedelta(days=4)).timestamp()
    os.utime(strange, (at, at))
    assert kept.prune(9) == []
    assert strange.exists()


def test_what_a_killed_backup_left_goes_too(kept: Kept) -> None:
    """It may be a whole keys file, under a name that nobody lists."""
    others = [
        kept.places.keys / ".hospital-2-20260101T000000Z-01234567.keys.backup.0123456789abcdef",
        kept.places.keys / ".hospital-20260101T000000Z-01234567.keys.backup.0123456789abcdef.swp",
        kept.places.keys / ".notes",
    ]
    left = [draft_of(kept.made[0].keys), draft_of(kept.made[0].data)]
    for path in (*left, *others):
        path.write_bytes(kept.made[0].keys.read_bytes())
    at = (NOW - timedelta(days=4)).timestamp()
    for path in (*left, *others):
        os.utime(path, (at, at))
    working = draft_of(kept.made[2].keys)
    working.write_bytes(b"")
    os.utime(working, (NOW.timestamp(), NOW.timestamp()))
    assert kept.prune(9) == sorted(left)
    assert working.exists() and all(path.exists() for path in others)


def test_what_stays_is_not_read_every_night(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    whole = shelves.require_whole

    def counts(sealed: Sealed) -> None:
        read.append(sealed.path)
        whole(sealed)

    monkeypatch.setattr(shelves, "require_whole", counts)
    kept.prune(2)
    assert sorted(read) == kept.of(2)


def test_an_older_file_that_was_cut_short_is_not_counted(kept: Kept) -> None:
    path = kept.made[1].data
    path.write_bytes(path.read_bytes()[:-1])
    assert kept.prune(2) == []


def test_what_is_damaged_is_not_counted(kept: Kept) -> None:
    harm(kept.made[2].data)
    assert kept.prune(2) == []
    assert kept.prune(1) == kept.of(0, part="data")


@pytest.mark.parametrize("part", ["data", "keys"])
def test_the_newest_pair_that_is_whole_stays_whatever_is_damaged(kept: Kept, part: str) -> None:
    harm(getattr(kept.made[2], part))
    # Of the newest backup one file is damaged: the one before it is what could be restored.
    assert kept.prune(1, 4) == kept.of(0)
    assert all(path.exists() for path in kept.of(1, 2))


@pytest.mark.parametrize("part", ["data", "keys"])
def test_the_newest_backup_without_a_seal_replaces_none(kept: Kept, part: str) -> None:
    """Nothing tells that it is whole: the one before it stays, by number and by days."""
    seal_of(getattr(kept.made[2], part)).unlink()
    assert kept.prune(1, 4) == kept.of(0)
    assert all(path.exists() for path in kept.of(1, 2))


def test_where_nothing_is_whole_nothing_goes(kept: Kept) -> None:
    before = kept.there()
    for made in kept.made:
        harm(made.keys)
    with pytest.raises(NothingWhole):
        kept.prune(1, 1)
    for made in kept.made:
        seal_of(made.data).unlink()
        before.remove(seal_of(made.data).name)
    with pytest.raises(NothingWhole):
        kept.prune(1, 1)
    assert kept.there() == before


def test_what_is_not_ours_stops_everything(kept: Kept) -> None:
    before = kept.there()
    note = kept.places.data / "holiday.data.backup"
    note.write_bytes(b"pictures")
    with pytest.raises(NotABackup, match=r"holiday.*is no backup of medportal"):
        kept.prune(1)
    assert "holiday" in kept.wrong()
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
    assert "no data file" in kept.wrong()
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


def test_a_data_file_without_a_seal_is_left_alone(kept: Kept) -> None:
    seal_of(kept.made[0].data).unlink()
    done = kept.run(1)
    assert (list(done.removed), done.unsealed) == (kept.of(1, part="data"), 1)
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
    assert kept.wrong() == ""


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
    }
    unit = (ROOT / "deploy/seven-hosts/units/medportal-backup.service").read_text()
    # Keys files go by the days that the institution's own file says.
    assert "KEYS_DAYS" not in unit and "--keys-days" not in unit
    steps = re.findall(r"^Exec(?:Start|StopPost)=\S+ --config \S+ (.*)$", unit, re.MULTILINE)
    said = []
    for step in steps:
        words = [re.sub(r"\$\{(\w+)\}", lambda name: str(values[name[1]]), w) for w in step.split()]
        result = run(ini, *words)
        assert result.exit_code == 0, result.output
        said.append([json.loads(line) for line in result.stdout.splitlines()])
    (made,), checked, removed = said
    assert [row["file"] for row in checked] == [made["data"], made["keys"]]
    assert sorted(row["removed"] for row in removed) == list(map(str, kept.of(0, 1, part="data")))
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
    for words in (
        ("--keep", 0),
        ("--keep", 1, "--keys-days", 2),
        ("--keep", 1, "--keys-days", 999),
    ):
        assert run(ini, "backup", "prune", *there, *words).exit_code == 2
    well = run(ini, "backup", "check", *there, "--all", "--max-age", 25)
    assert (well.exit_code, len(well.stdout.splitlines()), well.stderr) == (0, 6, "")
    with monkeypatch.context() as patch:
        patch.setattr("medportal.cli.backup.utcnow", lambda: NOW + timedelta(days=99))
        late = run(ini, "backup", "prune", *there, "--keep", 3)
        assert (late.exit_code, "its days are over" in late.stderr) == (1, True)
        assert len(late.stdout.splitlines()) == 2
    seal_of(kept.made[2].keys).rename(kept.site.directory / "seal")
    unsealed = run(ini, "backup", "check", *there)
    assert (unsealed.exit_code, "has no seal beside it" in unsealed.stderr) == (1, True)
    # What can be told of the others is told.
    assert [json.loads(line)["part"] for line in unsealed.stdout.splitlines()] == ["data"]
    (kept.site.directory / "seal").rename(seal_of(kept.made[2].keys))
    for made in kept.made:
        harm(made.data)
    harmed = run(ini, "backup", "check", *there)
    assert (harmed.exit_code, "not as it was written" in harmed.stderr) == (1, True)
    pruned = run(ini, "backup", "prune", *there, "--keep", 1)
    assert (pruned.exit_code, "nothing was removed" in pruned.stderr) == (2, True)
    opens = ("--key", kept.site.away, "--passphrase-file", kept.site.passphrase)
    old = run(ini, "backup", "verify", kept.places.keys, "--max-age", 1, *opens)
    assert (old.exit_code, "too old" in old.stderr) == (1, True)
    both = run(ini, "backup", "verify", kept.places.data, kept.places.keys, *opens)
    assert (both.exit_code, "was changed or cut short" in both.stderr) == (1, True)
    assert [json.loads(line)["part"] for line in both.stdout.splitlines()] == ["keys"]
    empty = kept.site.directory / "empty"
    empty.mkdir()
    none = run(ini, "backup", "verify", empty, *opens)
    assert (none.exit_code, "there is no backup in" in none.stderr) == (1, True)
    for place in (("--data", empty, "--keys", empty), ("--data", empty / "no", "--keys", empty)):
        status = run(ini, "backup", "check", "hospital", *place).exit_code
        # Looked and found nothing; could not look.
        assert status == (1 if place[1] == empty else 2)
