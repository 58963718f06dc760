"""The durable side of both services: adapters onto delivery, patients and audit.

Each method is one transaction of its own on the tenant's engine, called in a worker thread. What
the partner states of itself (marks, heads) is checked before it is kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from cryptography import x509
from sqlalchemy import Engine, or_, select, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from medportal.audit import verifier
from medportal.audit.append import append
from medportal.audit.errors import AuditError
from medportal.audit.events import Action, Event
from medportal.audit.events import Outcome as AuditOutcome
from medportal.audit.heads import Credential, Head, SignedHead, check_extends, verify_head
from medportal.audit.models import AuditEvent
from medportal.core.reasons import Reason
from medportal.delivery import blocks, boxkeys, inbox, outbox, receipts
from medportal.delivery.conflicts import note_conflict
from medportal.delivery.errors import HeadWentBack, LostLease
from medportal.delivery.groups import Broken, commit_split
from medportal.delivery.holds import is_held
from medportal.delivery.inbox import Arrival, Grant, Registration
from medportal.delivery.models import Outbox
from medportal.delivery.outbox import Claim, ReceiptFacts
from medportal.delivery.parcel import inbox_info, outbox_info
from medportal.delivery.states import DeliveryReason, DeliveryState, Outcome, reason_of
from medportal.keys import TenantKeys
from medportal.patients.partner_index import Hit, IndexIncomplete, lookup
from medportal.pki.errors import PkiError
from medportal.pki.partners import remember_crl
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import Signed, sign_statement
from medportal.pki.verify import verify_leaf
from medportal.tenancy.engines import reading
from medportal.transfer import transcript
from medportal.transfer.errors import Code, ReceiverBusy, TransferError, Untrusted
from medportal.transfer.messages import HeldHead, Mark
from medportal.transfer.payload import receipt_fields
from medportal.transfer.ports import (
    AcceptedRecord,
    Answer,
    Known,
    NotKnown,
    NotReady,
    OutgoingRecord,
    OwnHead,
    Question,
    Receipt,
    Receipted,
    Result,
    ResultKind,
    Welcome,
)
from medportal.vault.boxes import key_of
from medportal.vault.errors import Tampered

log = structlog.get_logger()
SENDER = "process:sender"
RECEIVER = "process:receiver"

LEASE = timedelta(seconds=10)
"""How long a record of a dead sender waits for the next one; a live sender renews it."""

_STALLED = frozenset(
    {
        DeliveryReason.UNREACHABLE,
        DeliveryReason.CHANNEL_REFUSED,
        DeliveryReason.PARTNER_NOT_TRUSTED,
        DeliveryReason.NO_ANSWER,
    }
)


class _Store:
    """What sender and receiver have in common: transactions, and heads of logs."""

    def __init__(self, engine: Engine, keys: TenantKeys) -> None:
        """Use a tenant's engine and the keys of this process."""
        self._engine, self._keys = engine, keys

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with Session(reading(self._engine)) as session, session.begin():
            yield session

    @property
    def _institution(self) -> str:
        return self._keys.tenant.id

    def _held(self, session: Session, partner: str) -> HeldHead | None:
        held = receipts.held_head(session, partner)
        return HeldHead(held.size, held.root) if held else None

    def _own_head(self, session: Session, held: HeldHead | None) -> OwnHead:
        """Return our newest head, and the proof that it continues what the partner holds.

        A partner that holds more than we have gets our head without proof: it will see that our
        log became shorter, which is for its people to ask about.
        """
        signed = verifier.latest_head(session)
        if signed is None:
            return OwnHead()
        size = signed.head.size
        if held is None or held.size > size:
            return OwnHead(signed.to_bytes())
        proof = verifier.consistency_proof(session, held.size, size)
        return OwnHead(signed.to_bytes(), tuple(proof))

    def peer_head(
        self,
        partner: str,
        head: bytes | None,
        proof: Sequence[bytes],
        since: HeldHead | None,
        now: datetime,
    ) -> bool:
        """Verify and keep a partner's head; audit one that does not continue what we hold.

        ``head`` is ``None`` if the partner shows none: good as long as it never showed one.
        A signed head that contradicts a signed head is kept beside it, as evidence.
        """
        try:
            with self._transaction() as session:
                self._take_head(session, partner, head, proof, since, now)
        except (AuditError, PkiError, HeadWentBack) as error:
            log.error("partner's log head refused", partner=partner, kind=type(error).__name__)
            self._note_refusal(partner, head, proof, since, type(error).__name__, now)
            return False
        return True

    def _take_head(
        self,
        session: Session,
        partner: str,
        body: bytes | None,
        proof: Sequence[bytes],
        since: HeldHead | None,
        now: datetime,
    ) -> None:
        if body is None:
            if receipts.held_head(session, partner) is not None:
                raise HeadWentBack("a partner that had a log shows none")
            return
        head = verify_head(SignedHead.from_bytes(body), tenant=partner, trust=self._trust_head)
        before = None
        if since is not None:
            check_extends(Head(partner, since.size, since.root, now), head, proof)
            before = receipts.HeldHead(since.size, since.root, b"")
        new = receipts.HeldHead(head.size, head.root, body)
        receipts.hold_head(session, partner, new, before, now)

    def _note_refusal(
        self,
        partner: str,
        body: bytes | None,
        proof: Sequence[bytes],
        since: HeldHead | None,
        kind: str,
        now: datetime,
    ) -> None:
        """Audit that a head was refused, and keep it if its signatures make it evidence."""
        with self._transaction() as session:
            held = receipts.held_head(session, partner)
            is_new = False
            # What was proved from another head than the one held now says nothing about this one.
            if held is not None and since == HeldHead(held.size, held.root):
                with suppress(AuditError, PkiError):
                    shown = self._evidence(partner, body)
                    is_new = note_conflict(session, partner, held, shown, proof, now)
            append(session, _head_refused(partner, kind, is_new, now))

    def _evidence(self, partner: str, body: bytes | None) -> receipts.HeldHead | None:
        """Return a head that was shown, its signatures verified."""
        if body is None:
            return None
        head = verify_head(SignedHead.from_bytes(body), tenant=partner, trust=self._trust_head)
        return receipts.HeldHead(head.size, head.root, body)

    def _trust_head(
        self, credential: Credential, *, algorithm: str, tenant: str, at: datetime
    ) -> Any:
        purpose = Purpose.HEAD if algorithm == "Ed25519" else Purpose.HEAD_PQ
        leaf = verify_leaf(
            credential.chain,
            ca=self._keys.trusted.get(tenant).authorities,
            crl_der=credential.crl,
            purpose=purpose,
            institution=tenant,
            now=at,
            crl_limits=self._keys.crl_limits,
        )
        return leaf.public_key

    def remember_crl(
        self, partner: str, crl: bytes, link: x509.Certificate | None, now: datetime
    ) -> None:
        """Keep a partner's newest CRL, so that an older one is refused later, and its link."""
        remember_crl(self._keys.places.pki, partner, crl, now, link)


def _head_refused(partner: str, kind: str, is_new: bool, now: datetime) -> Event:
    return Event.create(
        Action.PEER_REFUSED,
        AuditOutcome.FAILED,
        now=now,
        actor=f"partner:{partner}",
        reasons=["log-head"],
        details={"partner": partner, "error": kind, "new_evidence": int(is_new)},
    )


class SqlSenderStore(_Store):
    """See :class:`medportal.transfer.ports.SenderStore`."""

    def __init__(self, engine: Engine, keys: TenantKeys, worker: str) -> None:
        """``worker`` names this process in leases."""
        super().__init__(engine, keys)
        self._worker = worker

    def due(self, now: datetime) -> Sequence[str]:
        """Return partners with something due; open rows only, by their own index.

        What a rule of a patient stops, or administrators hold, is no reason to call a partner.
        """
        query = (
            select(Outbox.partner)
            .where(
                Outbox.settled_at.is_(None),
                Outbox.next_at <= now,
                ~blocks.stops(blocks.OF_THE_OUTBOX, now),
                ~is_held(Outbox.partner),
            )
            .distinct()
        )
        with self._reading() as session:
            return session.scalars(query).all()

    def claim(self, partner: str, limit: int, now: datetime) -> Sequence[OutgoingRecord]:
        """Lease and open; what cannot be opened says so and waits."""
        # Before anything is leased: a fault of the key files is none of the records.
        self._keys.require_sending()
        with self._transaction() as session:
            claims = outbox.claim(session, self._worker, partner, now, limit, LEASE)
        opened = [(claim, self._open(claim)) for claim in claims]
        broken = [claim for claim, record in opened if record is None]
        if broken:
            self._retry(broken, DeliveryReason.CANNOT_OPEN, now)
        return [record for _, record in opened if record is not None]

    def _open(self, claim: Claim) -> OutgoingRecord | None:
        info = outbox_info(self._institution, claim.partner, claim.tid)
        try:
            payload = self._keys.open_outgoing(claim.sealed, info)
        except Tampered as error:
            log.error("outbox item cannot be opened", tid=claim.tid, kind=type(error).__name__)
            return None
        return OutgoingRecord(
            claim.tid, claim.key_id, claim.pseudonym, claim.digest, payload, claim
        )

    def _retry(self, claims: Sequence[Claim], reason: DeliveryReason, now: datetime) -> None:
        with self._transaction() as session:
            for claim in claims:
                outbox.retry(session, claim, reason, now)

    def renew(self, records: Sequence[OutgoingRecord], now: datetime) -> None:
        """Prolong leases; a lost one is found out when its result is written."""
        with self._transaction() as session:
            for record in records:
                with _lease_may_be_lost(record.tid):
                    outbox.renew(session, [_claim_of(record)], now, LEASE)

    def stopped(self, records: Sequence[OutgoingRecord], now: datetime) -> frozenset[str]:
        """Return which of these are stopped now: their content is not to be sent any more.

        By a rule of the patient, or because administrators hold what goes to the partner.
        """
        query = select(Outbox.tid).where(
            Outbox.tid.in_([record.tid for record in records]),
            or_(blocks.stops(blocks.OF_THE_OUTBOX, now), is_held(Outbox.partner)),
        )
        with self._reading() as session:
            return frozenset(session.scalars(query))

    def standing(self, partner: str) -> tuple[HeldHead | None, Mark | None]:
        """Return the partner's head and receipt mark that we hold."""
        with self._reading() as session:
            mark = receipts.held_mark(session, partner)
            return self._held(session, partner), _mark(mark)

    def prepare(
        self,
        partner: str,
        mark: Mark | None,
        held: HeldHead | None,
        hello_at: datetime,
        now: datetime,
    ) -> OwnHead:
        """Act on the receipt mark, in the transaction in which our head is read."""
        with self._transaction() as session:
            if mark is not None:
                recalled = receipts.requeue_above(
                    session, partner, mark.epoch, mark.sequence, now, as_of=hello_at
                )
                if recalled:
                    log.warning("partner was restored", partner=partner, recalled=recalled)
            return self._own_head(session, held)

    def finished(self, partner: str, results: Sequence[Result], now: datetime) -> None:
        """Write results in one transaction; audit what was receipted."""
        with self._transaction() as session:
            for result in results:
                with _lease_may_be_lost(result.record.tid):
                    self._finish(session, partner, result, now)

    def _finish(self, session: Session, partner: str, result: Result, now: datetime) -> None:
        claim = _claim_of(result.record)
        match result.kind:
            case ResultKind.RELEASED:
                outbox.release(session, claim, now)
            case ResultKind.UNKNOWN:
                outbox.unknown(session, claim, now)
                _audit_attempt(session, claim, now, DeliveryReason.PATIENT_UNKNOWN)
            case ResultKind.RETRY:
                reason = retry_reason(result.reason)
                wish = now + timedelta(milliseconds=result.after_ms)
                outbox.retry(session, claim, reason, now, not_before=wish)
                _audit_attempt(session, claim, now, reason)
            case _:
                _complete(session, claim, result, now)

    def changed(self, partner: str, now: datetime) -> None:
        """Ask again about patients that the partner did not know."""
        with self._transaction() as session:
            receipts.wake_unknown(session, partner, now)

    def stalled(self, partner: str, reason: DeliveryReason, now: datetime) -> None:
        """Let what is due say why it waits."""
        with self._transaction() as session:
            for claim in outbox.claim(session, self._worker, partner, now, 256, LEASE):
                outbox.retry(session, claim, reason, now)

    def reachable(self, partner: str, now: datetime) -> None:
        """Make due what waited for a connection; nobody's lease is touched."""
        with self._transaction() as session:
            session.execute(
                update(Outbox)
                .where(
                    Outbox.partner == partner,
                    Outbox.settled_at.is_(None),
                    Outbox.next_at > now,
                    Outbox.state == DeliveryState.RETRYING.value,
                    Outbox.reason.in_([reason.value for reason in _STALLED]),
                    Outbox.lease_owner.is_(None),
                )
                .values(next_at=now)
                .execution_options(synchronize_session=False)
            )


@contextmanager
def _lease_may_be_lost(tid: str) -> Iterator[None]:
    """Go on where somebody else holds the record now; it is theirs to finish."""
    try:
        yield
    except LostLease:
        log.info("lease lost", tid=tid)


def _claim_of(record: OutgoingRecord) -> Claim:
    if not isinstance(record.claim, Claim):
        raise TypeError("a record that this store did not claim")
    return record.claim


def _mark(held: receipts.ReceiptMark | None) -> Mark | None:
    return Mark(held.epoch, held.sequence) if held else None


def retry_reason(code: str) -> DeliveryReason:
    """Return the reason shown for a code of the protocol, of our side or the partner's."""
    named = reason_of(code)
    if named is not DeliveryReason.UNSPECIFIED:
        return named
    if code == Code.TIMEOUT:
        return DeliveryReason.NO_ANSWER
    if code == Code.RECEIPT:
        return DeliveryReason.RECEIPT_INVALID
    return DeliveryReason.PROTOCOL_ERROR


def _complete(session: Session, claim: Claim, result: Result, now: datetime) -> None:
    receipt = result.receipt
    if receipt is None:
        raise TypeError("a receipted result without its receipt")
    facts = receipt_facts(receipt, conflict=result.kind is ResultKind.CONFLICT)
    if facts is None:
        again = reason_of(receipt.reason)
        outbox.retry(session, claim, again, now)
        _audit_attempt(session, claim, now, again)
        return
    state = outbox.complete(session, claim, facts, now)
    append(
        session,
        Event.create(
            Action.DELIVERY_RECEIPTED,
            now=now,
            actor=SENDER,
            patient=claim.patient_id,
            object=claim.record_id,
            reasons=[facts.reason or facts.outcome.value],
            details={
                "partner": claim.partner,
                "tid": claim.tid,
                "state": state.value,
                "sequence": facts.sequence,
            },
        ),
    )


def receipt_facts(receipt: Receipt, *, conflict: bool) -> ReceiptFacts | None:
    """Return what the outbox keeps of a receipt; ``None`` for a rejection that is not final.

    A receipt for another content under our transfer id is never a success: it rejects ours, and
    its sequence is not ours to count.
    """
    if conflict:
        reason = DeliveryReason.DIGEST_CONFLICT
        return ReceiptFacts(Outcome.REJECTED, 0, receipt.at, receipt.signed, reason)
    if receipt.outcome is Outcome.REJECTED and not receipt.final:
        return None
    named = reason_of(receipt.reason) if receipt.reason else None
    return ReceiptFacts(receipt.outcome, receipt.sequence, receipt.at, receipt.signed, named)


def _audit_attempt(session: Session, claim: Claim, now: datetime, reason: DeliveryReason) -> None:
    append(
        session,
        Event.create(
            Action.DELIVERY_ATTEMPTED,
            AuditOutcome.FAILED,
            now=now,
            actor=SENDER,
            patient=claim.patient_id,
            object=claim.record_id,
            reasons=[reason],
            details={"partner": claim.partner, "tid": claim.tid},
        ),
    )


class SqlReceiverStore(_Store):
    """See :class:`medportal.transfer.ports.ReceiverStore`."""

    def welcome(
        self, sender: str, held: HeldHead | None, mark: Mark | None, now: datetime
    ) -> Welcome:
        """Return mark and head for CHALLENGE."""
        with self._transaction() as session:
            own = receipts.mark(session, sender, now)
            if mark and mark.epoch == own.epoch and mark.sequence > own.sequence:
                _audit_loss(session, sender, now)
            stated = Mark(own.epoch, own.sequence)
            return Welcome(stated, self._held(session, sender), self._own_head(session, held))

    def answer(
        self, sender: str, questions: Sequence[Question], now: datetime
    ) -> Mapping[str, Answer]:
        """Answer queries; those that hit a patient are audited with the patient.

        Also those that hit somebody who takes nothing from this partner: the partner hears
        "unknown", the patient reads who asked.
        """
        with self._transaction() as session:
            found = {each.tid: self._answer(session, sender, each, now) for each in questions}
            for tid, (answer, patient_id) in found.items():
                _audit_query(session, sender, tid, answer, patient_id, now)
        return {tid: answer for tid, (answer, _patient_id) in found.items()}

    def _answer(
        self, session: Session, sender: str, asked: Question, now: datetime
    ) -> tuple[Answer, str | None]:
        """Return the answer, and whom the question hit."""
        grant = inbox.find_receipt(session, sender, asked.tid)
        if grant is not None:
            return Receipted(self._receipt_again(grant)), None
        found = lookup(session, sender, asked.key_id, asked.pseudonym)
        patient_id = found.patient_id if isinstance(found, Hit) else None
        # Asked for nobody too, so that both ways to "unknown" take the same steps.
        refused = blocks.refuses(session, patient_id or "", sender, now)
        match found:
            case Hit(_, tag) if not refused:
                return Known(found.patient_id, tag), patient_id
            case IndexIncomplete():
                return NotReady(), None
        return NotKnown(), patient_id

    def _receipt_again(self, grant: Grant) -> bytes:
        """Return the stored receipt, signed afresh if its certificate has been replaced."""
        if grant.receipt is not None:
            chain = self._keys.signer(Purpose.RECEIPT).chain_der
            if Signed.from_bytes(grant.receipt).chain_der == chain:
                return grant.receipt
        return self._sign(grant)

    def _sign(self, grant: Grant) -> bytes:
        said = Receipt(
            tid=grant.tid,
            outcome=grant.outcome,
            digest=grant.digest,
            sequence=grant.sequence,
            at=grant.at,
            reason=grant.reason.value,
            final=True,
            signed=b"",
        )
        fields = receipt_fields(said, grant.sender, self._institution)
        signer = self._keys.signer(Purpose.RECEIPT)
        return sign_statement(signer, transcript.RECEIPT, fields).to_bytes()

    def commit(
        self, records: Sequence[AcceptedRecord], now: datetime
    ) -> Sequence[bytes | TransferError]:
        """Seal to the inbox key, register in groups, and return receipts."""
        sealed = [(record, self._arrival(record)) for record in records]
        try:
            done = commit_split(
                sealed, lambda group: self._register(group, now), (IntegrityError, DataError)
            )
        except ReceiverBusy as busy:
            return [busy] * len(records)
        return [_busy(each) if isinstance(each, Broken) else each for each in done]

    def _arrival(self, record: AcceptedRecord) -> Arrival:
        outcome = Outcome.REGISTERED if record.fits else Outcome.HELD_FOR_REVIEW
        reason = DeliveryReason.REGISTERED if record.fits else DeliveryReason.DEMOGRAPHICS_DIFFER
        if record.refusal:
            outcome, reason = Outcome.REJECTED, DeliveryReason(record.refusal)
        info = inbox_info(self._institution, record.sender, record.tid)
        return Arrival(
            sender=record.sender,
            tid=record.tid,
            digest=record.digest,
            pseudonym=record.pseudonym,
            key_id=record.key_id,
            outcome=outcome,
            reason=reason,
            patient_id=record.patient,
            sealed=None if record.refusal else self._keys.seal_incoming(record.payload, info),
        )

    def _register(
        self, group: Sequence[tuple[AcceptedRecord, Arrival]], now: datetime
    ) -> Sequence[bytes | TransferError]:
        trusted = self._keys.trusted
        with self._transaction() as session:
            # Asked again under the write lock: a revocation acts up to the last moment.
            good = [item for item in group if trusted.is_trusted(item[0].sender)]
            arrivals = [
                self._current(session, record, arrival, now)
                for record, arrival in self._sealed_to_kept(session, good)
            ]
            registered = inbox.register(session, arrivals, now, self._sign)
            for arrival, registration in zip(arrivals, registered, strict=True):
                _audit_arrival(session, arrival, registration, now)
        receipts_of = {
            (arrival.sender, arrival.tid, arrival.digest): self._receipt(arrival, each, now)
            for arrival, each in zip(arrivals, registered, strict=True)
        }
        return [
            receipts_of.get((r.sender, r.tid, r.digest), Untrusted(Code.REVOKED_PARTNER))
            for r, _ in group
        ]

    def _sealed_to_kept(
        self, session: Session, group: Sequence[tuple[AcceptedRecord, Arrival]]
    ) -> list[tuple[AcceptedRecord, Arrival]]:
        """Seal anew what is sealed to a key that was destroyed meanwhile.

        No receipt is given for what would never open. Raises ``ReceiverBusy`` if the public half
        here is that of a destroyed key: the partner asks again until somebody has carried the new
        one to this machine.
        """
        boxkeys.hold(session, "inbox")
        gone = boxkeys.destroyed(session, "inbox")

        def is_gone(arrival: Arrival) -> bool:
            return arrival.sealed is not None and key_of(arrival.sealed) in gone

        fresh = [(record, self._arrival(record) if is_gone(a) else a) for record, a in group]
        if any(is_gone(arrival) for _record, arrival in fresh):
            log.error(
                "inbox.pub here is that of a destroyed key: carry the new one to this machine"
            )
            raise ReceiverBusy(Code.INTERNAL)
        return fresh

    def _current(
        self, session: Session, record: AcceptedRecord, arrival: Arrival, now: datetime
    ) -> Arrival:
        """Look the patient up again: between QUERY and commit, rules or patients may change.

        A patient who takes nothing from this partner any more gets the answer of one who is not
        there any more. What came stays sealed: intake files nothing as long as the rule stands,
        whoever looks at it meanwhile.
        """
        refused = blocks.refuses(session, record.patient, record.sender, now)
        found = lookup(session, record.sender, record.key_id, record.pseudonym)
        if arrival.outcome is not Outcome.REGISTERED:
            return arrival
        if isinstance(found, Hit) and found.patient_id == record.patient and not refused:
            return arrival
        return _held(arrival)

    def _receipt(self, arrival: Arrival, registration: Registration, now: datetime) -> bytes:
        if registration.grant is not None:
            return self._receipt_again(registration.grant)
        # A conflict stores nothing, so its receipt has no sequence.
        refused = Grant(
            sender=arrival.sender,
            tid=arrival.tid,
            digest=arrival.digest,
            outcome=Outcome.REJECTED,
            reason=DeliveryReason.DIGEST_CONFLICT,
            sequence=0,
            at=now,
        )
        return self._sign(refused)

    def refused(self, partner: str, code: Code, now: datetime) -> None:
        """Audit a connection that was given up."""
        event = Event.create(
            Action.PEER_REFUSED,
            AuditOutcome.DENIED,
            now=now,
            actor=f"partner:{partner}" if partner else None,
            reasons=[code],
        )
        with self._transaction() as session:
            append(session, event)

    def registrations(self) -> str:
        """Return the newest registration and what stands of rules about partners.

        The registration is found by the index on action and time. A rule that ends lets ask
        again at once, in the words in which a registration does: no partner can tell which.
        """
        query = (
            select(AuditEvent.id)
            .where(AuditEvent.action == Action.PATIENT_REGISTERED.value)
            .order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
            .limit(1)
        )
        with self._reading() as session:
            return f"{session.scalar(query) or ''}.{blocks.state_of_blocks(session)}"


def _held(arrival: Arrival) -> Arrival:
    return replace(
        arrival, outcome=Outcome.HELD_FOR_REVIEW, reason=DeliveryReason.PATIENT_AMBIGUOUS
    )


def _busy(broken: Broken) -> ReceiverBusy:
    log.error("record cannot be stored", kind=type(broken.error).__name__)
    return ReceiverBusy(Code.INTERNAL)


def _audit_query(
    session: Session,
    sender: str,
    tid: str,
    answer: Answer,
    patient_id: str | None,
    now: datetime,
) -> None:
    hit = isinstance(answer, Known)
    refused = patient_id is not None and not hit
    append(
        session,
        Event.create(
            Action.QUERY_RECEIVED,
            AuditOutcome.ALLOWED if hit else AuditOutcome.DENIED,
            now=now,
            actor=f"partner:{sender}",
            patient=patient_id,
            object=tid,
            reasons=[Reason.PATIENT_BLOCKS] if refused else [],
            details={"answer": type(answer).__name__},
        ),
    )


def _audit_arrival(
    session: Session, arrival: Arrival, registration: Registration, now: datetime
) -> None:
    grant = registration.grant
    outcome = grant.outcome.value if grant else Outcome.REJECTED.value
    append(
        session,
        Event.create(
            Action.RECORD_RECEIVED,
            AuditOutcome.DENIED if outcome == Outcome.REJECTED else AuditOutcome.ALLOWED,
            now=now,
            actor=f"partner:{arrival.sender}",
            patient=arrival.patient_id,
            object=arrival.tid,
            reasons=[grant.reason if grant else DeliveryReason.DIGEST_CONFLICT],
            details={"outcome": outcome, "result": registration.result.value},
        ),
    )


def _audit_loss(session: Session, sender: str, now: datetime) -> None:
    log.error("receipts of ours are missing here", partner=sender)
    append(
        session,
        Event.create(
            Action.RESTORED,
            AuditOutcome.FAILED,
            now=now,
            actor=RECEIVER,
            reasons=["receipts-missing"],
            details={"partner": sender},
        ),
    )
