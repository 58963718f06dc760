"""What can go wrong in the audit room (PURE)."""

from medportal.core.errors import MedportalError


class AuditError(MedportalError):
    """The root of the family."""


class MalformedEvent(AuditError):
    """An event, or the bytes of one, that is not well formed."""


class MalformedHead(AuditError):
    """Bytes that are not a head, or not a signed one."""


class MalformedLine(AuditError):
    """A line of an exported log that cannot be read."""


class BadSignature(AuditError):
    """A head whose signature, signer or tenant is not what it must be."""


class BadProof(AuditError):
    """A Merkle proof that does not prove what it was given for."""


class LogDamaged(AuditError):
    """The stored log contradicts itself or the head last seen: nothing more is signed."""


class NothingLost(AuditError):
    """The log continues the head that was said to be lost: there is no restore to declare."""


class NothingToPrune(AuditError):
    """No event before that day that is not forgotten already, or none that a head covers."""
