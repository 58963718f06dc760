"""Canonical bytes: deterministic CBOR, RFC 8949 section 4.2 (PURE).

What is signed, hashed or sent has exactly one encoding. Decoding checks this by
encoding again and comparing, because cbor2 alone accepts duplicate keys and
over-long integers.
"""

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
    _check(value, 0)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> Any:
    """Return the plain data that ``data`` encodes.

    Raises ``NotCanonical`` if ``data`` is malformed, truncated, has bytes left over, nests
    deeper than ``MAX_DEPTH`` or is not the deterministic encoding.
    """
    _scan(data)
    try:
        value = cbor2.loads(data)
        again = encode(value)
    except NotCanonical:
        raise
    except Exception as error:  # cbor2 lets several kinds escape, also RecursionError
        raise NotCanonical("not CBOR") from error
    if again != data:
        raise NotCanonical("not the deterministic encoding")
    return value


def decode_known(data: bytes) -> Any:
    """Return the plain data of bytes that :func:`decode` took before; nothing is checked again."""
    return cbor2.loads(data)


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotCanonical("nested too deeply")
    if type(value) in _PLAIN or isinstance(value, (bytes, str)):
        return
    if isinstance(value, int):
        if not -(2**64) <= value < 2**64:
            raise NotCanonical("an integer beyond 64 bits")
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _PLAIN or depth >= MAX_DEPTH:
                _check(item, depth + 1)
        return
    if isinstance(value, dict):
        for key, item in value.items():
            # A truth value is an integer to isinstance, but no key.
            if type(key) is not str and (isinstance(key, bool) or not isinstance(key, (str, int))):
                raise NotCanonical("a map key that is neither text nor integer")
            if type(item) not in _PLAIN or depth >= MAX_DEPTH:
                _check(item, depth + 1)
        return
    raise NotCanonical(f"{type(value).__name__} has no canonical form")


def _scan(data: bytes) -> None:
    """Refuse, at a cost linear in ``data``, what cbor2 would spend time on before we see it.

    It makes numbers out of tags (a decimal fraction of a few kilobytes takes seconds) and
    recurses into nesting; both are refused here by the first bytes of each item.
    """
    # This runs for every item of every message: what is looked up is kept, and a head is read here
    # where its argument is in it or in the byte behind it, as nearly always.
    size, position, left = len(data), 0, 1
    above: list[int] = []
    while left or above:
        if not left:
            left = above.pop()
            continue
        if position >= size:
            raise NotCanonical("truncated")
        first = data[position]
        if first >= _NOT_PLAIN or first & 0x1F > 24:
            kind, argument, position = _head(data, position)
        elif first & 0x1F < 24:
            kind, argument, position = first >> 5, first & 0x1F, position + 1
        else:
            kind, argument = first >> 5, int.from_bytes(data[position + 1 : position + 2])
            position += 2
        left -= 1
        if _BYTES <= kind <= _TEXT:
            position += argument
        elif argument and _LIST <= kind <= _MAP:
            if argument > size:
                raise NotCanonical("longer than the data")
            above.append(left)
            if len(above) > MAX_DEPTH + 1:
                raise NotCanonical("nested too deeply")
            left = argument * (2 if kind == _MAP else 1)
    if position != size:
        raise NotCanonical("bytes left over, or too few")


_BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7
_FALSE, _TRUE, _NULL = 20, 21, 22
_NOT_PLAIN = _TAG << 5
"""The least first byte of what is, or may be, no plain data."""


def _head(data: bytes, position: int) -> tuple[int, int, int]:
    """Return major type, argument and where the item goes on (RFC 8949, section 3)."""
    kind, information = data[position] >> 5, data[position] & 0x1F
    position += 1
    if kind == _TAG or (kind == _SIMPLE and information not in (_FALSE, _TRUE, _NULL)):
        raise NotCanonical("a tag, a float or another value that is not plain")
    if information < 24 or kind == _SIMPLE:
        return kind, information, position
    if information > 27:
        raise NotCanonical("of indefinite length, or reserved")
    end = position + (1 << (information - 24))
    return kind, int.from_bytes(data[position:end]), end
