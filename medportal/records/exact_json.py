"""JSON with one encoding for one value, and numbers that keep their digits (PURE).

Objects have sorted keys and there is no space between tokens, as RFC 8785 has it; numbers
differ from RFC 8785, because they are decimals and not binary floats: ``5.10`` stays
``5.10``, as FHIR asks ("the precision of the decimal value has significance").
"""

import json
from decimal import Decimal
from operator import itemgetter
from typing import Any

from medportal.records.errors import ContentTooDeep, DuplicateKey, NotANumber, NotJson

MAX_NUMBER_LENGTH = 32
_KEY = itemgetter(0)
_text = json.encoder.encode_basestring
"""Writes a text without escaping what is not ASCII; ``TypeError`` for anything else."""


def encode(value: object) -> bytes:
    """Return the bytes of a value made of texts, decimals, lists and dictionaries.

    Raises ``TypeError`` for anything else: floats above all.
    """
    return _encode(value).encode()


def decode(data: bytes) -> Any:
    """Return what ``data`` encodes, every number as a ``Decimal``.

    Raises ``NotJson``, ``DuplicateKey``, ``NotANumber`` (also for an exponent, which no
    record uses and which could ask for a billion digits) or ``ContentTooDeep``.
    """
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_number,
        )
    except RecursionError as error:
        raise ContentTooDeep("nested too deeply") from error
    except ValueError:
        # Without the cause, whose message may quote the content.
        raise NotJson("not JSON in UTF-8") from None


def _encode(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        # Most members are texts: each call saved here is saved a hundred times for a record.
        members = [
            f"{_text(key)}:{_text(item) if type(item) is str else _encode(item)}"
            for key, item in sorted(value.items(), key=_KEY)
        ]
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_encode, value))}]"
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"{type(value).__name__} has no place in a record")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateKey("an object names a member twice")
    return members


def _number(text: str) -> Decimal:
    plain = text.removeprefix("-").replace(".", "", 1)
    if len(text) > MAX_NUMBER_LENGTH or not plain.isdigit():
        raise NotANumber("a number in a form that no record uses")
    return Decimal(text)
