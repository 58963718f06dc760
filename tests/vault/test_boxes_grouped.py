"""Things sealed to a box together: one encapsulation, and each opens alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.vault import boxes
from medportal.vault.boxes import Sealer, Unsealer, create_box_keys, destroy, renew, retired
from medportal.vault.errors import KeyNotHere, Tampered
from medportal.vault.passphrase import Cost
from medportal.vault.sealing import BoxPrivateKey, open_grouped, seal_group, seal_to

CHEAP = Cost(1, 1, 8)
PASSPHRASE = b"a passphrase of the group"
KEY = BoxPrivateKey.generate()
ITEMS = [(b"one", b"first"), (b"two", b"second"), (b"two", b"third")]


@pytest.fixture
def box(tmp_path: Path) -> Path:
    create_box_keys(tmp_path, "inbox", PASSPHRASE, CHEAP)
    return tmp_path


@given(st.lists(st.tuples(st.binary(max_size=500), st.binary(max_size=60)), max_size=9))
def test_each_opens_alone_with_what_it_is_bound_to(items: list[tuple[bytes, bytes]]) -> None:
    sealed = seal_group(KEY.public, items)
    for one, (plaintext, info) in zip(sealed, items, strict=True):
        assert open_grouped(KEY, one, info) == plaintext
        with pytest.raises(Tampered):
            open_grouped(KEY, one, info + b"x")
        with pytest.raises(Tampered):
            open_grouped(BoxPrivateKey.generate(), one, info)


def test_nothing_opens_in_the_place_of_another() -> None:
    sealed = seal_group(KEY.public, ITEMS)
    others = seal_group(KEY.public, ITEMS)
    end = len(sealed[0]) - len(b"one") - 16
    for at, one in enumerate(sealed):
        for other in range(len(ITEMS)):
            if other != at:
                with pytest.raises(Tampered):
                    open_grouped(KEY, one, ITEMS[other][1])
                # What it is encrypted under is its own, too.
                with pytest.raises(Tampered):
                    open_grouped(KEY, sealed[other][:end] + one[end:], ITEMS[at][1])
        with pytest.raises(Tampered):
            open_grouped(KEY, others[at][:end] + one[end:], ITEMS[at][1])


def test_every_flipped_bit_and_every_cut_is_noticed(box: Path) -> None:
    opener = Unsealer(box, "inbox", PASSPHRASE)
    one = Sealer(box, "inbox").seal_all(ITEMS)[0]
    for place in range(len(one)):
        changed = bytearray(one)
        changed[place] ^= 1 << place % 8
        with pytest.raises(Tampered):
            opener.open(bytes(changed), b"first")
        with pytest.raises(Tampered):
            opener.open(one[:place], b"first")
    assert opener.open(one, b"first") == b"one"


def test_equal_plaintexts_and_equal_groups_have_nothing_in_common() -> None:
    first, again = seal_group(KEY.public, ITEMS), seal_group(KEY.public, ITEMS)
    assert len({each[-16:] for each in (*first, *again)}) == 2 * len(ITEMS)
    assert not {each[:1168] for each in first} & {each[:1168] for each in again}


def test_the_key_of_a_group_passes_for_no_box_and_no_box_for_it(box: Path) -> None:
    opener = Unsealer(box, "inbox", PASSPHRASE)
    sealer = Sealer(box, "inbox")
    one = sealer.seal_all(ITEMS)[0]
    wrapped = one[boxes.HEADER_LENGTH + len(boxes.GROUPED) :][:1168]
    with pytest.raises(Tampered):
        opener.open(sealer.header + wrapped, b"first")
    single = sealer.seal(bytes(32), b"first")[boxes.HEADER_LENGTH :]
    with pytest.raises(Tampered):
        opener.open(sealer.header + boxes.GROUPED + single + one[-31:], b"first")


def test_one_thing_or_none_is_sealed_as_ever(box: Path) -> None:
    sealer, opener = Sealer(box, "inbox"), Unsealer(box, "inbox", PASSPHRASE)
    assert sealer.seal_all([]) == []
    (alone,) = sealer.seal_all(ITEMS[:1])
    assert len(alone) == len(sealer.seal(*ITEMS[0]))
    assert opener.open(alone, b"first") == b"one"


def test_what_begins_like_a_group_by_chance_opens(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Sealer(box, "inbox").seal(b"one", b"first")
    monkeypatch.setattr(boxes, "GROUPED", alone[boxes.HEADER_LENGTH :][:8])
    assert Unsealer(box, "inbox", PASSPHRASE).open(alone, b"first") == b"one"


def test_groups_follow_a_renewed_key_and_go_with_a_destroyed_one(box: Path) -> None:
    """Only the private half opens them, and they name it as single items do."""
    sealer, opener = Sealer(box, "inbox"), Unsealer(box, "inbox", PASSPHRASE)
    before = sealer.seal_all(ITEMS)
    assert {each[: boxes.HEADER_LENGTH] for each in before} == {sealer.header}
    assert {boxes.key_of(each) for each in before} == {boxes.key_of(sealer.seal(b"", b""))}
    renew(box, "inbox", PASSPHRASE, CHEAP)
    after = sealer.seal_all(ITEMS)
    for sealed in (before, after):
        opened = [opener.open(one, info) for one, (_, info) in zip(sealed, ITEMS, strict=True)]
        assert opened == [b"one", b"two", b"two"]
    destroy(retired(box, "inbox"))
    late = Unsealer(box, "inbox", PASSPHRASE)
    assert late.open(after[0], b"first") == b"one"
    with pytest.raises(KeyNotHere):
        late.open(before[0], b"first")
    # Not even in the place of what was sealed before there were ids.
    with pytest.raises(Tampered):
        late.open(seal_to(KEY.public, b"one", b"first"), b"first")
