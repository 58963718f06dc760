"""Requests for certificates (PKCS#10, RFC 2986) and what an authority checks in them (PURE).

Where the authority's key is kept offline, the machine that makes a key sends such a request; its
signature proves that the sender holds the key. Checks of :func:`read_request`, numbered as in the
code. Nothing is copied from a request but the key and, for the web, its DNS names:

1. It is a well-formed request, of a bounded size, and nothing else.
2. Its signature is by the key that it asks a certificate for.
3. It names exactly one purpose, by that purpose's extended key usages, no more, no fewer.
4. The key is of that purpose's algorithm: no other kind, size or curve.
5. It asks for what the profile grants and no more: a leaf, whose key usage is digital signature.
6. It names the institution and no other, and DNS names if it is for the web, and only then.
7. Each DNS name is one that the authority is permitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki.certificates import PrivateKey, PublicKey, leaf_extensions, permitted_dns
from medportal.pki.errors import RequestError
from medportal.pki.profiles import Purpose, institution_uri, meaning
from medportal.pki.verify import algorithm_of, institution_of, key_id

MAX_REQUEST_BYTES = 16 * 1024
_MALFORMED = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


@dataclass(frozen=True, slots=True)
class Request:
    """What a checked request asks for. ``fingerprint`` is what two people compare."""

    institution: str
    purpose: Purpose
    dns_names: tuple[str, ...]
    public_key: PublicKey

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over the public key, in groups of four hexadecimal digits."""
        return grouped(key_id(self.public_key))


def grouped(digits: str) -> str:
    """Return hexadecimal digits in groups of four, to be read aloud."""
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def build_request(
    key: PrivateKey, institution: str, purpose: Purpose, dns_names: Sequence[str] = ()
) -> bytes:
    """Return the request (PEM) for a certificate of ``key``, signed with it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension, critical in leaf_extensions(purpose, institution, dns_names):
        builder = builder.add_extension(extension, critical)
    # Ed25519 and ML-DSA have their hash built in.
    algorithm = SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def read_request(data: bytes, ca: x509.Certificate) -> Request:
    """Return what a request asks of ``ca``, checked. Raises ``RequestError`` saying why not."""
    try:
        parsed = _parse(data)  # (1)
        extensions = {each.oid: each for each in parsed.extensions}
        key = parsed.public_key()
    except (*_MALFORMED, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise RequestError("not a request for a certificate (PKCS#10, PEM)") from error
    if not parsed.is_signature_valid:  # (2)
        raise RequestError("not signed with the key that it asks a certificate for")
    purpose = _purpose(extensions)  # (3)
    if algorithm_of(key) is not meaning(purpose).algorithm:  # (4)
        raise RequestError(f"the key of {purpose} has to be {meaning(purpose).algorithm}")
    institution = institution_of(ca)
    dns_names = _dns_names(extensions)
    if bool(dns_names) != (purpose is Purpose.WEB):  # (6)
        raise RequestError("web certificates have DNS names, others have none")
    _check_extensions(extensions, purpose, institution, dns_names)  # (5, 6)
    _check_permitted(dns_names, permitted_dns(ca))  # (7)
    return Request(institution, purpose, dns_names, key)  # type: ignore[arg-type]  # see (4)


def _parse(data: bytes) -> x509.CertificateSigningRequest:
    if len(data) > MAX_REQUEST_BYTES:
        raise RequestError("the request is too large")
    return x509.load_pem_x509_csr(data)


_Extensions = dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]


def _purpose(extensions: _Extensions) -> Purpose:
    found = extensions.get(x509.ExtendedKeyUsage.oid)
    uses = list(found.value) if found and isinstance(found.value, x509.ExtendedKeyUsage) else []
    for purpose in Purpose:
        if len(uses) == len(meaning(purpose).uses) and frozenset(uses) == meaning(purpose).uses:
            return purpose
    raise RequestError("its extended key usages are those of no purpose")


def _dns_names(extensions: _Extensions) -> tuple[str, ...]:
    found = extensions.get(x509.SubjectAlternativeName.oid)
    if found is None or not isinstance(found.value, x509.SubjectAlternativeName):
        raise RequestError("it names no institution")
    return tuple(found.value.get_values_for_type(x509.DNSName))


def _check_extensions(
    extensions: _Extensions, purpose: Purpose, institution: str, dns_names: Sequence[str]
) -> None:
    granted = {each.oid: each for each, _ in leaf_extensions(purpose, institution, dns_names)}
    for oid, extension in extensions.items():
        if oid not in granted:
            raise RequestError(f"it asks for what no profile grants: extension {oid.dotted_string}")
        if oid == x509.SubjectAlternativeName.oid:
            _check_names(extension.value, institution, dns_names)
        elif oid != x509.ExtendedKeyUsage.oid and extension.value != granted[oid]:
            what = "a leaf" if oid == x509.BasicConstraints.oid else "for digital signatures alone"
            raise RequestError(f"it does not ask for a certificate that is {what}")


def _check_names(value: object, institution: str, dns_names: Sequence[str]) -> None:
    assert isinstance(value, x509.SubjectAlternativeName)
    wanted = {x509.UniformResourceIdentifier(institution_uri(institution))}
    if set(value) != wanted | set(map(x509.DNSName, dns_names)):
        raise RequestError(f"it has to name {institution} and nothing besides")


def _check_permitted(dns_names: Sequence[str], permitted: Sequence[str]) -> None:
    for name in dns_names:
        below = any(name == each or name.endswith(f".{each}") for each in permitted)
        if permitted and not below:
            raise RequestError(f"{name} is none of the authority's names: {', '.join(permitted)}")
