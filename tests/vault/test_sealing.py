"""Boxes: sealed by anybody, opened by one."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.vault import boxes, sealing
from medportal.vault.errors import InvalidKey, KeyFileError, Tampered, WrongPassphrase
from medportal.vault.passphrase import Cost
from medportal.vault.sealing import BoxPrivateKey, BoxPublicKey, open_with, seal_to

PASSPHRASE = b"correct horse battery staple"
INFO = b"CRX/1 record"
KEY = BoxPrivateKey.generate()


@given(st.binary(max_size=5000), st.binary(max_size=200))
def test_round_trip(plaintext: bytes, info: bytes) -> None:
    sealed = seal_to(KEY.public, plaintext, info)
    assert len(sealed) == len(plaintext) + sealing.OVERHEAD
    assert open_with(KEY, sealed, info) == plaintext


def test_keys_survive_their_bytes() -> None:
    public = BoxPublicKey.from_bytes(KEY.public.to_bytes())
    private = BoxPrivateKey.from_bytes(KEY.to_bytes())
    assert (len(public.raw), len(private.raw)) == (sealing.PUBLIC_LENGTH, sealing.PRIVATE_LENGTH)
    assert public == KEY.public == private.public
    assert open_with(private, seal_to(public, b"x", INFO), INFO) == b"x"


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    # Also the highest of the X25519 share, which X25519 itself does not look at (RFC 7748).
    sealed = seal_to(KEY.public, b"record", INFO)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1 << bit
        with pytest.raises(Tampered):
            open_with(KEY, bytes(changed), INFO)


def test_every_cut_is_noticed() -> None:
    sealed = seal_to(KEY.public, b"record", INFO)
    for length in range(len(sealed)):
        with pytest.raises(Tampered):
            open_with(KEY, sealed[:length], INFO)


def test_another_key_or_purpose_does_not_open() -> None:
    sealed = seal_to(KEY.public, b"record", INFO)
    with pytest.raises(Tampered):
        open_with(BoxPrivateKey.generate(), sealed, INFO)
    with pytest.raises(Tampered):
        open_with(KEY, sealed, b"CRX/1 recorD")


@pytest.mark.parametrize("half", ["mlkem", "x25519"])
def test_both_halves_of_the_key_are_needed(half: str) -> None:
    sealed = seal_to(KEY.public, b"record", INFO)
    other = BoxPrivateKey.generate().raw
    cut = sealing.MLKEM_SEED_LENGTH
    mixed = KEY.raw[:cut] + other[cut:] if half == "mlkem" else other[:cut] + KEY.raw[cut:]
    with pytest.raises(Tampered):
        open_with(BoxPrivateKey.from_bytes(mixed), sealed, INFO)


def test_equal_plaintexts_give_unlike_boxes() -> None:
    assert len({seal_to(KEY.public, b"record", INFO) for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(sealing.PUBLIC_LENGTH - 1),
        bytes(sealing.PUBLIC_LENGTH + 1),
        b"\xff" * sealing.PUBLIC_LENGTH,
    ],
)
def test_malformed_public_keys_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidKey):
        BoxPublicKey.from_bytes(raw)


@pytest.mark.parametrize("length", [0, 95, 97])
def test_malformed_private_keys_are_refused(length: int) -> None:
    with pytest.raises(InvalidKey):
        BoxPrivateKey.from_bytes(bytes(length))


def test_a_public_key_of_low_order_is_refused() -> None:
    raw = KEY.public.raw[: sealing.MLKEM_PUBLIC_LENGTH] + bytes(32)
    with pytest.raises(InvalidKey, match="degenerate"):
        seal_to(BoxPublicKey.from_bytes(raw), b"record", INFO)


def test_keys_do_not_show() -> None:
    assert repr(KEY) == "BoxPrivateKey(public=BoxPublicKey())"


def test_key_files(tmp_path: Path, cheap: Cost) -> None:
    public = boxes.create_box_keys(tmp_path, "inbox", PASSPHRASE, cheap)
    assert boxes.load_public(tmp_path, "inbox") == public
    private = boxes.load_private(tmp_path, "inbox", PASSPHRASE)
    assert open_with(private, seal_to(public, b"record", INFO), INFO) == b"record"
    assert stat.S_IMODE((tmp_path / "inbox.key").stat().st_mode) == 0o600
    assert private.raw not in (tmp_path / "inbox.key").read_bytes()


def test_key_files_are_made_once(tmp_path: Path, cheap: Cost) -> None:
    boxes.create_box_keys(tmp_path, "inbox", PASSPHRASE, cheap)
    before = (tmp_path / "inbox.pub").read_bytes()
    with pytest.raises(KeyFileError):
        boxes.create_box_keys(tmp_path, "inbox", PASSPHRASE, cheap)
    assert (tmp_path / "inbox.pub").read_bytes() == before


def test_a_key_file_of_another_box_or_passphrase_is_refused(tmp_path: Path, cheap: Cost) -> None:
    boxes.create_box_keys(tmp_path, "inbox", PASSPHRASE, cheap)
    with pytest.raises(WrongPassphrase):
        boxes.load_private(tmp_path, "inbox", b"wrong")
    (tmp_path / "inbox.key").rename(tmp_path / "outbox.key")
    with pytest.raises(KeyFileError, match="another purpose"):
        boxes.load_private(tmp_path, "outbox", PASSPHRASE)
    with pytest.raises(KeyFileError, match="does not exist"):
        boxes.load_public(tmp_path, "outbox")


@pytest.mark.parametrize("name", ["", "../x", "In", "in box", "ünbox"])
def test_a_box_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyFileError):
        boxes.create_box_keys(tmp_path, name, PASSPHRASE)
