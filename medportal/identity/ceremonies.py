"""Ceremonies of WebAuthn Level 3: what a browser is asked, and whether its answer is right.

The library verifies; this module says what it has to verify, keeps from it what no browser
sends, and turns its refusals into ours. Section numbers are those of
https://www.w3.org/TR/webauthn-3/. Nothing here reads or writes a database.

Attestation is not asked for: which make of authenticator somebody uses is not our business.
What comes uninvited is cut away unread, and with it the parsing of certificates and vendors'
formats that strangers made.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    encode_cbor,
    parse_cbor,
    parse_client_data_json,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.options_to_json_dict import options_to_json_dict
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticationCredential,
    AuthenticatorAssertionResponse,
    AuthenticatorAttestationResponse,
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    RegistrationCredential,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from medportal.core.reasons import Reason
from medportal.identity.errors import MalformedAnswer, PasskeyRefused

#: How long a browser waits for the person, and we for the browser.
MINUTES = 5
#: In order of preference; what authenticators have today.
ALGORITHMS = [
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
LONGEST_ANSWER = 16_000
#: Section 4, "Credential ID": between 16 and 1023 bytes.
SHORTEST_ID, LONGEST_ID = 16, 1023
LONGEST_CLIENT_DATA = 4096
LONGEST_PART = 8192
LONGEST_HANDLE = 64
LEAST_RSA_BITS, MOST_RSA_BITS = 2048, 4096
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_TRANSPORTS = frozenset(transport.value for transport in AuthenticatorTransport)


class Purpose(StrEnum):
    """What an answer is for. One for one purpose is worth nothing for another."""

    SIGN_IN = "sign-in"
    SECOND_STEP = "second-step"
    CONFIRM = "confirm"
    ADD = "add"


@dataclass(frozen=True, slots=True)
class Site:
    """The institution as passkeys know it.

    ``rp_id`` is its host name, to which a passkey belongs for good; ``origin`` the one
    address, with scheme and port, whose pages may use it.
    """

    rp_id: str
    origin: str
    name: str


@dataclass(frozen=True, slots=True)
class Known:
    """A passkey as far as a browser has to know it."""

    credential_id: bytes
    transports: str


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """What a browser says after it made a passkey; nothing of it is verified."""

    credential_id: bytes
    client_data: bytes
    attestation_object: bytes
    transports: str


@dataclass(frozen=True, slots=True)
class UseAnswer:
    """What a browser says after a passkey was used; nothing of it is verified."""

    credential_id: bytes
    client_data: bytes
    authenticator_data: bytes
    signature: bytes
    user_handle: bytes | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A passkey that was just made, verified."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    transports: str
    backed_up: bool


@dataclass(frozen=True, slots=True)
class Use:
    """What a verified use says of the passkey."""

    sign_count: int
    backed_up: bool


def handle_of(person_id: str) -> bytes:
    """Return the name under which an authenticator keeps somebody's passkey: random bits."""
    return bytes.fromhex(person_id)


def creation_options(
    site: Site, person_id: str, name: str, challenge: bytes, existing: Iterable[Known]
) -> dict[str, Any]:
    """Return what a browser needs to make a passkey, as JSON has it (section 5.1.8).

    It has to be discoverable, so that it signs in without a number, and to verify its user,
    so that it is two factors.
    """
    options = generate_registration_options(
        rp_id=site.rp_id,
        rp_name=site.name,
        user_id=handle_of(person_id),
        user_name=name,
        challenge=challenge,
        timeout=MINUTES * 60_000,
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[_descriptor(known) for known in existing],
        supported_pub_key_algs=ALGORITHMS,
    )
    return options_to_json_dict(options)


def request_options(site: Site, challenge: bytes, allowed: Iterable[Known]) -> dict[str, Any]:
    """Return what a browser needs to use a passkey, as JSON has it (section 5.1.9).

    Nothing ``allowed`` means whichever of this site the person chooses.
    """
    options = generate_authentication_options(
        rp_id=site.rp_id,
        challenge=challenge,
        timeout=MINUTES * 60_000,
        allow_credentials=[_descriptor(known) for known in allowed],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


def parse_new(text: str) -> NewAnswer:
    """Read the answer of ``navigator.credentials.create``. Raises ``MalformedAnswer``."""
    fields, response = _fields(text)
    return NewAnswer(
        _credential_id(fields),
        _bytes(response, "clientDataJSON", LONGEST_CLIENT_DATA),
        _bytes(response, "attestationObject", LONGEST_PART),
        _transports(response.get("transports")),
    )


def parse_use(text: str) -> UseAnswer:
    """Read the answer of ``navigator.credentials.get``. Raises ``MalformedAnswer``."""
    fields, response = _fields(text)
    has_handle = response.get("userHandle") is not None
    return UseAnswer(
        _credential_id(fields),
        _bytes(response, "clientDataJSON", LONGEST_CLIENT_DATA),
        _bytes(response, "authenticatorData", LONGEST_PART),
        _bytes(response, "signature", LONGEST_PART),
        _bytes(response, "userHandle", LONGEST_HANDLE) if has_handle else None,
    )


def challenge_of(client_data: bytes) -> bytes:
    """Return the challenge that an answer claims to answer. Raises ``PasskeyRefused``."""
    with _refusing():
        return parse_client_data_json(client_data).challenge


def verify_new(site: Site, challenge: bytes, answer: NewAnswer) -> NewKey:
    """Return the passkey that was made (section 7.1). Raises ``PasskeyRefused``.

    1. It was made for this challenge, on a page of this origin and in no frame of another's.
    2. The authenticator made it for this host, saw its user and verified who that is.
    3. The credential is the one that the browser names.
    4. The key is of a kind and size that we verify signatures with.
    """
    with _refusing():
        _check_place(site, answer.client_data)  # 1
        made = verify_registration_response(  # 1, 2
            credential=RegistrationCredential(
                id=_text(answer.credential_id),
                raw_id=answer.credential_id,
                response=AuthenticatorAttestationResponse(
                    client_data_json=answer.client_data,
                    attestation_object=_unattested(answer.attestation_object),
                ),
            ),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
        if made.credential_id != answer.credential_id:  # 3
            raise PasskeyRefused(Reason.WRONG_CREDENTIALS)
        _check_key(made.credential_public_key)  # 4
    return NewKey(
        made.credential_id,
        made.credential_public_key,
        made.sign_count,
        answer.transports,
        made.credential_backed_up,
    )


def verify_use(site: Site, challenge: bytes, answer: UseAnswer, public_key: bytes) -> Use:
    """Return what a use of a passkey says of it (section 7.2). Raises ``PasskeyRefused``.

    1. It answers this challenge, on a page of this origin and in no frame of another's.
    2. The authenticator signed for this host, saw its user and verified who that is.
    3. The signature is the key's.

    Whose the key is, and whether its counter went on, is for the caller to say.
    """
    with _refusing():
        _check_place(site, answer.client_data)  # 1
        used = verify_authentication_response(  # 1, 2, 3
            credential=AuthenticationCredential(
                id=_text(answer.credential_id),
                raw_id=answer.credential_id,
                response=AuthenticatorAssertionResponse(
                    client_data_json=answer.client_data,
                    authenticator_data=answer.authenticator_data,
                    signature=answer.signature,
                    user_handle=answer.user_handle,
                ),
            ),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=public_key,
            # The library would look at the counter before the signature, and anybody could
            # then make us believe in a copy of somebody's passkey.
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    return Use(used.new_sign_count, used.credential_backed_up)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what the library and its parsers raise about a stranger's bytes into a refusal."""
    try:
        yield
    except (
        WebAuthnException,
        UnsupportedAlgorithm,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise PasskeyRefused(Reason.WRONG_CREDENTIALS) from error


def _check_place(site: Site, client_data: bytes) -> None:
    said = parse_client_data_json(client_data)
    if said.origin != site.origin or said.cross_origin:
        raise PasskeyRefused(Reason.WRONG_SITE)


def _unattested(attestation_object: bytes) -> bytes:
    """Return the same without its attestation, as section 8.7 writes none."""
    found: Any = parse_cbor(attestation_object)
    data = found["authData"]
    if not isinstance(data, bytes):
        raise PasskeyRefused(Reason.WRONG_CREDENTIALS)
    return encode_cbor({"fmt": "none", "attStmt": {}, "authData": data})


def _check_key(public_key: bytes) -> None:
    """Raise unless every later signature of this key can be verified."""
    decoded = decode_credential_public_key(public_key)
    match decoded.alg, decoded_public_key_to_cryptography(decoded):
        case COSEAlgorithmIdentifier.EDDSA, Ed25519PublicKey():
            is_good = True
        case COSEAlgorithmIdentifier.ECDSA_SHA_256, EllipticCurvePublicKey() as key:
            is_good = isinstance(key.curve, SECP256R1)
        case COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256, RSAPublicKey() as rsa:
            is_good = LEAST_RSA_BITS <= rsa.key_size <= MOST_RSA_BITS
        case _:
            is_good = False
    if not is_good:
        raise PasskeyRefused(Reason.WRONG_CREDENTIALS)


def _fields(text: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if len(text) > LONGEST_ANSWER:
        raise MalformedAnswer("too long")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedAnswer("no JSON") from None
    match fields:
        case {"type": "public-key", "response": dict(response)}:
            return fields, response
        case _:
            raise MalformedAnswer("no credential")


def _credential_id(fields: Mapping[str, Any]) -> bytes:
    raw = _bytes(fields, "rawId", LONGEST_ID)
    if len(raw) < SHORTEST_ID or fields.get("id") != fields["rawId"]:
        raise MalformedAnswer("no credential id")
    return raw


def _bytes(fields: Mapping[str, Any], name: str, longest: int) -> bytes:
    """Return what a field holds as base64url: the one spelling of it, without padding."""
    value = fields.get(name)
    if not isinstance(value, str) or not _BASE64URL.fullmatch(value):
        raise MalformedAnswer(name)
    try:
        decoded = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error:
        raise MalformedAnswer(name) from None
    if len(decoded) > longest or _text(decoded) != value:
        raise MalformedAnswer(name)
    return decoded


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _transports(said: object) -> str:
    """Return the ways to reach an authenticator that we know: hints, and nothing else."""
    if not isinstance(said, list):
        return ""
    return " ".join(sorted({one for one in said if isinstance(one, str)} & _TRANSPORTS))


def _descriptor(known: Known) -> PublicKeyCredentialDescriptor:
    transports = [AuthenticatorTransport(one) for one in known.transports.split()]
    return PublicKeyCredentialDescriptor(id=known.credential_id, transports=transports or None)
