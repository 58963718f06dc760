"""Published vectors, through the very functions that the vault seals and opens with.

The numbers come from ``cryptography-vectors``, which holds the files as their publishers made them:
NIST's CAVS for GCM and key wrapping, those of RFC 5869 and RFC 9180, and those of the draft for
post-quantum HPKE (draft-ietf-hpke-pq), which has the hybrid of :mod:`medportal.vault.sealing`.
"""

import hmac
import json
from collections.abc import Iterator
from functools import cache
from hashlib import sha256, shake_256
from typing import Any, cast

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography_vectors import open_vector_file

from medportal.vault import envelope, kdf, sealing
from medportal.vault.errors import Tampered
from medportal.vault.sealing import BoxPrivateKey, BoxPublicKey

X_WING = 0x647A
HKDF_SHA256, SHAKE256 = 0x0001, 0x0011
AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, EXPORT_ONLY = 1, 2, 3, 0xFFFF
BASE = 0

KEMS = {0x20: KEM.X25519, 0x10: KEM.P256, 0x12: KEM.P521}
KDFS = {HKDF_SHA256: KDF.HKDF_SHA256, 0x0003: KDF.HKDF_SHA512, SHAKE256: KDF.SHAKE256}
AEADS: dict[int, tuple[AEAD, type[AESGCM] | type[ChaCha20Poly1305]]] = {
    AES_128_GCM: (AEAD.AES_128_GCM, AESGCM),
    AES_256_GCM: (AEAD.AES_256_GCM, AESGCM),
    CHACHA20_POLY1305: (AEAD.CHACHA20_POLY1305, ChaCha20Poly1305),
}
CURVES = {0x10: ec.SECP256R1(), 0x12: ec.SECP521R1()}


def cases(name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Give each case of a file of ``name = value`` lines, with the section that it stands in."""
    with open_vector_file(name, "r") as file:
        sections, case = {}, {}
        for line in map(str.strip, file):
            if line.startswith("["):
                key, _equals, value = line.strip("[]").partition("=")
                sections[key.strip()] = value.strip()
            elif line and not line.startswith("#"):
                key, _equals, value = line.partition("=")
                case[key.strip()] = value.strip()
            elif not line and case:
                yield ",".join(f"{key}={value}" for key, value in sections.items()), case
                case = {}
        if case:
            yield ",".join(f"{key}={value}" for key, value in sections.items()), case


# --- AES-256-GCM, as the envelope uses it: nonces of 96 bits, tags of 128 ---------------------


def gcm(name: str) -> list[dict[str, str]]:
    """Return NIST's cases with nonce and tag as long as those of an envelope."""
    ours = {f"IVlen={envelope.NONCE_LENGTH * 8}", f"Taglen={envelope.TAG_LENGTH * 8}"}
    return [case for section, case in cases(name) if ours <= set(section.split(","))]


def test_gcm_seals_as_nist_says() -> None:
    found = gcm("ciphers/AES/GCM/gcmEncryptExtIV256.rsp")
    assert len(found) == 375
    for case in found:
        key, nonce, plaintext, aad = (bytes.fromhex(case[n]) for n in ("Key", "IV", "PT", "AAD"))
        sealed = AESGCM(key).encrypt(nonce, plaintext, aad)
        assert sealed.hex() == case["CT"] + case["Tag"]


def test_gcm_opens_and_refuses_as_nist_says() -> None:
    found = gcm("ciphers/AES/GCM/gcmDecrypt256.rsp")
    refused = 0
    for case in found:
        key, nonce, aad = (bytes.fromhex(case[n]) for n in ("Key", "IV", "AAD"))
        sealed = bytes.fromhex(case["CT"] + case["Tag"])
        if "FAIL" in case:
            refused += 1
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt(nonce, sealed, aad)
        else:
            assert AESGCM(key).decrypt(nonce, sealed, aad).hex() == case["PT"]
    assert (len(found), refused) == (375, 191)


# --- AES-KW and HKDF, through medportal.vault.kdf ---------------------------------------------


@pytest.fixture
def given_kek(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrap under the key of a vector, where the vault wraps under one derived from it."""
    monkeypatch.setattr(kdf, "derive", lambda key, info: key)


def wraps(name: str) -> list[dict[str, str]]:
    """Return NIST's cases (SP 800-38F, the algorithm of RFC 3394) with keys of 256 bits inside."""
    return [case for section, case in cases(name) if section == "PLAINTEXT LENGTH=256"]


@pytest.mark.usefixtures("given_kek")
def test_keys_are_wrapped_as_nist_says() -> None:
    found = wraps("keywrap/kwtestvectors/KW_AE_256.txt")
    assert len(found) == 100
    for case in found:
        kek, inner = bytes.fromhex(case["K"]), bytes.fromhex(case["P"])
        assert kdf.wrap(kek, inner, b"context").hex() == case["C"]


@pytest.mark.usefixtures("given_kek")
def test_keys_are_unwrapped_and_refused_as_nist_says() -> None:
    found = wraps("keywrap/kwtestvectors/KW_AD_256.txt")
    for case in found:
        key = kdf.unwrap(bytes.fromhex(case["K"]), bytes.fromhex(case["C"]), b"context")
        assert key == (None if "FAIL" in case else bytes.fromhex(case["P"]))
    assert (len(found), sum("FAIL" in case for case in found)) == (100, 20)


def test_keys_are_derived_as_rfc_5869_says(monkeypatch: pytest.MonkeyPatch) -> None:
    # Blank lines stand within these cases, not only between them.
    parts = [case for _section, case in cases("KDF/rfc-5869-HKDF-SHA256.txt")]
    given = [case for case in parts if "IKM" in case]
    expected = [case["OKM"] for case in parts if "OKM" in case]
    assert (len(given), len(expected)) == (3, 3)
    for case, output in zip(given, expected, strict=True):
        key, salt, info = (bytes.fromhex(case[name]) for name in ("IKM", "salt", "info"))
        # Keys of the vault have 32 bytes, those of the RFC another length.
        monkeypatch.setattr(kdf, "KEY_LENGTH", len(key))
        assert kdf.derive(key, info, salt=salt, length=int(case["L"])).hex() == output


# --- HPKE ------------------------------------------------------------------------------------
#
# The library seals and opens one message without associated data; the published messages have
# some. So each published message is checked against the published key and nonce, and what the
# library opens is sealed here under these: it has to find both from the published encapsulation.


@cache
def hpke(name: str) -> list[dict[str, Any]]:
    """Return the published cases of base mode that seal messages."""
    with open_vector_file(f"HPKE/{name}.json", "r") as file:
        found = cast("list[dict[str, Any]]", json.load(file))
    return [
        case for case in found if (case["mode"], case["aead_id"] != EXPORT_ONLY) == (BASE, True)
    ]


def unhexed(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def box(case: dict[str, Any]) -> bytes:
    """Return the first published message sealed again without associated data.

    Fails where key and nonce do not give the message that was published.
    """
    cipher = AEADS[case["aead_id"]][1]
    enc, key, nonce = unhexed(case, "enc", "key", "base_nonce")
    plaintext, aad, sealed = unhexed(case["encryptions"][0], "pt", "aad", "ct")
    assert cipher(key).encrypt(nonce, plaintext, aad) == sealed
    return enc + cipher(key).encrypt(nonce, plaintext, None)


def private_key(case: dict[str, Any]) -> Any:
    """Return the recipient's key of a case of RFC 9180."""
    raw = bytes.fromhex(case["skRm"])
    if case["kem_id"] in CURVES:
        return ec.derive_private_key(int.from_bytes(raw), CURVES[case["kem_id"]])
    return x25519.X25519PrivateKey.from_private_bytes(raw)


def test_hpke_opens_what_rfc_9180_published() -> None:
    found = [case for case in hpke("test-vectors") if case["kem_id"] in KEMS]
    assert len(found) == 18
    for case in found:
        suite = Suite(KEMS[case["kem_id"]], KDFS[case["kdf_id"]], AEADS[case["aead_id"]][0])
        info, plaintext = bytes.fromhex(case["info"]), bytes.fromhex(case["encryptions"][0]["pt"])
        assert suite.decrypt(box(case), private_key(case), info=info) == plaintext
        with pytest.raises(InvalidTag):
            suite.decrypt(box(case), private_key(case), info=info + b"x")


def hybrids() -> list[dict[str, Any]]:
    """Return the published cases of ML-KEM-768 with X25519 (X-Wing)."""
    return [case for case in hpke("hpke-pq-test-vectors") if case["kem_id"] == X_WING]


def hybrid_key(case: dict[str, Any]) -> BoxPrivateKey:
    """Return the recipient's key. The draft keeps 32 bytes, of which X-Wing makes the 96."""
    return BoxPrivateKey.from_bytes(
        shake_256(bytes.fromhex(case["skRm"])).digest(sealing.PRIVATE_LENGTH)
    )


def test_the_hybrid_opens_what_the_draft_published() -> None:
    assert [(case["kdf_id"], case["aead_id"]) for case in hybrids()] == [
        (HKDF_SHA256, CHACHA20_POLY1305),
        (SHAKE256, CHACHA20_POLY1305),
    ]
    for case in hybrids():
        own = hybrid_key(case)
        assert own.public.raw.hex() == case["pkRm"]
        assert own.public == BoxPublicKey.from_bytes(bytes.fromhex(case["pkRm"]))
        suite = Suite(KEM.MLKEM768_X25519, KDFS[case["kdf_id"]], AEAD.CHACHA20_POLY1305)
        opened = suite.decrypt(box(case), own.key, info=bytes.fromhex(case["info"]))
        assert opened.hex() == case["encryptions"][0]["pt"]


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 section 2.3, for one block of output."""
    assert length <= sha256().digest_size
    return hmac.digest(prk, info + b"\x01", sha256)[:length]


def schedule(shared_secret: bytes, info: bytes, aead_id: int) -> tuple[bytes, bytes]:
    """RFC 9180 section 5.1 for base mode and HKDF-SHA256, written out: key and base nonce."""
    suite = b"HPKE" + X_WING.to_bytes(2) + HKDF_SHA256.to_bytes(2) + aead_id.to_bytes(2)

    def extract(salt: bytes, label: bytes, key: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + suite + label + key, sha256)

    def labelled(label: bytes, length: int) -> bytes:
        return expand(secret, length.to_bytes(2) + b"HPKE-v1" + suite + label + context, length)

    context = bytes([BASE]) + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared_secret, b"secret", b"")
    return labelled(b"key", 32), labelled(b"base_nonce", 12)


def test_the_suite_of_the_boxes_opens_what_was_published() -> None:
    # No one published a message of exactly this suite: the draft's hybrid comes with another
    # cipher, which the key schedule depends on. The schedule written out here gives the published
    # key and nonce for that one, so it may say what they are with AES-256-GCM.
    case = next(case for case in hybrids() if case["kdf_id"] == HKDF_SHA256)
    enc, info, shared, key, nonce = unhexed(
        case, "enc", "info", "shared_secret", "key", "base_nonce"
    )
    assert schedule(shared, info, case["aead_id"]) == (key, nonce)
    key, nonce = schedule(shared, info, AES_256_GCM)
    sealed = enc + AESGCM(key).encrypt(nonce, b"result", None)
    assert sealing.open_with(hybrid_key(case), sealed, info) == b"result"
    with pytest.raises(Tampered):
        sealing.open_with(hybrid_key(case), sealed, info + b"x")
