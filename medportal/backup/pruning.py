"""Taking away backups that are older than it takes; keys files by days, data files by number.

An erasure ends with the last keys file from before it, and people are told after how many days
that is: so keys files go by their age, whether they are whole, damaged or without a seal, early
enough that a night on which nothing runs breaks no promise. Data files open nothing by themselves;
of these so many stay. The newest pair of which both files are whole always stays, and where there
is none, nothing goes. If that pair is older than the promise, because no backup was made since,
it is said.

Only that pair is read to its end: to hash every file kept would take longer every night. Of older
data files the seal and the size are compared; ``backup check --all`` reads them.

Whatever else lies there, a file of somebody else's, one that was renamed or a seal that our
authority does not vouch for, or one of the future, stops all of it before the first file is
removed.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISREG

from medportal.backup.container import DATA, KEYS
from medportal.backup.making import Places
from medportal.backup.seals import Sealed, drafts, seal_of
from medportal.backup.shelves import Owner, Shelf, newest_pair, shelf

EARLY = timedelta(days=2)
"""How long before its days are over a keys file goes: a run is due every night, one may fail."""

DEAD = timedelta(days=1)
"""After how long without a write a draft is what a killed backup left behind."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How many data files to keep, at least one, and for how long keys files may stay."""

    data: int
    keys: timedelta


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, how many data files without a seal were left alone, the keys file that had
    to stay although its days are over, for want of a newer backup, and a sentence for each file
    that could not be removed.
    """

    removed: tuple[Path, ...]
    unsealed: int
    overdue: Path | None
    stuck: tuple[str, ...] = ()


def prune(places: Places, owner: Owner, keep: Keep, now: datetime) -> Pruned:
    """Remove what is older than it may be.

    Raises ``NothingWhole``, ``NotABackup``, ``NotSignedHere``, or ``BackupDamaged`` for a file of
    the future; then nothing was removed.
    """
    data, keys = shelf(places.data, DATA, owner), shelf(places.keys, KEYS, owner)
    problems = [
        error for each in (data, keys) for error in (*each.strange, *each.of_the_future(now))
    ]
    if problems:
        raise problems[0]
    newest = newest_pair(data, keys)
    # Keys go first: whatever else cannot be removed, erasures are waiting for them.
    going = [
        *_over_days(keys, keep.keys, newest[1], now),
        *(path for each in (places.keys, places.data) for path in _dead_drafts(each, owner, now)),
        *_over_number(data, keep.data, newest[0]),
    ]
    removed, stuck = _remove(going)
    return Pruned(
        tuple(removed),
        len(data.unsealed),
        newest[1].path if newest[1].label.made + keep.keys < now else None,
        tuple(stuck),
    )


def _remove(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Remove files with their seals; return those that are gone, and what is wrong with others."""
    removed, stuck = [], []
    for path in paths:
        try:
            path.unlink()
            # A file without a seal has none to remove.
            seal_of(path).unlink(missing_ok=True)
        except OSError as error:
            stuck.append(f"{path} cannot be removed: {error.strerror}")
            continue
        removed.append(path)
    for directory in {path.parent for path in removed}:
        _sync(directory)
    return removed, stuck


def _over_days(keys: Shelf, stay: timedelta, newest: Sealed, now: datetime) -> list[Path]:
    """Return the keys files that may not be there any longer when the next run is over."""
    return [
        each.path
        for each in keys.ours
        if each.label.made + stay - EARLY <= now and each.path != newest.path
    ]


def _over_number(data: Shelf, count: int, newest: Sealed) -> list[Path]:
    """Return what is older than the last of so many files, counted from the newest whole one."""
    counted = [
        each
        for each in data.files[data.files.index(newest) :]
        if each.path.stat().st_size == each.size
    ]
    if len(counted) < count:
        return []
    oldest = counted[count - 1].label.made
    return [each.path for each in data.files if each.label.made < oldest]


def _dead_drafts(directory: Path, owner: Owner, now: datetime) -> list[Path]:
    """Return what killed backups left behind: a draft may hold every key, and nobody sees it."""
    return [path for path in drafts(directory, owner.tenant) if _is_dead(path.lstat(), now)]


def _is_dead(found: os.stat_result, now: datetime) -> bool:
    return S_ISREG(found.st_mode) and datetime.fromtimestamp(found.st_mtime, UTC) < now - DEAD


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
