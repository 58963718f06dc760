"""Key files: private, whole, under a passphrase."""

import os
import stat
from pathlib import Path

import pytest

from medportal.core import canonical
from medportal.vault import keyfiles, keystore, passphrase
from medportal.vault.errors import (
    InvalidKey,
    KeyFileError,
    Tampered,
    UnknownVersion,
    VaultError,
    WrongPassphrase,
)
from medportal.vault.keyring import TenantKeyring
from medportal.vault.passphrase import Cost

PASSPHRASE = b"correct horse battery staple"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault" / keystore.FILE_NAME


def test_a_keyring_comes_back(path: Path) -> None:
    made = keystore.create(path, PASSPHRASE)
    assert keystore.load(path, PASSPHRASE) == made


def test_only_the_owner_may_read(path: Path, cheap: Cost) -> None:
    keystore.create(path, PASSPHRASE, cheap)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [item.name for item in path.parent.iterdir()] == [keystore.FILE_NAME]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_file_that_others_may_touch_is_refused(path: Path, cheap: Cost, mode: int) -> None:
    keystore.create(path, PASSPHRASE, cheap)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="0600"):
        keystore.load(path, PASSPHRASE)


def test_a_keystore_is_never_overwritten_by_making_one(path: Path, cheap: Cost) -> None:
    made = keystore.create(path, PASSPHRASE, cheap)
    with pytest.raises(KeyFileError, match="exists already"):
        keystore.create(path, PASSPHRASE, cheap)
    assert keystore.load(path, PASSPHRASE) == made
    assert len(list(path.parent.iterdir())) == 1


def test_rotation_replaces_the_file_in_one_step(path: Path, cheap: Cost) -> None:
    rotated = keystore.create(path, PASSPHRASE, cheap).rotated()
    keystore.save(path, rotated, b"a new passphrase", cheap)
    assert keystore.load(path, b"a new passphrase") == rotated
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(WrongPassphrase):
        keystore.load(path, PASSPHRASE)


def test_saving_needs_a_keystore(path: Path, cheap: Cost) -> None:
    with pytest.raises(KeyFileError, match="does not exist"):
        keystore.save(path, TenantKeyring.generate(), PASSPHRASE, cheap)


def test_a_missing_keystore_is_named(path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"tenant\.keystore does not exist"):
        keystore.load(path, PASSPHRASE)


def test_a_directory_is_no_key_file(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(KeyFileError, match="cannot be read"):
        keystore.load(path, PASSPHRASE)


def test_a_huge_file_is_not_read(path: Path, cheap: Cost) -> None:
    keystore.create(path, PASSPHRASE, cheap)
    os.truncate(path, keyfiles.MAX_SIZE + 1)
    with pytest.raises(KeyFileError, match="too large"):
        keystore.load(path, PASSPHRASE)


def test_an_empty_passphrase_is_refused(path: Path) -> None:
    with pytest.raises(KeyFileError, match="empty"):
        keystore.create(path, b"")
    assert not path.exists()


def test_every_changed_byte_is_noticed(cheap: Cost) -> None:
    data = passphrase.protect("thing", b"secret", PASSPHRASE, cheap)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(VaultError):
            passphrase.unprotect("thing", bytes(changed), PASSPHRASE)


def test_no_prefix_opens(cheap: Cost) -> None:
    data = passphrase.protect("thing", b"secret", PASSPHRASE, cheap)
    for length in range(len(data)):
        with pytest.raises(VaultError):
            passphrase.unprotect("thing", data[:length], PASSPHRASE)


def test_the_secret_does_not_show(cheap: Cost) -> None:
    assert b"a very secret word" not in passphrase.protect(
        "thing", b"a very secret word", PASSPHRASE, cheap
    )


def changed_file(cheap: Cost, **changes: object) -> bytes:
    fields = canonical.decode(passphrase.protect("thing", b"secret", PASSPHRASE, cheap))
    return canonical.encode({**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": "medportal key file 2"}, UnknownVersion),
        ({"purpose": "another"}, KeyFileError),
        ({"iterations": 0}, KeyFileError),
        ({"iterations": True}, KeyFileError),
        ({"iterations": "1"}, KeyFileError),
        ({"iterations": 2}, WrongPassphrase),
        ({"memory_kib": 7}, KeyFileError),
        ({"memory_kib": 2**40}, KeyFileError),
        ({"lanes": 17}, KeyFileError),
        ({"salt": b"short"}, KeyFileError),
        ({"salt": "text"}, KeyFileError),
        ({"salt": bytes(16)}, WrongPassphrase),
        ({"sealed": None}, KeyFileError),
        ({"sealed": bytes(100)}, Tampered),
    ],
)
def test_a_changed_field_is_named(
    cheap: Cost, changes: dict[str, object], expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        passphrase.unprotect("thing", changed_file(cheap, **changes), PASSPHRASE)
    assert type(caught.value) is expected


@pytest.mark.parametrize("data", [b"", b"-----BEGIN", canonical.encode([1]), canonical.encode({})])
def test_another_file_is_no_key_file(data: bytes) -> None:
    with pytest.raises(KeyFileError, match="not a key file"):
        passphrase.unprotect("thing", data, PASSPHRASE)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"current": 1}, KeyFileError),
        ([], KeyFileError),
        ({"current": 1, "keys": [bytes(32)]}, InvalidKey),
        ({"current": 1, "keys": [1]}, KeyFileError),
        ({"current": 1, "keys": {1: bytes(5)}}, InvalidKey),
        ({"current": 1, "keys": {"1": bytes(32)}}, InvalidKey),
        ({"current": 1, "keys": {1: 7}}, KeyFileError),
    ],
)
def test_a_keystore_with_other_contents_is_refused(
    path: Path, cheap: Cost, content: object, expected: type[Exception]
) -> None:
    secret = canonical.encode(content)
    data = passphrase.protect("tenant keystore", secret, PASSPHRASE, cheap)
    keyfiles.write_new(path, data)
    with pytest.raises(expected):
        keystore.load(path, PASSPHRASE)
