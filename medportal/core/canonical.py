"""Canonical bytes: deterministic CBOR, RFC 8949 section 4.2 (PURE).

What is signed, hashed or sent has exactly one encoding. cbor2 alone also accepts duplicate keys,
keys in any order and over-long integers, so each head and each key is looked at before it is asked.

The keys of a map stand in the order of their encodings, a shorter one first (section 4.2.3). They
are put in order here: cbor2's canonical way of doing it takes several times as long, and its plain
way keeps the order in which it finds them. That both give the same bytes, and that exactly those
are taken, is tested against cbor2's canonical way, and against encoding again and comparing.
"""

from collections.abc import Mapping
from typing import Any

import cbor2

from medportal.core.errors import MedportalError

MAX_DEPTH = 16
#: What has no parts and no bounds; nearly every value is one of these.
_PLAIN = frozenset({str, bytes, bool, type(None)})


class NotCanonical(MedportalError):
    """Bytes that are not the one deterministic encoding of plain data."""


def encode(value: object) -> bytes:
    """Return the deterministic CBOR encoding of plain data.

    Plain data: ``None``, booleans, integers of at most 64 bits, ``bytes``, ``str``, lists or
    tuples, and dictionaries with ``str`` or ``int`` keys. No floats and no tags: two programs
    never agree on a float's bytes for long.

    Raises ``NotCanonical`` for anything else.
    """
    return cbor2.dumps(_ordered(value, 0))


def decode(data: bytes) -> Any:
    """Return the plain data that ``data`` encodes.

    Raises ``NotCanonical`` if ``data`` is malformed, truncated, has bytes left over, nests
    deeper than ``MAX_DEPTH`` or is not the deterministic encoding.
    """
    _scan(data)
    try:
        return cbor2.loads(data)
    except Exception as error:
        # cbor2 lets several kinds escape; of a text that is not UTF-8, above all.
        raise NotCanonical("not CBOR") from error


def decode_known(data: bytes) -> Any:
    """Return the plain data of bytes that :func:`decode` took before; nothing is checked again."""
    return cbor2.loads(data)


def _ordered(value: Any, depth: int) -> Any:
    """Return plain data, each map's keys in their order; ``depth`` is how deep it stands."""
    if isinstance(value, (dict, list, tuple)):
        if depth >= MAX_DEPTH and value:
            raise NotCanonical("nested too deeply")
        walk = _ordered_map if isinstance(value, dict) else _ordered_list
        return walk(value, depth + 1)
    if isinstance(value, int):
        if not -(2**64) <= value < 2**64:
            raise NotCanonical("an integer beyond 64 bits")
        return value
    if value is None or isinstance(value, (bytes, str)):
        return value
    raise NotCanonical(f"{type(value).__name__} has no canonical form")


def _ordered_list(value: Any, depth: int) -> Any:
    for item in value:
        kind = type(item)
        if kind not in _PLAIN and (kind is not int or not -(2**64) <= item < 2**64):
            return [_ordered(item, depth) for item in value]
    # As nearly always: without parts, there is nothing to put in order.
    return value


def _ordered_map(value: Any, depth: int) -> Any:
    ordered = {}
    for key in _in_order(value):
        item = value[key]
        ordered[key] = item if type(item) in _PLAIN else _ordered(item, depth)
    return ordered


def _in_order(keys: Mapping[Any, object]) -> list[Any]:
    """Return the keys of a map as they stand in its encoding."""
    try:
        if "".join(keys).isascii():
            # As nearly always: characters are bytes, and only texts of one length are compared.
            return sorted(sorted(keys), key=len)
    except TypeError:
        # A truth value is an integer to isinstance, but no key.
        if not all(isinstance(key, (str, int)) and not isinstance(key, bool) for key in keys):
            raise NotCanonical("a map key that is neither text nor integer") from None
    return sorted(keys, key=_rank)


def _rank(key: str | int) -> tuple[int, bytes]:
    encoded = encode(key)
    return len(encoded), encoded


_BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7
_CONSTANTS = frozenset({0xF4, 0xF5, 0xF6})
"""False, true and null: what there is of major type 7."""


def _length(first: int) -> int:
    """Return the length of an item with this first byte, or 0 where that does not say it all."""
    kind, argument = first >> 5, first & 0x1F
    if kind in (_TAG, _SIMPLE):
        return 1 if first in _CONSTANTS else 0
    if argument >= 24 or (kind in (_LIST, _MAP) and argument):
        return 0
    return 1 + argument if kind in (_BYTES, _TEXT) else 1


_LENGTHS = bytes(map(_length, range(256)))
_KEY_LENGTHS = bytes(
    0 if first >> 5 in (_BYTES, _LIST, _MAP, _SIMPLE) else length
    for first, length in enumerate(_LENGTHS)
)
_LEAST = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}
"""The least argument that takes so many bytes behind its head: a lesser one takes fewer."""


def _scan(data: bytes) -> None:
    """Refuse, at a cost linear in ``data``, what is not the deterministic encoding.

    This comes before cbor2 sees anything. It makes numbers out of tags (a decimal fraction of a
    few kilobytes takes seconds) and recurses into nesting; both are refused here by the first
    bytes of each item. So are heads longer than they need be, and maps whose keys are not in their
    order, or one of them twice. What a text is made of is left to cbor2.
    """
    try:
        end = _items(data, 0, 1, 0)
    except IndexError:
        raise NotCanonical("truncated") from None
    if end != len(data):
        raise NotCanonical("bytes left over, or too few")


# The two that follow run for every item of every message: a length is looked up where the first
# byte tells it, as nearly always. Each item takes a byte at least, so that the data ends the loops.


def _items(data: bytes, position: int, count: int, depth: int) -> int:
    """Return where ``count`` items end that stand at ``position``, and so deep."""
    for _ in range(count):
        length = _LENGTHS[data[position]]
        position = position + length if length else _item(data, position, depth)
    return position


def _members(data: bytes, position: int, count: int, depth: int) -> int:
    """Return where ``count`` members of a map end that stand at ``position``, and so deep."""
    before, longest = b"", 0
    for _ in range(count):
        length = _KEY_LENGTHS[data[position]] or _key(data, position, depth)
        end = position + length
        key = data[position:end]
        if length <= longest and (length < longest or key <= before):
            raise NotCanonical("a map's keys out of order, or one of them twice")
        before, longest = key, length
        length = _LENGTHS[data[end]]
        position = end + length if length else _item(data, end, depth)
    return position


def _key(data: bytes, position: int, depth: int) -> int:
    """Return the length of a key that is not short."""
    if data[position] >> 5 in (_BYTES, _LIST, _MAP, _SIMPLE):
        raise NotCanonical("a map key that is neither text nor integer")
    return _item(data, position, depth) - position


def _item(data: bytes, position: int, depth: int) -> int:
    """Return where an item ends that is long, or has parts, or is not plain."""
    first = data[position]
    kind, argument, position = first >> 5, first & 0x1F, position + 1
    if kind >= _TAG:
        raise NotCanonical("a tag, a float or another value that is not plain")
    if argument >= 24:
        if argument > 27:
            raise NotCanonical("of indefinite length, or reserved")
        size = 1 << (argument - 24)
        argument = int.from_bytes(data[position : position + size])
        if argument < _LEAST[size]:
            raise NotCanonical("a head longer than it need be")
        position += size
    if kind < _BYTES:
        return position
    if kind < _LIST:
        return position + argument
    if depth >= MAX_DEPTH:
        raise NotCanonical("nested too deeply")
    walk = _items if kind == _LIST else _members
    return walk(data, position, argument, depth + 1)
