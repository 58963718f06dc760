"""Whether the backups of an institution are well, told without the key that opens them.

What is wrong is collected, not raised: who looks every night wants all of it in one mail. The
newest file of each part is read to its end, of the others, if not asked for, the seals alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from medportal.backup.container import DATA, KEYS
from medportal.backup.errors import BackupDamaged
from medportal.backup.making import Places
from medportal.backup.seals import Sealed, require_whole
from medportal.backup.shelves import Owner, Shelf, shelf


@dataclass(frozen=True, slots=True)
class Wanted:
    """What makes backups well: for how long keys files may stay, how old the newest pair may be if
    that matters, and whether every file is read to its end.
    """

    keys: timedelta
    at_most: timedelta | None = None
    every: bool = False


@dataclass(frozen=True, slots=True)
class Watched:
    """The files that were read and are as they were written, and a sentence for what is wrong."""

    read: tuple[Sealed, ...]
    wrong: tuple[str, ...]


def watch(places: Places, owner: Owner, wanted: Wanted, now: datetime) -> Watched:
    """Look at all that lies there. Raises nothing for what is not well."""
    shelves = (shelf(places.data, DATA, owner), shelf(places.keys, KEYS, owner))
    read: list[Sealed] = []
    wrong = [said for each in shelves for said in _wrong_names(each, now)]
    wrong += _wrong_pair(*shelves)
    wrong += _wrong_ages(*shelves, wanted, now)
    for each in shelves:
        for file in each.files if wanted.every else each.files[:1]:
            try:
                require_whole(file)
                read.append(file)
            except BackupDamaged as error:
                wrong.append(str(error))
            except OSError as error:
                wrong.append(f"{file.path} cannot be read: {error.strerror}")
    return Watched(tuple(read), tuple(wrong))


def _wrong_names(each: Shelf, now: datetime) -> Iterator[str]:
    """Yield what is wrong with files whatever they hold."""
    for error in (*each.strange, *each.of_the_future(now)):
        yield str(error)
    for file in each.unsealed:
        yield (
            f"{file.path} has no seal beside it, so nothing tells that it is whole: fetch the seal "
            "from where the files were copied to, or check the file with medportal backup verify"
        )


def _wrong_pair(data: Shelf, keys: Shelf) -> Iterator[str]:
    """Yield why the newest files are no backup, as far as their names say."""
    if not data.ours or not keys.ours:
        yield "there is no backup here of which both files are this institution's"
    elif data.ours[0].label.backup != keys.ours[0].label.backup:
        yield "the newest data file and the newest keys file are of two backups"


def _wrong_ages(data: Shelf, keys: Shelf, wanted: Wanted, now: datetime) -> Iterator[str]:
    """Yield which file should have been followed by another, and which should be gone."""
    for newest in (each.files[0] for each in (data, keys) if each.files):
        if wanted.at_most is not None and now - newest.label.made > wanted.at_most:
            yield f"{newest.path} is the newest backup, and too old: see why no other is here"
    for file in keys.ours:
        if now - file.label.made > wanted.keys:
            yield (
                f"{file.path} is older than the {wanted.keys.days} days after which an erasure is "
                "final: make a backup if there is none since, then medportal backup prune"
            )
