"""What a process holds for one tenant: opened when first used, never shown.

A process has the passphrase files of its own key groups only; asking for a key whose
passphrase it lacks is an error that names the file.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509

from medportal.core.errors import ConfigurationError
from medportal.patients.pseudonyms import PartnerKey
from medportal.pki.errors import PkiError, UnknownPartner
from medportal.pki.keystore import KeyStore
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.partners import Partner, TrustStore, pair_keys
from medportal.pki.passphrases import DEFAULT_GROUPS, load_passphrases
from medportal.pki.profiles import CrlLimits, Group, Purpose, speaks_tls
from medportal.pki.signers import Signer
from medportal.tenancy.tenant import Tenant
from medportal.vault.boxes import Sealer, Unsealer
from medportal.vault.errors import VaultError
from medportal.vault.keystore import KeyringFile
from medportal.vault.service import Vault

GROUPS = DEFAULT_GROUPS
#: The boxes of an institution, and the group whose passphrase opens each.
BOXES = {"inbox": Group.JOBS, "outbox": Group.OUTBOX}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the keys of one tenant lie below its directory."""

    home: Path
    #: Where a service manager puts the passphrases of one process, if it does.
    given: Path | None = None

    @property
    def edge(self) -> Path:
        """The key directory of the authority between edge and portal."""
        return self.home / "edge"

    @property
    def pki(self) -> Path:
        """The key directory of the institution's authority."""
        return self.home / "pki"

    @property
    def vault(self) -> Path:
        """The directory of the vault's key files."""
        return self.home / "vault"

    @property
    def secrets(self) -> Path:
        """The directory of the passphrase files."""
        return self.given or self.home / "secrets"

    @property
    def keyring(self) -> Path:
        """The file with the tenant keys."""
        return self.vault / "tenant.keystore"


@dataclass(frozen=True, slots=True)
class Authority:
    """The authorities of an institution, the present one first, and their newest lists (DER)."""

    certificates: tuple[x509.Certificate, ...]
    lists: tuple[bytes, ...]

    @property
    def certificate(self) -> x509.Certificate:
        """The present authority."""
        return self.certificates[0]


@dataclass(frozen=True, slots=True)
class _Trust:
    """The partners and the keys shared with them, as the files said at ``state``."""

    state: tuple[object, ...]
    partners: tuple[Partner, ...]
    keys: tuple[PartnerKey, ...]


def _state_of(pki: Path) -> tuple[object, ...]:
    """Return what changes when any file about partners does: a few looks at the directory."""
    layout = Layout(pki)
    entries = os.scandir(layout.partners) if layout.partners.is_dir() else ()
    found = [(e.name, e.stat().st_mtime_ns, e.stat().st_ino) for e in entries]
    pair = layout.pair.stat() if layout.pair.exists() else None
    return (sorted(found), pair and (pair.st_mtime_ns, pair.st_ino))


class TenantKeys:
    """The keys of one tenant, of the groups that this process works with.

    ``groups`` says which passphrases the process reads, even where more of them lie on the
    same machine: a process that faces partners never opens what it does not need.
    """

    def __init__(
        self,
        tenant: Tenant,
        home: Path,
        groups: Sequence[Group] = GROUPS,
        secrets: Path | None = None,
    ) -> None:
        self.tenant = tenant
        self.places = Places(home, secrets)
        self._groups = tuple(groups)
        self._known_trust: _Trust | None = None

    @cached_property
    def passphrases(self) -> dict[str, bytes]:
        """Return the passphrases of the groups whose files this process has."""
        directory = self.places.secrets
        held = [group for group in self._groups if (directory / f"{group}.passphrase").exists()]
        return load_passphrases(directory, held)

    def passphrase(self, group: Group) -> bytes:
        """Return a group's passphrase. Raises ``ConfigurationError`` with words that help."""
        try:
            return self.passphrases[group]
        except KeyError as error:
            raise ConfigurationError(
                f"{self.places.secrets}/{group}.passphrase is missing: without it the {group} "
                "keys cannot be opened. Put the file back from where it is kept apart, or "
                "restore keys and passphrases from the same backup"
            ) from error

    def only(self, *groups: Group) -> "TenantKeys":
        """Return the keys of the same tenant for other groups."""
        return TenantKeys(self.tenant, self.places.home, groups, self.places.given)

    def require(self, *purposes: Purpose) -> None:
        """Open what this process works with, so that its start says what is missing.

        Of every group what all who have it use, and the certified keys of ``purposes``. Raises
        ``ConfigurationError`` with every passphrase file that is missing, open to others, or of
        other keys, and every key file that is not there.
        """
        problems: dict[str, None] = {}
        for group in self._groups:
            alone = self.only(group)
            named = [one for one in purposes if load_profiles()[one].group is group]
            try:
                alone.passphrase(group)
                alone._open_those_of(group)
                for purpose in named:
                    alone._open_certified(purpose)
            except (ConfigurationError, PkiError, VaultError) as error:
                problems[str(error)] = None
        if problems:
            raise ConfigurationError(*problems)

    def _open_those_of(self, group: Group) -> None:
        match group:
            case Group.PORTAL:
                _ = self.vault
            case Group.JOBS:
                _ = self._inbox_private
                self.signer(Purpose.HEAD)
                self.signer(Purpose.HEAD_PQ)
            case Group.PAIR:
                self.keystore.share()
            case Group.OUTBOX:
                _ = self._outbox_private
            case Group.EXCHANGE:
                self.signer(Purpose.EXCHANGE)
                self._open_certified(Purpose.CHANNEL)
            case _:
                raise ConfigurationError(f"no process is started with keys of the group {group}")

    def _open_certified(self, purpose: Purpose) -> None:
        if speaks_tls(purpose):
            self.keystore.credentials(purpose)
        else:
            self.signer(purpose)

    @cached_property
    def vault(self) -> Vault:
        """Return the vault that seals and opens records."""
        passphrase = self.passphrase(Group.PORTAL)
        rings = KeyringFile(self.places.keyring, passphrase)
        # Opened now: what is wrong with the file is said before anything depends on it.
        rings()
        return Vault(self.tenant.id, rings)

    @cached_property
    def keystore(self) -> KeyStore:
        """Return the certified keys."""
        return KeyStore(self.places.pki, self.passphrases)

    @property
    def crl_limits(self) -> CrlLimits:
        """Return how old a revocation list may be here."""
        return load_profiles().crl_limits

    def signer(self, purpose: Purpose) -> Signer:
        """Return a fresh signer for a purpose."""
        return self.keystore.signer(purpose)

    @property
    def trusted(self) -> TrustStore:
        """Return the partners as they are trusted at this moment."""
        return TrustStore(self.places.pki)

    def partners(self) -> list[Partner]:
        """Return the partners that are trusted now."""
        return [partner for partner in self._trust.partners if not partner.revoked]

    @property
    def _trust(self) -> "_Trust":
        """Return partners and pair keys, read again whenever a file of theirs has changed."""
        state = _state_of(self.places.pki)
        if self._known_trust is None or self._known_trust.state != state:
            keys = pair_keys(self.places.pki, self.passphrases)
            self._known_trust = _Trust(
                state,
                tuple(self.trusted.partners()),
                tuple(PartnerKey(name, key.key_id, key.key) for name, key in sorted(keys.items())),
            )
        return self._known_trust

    def authority(self, institution: str) -> Authority:
        """Return the authority of this institution or of a partner, revoked ones included.

        What a partner signed while it was trusted can still be checked later. Raises
        ``UnknownPartner``.
        """
        if institution == self.tenant.id:
            return Authority(self.keystore.authorities, self.keystore.lists)
        partner = self.partner(institution)
        if partner is None:
            raise UnknownPartner("no such partner is trusted")
        return Authority(partner.authorities, tuple(partner.lists.values()))

    def partner(self, institution: str) -> Partner | None:
        """Return a partner that is or was trusted, ``None`` for anybody else."""
        found = (one for one in self._trust.partners if one.institution == institution)
        return next(found, None)

    def partner_keys(self) -> list[PartnerKey]:
        """Return the pseudonym keys shared with the partners that are trusted now."""
        return list(self._trust.keys)

    def partner_key(self, institution: str) -> PartnerKey:
        """Return the pseudonym key shared with one partner. Raises ``UnknownPartner``."""
        for key in self.partner_keys():
            if key.partner == institution:
                return key
        raise UnknownPartner("no such partner is trusted")

    def require_intake(self) -> None:
        """Open what intake needs as it is now; before any item could be blamed for it.

        Raises ``ConfigurationError``, or what opening the keystore raises.
        """
        _ = self.vault
        self._opener("inbox").ready()

    def require_sending(self) -> None:
        """Open what sending needs as it is now. Raises ``ConfigurationError``."""
        self._opener("outbox").ready()

    def _opener(self, box: str) -> Unsealer:
        try:
            return self._inbox_private if box == "inbox" else self._outbox_private
        except VaultError as error:
            raise ConfigurationError(f"the keys of the {box} do not open: {error}") from error

    def seal_outgoing(self, parcel: bytes, info: bytes) -> bytes:
        """Seal a parcel for the sender."""
        return self.sealer("outbox").seal(parcel, info)

    def open_outgoing(self, sealed: bytes, info: bytes) -> bytes:
        """Open a parcel as the sender. Raises ``Tampered``, or ``ConfigurationError``."""
        return self._opener("outbox").open(sealed, info)

    def open_incoming(self, sealed: bytes, info: bytes) -> bytes:
        """Open a parcel as the intake. Raises ``Tampered``, or ``ConfigurationError``."""
        return self._opener("inbox").open(sealed, info)

    def sealer(self, box: str) -> Sealer:
        """Return what seals to one of the two boxes."""
        return self._sealers[box]

    @cached_property
    def _sealers(self) -> dict[str, Sealer]:
        return {box: Sealer(self.places.vault, box) for box in BOXES}

    @cached_property
    def _outbox_private(self) -> Unsealer:
        return Unsealer(self.places.vault, "outbox", self.passphrase(Group.OUTBOX))

    @cached_property
    def _inbox_private(self) -> Unsealer:
        return Unsealer(self.places.vault, "inbox", self.passphrase(Group.JOBS))
