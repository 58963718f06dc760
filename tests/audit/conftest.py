"""Databases, keys and helpers for the tests of the audit room."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from medportal.audit import heads
from medportal.audit.errors import BadSignature
from medportal.audit.events import Action, Event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Signer:
    """A certified key, shaped like the PKI's signer."""

    algorithm: str
    key_id: str
    chain_der: tuple[bytes, ...]
    crl_der: bytes | None
    key: Ed25519PrivateKey | MLDSA65PrivateKey

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)


class Authority:
    """A certificate authority that certifies head keys; the purpose is the common name."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.key = Ed25519PrivateKey.generate()
        self.certificate = self._issue(self.key.public_key(), "ca", self.tenant)

    def _issue(self, public: Any, purpose: str, tenant: str) -> x509.Certificate:
        names = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, tenant),
            x509.NameAttribute(NameOID.COMMON_NAME, purpose),
        ]
        authority = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, tenant),
            x509.NameAttribute(NameOID.COMMON_NAME, "ca"),
        ]
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name(names))
            .issuer_name(x509.Name(authority))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=365))
            .sign(self.key, None)
        )

    def signer(self, algorithm: str, purpose: str | None = None) -> Signer:
        """Return a new certified key."""
        key: Any = (
            Ed25519PrivateKey.generate()
            if algorithm == heads.ED25519
            else MLDSA65PrivateKey.generate()
        )
        certificate = self._issue(key.public_key(), purpose or algorithm, self.tenant)
        chain = (certificate.public_bytes(Encoding.DER),)
        key_id = heads.key_id_of(key.public_key())
        return Signer(algorithm, key_id, chain, b"crl", key)

    def head_signer(self) -> heads.HeadSigner:
        """Return both head keys of the institution."""
        return heads.HeadSigner(
            self.tenant, self.signer(heads.ED25519), self.signer(heads.ML_DSA_65)
        )

    def trust(
        self, credential: heads.Credential, *, algorithm: str, tenant: str, at: datetime
    ) -> Any:
        """Decide about a chain, as the PKI does: issuer, institution, purpose, validity."""
        leaf = x509.load_der_x509_certificate(credential.chain[0])
        try:
            leaf.verify_directly_issued_by(self.certificate)
        except (ValueError, InvalidSignature):
            raise BadSignature("not issued by this authority") from None
        if leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value != algorithm:
            raise BadSignature("a certificate of another purpose")
        if tenant != self.tenant or not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
            raise BadSignature("another institution or time")
        return leaf.public_key()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Give the hospital's authority."""
    return Authority("hospital")


@pytest.fixture(scope="session")
def stranger() -> Authority:
    """Give an authority that claims to be the hospital's too."""
    return Authority("hospital")


@pytest.fixture(scope="session")
def signer(authority: Authority) -> heads.HeadSigner:
    """Give the hospital's head keys."""
    return authority.head_signer()


@pytest.fixture
def make_event() -> Callable[..., Event]:
    """Give a maker of numbered events, a second apart."""

    def make(number: int, **changes: Any) -> Event:
        values: dict[str, Any] = {
            "actor": "1" * 32,
            "session": "2" * 32,
            "patient": f"{number % 3:032x}",
            "object": f"{number:032x}",
            "reasons": ["assigned-care"],
            "details": {"number": number},
            "now": NOW + timedelta(seconds=number),
        }
        return Event.create(Action.RECORD_READ, **(values | changes))

    return make
