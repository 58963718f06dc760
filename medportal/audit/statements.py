"""What an institution declares about its log, signed with both head keys (PURE).

A log can lose events honestly in two ways: a database is restored from an older backup, or what
is older than the time for which it is kept is forgotten. Either is told in a statement,
signed as heads are, that is kept beside the log and travels with its export:

* a restore says up to where the log was kept and what it was there, and which head the lost part
  led to. A head held elsewhere that lies in the lost part is then explained, as far as anybody
  can tell without what was lost; one that lies outside is a fork. An event of the log tells of it.
* a checkpoint says up to where the words of events were forgotten. Their hashes stay, so
  every head, however old, can still be compared.

Neither explains anything else, and both are there for everybody to see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from medportal.audit import merkle
from medportal.audit.errors import BadSignature, MalformedHead
from medportal.audit.heads import (
    Head,
    HeadSignature,
    HeadSigner,
    TrustChain,
    pack,
    unpack,
    verify_signatures,
)
from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros

FORMAT = 1
LABEL = "medportal log statement 1"
RESTORE = "restore"
CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class Restore:
    """The log was restored: the first ``kept`` events, which lead to ``kept_root``, are as they
    were, and what followed up to the head of ``lost_size`` events under ``lost_root`` is lost.
    """

    tenant: str
    kept: int
    kept_root: bytes
    lost_size: int
    lost_root: bytes
    at: datetime

    def explains(self, head: Head) -> bool:
        """Tell whether a head that the log contradicts lies in the lost part.

        A head that was signed after the restore was declared is none of the lost ones.
        """
        if head.at > self.at:
            return False
        if head.size == self.lost_size:
            return head.root == self.lost_root
        return self.kept < head.size < self.lost_size

    @property
    def details(self) -> dict[str, str | int]:
        """Return the details of the event that has to tell of this restore in the log."""
        lost = self.lost_size - self.kept
        return {"kept": self.kept, "lost": lost, "root": self.lost_root.hex()}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The bodies of the first ``size`` events, which led to ``root``, were forgotten."""

    tenant: str
    size: int
    root: bytes
    at: datetime


Statement = Restore | Checkpoint


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement with both signatures; stands for itself."""

    statement: Statement
    signatures: tuple[HeadSignature, ...]

    def to_bytes(self) -> bytes:
        """Return the one encoding, for partners and files."""
        return pack(LABEL, to_body(self.statement), self.signatures)

    @classmethod
    def from_bytes(cls, data: bytes) -> "SignedStatement":
        """Read a statement, without checking signatures; raises ``MalformedHead``."""
        body, signatures = unpack(LABEL, data)
        return cls(from_body(body), signatures)

    def digest(self) -> bytes:
        """Return the SHA-256 under which it is kept."""
        return sha256(to_body(self.statement)).digest()


def sign_statement(signer: HeadSigner, statement: Statement) -> SignedStatement:
    """Return the statement signed twice. Raises ``BadSignature`` for keys of other algorithms."""
    return SignedStatement(statement, signer.sign_bytes(LABEL, to_body(statement)))


def verify_statement(signed: SignedStatement, *, tenant: str, trust: TrustChain) -> Statement:
    """Return the statement if it is of ``tenant`` and both signatures hold.

    Raises ``BadSignature``, or what ``trust`` raises.
    """
    statement = signed.statement
    if statement.tenant != tenant:
        raise BadSignature("the statement is another institution's")
    body = to_body(statement)
    verify_signatures(signed.signatures, LABEL, body, tenant=tenant, at=statement.at, trust=trust)
    return statement


def to_body(statement: Statement) -> bytes:
    """Return the one encoding of a statement."""
    if isinstance(statement, Restore):
        own: Mapping[str, Any] = {
            "kind": RESTORE,
            "kept": statement.kept,
            "kept_root": statement.kept_root,
            "lost_size": statement.lost_size,
            "lost_root": statement.lost_root,
        }
    else:
        own = {"kind": CHECKPOINT, "size": statement.size, "root": statement.root}
    shared = {"v": FORMAT, "tenant": statement.tenant, "at": to_micros(statement.at)}
    return canonical.encode({**shared, **own})


def from_body(body: bytes) -> Statement:
    """Read a statement; raises ``MalformedHead`` for anything :func:`to_body` never gives."""
    try:
        statement = _read(canonical.decode(body))
        if to_body(statement) != body:
            raise MalformedHead("not the one encoding of a statement")
    except (canonical.NotCanonical, KeyError, TypeError, ValueError):
        raise MalformedHead("not a statement") from None
    return statement


def _read(fields: dict[str, Any]) -> Statement:
    tenant, at = fields["tenant"], from_micros(fields["at"])
    if not isinstance(tenant, str):
        raise MalformedHead("not a statement")
    if fields["kind"] == RESTORE:
        kept, lost = _count(fields["kept"]), _count(fields["lost_size"])
        if kept >= lost:
            raise MalformedHead("a restore that lost nothing")
        return Restore(
            tenant, kept, _root(fields["kept_root"]), lost, _root(fields["lost_root"]), at
        )
    if fields["kind"] == CHECKPOINT:
        return Checkpoint(tenant, _count(fields["size"]), _root(fields["root"]), at)
    raise MalformedHead("a statement of an unknown kind")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise MalformedHead("not a statement")
    return value


def _root(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != merkle.HASH_LENGTH:
        raise MalformedHead("not a statement")
    return value
