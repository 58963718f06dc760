"""The one encoding, as cbor2's own canonical way and encoding again have it.

``canonical`` puts keys in order and looks at heads itself. Below stands the slow way of saying the
same: what it writes and what it takes is what has been signed, and stays so to the byte.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from itertools import product
from typing import Any, NamedTuple

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medportal.core.canonical import MAX_DEPTH, NotCanonical, decode, encode

TAG, SIMPLE = 6, 7


def slowly_encoded(value: object) -> bytes:
    check(value, 0)
    return cbor2.dumps(value, canonical=True)


def slowly_decoded(data: bytes) -> Any:
    scan(data)
    try:
        value = cbor2.loads(data)
        again = slowly_encoded(value)
    except NotCanonical:
        raise
    except Exception as error:
        raise NotCanonical("not CBOR") from error
    if again != data:
        raise NotCanonical("not the deterministic encoding")
    return value


def check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotCanonical("nested too deeply")
    if isinstance(value, int):
        if not -(2**64) <= value < 2**64:
            raise NotCanonical("an integer beyond 64 bits")
    elif isinstance(value, (list, tuple)):
        for item in value:
            check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise NotCanonical("a map key that is neither text nor integer")
            check(item, depth + 1)
    elif value is not None and not isinstance(value, (bytes, str)):
        raise NotCanonical("no canonical form")


def scan(data: bytes) -> None:
    """Refuse what cbor2 takes and nobody wants, before it takes it: tags, floats, much nesting."""
    position, left = 0, 1
    above: list[int] = []
    while left or above:
        if not left:
            left = above.pop()
            continue
        if position >= len(data):
            raise NotCanonical("truncated")
        kind, information = data[position] >> 5, data[position] & 0x1F
        if kind == TAG or (kind == SIMPLE and information not in (20, 21, 22)) or information > 27:
            raise NotCanonical("a tag, a float, or of indefinite length")
        position += 1
        argument = information
        if information > 23:
            end = position + (1 << (information - 24))
            argument, position = int.from_bytes(data[position:end]), end
        left -= 1
        if kind in (2, 3):
            position += argument
        elif argument and kind in (4, 5):
            if argument > len(data) or len(above) > MAX_DEPTH:
                raise NotCanonical("longer than the data, or nested too deeply")
            above.append(left)
            left = argument * (kind - 3)
    if position != len(data):
        raise NotCanonical("bytes left over, or too few")


def agree(data: bytes) -> bool:
    """Fail unless both ways say the same of some bytes; tell whether they are an encoding."""
    try:
        expected = slowly_decoded(data)
    except NotCanonical:
        with pytest.raises(NotCanonical):
            decode(data)
        return False
    found = decode(data)
    # A truth value is equal to an integer, but not written like one.
    assert repr(found) == repr(expected)
    assert encode(found) == data
    return True


class Word(StrEnum):
    ONE = "one"
    LONG = "a-rather-long-word-of-more-than-23"


class Number(IntEnum):
    ONE = 1
    MANY = 70_000


class Pair(NamedTuple):
    left: str
    right: int


SIZES = [0, 1, 22, 23, 24, 25, 254, 255, 256, 257, 65_534, 65_535, 65_536]
edges = st.sampled_from([edge for bits in (0, 8, 16, 32, 64) for edge in (2**bits - 1, 2**bits)])
integers = st.integers(-(2**64), 2**64 - 1) | edges.filter(lambda edge: edge < 2**64)
texts = st.text(max_size=30) | st.text("ab", max_size=3) | st.text("aé", max_size=26)
scalars = (st.none() | st.booleans() | integers | st.binary(max_size=30) | texts) | st.sampled_from(
    [*Word, *Number, b"x" * 300, "y" * 300]
)
keys = texts | st.integers(-300, 300) | integers | st.sampled_from([*Word, *Number])
plain = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=6)
        | st.dictionaries(st.sampled_from(["a", "b", "aa", "é"]), inner, max_size=4)
    ),
    max_leaves=25,
)


@settings(max_examples=300)
@given(plain)
def test_the_bytes_are_those_of_cbor2s_canonical_way(value: object) -> None:
    data = slowly_encoded(value)
    assert encode(value) == data
    assert agree(data)


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(b=1, a=2),
        defaultdict(list, {"b": [1], "a": []}),
        Pair("x", 1),
        [Pair("x", Number.MANY)],
        {Word.LONG: Word.ONE, Word.ONE: [Number.ONE]},
        {1000: 1, "a": 2, 5: 3, -1: 4, "": 5, "zz": 6, "é": 7},
        {"é": 1, "zzz": 2, "zz": 3, "z" * 24: 4, "z" * 23: 5},
        {"b": {"b": ({"b": 1, "a": 2},), "a": 2}, "a": 1},
        [[{"b": 1, "a": 2}], {}, [], ""],
        True,
        {},
    ],
)
def test_other_maps_lists_and_words_are_written_like_plain_ones(value: object) -> None:
    assert encode(value) == slowly_encoded(value)


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        {"\ud800": 1},
        {"a": 1, "\udfff": 2},
        [["\ud800"]],
        {1: 2, None: 3},
        {"a": 1, b"b": 2},
        {"a": 1, True: 2},
        {"a": {2: 2**64}},
        [{"b": {"c": -(2**64) - 1}}],
        [1, 2, 2**64],
        {"a": 1.0},
    ],
)
def test_what_the_slow_way_refuses_is_refused_alike(value: object) -> None:
    with pytest.raises(Exception) as slowly:
        slowly_encoded(value)
    with pytest.raises(type(slowly.value)):
        encode(value)


@pytest.mark.parametrize("value", [{2**64: 1}, {"a": 1, -(2**64) - 1: 2}])
def test_a_key_beyond_64_bits_is_refused_though_cbor2_would_tag_it(value: object) -> None:
    with pytest.raises(NotCanonical):
        encode(value)


def test_a_list_in_itself_is_too_deep() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(NotCanonical):
        encode(endless)


@pytest.mark.parametrize("inner", [1, "", None, [], {}, [1], {"a": 1}, (), 2**64 - 1])
def test_the_limit_of_depth_is_where_it_was(inner: object) -> None:
    taken = []
    for level in range(MAX_DEPTH - 2, MAX_DEPTH + 3):
        for wrapped in (lambda value: [value], lambda value: {"k": value}):
            value = inner
            for _ in range(level):
                value = wrapped(value)
            data = cbor2.dumps(value, canonical=True)
            taken.append(agree(data))
            try:
                slowly_encoded(value)
            except NotCanonical:
                with pytest.raises(NotCanonical):
                    encode(value)
            else:
                assert encode(value) == data
    assert True in taken and False in taken


def test_all_strings_of_two_bytes() -> None:
    short = [bytes(first) for length in range(3) for first in product(range(256), repeat=length)]
    # The integers, short texts and bytes, constants, empty and one-item lists, and one map.
    assert sum(map(agree, short)) > 500


#: First bytes of every kind, on both sides of each limit, and bytes of texts.
TELLING = bytes.fromhex("00171819203840415860616278808182a0a1a2b8c0f4f6f7f97fc3a9ff")


def test_all_strings_of_three_telling_bytes() -> None:
    assert any(agree(bytes(three)) for three in product(TELLING, repeat=3))


@pytest.mark.parametrize(
    ("value", "size"),
    [
        *((value, size) for value in (b"x", "x", [0]) for size in SIZES),
        *(({"k": 0}, size) for size in SIZES if size < 1000),
    ],
)
def test_every_length_has_one_head(value: Any, size: int) -> None:
    whole = {str(n): n for n in range(size)} if isinstance(value, dict) else value * size
    data = slowly_encoded(whole)
    assert encode(whole) == data and agree(data)
    kind, head = data[0] & 0xE0, len(data) - len(_without_head(data))
    for width in (1, 2, 4, 8):
        argument = size.to_bytes(8)[-width:]
        if int.from_bytes(argument) == size:
            longer = bytes([kind | 23 + width.bit_length()]) + argument + data[head:]
            assert agree(longer) == (longer == data)
        assert not agree(data[: head + size // 2]) or not size


def _without_head(data: bytes) -> bytes:
    information = data[0] & 0x1F
    return data[1:] if information < 24 else data[1 + (1 << information - 24) :]


def heads(kind: int, argument: int) -> Iterator[bytes]:
    """Give every head that says the same, the shortest first."""
    if argument < 24:
        yield bytes([kind << 5 | argument])
    for information in range(24, 28):
        size = 1 << (information - 24)
        if argument < 256**size:
            yield bytes([kind << 5 | information]) + argument.to_bytes(size)


@st.composite
def sloppy(draw: st.DrawFn, depth: int = 0) -> bytes:
    """Draw what somebody might send: nearly right, with long heads and keys in any order."""
    kind = draw(st.sampled_from([0, 1, 2, 3, 3, SIMPLE] if depth > 3 else [0, 1, 2, 3, 4, 5, 5]))
    if kind == SIMPLE:
        return bytes([draw(st.sampled_from([0xF4, 0xF5, 0xF6]))])
    if kind < 2:
        return draw(_head(kind, draw(integers.filter(lambda number: number >= 0))))
    if kind < 4:
        text = draw(texts).encode("utf-8") if kind == 3 else draw(st.binary(max_size=30))
        return draw(_head(kind, len(text))) + text
    parts = draw(st.lists(sloppy(depth + 1), max_size=4))
    if kind == 4:
        return draw(_head(kind, len(parts))) + b"".join(parts)
    names = [slowly_encoded(key) for key in draw(st.lists(keys, max_size=4))]
    if draw(st.integers(0, 3)):
        names = sorted(set(names), key=lambda name: (len(name), name))
    names += [draw(sloppy(depth + 3))] if not draw(st.integers(0, 9)) else []
    members = [name + draw(sloppy(depth + 1)) for name in names]
    return draw(_head(kind, len(members))) + b"".join(members)


def _head(kind: int, argument: int) -> st.SearchStrategy[bytes]:
    shortest, *longer = heads(kind, argument)
    return st.sampled_from([*[shortest] * 20, *longer])


@settings(max_examples=300)
@given(sloppy(), st.data())
def test_nearly_right_bytes_are_taken_or_refused_alike(data: bytes, more: st.DataObject) -> None:
    agree(data)
    place = more.draw(st.integers(0, len(data)))
    agree(data[:place])
    agree(data[:place] + more.draw(st.binary(min_size=1, max_size=2)) + data[place + 1 :])


@pytest.mark.parametrize(
    "data",
    [
        b"\x9b" + b"\xff" * 8 + b"\x00" * 1000,
        b"\xbb" + b"\xff" * 8 + b"\x00" * 1000,
        b"\x9a\xff\xff\xff\xff" + b"\x80" * 1000,
        b"\x7b" + b"\xff" * 8,
        b"\xa1\x7b" + b"\xff" * 8,
        b"\xa1\x1a\xff\xff",
        b"\x1a\xff\xff\xff",
    ],
)
def test_what_claims_more_than_there_is_ends_with_the_data(data: bytes) -> None:
    assert not agree(data)
