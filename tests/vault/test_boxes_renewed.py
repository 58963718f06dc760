"""A box gets a new key pair: what was sealed before opens, wherever the change is killed."""

from pathlib import Path

import pytest

from medportal.vault import boxes, keyfiles
from medportal.vault.boxes import Sealer, Unsealer, create_box_keys, destroy_retired, renew, retired
from medportal.vault.errors import KeyFileError, Tampered, WrongPassphrase
from medportal.vault.passphrase import Cost
from medportal.vault.sealing import seal_to

CHEAP = Cost(1, 1, 8)
PASSPHRASE = b"a passphrase of the group"


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture
def box(tmp_path: Path) -> Path:
    create_box_keys(tmp_path, "inbox", PASSPHRASE, CHEAP)
    return tmp_path


def test_what_processes_hold_open_follows_the_files(box: Path) -> None:
    sealer, unsealer = Sealer(box, "inbox"), Unsealer(box, "inbox", PASSPHRASE)
    before = sealer.seal(b"one", b"info")
    old = sealer.header
    renew(box, "inbox", PASSPHRASE, CHEAP)
    after = sealer.seal(b"two", b"info")
    assert sealer.header != old
    assert (before[:12], after[:12]) == (old, sealer.header)
    for opener in (unsealer, Unsealer(box, "inbox", PASSPHRASE)):
        assert [opener.open(sealed, b"info") for sealed in (before, after)] == [b"one", b"two"]


def test_what_was_sealed_before_there_were_ids_opens(box: Path) -> None:
    bare = seal_to(boxes.load_public(box, "inbox"), b"one", b"info")
    for _ in range(2):
        assert Unsealer(box, "inbox", PASSPHRASE).open(bare, b"info") == b"one"
        renew(box, "inbox", PASSPHRASE, CHEAP)


def test_the_key_that_was_destroyed_opens_no_more(box: Path) -> None:
    before = Sealer(box, "inbox").seal(b"one", b"info")
    renew(box, "inbox", PASSPHRASE, CHEAP)
    after = Sealer(box, "inbox").seal(b"two", b"info")
    assert destroy_retired(box, "inbox") == 1
    assert retired(box, "inbox") == []
    unsealer = Unsealer(box, "inbox", PASSPHRASE)
    assert unsealer.open(after, b"info") == b"two"
    with pytest.raises(Tampered):
        unsealer.open(before, b"info")


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_the_steps_everything_opens(
    box: Path, monkeypatch: pytest.MonkeyPatch, at: int, when: str
) -> None:
    before = Sealer(box, "inbox").seal(b"one", b"info")
    replace, calls = keyfiles.replace, iter(range(9))

    def dying(*arguments: object) -> None:
        killed = next(calls) == at
        if killed and when == "before":
            raise Killed
        replace(*arguments)  # type: ignore[arg-type]
        if killed:
            raise Killed

    monkeypatch.setattr(keyfiles, "replace", dying)
    with pytest.raises(Killed):
        renew(box, "inbox", PASSPHRASE, CHEAP)
    monkeypatch.setattr(keyfiles, "replace", replace)
    between = Sealer(box, "inbox").seal(b"two", b"info")
    assert Unsealer(box, "inbox", PASSPHRASE).open(between, b"info") == b"two"
    if between[:12] == before[:12]:
        # The key that is sealed to must not go.
        with pytest.raises(KeyFileError, match="not renewed to the end"):
            destroy_retired(box, "inbox")
    renew(box, "inbox", PASSPHRASE, CHEAP)
    after = Sealer(box, "inbox").seal(b"three", b"info")
    unsealer = Unsealer(box, "inbox", PASSPHRASE)
    opened = [unsealer.open(sealed, b"info") for sealed in (before, between, after)]
    assert opened == [b"one", b"two", b"three"]
    assert after[:12] != before[:12]


@pytest.mark.parametrize("place", [0, 4, 12, 60, -1])
def test_a_flipped_bit_does_not_open(box: Path, place: int) -> None:
    sealed = bytearray(Sealer(box, "inbox").seal(b"one", b"info"))
    sealed[place] ^= 1
    with pytest.raises(Tampered):
        Unsealer(box, "inbox", PASSPHRASE).open(bytes(sealed), b"info")
    with pytest.raises(Tampered):
        Unsealer(box, "inbox", PASSPHRASE).open(Sealer(box, "inbox").seal(b"one", b"a"), b"b")
    with pytest.raises(Tampered):
        Unsealer(box, "inbox", PASSPHRASE).open(b"", b"info")


def test_a_wrong_passphrase_changes_nothing(box: Path) -> None:
    files = {path.name: path.read_bytes() for path in box.iterdir()}
    with pytest.raises(WrongPassphrase, match=r"inbox\.key"):
        renew(box, "inbox", b"another passphrase", CHEAP)
    assert {path.name: path.read_bytes() for path in box.iterdir()} == files
    (box / "inbox.pub").unlink()
    with pytest.raises(KeyFileError):
        Sealer(box, "inbox").seal(b"one", b"info")
