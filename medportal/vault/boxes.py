"""Key files of a tenant's own boxes, "inbox" and "outbox"; see :mod:`medportal.vault.sealing`.

``name.key`` and ``name.pub`` are the pair that is used now; ``name-ID.key`` is a private half that
was used before, kept until nothing is sealed to it. What is sealed begins with :data:`MARK` and the
id of its key; what was sealed before there were ids begins with neither, and every key is tried.
"""

import hashlib
import os
import re
import threading
from pathlib import Path

from medportal.vault import keyfiles
from medportal.vault.errors import KeyFileError, Tampered
from medportal.vault.passphrase import DEFAULT_COST, Cost, protect, unprotect
from medportal.vault.sealing import SUITE_NAME, BoxPrivateKey, BoxPublicKey, open_with, seal_to

MARK = b"MPB1"
ID_LENGTH = 8
HEADER_LENGTH = len(MARK) + ID_LENGTH


def create_box_keys(
    directory: Path, name: str, passphrase: bytes, cost: Cost = DEFAULT_COST
) -> BoxPublicKey:
    """Write ``name.key`` (under the passphrase, mode 0600) and ``name.pub`` into a directory.

    Raises ``KeyFileError`` if either exists.
    """
    private = BoxPrivateKey.generate()
    secret = protect(_purpose(name), private.to_bytes(), passphrase, cost)
    keyfiles.write_new(directory / f"{name}.key", secret)
    keyfiles.write_new(directory / f"{name}.pub", private.public.raw, keyfiles.PUBLIC_MODE)
    return private.public


def load_public(directory: Path, name: str) -> BoxPublicKey:
    """Read ``name.pub``; raises ``KeyFileError``, or ``InvalidKey`` if it is malformed."""
    return BoxPublicKey.from_bytes(keyfiles.read_public(directory / f"{name}.pub"))


def load_private(directory: Path, name: str, passphrase: bytes) -> BoxPrivateKey:
    """Read ``name.key``.

    Raises ``WrongPassphrase``, ``Tampered``, ``InvalidKey`` or ``KeyFileError``.
    """
    path = directory / f"{name}.key"
    with keyfiles.naming(path):
        data = keyfiles.read_private(path)
        return BoxPrivateKey.from_bytes(unprotect(_purpose(name), data, passphrase))


def _purpose(name: str) -> str:
    if not (name.isascii() and name.isalpha() and name.islower()):
        raise KeyFileError("the name of a box is one lower-case word")
    return f"box {name} {SUITE_NAME}"


def key_id(public: BoxPublicKey) -> bytes:
    """Return the short name of a key pair: the first eight bytes of its public half's SHA-256."""
    return hashlib.sha256(public.raw).digest()[:ID_LENGTH]


class Sealer:
    """Seals to a box with the public half as its file has it now, so that a new one is taken up."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._known: tuple[object, bytes, BoxPublicKey] | None = None

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """Return header and HPKE box. Raises ``KeyFileError`` or ``InvalidKey``."""
        header, public = self._current()
        return header + seal_to(public, plaintext, info)

    @property
    def header(self) -> bytes:
        """What begins everything that is sealed to the key of this moment."""
        return self._current()[0]

    def _current(self) -> tuple[bytes, BoxPublicKey]:
        state = _state(self._directory / f"{self._name}.pub")
        known = self._known
        if known is None or known[0] != state:
            public = load_public(self._directory, self._name)
            self._known = known = (state, MARK + key_id(public), public)
        return known[1], known[2]


class Unsealer:
    """Opens a box with the key that its items name, older ones included.

    Private halves are opened once, and again when an item names one that was not there before.
    """

    def __init__(self, directory: Path, name: str, passphrase: bytes) -> None:
        self._directory = directory
        self._name = name
        self._passphrase = passphrase
        self._lock = threading.Lock()
        self._state: object = None
        self._keys: dict[bytes, BoxPrivateKey] = {}
        self.reload()

    def reload(self) -> None:
        """Open every private half. Raises as :func:`load_private` does."""
        with self._lock:
            state = self._files_state()
            if state == self._state:
                return
            names = [self._name, *(path.stem for path in retired(self._directory, self._name))]
            loaded = [self._load(stem) for stem in names]
            self._keys = {key_id(key.public): key for key in loaded}
            self._state = state

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what was sealed. Raises ``Tampered``, also for a key that is not here any more."""
        name = sealed[len(MARK) : HEADER_LENGTH] if sealed.startswith(MARK) else b""
        if name not in self._keys:
            self.reload()
        key = self._keys.get(name)
        if key is not None:
            return open_with(key, sealed[HEADER_LENGTH:], info)
        # From before there were ids, or from nobody: each key is asked.
        for candidate in self._keys.values():
            try:
                return open_with(candidate, sealed, info)
            except Tampered:
                continue
        raise Tampered("the box was changed, or is for another key or purpose")

    def _load(self, stem: str) -> BoxPrivateKey:
        path = self._directory / f"{stem}.key"
        with keyfiles.naming(path):
            data = keyfiles.read_private(path)
            return BoxPrivateKey.from_bytes(unprotect(_purpose(self._name), data, self._passphrase))

    def _files_state(self) -> object:
        paths = [self._directory / f"{self._name}.key", *retired(self._directory, self._name)]
        return tuple((path.name, _state(path)) for path in paths)


def retired(directory: Path, name: str) -> list[Path]:
    """Return the files of private halves that were used before."""
    form = re.compile(rf"{re.escape(name)}-[0-9a-f]{{{2 * ID_LENGTH}}}\.key")
    return sorted(p for p in directory.glob(f"{name}-*.key") if form.fullmatch(p.name))


def renew(directory: Path, name: str, passphrase: bytes, cost: Cost = DEFAULT_COST) -> BoxPublicKey:
    """Put a new pair in a box's place and keep the private half that was used; return the new one.

    In this order, so that wherever it is killed every item opens and what is sealed next does:
    (1) the private half has a second name, (2) the new private half replaces the file, (3) the new
    public half replaces its own. Called again after being killed between (2) and (3) it does (3).
    """
    private = load_private(directory, name, passphrase)
    if load_public(directory, name).raw == private.public.raw:
        kept = directory / f"{name}-{key_id(private.public).hex()}.key"
        if not kept.exists():
            os.link(directory / f"{name}.key", kept)
        private = BoxPrivateKey.generate()
        data = protect(_purpose(name), private.to_bytes(), passphrase, cost)
        keyfiles.replace(directory / f"{name}.key", data)
    keyfiles.replace(directory / f"{name}.pub", private.public.raw, keyfiles.PUBLIC_MODE)
    return private.public


def destroy_retired(directory: Path, name: str) -> int:
    """Remove the private halves that were used before, for good; return how many.

    Raises ``KeyFileError`` if what is sealed at this moment is sealed to one of them: then
    :func:`renew` was killed midway.
    """
    gone = retired(directory, name)
    now = key_id(load_public(directory, name)).hex()
    if directory / f"{name}-{now}.key" in gone:
        raise KeyFileError(
            f"the keys of the {name} were not renewed to the end: run medportal keys rekey --boxes"
        )
    for path in gone:
        path.unlink()
    keyfiles.sync_directory(directory)
    return len(gone)


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        raise KeyFileError(f"{path.name} does not exist or cannot be read") from None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
