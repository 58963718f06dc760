"""An authenticator in software, for tests: honest, or lying in whatever a test says.

Written from https://www.w3.org/TR/webauthn-3/ sections 5.8.1 (client data), 6.1 (authenticator
data), 6.5.1 (attested credential data) and 8.7 (attestation "none").
"""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

PRESENT, VERIFIED, MAY_BE_COPIED, COPIED, ATTESTED = 0x01, 0x04, 0x08, 0x10, 0x40
HONEST = PRESENT | VERIFIED


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Credential:
    """One key that the authenticator keeps."""

    id: bytes
    rp_id: str
    user_handle: bytes
    private: Any
    count: int = 0


@dataclass
class Authenticator:
    """Keeps keys. ``step`` is by how much its counters go on; 0 for one without counters."""

    algorithm: int = -7
    step: int = 1
    flags: int = HONEST
    transports: list[Any] = field(default_factory=lambda: ["internal", "hybrid"])
    kept: list[Credential] = field(default_factory=list)

    def create(self, options: dict[str, Any], origin: str, **lies: Any) -> dict[str, Any]:
        """Answer ``navigator.credentials.create``."""
        rp_id = options["rp"]["id"]
        made = Credential(
            lies.get("credential_id", secrets.token_bytes(32)),
            rp_id,
            decode(options["user"]["id"]),
            self._new_key(),
        )
        self.kept.append(made)
        attested_id = lies.get("attested_id", made.id)
        public_key = lies.get("public_key", cose(made.private))
        data = (
            self._data(lies.get("rp_id", rp_id), made, ATTESTED, lies)
            + lies.get("aaguid", bytes(16))
            + len(attested_id).to_bytes(2, "big")
            + attested_id
            + public_key
        )
        attestation = lies.get("attestation", {"fmt": "none", "attStmt": {}})
        return self._answer(
            made,
            {
                "clientDataJSON": self._client_data("webauthn.create", options, origin, lies),
                "attestationObject": cbor2.dumps({**attestation, "authData": data}),
            },
            {"transports": self.transports},
        )

    def get(self, options: dict[str, Any], origin: str, **lies: Any) -> dict[str, Any]:
        """Answer ``navigator.credentials.get`` with the newest key that fits."""
        allowed = {decode(one["id"]) for one in options["allowCredentials"]}
        fitting = [one for one in self.kept if not allowed or one.id in allowed]
        used: Credential = lies.get("credential", fitting[-1] if fitting else None)
        used.count += self.step
        data = self._data(lies.get("rp_id", options["rpId"]), used, 0, lies)
        client_data = self._client_data("webauthn.get", options, origin, lies)
        private = lies.get("private", used.private)
        handle = lies.get("user_handle", used.user_handle)
        parts = {
            "clientDataJSON": client_data,
            "authenticatorData": data,
            "signature": sign(private, data + hashlib.sha256(client_data).digest()),
        }
        return self._answer(used, parts | ({} if handle is None else {"userHandle": handle}), {})

    def _new_key(self) -> Any:
        if self.algorithm == -7:
            return ec.generate_private_key(ec.SECP256R1())
        if self.algorithm == -8:
            return ed25519.Ed25519PrivateKey.generate()
        return rsa.generate_private_key(65537, 2048)

    def _data(self, rp_id: str, key: Credential, more: int, lies: dict[str, Any]) -> bytes:
        flags = lies.get("flags", self.flags) | more
        count = lies.get("count", key.count)
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + count.to_bytes(4, "big")

    def _client_data(
        self, kind: str, options: dict[str, Any], origin: str, lies: dict[str, Any]
    ) -> bytes:
        return json.dumps(
            {
                "type": lies.get("type", kind),
                "challenge": lies.get("challenge", options["challenge"]),
                "origin": origin,
                "crossOrigin": lies.get("cross_origin", False),
            }
        ).encode()

    def _answer(
        self, key: Credential, parts: dict[str, bytes], rest: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": encode(key.id),
            "rawId": encode(key.id),
            "type": "public-key",
            "response": {name: encode(value) for name, value in parts.items()} | rest,
        }


def cose(private: Any) -> bytes:
    """Return a private key's public half as RFC 9052 and 9053 encode it."""
    numbers = private.public_key()
    if isinstance(private, ec.EllipticCurvePrivateKey):
        point = numbers.public_numbers()
        size = (numbers.key_size + 7) // 8
        curve = {"secp256r1": 1, "secp384r1": 2}[numbers.curve.name]
        x, y = point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big")
        return cbor2.dumps({1: 2, 3: -7, -1: curve, -2: x, -3: y})
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return cbor2.dumps({1: 1, 3: -8, -1: 6, -2: numbers.public_bytes_raw()})
    public = numbers.public_numbers()
    modulus = public.n.to_bytes((public.n.bit_length() + 7) // 8, "big")
    return cbor2.dumps({1: 3, 3: -257, -1: modulus, -2: public.e.to_bytes(3, "big")})


def sign(private: Any, data: bytes) -> bytes:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.sign(data, ec.ECDSA(SHA256()))
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(data)
    return private.sign(data, padding.PKCS1v15(), SHA256())
