"""Passphrases of the key groups: one file each, made at random, read by the process concerned."""

import secrets
from collections.abc import Iterable
from pathlib import Path

from medportal.pki.errors import KeyFileUnfit
from medportal.pki.files import PRIVATE, locked, read_private, write_file
from medportal.pki.profiles import Group

DEFAULT_GROUPS = (
    Group.CA,
    Group.PORTAL,
    Group.PAIR,
    Group.EXCHANGE,
    Group.OUTBOX,
    Group.JOBS,
)
_SHORTEST = 16


def create_passphrases(
    directory: Path, groups: Iterable[Group] = DEFAULT_GROUPS
) -> dict[str, bytes]:
    """Make the passphrase files that are missing, 256 random bits each, and return all of them."""
    wanted = tuple(groups)
    with locked(directory / ".lock"):
        for group in wanted:
            path = passphrase_path(directory, group)
            if not path.exists():
                write_file(path, secrets.token_urlsafe(32).encode("ascii") + b"\n", PRIVATE)
    return load_passphrases(directory, wanted)


def load_passphrases(directory: Path, groups: Iterable[Group] = DEFAULT_GROUPS) -> dict[str, bytes]:
    """Return group -> passphrase. Raises ``KeyFileMissing`` or ``KeyFileUnfit`` naming the file."""
    return {group: read_passphrase(passphrase_path(directory, group)) for group in groups}


def read_passphrase(path: Path) -> bytes:
    """Return the passphrase in ``path``, without the line's end."""
    passphrase = read_private(path).rstrip(b"\r\n")
    if len(passphrase) < _SHORTEST:
        raise KeyFileUnfit(f"{path} holds fewer than {_SHORTEST} characters")
    return passphrase


def passphrase_path(directory: Path, group: Group) -> Path:
    """Return the file with a group's passphrase."""
    return directory / f"{group}.passphrase"
