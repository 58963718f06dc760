"""The states of a delivery, and the one table of what leads from which to which (PURE).

The state says how things stand, the reason says why; both are codes, and pages turn them into
sentences. "Being sent now" is not a state: it is a lease in force, which ends by itself when
its holder dies, and a state would not.
"""

from enum import StrEnum

from medportal.delivery.errors import NoSuchTransition


class DeliveryState(StrEnum):
    """How far a delivery is, as the sending institution sees it."""

    WAITING = "waiting"
    UNKNOWN_PATIENT = "unknown-patient"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    HELD_FOR_REVIEW = "held-for-review"
    REJECTED = "rejected"
    WITHHELD = "withheld"


OPEN = frozenset({DeliveryState.WAITING, DeliveryState.UNKNOWN_PATIENT, DeliveryState.RETRYING})
"""States from which the sender goes on by itself."""

ARRIVED = frozenset({DeliveryState.DELIVERED, DeliveryState.HELD_FOR_REVIEW})
"""States in which the partner holds the content."""

RECEIPTED = ARRIVED | {DeliveryState.REJECTED}
"""States that rest on a receipt of the partner."""


class Outcome(StrEnum):
    """What a receipt says became of the content (``transfer-protocol.md``, A record)."""

    REGISTERED = "registered"
    DUPLICATE = "duplicate"
    HELD_FOR_REVIEW = "held-for-review"
    REJECTED = "rejected"


class DeliveryEvent(StrEnum):
    """What can happen to a delivery."""

    REGISTERED = "registered"
    DUPLICATE = "duplicate"
    HELD = "held"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    FAILED = "failed"
    STOPPED = "stopped"
    RULE_LIFTED = "rule-lifted"
    RECEIVER_RESTORED = "receiver-restored"


class DeliveryReason(StrEnum):
    """Why a delivery is in its state. Partners send such codes too, see :func:`reason_of`."""

    CREATED = "created"
    # Receipts.
    REGISTERED = "registered"
    DUPLICATE = "duplicate"
    DEMOGRAPHICS_DIFFER = "demographics-differ"
    PATIENT_AMBIGUOUS = "patient-ambiguous"
    ORIGINAL_MISSING = "original-missing"
    CONTENT_INVALID = "content-invalid"
    SIGNATURE_INVALID = "signature-invalid"
    CORRECTION_UNFIT = "correction-unfit"
    DIGEST_CONFLICT = "digest-conflict"
    IDENTIFIER_MISMATCH = "identifier-mismatch"
    REJECTED_THERE = "rejected-there"
    # Not now, asked again.
    PATIENT_UNKNOWN = "patient-unknown"
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    STALE_OFFER = "stale-offer"
    NO_ANSWER = "no-answer"
    CHANNEL_REFUSED = "channel-refused"
    PROTOCOL_ERROR = "protocol-error"
    RECEIPT_INVALID = "receipt-invalid"
    PARTNER_NOT_TRUSTED = "partner-not-trusted"
    CANNOT_OPEN = "cannot-open"
    RECEIVER_RESTORED = "receiver-restored"
    # Here, by a rule.
    RULE_HERE = "rule-here"
    RULE_LIFTED = "rule-lifted"
    UNSPECIFIED = "unspecified"


def _open_rows(
    events: dict[DeliveryEvent, DeliveryState],
) -> dict[tuple[DeliveryState, DeliveryEvent], DeliveryState]:
    return {(state, event): after for state in OPEN for event, after in events.items()}


TRANSITIONS: dict[tuple[DeliveryState, DeliveryEvent], DeliveryState] = {
    **_open_rows(
        {
            DeliveryEvent.REGISTERED: DeliveryState.DELIVERED,
            DeliveryEvent.DUPLICATE: DeliveryState.DELIVERED,
            DeliveryEvent.HELD: DeliveryState.HELD_FOR_REVIEW,
            DeliveryEvent.REJECTED: DeliveryState.REJECTED,
            DeliveryEvent.UNKNOWN: DeliveryState.UNKNOWN_PATIENT,
            DeliveryEvent.FAILED: DeliveryState.RETRYING,
            DeliveryEvent.STOPPED: DeliveryState.WITHHELD,
        }
    ),
    (DeliveryState.WITHHELD, DeliveryEvent.RULE_LIFTED): DeliveryState.WAITING,
    **{(state, DeliveryEvent.RECEIVER_RESTORED): DeliveryState.WAITING for state in RECEIPTED},
}
"""Every transition there is. What is not here does not happen."""

_EVENT_OF_OUTCOME = {
    Outcome.REGISTERED: DeliveryEvent.REGISTERED,
    Outcome.DUPLICATE: DeliveryEvent.DUPLICATE,
    Outcome.HELD_FOR_REVIEW: DeliveryEvent.HELD,
    Outcome.REJECTED: DeliveryEvent.REJECTED,
}

_REASON_OF_OUTCOME = {
    Outcome.REGISTERED: DeliveryReason.REGISTERED,
    Outcome.DUPLICATE: DeliveryReason.DUPLICATE,
    Outcome.HELD_FOR_REVIEW: DeliveryReason.DEMOGRAPHICS_DIFFER,
    Outcome.REJECTED: DeliveryReason.REJECTED_THERE,
}


def transition(state: DeliveryState, event: DeliveryEvent) -> DeliveryState:
    """Return the state after ``event``. Raises ``NoSuchTransition`` if it cannot happen."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise NoSuchTransition(f"{event.value} cannot happen in state {state.value}") from None


def event_of(outcome: Outcome) -> DeliveryEvent:
    """Return the event that a receipt with this outcome is."""
    return _EVENT_OF_OUTCOME[outcome]


def usual_reason(outcome: Outcome) -> DeliveryReason:
    """Return the reason shown for an outcome that came without one of its own."""
    return _REASON_OF_OUTCOME[outcome]


def reason_of(code: str) -> DeliveryReason:
    """Return the reason that a partner's code names, ``UNSPECIFIED`` for a code not known here.

    A partner's text is never stored or shown as it came.
    """
    try:
        return DeliveryReason(code)
    except ValueError:
        return DeliveryReason.UNSPECIFIED
