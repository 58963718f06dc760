"""What a receiver and its opener say to one another over two pipes (PURE).

Canonical arrays in frames, like those of the wire. What the receiver says is trusted by the
opener; what the opener says is not trusted by the receiver beyond its meaning: it has read what
strangers wrote.
"""

from dataclasses import dataclass, field
from typing import Any

from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros
from medportal.delivery.states import DeliveryReason
from medportal.transfer.errors import Code, FrameError
from medportal.transfer.framing import MAX_FRAME, FrameBuffer, encode_frame
from medportal.transfer.payload import Contents, Introduction, Sealed
from medportal.transfer.transcript import Binding

LIMIT = MAX_FRAME + 32 * 1024
"""Greatest length in bytes: a record's frame and what is said of it beside it."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A connection is there."""

    client: int
    intro: Introduction


@dataclass(frozen=True, slots=True)
class End:
    """A connection is gone; so are its keys."""

    client: int


@dataclass(frozen=True, slots=True)
class Make:
    """Make so many keys."""

    request: int
    client: int
    count: int


@dataclass(frozen=True, slots=True)
class Open:
    """Open a delivery with a key."""

    request: int
    client: int
    key: int
    sealed: Sealed


Request = Begin | End | Make | Open


@dataclass(frozen=True, slots=True)
class Made:
    """Keys: the number and the public half of each.

    Request 0, which nobody makes, is the opener's greeting.
    """

    request: int
    keys: tuple[tuple[int, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Read:
    """What was in a delivery."""

    request: int
    contents: Contents


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that could not be met.

    ``code`` says what is wrong with what the partner sent; none is there where nothing is, as
    where the key is gone. ``kind`` is of an error of our own.
    """

    request: int
    code: Code | None
    kind: str = ""


Reply = Made | Read | Failed


def frames() -> FrameBuffer:
    """Return a buffer for what the other side says."""
    return FrameBuffer(LIMIT)


def encode_request(request: Request) -> bytes:
    """Return a request as a frame."""
    match request:
        case Begin(client, intro):
            plain = [*intro.binding.plain(), intro.session, list(intro.chain), intro.crl]
            return _frame(["begin", client, to_micros(intro.at), *plain])
        case End(client):
            return _frame(["end", client])
        case Make(number, client, count):
            return _frame(["make", number, client, count])
        case Open(number, client, key, sealed):
            what = [sealed.tid, sealed.offer, sealed.info, sealed.sealed]
            return _frame(["open", number, client, key, *what])


def decode_request(body: bytes) -> Request:
    """Return a request; raises what malformed data raises: the receiver is trusted."""
    kind, *rest = canonical.decode(body)
    match kind:
        case "begin":
            client, at, sender, receiver, channel, sender_leaf, receiver_leaf, *more = rest
            session, chain, crl = more
            binding = Binding(sender, receiver, channel, sender_leaf, receiver_leaf)
            intro = Introduction(session, binding, tuple(chain), crl, from_micros(at))
            return Begin(client, intro)
        case "end":
            return End(*rest)
        case "make":
            return Make(*rest)
        case "open":
            number, client, key, *what = rest
            return Open(number, client, key, Sealed(*what))
    raise ValueError("no such request")


def encode_reply(reply: Reply) -> bytes:
    """Return a reply as a frame."""
    match reply:
        case Made(number, keys):
            return _frame(["made", number, [list(each) for each in keys]])
        case Read(number, contents):
            return _frame(["read", number, *(getattr(contents, name) for name in _CONTENTS)])
        case Failed(number, code, kind):
            return _frame(["failed", number, code.value if code else "", kind])


def decode_reply(body: bytes) -> Reply:
    """Return a reply. Raises ``FrameError`` for anything that is none."""
    try:
        value = canonical.decode(body)
    except canonical.NotCanonical as error:
        raise FrameError(Code.MALFORMED, "no reply of an opener") from error
    if not isinstance(value, list) or type(value[1:2] and value[1]) is not int:
        raise FrameError(Code.MALFORMED, "no reply of an opener")
    match value:
        case ["made", int(number), list(keys)] if all(map(_is_key, keys)):
            return Made(number, tuple((key, public) for key, public in keys))
        case ["read", int(number), *fields] if _are_contents(*fields):
            return Read(number, Contents(*fields))
        case ["failed", int(number), str(code), str(kind)] if _is_failure(code, kind):
            return Failed(number, Code(code) if code else None, kind)
    raise FrameError(Code.MALFORMED, "no reply of an opener")


PUBLIC_LENGTH = 1216
"""Bytes of a one-use public key: ML-KEM-768's and X25519's."""

_CONTENTS = {
    "digest": bytes,
    "unsigned": str,
    "unfit": str,
    "scheme": str,
    "number": str,
    "name": str,
    "birth": str,
    "packed": bytes,
}


def _is_key(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and type(value[0]) is int
        and type(value[1]) is bytes
        and len(value[1]) == PUBLIC_LENGTH
    )


def _is_failure(code: str, kind: str) -> bool:
    return (not code or code in {*Code}) and (not kind or kind.isidentifier()) and len(kind) < 64


def _are_contents(*fields: Any) -> bool:
    kinds = _CONTENTS.values()
    if len(fields) != len(kinds) or any(
        type(value) is not kind for value, kind in zip(fields, kinds, strict=True)
    ):
        return False
    contents = Contents(*fields)
    refused = bool(contents.unsigned or contents.unfit)
    return (
        len(contents.digest) == 32
        and {contents.unsigned, contents.unfit} <= {"", *DeliveryReason}
        and refused != bool(contents.packed)
    )


def _frame(value: list[Any]) -> bytes:
    return encode_frame(canonical.encode(value), LIMIT)
