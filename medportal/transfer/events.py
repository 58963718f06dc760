"""What goes into a session and what comes out (PURE).

In go messages of the peer (:class:`Received`) and local events; out come effects, which the
services carry out. A local event that comes too late (an answer after the close) does nothing; a
message with no place in the table is an error and a close.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Generic, TypeVar

from medportal.transfer.errors import Code
from medportal.transfer.messages import HeldHead, Mark, Message
from medportal.transfer.ports import (
    Answer,
    Channel,
    Known,
    OfferKey,
    OutgoingRecord,
    OwnHead,
    Question,
    Receipt,
    Welcome,
)

M = TypeVar("M", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks: ``wall`` is aware UTC, ``mono`` monotonic seconds."""

    wall: datetime
    mono: float


@dataclass(frozen=True, slots=True)
class Limits:
    """How long this side waits and how much it takes; seconds unless named otherwise."""

    handshake: float = 10.0
    answer: float = 20.0
    idle: float = 20.0
    drain: float = 15.0
    max_age: float = 3_600.0
    offer_ttl: float = 30.0
    window: int = 64
    max_frame: int = 1 << 20
    queries_rate: float = 2_000.0
    queries_burst: float = 4_000.0
    misses_rate: float = 1.0
    misses_burst: float = 500.0
    unused_rate: float = 1.0
    unused_burst: float = 1_000.0


# Events from the wire.


@dataclass(frozen=True, slots=True)
class Received(Generic[M]):
    """A message of the peer and its exact bytes."""

    message: M
    raw: bytes = field(repr=False)


# Local events of both sides.


@dataclass(frozen=True, slots=True)
class Opened:
    """TLS is up and the peer's leaf was checked against its own CA."""

    KIND: ClassVar[str] = "opened"
    channel: Channel


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""

    KIND: ClassVar[str] = "tick"


@dataclass(frozen=True, slots=True)
class Stop:
    """This side wants to end in good order."""

    KIND: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection ended under us."""

    KIND: ClassVar[str] = "lost"


@dataclass(frozen=True, slots=True)
class Abort:
    """This side gives up: the frame was bad, the partner was revoked, something broke."""

    KIND: ClassVar[str] = "abort"
    code: Code


# Local events of the sender.


@dataclass(frozen=True, slots=True)
class Prepared:
    """The receipt mark was acted on and our head for the partner is ready."""

    KIND: ClassVar[str] = "prepared"
    own: OwnHead


@dataclass(frozen=True, slots=True)
class Submit:
    """A claimed record is to be carried."""

    KIND: ClassVar[str] = "submit"
    record: OutgoingRecord


@dataclass(frozen=True, slots=True)
class Gathered:
    """Whatever offers came together are here: what was offered may be delivered."""

    KIND: ClassVar[str] = "gathered"


# Local events of the receiver.


@dataclass(frozen=True, slots=True)
class Welcomed:
    """What CHALLENGE tells this sender was read from the database."""

    KIND: ClassVar[str] = "welcomed"
    welcome: Welcome


@dataclass(frozen=True, slots=True)
class Declined:
    """No more connections of this partner now."""

    KIND: ClassVar[str] = "declined"
    after_ms: int


@dataclass(frozen=True, slots=True)
class Looked:
    """Queries were answered."""

    KIND: ClassVar[str] = "looked"
    answers: tuple[tuple[str, Answer], ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """A record is durable and this is its receipt."""

    KIND: ClassVar[str] = "settled"
    tid: str
    receipt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A record could not be kept now; nothing of it remains."""

    KIND: ClassVar[str] = "unsettled"
    tid: str
    after_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """What was delivered cannot be opened or was not signed by the sender's exchange key."""

    KIND: ClassVar[str] = "refused"
    tid: str
    code: Code


@dataclass(frozen=True, slots=True)
class Registered:
    """Patients were registered here."""

    KIND: ClassVar[str] = "registered"


Event = (
    Received[Message]
    | Opened
    | Tick
    | Stop
    | Lost
    | Abort
    | Prepared
    | Submit
    | Gathered
    | Welcomed
    | Declined
    | Looked
    | Settled
    | Unsettled
    | Refused
    | Registered
)


def kind_of(event: Event) -> str:
    """Return the name under which the tables know an event; messages are in capitals."""
    return event.message.TYPE if isinstance(event, Received) else event.KIND


# Effects of both sides.


@dataclass(frozen=True, slots=True)
class Send:
    """Put a message on the wire."""

    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection; ``code`` is empty for a good end, ``after_ms`` a wish of the peer."""

    code: str = ""
    by_peer: bool = False
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class PeerHead:
    """Check and keep the head of the peer's audit log; the proof is from what we said we hold.

    ``head`` is ``None`` if the peer shows none.
    """

    head: bytes | None = field(repr=False)
    consistency: tuple[bytes, ...] = field(repr=False)
    since: HeldHead | None


@dataclass(frozen=True, slots=True)
class Established:
    """Both sides have proved themselves; records may pass."""

    session: bytes


# Effects of the sender.


@dataclass(frozen=True, slots=True)
class Prepare:
    """Act on the receipt mark, then make our head for what the partner holds."""

    mark: Mark | None
    held: HeldHead | None


@dataclass(frozen=True, slots=True)
class HaveReceipt:
    """A record has its receipt; ``conflict`` if it is for another content."""

    record: OutgoingRecord
    receipt: Receipt
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Unheard:
    """The partner does not know the patient."""

    record: OutgoingRecord


@dataclass(frozen=True, slots=True)
class Again:
    """Try a record again after so long, because of ``reason``."""

    record: OutgoingRecord
    after_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Gather:
    """Give :class:`Gathered` back, behind what has come of the partner already."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give a record back untried; nothing is known against it."""

    record: OutgoingRecord


@dataclass(frozen=True, slots=True)
class PartnerChanged:
    """The partner registered patients."""


# Effects of the receiver.


@dataclass(frozen=True, slots=True)
class Greet:
    """Read what CHALLENGE tells this sender, and whether it may have a connection."""

    sender: str
    held: HeldHead | None
    mark: Mark | None


@dataclass(frozen=True, slots=True)
class Ask:
    """Look a pseudonym up."""

    question: Question


@dataclass(frozen=True, slots=True)
class Accept:
    """Open, verify and commit what was delivered. The key is used up by this."""

    tid: str
    offer: str
    key: OfferKey = field(repr=False)
    info: bytes = field(repr=False)
    sealed: bytes = field(repr=False)
    question: Question = field(repr=False)
    known: Known = field(repr=False)


Effect = (
    Send
    | Close
    | PeerHead
    | Established
    | Prepare
    | HaveReceipt
    | Unheard
    | Again
    | Release
    | Gather
    | PartnerChanged
    | Greet
    | Ask
    | Accept
)
