"""A log as JSON Lines, for checking it without the database (PURE).

One object a line, with a ``type``::

    log         format, tenant
    event       sequence, body and leaf (base64 or null), labels (object or null)
    credential  chain (list of base64), crl (base64 or null); comes before heads that use it
    head        size, head (base64 or null), signatures: algorithm, key, value (base64),
                credential (SHA-256 in hex)
    statement   statement (base64 or null), signatures; before the first event

Labels repeat the readable parts of the event and are checked against it.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from medportal.audit.checking import (
    Entry,
    Labels,
    LoggedHead,
    LoggedStatement,
    Position,
    Report,
    verify_log,
)
from medportal.audit.errors import MalformedHead, MalformedLine
from medportal.audit.heads import Credential, Head, HeadSignature, SignedHead, TrustChain
from medportal.audit.statements import SignedStatement, from_body, to_body

FORMAT = 1
MAX_LINE = 1024 * 1024


def to_lines(entries: Iterable[Entry], tenant: str) -> Iterator[str]:
    """Give the lines of a log, without line ends."""
    yield _dump({"type": "log", "format": FORMAT, "tenant": tenant})
    written: set[bytes] = set()
    for entry in entries:
        if isinstance(entry, LoggedHead):
            yield from _head_lines(entry, written)
        elif isinstance(entry, LoggedStatement):
            yield from _statement_lines(entry, written)
        else:
            yield _position_line(entry)


def from_lines(lines: Iterable[str]) -> Iterator[Entry]:
    """Give the entries of an exported log; raises ``MalformedLine`` with the line's number."""
    credentials: dict[str, Credential] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = _read(number, _load(line), credentials)
        except MalformedLine as error:
            raise MalformedLine(f"line {number} cannot be read: {error}") from None
        except (MalformedHead, KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise MalformedLine(f"line {number} cannot be read") from None
        if entry is not None:
            yield entry


def verify_lines(
    lines: Iterable[str], *, tenant: str, trust: TrustChain, held: Iterable[SignedHead] = ()
) -> Report:
    """Check an exported log; see :func:`medportal.audit.checking.verify_log`.

    Raises ``MalformedLine``, and what ``held`` heads may raise.
    """
    return verify_log(from_lines(lines), tenant=tenant, trust=trust, held=held)


def _position_line(entry: Position) -> str:
    return _dump(
        {
            "type": "event",
            "sequence": entry.sequence,
            "labels": None if entry.labels is None else asdict(entry.labels),
            "body": _b64(entry.body),
            "leaf": _b64(entry.leaf),
        }
    )


def _head_lines(entry: LoggedHead, written: set[bytes]) -> Iterator[str]:
    if entry.signed is None:
        yield _dump({"type": "head", "size": entry.size, "head": None, "signatures": []})
        return
    yield from _credential_lines(entry.signed.signatures, written)
    yield _dump(
        {
            "type": "head",
            "size": entry.size,
            "head": _b64(entry.signed.head.to_bytes()),
            "signatures": [_signature_object(item) for item in entry.signed.signatures],
        }
    )


def _statement_lines(entry: LoggedStatement, written: set[bytes]) -> Iterator[str]:
    if entry.signed is None:
        yield _dump({"type": "statement", "statement": None, "signatures": []})
        return
    yield from _credential_lines(entry.signed.signatures, written)
    yield _dump(
        {
            "type": "statement",
            "statement": _b64(to_body(entry.signed.statement)),
            "signatures": [_signature_object(item) for item in entry.signed.signatures],
        }
    )


def _credential_lines(signatures: Iterable[HeadSignature], written: set[bytes]) -> Iterator[str]:
    for item in signatures:
        if item.credential.digest() not in written:
            written.add(item.credential.digest())
            yield _credential_line(item.credential)


def _credential_line(credential: Credential) -> str:
    chain = [_b64(item) for item in credential.chain]
    return _dump({"type": "credential", "chain": chain, "crl": _b64(credential.crl)})


def _signature_object(item: HeadSignature) -> dict[str, Any]:
    return {
        "algorithm": item.algorithm,
        "key": item.key_id,
        "value": _b64(item.value),
        "credential": item.credential.digest().hex(),
    }


def _read(number: int, fields: dict[str, Any], credentials: dict[str, Credential]) -> Entry | None:
    kind = fields["type"]
    if (kind == "log") != (number == 1):
        raise MalformedLine("the first line, and only it, says what the file is")
    if kind == "event":
        return _position(fields)
    if kind == "head":
        return _head(fields, credentials)
    if kind == "statement":
        return _statement(fields, credentials)
    if kind == "credential":
        _remember(fields, credentials)
    elif fields != {"type": "log", "format": FORMAT, "tenant": fields["tenant"]}:
        raise MalformedLine("a line of an unknown kind or format")
    return None


def _position(fields: dict[str, Any]) -> Position:
    labels = fields["labels"]
    return Position(
        sequence=_integer(fields["sequence"]),
        body=_optional_bytes(fields["body"]),
        leaf=_optional_bytes(fields["leaf"]),
        labels=None if labels is None else Labels(**labels),
    )


def _head(fields: dict[str, Any], credentials: dict[str, Credential]) -> LoggedHead:
    size, body = _integer(fields["size"]), _optional_bytes(fields["head"])
    if body is None:
        return LoggedHead(size, None)
    signatures = tuple(_signature(item, credentials) for item in fields["signatures"])
    return LoggedHead(size, SignedHead(Head.from_bytes(body), signatures))


def _statement(fields: dict[str, Any], credentials: dict[str, Credential]) -> LoggedStatement:
    body = _optional_bytes(fields["statement"])
    if body is None:
        return LoggedStatement(None)
    signatures = tuple(_signature(item, credentials) for item in fields["signatures"])
    return LoggedStatement(SignedStatement(from_body(body), signatures))


def _signature(item: dict[str, Any], credentials: dict[str, Credential]) -> HeadSignature:
    return HeadSignature(
        algorithm=str(item["algorithm"]),
        key_id=str(item["key"]),
        value=_bytes(item["value"]),
        credential=credentials[item["credential"]],
    )


def _remember(fields: dict[str, Any], credentials: dict[str, Credential]) -> None:
    chain = tuple(_bytes(item) for item in fields["chain"])
    credential = Credential(chain, _optional_bytes(fields["crl"]))
    credentials[credential.digest().hex()] = credential


def _dump(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def _load(line: str) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise MalformedLine("a line is too long")
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise MalformedLine("a line is not an object")
    return fields


def _b64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except binascii.Error:
        raise MalformedLine("not base64") from None


def _optional_bytes(text: str | None) -> bytes | None:
    return None if text is None else _bytes(text)


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedLine("not a whole number")
    return value
