"""What is sealed in DELIVER, what a receipt says, and the receiver's checks (PURE).

The outbox holds a :class:`~medportal.delivery.parcel.Parcel`; the sender adds ``delivery``, its
exchange key's statement about session, digest, S, R, tid and offer, signed with those that go out
together (:mod:`medportal.transfer.batches`).
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros
from medportal.delivery.errors import MalformedDelivery
from medportal.delivery.parcel import Parcel
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.transfer import transcript
from medportal.transfer.errors import Code, ProtocolError, Untrusted
from medportal.transfer.events import Accept
from medportal.transfer.ports import AcceptedRecord, Peer, Receipt
from medportal.transfer.transcript import Binding

MAX_PAYLOAD = 1_000_000
"""Greatest payload in bytes that fits a frame with its delivery statement and sealing."""

_RECEIPT: Mapping[str, type] = {
    "sender": str,
    "receiver": str,
    "tid": str,
    "outcome": str,
    "digest": bytes,
    "sequence": int,
    "time": int,
    "reason": str,
    "final": bool,
}


class Identifiers(Protocol):
    """Pseudonyms and tags under the pair keys shared with a partner."""

    def pseudonym(self, partner: str, key_id: str, scheme: str, number: str) -> bytes:
        """Return the pseudonym of a number. Raises ``Untrusted`` for a key not held."""

    def tag(self, partner: str, key_id: str, name: str, birth: str) -> bytes:
        """Return the tag of name and birth date. Raises ``Untrusted`` for a key not held."""


ContentCheck = Callable[[Parcel], str]
"""Returns a reason code, empty if the content is in order and about the parcel's number."""


def with_delivery(packed: bytes, delivery: bytes) -> bytes:
    """Return the outbox's payload with the delivery statement added."""
    return canonical.encode({**canonical.decode(packed), "delivery": delivery})


def unpack(data: bytes) -> tuple[Parcel, bytes]:
    """Return parcel and delivery statement of an opened DELIVER.

    Raises ``ProtocolError`` for anything that is not exactly such a map.
    """
    try:
        body = canonical.decode(data)
        delivery = body.pop("delivery", None) if isinstance(body, dict) else None
        if not isinstance(delivery, bytes):
            raise ProtocolError(Code.SEALED, "no delivery statement")
        return Parcel.from_fields(body), delivery
    except (canonical.NotCanonical, MalformedDelivery) as error:
        raise ProtocolError(Code.SEALED, "not the fields of a record") from error


def delivery_fields(
    session: bytes, digest: bytes, binding: Binding, tid: str, offer: str
) -> dict[str, Any]:
    """Return what a delivery statement says."""
    return {
        "session": session,
        "digest": digest,
        "sender": binding.sender,
        "receiver": binding.receiver,
        "tid": tid,
        "offer": offer,
    }


def receive(
    accept: Accept,
    binding: Binding,
    peer: Peer,
    identifiers: Identifiers,
    check_content: ContentCheck,
    now: datetime,
) -> AcceptedRecord:
    """Open and verify what was delivered.

    1. It opens with the offer's key, bound to session, S, R, tid and offer.
    2. It is exactly the map of fields that a record has.
    3. The sender's exchange key signed session, digest, S, R, tid and offer.

    A failure of 1 to 3 raises ``ProtocolError`` or ``Untrusted``: no institution with a sound
    sender produces it. What follows is answered with a signed receipt:

    4. The author's statement verifies and is about this content and this sender.
    5. The number gives the pseudonym that was asked about.
    6. The content is in order and is about the same number.
    7. Name and birth date are those of the registered patient; if not, a person decides.
    """
    parcel, delivery = unpack(accept.key.open(accept.sealed, accept.info))  # 1, 2
    digest = hashlib.sha256(parcel.content).digest()
    said = dict(accept.sender_key.statement(delivery, transcript.DELIVERY))  # 3
    tid = accept.tid
    if said != delivery_fields(accept.session, digest, binding, tid, accept.offer):
        raise ProtocolError(Code.DELIVERY, tid=tid)
    refusal = (
        _statement_problem(parcel, digest, accept, peer, now)  # 4
        or _pseudonym_problem(parcel, accept, binding, identifiers)  # 5
        or check_content(parcel)  # 6
    )
    return AcceptedRecord(
        sender=binding.sender,
        tid=tid,
        digest=digest,
        patient=accept.known.patient,
        key_id=accept.question.key_id,
        pseudonym=accept.question.pseudonym,
        fits=_fits(parcel, accept, binding, identifiers),  # 7
        refusal=refusal,
        payload=b"" if refusal else parcel.to_bytes(),
    )


def _statement_problem(
    parcel: Parcel, digest: bytes, accept: Accept, peer: Peer, now: datetime
) -> str:
    try:
        said = peer.author(parcel.statement, accept.crl, now)
    except Untrusted:
        return DeliveryReason.SIGNATURE_INVALID
    if said.get("digest") != digest or said.get("institution") != peer.institution:
        return DeliveryReason.SIGNATURE_INVALID
    return ""


def _pseudonym_problem(
    parcel: Parcel, accept: Accept, binding: Binding, identifiers: Identifiers
) -> str:
    asked = accept.question
    own = identifiers.pseudonym(binding.sender, asked.key_id, parcel.scheme, parcel.number)
    if not hmac.compare_digest(own, asked.pseudonym):
        return DeliveryReason.IDENTIFIER_MISMATCH
    return ""


def _fits(parcel: Parcel, accept: Accept, binding: Binding, identifiers: Identifiers) -> bool:
    own = identifiers.tag(binding.sender, accept.question.key_id, parcel.name, parcel.birth)
    return hmac.compare_digest(own, accept.known.tag)


def receipt_fields(receipt: Receipt, sender: str, receiver: str) -> dict[str, Any]:
    """Return what a receipt says, to be signed with the receipt key."""
    return {
        "sender": sender,
        "receiver": receiver,
        "tid": receipt.tid,
        "outcome": receipt.outcome.value,
        "digest": receipt.digest,
        "sequence": receipt.sequence,
        "time": to_micros(receipt.at),
        "reason": receipt.reason,
        "final": receipt.final,
    }


def read_receipt(
    signed: bytes, peer: Peer, crl: bytes, binding: Binding, tid: str, now: datetime
) -> Receipt:
    """Return a verified receipt for this sender, receiver and tid.

    Raises ``Untrusted`` or ``ProtocolError`` for a receipt of anybody or anything else.
    """
    said = peer.receipt(signed, crl, now)
    if said.keys() != _RECEIPT.keys() or not all(
        type(said[name]) is kind for name, kind in _RECEIPT.items()
    ):
        raise ProtocolError(Code.RECEIPT, "fields", tid)
    if (said["sender"], said["receiver"], said["tid"]) != (binding.sender, binding.receiver, tid):
        raise ProtocolError(Code.RECEIPT, "names", tid)
    try:
        return Receipt(
            tid=tid,
            outcome=Outcome(said["outcome"]),
            digest=said["digest"],
            sequence=_sequence(said["sequence"], said["outcome"]),
            at=from_micros(said["time"]),
            reason=said["reason"],
            final=said["final"],
            signed=signed,
        )
    except ValueError as error:
        raise ProtocolError(Code.RECEIPT, "values", tid) from error


def _sequence(value: int, outcome: str) -> int:
    least = 0 if outcome == Outcome.REJECTED else 1
    if not least <= value < 2**63:
        raise ValueError("sequences count from one")
    return value
