"""Files that are there whole or not at all, and private where they must be."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medportal.pki.errors import KeyFileMissing, KeyFileUnfit

PRIVATE = 0o600
PUBLIC = 0o644
_DIRECTORY = 0o700
# Readable by everybody, or writable by the group. The group may read: credentials that systemd
# hands to a service are readable through an access list, which shows as group permission.
_TOO_OPEN = 0o027


def make_directory(directory: Path) -> None:
    """Make ``directory`` and what is missing above it, for its owner only."""
    # mkdir(parents=True) would make those above with the usual mode, for everybody to enter.
    for missing in reversed([d for d in (directory, *directory.parents) if not d.exists()]):
        missing.mkdir(mode=_DIRECTORY, exist_ok=True)


def write_file(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Write ``data`` durably, replacing ``path`` in one step; readers see the old or the new."""
    make_directory(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def read_file(path: Path) -> bytes:
    """Return the bytes of ``path``. Raises ``KeyFileMissing`` or ``KeyFileUnfit``."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise KeyFileMissing(f"{path} is missing") from error
    except OSError as error:
        raise KeyFileUnfit(f"{path} cannot be read") from error


def read_private(path: Path) -> bytes:
    """As :func:`read_file`, refusing with ``KeyFileUnfit`` a file that others could read."""
    data = read_file(path)
    if path.stat().st_mode & _TOO_OPEN:
        raise KeyFileUnfit(f"{path} is open to others: chmod 600 it")
    return data


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``, waiting for whoever holds it."""
    make_directory(path.parent)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
