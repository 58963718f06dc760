"""The receiver's durable side: questions answered, records registered with their receipts.

Each method is one transaction of its own on the tenant's engine, called in a worker thread. What
comes in a group is asked of the database in a group: the number of statements depends on how many
senders a group has, not on how many records.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from medportal.audit.append import append, append_all
from medportal.audit.events import Action, Event
from medportal.audit.events import Outcome as AuditOutcome
from medportal.audit.models import AuditEvent
from medportal.core.reasons import Reason
from medportal.delivery import blocks, boxkeys, inbox, receipts
from medportal.delivery.groups import Broken, commit_split
from medportal.delivery.inbox import Arrival, Grant, Registration, Result
from medportal.delivery.parcel import inbox_info
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.patients.partner_index import Hit, IndexIncomplete, lookup_all
from medportal.pki.errors import MalformedStatement
from medportal.pki.profiles import Purpose
from medportal.pki.signers import Signer
from medportal.transfer import transcript
from medportal.transfer.batches import MOST, Batched, sign_batch
from medportal.transfer.errors import Code, ReceiverBusy, TransferError, Untrusted
from medportal.transfer.heads import HeadStore
from medportal.transfer.messages import HeldHead, Mark
from medportal.transfer.payload import receipt_fields
from medportal.transfer.ports import (
    AcceptedRecord,
    Answer,
    Known,
    NotKnown,
    NotReady,
    Question,
    Receipt,
    Receipted,
    Welcome,
)
from medportal.vault.boxes import key_of

log = structlog.get_logger()
RECEIVER = "process:receiver"

_Place = tuple[str, bytes]
"""Key id and pseudonym: what a partner asks by."""
_Found = Hit | IndexIncomplete | None


class SqlReceiverStore(HeadStore):
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
        """Answer the queries of one sender by tid; see :meth:`answer_all`."""
        answers = self.answer_all({sender: questions}, now)[sender]
        return {each.tid: answers[each] for each in questions}

    def answer_all(
        self, asked: Mapping[str, Sequence[Question]], now: datetime
    ) -> Mapping[str, Mapping[Question, Answer]]:
        """Answer queries by sender; those that hit a patient are audited with the patient.

        By question and not by tid: two connections of a sender may ask about different patients
        under one tid, and each answer, and its event, is about the patient asked for.
        Also those that hit somebody who takes nothing from this partner: the partner hears
        "unknown", the patient reads who asked.
        """
        with self._transaction() as session:
            found = {
                sender: self._answers(session, sender, asked[sender], now)
                for sender in sorted(asked)
            }
            append_all(
                session,
                [
                    _queried(sender, each.tid, *found[sender][each], now)
                    for sender, questions in asked.items()
                    for each in questions
                ],
            )
        return {
            sender: {each: answer for each, (answer, _patient_id) in answers.items()}
            for sender, answers in found.items()
        }

    def _answers(
        self, session: Session, sender: str, questions: Sequence[Question], now: datetime
    ) -> dict[Question, tuple[Answer, str | None]]:
        """Return the answers, and whom each question hit."""
        grants = inbox.find_receipts(session, sender, [each.tid for each in questions])
        asked = [each for each in questions if each.tid not in grants]
        found = _look_up(session, sender, {(each.key_id, each.pseudonym) for each in asked})
        # Asked for nobody too, so that both ways to "unknown" take the same steps.
        hits = [_patient_of(found[each.key_id, each.pseudonym]) or "" for each in asked]
        refusing = blocks.refusing(session, hits, sender, now)
        again = self._again(grants)
        answers: dict[Question, tuple[Answer, str | None]] = {
            each: (Receipted(again[each.tid]), None) for each in questions if each.tid in again
        }
        for each in asked:
            of_whom = found[each.key_id, each.pseudonym]
            answers[each] = _answer(of_whom, refusing), _patient_of(of_whom)
        return answers

    def _again(self, grants: Mapping[str, Grant]) -> dict[str, bytes]:
        """Return stored receipts, each signed afresh if its certificate has been replaced."""
        if not grants:
            return {}
        signer = self._keys.signer(Purpose.RECEIPT)
        return {tid: self._receipt_again(grant, signer) for tid, grant in grants.items()}

    def _receipt_again(self, grant: Grant, signer: Signer) -> bytes:
        kept = grant.receipt
        if kept is not None and _chain_of(kept) == signer.chain_der:
            return kept
        return self._sign([grant], signer)[0]

    def _sign(self, grants: Sequence[Grant], signer: Signer) -> list[bytes]:
        """Return the receipts of one sender, each to be verified alone, with one signature."""
        fields = [receipt_fields(_said(grant), grant.sender, self._institution) for grant in grants]
        return [
            receipt.to_bytes()
            for start in range(0, len(fields), MOST)
            for receipt in sign_batch(signer, transcript.RECEIPT, fields[start : start + MOST])
        ]

    def commit(
        self, records: Sequence[AcceptedRecord], now: datetime
    ) -> Sequence[bytes | TransferError]:
        """Seal to the inbox key, register in groups, and return receipts."""
        try:
            done = commit_split(
                self._sealed(records),
                lambda group: self._register(group, now),
                (IntegrityError, DataError),
            )
        except ReceiverBusy as busy:
            return [busy] * len(records)
        return [_busy(each) if isinstance(each, Broken) else each for each in done]

    def _sealed(self, records: Sequence[AcceptedRecord]) -> list[tuple[AcceptedRecord, Arrival]]:
        """Return what arrived, sealed to the inbox key together; of what is refused, nothing is."""
        kept = [record for record in records if not record.refusal]
        boxes = iter(
            self._keys.sealer("inbox").seal_all(
                [(r.payload, inbox_info(self._institution, r.sender, r.tid)) for r in kept]
            )
        )
        return [
            (record, self._arrival(record, None if record.refusal else next(boxes)))
            for record in records
        ]

    def _arrival(self, record: AcceptedRecord, sealed: bytes | None) -> Arrival:
        outcome = Outcome.REGISTERED if record.fits else Outcome.HELD_FOR_REVIEW
        reason = DeliveryReason.REGISTERED if record.fits else DeliveryReason.DEMOGRAPHICS_DIFFER
        if record.refusal:
            outcome, reason = Outcome.REJECTED, DeliveryReason(record.refusal)
        return Arrival(
            sender=record.sender,
            tid=record.tid,
            digest=record.digest,
            pseudonym=record.pseudonym,
            key_id=record.key_id,
            outcome=outcome,
            reason=reason,
            patient_id=record.patient,
            sealed=sealed,
        )

    def _register(
        self, group: Sequence[tuple[AcceptedRecord, Arrival]], now: datetime
    ) -> Sequence[bytes | TransferError]:
        signer = self._keys.signer(Purpose.RECEIPT)
        with self._transaction() as session:
            arrivals = self._current(session, self._sealed_to_kept(session, group), now)
            registered = inbox.register(
                session, arrivals, now, lambda grants: self._sign(grants, signer)
            )
            append_all(
                session,
                [
                    _arrived(arrival, registration, now)
                    for arrival, registration in zip(arrivals, registered, strict=True)
                ],
            )
        receipts_of = {
            (arrival.sender, arrival.tid, arrival.digest): self._receipt(arrival, each, signer, now)
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

        if not any(is_gone(arrival) for _record, arrival in group):
            return list(group)
        fresh = self._sealed([record for record, _arrival in group])
        if any(is_gone(arrival) for _record, arrival in fresh):
            log.error(
                "inbox.pub here is that of a destroyed key: carry the new one to this machine"
            )
            raise ReceiverBusy(Code.INTERNAL)
        return fresh

    def _current(
        self, session: Session, group: Iterable[tuple[AcceptedRecord, Arrival]], now: datetime
    ) -> list[Arrival]:
        """Return what may be registered, as things stand under the write lock.

        Trust in the sender is asked about again: a revocation acts up to the last moment. So are
        the patients, whom rules or other registrations may have changed since QUERY. A patient who
        takes nothing from this partner any more gets the answer of one who is not there any more.
        What came stays sealed: intake files nothing as long as the rule stands, whoever looks at
        it meanwhile.
        """
        by_sender: dict[str, list[tuple[AcceptedRecord, Arrival]]] = defaultdict(list)
        for record, arrival in group:
            by_sender[record.sender].append((record, arrival))
        trusted = self._keys.trusted
        return [
            arrival
            for sender, items in by_sender.items()
            if trusted.is_trusted(sender)
            for arrival in _current_of(session, sender, items, now)
        ]

    def _receipt(
        self, arrival: Arrival, registration: Registration, signer: Signer, now: datetime
    ) -> bytes:
        grant = registration.grant
        if grant is not None and registration.result is Result.NEW and grant.receipt is not None:
            return grant.receipt
        if grant is not None:
            return self._receipt_again(grant, signer)
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
        return self._sign([refused], signer)[0]

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


def _chain_of(kept: bytes) -> tuple[bytes, ...]:
    """Return the chain of a kept receipt; none of one in a form of before, which is signed anew."""
    try:
        return Batched.from_bytes(kept).chain_der
    except MalformedStatement:
        return ()


def _said(grant: Grant) -> Receipt:
    return Receipt(
        tid=grant.tid,
        outcome=grant.outcome,
        digest=grant.digest,
        sequence=grant.sequence,
        at=grant.at,
        reason=grant.reason.value,
        final=True,
        signed=b"",
    )


def _look_up(session: Session, sender: str, places: Iterable[_Place]) -> dict[_Place, _Found]:
    """Return whom a partner asks for, key by key: in practice there is one."""
    by_key: dict[str, list[bytes]] = defaultdict(list)
    for key_id, pseudonym in places:
        by_key[key_id].append(pseudonym)
    return {
        (key_id, pseudonym): found
        for key_id, asked in by_key.items()
        for pseudonym, found in lookup_all(session, sender, key_id, asked).items()
    }


def _patient_of(found: _Found) -> str | None:
    return found.patient_id if isinstance(found, Hit) else None


def _answer(found: _Found, refusing: frozenset[str]) -> Answer:
    match found:
        case Hit(patient_id, tag) if patient_id not in refusing:
            return Known(patient_id, tag)
        case IndexIncomplete():
            return NotReady()
    return NotKnown()


def _current_of(
    session: Session, sender: str, items: Sequence[tuple[AcceptedRecord, Arrival]], now: datetime
) -> Iterable[Arrival]:
    """Return a sender's arrivals; what was to be filed for a patient who changed is held."""
    found = _look_up(session, sender, {(r.key_id, r.pseudonym) for r, _arrival in items})
    refusing = blocks.refusing(session, [r.patient for r, _arrival in items], sender, now)
    for record, arrival in items:
        same = _patient_of(found[record.key_id, record.pseudonym]) == record.patient
        if arrival.outcome is Outcome.REGISTERED and (not same or record.patient in refusing):
            yield _held(arrival)
        else:
            yield arrival


def _held(arrival: Arrival) -> Arrival:
    return replace(
        arrival, outcome=Outcome.HELD_FOR_REVIEW, reason=DeliveryReason.PATIENT_AMBIGUOUS
    )


def _busy(broken: Broken) -> ReceiverBusy:
    log.error("record cannot be stored", kind=type(broken.error).__name__)
    return ReceiverBusy(Code.INTERNAL)


def _queried(sender: str, tid: str, answer: Answer, patient_id: str | None, now: datetime) -> Event:
    hit = isinstance(answer, Known)
    refused = patient_id is not None and not hit
    return Event.create(
        Action.QUERY_RECEIVED,
        AuditOutcome.ALLOWED if hit else AuditOutcome.DENIED,
        now=now,
        actor=f"partner:{sender}",
        patient=patient_id,
        object=tid,
        reasons=[Reason.PATIENT_BLOCKS] if refused else [],
        details={"answer": type(answer).__name__},
    )


def _arrived(arrival: Arrival, registration: Registration, now: datetime) -> Event:
    grant = registration.grant
    outcome = grant.outcome.value if grant else Outcome.REJECTED.value
    return Event.create(
        Action.RECORD_RECEIVED,
        AuditOutcome.DENIED if outcome == Outcome.REJECTED else AuditOutcome.ALLOWED,
        now=now,
        actor=f"partner:{arrival.sender}",
        patient=arrival.patient_id,
        object=arrival.tid,
        reasons=[grant.reason if grant else DeliveryReason.DIGEST_CONFLICT],
        details={"outcome": outcome, "result": registration.result.value},
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
