"""Reading and writing key files: private, whole or not at all."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medportal.vault.errors import KeyFileError, WrongPassphrase

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644
DIRECTORY_MODE = 0o700
MAX_SIZE = 1024 * 1024


def write_new(path: Path, data: bytes, mode: int = PRIVATE_MODE) -> None:
    """Write a file that must not exist yet; after a crash it is there whole or not at all.

    Raises ``KeyFileError`` if it exists.
    """
    temporary = _write_beside(path, data, mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise KeyFileError(f"{path.name} exists already") from None
    finally:
        temporary.unlink()
    sync_directory(path.parent)


def replace(path: Path, data: bytes, mode: int = PRIVATE_MODE) -> None:
    """Put new contents in place of an existing file in one step; raises ``KeyFileError``."""
    if not path.is_file():
        raise KeyFileError(f"{path.name} does not exist")
    put(path, data, mode)


def put(path: Path, data: bytes, mode: int = PRIVATE_MODE) -> None:
    """Write a file in one step, whether it was there before or not."""
    os.replace(_write_beside(path, data, mode), path)
    sync_directory(path.parent)


def read_private(path: Path) -> bytes:
    """Return the contents of a file that only its owner may read, else raise ``KeyFileError``."""
    return _read(path, private=True)


def read_public(path: Path) -> bytes:
    """Return the contents of a file that anybody may read; raises ``KeyFileError``."""
    return _read(path, private=False)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say which file it is that a passphrase does not open, and what to look at."""
    try:
        yield
    except WrongPassphrase:
        raise WrongPassphrase(
            f"the passphrase does not open the key file {path}: it is another file's or an older "
            "one. Put back the passphrase file that belongs to it, or restore keys and "
            "passphrases from the same backup"
        ) from None


def _read(path: Path, *, private: bool) -> bytes:
    try:
        with path.open("rb") as file:
            # The mode is asked of the open file, so that nothing can be swapped in between.
            status = os.fstat(file.fileno())
            if private and stat.S_IMODE(status.st_mode) & 0o077:
                raise KeyFileError(f"{path.name} is readable by others: set its mode to 0600")
            if status.st_size > MAX_SIZE:
                raise KeyFileError(f"{path.name} is too large for a key file")
            return file.read()
    except FileNotFoundError:
        raise KeyFileError(f"{path.name} does not exist") from None
    except (PermissionError, IsADirectoryError):
        raise KeyFileError(f"{path.name} cannot be read") from None


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        # Whatever the umask: a public half that others cannot read is of no use to them.
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        # Keys must be on disk before anything that they seal is.
        os.fsync(file.fileno())
    return temporary


def sync_directory(directory: Path) -> None:
    """Make names that came, went or changed in a directory outlast a crash."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
