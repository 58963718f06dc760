"""Which backups are whole, and taking away those that are older than it takes.

Data and keys lie in two directories, and each keeps its own number of whole files: keys files go
earlier, since an erasure ends with the last of them. What is newer than the oldest one kept stays,
whole or not. The newest pair that is whole is never removed, and where there is none, nothing is.
Whatever else lies there, a file of somebody else's, one that was renamed or a seal that our
authority does not vouch for, stops all of it before the first file is removed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from medportal.backup.container import DATA, KEYS
from medportal.backup.errors import BackupDamaged, NoSeal, NothingWhole, TooOld
from medportal.backup.making import Places
from medportal.backup.seals import SUFFIX, Sealed, read_seal, require_whole
from medportal.pki.verify import Anchors

SKEW = timedelta(minutes=5)
"""By how much the clock of the machine that made a backup may be ahead."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How many whole files to keep of each part, at least one."""

    data: int
    keys: int


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose backups they have to be."""

    tenant: str
    authority: Anchors


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files of one part in a directory, the newest first.

    ``unsealed`` counts files of before there were seals: nothing here removes them.
    """

    part: str
    files: tuple[Sealed, ...]
    unsealed: int

    def whole(self) -> Iterator[Sealed]:
        """Return those that are as they were written, reading as few as are asked for."""
        return (each for each in self.files if is_whole(each))


def is_whole(sealed: Sealed) -> bool:
    """Read a file to its end and tell whether it is as it was written."""
    try:
        require_whole(sealed)
    except BackupDamaged:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, and how many files that have no seal were left alone."""

    removed: tuple[Path, ...]
    unsealed: int


def shelf(directory: Path, part: str, owner: Owner) -> Shelf:
    """Return the backup files in a directory.

    Raises ``NotABackup`` or ``NotSignedHere`` for a file that is called a backup and is none of
    this institution's, or not of this part.
    """
    files, unsealed = [], 0
    # What begins with a dot is in the making.
    for path in sorted(directory.glob(f"[!.]*.{SUFFIX}")):
        try:
            files.append(read_seal(path, owner.tenant, part, owner.authority))
        except NoSeal:
            unsealed += 1
    files.sort(key=lambda each: (each.label.made, each.label.backup), reverse=True)
    return Shelf(part, tuple(files), unsealed)


def newest_pair(data: Shelf, keys: Shelf) -> tuple[Sealed, Sealed]:
    """Return the newest backup of which both files are whole. Raises ``NothingWhole``."""
    known = {each.label.backup: each for each in keys.files}
    for each in data.whole():
        partner = known.get(each.label.backup)
        if partner is not None and is_whole(partner):
            return each, partner
    raise NothingWhole("there is no backup of which both files are whole: nothing was removed")


def check(
    places: Places, owner: Owner, now: datetime, at_most: timedelta | None = None
) -> tuple[Sealed, Sealed]:
    """Return the newest pair, having read both files to their ends.

    Raises ``NothingWhole``, ``BackupDamaged`` if the newest is not whole or of the future,
    ``TooOld``, or what :func:`shelf` raises.
    """
    data, keys = shelf(places.data, DATA, owner), shelf(places.keys, KEYS, owner)
    if not data.files or not keys.files:
        raise NothingWhole("there is no backup here")
    if data.files[0].label.backup != keys.files[0].label.backup:
        raise BackupDamaged("the newest data file and the newest keys file are of two backups")
    for each in (data.files[0], keys.files[0]):
        require_whole(each)
        if each.label.made > now + SKEW:
            raise BackupDamaged(
                f"{each.path} is of the future: it would pass for the newest until then. See the "
                "clock of the machine that made it, and put the file elsewhere"
            )
        if at_most is not None and now - each.label.made > at_most:
            raise TooOld(f"{each.path} is the newest backup, and too old: see why no other is here")
    return data.files[0], keys.files[0]


def prune(places: Places, owner: Owner, keep: Keep) -> Pruned:
    """Remove backups that are older than the oldest one to keep.

    Raises ``NothingWhole``, or what :func:`shelf` raises; then nothing was removed.
    """
    data, keys = shelf(places.data, DATA, owner), shelf(places.keys, KEYS, owner)
    pair = newest_pair(data, keys)
    going = [
        each
        for part, count, newest in ((data, keep.data, pair[0]), (keys, keep.keys, pair[1]))
        for each in _older(part, count, newest)
    ]
    for each in going:
        each.path.unlink()
        each.seal.unlink()
    for directory in {each.path.parent for each in going}:
        _sync(directory)
    return Pruned(tuple(each.path for each in going), data.unsealed + keys.unsealed)


def _older(part: Shelf, count: int, newest: Sealed) -> list[Sealed]:
    """Return what is older than the last of so many whole files, and than the newest pair."""
    kept = [each for each, _ in zip(part.whole(), range(count), strict=False)]
    if len(kept) < count:
        return []
    oldest = min(kept[-1].label.made, newest.label.made)
    return [each for each in part.files if each.label.made < oldest]


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
