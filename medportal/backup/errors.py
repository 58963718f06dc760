"""What can go wrong with a backup (PURE). No message holds content, a key or a passphrase."""

from medportal.core.errors import MedportalError


class BackupError(MedportalError):
    """The root of the family."""


class NotABackup(BackupError):
    """A file that is no backup of this format, or of another part than was asked for."""


class BackupDamaged(BackupError):
    """A backup that was cut short, changed or put together from several."""


class WrongBackupKey(BackupError):
    """A backup that another key opens."""


class NotSignedHere(BackupError):
    """A backup that the institution's authority does not vouch for."""


class NoSeal(BackupError):
    """A backup file beside which no seal lies."""


class NothingWhole(BackupError):
    """No backup is there that is whole: there is nothing to keep in place of the others."""


class TooLong(BackupError):
    """Keys files were to stay for longer than people are told."""


class PartsDiffer(BackupError):
    """A data file and a keys file that cannot be restored together."""


class NoBackupKey(BackupError):
    """No backup key was made for this institution."""


class SamePlace(BackupError):
    """Data and keys were to be written to one place."""


class KeysChanged(BackupError):
    """Keys were changed while the backup was made."""


class TargetNotEmpty(BackupError):
    """Something is there already where a backup was to be restored."""


class LedgerBehind(BackupError):
    """A list of erased patients that does not continue the one in the backup."""


class UnknownColumn(BackupError):
    """A column of a type that a backup cannot carry: the program has to learn it first."""
