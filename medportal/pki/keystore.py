"""The keys that one process holds, opened with the passphrases that it was given.

Files are read again when they change, so renewed keys and new revocation lists are used without a
restart. Nothing here prints, logs or pickles a key.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki.ca import authorities, former_layouts, lists, read_ca
from medportal.pki.errors import KeyFileMissing, KeyFileUnfit, WrongPassphrase, WrongPurpose
from medportal.pki.files import PRIVATE, read_file, read_private, write_file
from medportal.pki.keyfiles import certificate_from_pem, from_pem, to_open_pem, to_pem
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.profiles import Group, Purpose, speaks_tls
from medportal.pki.signers import Signer
from medportal.pki.verify import institution_of, issued_by

__all__ = ["KeyStore", "Passphrases", "Signer", "TlsCredentials", "create_share"]

_OpenKey = tuple[x509.Certificate, object]


class Passphrases(Protocol):
    """Passphrases by key group: a mapping, or something that reads each file when asked."""

    def __getitem__(self, group: str, /) -> bytes:
        """Return the passphrase of a group, or raise ``KeyError`` or an error of its own."""
        ...


@dataclass(frozen=True, slots=True)
class TlsCredentials:
    """What a TLS endpoint presents and proves. Its ``repr`` leaves the key out."""

    purpose: Purpose
    certificate: x509.Certificate
    chain_der: tuple[bytes, ...] = field(repr=False)
    crl_der: bytes = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)


class KeyStore:
    """Keys of one institution's key directory, as far as the given passphrases open them.

    ``passphrases`` gives those of the groups (:class:`~medportal.pki.profiles.Group`) that this
    process holds, and no others.
    """

    def __init__(self, directory: Path, passphrases: Passphrases) -> None:
        self._layout = Layout(directory)
        self._passphrases = passphrases
        self._opened: dict[Path, tuple[tuple[int, ...], _OpenKey]] = {}

    def __repr__(self) -> str:
        return f"KeyStore({str(self._layout.root)!r})"

    @property
    def ca(self) -> x509.Certificate:
        """The institution's authority."""
        return read_ca(self._layout.root)

    @property
    def institution(self) -> str:
        """The institution whose keys these are, as its authority says."""
        return institution_of(self.ca)

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """The institution's authority and, after it, former ones."""
        return authorities(self._layout.root)

    @property
    def lists(self) -> tuple[bytes, ...]:
        """The newest revocation lists of the institution's authorities (DER)."""
        return lists(self._layout.root)

    @property
    def crl_der(self) -> bytes:
        """The newest revocation list of the institution's authority."""
        return read_file(self._layout.crl)

    def signer(self, purpose: Purpose) -> Signer:
        """Return the signer for a purpose that signs statements.

        Raises ``WrongPurpose`` for TLS purposes, or a ``KeyFileError`` that names the file.
        """
        if speaks_tls(purpose):
            raise WrongPurpose("a key for TLS signs no statements")
        leaf, key = self._open(purpose)
        if not isinstance(key, ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey):
            raise KeyFileUnfit(f"{self._layout.key(purpose)} holds a key of another kind")
        return Signer.of(self.institution, purpose, key, *self._provenance(leaf))

    def credentials(self, purpose: Purpose) -> TlsCredentials:
        """Return key and certificate for a TLS purpose.

        Raises ``WrongPurpose`` for others, or a ``KeyFileError`` that names the file.
        """
        if not speaks_tls(purpose):
            raise WrongPurpose("a key for statements authenticates no TLS connection")
        leaf, key = self._open(purpose)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise KeyFileUnfit(f"{self._layout.key(purpose)} holds a key of another kind")
        return TlsCredentials(purpose, leaf, *self._provenance(leaf), key)

    def write_unlocked(self, purpose: Purpose, path: Path) -> Path:
        """Write certificate and *unencrypted* key of a TLS purpose to ``path``, mode 0600.

        For servers that cannot read encrypted keys. ``path`` should be on memory (tmpfs), private
        to the process, and removed when it ends.
        """
        held = self.credentials(purpose)
        chain = b"".join(map(_pem, held.chain_der))
        write_file(path, chain + to_open_pem(held.private_key), PRIVATE)
        return path

    def state(self, purpose: Purpose) -> tuple[object, ...]:
        """Return what changes when the key of a purpose, or what travels with it, is replaced."""
        link = self._layout.link
        return _state(self._layout.key(purpose)), _state(link) if link.exists() else None

    def _provenance(self, leaf: x509.Certificate) -> tuple[tuple[bytes, ...], bytes]:
        """Return the chain to present with a leaf, and the newest list of who issued it.

        While a former authority retires, the link to it goes with what the present one issued, so
        that partners who trust the former only can follow. A key that still has its certificate
        from the former authority goes with that one's list.
        """
        der = leaf.public_bytes(Encoding.DER)
        if issued_by(leaf, self.ca) is not None:
            link = self._layout.link
            # Read as PEM, sent as DER.
            links = [certificate_from_pem(read_file(link), str(link))] if link.exists() else []
            return (der, *(each.public_bytes(Encoding.DER) for each in links)), self.crl_der
        for former in former_layouts(self._layout):
            if issued_by(leaf, read_ca(former.root)) is not None:
                return (der,), read_file(former.crl)
        return (der,), self.crl_der

    def share(self) -> bytes:
        """Return the private share of the pseudonym keys (32 secret bytes)."""
        return self._share().private_bytes_raw()

    def share_public(self) -> bytes:
        """Return the public share of the pseudonym keys, as it stands in the descriptor."""
        return self._share().public_key().public_bytes_raw()

    def _share(self) -> X25519PrivateKey:
        path = self._layout.pair
        key = from_pem(read_private(path), self._passphrase(Group.PAIR, path), str(path))
        if not isinstance(key, X25519PrivateKey):
            raise KeyFileUnfit(f"{path} holds a key of another kind")
        return key

    def _open(self, purpose: Purpose) -> _OpenKey:
        path = self._layout.key(purpose)
        state = _state(path)
        held = self._opened.get(path)
        if held is None or held[0] != state:
            held = (state, self._read(purpose, path))
            self._opened[path] = held
        return held[1]

    def _read(self, purpose: Purpose, path: Path) -> _OpenKey:
        data = read_private(path)
        leaf = certificate_from_pem(data, str(path))
        passphrase = self._passphrase(load_profiles()[purpose].group, path)
        key = from_pem(data, passphrase, str(path))
        if key.public_key() != leaf.public_key():
            raise KeyFileUnfit(f"key and certificate in {path} do not belong together")
        return leaf, key

    def _passphrase(self, group: Group, path: Path) -> bytes:
        try:
            return self._passphrases[group]
        except KeyError as error:
            raise WrongPassphrase(
                f"no passphrase of group {group} to open {path}: put {group}.passphrase back from "
                "where it is kept apart, or restore keys and passphrases from the same backup"
            ) from error


def create_share(directory: Path, passphrase: bytes) -> bytes:
    """Make the share of the pseudonym keys unless there is one; return the public share.

    ``passphrase`` is that of the group ``pair``.
    """
    layout = Layout(directory)
    if not layout.pair.exists():
        key = X25519PrivateKey.generate()
        write_file(layout.pair, to_pem(key, passphrase), PRIVATE)
    return KeyStore(directory, {Group.PAIR: passphrase}).share_public()


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when the file does."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise KeyFileMissing(f"{path} is missing") from error
    return (status.st_ino, status.st_mtime_ns, status.st_size)
