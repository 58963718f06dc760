"""The files of an institution that a backup of its keys carries, and putting them back."""

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medportal.backup.errors import BackupDamaged, TargetNotEmpty
from medportal.backup.frames import File
from medportal.pki.files import PRIVATE, PUBLIC, make_directory, write_file

#: Below the institution's directory. The authority, certified keys, partners and the ledger of
#: erasures; tenant key and boxes; the passphrases that open them; the backup key's public half.
DIRECTORIES = ("pki", "vault", "secrets", "backup")
#: There while a restore is at work, and after one that was interrupted.
MARK = "restore.unfinished"


def key_files(home: Path) -> Iterator[File]:
    """Yield every key file below the institution's directory, in a fixed order."""
    for directory in DIRECTORIES:
        for path in sorted((home / directory).rglob("*")):
            # Locks and files half written begin with a dot.
            if path.is_file() and not path.name.startswith("."):
                mode = PRIVATE if not path.stat().st_mode & 0o007 else PUBLIC
                yield File(path.relative_to(home).as_posix(), mode, path.read_bytes())


def require_bare(home: Path) -> None:
    """Raise ``TargetNotEmpty`` if keys are there that no interrupted restore left behind."""
    there = [name for name in (*DIRECTORIES, "audit") if (home / name).exists()]
    if there and not (home / MARK).exists():
        raise TargetNotEmpty(
            f"{home / there[0]} exists: a backup is restored beside nothing. Name another "
            "medportal.state_dir, or move this directory away"
        )


class Placing:
    """Puts files into a bare directory; undoes that where what follows fails."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> "Placing":
        require_bare(self._home)
        make_directory(self._home)
        write_file(self._home / MARK, b"")
        self._clear()
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is not None:
            self._clear()
        (self._home / MARK).unlink()

    def put(self, file: File) -> None:
        """Write one file. Raises ``BackupDamaged`` for a path outside the key directories."""
        path = PurePosixPath(file.path)
        if "\0" in file.path:
            raise BackupDamaged("a file of the backup has a name that no file has")
        if ".." in path.parts or len(path.parts) < 2 or path.parts[0] not in DIRECTORIES:
            raise BackupDamaged("a file of the backup lies where no key does")
        if file.mode not in (PRIVATE, PUBLIC):
            raise BackupDamaged("a file of the backup has a mode that no key has")
        write_file(self._home / path, file.data, file.mode)

    def _clear(self) -> None:
        for name in (*DIRECTORIES, "audit"):
            if (self._home / name).exists():
                shutil.rmtree(self._home / name)
