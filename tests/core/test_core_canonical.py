"""Canonical bytes: one encoding, and nothing else is read."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.core.canonical import MAX_DEPTH, NotCanonical, decode, encode

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=40)
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=8) | st.integers(-1000, 1000), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(PLAIN)
def test_plain_data_comes_back(value: object) -> None:
    assert decode(encode(value)) == value


@given(st.dictionaries(st.text(max_size=8), SCALARS, max_size=8))
def test_the_order_of_a_map_does_not_matter(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert encode(backwards) == encode(value)


@given(st.binary(max_size=60))
def test_whatever_is_read_has_exactly_these_bytes(data: bytes) -> None:
    try:
        value = decode(data)
    except NotCanonical:
        return
    assert encode(value) == data


def test_tuples_are_lists() -> None:
    assert encode((1, (2, "x"))) == encode([1, [2, "x"]])


@pytest.mark.parametrize(
    ("value", "hexadecimal"),
    [
        # RFC 8949, appendix A.
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (1000000, "1a000f4240"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (False, "f4"),
        (None, "f6"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("ü", "62c3bc"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({1: 2, 3: 4}, "a201020304"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    ],
)
def test_the_vectors_of_the_standard(value: object, hexadecimal: str) -> None:
    assert encode(value).hex() == hexadecimal
    assert decode(bytes.fromhex(hexadecimal)) == value


def _nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        float("nan"),
        object(),
        {1, 2},
        2**64,
        -(2**64) - 1,
        {True: 1},
        {b"key": 1},
        {None: 1},
        {(1, 2): 1},
        [1, [2, {"x": 1.0}]],
        bytearray(b"x"),
        _nested(MAX_DEPTH + 1),
        cbor2.CBORTag(1, 1),
    ],
)
def test_what_is_not_plain_has_no_encoding(value: object) -> None:
    with pytest.raises(NotCanonical):
        encode(value)


def test_the_deepest_plain_data_is_taken() -> None:
    assert decode(encode(_nested(MAX_DEPTH))) == _nested(MAX_DEPTH)


@pytest.mark.parametrize(
    "hexadecimal",
    [
        "",  # nothing
        "18",  # truncated
        "0000",  # bytes left over
        "1800",  # an integer longer than it need be
        "5f41014102ff",  # indefinite length
        "a2616101616102",  # a key twice
        "a2616201616102",  # keys out of order
        "f93c00",  # a float
        "fb3ff8000000000000",
        "c11a514b67b0",  # a tag
        "f7",  # undefined
        "ff",
        "1c",  # reserved
        "62ff00",  # not UTF-8
        "9f01ff",
        "c249010000000000000000",  # a big integer
        "a1f401",  # a boolean as key
    ],
)
def test_hostile_bytes_are_refused(hexadecimal: str) -> None:
    with pytest.raises(NotCanonical):
        decode(bytes.fromhex(hexadecimal))


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 500, 100_000])
def test_deep_nesting_is_refused_and_breaks_nothing(levels: int) -> None:
    with pytest.raises(NotCanonical):
        decode(b"\x81" * levels + b"\x01")


def test_no_value_stands_in_an_error() -> None:
    with pytest.raises(NotCanonical) as refused:
        encode({"diagnosis": {"secret-marker"}})
    assert "secret-marker" not in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81",
        b"\x82\x01",
        b"\x5f\x41a\xff",
        b"\x9f\xff",
        b"\xbf\xff",
        b"\xc4\x82\x01\x02",
        b"\xc2\x41\x01",
        b"\x1c",
        b"\xf7",
        b"\xf8\x20",
        b"\xff",
        b"\x9b" + b"\xff" * 8,
        b"\x5b" + b"\xff" * 8,
        b"\x81" * 200 + b"\x01",
        b"\x19\x00",
        b"\x01\x01",
    ],
)
def test_what_is_not_plain_is_refused_before_it_is_interpreted(data, monkeypatch):
    """cbor2 makes numbers out of tags at great cost; it never gets to see them."""

    def never(_data):
        raise AssertionError("cbor2 was asked")

    monkeypatch.setattr("medportal.core.canonical.cbor2.loads", never)
    with pytest.raises(NotCanonical):
        decode(data)
