"""A new passphrase for a group of keys: every file under the old one is put under the new one.

The keys stay as they are; whoever had copies of files and the old passphrase has them still
(``keys rekey`` answers that). In this order, so that a command that is killed leaves every file
opening with the old passphrase or with the new one, and goes on when it is run again:

1. The new passphrase is read, weighed, and made to last on the disk: its file is the operator's.
2. Every file opens with the old or the new one; if one does not, nothing is changed.
3. Each file that is under the old one is encrypted anew, tried, written beside itself and takes the
   place of the old in one step.
4. What an earlier run that was killed left half written is removed.
5. The group's passphrase file is replaced, if it lies with the institution. Where it lies
   elsewhere, with the service manager, the operator puts the new one there.

Processes read their passphrase when they start: those of the group are stopped first.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.core.errors import MedportalError
from medportal.keys import BOXES, Places
from medportal.pki import errors
from medportal.pki import keyfiles as pem
from medportal.pki.carried import carry_directory
from medportal.pki.files import PRIVATE, locked, read_private, write_file
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.passphrases import passphrase_path, read_passphrase
from medportal.pki.profiles import Group
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant
from medportal.vault import boxes, keyfiles, keystore
from medportal.vault.errors import KeyFileError, WrongPassphrase
from medportal.vault.passphrase import DEFAULT_COST, Cost, protect, unprotect

#: Of a new passphrase: characters, and how many of them differ. It stands for 256 random bits
#: (:mod:`medportal.pki.keyfiles` relies on them), 43 characters in base64, and nobody has to
#: remember it: ``openssl rand -base64 33`` prints one.
SHORTEST, FEWEST_DIFFERENT = 43, 16
#: Of names for files in the making: eight random bytes in hexadecimal digits.
_SUFFIX = 16
_KEY = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class UnfitPassphrase(MedportalError):
    """A new passphrase that is weak, or not new."""


class DoesNotOpen(MedportalError):
    """A file that neither passphrase opens; nothing was changed."""


class KeyFile(Protocol):
    """A file under a group's passphrase."""

    @property
    def path(self) -> Path:
        """Return where it lies."""

    def opens(self, data: bytes, passphrase: bytes) -> bytes | None:
        """Return what it holds, ``None`` if the passphrase is another's."""

    def under(self, data: bytes, old: bytes, new: bytes) -> bytes:
        """Return its bytes under a new passphrase."""


@dataclass(frozen=True, slots=True)
class VaultFile:
    """A key file of the vault; ``purpose`` is bound into it."""

    path: Path
    purpose: str
    cost: Cost = DEFAULT_COST

    def opens(self, data: bytes, passphrase: bytes) -> bytes | None:
        """See :class:`KeyFile`."""
        try:
            return unprotect(self.purpose, data, passphrase)
        except WrongPassphrase:
            return None

    def under(self, data: bytes, old: bytes, new: bytes) -> bytes:
        """See :class:`KeyFile`."""
        return protect(self.purpose, unprotect(self.purpose, data, old), new, self.cost)


@dataclass(frozen=True, slots=True)
class PemFile:
    """A certified key, or one that waits for its certificate: PEM, the key last and encrypted."""

    path: Path

    def opens(self, data: bytes, passphrase: bytes) -> bytes | None:
        """See :class:`KeyFile`."""
        try:
            key = pem.from_pem(data, passphrase, str(self.path))
        except errors.WrongPassphrase:
            return None
        return data[: data.index(_KEY)] + pem.to_open_pem(key)

    def under(self, data: bytes, old: bytes, new: bytes) -> bytes:
        """See :class:`KeyFile`."""
        key = pem.from_pem(data, old, str(self.path))
        return data[: data.index(_KEY)] + pem.to_pem(key, new)


@dataclass(frozen=True, slots=True)
class Changed:
    """What was done: how many files were put under the new passphrase now, and of how many."""

    changed: int
    files: int
    is_passphrase_file_replaced: bool


def files_of(places: Places, group: Group, cost: Cost = DEFAULT_COST) -> list[KeyFile]:
    """Return every file of an institution that lies under a group's passphrase here.

    Raises ``KeyFileError`` while the authority's key is being changed.
    """
    return [*_vault_files(places, group, cost), *_pem_files(places, group)]


def _vault_files(places: Places, group: Group, cost: Cost) -> Iterator[KeyFile]:
    if group is Group.PORTAL and places.keyring.exists():
        yield VaultFile(places.keyring, keystore.PURPOSE, cost)
    for box, owner in BOXES.items():
        if owner is group:
            now = places.vault / f"{box}.key"
            for path in [*([now] if now.exists() else []), *boxes.retired(places.vault, box)]:
                yield VaultFile(path, boxes.purpose_of(box), cost)


def _pem_files(places: Places, group: Group) -> Iterator[KeyFile]:
    for root in (places.pki, places.edge):
        if (root / "rolling").exists():
            raise KeyFileError(
                "the authority's key is being changed: finish medportal pki roll first"
            )
        yield from map(PemFile, filter(Path.exists, _pem_paths(Layout(root), group)))


def _pem_paths(layout: Layout, group: Group) -> Iterator[Path]:
    if group is Group.CA:
        yield layout.ca_key
        yield from sorted(layout.former.glob("*/ca.key"))
    if group is Group.PAIR:
        yield layout.pair
    for purpose in load_profiles().of_group(group):
        yield layout.key(purpose)
        yield layout.requested(purpose)


def change_and_tell(
    settings: Settings,
    tenant: Tenant,
    database: Database,
    group: Group,
    new_file: Path,
    now: datetime,
) -> Changed:
    """Change a group's passphrase, and tell the audit log before and after; see :func:`change`."""
    places = Places(settings.home(tenant.id), settings.credentials)
    old_file = passphrase_path(places.secrets, group)
    require_fit(places, group, old_file, new_file)
    _tell(database, group, "begun", now)
    done = change(places, group, old_file, new_file)
    _tell(database, group, "finished", now)
    return done


def _tell(database: Database, group: Group, step: str, now: datetime) -> None:
    details = {"passphrase": str(group), "step": step}
    event = Event.create(Action.PASSPHRASE_CHANGED, now=now, actor=COMMAND_LINE, details=details)
    with database.writer() as session, session.begin():
        append(session, event)


def change(
    places: Places, group: Group, old_file: Path, new_file: Path, cost: Cost = DEFAULT_COST
) -> Changed:
    """Put a group's files under the passphrase in ``new_file``; ``old_file`` has the present one.

    Raises ``UnfitPassphrase``, ``DoesNotOpen``, ``KeysBusy`` if another command changes keys, or
    an error of the key files; see the module for what is there after each.
    """
    old, new = require_fit(places, group, old_file, new_file)
    _make_last(new_file)  # (1)
    places.vault.mkdir(mode=keyfiles.DIRECTORY_MODE, parents=True, exist_ok=True)
    with _alone(places):
        files = files_of(places, group, cost)
        stale = _under_old(files, old, new)  # (2)
        for each in stale:
            _renew(each, old, new)  # (3)
        for each in files:
            _tidy(each.path)  # (4)
        if group is Group.EDGE:
            _forget_carried(places)
        is_here = old_file.parent == places.home / "secrets"
        if is_here:
            write_file(old_file, new + b"\n", PRIVATE)  # (5)
            _tidy(old_file)
    return Changed(len(stale), len(files), is_here)


def require_fit(
    places: Places, group: Group, old_file: Path, new_file: Path
) -> tuple[bytes, bytes]:
    """Return both passphrases. Raises ``UnfitPassphrase``, or an error of their files."""
    old, new = read_passphrase(old_file), read_passphrase(new_file)
    if new == old:
        raise UnfitPassphrase(f"the new passphrase is that of the group {group} already")
    if len(new) < SHORTEST or len(set(new)) < FEWEST_DIFFERENT:
        raise UnfitPassphrase(
            f"the new passphrase is weak: it needs {SHORTEST} characters, {FEWEST_DIFFERENT} of "
            "them different. Take what openssl rand -base64 33 prints"
        )
    for other in Group:
        path = passphrase_path(places.secrets, other)
        if other is not group and path.exists() and read_passphrase(path) == new:
            raise UnfitPassphrase(f"the new passphrase is that of the group {other}: take another")
    return old, new


def _make_last(path: Path) -> None:
    """Have the operator's file on the disk before anything needs what is in it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    keyfiles.sync_directory(path.parent)


def _under_old(files: list[KeyFile], old: bytes, new: bytes) -> list[KeyFile]:
    stale, shut = [], []
    for each in files:
        data = read_private(each.path)
        if each.opens(data, old) is not None:
            stale.append(each)
        elif each.opens(data, new) is None:
            shut.append(str(each.path))
    if shut:
        raise DoesNotOpen(
            "neither the present nor the new passphrase opens " + ", ".join(shut) + ": nothing was "
            "changed. If an earlier run was interrupted, name the same new passphrase file"
        )
    return stale


def _renew(each: KeyFile, old: bytes, new: bytes) -> None:
    before = read_private(each.path)
    data = each.under(before, old, new)
    # Before it takes the place of what opens: it opens too, and holds the same.
    if each.opens(data, new) != each.opens(before, old):
        raise DoesNotOpen(f"{each.path} could not be put under the new passphrase")
    keyfiles.replace(each.path, data)


def _tidy(path: Path) -> None:
    """Remove what runs that were killed left half written: under the old passphrase, maybe."""
    for left in path.parent.glob(f".{path.name}.*"):
        suffix = left.name.removeprefix(f".{path.name}.")
        if len(suffix) == _SUFFIX and set(suffix) <= set("0123456789abcdef"):
            left.unlink()
    keyfiles.sync_directory(path.parent)


def _forget_carried(places: Places) -> None:
    """Remove the copies for the edge, which jobs lays ready again under the new passphrase."""
    for path in sorted(carry_directory(places.edge).glob("*.pem")):
        path.unlink()


@contextmanager
def _alone(places: Places) -> Iterator[None]:
    """Keep out whoever rotates keys or certifies them meanwhile. Raises ``KeysBusy``."""
    with ExitStack() as stack:
        stack.enter_context(keystore.changing(places.keyring))
        for root in (places.pki, places.edge):
            if root.exists():
                stack.enter_context(locked(Layout(root).lock))
        yield
