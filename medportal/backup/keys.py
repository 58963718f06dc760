"""The backup key: its public half lies with the institution, the private one somewhere else.

Whoever has the machine can make backups and open none. The directory to carry away holds the
private key under a passphrase, and the certificate of the institution's authority: a backup that
the authority does not vouch for is not restored.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from medportal.backup.errors import NoBackupKey, TargetNotEmpty
from medportal.pki.errors import PkiError
from medportal.pki.files import PUBLIC, read_file, write_file
from medportal.pki.keyfiles import certificates_from_pem
from medportal.vault.boxes import create_box_keys, load_private, load_public
from medportal.vault.errors import KeyFileError
from medportal.vault.passphrase import DEFAULT_COST, Cost
from medportal.vault.sealing import BoxPrivateKey, BoxPublicKey

NAME = "backup"
AUTHORITY = "authority.crt"


@dataclass(frozen=True, slots=True)
class Opener:
    """What opens a backup: the private key, and the authority that vouches for it."""

    key: BoxPrivateKey
    authority: tuple[x509.Certificate, ...]


def make_key(
    home: Path, away: Path, authority_pem: bytes, passphrase: bytes, cost: Cost = DEFAULT_COST
) -> None:
    """Make a backup key: everything into ``away``, the public half below ``home`` too.

    Backups from now on are for the new key; older ones need the older. Raises ``TargetNotEmpty``
    if a key lies in ``away``.
    """
    if (away / f"{NAME}.key").exists() or (away / AUTHORITY).exists():
        raise TargetNotEmpty(f"a backup key is in {away} already: name another directory")
    public = create_box_keys(away, NAME, passphrase, cost)
    write_file(away / AUTHORITY, authority_pem, PUBLIC)
    write_file(public_half(home), public.raw, PUBLIC)


def public_half(home: Path) -> Path:
    """Return where the public half lies below an institution's directory."""
    return home / NAME / f"{NAME}.pub"


def sealing_key(home: Path) -> BoxPublicKey:
    """Return the key to seal backups to. Raises ``NoBackupKey``, or a ``KeyFileError``."""
    if not public_half(home).exists():
        raise NoBackupKey("there is no backup key yet: run medportal backup key first")
    return load_public(home / NAME, NAME)


def load_opener(away: Path, passphrase: bytes) -> Opener:
    """Open the directory that :func:`make_key` filled.

    Raises ``NoBackupKey``, or a ``KeyFileError`` such as ``WrongPassphrase``.
    """
    try:
        authority = tuple(certificates_from_pem(read_file(away / AUTHORITY), AUTHORITY))
        return Opener(load_private(away, NAME, passphrase), authority)
    except PkiError:
        raise NoBackupKey(f"{away / AUTHORITY} is missing or no certificate") from None
    except KeyFileError as error:
        if (away / f"{NAME}.key").exists():
            raise
        raise NoBackupKey(f"{away} holds no backup key") from error
