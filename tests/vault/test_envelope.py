"""The sealed envelope: what goes in comes out, and nothing else ever does."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import medportal
from medportal.core.canonical import NotCanonical
from medportal.vault import envelope, kdf
from medportal.vault.errors import InvalidKey, Tampered, UnknownVersion, WrongKey

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
CONTEXT: dict[str, str | int] = {
    "tenant": "hospital",
    "patient": "a" * 32,
    "record": "b" * 32,
    "version": 1,
}
PLAINTEXT = b"diagnosis: broken wrist"


@given(st.binary(max_size=5000), st.binary(min_size=32, max_size=32))
def test_round_trip(plaintext: bytes, key: bytes) -> None:
    sealed = envelope.seal_document(key, plaintext, CONTEXT)
    assert len(sealed) == len(plaintext) + envelope.OVERHEAD
    assert envelope.open_document(key, sealed, CONTEXT) == plaintext


def test_a_value_comes_back() -> None:
    sealed = envelope.seal(KEY, PLAINTEXT, context=CONTEXT)
    assert envelope.open_(KEY, sealed, context=CONTEXT) == PLAINTEXT


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    sealed = envelope.seal_document(KEY, PLAINTEXT, CONTEXT)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1 << bit
        expected = UnknownVersion if place == len(envelope.MAGIC) else Tampered
        with pytest.raises(expected):
            envelope.open_document(KEY, bytes(changed), CONTEXT)


def test_every_cut_and_every_addition_is_noticed() -> None:
    sealed = envelope.seal_document(KEY, PLAINTEXT, CONTEXT)
    for length in range(len(sealed)):
        with pytest.raises(Tampered):
            envelope.open_document(KEY, sealed[:length], CONTEXT)
    with pytest.raises(Tampered):
        envelope.open_document(KEY, sealed + b"\x00", CONTEXT)


def test_parts_of_two_envelopes_do_not_mix() -> None:
    first = envelope.seal_document(KEY, PLAINTEXT, CONTEXT)
    second = envelope.seal_document(KEY, PLAINTEXT, CONTEXT)
    # From the whole nonce of the first on, up to half the tag of the second.
    for place in range(17, len(first) - 8):
        with pytest.raises(Tampered):
            envelope.open_document(KEY, first[:place] + second[place:], CONTEXT)


def test_another_key_is_told_from_a_changed_envelope() -> None:
    sealed = envelope.seal_document(KEY, PLAINTEXT, CONTEXT)
    with pytest.raises(WrongKey):
        envelope.open_document(OTHER_KEY, sealed, CONTEXT)


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "laboratory"},
        {"patient": "c" * 32},
        {"record": "c" * 32},
        {"version": 2},
        {"version": "1"},
        {"more": 1},
    ],
)
def test_another_context_does_not_open(changed: dict[str, str | int]) -> None:
    sealed = envelope.seal_document(KEY, PLAINTEXT, CONTEXT)
    with pytest.raises(Tampered):
        envelope.open_document(KEY, sealed, {**CONTEXT, **changed})


def test_a_value_is_no_document() -> None:
    value = envelope.seal(KEY, PLAINTEXT, context=CONTEXT)
    document = envelope.seal_document(KEY, PLAINTEXT, CONTEXT)
    with pytest.raises(Tampered):
        envelope.open_document(KEY, value, CONTEXT)
    with pytest.raises(Tampered):
        envelope.open_(KEY, document, context=CONTEXT)


def test_a_value_relabelled_as_document_does_not_open() -> None:
    value = bytearray(envelope.seal(KEY, PLAINTEXT, context=CONTEXT))
    value[4] = envelope.Kind.DOCUMENT
    with pytest.raises(Tampered):
        envelope.open_document(KEY, bytes(value), CONTEXT)


def test_equal_plaintexts_give_unlike_envelopes() -> None:
    sealed = {envelope.seal_document(KEY, PLAINTEXT, CONTEXT) for _ in range(100)}
    # Nonce, check and wrapped key are fresh every time; only the first five bytes are common.
    for start, end in ((5, 17), (17, 25), (25, 65), (65, None)):
        assert len({item[start:end] for item in sealed}) == 100


def test_nothing_of_the_plaintext_or_context_shows() -> None:
    sealed = envelope.seal_document(KEY, PLAINTEXT * 10, CONTEXT)
    assert b"wrist" not in sealed
    assert b"hospital" not in sealed


@pytest.mark.parametrize("length", [0, 16, 31, 33])
@pytest.mark.parametrize(
    "use",
    [
        lambda key: envelope.seal_document(key, PLAINTEXT, CONTEXT),
        lambda key: envelope.open_document(key, b"", CONTEXT),
        lambda key: kdf.wrap(KEY, key, b"context"),
    ],
)
def test_a_key_has_32_bytes(use: Callable[[bytes], bytes], length: int) -> None:
    with pytest.raises(InvalidKey):
        use(bytes(length))


def test_a_context_is_plain_data() -> None:
    with pytest.raises(NotCanonical):
        envelope.seal_document(KEY, PLAINTEXT, {"weight": 1.5})  # type: ignore[dict-item]


def test_unwrapping_bytes_of_another_length_gives_nothing() -> None:
    bound_to = kdf.context_bytes("label", CONTEXT)
    wrapped = kdf.wrap(KEY, OTHER_KEY, bound_to)
    assert kdf.unwrap(KEY, wrapped, bound_to) == OTHER_KEY
    assert kdf.unwrap(KEY, wrapped[:-8], bound_to) is None
    assert kdf.unwrap(KEY, wrapped, kdf.context_bytes("another label", CONTEXT)) is None


def imported(path: Path) -> set[str]:
    """Return the full name of all that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_nothing_but_the_envelope_and_the_box_has_nonces() -> None:
    # Why a nonce cannot repeat (docs/keys.md) is said of these two modules, so nobody else may
    # encrypt: whoever needs it seals an envelope or a box.
    root = Path(medportal.__file__).parent
    found = {
        (path.relative_to(root).as_posix(), name.removeprefix("cryptography.hazmat.primitives."))
        for path in root.rglob("*.py")
        for name in imported(path)
        if "primitives.ciphers" in name or ".hpke" in name or name == "cryptography.fernet"
    }
    assert {path for path, _name in found} == {"vault/envelope.py", "vault/sealing.py"}
    assert {name for path, name in found if path == "vault/envelope.py"} == {"ciphers.aead.AESGCM"}
    assert {name.split(".")[0] for path, name in found if path == "vault/sealing.py"} == {"hpke"}
