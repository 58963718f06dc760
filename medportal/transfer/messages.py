"""The messages of CRX/1 as frozen values, and their deterministic CBOR (PURE).

A message is a CBOR map: ``type``, ``critical`` (names of fields that a reader must understand)
and the fields of its class. A field that is not known and not critical is
ignored, so that the protocol can grow; one that is critical and not known refuses the message.
Every value is checked for type and bounds before anything looks at it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from medportal.core import canonical
from medportal.core.ids import is_id
from medportal.transfer.batches import MAX_PATH, MOST
from medportal.transfer.errors import Code, MessageError

VERSION = 1
SUITE = "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"
"""The one HPKE suite of version 1 (RFC 9180 base mode with the hybrid KEM)."""

MAX_CHAIN = 4
_SLUG = re.compile(r"[a-z][a-z0-9-]{1,30}")
_WORD = re.compile(r"[a-z][a-z0-9-]{0,63}")
_KEY_ID = re.compile(r"[0-9a-zA-Z:._-]{1,64}")
_SUITE = re.compile(r"[0-9A-Za-z/-]{1,80}")

Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one storage has receipted: its epoch (an id made with it) and the last sequence."""

    epoch: str
    sequence: int


@dataclass(frozen=True, slots=True)
class HeldHead:
    """The last head of the peer's audit log that this side verified: size and root."""

    size: int
    root: bytes


def _octets(least: int, most: int) -> Check:
    return lambda value: isinstance(value, bytes) and least <= len(value) <= most


def _text(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _list(item: Check, least: int, most: int) -> Check:
    return lambda value: (
        isinstance(value, list) and least <= len(value) <= most and all(map(item, value))
    )


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_id(value)


def _is_mark(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"epoch", "sequence"}
        and _is_id(value["epoch"])
        and _whole(0, 2**63 - 1)(value["sequence"])
    )


def _is_held(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"size", "root"}
        and _whole(0, 2**63 - 1)(value["size"])
        and _octets(32, 32)(value["root"])
    )


_CHAIN = _list(_octets(1, 8_192), 1, MAX_CHAIN)
_CRL = _octets(1, 131_072)
_HEAD = _maybe(_octets(1, 65_536))
_PROOF = _list(_octets(32, 32), 0, 64)
_NONCE = _octets(32, 32)
_SIGNATURE = _octets(64, 64)
_MILLIS = _whole(0, 86_400_000)

#: Every field of every message: what its value must be.
CHECKS: Mapping[str, Check] = {
    "version": _whole(0, 2**16),
    "sender": _text(_SLUG),
    "receiver": _text(_SLUG),
    "nonce": _NONCE,
    "suites": _list(_text(_SUITE), 1, 8),
    "suite": _text(_SUITE),
    "chain": _CHAIN,
    "crl": _CRL,
    "held": _maybe(_is_held),
    "mark": _maybe(_is_mark),
    "head": _HEAD,
    "consistency": _PROOF,
    "algorithm": _text(_KEY_ID),
    "key_id": _text(_KEY_ID),
    "signature": _SIGNATURE,
    "window": _whole(1, 1_024),
    "max_frame": _whole(1_024, 2**24),
    "idle_ms": _MILLIS,
    "tid": _is_id,
    "about": _maybe(_is_id),
    "pseudonym": _octets(32, 32),
    "offer": _is_id,
    "key": _octets(1_216, 1_216),
    "ttl_ms": _MILLIS,
    "index": _whole(0, MOST - 1),
    "size": _whole(1, MOST),
    "path": _octets(0, MAX_PATH),
    "root": _octets(32, 32),
    "after_ms": _MILLIS,
    "sealed": _octets(1, 1_040_000),
    "receipt": _octets(1, 65_536),
    "code": _text(_WORD),
    "token": _octets(8, 8),
    "reply": _is_bool,
}

_NESTED: Mapping[str, Callable[..., Any]] = {"mark": Mark, "held": HeldHead}


@dataclass(frozen=True, slots=True)
class Hello:
    """S opens: who it is, what it can do, what it holds of R."""

    TYPE: ClassVar[str] = "HELLO"
    version: int
    sender: str
    receiver: str
    nonce: bytes
    suites: tuple[str, ...]
    chain: tuple[bytes, ...]
    crl: bytes
    held: HeldHead | None
    mark: Mark | None


@dataclass(frozen=True, slots=True)
class Challenge:
    """R answers with a fresh nonce and proves itself first."""

    TYPE: ClassVar[str] = "CHALLENGE"
    nonce: bytes
    suite: str
    chain: tuple[bytes, ...]
    crl: bytes
    head: bytes | None
    consistency: tuple[bytes, ...]
    held: HeldHead | None
    mark: Mark | None
    algorithm: str
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """S proves itself over everything said so far."""

    TYPE: ClassVar[str] = "PROOF"
    head: bytes | None
    consistency: tuple[bytes, ...]
    algorithm: str
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """R takes records now: how many at once, how long a frame, how long a silence."""

    TYPE: ClassVar[str] = "READY"
    window: int
    max_frame: int
    idle_ms: int


@dataclass(frozen=True, slots=True)
class Query:
    """S asks whether R knows the patient behind a pseudonym."""

    TYPE: ClassVar[str] = "QUERY"
    tid: str
    key_id: str
    pseudonym: bytes


@dataclass(frozen=True, slots=True)
class Offer:
    """R gives a one-use key for one record; one signature covers the root of a batch of offers."""

    TYPE: ClassVar[str] = "OFFER"
    tid: str
    offer: str
    key: bytes
    ttl_ms: int
    index: int
    size: int
    path: bytes
    root: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such patient here, or the patient's rules say no: the same answer."""

    TYPE: ClassVar[str] = "UNKNOWN"
    tid: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Ask again after so long; about one record, or (``about`` empty) the connection."""

    TYPE: ClassVar[str] = "BUSY"
    about: str | None
    after_ms: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """The record, sealed to the key of the offer."""

    TYPE: ClassVar[str] = "DELIVER"
    tid: str
    offer: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class StaleOffer:
    """The offer named in DELIVER is not, or no longer, good; ask again."""

    TYPE: ClassVar[str] = "STALE_OFFER"
    tid: str


@dataclass(frozen=True, slots=True)
class ReceiptMessage:
    """What became of a record, signed with the receipt key."""

    TYPE: ClassVar[str] = "RECEIPT"
    tid: str
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Changed:
    """Patients were registered at R since; says nothing about whom."""

    TYPE: ClassVar[str] = "CHANGED"


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? ``reply`` marks the echo."""

    TYPE: ClassVar[str] = "PING"
    token: bytes
    reply: bool


@dataclass(frozen=True, slots=True)
class Bye:
    """Nothing more comes from this side."""

    TYPE: ClassVar[str] = "BYE"


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """This side gives up the connection; perhaps because of one record."""

    TYPE: ClassVar[str] = "ERROR"
    code: str
    about: str | None


Message = (
    Hello
    | Challenge
    | Proof
    | Ready
    | Query
    | Offer
    | Unknown
    | Busy
    | Deliver
    | StaleOffer
    | ReceiptMessage
    | Changed
    | Ping
    | Bye
    | ErrorMessage
)

CLASSES: Mapping[str, type[Message]] = {kind.TYPE: kind for kind in Message.__args__}
_FIELDS: Mapping[str, tuple[str, ...]] = {
    name: tuple(field.name for field in fields(kind)) for name, kind in CLASSES.items()
}


def encode(message: Message) -> bytes:
    """Return the exact bytes of a message."""
    body = {name: _plain(getattr(message, name)) for name in _FIELDS[message.TYPE]}
    return canonical.encode({"type": message.TYPE, "critical": [], **body})


def _plain(value: object) -> object:
    if isinstance(value, Mark):
        return {"epoch": value.epoch, "sequence": value.sequence}
    if isinstance(value, HeldHead):
        return {"size": value.size, "root": value.root}
    return list(value) if isinstance(value, tuple) else value


def decode(data: bytes) -> Message:
    """Return the message that ``data`` encodes.

    Raises ``MessageError`` with a code that names what is wrong, never with the value.
    """
    body = _map(data)
    kind = CLASSES.get(body.get("type", ""))
    if kind is None:
        raise MessageError(Code.UNKNOWN_MESSAGE)
    names = _FIELDS[kind.TYPE]
    _check_critical(body, names)
    return kind(**{name: _value(kind, body, name) for name in names})


def unsigned(data: bytes) -> bytes:
    """Return a message's bytes without its ``signature`` field, as signatures cover it.

    ``data`` must have been decoded before; unknown fields stay in, they are signed too.
    """
    body = canonical.decode(data)
    return canonical.encode({key: body[key] for key in body if key != "signature"})


def _map(data: bytes) -> dict[str, Any]:
    try:
        body = canonical.decode(data)
    except canonical.NotCanonical as error:
        raise MessageError(Code.MALFORMED, "not deterministic CBOR") from error
    if not isinstance(body, dict) or not isinstance(body.get("type", ""), str):
        raise MessageError(Code.MALFORMED, "not a map with a type")
    return body


def _check_critical(body: Mapping[str, Any], names: tuple[str, ...]) -> None:
    critical = body.get("critical")
    if not isinstance(critical, list) or not all(isinstance(item, str) for item in critical):
        raise MessageError(Code.MALFORMED, "no list of critical fields")
    if any(item not in body for item in critical):
        raise MessageError(Code.MALFORMED, "a critical field is missing")
    if any(item not in names for item in critical):
        raise MessageError(Code.UNKNOWN_CRITICAL)


def _value(kind: type[Message], body: Mapping[str, Any], name: str) -> Any:
    if name not in body or not CHECKS[name](body[name]):
        raise MessageError(Code.MALFORMED, f"{kind.TYPE}.{name}")
    value = body[name]
    if isinstance(value, dict):
        return _NESTED[name](**value)
    return tuple(value) if isinstance(value, list) else value
