"""The primitives give the published answers, and the vault uses them as it says."""

import hmac
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from medportal.core import canonical
from medportal.vault import envelope, kdf

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("key", "nonce", "plaintext", "aad", "expected"),
    [
        # The Galois/Counter Mode of Operation (McGrew, Viega), test cases 13, 14 and 16.
        ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        (
            "00" * 32,
            "00" * 12,
            "00" * 16,
            "",
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (
            "feffe9928665731c6d6a8f9467308308" * 2,
            "cafebabefacedbaddecaf888",
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ],
)
def test_aes_256_gcm(key: str, nonce: str, plaintext: str, aad: str, expected: str) -> None:
    parts = [bytes.fromhex(text) for text in (nonce, plaintext, aad)]
    assert AESGCM(bytes.fromhex(key)).encrypt(*parts).hex() == expected


def test_aes_kw_rfc_3394_section_4_6() -> None:
    data = bytes.fromhex("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")
    expected = "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"
    assert aes_key_wrap(KEY, data).hex() == expected
    assert aes_key_unwrap(KEY, bytes.fromhex(expected)) == data


RFC_5869 = [
    (
        b"\x0b" * 22,
        bytes(range(13)),
        bytes(range(0xF0, 0xFA)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c6"
        "5e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        b"\x0b" * 22,
        b"",
        b"",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


def plain_hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 section 2, written out with HMAC only."""
    prk = hmac.digest(salt or bytes(32), key, sha256)
    block, out = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([counter]), sha256)
        out += block
    return out[:length]


@pytest.mark.parametrize(("key", "salt", "info", "expected"), RFC_5869)
def test_hkdf_sha256_rfc_5869_appendix_a(
    key: bytes, salt: bytes, info: bytes, expected: str
) -> None:
    length = len(expected) // 2
    library = HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info)
    assert library.derive(key).hex() == expected
    assert plain_hkdf(key, salt, info, length).hex() == expected


def test_derive_is_hkdf_sha256() -> None:
    assert kdf.derive(KEY, b"info") == plain_hkdf(KEY, b"", b"info", 32)


def test_an_envelope_opens_by_its_documented_layout_alone() -> None:
    context: dict[str, str | int] = {
        "tenant": "hospital",
        "patient": "a" * 32,
        "record": "b" * 32,
        "version": 3,
    }
    sealed = envelope.seal_document(KEY, b"blood type 0 negative", context)
    info = canonical.encode(["medportal envelope 1 document", context])
    nonce, check, wrapped = sealed[5:17], sealed[17:25], sealed[25:65]
    dek = aes_key_unwrap(plain_hkdf(KEY, b"", info, 32), wrapped)
    tag_key = plain_hkdf(KEY, b"", b"medportal envelope 1 check", 32)
    assert sealed[:5] == b"MPV\x01\x02"
    assert check == hmac.digest(tag_key, nonce, sha256)[:8]
    assert AESGCM(dek).decrypt(nonce, sealed[65:], sealed[:65] + info) == b"blood type 0 negative"
