"""JSON with one encoding for one value, and numbers that keep their digits (PURE).

Objects have sorted keys and there is no space between tokens, as RFC 8785 has it; numbers
differ from RFC 8785, because they are decimals and not binary floats: ``5.10`` stays
``5.10``, as FHIR asks ("the precision of the decimal value has significance").
"""

import json
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from operator import itemgetter
from typing import Any

from medportal.records.errors import ContentTooDeep, DuplicateKey, NotANumber, NotJson

MAX_NUMBER_LENGTH = 32
_KEY = itemgetter(0)
text = json.encoder.encode_basestring
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
    return _decoded(data, _STRICT)


def decode_to_compare(data: bytes) -> Any:
    """Return the same in half the time, but see no member that is named twice.

    This is for who writes again what was read, and compares: what is written names none twice.
    Raises the other errors of :func:`decode`.
    """
    return _decoded(data, _QUICK)


def number(value: Decimal) -> str:
    """Return a number as it is written, without exponent."""
    return format(value, "f")


@dataclass(frozen=True, slots=True)
class Gap:
    """A place in a :class:`Form`, by name."""

    name: str


class Form:
    """A value with gaps: written once, and filled many times.

    A form is made of texts, lists and dictionaries, and filled with what is written already.
    """

    def __init__(self, value: object) -> None:
        """Take a value with a :class:`Gap` wherever something is to be filled in."""
        self._value = value
        self._whole = _pattern(value, None) or ""
        # By the names of the gaps that are filled, which the program gives and nobody else does.
        self._patterns: dict[tuple[str, ...], str] = {}

    def fill(self, **parts: str) -> str:
        """Return the value as :func:`encode` writes it, with one of ``parts`` in each gap.

        Raises ``KeyError`` for a gap without.
        """
        return self._whole % parts

    def fill_some(self, **parts: str | None) -> str:
        """Return the same without the gaps for which there is ``None``, or nothing.

        Each member or item in which there is nothing but such gaps is left out too.
        """
        names = tuple([name for name, part in parts.items() if part is not None])
        pattern = self._patterns.get(names)
        if pattern is None:
            pattern = self._patterns[names] = _pattern(self._value, frozenset(names)) or ""
        return pattern % parts


def _pattern(value: object, given: frozenset[str] | None) -> str | None:
    """Return a form as a pattern to fill, or ``None`` if nothing of it is left.

    ``given`` are the names of the gaps that stay, ``None`` says all.
    """
    if isinstance(value, Gap):
        return f"%({value.name})s" if given is None or value.name in given else None
    if isinstance(value, dict):
        parts = [(key, _pattern(item, given)) for key, item in sorted(value.items(), key=_KEY)]
        members = [f"{_constant(key)}:{part}" for key, part in parts if part is not None]
        return f"{{{','.join(members)}}}" if members else None
    if isinstance(value, list):
        items = [part for part in (_pattern(item, given) for item in value) if part is not None]
        return f"[{','.join(items)}]" if items else None
    return _constant(value)


def _constant(value: Any) -> str:
    return text(value).replace("%", "%%")


def _encode(value: object) -> str:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        # Most members are texts: each call saved here is saved a hundred times for a record.
        members = [
            f"{text(key)}:{text(item) if type(item) is str else _encode(item)}"
            for key, item in sorted(value.items(), key=_KEY)
        ]
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_encode, value))}]"
    if isinstance(value, Decimal):
        return number(value)
    raise TypeError(f"{type(value).__name__} has no place in a record")


def _decoded(data: bytes, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(data.decode())
    except RecursionError as error:
        raise ContentTooDeep("nested too deeply") from error
    except ValueError:
        # Without the cause, whose message may quote the content.
        raise NotJson("not JSON in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateKey("an object names a member twice")
    return members


def _number(digits: str) -> Decimal:
    plain = digits.removeprefix("-").replace(".", "", 1)
    if len(digits) > MAX_NUMBER_LENGTH or not plain.isdigit():
        raise NotANumber("a number in a form that no record uses")
    return Decimal(digits)


_decoder = partial(json.JSONDecoder, parse_float=_number, parse_int=_number, parse_constant=_number)
_QUICK, _STRICT = _decoder(), _decoder(object_pairs_hook=_object)
