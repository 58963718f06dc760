"""The part of CBOR that signed things are made of, without any package (RFC 8949).

Goes into the file that :mod:`medportal.ops.verifier_file` writes, in the place of ``cbor2``; the
application itself does not use it. :mod:`medportal.core.canonical` looks at what it gives and
takes, and refuses whatever is not the one deterministic encoding of plain data.
"""

from typing import Any

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _SIMPLE = 0, 1, 2, 3, 4, 5, 7
_SIMPLE_VALUES = {20: False, 21: True, 22: None}


def dumps(value: Any, *, canonical: bool = True) -> bytes:
    """Return the encoding of plain data, its map keys by length and then by their bytes."""
    for number, simple in _SIMPLE_VALUES.items():
        if value is simple:
            return bytes([_SIMPLE << 5 | number])
    if isinstance(value, int):
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(_TEXT, len(text)) + text
    if isinstance(value, list | tuple):
        return _head(_LIST, len(value)) + b"".join(map(dumps, value))
    pairs = sorted(
        ((dumps(key), dumps(item)) for key, item in value.items()),
        key=lambda pair: (len(pair[0]), pair[0]),
    )
    return _head(_MAP, len(pairs)) + b"".join(key + item for key, item in pairs)


def loads(data: bytes) -> Any:
    """Return the plain data that ``data`` encodes; raises ``ValueError`` or ``IndexError``."""
    value, end = _read(data, 0)
    if end != len(data):
        raise ValueError("bytes left over, or too few")
    return value


def _head(kind: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([kind << 5 | argument])
    for information, length in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * length:
            return bytes([kind << 5 | information]) + argument.to_bytes(length, "big")
    raise ValueError("an integer beyond 64 bits")


def _read(data: bytes, position: int) -> tuple[Any, int]:
    kind, information = data[position] >> 5, data[position] & 0x1F
    position += 1
    if kind == _SIMPLE:
        if information not in _SIMPLE_VALUES:
            raise ValueError("not plain data")
        return _SIMPLE_VALUES[information], position
    if information >= 24:
        if information > 27:
            raise ValueError("of indefinite length, or reserved")
        end = position + (1 << (information - 24))
        information, position = int.from_bytes(data[position:end], "big"), end
    return _read_rest(data, kind, information, position)


def _read_rest(data: bytes, kind: int, argument: int, position: int) -> tuple[Any, int]:
    if kind == _UNSIGNED:
        return argument, position
    if kind == _NEGATIVE:
        return -1 - argument, position
    if kind in (_BYTES, _TEXT):
        end = position + argument
        piece = data[position:end]
        return (piece if kind == _BYTES else piece.decode("utf-8")), end
    if kind not in (_LIST, _MAP):
        raise ValueError("not plain data")
    items = []
    for _ in range(argument * (2 if kind == _MAP else 1)):
        item, position = _read(data, position)
        items.append(item)
    if kind == _LIST:
        return items, position
    return dict(zip(items[::2], items[1::2], strict=True)), position
