"""What the author of a record states by signing, and the content sealed with it (PURE).

The caller signs the fields of :func:`statement_fields` once, with the institution's
record key and :data:`LABEL`, and verifies the signature before :func:`read_statement`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from medportal.core import canonical
from medportal.core.categories import Category
from medportal.core.clock import from_micros, to_micros
from medportal.core.ids import is_id
from medportal.records.errors import StatementError, StatementMismatch

LABEL = "medportal record 1"
SEALED_FORMAT = "medportal sealed content 1"

_TYPES: Mapping[str, type] = {
    "author": str,
    "category": str,
    "created": int,
    "digest": bytes,
    "institution": str,
    "record": str,
    "version": int,
}


@dataclass(frozen=True, slots=True)
class AuthorStatement:
    """A verified statement: who at which institution made which bytes, and when."""

    digest: bytes
    record_id: str
    version: int
    institution: str
    author_id: str
    category: Category
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SealedContent:
    """What the vault seals: the exact bytes of a record and the signed statement on them."""

    content: bytes
    signed_statement: bytes

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        fields = {"content": self.content, "statement": self.signed_statement}
        return canonical.encode({"format": SEALED_FORMAT, **fields})

    @classmethod
    def from_bytes(cls, data: bytes) -> "SealedContent":
        """Return what :meth:`to_bytes` encoded.

        Raises ``StatementError``, and ``core.canonical.NotCanonical`` for bytes that are
        no canonical encoding of anything.
        """
        fields = canonical.decode(data)
        if not _has_types(fields, {"format": str, "content": bytes, "statement": bytes}):
            raise StatementError("not a sealed content")
        if fields["format"] != SEALED_FORMAT:
            raise StatementError("a sealed content of an unknown format")
        return cls(fields["content"], fields["statement"])


def content_of(opened: bytes) -> bytes:
    """Return the content of bytes that :meth:`SealedContent.from_bytes` took apart before.

    Nothing is checked again: these bytes were sealed by us, and the caller compares the digest.
    """
    content: bytes = canonical.decode_known(opened)["content"]
    return content


def digest(content: bytes) -> bytes:
    """Return the SHA-256 digest of a record's exact bytes (32 bytes)."""
    return hashlib.sha256(content).digest()


def statement_fields(
    content: bytes,
    record_id: str,
    version: int,
    tenant: str,
    author_id: str,
    category: Category,
    created_at: datetime,
) -> Mapping[str, str | int | bytes]:
    """Return the fields to be signed for ``content``.

    ``tenant`` is the id of the institution whose record key signs. Raises ``ValueError``
    for a naive ``created_at``.
    """
    return {
        "author": author_id,
        "category": category.value,
        "created": to_micros(created_at),
        "digest": digest(content),
        "institution": tenant,
        "record": record_id,
        "version": version,
    }


def read_statement(
    fields: Mapping[str, object],
    content: bytes,
    *,
    record_id: str,
    version: int,
    institution: str,
    author_id: str,
    category: Category,
) -> AuthorStatement:
    """Return the statement in verified ``fields`` if it speaks of exactly this record.

    The keyword arguments come from the content itself and from where it was stored.
    Raises ``StatementError`` for fields that are no statement and ``StatementMismatch``,
    which names the field, for one on something else.
    """
    statement = _statement(fields)
    expected = {
        "digest": digest(content),
        "record_id": record_id,
        "version": version,
        "institution": institution,
        "author_id": author_id,
        "category": category,
    }
    for field, value in expected.items():
        if getattr(statement, field) != value:
            raise StatementMismatch(field)
    return statement


def _statement(fields: Mapping[str, object]) -> AuthorStatement:
    if not _has_types(fields, _TYPES):
        raise StatementError("not an author's statement")
    known: Mapping[str, Any] = fields
    if not (is_id(known["record"]) and is_id(known["author"])):
        raise StatementError("an author's statement with a malformed id")
    try:
        category, created_at = Category(known["category"]), from_micros(known["created"])
    except ValueError as error:
        raise StatementError("an author's statement with a value out of range") from error
    return AuthorStatement(
        digest=known["digest"],
        record_id=known["record"],
        version=known["version"],
        institution=known["institution"],
        author_id=known["author"],
        category=category,
        created_at=created_at,
    )


def _has_types(fields: object, types: Mapping[str, type]) -> bool:
    if not isinstance(fields, Mapping) or set(fields) != set(types):
        return False
    # bool is an int to Python, and never one here.
    return all(type(fields[name]) is wanted for name, wanted in types.items())
