"""What lies in a directory of backup files: whose it is, whether it has its seal, what is newest.

A file is called a backup by its name's end. One that is ours has a seal (:mod:`seals`); one that
lost its seal is ours by its name and its header alone, which anybody could have written; whatever
else is called a backup is strange. A name that begins with a dot is a draft: a backup in the
making, or left by one that was killed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from medportal.backup.container import Label
from medportal.backup.errors import BackupDamaged, BackupError, NoSeal, NotABackup, NothingWhole
from medportal.backup.seals import SUFFIX, Sealed, own_label, read_seal, require_whole
from medportal.pki.verify import Anchors

SKEW = timedelta(minutes=5)
"""By how much the clock of the machine that made a backup may be ahead."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose backups they have to be."""

    tenant: str
    authority: Anchors


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A backup file beside which no seal lies; only its header and its name say what it is."""

    path: Path
    label: Label


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files of one part in a directory, the newest first, and what is wrong with others."""

    part: str
    files: tuple[Sealed, ...]
    unsealed: tuple[Unsealed, ...]
    strange: tuple[BackupError, ...]

    @property
    def ours(self) -> list[Sealed | Unsealed]:
        """Return all that says to be this institution's, the newest first."""
        return sorted((*self.files, *self.unsealed), key=_age, reverse=True)

    def of_the_future(self, now: datetime) -> list[BackupError]:
        """Return an error for each file that would pass for the newest until its time comes."""
        return [
            BackupDamaged(
                f"{each.path} is of the future: it would pass for the newest until then. See the "
                "clock of the machine that made it, and put the file elsewhere"
            )
            for each in self.ours
            if each.label.made > now + SKEW
        ]


def shelf(directory: Path, part: str, owner: Owner) -> Shelf:
    """Return what lies in a directory; of no file more is read than its header and its seal."""
    files: list[Sealed] = []
    unsealed: list[Unsealed] = []
    strange: list[BackupError] = []
    for path in sorted(directory.glob(f"[!.]*.{SUFFIX}")):
        try:
            label = own_label(path, owner.tenant, part)
            files.append(read_seal(path, label, owner.authority))
        except NoSeal:
            unsealed.append(Unsealed(path, label))
        except OSError as error:
            strange.append(NotABackup(f"{path} cannot be read: {error.strerror}"))
        except BackupError as error:
            strange.append(error)
    files.sort(key=_age, reverse=True)
    return Shelf(part, tuple(files), tuple(unsealed), tuple(strange))


def is_whole(sealed: Sealed) -> bool:
    """Read a file to its end and tell whether it is as it was written."""
    try:
        require_whole(sealed)
    except (BackupDamaged, OSError):
        # A disk that does not give the bytes back holds no backup either.
        return False
    return True


def newest_pair(data: Shelf, keys: Shelf) -> tuple[Sealed, Sealed]:
    """Return the newest backup of which both files are whole, reading no older ones.

    Raises ``NothingWhole``.
    """
    known = {each.label.backup: each for each in keys.files}
    for each in data.files:
        partner = known.get(each.label.backup)
        if partner is not None and is_whole(partner) and is_whole(each):
            return each, partner
    raise NothingWhole("there is no backup of which both files are whole: nothing was removed")


def _age(each: Sealed | Unsealed) -> tuple[datetime, str]:
    return each.label.made, each.label.backup
