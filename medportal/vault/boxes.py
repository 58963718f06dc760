"""Key files of a tenant's own boxes, "inbox" and "outbox"; see :mod:`medportal.vault.sealing`.

``name.key`` and ``name.pub`` are the pair that is used now; ``name-ID.key`` is a private half that
was used before, kept until nothing is sealed to it; ``name.run`` says in which run of a command the
pair of now was made, so that the same run does not make another. What is sealed begins with
:data:`MARK` and the id of its key; what was sealed before there were ids begins with neither, and
every key is tried. What was sealed together with others has :data:`GROUPED` next.
"""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from medportal.core.errors import ConfigurationError
from medportal.vault import keyfiles
from medportal.vault.errors import InvalidKey, KeyFileError, KeyNotHere, Tampered, VaultError
from medportal.vault.passphrase import DEFAULT_COST, Cost, protect, unprotect
from medportal.vault.sealing import (
    SUITE_NAME,
    BoxPrivateKey,
    BoxPublicKey,
    open_grouped,
    open_with,
    seal_group,
    seal_to,
)

MARK = b"MPB1"
ID_LENGTH = 8
HEADER_LENGTH = len(MARK) + ID_LENGTH

GROUPED = b"a group:"
"""What follows the header of what was sealed together with others.

An encapsulation that begins so by chance, one in 2**64, is tried as one too.
"""


def create_box_keys(
    directory: Path, name: str, passphrase: bytes, cost: Cost = DEFAULT_COST
) -> BoxPublicKey:
    """Write ``name.key`` (under the passphrase, mode 0600) and ``name.pub`` into a directory.

    Raises ``KeyFileError`` if either exists.
    """
    private = BoxPrivateKey.generate()
    secret = protect(purpose_of(name), private.to_bytes(), passphrase, cost)
    keyfiles.write_new(directory / f"{name}.key", secret)
    keyfiles.write_new(directory / f"{name}.pub", private.public.raw, keyfiles.PUBLIC_MODE)
    return private.public


def load_public(directory: Path, name: str) -> BoxPublicKey:
    """Read ``name.pub``; raises ``KeyFileError``, or ``InvalidKey`` if it is malformed."""
    return BoxPublicKey.from_bytes(keyfiles.read_public(directory / f"{name}.pub"))


def load_private(
    directory: Path, name: str, passphrase: bytes, stem: str | None = None
) -> BoxPrivateKey:
    """Read ``name.key``, or the file of an older private half, ``stem.key``.

    Raises ``WrongPassphrase``, ``Tampered``, ``InvalidKey`` or ``KeyFileError``.
    """
    path = directory / f"{stem or name}.key"
    with keyfiles.naming(path):
        data = keyfiles.read_private(path)
        return BoxPrivateKey.from_bytes(unprotect(purpose_of(name), data, passphrase))


def purpose_of(name: str) -> str:
    """Return what a box's private half is protected for. Raises ``KeyFileError`` for no name."""
    if not (name.isascii() and name.isalpha() and name.islower()):
        raise KeyFileError("the name of a box is one lower-case word")
    return f"box {name} {SUITE_NAME}"


def key_id(public: BoxPublicKey) -> bytes:
    """Return the short name of a key pair: the first eight bytes of its public half's SHA-256."""
    return hashlib.sha256(public.raw).digest()[:ID_LENGTH]


def fingerprint(public: BoxPublicKey) -> str:
    """Return what people compare: 128 bits of SHA-256 as eight groups of hexadecimal digits.

    It begins with the id of the key, and is longer: an id alone can be met by trying keys.
    """
    digits = hashlib.sha256(public.raw).hexdigest()[:32]
    return " ".join(digits[at : at + 4] for at in range(0, 32, 4))


def key_of(sealed: bytes) -> str:
    """Return the id that sealed bytes begin with, in hexadecimal digits; empty if with none."""
    return sealed[len(MARK) : HEADER_LENGTH].hex() if sealed.startswith(MARK) else ""


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

    def seal_all(self, items: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Seal several plaintexts, each bound to its own ``info``, with one encapsulation.

        They share a fresh key, which nobody keeps; each opens alone, as if it were sealed alone.
        Raises as :meth:`seal` does.
        """
        if len(items) < 2:
            return [self.seal(plaintext, info) for plaintext, info in items]
        header, public = self._current()
        return [header + GROUPED + sealed for sealed in seal_group(public, items)]

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

    def ready(self) -> None:
        """Take up key files that changed, and let go those that are gone.

        Raises ``ConfigurationError`` if one cannot be opened: a fault of this machine, for which
        no item is to be blamed.
        """
        try:
            self.reload()
        except VaultError as error:
            raise ConfigurationError(
                f"the keys of the {self._name} do not open: {error}"
            ) from error

    def reload(self) -> None:
        """Open every private half. Raises as :func:`load_private` does."""
        with self._lock:
            state = self._files_state()
            if state == self._state:
                return
            names = [self._name, *(path.stem for path in retired(self._directory, self._name))]
            loaded = [
                load_private(self._directory, self._name, self._passphrase, stem) for stem in names
            ]
            self._keys = {key_id(key.public): key for key in loaded}
            self._state = state

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what was sealed.

        Raises ``Tampered``, ``KeyNotHere`` if it names a key that is not here, or
        ``ConfigurationError`` as :meth:`ready` does.
        """
        name = sealed[len(MARK) : HEADER_LENGTH] if sealed.startswith(MARK) else b""
        if name not in self._keys:
            self.ready()
        key = self._keys.get(name)
        if key is not None:
            return _open_either(key, sealed[HEADER_LENGTH:], info)
        # From before there were ids, or from nobody: each key is asked.
        for candidate in self._keys.values():
            try:
                return open_with(candidate, sealed, info)
            except Tampered:
                continue
        if name:
            raise KeyNotHere(name.hex())
        raise Tampered("the box was changed, or is for another key or purpose")

    def _files_state(self) -> object:
        paths = [self._directory / f"{self._name}.key", *retired(self._directory, self._name)]
        return tuple((path.name, _state(path)) for path in paths)


def _open_either(key: BoxPrivateKey, body: bytes, info: bytes) -> bytes:
    if body.startswith(GROUPED):
        try:
            return open_grouped(key, body[len(GROUPED) :], info)
        except Tampered:
            # By chance, then, or tampered with: what follows says.
            pass
    return open_with(key, body, info)


def retired(directory: Path, name: str) -> list[Path]:
    """Return the files of private halves that were used before."""
    form = re.compile(rf"{re.escape(name)}-[0-9a-f]{{{2 * ID_LENGTH}}}\.key")
    return sorted(p for p in directory.glob(f"{name}-*.key") if form.fullmatch(p.name))


def kept_ids(directory: Path, name: str) -> list[str]:
    """Return the ids of the private halves that were used before, in hexadecimal digits."""
    return [path.stem.removeprefix(f"{name}-") for path in retired(directory, name)]


def was_renewed(directory: Path, name: str, passphrase: bytes, run: str = "") -> bool:
    """Tell whether the pair of now was made, to the end, in a run of a command.

    Without a run: in any, whose older private halves wait to be destroyed. Raises as
    :func:`load_private` does.
    """
    now = key_id(load_private(directory, name, passphrase).public).hex()
    try:
        published = key_id(load_public(directory, name)).hex()
        said = keyfiles.read_private(directory / f"{name}.run").decode()
    except (KeyFileError, InvalidKey, UnicodeDecodeError):
        return False
    made, _, in_run = said.strip().partition(" ")
    if not now == published == made:
        return False
    return in_run == run if run else bool(retired(directory, name))


def forget_run(directory: Path, name: str) -> None:
    """Let the pair of now count as made in no run, so that the next run makes another.

    Raises ``OSError`` where the directory is another user's.
    """
    (directory / f"{name}.run").unlink(missing_ok=True)


def renew(
    directory: Path,
    name: str,
    passphrase: bytes,
    cost: Cost = DEFAULT_COST,
    *,
    run: str = "",
    begin: Callable[[list[str], str], None] = lambda _older, _new: None,
) -> BoxPublicKey:
    """Put a new pair in a box's place and keep the private half that was used; return the new one.

    In this order, so that wherever it is killed every item opens and what is sealed next does:
    (1) ``begin`` is told the ids that were used and the new one, (2) the private half has a second
    name, (3) the new private half replaces the file, (4) the new public half replaces its own,
    (5) the run is noted. Called again after being killed it makes another pair: whoever stole the
    files meanwhile has nothing of it. What the old public half was does not matter.

    Raises as :func:`load_private` does, or ``KeyFileError`` where another user owns the files.
    """
    path = directory / f"{name}.key"
    private = load_private(directory, name, passphrase)
    if path.stat().st_uid != os.geteuid():
        raise KeyFileError(
            f"{path} belongs to another user: run this as that user, whose processes could not "
            "read a new file"
        )
    used = key_id(private.public).hex()
    fresh = BoxPrivateKey.generate()
    begin(sorted({used, *kept_ids(directory, name)}), key_id(fresh.public).hex())
    kept = directory / f"{name}-{used}.key"
    if not kept.exists():
        os.link(path, kept)
        keyfiles.sync_directory(directory)
    keyfiles.replace(path, protect(purpose_of(name), fresh.to_bytes(), passphrase, cost))
    keyfiles.put(directory / f"{name}.pub", fresh.public.raw, keyfiles.PUBLIC_MODE)
    note = f"{key_id(fresh.public).hex()} {run}\n"
    keyfiles.put(directory / f"{name}.run", note.encode())
    return fresh.public


def ready_to_destroy(directory: Path, name: str, passphrase: bytes) -> list[Path]:
    """Return the private halves that were used before, if they may go as far as files say.

    Raises ``KeyFileError`` if what is sealed at this moment does not open with ``name.key``: then
    :func:`renew` was killed midway, or the public half was replaced.
    """
    now = load_private(directory, name, passphrase).public
    if load_public(directory, name).raw != now.raw:
        raise KeyFileError(
            f"the keys of the {name} were not renewed to the end, or {name}.pub was replaced: run "
            "medportal keys rekey --boxes"
        )
    return retired(directory, name)


def destroy(paths: Iterable[Path]) -> None:
    """Remove private halves for good."""
    for path in paths:
        path.unlink(missing_ok=True)
        keyfiles.sync_directory(path.parent)


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        raise KeyFileError(f"{path.name} does not exist or cannot be read") from None
    # The change time too: a mode that was mended, or spoilt, is a change.
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
