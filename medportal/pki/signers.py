"""A private key with its certificate, able to sign statements (PURE)."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from medportal.pki.errors import CrlFromFuture, NotYetValid
from medportal.pki.profiles import Algorithm, Purpose, meaning
from medportal.pki.verify import key_id

SigningKey = ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs in the name of one institution for one purpose. Its ``repr`` leaves the key out.

    ``chain_der`` and ``crl_der`` are those of the moment it was taken from the key store: take a
    fresh one for each piece of work rather than keep one for days.
    """

    institution: str
    purpose: Purpose
    key_id: str
    chain_der: tuple[bytes, ...] = field(repr=False)
    crl_der: bytes = field(repr=False)
    _key: SigningKey = field(repr=False, compare=False)

    @classmethod
    def of(
        cls,
        institution: str,
        purpose: Purpose,
        key: SigningKey,
        chain_der: tuple[bytes, ...],
        crl_der: bytes,
    ) -> "Signer":
        """Return the signer of ``key``."""
        return cls(institution, purpose, key_id(key.public_key()), chain_der, crl_der, key)

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm that the purpose prescribes."""
        return meaning(self.purpose).algorithm

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf certificate of the key."""
        return x509.load_der_x509_certificate(self.chain_der[0])

    def check_begun(self, now: datetime, skew: timedelta) -> None:
        """Check that what is signed now is not from before its own certificate or list.

        A clock that went back would have it signed so, and nobody could verify it, ever; ``skew``
        is how far clocks may differ. Raises ``NotYetValid`` or ``CrlFromFuture``.
        """
        if now < self.certificate.not_valid_before_utc:
            raise NotYetValid("our own certificate is not valid yet; compare the clocks")
        if now < x509.load_der_x509_crl(self.crl_der).last_update_utc - skew:
            raise CrlFromFuture("our own revocation list is dated after now; compare the clocks")

    def sign(self, data: bytes) -> bytes:
        """Return the raw signature over ``data``.

        For statements use :func:`medportal.pki.signatures.sign_statement`, which labels what is
        signed; raw signatures are for protocols that build their own labelled input.
        """
        return self._key.sign(data)
