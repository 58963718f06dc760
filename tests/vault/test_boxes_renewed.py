"""A box gets a new key pair: what was sealed before opens, wherever the change is killed."""

import os
from pathlib import Path

import pytest

from medportal.core.errors import ConfigurationError
from medportal.vault import boxes, keyfiles
from medportal.vault.boxes import (
    Sealer,
    Unsealer,
    create_box_keys,
    destroy,
    load_private,
    load_public,
    ready_to_destroy,
    renew,
    retired,
    was_renewed,
)
from medportal.vault.errors import KeyFileError, KeyNotHere, Tampered, WrongPassphrase
from medportal.vault.passphrase import Cost
from medportal.vault.sealing import BoxPrivateKey, open_with, seal_to

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
    serving = Unsealer(box, "inbox", PASSPHRASE)
    assert serving.open(before, b"info") == b"one"
    doomed = ready_to_destroy(box, "inbox", PASSPHRASE)
    assert len(doomed) == 1
    destroy(doomed)
    assert retired(box, "inbox") == []
    # A process that served meanwhile lets it go as well, as soon as it looks.
    serving.ready()
    for unsealer in (serving, Unsealer(box, "inbox", PASSPHRASE)):
        assert unsealer.open(after, b"info") == b"two"
        with pytest.raises(KeyNotHere) as caught:
            unsealer.open(before, b"info")
        assert caught.value.key_id == boxes.key_of(before)


STEPS = 3


@pytest.mark.parametrize("at", range(STEPS))
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_the_steps_everything_opens(
    box: Path, monkeypatch: pytest.MonkeyPatch, at: int, when: str
) -> None:
    before = Sealer(box, "inbox").seal(b"one", b"info")
    put, calls = keyfiles.put, iter(range(9))

    def dying(*arguments: object) -> None:
        killed = next(calls) == at
        if killed and when == "before":
            raise Killed
        put(*arguments)  # type: ignore[arg-type]
        if killed:
            raise Killed

    monkeypatch.setattr(keyfiles, "put", dying)
    with pytest.raises(Killed):
        renew(box, "inbox", PASSPHRASE, CHEAP)
    monkeypatch.setattr(keyfiles, "put", put)
    thief = load_private(box, "inbox", PASSPHRASE)
    between = Sealer(box, "inbox").seal(b"two", b"info")
    assert Unsealer(box, "inbox", PASSPHRASE).open(between, b"info") == b"two"
    if (at, when) in {(0, "after"), (1, "before")}:
        # The key that is sealed to must not go.
        with pytest.raises(KeyFileError, match="not renewed to the end"):
            ready_to_destroy(box, "inbox", PASSPHRASE)
    renew(box, "inbox", PASSPHRASE, CHEAP)
    after = Sealer(box, "inbox").seal(b"three", b"info")
    unsealer = Unsealer(box, "inbox", PASSPHRASE)
    opened = [unsealer.open(sealed, b"info") for sealed in (before, between, after)]
    assert opened == [b"one", b"two", b"three"]
    assert after[:12] not in {before[:12], between[:12]}
    # Whoever took the files of that moment has nothing of what comes now.
    with pytest.raises(Tampered):
        open_with(thief, after[12:], b"info")


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


def foreign(box: Path) -> None:
    """Put another public half in place, as who can write the directory does."""
    (box / "inbox.pub").write_bytes(BoxPrivateKey.generate().public.raw)


@pytest.mark.parametrize("what", ["replaced", "missing", "malformed"])
def test_whatever_the_public_half_was_the_new_pair_is_fresh(box: Path, what: str) -> None:
    thief = load_private(box, "inbox", PASSPHRASE)
    if what == "replaced":
        foreign(box)
    elif what == "missing":
        (box / "inbox.pub").unlink()
    else:
        (box / "inbox.pub").write_bytes(b"no key")
    renew(box, "inbox", PASSPHRASE, CHEAP)
    assert load_public(box, "inbox").raw == load_private(box, "inbox", PASSPHRASE).public.raw
    sealed = Sealer(box, "inbox").seal(b"after", b"info")
    assert Unsealer(box, "inbox", PASSPHRASE).open(sealed, b"info") == b"after"
    with pytest.raises(Tampered):
        open_with(thief, sealed[boxes.HEADER_LENGTH :], b"info")


def test_nothing_is_destroyed_where_another_public_half_was_put_in_place(box: Path) -> None:
    renew(box, "inbox", PASSPHRASE, CHEAP)
    foreign(box)
    with pytest.raises(KeyFileError, match="was replaced"):
        ready_to_destroy(box, "inbox", PASSPHRASE)
    assert len(retired(box, "inbox")) == 1


def test_a_run_makes_one_pair_and_another_run_another(box: Path) -> None:
    assert not was_renewed(box, "inbox", PASSPHRASE, "rekey 2")
    assert not was_renewed(box, "inbox", PASSPHRASE)
    renew(box, "inbox", PASSPHRASE, CHEAP, run="rekey 2")
    assert was_renewed(box, "inbox", PASSPHRASE, "rekey 2")
    assert not was_renewed(box, "inbox", PASSPHRASE, "rekey 3")
    assert was_renewed(box, "inbox", PASSPHRASE)
    destroy(ready_to_destroy(box, "inbox", PASSPHRASE))
    assert not was_renewed(box, "inbox", PASSPHRASE)


@pytest.mark.parametrize("what", ["key", "pub", "run", "garbage"])
def test_a_note_of_a_run_counts_only_for_the_pair_that_it_names(box: Path, what: str) -> None:
    kept = {path.name: path.read_bytes() for path in box.iterdir()}
    renew(box, "inbox", PASSPHRASE, CHEAP, run="rekey 2")
    if what in {"key", "pub"}:
        (box / f"inbox.{what}").write_bytes(kept[f"inbox.{what}"])
    elif what == "run":
        (box / "inbox.run").unlink()
    else:
        (box / "inbox.run").write_bytes(b"\xff")
    assert not was_renewed(box, "inbox", PASSPHRASE, "rekey 2")


def test_the_ids_are_told_before_anything_is_changed(box: Path) -> None:
    before = {path.name: path.read_bytes() for path in box.iterdir()}
    used = boxes.key_of(Sealer(box, "inbox").header)

    def refuse(older: list[str], new: str) -> None:
        assert older == [used]
        assert new != used
        raise Killed

    with pytest.raises(Killed):
        renew(box, "inbox", PASSPHRASE, CHEAP, begin=refuse)
    assert {path.name: path.read_bytes() for path in box.iterdir()} == before


@pytest.mark.parametrize("what", ["mode", "passphrase", "missing", "older"])
def test_a_key_file_that_does_not_open_is_no_fault_of_what_is_sealed(box: Path, what: str) -> None:
    unsealer = Unsealer(box, "inbox", PASSPHRASE)
    renew(box, "inbox", PASSPHRASE, CHEAP)
    sealed = Sealer(box, "inbox").seal(b"one", b"info")
    path = retired(box, "inbox")[0] if what == "older" else box / "inbox.key"
    whole = path.read_bytes()
    if what == "mode":
        path.chmod(0o644)
    elif what == "missing":
        path.unlink()
    else:
        other = box / "other"
        other.mkdir()
        create_box_keys(other, "inbox", b"another passphrase", CHEAP)
        path.write_bytes((other / "inbox.key").read_bytes())
    for deed in (unsealer.ready, lambda: unsealer.open(sealed, b"info")):
        with pytest.raises(ConfigurationError, match="keys of the inbox do not open"):
            deed()
    path.write_bytes(whole)
    path.chmod(0o600)
    assert unsealer.open(sealed, b"info") == b"one"


def test_files_have_the_modes_that_they_need_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        create_box_keys(tmp_path, "inbox", PASSPHRASE, CHEAP)
        made = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        renew(tmp_path, "inbox", PASSPHRASE, CHEAP)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert made == {"inbox.key": 0o600, "inbox.pub": 0o644}
    assert modes["inbox.pub"] == 0o644
    assert {mode for name, mode in modes.items() if name != "inbox.pub"} == {0o600}


def test_who_does_not_own_the_files_renews_nothing(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in box.iterdir()}
    monkeypatch.setattr(boxes.os, "geteuid", lambda: (box / "inbox.key").stat().st_uid + 1)
    with pytest.raises(KeyFileError, match="belongs to another user"):
        renew(box, "inbox", PASSPHRASE, CHEAP)
    assert {path.name: path.read_bytes() for path in box.iterdir()} == before


def test_a_fingerprint_is_of_the_whole_public_half(box: Path) -> None:
    public = load_public(box, "inbox")
    said = boxes.fingerprint(public)
    assert [len(group) for group in said.split(" ")] == [4] * 8
    assert said.replace(" ", "").startswith(boxes.key_id(public).hex())
    renew(box, "inbox", PASSPHRASE, CHEAP)
    assert boxes.fingerprint(load_public(box, "inbox")) != said
