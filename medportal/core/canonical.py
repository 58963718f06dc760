"""Canonical bytes: deterministic CBOR, RFC 8949 section 4.2 (PURE).

What is signed, hashed or sent has exactly one encoding. Decoding checks this by
encoding again and comparing, because cbor2 alone accepts duplicate keys and
over-long integers.
"""

from typing import Any

import cbor2

from medportal.core.errors import MedportalError

MAX_DEPTH = 16


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


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotCanonical("nested too deeply")
    if isinstance(value, int) and not -(2**64) <= value < 2**64:
        raise NotCanonical("an integer beyond 64 bits")
    if value is None or isinstance(value, bool | int | bytes | str):
        return
    if isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise NotCanonical("a map key that is neither text nor integer")
            _check(item, depth + 1)
        return
    raise NotCanonical(f"{type(value).__name__} has no canonical form")
