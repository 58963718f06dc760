"""What is sealed in DELIVER, what a receipt says, and the receiver's checks (PURE).

The outbox holds a :class:`~medportal.delivery.parcel.Parcel`; the sender adds ``delivery``, its
exchange key's statement about session, digest, S, R, tid and offer, signed with those that go out
together (:mod:`medportal.transfer.batches`).
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from medportal.transfer.ports import AcceptedRecord, OneUse, Peer, Receipt, VerifyKey
from medportal.transfer.transcript import Binding

MAX_PAYLOAD = 1_000_000
"""Greatest payload in bytes that fits a frame with its delivery statement and sealing."""

MOST_SAID = 1_000
"""Greatest length in characters of scheme, number, name and birth date beside the content."""

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


@dataclass(frozen=True, slots=True)
class Introduction:
    """What is the same for every record of one connection, as its handshake proved it.

    ``chain`` is the exchange chain of the sender, ``crl`` the list that came with it, both in DER;
    they were found good at ``at``, and are not looked at again while the connection lasts.
    """

    session: bytes
    binding: Binding
    chain: tuple[bytes, ...] = field(repr=False)
    crl: bytes = field(repr=False)
    at: datetime


@dataclass(frozen=True, slots=True)
class Sealed:
    """What came in DELIVER; ``info`` is what it is sealed to beside the key."""

    tid: str
    offer: str
    info: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Contents:
    """What was in a delivery, as far as it can be told without the keys shared with the partner.

    ``unsigned`` and ``unfit`` are reason codes, empty where author's statement and content are in
    order; ``packed`` is the parcel as the inbox keeps it, empty where either is not. The four texts
    beside it are no longer than ``MOST_SAID``, or empty where the parcel's are.
    """

    digest: bytes = field(repr=False)
    unsigned: str
    unfit: str
    scheme: str
    number: str = field(repr=False)
    name: str = field(repr=False)
    birth: str = field(repr=False)
    packed: bytes = field(repr=False)


def open_delivery(
    delivered: Sealed,
    key: OneUse,
    intro: Introduction,
    sender_key: VerifyKey,
    peer: Peer,
    check_content: ContentCheck,
    now: datetime,
) -> Contents:
    """Open what was delivered, and check all of it that needs no key shared with the partner.

    1. It opens with the offer's key, bound to session, S, R, tid and offer.
    2. It is exactly the map of fields that a record has.
    3. The sender's exchange key signed session, digest, S, R, tid and offer.

    A failure of 1 to 3 raises ``ProtocolError`` or ``Untrusted``: no institution with a sound
    sender produces it. What follows is answered with a signed receipt:

    4. The author's statement verifies and is about this content and this sender.
    5. The content is in order and is about the parcel's number, and what the parcel says beside
       the content is of a length that somebody's name and number have.
    """
    parcel, delivery = unpack(key.open(delivered.sealed, delivered.info))  # 1, 2
    digest = hashlib.sha256(parcel.content).digest()
    said = dict(sender_key.statement(delivery, transcript.DELIVERY))  # 3
    tid = delivered.tid
    if said != delivery_fields(intro.session, digest, intro.binding, tid, delivered.offer):
        raise ProtocolError(Code.DELIVERY, tid=tid)
    unsigned = _statement_problem(parcel, digest, intro.crl, peer, now)  # 4
    texts = (parcel.scheme, parcel.number, parcel.name, parcel.birth)
    kept = [text if len(text) <= MOST_SAID else "" for text in texts]
    scheme, number, name, birth = kept
    fits = tuple(kept) == texts
    unfit = check_content(parcel) if fits else DeliveryReason.CONTENT_INVALID  # 5
    return Contents(
        digest=digest,
        unsigned=unsigned,
        unfit=unfit,
        scheme=scheme,
        number=number,
        name=name,
        birth=birth,
        packed=b"" if unsigned or unfit else parcel.to_bytes(),
    )


def judge(
    contents: Contents, accept: Accept, binding: Binding, identifiers: Identifiers
) -> AcceptedRecord:
    """Compare what was opened with what was asked for, and say what is to become of it.

    1. What :func:`open_delivery` found against it is answered with a signed receipt.
    2. So is a number that does not give the pseudonym that was asked about.
    3. Name and birth date are those of the registered patient; if not, a person decides.
    """
    refusal = (
        contents.unsigned  # 1
        or _pseudonym_problem(contents, accept, binding, identifiers)  # 2
        or contents.unfit  # 1
    )
    return AcceptedRecord(
        sender=binding.sender,
        tid=accept.tid,
        digest=contents.digest,
        patient=accept.known.patient,
        key_id=accept.question.key_id,
        pseudonym=accept.question.pseudonym,
        fits=_fits(contents, accept, binding, identifiers),  # 3
        refusal=refusal,
        payload=b"" if refusal else contents.packed,
    )


def _statement_problem(parcel: Parcel, digest: bytes, crl: bytes, peer: Peer, now: datetime) -> str:
    try:
        said = peer.author(parcel.statement, crl, now)
    except Untrusted:
        return DeliveryReason.SIGNATURE_INVALID
    if said.get("digest") != digest or said.get("institution") != peer.institution:
        return DeliveryReason.SIGNATURE_INVALID
    return ""


def _pseudonym_problem(
    contents: Contents, accept: Accept, binding: Binding, identifiers: Identifiers
) -> str:
    asked = accept.question
    own = identifiers.pseudonym(binding.sender, asked.key_id, contents.scheme, contents.number)
    if not hmac.compare_digest(own, asked.pseudonym):
        return DeliveryReason.IDENTIFIER_MISMATCH
    return ""


def _fits(contents: Contents, accept: Accept, binding: Binding, identifiers: Identifiers) -> bool:
    own = identifiers.tag(binding.sender, accept.question.key_id, contents.name, contents.birth)
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
