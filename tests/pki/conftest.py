"""Two institutions with real keys, and a forger who knows how to build certificates by hand."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki import ca as authority
from medportal.pki import partners
from medportal.pki.certificates import (
    PrivateKey,
    Validity,
    build_ca,
    build_crl,
    build_leaf,
    generate_key,
)
from medportal.pki.keystore import KeyStore, create_share
from medportal.pki.layout import load_profiles
from medportal.pki.passphrases import create_passphrases
from medportal.pki.profiles import CrlLimits, Profiles, Purpose, meaning
from medportal.pki.signers import Signer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAMES = {
    "hospital": {"en": "Saint Example Hospital", "pt": "Hospital de Santo Exemplo"},
    "laboratory": {"en": "Example Laboratory", "pt": "Laboratório Exemplo"},
}


@dataclass(frozen=True)
class Institution:
    """One institution's directories, as ``medportal`` lays them out."""

    id: str
    home: Path
    passphrases: dict[str, bytes] = field(repr=False)

    @property
    def pki(self) -> Path:
        return self.home / "pki"

    @property
    def keys(self) -> KeyStore:
        return KeyStore(self.pki, self.passphrases)

    @property
    def ca(self) -> x509.Certificate:
        return self.keys.ca

    def descriptor(self, now: datetime = NOW, endpoint: str | None = "localhost:4000") -> bytes:
        return partners.export_descriptor(
            self.keys.signer(Purpose.EXCHANGE),
            kind=self.id,
            names=NAMES[self.id],
            ca=self.ca,
            endpoint=endpoint,
            share=self.keys.share_public(),
            now=now,
        )


def found(home: Path, institution: str) -> Institution:
    """Make an institution with every key."""
    passphrases = create_passphrases(home / "secrets")
    names = [f"{institution}.localhost"]
    authority.init_ca(
        home / "pki", institution, NAMES[institution], passphrases["ca"], NOW, permitted_dns=names
    )
    authority.issue_missing(home / "pki", dns_names=names, passphrases=passphrases, now=NOW)
    create_share(home / "pki", passphrases["pair"])
    return Institution(institution, home, passphrases)


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Institution]:
    """Both institutions, made once; tests get copies."""
    root = tmp_path_factory.mktemp("founded")
    return {name: found(root / name, name) for name in NAMES}


def _copy(institution: Institution, to: Path) -> Institution:
    shutil.copytree(institution.home, to / institution.id)
    return Institution(institution.id, to / institution.id, institution.passphrases)


@pytest.fixture
def hospital(founded: dict[str, Institution], tmp_path: Path) -> Institution:
    return _copy(founded["hospital"], tmp_path)


@pytest.fixture
def laboratory(founded: dict[str, Institution], tmp_path: Path) -> Institution:
    return _copy(founded["laboratory"], tmp_path)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def profiles() -> Profiles:
    return load_profiles()


@pytest.fixture(scope="session")
def limits(profiles: Profiles) -> CrlLimits:
    return profiles.crl_limits


class Forger:
    """An authority in memory whose owner does as told, right or wrong."""

    def __init__(self, institution: str = "laboratory", lifetime: int = 3650) -> None:
        self.institution = institution
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ca = build_ca(self.key, institution, institution.title(), self.validity(lifetime))

    @staticmethod
    def validity(days: int = 365, start: datetime = NOW) -> Validity:
        return Validity(start - timedelta(minutes=5), start + timedelta(days=days))

    def crl(
        self, *, number: int = 1, at: datetime = NOW, days: int = 7, withdrawals: Iterable = ()
    ) -> bytes:
        made = build_crl(self.key, self.ca, number, at, timedelta(days=days), withdrawals)
        return made.public_bytes(Encoding.DER)

    def leaf(
        self,
        purpose: Purpose = Purpose.RECORD,
        *,
        key: PrivateKey | None = None,
        institution: str | None = None,
        validity: Validity | None = None,
    ) -> x509.Certificate:
        key = key or generate_key(meaning(purpose).algorithm)
        return build_leaf(
            self.key,
            self.ca,
            key.public_key(),
            purpose,
            institution or self.institution,
            validity or self.validity(),
            ["laboratory.localhost"] if purpose is Purpose.WEB else (),
        )

    def signer(self, purpose: Purpose = Purpose.RECORD, *, crl: bytes | None = None) -> Signer:
        key = generate_key(meaning(purpose).algorithm)
        der = self.leaf(purpose, key=key).public_bytes(Encoding.DER)
        return Signer.of(self.institution, purpose, key, (der,), crl or self.crl())

    def by_hand(
        self,
        key: object,
        extensions: Iterable[tuple[x509.ExtensionType, bool]],
        *,
        subject: x509.Name | None = None,
    ) -> x509.Certificate:
        """A certificate with exactly these extensions, signed by this authority."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject or x509.Name([]))
            .issuer_name(self.ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(minutes=5))
            .not_valid_after(NOW + timedelta(days=365))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, SHA256())


@pytest.fixture(scope="session")
def forger() -> Forger:
    """The laboratory's own authority, in memory."""
    return Forger()


@pytest.fixture(scope="session")
def stranger() -> Forger:
    """Somebody else's authority that claims to be the laboratory."""
    return Forger()


@pytest.fixture(scope="session")
def new_forger() -> type[Forger]:
    return Forger
