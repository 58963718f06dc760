"""What the protocol and the services need from elsewhere, as Protocols and frozen values (PURE).

The adapters onto certificates are in :mod:`medportal.transfer.credentials`, those onto the
database in :mod:`medportal.transfer.stores`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from cryptography import x509

from medportal.delivery.states import DeliveryReason, Outcome
from medportal.transfer.errors import Code, TransferError
from medportal.transfer.messages import HeldHead, Mark


class Signer(Protocol):
    """A private key of this institution for one purpose, with its chain and a fresh CRL."""

    @property
    def key_id(self) -> str: ...  # noqa: D102
    @property
    def algorithm(self) -> str: ...  # noqa: D102
    @property
    def chain_der(self) -> tuple[bytes, ...]: ...  # noqa: D102
    @property
    def crl_der(self) -> bytes: ...  # noqa: D102
    def sign(self, data: bytes) -> bytes: ...  # noqa: D102


class VerifyKey(Protocol):
    """A partner's exchange key whose certificate was verified."""

    @property
    def key_id(self) -> str: ...  # noqa: D102
    @property
    def algorithm(self) -> str: ...  # noqa: D102
    @property
    def link(self) -> x509.Certificate | None: ...  # noqa: D102
    def verify(self, signature: bytes, data: bytes) -> None:
        """Return if the signature holds. Raises ``Untrusted``."""

    def statement(self, signed: bytes, label: str) -> Mapping[str, Any]:
        """Return the fields of a statement signed with this very key. Raises ``Untrusted``."""


class Peer(Protocol):
    """One partner as its descriptor and CA certificate make it known.

    Every method raises ``Untrusted`` where something does not verify under that CA for that
    institution and purpose, or where the partner was revoked here.
    """

    @property
    def institution(self) -> str: ...  # noqa: D102

    def channel(self, chain: Sequence[bytes], crl: bytes | None, now: datetime) -> None:
        """Check the TLS chain: purpose channel, institution in the SAN, CRL where there is one."""

    def exchange(self, chain: Sequence[bytes], crl: bytes, now: datetime) -> VerifyKey:
        """Return the key of an exchange chain."""

    def author(self, signed: bytes, crl: bytes, now: datetime) -> Mapping[str, Any]:
        """Return the fields of an author statement (record key; it may have lapsed since).

        Raises ``FromFuture`` where it is of the future by the clock here, which may be wrong.
        """

    def receipt(self, signed: bytes, crl: bytes, now: datetime) -> Mapping[str, Any]:
        """Return the fields of a receipt (receipt key)."""


class OfferKey(Protocol):
    """The key pair of an offer, as its connection knows it: the private half may be elsewhere."""

    @property
    def public(self) -> bytes: ...  # noqa: D102


class OneUse(Protocol):
    """The private half of an offer."""

    def open(self, sealed: bytes, info: bytes) -> bytes: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verified receipt: the outcome, R's sequence number and time, and its bytes.

    The sequence counts from 1; a rejection of which nothing was stored has 0. ``final`` is false
    for a rejection that may be sent again; ``reason`` is a code.
    """

    tid: str
    outcome: Outcome
    digest: bytes
    sequence: int
    at: datetime
    reason: str
    final: bool
    signed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """A claimed outbox row, opened: what the sender asks about and delivers.

    ``payload`` is what the outbox sealed; ``claim`` is the store's own handle (lease, fence).
    """

    tid: str
    key_id: str
    pseudonym: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    claim: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Known:
    """The pseudonym is of a patient registered here; ``tag`` is of name and birth date."""

    patient: str
    tag: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotKnown:
    """No such patient, or the patient's rules say no."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """The index for this partner and key is not complete; ask again after so long."""

    after_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class Receipted:
    """This (sender, tid) has its receipt already."""

    receipt: bytes


Answer = Known | NotKnown | NotReady | Receipted


@dataclass(frozen=True, slots=True)
class Question:
    """One QUERY for the store."""

    tid: str
    key_id: str
    pseudonym: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """A verified record on its way into the inbox.

    ``fits`` tells whether name and birth date are those of the registered patient;
    ``refusal`` is a reason code if the record is refused, empty otherwise; ``content`` is the
    plaintext payload that the store seals to the inbox key, empty for a refusal.
    """

    sender: str
    tid: str
    digest: bytes = field(repr=False)
    patient: str
    key_id: str
    pseudonym: bytes = field(repr=False)
    fits: bool
    refusal: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OwnHead:
    """This side's signed head for the peer, and the proof from what the peer holds."""

    head: bytes | None = None
    consistency: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the receiver tells a sender in CHALLENGE."""

    mark: Mark
    held: HeldHead | None = None
    own: OwnHead = field(default_factory=OwnHead)


class SenderStore(Protocol):
    """The durable side of a sender. Each call is one transaction, made in a worker thread."""

    def due(self, now: datetime) -> Sequence[str]:
        """Return the partners that have something to claim now: one cheap query."""

    def claim(self, partner: str, limit: int, now: datetime) -> Sequence[OutgoingRecord]:
        """Lease up to ``limit`` chain heads for this worker and open them."""

    def renew(self, records: Sequence[OutgoingRecord], now: datetime) -> None:
        """Prolong the leases of records that are under way."""

    def stopped(self, records: Sequence[OutgoingRecord], now: datetime) -> frozenset[str]:
        """Return the transfer ids of those that a patient's rule stops since they were claimed."""

    def prepare(
        self,
        partner: str,
        mark: Mark | None,
        held: HeldHead | None,
        hello_at: datetime,
        now: datetime,
    ) -> OwnHead:
        """Re-queue what was receipted above the partner's mark; return our head for it.

        ``hello_at`` is when HELLO left: receipts taken since are newer than the mark.
        """

    def standing(self, partner: str) -> tuple[HeldHead | None, Mark | None]:
        """Return the partner's head last held and the mark of its receipts held."""

    def peer_head(
        self,
        partner: str,
        head: bytes | None,
        proof: Sequence[bytes],
        since: HeldHead | None,
        now: datetime,
    ) -> bool:
        """Verify and keep the partner's head; audit one that does not extend ``since``."""

    def remember_crl(
        self, partner: str, crl: bytes, link: x509.Certificate | None, now: datetime
    ) -> None:
        """Keep the partner's CRL if it is its newest, so that older ones are refused.

        ``link`` is the partner's next authority as the one trusted vouches for it, if it came.
        """

    def finished(self, partner: str, results: Sequence["Result"], now: datetime) -> None:
        """Write the results of claimed records; a result whose lease was lost changes nothing."""

    def changed(self, partner: str, now: datetime) -> None:
        """The partner registered patients: ask again soon about the unknown ones."""

    def stalled(self, partner: str, reason: DeliveryReason, now: datetime) -> None:
        """No connection can be had: let what is due say why, and come again later."""

    def reachable(self, partner: str, now: datetime) -> None:
        """A connection is up: what waited for one is due at once."""


@dataclass(frozen=True, slots=True)
class Result:
    """What happened to a claimed record: exactly one of the kinds below."""

    record: OutgoingRecord
    kind: "ResultKind"
    receipt: Receipt | None = None
    reason: str = ""
    after_ms: int = 0


class ResultKind(StrEnum):
    """How one attempt at a record ended."""

    RECEIPTED = "receipted"
    UNKNOWN = "unknown"
    RETRY = "retry"
    RELEASED = "released"
    CONFLICT = "conflict"


class ReceiverStore(Protocol):
    """The durable side of a receiver. Each call is one transaction, made in a worker thread."""

    def welcome(
        self, sender: str, held: HeldHead | None, mark: Mark | None, now: datetime
    ) -> Welcome:
        """Return what CHALLENGE tells this sender; audit if its mark is ahead of ours."""

    def peer_head(
        self,
        partner: str,
        head: bytes | None,
        proof: Sequence[bytes],
        since: HeldHead | None,
        now: datetime,
    ) -> bool:
        """As :meth:`SenderStore.peer_head`."""

    def remember_crl(
        self, partner: str, crl: bytes, link: x509.Certificate | None, now: datetime
    ) -> None:
        """As :meth:`SenderStore.remember_crl`."""

    def answer_all(
        self, asked: Mapping[str, Sequence[Question]], now: datetime
    ) -> Mapping[str, Mapping[Question, Answer]]:
        """Answer queries by sender, and audit them with the patients they hit."""

    def commit(
        self, records: Sequence[AcceptedRecord], now: datetime
    ) -> Sequence["bytes | TransferError"]:
        """Make records durable, in groups; one receipt each in the same order.

        The same (sender, tid) with the same digest gives the receipt it already has. An item
        that could not be kept has the error instead: ``ReceiverBusy``, or ``Untrusted`` if
        its sender was revoked meanwhile.
        """

    def refused(self, partner: str, code: Code, now: datetime) -> None:
        """Audit that a partner's connection was given up, or a stranger's refused."""

    def registrations(self) -> str:
        """Return a token that differs after patients were registered: one cheap query."""


@dataclass(frozen=True, slots=True)
class Channel:
    """An established TLS connection as the protocol sees it; leaves are SHA-256 of DER."""

    binding: bytes
    own_leaf: bytes
    peer_leaf: bytes
    peer: str
    peer_chain: tuple[bytes, ...] = field(repr=False)


Random = Callable[[int], bytes]
