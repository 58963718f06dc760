"""The tenant keystore: one file, every version of the tenant key, under a passphrase."""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros
from medportal.vault import keyfiles
from medportal.vault.errors import InvalidKey, KeyFileError, KeysBusy
from medportal.vault.keyfiles import naming
from medportal.vault.keyring import TenantKeyring
from medportal.vault.passphrase import DEFAULT_COST, Cost, protect, unprotect

FILE_NAME = "tenant.keystore"
PURPOSE = "tenant keystore"
#: How long a process still opens with versions that the file has forgotten: whoever read a row
#: before it was wrapped again finishes in peace.
KEEP_SECONDS = 600.0


def create(
    path: Path, passphrase: bytes, cost: Cost = DEFAULT_COST, now: datetime | None = None
) -> TenantKeyring:
    """Make a keystore with one random key, mode 0600; raises ``KeyFileError`` if it exists."""
    keyring = TenantKeyring.generate(now)
    keyfiles.write_new(path, protect(PURPOSE, _to_bytes(keyring), passphrase, cost))
    return keyring


def load(path: Path, passphrase: bytes) -> TenantKeyring:
    """Open a keystore.

    Raises ``WrongPassphrase``, ``Tampered``, ``UnknownVersion``, or ``KeyFileError`` if it is
    missing, malformed or readable by others.
    """
    with naming(path):
        return _from_bytes(unprotect(PURPOSE, keyfiles.read_private(path), passphrase))


def save(path: Path, keyring: TenantKeyring, passphrase: bytes, cost: Cost = DEFAULT_COST) -> None:
    """Replace the contents of an existing keystore in one step (rotation, new passphrase)."""
    keyfiles.replace(path, protect(PURPOSE, _to_bytes(keyring), passphrase, cost))


class KeyringFile:
    """The keyring of a keystore, read again whenever the file changes.

    So processes that serve take up a new tenant key without a restart, and before anything that
    it wraps can reach them: rotation writes the file first, and callers ask for the ring after
    they have read what it is to open.
    """

    def __init__(
        self, path: Path, passphrase: bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._passphrase = passphrase
        self._clock = clock
        self._lock = threading.Lock()
        self._state: tuple[int, ...] | None = None
        self._ring: TenantKeyring | None = None
        self._older: TenantKeyring | None = None
        self._older_until = 0.0

    def __repr__(self) -> str:
        return f"KeyringFile({self._path.name!r})"

    def __call__(self) -> TenantKeyring:
        """Return the ring as the file has it now; raises as :func:`load` does."""
        state = _state(self._path)
        with self._lock:
            if self._ring is None or state != self._state:
                fresh = load(self._path, self._passphrase)
                self._older, self._older_until = self._ring, self._clock() + KEEP_SECONDS
                self._ring, self._state = _joined(fresh, self._older), state
            elif self._older is not None and self._clock() > self._older_until:
                self._older, self._ring = None, load(self._path, self._passphrase)
            return self._ring


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Keep others from changing a keystore meanwhile; raises ``KeysBusy`` if somebody does.

    The lock goes with the process that holds it, however that ends.
    """
    with path.with_name(f".{path.name}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KeysBusy("another command is changing these keys: let it finish") from None
        yield


def _joined(fresh: TenantKeyring, before: TenantKeyring | None) -> TenantKeyring:
    return fresh if before is None else fresh.with_older(before)


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        raise KeyFileError(f"{path.name} does not exist or cannot be read") from None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _to_bytes(keyring: TenantKeyring) -> bytes:
    return canonical.encode(
        {
            "current": keyring.current,
            "keys": dict(keyring.versions),
            "distrusted": keyring.distrusted,
            "made": {version: to_micros(moment) for version, moment in keyring.made.items()},
        }
    )


def _from_bytes(data: bytes) -> TenantKeyring:
    try:
        fields: dict[str, Any] = canonical.decode(data)
        # Keystores of the first form said nothing about distrust and dates.
        made = {v: from_micros(micros) for v, micros in fields.get("made", {}).items()}
        return TenantKeyring(fields["keys"], fields["current"], fields.get("distrusted", 0), made)
    except InvalidKey:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        raise KeyFileError("not a tenant keystore") from None
