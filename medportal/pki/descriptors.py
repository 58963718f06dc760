"""What one institution hands another so that they can become partners (PURE).

A descriptor holds the institution's names and kind, its authority's certificate, its endpoint and
its share of the pseudonym key, signed with its exchange key, in armour that survives mail. It
proves only that it holds together: that it is really *theirs* is what two people make sure of by
comparing :func:`fingerprint` over another way than the file came.

Checks of :func:`verify_descriptor`, numbered as in the code:

1. The armour and the statement inside are well-formed.
2. The payload has every member, of its type and shape.
3. The authority inside is fit to be that institution's authority, now.
4. The statement is signed by an exchange key which that authority certified for that institution.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros
from medportal.pki.errors import DescriptorInvalid
from medportal.pki.pairing import SHARE_BYTES
from medportal.pki.profiles import CrlLimits, Purpose, is_institution
from medportal.pki.signatures import Signed, sign_statement, verify_statement
from medportal.pki.signers import Signer
from medportal.pki.verify import verify_authority

LABEL = "medportal partner descriptor 1"
LANGUAGES = ("en", "pt")
MAX_DESCRIPTOR_BYTES = 64 * 1024
_BEGIN = "-----BEGIN MEDPORTAL PARTNER-----"
_END = "-----END MEDPORTAL PARTNER-----"
_MEMBERS = {"institution", "kind", "names", "ca", "endpoint", "share", "created"}
_HOST = r"(?:[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9][a-z0-9-]{0,62})*|\[[0-9a-f:.]{2,45}\])"
_ENDPOINT = re.compile(rf"{_HOST}:([1-9][0-9]{{0,4}})")
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor that holds together. ``endpoint`` is "host:port", ``None`` if it only sends."""

    institution: str
    kind: str
    names: Mapping[str, str]
    ca: x509.Certificate
    endpoint: str | None
    share: bytes
    created: datetime
    crl_der: bytes
    armoured: bytes


def export_descriptor(
    signer: Signer,
    *,
    kind: str,
    names: Mapping[str, str],
    ca: x509.Certificate,
    endpoint: str | None,
    share: bytes,
    now: datetime,
) -> bytes:
    """Return the armoured descriptor of ``signer``'s institution (``signer``: its exchange key).

    Raises ``DescriptorInvalid`` for what :func:`verify_descriptor` would refuse.
    """
    payload: dict[str, Any] = {
        "institution": signer.institution,
        "kind": kind,
        "names": dict(names),
        "ca": ca.public_bytes(Encoding.DER),
        "endpoint": endpoint,
        "share": share,
        "created": to_micros(now),
    }
    _check_members(payload)
    return _armour(sign_statement(signer, LABEL, payload).to_bytes())


def verify_descriptor(data: bytes, now: datetime, crl_limits: CrlLimits) -> Descriptor:
    """Return the descriptor in ``data``, checked; raise a ``PkiError`` that names what is wrong."""
    signed = Signed.from_bytes(_unarmour(data))  # (1)
    fields = _payload(signed)  # (2)
    ca = verify_authority(_certificate(fields["ca"]), fields["institution"], now)  # (3)
    verify_statement(  # (4)
        signed,
        LABEL,
        ca=ca,
        purpose=Purpose.EXCHANGE,
        institution=fields["institution"],
        crl_limits=crl_limits,
        now=now,
    )
    return Descriptor(
        institution=fields["institution"],
        kind=fields["kind"],
        names=MappingProxyType(fields["names"]),
        ca=ca,
        endpoint=fields["endpoint"],
        share=fields["share"],
        created=_instant(fields["created"]),
        crl_der=signed.crl_der,
        armoured=data,
    )


def fingerprint(descriptor: Descriptor) -> str:
    """Return what two people compare: 128 bits as eight groups of four hexadecimal digits.

    It covers what trust rests on (institution, kind, authority, endpoint, key share) and not what
    changes from one export to the next (time, revocation list, signature).
    """
    covered = canonical.encode(
        [
            "medportal partner fingerprint 1",
            descriptor.institution,
            descriptor.kind,
            descriptor.ca.public_bytes(Encoding.DER),
            descriptor.endpoint,
            descriptor.share,
        ]
    )
    digits = sha256(covered).hexdigest()[:32]
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def _armour(data: bytes) -> bytes:
    text = base64.b64encode(data).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([_BEGIN, *lines, _END, ""]).encode("ascii")


def _unarmour(data: bytes) -> bytes:
    if len(data) > MAX_DESCRIPTOR_BYTES:
        raise DescriptorInvalid("the descriptor is too large")
    try:
        lines = [line.strip() for line in data.decode("ascii").strip().splitlines()]
        if len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
            raise DescriptorInvalid("not a partner descriptor, or cut short")
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except (UnicodeDecodeError, binascii.Error) as error:
        raise DescriptorInvalid("the descriptor's text is damaged") from error


def _payload(signed: Signed) -> dict[str, Any]:
    try:
        fields = canonical.decode(signed.payload)
    except canonical.NotCanonical as error:
        raise DescriptorInvalid("the payload is not canonical CBOR") from error
    _check_members(fields)
    return dict(fields)


def _check_members(fields: Any) -> None:
    if not isinstance(fields, dict) or set(fields) != _MEMBERS:
        raise DescriptorInvalid("not the members of a descriptor")
    shapes = {
        "institution": _is_slug(fields["institution"]),
        "kind": _is_slug(fields["kind"]),
        "names": _are_names(fields["names"]),
        "ca": isinstance(fields["ca"], bytes),
        "endpoint": fields["endpoint"] is None or _is_endpoint(fields["endpoint"]),
        "share": isinstance(fields["share"], bytes) and len(fields["share"]) == SHARE_BYTES,
        "created": type(fields["created"]) is int,
    }
    wrong = [name for name, right in shapes.items() if not right]
    if wrong:
        raise DescriptorInvalid(f"unfit: {', '.join(wrong)}")


def _is_slug(value: Any) -> bool:
    return isinstance(value, str) and is_institution(value)


def _is_endpoint(value: Any) -> bool:
    match = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    return match is not None and int(match[1]) <= 65_535


def _are_names(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != set(LANGUAGES):
        return False
    return all(isinstance(name, str) and _is_name(name) for name in value.values())


def _is_name(text: str) -> bool:
    # Names are shown to people who decide about trust: no line breaks, no direction marks.
    return bool(text.strip()) and len(text) <= _LONGEST_NAME and text.isprintable()


def _certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise DescriptorInvalid("the authority's certificate is malformed") from error


def _instant(micros: int) -> datetime:
    try:
        return from_micros(micros)
    except ValueError as error:
        raise DescriptorInvalid("created at an impossible time") from error
