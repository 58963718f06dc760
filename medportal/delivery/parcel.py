"""What travels: the exact content, the author's statement, and whom it is about (PURE).

The portal seals a parcel to the outbox key, the sender opens it and adds its delivery
statement, the receiver verifies and seals the parcel to the inbox key, intake opens it.
The purposes below are bound into each seal, so that no box passes for another.
"""

from dataclasses import dataclass, field

from medportal.core import canonical
from medportal.delivery.errors import MalformedDelivery

_FIELDS = ("content", "statement", "scheme", "number", "name", "birth")
_TYPES = (bytes, bytes, str, str, str, str)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One record version as it travels. ``birth`` is an ISO 8601 date."""

    content: bytes = field(repr=False)
    statement: bytes = field(repr=False)
    scheme: str = field(repr=False)
    number: str = field(repr=False)
    name: str = field(repr=False)
    birth: str = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are sealed."""
        return canonical.encode({name: getattr(self, name) for name in _FIELDS})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Parcel":
        """Return the parcel in ``data``; raises ``MalformedDelivery``."""
        try:
            fields = canonical.decode(data)
        except canonical.NotCanonical as error:
            raise MalformedDelivery("not a parcel") from error
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: object) -> "Parcel":
        """Return the parcel whose canonical bytes encode ``fields``; raises as above."""
        if not isinstance(fields, dict) or set(fields) != set(_FIELDS):
            raise MalformedDelivery("not the fields of a parcel")
        if any(type(fields[n]) is not t for n, t in zip(_FIELDS, _TYPES, strict=True)):
            raise MalformedDelivery("a field of a parcel of another type")
        return cls(**fields)


def outbox_info(tenant_id: str, partner: str, tid: str) -> bytes:
    """Return what binds an outbox seal to its row."""
    return canonical.encode(["medportal outbox 1", tenant_id, partner, tid])


def inbox_info(tenant_id: str, sender: str, tid: str) -> bytes:
    """Return what binds an inbox seal to its row."""
    return canonical.encode(["medportal inbox 1", tenant_id, sender, tid])
