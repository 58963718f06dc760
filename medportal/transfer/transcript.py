"""What the signatures of CRX/1 cover, byte by byte (PURE).

Each label separates one use of the exchange key from every other, and ``role`` separates the two
directions, so that no signature can be reflected or moved to another place.
"""

import hashlib
from dataclasses import dataclass

from medportal.core import canonical

HANDSHAKE = "CRX/1 handshake"
SESSION = "CRX/1 session"
OFFERS = "CRX/1 offers"
RECORD = "CRX/1 record"
DELIVERY = "CRX/1 delivery"
RECEIPT = "CRX/1 receipt"

SENDER = "sender"
RECEIVER = "receiver"


@dataclass(frozen=True, slots=True)
class Binding:
    """What ties a handshake to one TLS connection between two institutions.

    ``channel`` is the ``tls-exporter`` channel binding (RFC 9266); the leaves are
    SHA-256 of the TLS certificates, in DER, of S and of R.
    """

    sender: str
    receiver: str
    channel: bytes
    sender_leaf: bytes
    receiver_leaf: bytes

    def plain(self) -> list[str | bytes]:
        """Return the binding as it stands in signed arrays."""
        return [self.sender, self.receiver, self.channel, self.sender_leaf, self.receiver_leaf]


def handshake_input(role: str, binding: Binding, messages: tuple[bytes, ...]) -> bytes:
    """Return what a handshake signature covers.

    ``messages`` are the exact bytes of all messages so far, the last one without its signature.
    """
    covered = canonical.encode([HANDSHAKE, role, *binding.plain(), list(messages)])
    return hashlib.sha256(covered).digest()


def session_id(binding: Binding, hello: bytes, challenge: bytes, proof: bytes) -> bytes:
    """Return the 32 bytes that name this session, from the whole transcript with signatures."""
    covered = canonical.encode([SESSION, *binding.plain(), [hello, challenge, proof]])
    return hashlib.sha256(covered).digest()


def offer_leaf(tid: str, offer: str, key: bytes, ttl_ms: int) -> bytes:
    """Return what an offer is as a leaf in the tree of its batch."""
    return canonical.encode([OFFERS, "leaf", tid, offer, key, ttl_ms])


def offers_input(session: bytes, binding: Binding, size: int, root: bytes) -> bytes:
    """Return what R signs over a batch of offers of one session: their number and their root."""
    return canonical.encode(
        [OFFERS, RECEIVER, session, binding.sender, binding.receiver, size, root]
    )


def record_info(session: bytes, binding: Binding, tid: str, offer: str) -> bytes:
    """Return HPKE's ``info``: a record opens only in its session, for its tid and its offer."""
    return canonical.encode([RECORD, session, binding.sender, binding.receiver, tid, offer])
