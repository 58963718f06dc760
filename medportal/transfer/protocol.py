"""CRX/1 as two tables, one for each side, and the one function that walks them (PURE).

A row says: in this phase, on this message or event, do this, and be in one of these phases after.
Messages of the peer are in capitals. A message that has no row is an error and a close; a
local event that has no row came too late and does nothing. Once records may pass, what belongs to
one record has rows of its own, by the stage of that record.

The drawings in ``docs/protocol.md`` are made from these tables by
:mod:`medportal.transfer.drawing`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from medportal.transfer import receiving, sending
from medportal.transfer.budget import Allowance, full
from medportal.transfer.errors import Code, MessageError, ProtocolError, TransferError
from medportal.transfer.events import Abort, Effect, Event, Instant, Limits, Received, kind_of
from medportal.transfer.messages import ErrorMessage, HeldHead, Mark, decode
from medportal.transfer.receiving import Receiver, ReceiverPorts
from medportal.transfer.sending import Sender, SenderPorts

Handler = Callable[[Any, Any, Instant], tuple[Any, list[Effect]]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: what to do, and the phases (or stages) that can come of it.

    Every row may also end in ``closed`` by an error; that is not repeated.
    """

    act: Handler
    to: tuple[StrEnum, ...]


Table = Mapping[tuple[str, str], Rule]

_NONE = "none"
"""The stage of a record that is not under way; equal for both sides."""

_S, _SS = sending.Phase, sending.Stage
_R, _RS = receiving.Phase, receiving.Stage


def _rows(phases: tuple[StrEnum, ...], kind: str, act: Handler, *to: StrEnum) -> dict[Any, Rule]:
    """Return rows of the same kind for several phases; without ``to`` the phase stays."""
    return {(phase, kind): Rule(act, to or (phase,)) for phase in phases}


_SENDER_SHAKING = (_S.AWAIT_CHALLENGE, _S.PREPARING, _S.AWAIT_READY)
_SENDER_LIVE = (_S.OPEN, _S.DRAINING)
_SENDER_ALL = (_S.START, *_SENDER_SHAKING, *_SENDER_LIVE)

_SENDER_ASKED = (_SS.QUERIED, _SS.OFFERED, _SS.DELIVERED)

SENDER: Table = {
    **_rows((_S.START,), "opened", sending.on_opened, _S.AWAIT_CHALLENGE),
    **_rows((_S.AWAIT_CHALLENGE,), "CHALLENGE", sending.on_challenge, _S.PREPARING),
    **_rows((_S.PREPARING,), "prepared", sending.on_prepared, _S.AWAIT_READY),
    **_rows((_S.AWAIT_READY,), "READY", sending.on_ready, _S.OPEN),
    **_rows((*_SENDER_SHAKING, *_SENDER_LIVE), "BUSY", sending.on_busy, _S.CLOSED),
    **_rows((*_SENDER_SHAKING, *_SENDER_LIVE), "BYE", sending.on_bye, _S.CLOSED),
    **_rows((*_SENDER_SHAKING, *_SENDER_LIVE), "ERROR", sending.on_error, _S.CLOSED),
    **_rows(_SENDER_LIVE, "CHANGED", sending.on_changed),
    **_rows(_SENDER_LIVE, "PING", sending.on_ping),
    **_rows((_S.OPEN,), "submit", sending.on_submit),
    **_rows(_SENDER_LIVE, "gathered", sending.on_gathered),
    **_rows((_S.START, *_SENDER_SHAKING, _S.DRAINING, _S.CLOSED), "submit", sending.on_late),
    **_rows((_S.START,), "stop", sending.on_quiet_stop, _S.CLOSED),
    **_rows(_SENDER_SHAKING, "stop", sending.on_quit, _S.CLOSED),
    **_rows((_S.OPEN,), "stop", sending.on_stop, _S.DRAINING, _S.CLOSED),
    **_rows(_SENDER_SHAKING, "tick", sending.on_tick_handshake),
    **_rows((_S.OPEN,), "tick", sending.on_tick_open, _S.OPEN, _S.DRAINING, _S.CLOSED),
    **_rows((_S.DRAINING,), "tick", sending.on_tick_draining, _S.DRAINING, _S.CLOSED),
    **_rows(_SENDER_ALL, "lost", sending.on_lost, _S.CLOSED),
    **_rows(_SENDER_ALL, "abort", sending.on_abort, _S.CLOSED),
}

SENDER_RECORD: Table = {
    **_rows((_SS.QUERIED,), "OFFER", sending.on_offer, _SS.OFFERED, _SS.NONE),
    **_rows((_SS.QUERIED,), "UNKNOWN", sending.on_unknown, _SS.NONE),
    **_rows(_SENDER_ASKED, "BUSY", sending.on_busy_record, _SS.NONE),
    **_rows(_SENDER_ASKED, "RECEIPT", sending.on_receipt, _SS.NONE),
    **_rows((_SS.DELIVERED,), "STALE_OFFER", sending.on_stale, _SS.QUERIED, _SS.NONE),
}

_RECEIVER_SHAKING = (_R.AWAIT_HELLO, _R.WELCOMING, _R.AWAIT_PROOF)
_RECEIVER_LIVE = (_R.OPEN, _R.DRAINING)
_RECEIVER_ALL = (_R.START, *_RECEIVER_SHAKING, *_RECEIVER_LIVE)

RECEIVER: Table = {
    **_rows((_R.START,), "opened", receiving.on_opened, _R.AWAIT_HELLO),
    **_rows((_R.AWAIT_HELLO,), "HELLO", receiving.on_hello, _R.WELCOMING),
    **_rows((_R.WELCOMING,), "welcomed", receiving.on_welcomed, _R.AWAIT_PROOF),
    **_rows((_R.WELCOMING,), "declined", receiving.on_declined, _R.CLOSED),
    **_rows((_R.AWAIT_PROOF,), "PROOF", receiving.on_proof, _R.OPEN),
    **_rows((*_RECEIVER_SHAKING, *_RECEIVER_LIVE), "BYE", receiving.on_bye, _R.CLOSED),
    **_rows((*_RECEIVER_SHAKING, *_RECEIVER_LIVE), "ERROR", receiving.on_error, _R.CLOSED),
    **_rows(_RECEIVER_LIVE, "PING", receiving.on_ping),
    **_rows((_R.OPEN,), "looked", receiving.on_looked),
    **_rows((_R.OPEN,), "registered", receiving.on_registered),
    **_rows((_R.START,), "stop", receiving.on_quiet_stop, _R.CLOSED),
    **_rows(_RECEIVER_SHAKING, "stop", receiving.on_quit, _R.CLOSED),
    **_rows((_R.OPEN,), "stop", receiving.on_stop, _R.DRAINING, _R.CLOSED),
    **_rows(_RECEIVER_SHAKING, "tick", receiving.on_tick_handshake),
    **_rows((_R.OPEN,), "tick", receiving.on_tick_open),
    **_rows((_R.DRAINING,), "tick", receiving.on_tick_draining, _R.DRAINING, _R.CLOSED),
    **_rows(_RECEIVER_ALL, "lost", receiving.on_lost, _R.CLOSED),
    **_rows(_RECEIVER_ALL, "abort", receiving.on_abort, _R.CLOSED),
}

RECEIVER_RECORD: Table = {
    **_rows((_RS.NONE,), "QUERY", receiving.on_query, _RS.ASKED, _RS.NONE),
    **_rows((_RS.ASKED, _RS.OFFERED, _RS.DELIVERED), "QUERY", receiving.on_query_again),
    **_rows((_RS.NONE,), "DELIVER", receiving.on_deliver_unasked),
    **_rows((_RS.OFFERED,), "DELIVER", receiving.on_deliver, _RS.DELIVERED, _RS.NONE),
    **_rows((_RS.DELIVERED,), "settled", receiving.on_settled, _RS.NONE),
    **_rows((_RS.DELIVERED,), "unsettled", receiving.on_unsettled, _RS.NONE),
    **_rows((_RS.DELIVERED,), "refused", receiving.on_refused, _RS.NONE),
}


def new_sender(
    ports: SenderPorts,
    limits: Limits,
    held: HeldHead | None = None,
    mark: Mark | None = None,
) -> Sender:
    """Return a sender's session before its connection; ``held`` and ``mark`` go into HELLO."""
    return Sender(ports, limits, held, mark)


def new_receiver(ports: ReceiverPorts, limits: Limits, allowance: Allowance) -> Receiver:
    """Return a receiver's session before its connection.

    ``allowance`` is the partner's, shared by all of its sessions; see :func:`new_allowance`.
    """
    return Receiver(ports, limits, allowance)


def new_allowance(limits: Limits) -> Allowance:
    """Return the full allowance of one partner."""
    return Allowance(
        queries=full(limits.queries_rate, limits.queries_burst),
        misses=full(limits.misses_rate, limits.misses_burst),
        unused=full(limits.unused_rate, limits.unused_burst),
    )


def arrived(body: bytes) -> Received[Any] | Abort:
    """Return the event that a frame's body is; one that is no message gives up the connection."""
    try:
        return Received(decode(body), body)
    except MessageError as error:
        return Abort(error.code)


def step_sender(sender: Sender, event: Event, now: Instant) -> tuple[Sender, list[Effect]]:
    """Return the sender's next session and what is to be done. Raises nothing."""
    try:
        rule = _rule(SENDER, SENDER_RECORD, sender, event)
        if rule is None:
            return sender, []
        is_new = isinstance(event, Received) and sender.heard != now.mono
        heard = replace(sender, heard=now.mono) if is_new else sender
        after, effects = rule.act(heard, event, now)
        return sending.drained(after, effects)
    except TransferError as error:
        return sending.failed(sender, error.code, blamed_tid(error, event))


def step_receiver(receiver: Receiver, event: Event, now: Instant) -> tuple[Receiver, list[Effect]]:
    """Return the receiver's next session and what is to be done. Raises nothing."""
    try:
        rule = _rule(RECEIVER, RECEIVER_RECORD, receiver, event)
        if rule is None:
            return receiver, []
        is_new = isinstance(event, Received) and receiver.heard != now.mono
        heard = replace(receiver, heard=now.mono) if is_new else receiver
        return rule.act(heard, event, now)
    except TransferError as error:
        return receiving.failed(receiver, error.code, blamed_tid(error, event))


def _rule(table: Table, records: Table, session: Any, event: Event) -> Rule | None:
    kind, tid = kind_of(event), tid_of(event)
    if tid is not None and session.phase in ("open", "draining"):
        item = session.records.get(tid)
        rule = records.get((item.stage if item else _NONE, kind))
    else:
        rule = table.get((session.phase, kind))
    if rule is None and isinstance(event, Received) and session.phase != "closed":
        raise ProtocolError(Code.UNEXPECTED)
    return rule


def tid_of(event: Event) -> str | None:
    """Return the record that an event is about, if it is about one that may be under way."""
    subject = event.message if isinstance(event, Received) else event
    if isinstance(subject, ErrorMessage):
        return None
    tid = getattr(subject, "tid", None) or getattr(subject, "about", None)
    return tid if isinstance(tid, str) else None


def blamed_tid(error: TransferError, event: Event) -> str | None:
    """Return the record because of which a connection is given up, if there is one."""
    named = error.tid if isinstance(error, ProtocolError) else None
    return named or tid_of(event)
