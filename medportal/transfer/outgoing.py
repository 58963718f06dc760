"""The sender's durable side: what is due, claims, and what came of them.

Each method is one transaction of its own on the tenant's engine, called in a worker thread, with
as many statements for a hundred records as for one.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

import structlog
from sqlalchemy import Engine, Select, Table, bindparam, func, or_, select, update

from medportal.audit.append import append_all
from medportal.audit.events import Action, Event
from medportal.audit.events import Outcome as AuditOutcome
from medportal.db.prepared import Prepared, one_of
from medportal.delivery import blocks, outbox, receipts, settling
from medportal.delivery.holds import is_held
from medportal.delivery.models import Outbox
from medportal.delivery.outbox import Claim, ReceiptFacts
from medportal.delivery.parcel import outbox_info
from medportal.delivery.settling import Ending
from medportal.delivery.states import DeliveryReason, DeliveryState, Outcome, reason_of
from medportal.keys import TenantKeys
from medportal.transfer.errors import Code
from medportal.transfer.heads import HeadStore
from medportal.transfer.messages import HeldHead, Mark
from medportal.transfer.ports import OutgoingRecord, OwnHead, Receipt, Result, ResultKind
from medportal.vault.errors import Tampered

log = structlog.get_logger()
SENDER = "process:sender"

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


class SqlSenderStore(HeadStore):
    """See :class:`medportal.transfer.ports.SenderStore`."""

    def __init__(self, engine: Engine, keys: TenantKeys, worker: str) -> None:
        """``worker`` names this process in leases."""
        super().__init__(engine, keys)
        self._worker = worker

    def due(self, now: datetime) -> Sequence[str]:
        """Return partners with something due; open rows only, by their own index.

        What a rule of a patient stops, or administrators hold, is no reason to call a partner.
        """
        with self._asking() as connection:
            return [partner for (partner,) in _DUE.rows(connection, {"now": now})]

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
            settling.settle(session, [settling.retried(each, reason, now) for each in claims], now)

    def renew(self, records: Sequence[OutgoingRecord], now: datetime) -> None:
        """Prolong leases; a lost one is found out when its result is written."""
        with self._transaction() as session:
            settling.renew_held(session, [_claim_of(record) for record in records], now, LEASE)

    def stopped(self, records: Sequence[OutgoingRecord], now: datetime) -> frozenset[str]:
        """Return which of these are stopped now: their content is not to be sent any more.

        By a rule of the patient, or because administrators hold what goes to the partner.
        """
        tids = [record.tid for record in records]
        with self._asking() as connection:
            return frozenset(
                tid for (tid,) in _STOPPED.rows(connection, {"tids": tids, "now": now})
            )

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
        """Write results in one transaction, each with its event in the audit.

        What somebody else holds now is theirs to finish, and to tell of.
        """
        endings = [_ending(result, now) for result in results]
        with self._transaction() as session:
            held = settling.settle(session, endings, now)
            append_all(session, [event for each in held for event in _told(each, now)])
        if len(held) < len(endings):
            lost = {each.claim.tid for each in endings} - {each.claim.tid for each in held}
            log.info("leases lost", tids=sorted(lost))

    def changed(self, partner: str, now: datetime) -> None:
        """Ask again about patients that the partner did not know."""
        with self._transaction() as session:
            receipts.wake_unknown(session, partner, now)

    def stalled(self, partner: str, reason: DeliveryReason, now: datetime) -> None:
        """Let what is due say why it waits."""
        with self._transaction() as session:
            claims = outbox.claim(session, self._worker, partner, now, 256, LEASE)
            settling.settle(session, [settling.retried(each, reason, now) for each in claims], now)

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


def _partners_due() -> Select[str]:
    """Return the question who has something due: of each partner one row is enough.

    Partners are found one after the other by the index of open rows, so that a backlog costs no
    more than a single row does.
    """
    partner, is_open = Outbox.partner, Outbox.settled_at.is_(None)
    found = select(func.min(partner).label("partner")).where(is_open).cte("waiting", recursive=True)
    following = select(func.min(partner)).where(is_open, partner > found.c.partner)
    found = found.union_all(
        select(following.correlate(found).scalar_subquery()).where(found.c.partner.is_not(None))
    )
    due = (
        select(Outbox.tid)
        .where(
            partner == found.c.partner,
            is_open,
            Outbox.next_at <= _NOW,
            ~blocks.stops(blocks.OF_THE_OUTBOX, _NOW),
        )
        .limit(1)
    )
    return select(found.c.partner).where(
        found.c.partner.is_not(None),
        ~is_held(found.c.partner),
        # In these words PostgreSQL cannot make a join of it, which would look at all that waits.
        due.correlate(found).scalar_subquery().is_not(None),
    )


_OUTBOX = cast(Table, Outbox.__table__).c
_NOW = bindparam("now", type_=_OUTBOX.next_at.type)
#: Made once: these are asked several times a second, and building them costs more than they do.
_DUE = Prepared(_partners_due())
_STOPPED = Prepared(
    select(Outbox.tid).where(
        one_of(_OUTBOX.tid, "tids"),
        or_(blocks.stops(blocks.OF_THE_OUTBOX, _NOW), is_held(Outbox.partner)),
    )
)


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


def _ending(result: Result, now: datetime) -> Ending:
    """Return what a result means for its row."""
    claim = _claim_of(result.record)
    match result.kind:
        case ResultKind.RELEASED:
            return settling.released(claim, now)
        case ResultKind.UNKNOWN:
            return settling.unheard(claim, now)
        case ResultKind.RETRY:
            wish = now + timedelta(milliseconds=result.after_ms)
            return settling.retried(claim, retry_reason(result.reason), now, not_before=wish)
    receipt = result.receipt
    if receipt is None:
        raise TypeError("a receipted result without its receipt")
    facts = receipt_facts(receipt, conflict=result.kind is ResultKind.CONFLICT)
    if facts is None:
        return settling.retried(claim, reason_of(receipt.reason), now)
    return settling.completed(claim, facts, now)


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


def _told(ending: Ending, now: datetime) -> Sequence[Event]:
    """Return the event of an ending; a claim given back unused is none."""
    if ending.reason is None:
        return ()
    claim, facts = ending.claim, ending.facts
    details: dict[str, str | int] = {"partner": claim.partner, "tid": claim.tid}
    if facts is not None:
        details |= {"state": ending.state.value, "sequence": facts.sequence}
    event = Event.create(
        Action.DELIVERY_RECEIPTED if facts else Action.DELIVERY_ATTEMPTED,
        AuditOutcome.ALLOWED if facts else AuditOutcome.FAILED,
        now=now,
        actor=SENDER,
        patient=claim.patient_id,
        object=claim.record_id,
        reasons=[facts.reason or facts.outcome.value if facts else ending.reason],
        details=details,
    )
    return (event,)
