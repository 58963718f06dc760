"""Making certificates and revocation lists in memory: keys and facts in, objects out (PURE).

RFC 5280 throughout. An authority issues leaves directly (path length 0) and speaks for exactly
one institution, which stands as a URI among its alternative names and in each of its leaves.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from medportal.pki.profiles import Algorithm, Purpose, institution_uri, meaning

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey

# RFC 5280 appendix A.1: ub-common-name and ub-organization-name.
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when, aware datetimes; certificates carry whole seconds."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, now: datetime, lifetime: timedelta, skew: timedelta) -> "Validity":
        """Return the validity of something made ``now``, dated back by ``skew``.

        Dated back so that a partner whose clock is behind does not refuse it.
        """
        start = now.replace(microsecond=0) - skew
        return cls(start, start + skew + lifetime)

    def within(self, certificate: x509.Certificate) -> "Validity":
        """Return this validity, ending no later than ``certificate`` does."""
        return Validity(self.start, min(self.end, certificate.not_valid_after_utc))


def generate_key(algorithm: Algorithm) -> PrivateKey:
    """Return a new private key from the operating system's randomness."""
    if algorithm is Algorithm.P256:
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm is Algorithm.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    return mldsa.MLDSA65PrivateKey.generate()


def build_ca(
    key: ec.EllipticCurvePrivateKey,
    institution: str,
    name: str,
    validity: Validity,
    permitted_dns: Sequence[str] = (),
) -> x509.Certificate:
    """Return the self-signed certificate of an institution's authority.

    With ``permitted_dns`` the authority is constrained to web names at or below these, and to no
    IP address at all: whoever installs it in a browser trusts it for nothing else.
    """
    subject = _name(name, f"{institution} certificate authority")
    builder = (
        _builder(subject, subject, key.public_key(), validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(_alternative_names(institution, ()), critical=False)
    )
    if permitted_dns:
        builder = builder.add_extension(_constraints(permitted_dns), critical=True)
    return builder.sign(key, SHA256())


def build_link(
    issuer_key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate,
    subject: x509.Certificate,
    validity: Validity,
) -> x509.Certificate:
    """Return the certificate by which one authority vouches for another key of the same name.

    RFC 4210 section 4.4: the present key signed by the former ("NewWithOld"), or the other way
    round. Both have one name, so the link is self-issued and lengthens no path (RFC 5280 section
    4.2.1.9). It has the extensions of the authority that it stands for, its constraints included,
    and its own authority key identifier.
    """
    window = validity.within(issuer).within(subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject.subject)
        .issuer_name(issuer.subject)
        .public_key(subject.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(window.start)
        .not_valid_after(window.end)
    )
    for extension in subject.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return builder.add_extension(_authority_key_identifier(issuer), critical=False).sign(
        issuer_key, SHA256()
    )


def permitted_dns(ca: x509.Certificate) -> tuple[str, ...]:
    """Return the web names to which an authority is constrained, none if it is not."""
    try:
        constraints = ca.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    permitted = constraints.permitted_subtrees or ()
    return tuple(str(each.value) for each in permitted if isinstance(each, x509.DNSName))


def build_leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    public_key: PublicKey,
    purpose: Purpose,
    institution: str,
    validity: Validity,
    dns_names: Sequence[str] = (),
) -> x509.Certificate:
    """Return a certificate of ``public_key`` for one purpose, issued by ``ca``."""
    subject = _name(organisation(ca), dns_names[0] if dns_names else f"{institution} {purpose}")
    builder = _builder(subject, ca.subject, public_key, validity.within(ca))
    for extension, critical in leaf_extensions(purpose, institution, dns_names):
        builder = builder.add_extension(extension, critical)
    return builder.add_extension(_authority_key_identifier(ca), critical=False).sign(
        ca_key, SHA256()
    )


def leaf_extensions(
    purpose: Purpose, institution: str, dns_names: Sequence[str] = ()
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions that make a leaf one of a purpose, and whether each is critical."""
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(authority=False), True),
        (_extended_key_usage(purpose), False),
        (_alternative_names(institution, dns_names), False),
    ]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One line of a revocation list."""

    serial: int
    at: datetime
    reason: x509.ReasonFlags


def build_crl(
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    number: int,
    now: datetime,
    lifetime: timedelta,
    withdrawals: Iterable[Withdrawal],
) -> x509.CertificateRevocationList:
    """Return revocation list ``number`` (counting up for ever) as of ``now``."""
    moment = now.replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(moment)
        .next_update(moment + lifetime)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key_identifier(ca), critical=False)
    )
    for withdrawal in withdrawals:
        builder = builder.add_revoked_certificate(_revoked(withdrawal))
    return builder.sign(ca_key, SHA256())


def withdrawals_of(crl: x509.CertificateRevocationList) -> list[Withdrawal]:
    """Return the lines of a revocation list that :func:`build_crl` made."""
    return [
        Withdrawal(
            entry.serial_number,
            entry.revocation_date_utc,
            entry.extensions.get_extension_for_class(x509.CRLReason).value.reason,
        )
        for entry in crl
    ]


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """Return the number of a revocation list. Raises ``x509.ExtensionNotFound`` if it has none."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(organisation: str, common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:_LONGEST_NAME]),
            x509.NameAttribute(NameOID.COMMON_NAME, common[:_LONGEST_NAME]),
        ]
    )


def organisation(ca: x509.Certificate) -> str:
    """Return the institution's name as it stands in its authority."""
    return str(ca.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _extended_key_usage(purpose: Purpose) -> x509.ExtendedKeyUsage:
    what = meaning(purpose)
    return x509.ExtendedKeyUsage([*what.tls_uses, what.oid])


def _alternative_names(institution: str, dns_names: Sequence[str]) -> x509.SubjectAlternativeName:
    uri = x509.UniformResourceIdentifier(institution_uri(institution))
    return x509.SubjectAlternativeName([*map(x509.DNSName, dns_names), uri])


def _authority_key_identifier(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _constraints(permitted_dns: Sequence[str]) -> x509.NameConstraints:
    # A name form without any permitted entry is unconstrained, so every address is excluded.
    everywhere = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    return x509.NameConstraints(
        permitted_subtrees=[x509.DNSName(name) for name in permitted_dns],
        excluded_subtrees=[x509.IPAddress(network) for network in everywhere],
    )


def _revoked(withdrawal: Withdrawal) -> x509.RevokedCertificate:
    return (
        x509.RevokedCertificateBuilder()
        .serial_number(withdrawal.serial)
        .revocation_date(withdrawal.at.replace(microsecond=0))
        .add_extension(x509.CRLReason(withdrawal.reason), critical=False)
        .build()
    )
