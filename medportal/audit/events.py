"""Audit events (PURE).

An event names ids and codes, never people: who did what to what, when, with which outcome
and for which reasons. Its canonical bytes are what the Merkle log commits to.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from medportal.audit.errors import MalformedEvent
from medportal.core import canonical
from medportal.core.clock import from_micros, to_micros
from medportal.core.ids import is_id, new_id

FORMAT = 1
MAX_TEXT = 200
MAX_ITEMS = 32
#: The actor of what somebody did with the command line; who that was, the machine knows.
COMMAND_LINE = "process:command-line"


class Action(StrEnum):
    """What was done, or tried."""

    # Identity.
    SIGN_IN = "sign-in"
    SIGN_IN_FAILED = "sign-in-failed"
    #: The password was right, and nobody is signed in yet.
    SECOND_FACTOR_AWAITED = "second-factor-awaited"
    SIGN_OUT = "sign-out"
    SESSION_ENDED = "session-ended"
    PASSWORD_CHANGED = "password-changed"  # noqa: S105  (a name)
    ACCOUNT_CREATED = "account-created"
    ACCOUNT_ACTIVATED = "account-activated"
    ACCOUNT_CHANGED = "account-changed"
    ACCOUNT_SUSPENDED = "account-suspended"
    ACCOUNT_REINSTATED = "account-reinstated"
    ROLES_CHANGED = "roles-changed"
    PEOPLE_LISTED = "people-listed"
    PERSON_SOUGHT = "person-sought"
    PERSON_VIEWED = "person-viewed"
    CODE_ISSUED = "code-issued"
    LINK_REQUESTED = "link-requested"
    IDENTITY_CONFIRMED = "identity-confirmed"
    SECOND_FACTOR_ADDED = "second-factor-added"
    SECOND_FACTOR_REMOVED = "second-factor-removed"
    PASSKEY_RENAMED = "passkey-renamed"
    RECOVERY_CODES_MADE = "recovery-codes-made"
    EMAIL_CHANGE_REQUESTED = "email-change-requested"
    EMAIL_CHANGE_CANCELLED = "email-change-cancelled"
    EMAIL_CHANGED = "email-changed"
    APPROVAL_REQUESTED = "approval-requested"
    APPROVAL_GRANTED = "approval-granted"
    APPROVAL_REFUSED = "approval-refused"
    APPROVAL_WITHDRAWN = "approval-withdrawn"
    APPROVAL_EXPIRED = "approval-expired"
    APPROVALS_VIEWED = "approvals-viewed"
    SETTINGS_VIEWED = "settings-viewed"
    SETTINGS_CHANGED = "settings-changed"
    # Patients and care.
    PATIENT_REGISTERED = "patient-registered"
    PATIENT_CHANGED = "patient-changed"
    #: Another number, name or date of birth waits for a second person at the desk.
    PATIENT_CHANGE_ASKED = "patient-change-asked"
    PATIENT_CHANGE_WITHDRAWN = "patient-change-withdrawn"
    PATIENTS_LISTED = "patients-listed"
    PATIENT_SOUGHT = "patient-sought"
    PATIENT_VIEWED = "patient-viewed"
    CARE_ASSIGNED = "care-assigned"
    CARE_ENDED = "care-ended"
    RULE_CHANGED = "rule-changed"
    GLASS_BROKEN = "glass-broken"
    GLASS_CLOSED = "glass-closed"
    GLASS_REVIEWED = "glass-reviewed"
    COMPLAINT_MADE = "complaint-made"
    COMPLAINT_ANSWERED = "complaint-answered"
    OVERSIGHT_VIEWED = "oversight-viewed"
    ACCESS_LOG_VIEWED = "access-log-viewed"
    RULES_VIEWED = "rules-viewed"
    RULE_ENDED = "rule-ended"
    PATIENT_ADMITTED = "patient-admitted"
    PATIENT_DISCHARGED = "patient-discharged"
    SUPPORT_CHANGED = "support-changed"
    TEAM_CHANGED = "team-changed"
    WARDS_VIEWED = "wards-viewed"
    REPRESENTATIVE_MADE = "representative-made"
    REPRESENTATIVE_ENDED = "representative-ended"
    # Records.
    RECORD_CREATED = "record-created"
    RECORD_AMENDED = "record-amended"
    RECORD_READ = "record-read"
    RECORDS_LISTED = "records-listed"
    RECORD_EXPORTED = "record-exported"
    #: Somebody noted that they saw a result and will act on it.
    RESULT_ACKNOWLEDGED = "result-acknowledged"
    RESULT_ESCALATED = "result-escalated"
    RESULTS_VIEWED = "results-viewed"
    #: Results that were held back, for a person to decide about.
    HELD_VIEWED = "held-viewed"
    HELD_DECIDED = "held-decided"
    ERASURE_ASKED = "erasure-asked"
    ERASURE_WITHDRAWN = "erasure-withdrawn"
    ERASURE_AGREED = "erasure-agreed"
    ERASURE_REFUSED = "erasure-refused"
    ERASURES_VIEWED = "erasures-viewed"
    # Transfer.
    RECORD_RECEIVED = "record-received"
    RECORD_FILED = "record-filed"
    QUERY_RECEIVED = "query-received"
    DELIVERY_QUEUED = "delivery-queued"
    DELIVERY_ATTEMPTED = "delivery-attempted"
    DELIVERY_RECEIPTED = "delivery-receipted"
    #: A rule of the patient stopped it here, or stops it no more.
    DELIVERY_WITHHELD = "delivery-withheld"
    DELIVERY_RELEASED = "delivery-released"
    DELIVERIES_VIEWED = "deliveries-viewed"
    CERTIFICATES_VIEWED = "certificates-viewed"
    PARTNERS_VIEWED = "partners-viewed"
    #: An administrator holds what goes to a partner, lets it go, or has it tried again now.
    PARTNER_HELD = "partner-held"
    PARTNER_LET_GO = "partner-let-go"
    DELIVERY_HURRIED = "delivery-hurried"
    DELIVERY_VIEWED = "delivery-viewed"
    PEER_REFUSED = "peer-refused"
    # Access.
    ACCESS_DENIED = "access-denied"
    AUDIT_VIEWED = "audit-viewed"
    AUDIT_EXPORTED = "audit-exported"
    AUDIT_PRUNED = "audit-pruned"
    # Institution.
    PARTNER_TRUSTED = "partner-trusted"
    PARTNER_REVOKED = "partner-revoked"
    KEYS_CREATED = "keys-created"
    KEYS_ROTATED = "keys-rotated"
    PASSPHRASE_CHANGED = "passphrase-changed"  # noqa: S105
    EDGE_KEYS_GIVEN = "edge-keys-given"
    DOCUMENTS_COPIED = "documents-copied"
    DOCUMENTS_SWEPT = "documents-swept"
    PATIENT_KEY_DESTROYED = "patient-key-destroyed"
    CERTIFICATE_ISSUED = "certificate-issued"
    CERTIFICATE_REVOKED = "certificate-revoked"
    TENANT_CREATED = "tenant-created"
    BACKUP_MADE = "backup-made"
    DEMO_LOADED = "demo-loaded"
    RESTORED = "restored"


class Outcome(StrEnum):
    """How it ended."""

    ALLOWED = "allowed"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``actor`` is a person's id or a process's name, ``patient`` a patient's id,
    ``object`` the id of what was touched; ``details`` hold codes and numbers.

    Raises ``MalformedEvent`` at construction; texts have at most 200 characters.
    """

    id: str
    at: datetime
    action: Action
    outcome: Outcome
    actor: str | None = None
    session: str | None = None
    patient: str | None = None
    object: str | None = None
    reasons: tuple[str, ...] = ()
    details: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what could not be read back."""
        if not is_id(self.id):
            raise MalformedEvent("an event's id is a random id")
        if self.at.tzinfo is None:
            raise MalformedEvent("an event's time is aware")
        for text in (self.actor, self.session, self.patient, self.object):
            _check_optional(text)
        _check_texts(self.reasons)
        _check_texts(self.details)
        for value in self.details.values():
            _check_detail(value)

    @classmethod
    def create(
        cls,
        action: Action,
        outcome: Outcome = Outcome.ALLOWED,
        *,
        now: datetime,
        actor: str | None = None,
        session: str | None = None,
        patient: str | None = None,
        object: str | None = None,
        reasons: Iterable[str] = (),
        details: Mapping[str, str | int] | None = None,
    ) -> "Event":
        """Return an event with a new id. Reasons may be members of ``core.reasons.Reason``."""
        return cls(
            id=new_id(),
            at=now,
            action=action,
            outcome=outcome,
            actor=actor,
            session=session,
            patient=patient,
            object=object,
            reasons=tuple(str(reason) for reason in reasons),
            details=dict(details or {}),
        )

    def to_bytes(self) -> bytes:
        """Return the one encoding of this event."""
        return canonical.encode(
            {
                "v": FORMAT,
                "id": self.id,
                "at": to_micros(self.at),
                "action": str(self.action),
                "outcome": str(self.outcome),
                "actor": self.actor,
                "session": self.session,
                "patient": self.patient,
                "object": self.object,
                "reasons": list(self.reasons),
                "details": dict(self.details),
            }
        )

    @classmethod
    def from_bytes(cls, body: bytes) -> "Event":
        """Read an event; raises ``MalformedEvent`` for anything :meth:`to_bytes` never gives."""
        try:
            fields = canonical.decode(body)
            event = _from_fields(fields)
        except (canonical.NotCanonical, KeyError, TypeError, ValueError, AttributeError):
            raise MalformedEvent("not an event") from None
        if event.to_bytes() != body:
            raise MalformedEvent("not the one encoding of an event")
        return event


def _from_fields(fields: dict[str, Any]) -> Event:
    return Event(
        id=fields["id"],
        at=from_micros(fields["at"]),
        action=Action(fields["action"]),
        outcome=Outcome(fields["outcome"]),
        actor=fields["actor"],
        session=fields["session"],
        patient=fields["patient"],
        object=fields["object"],
        reasons=tuple(fields["reasons"]),
        details=fields["details"],
    )


def _check_optional(text: object) -> None:
    if text is not None:
        _check_text(text)


def _check_texts(texts: Collection[object]) -> None:
    if len(texts) > MAX_ITEMS:
        raise MalformedEvent("too many items in an event")
    for text in texts:
        _check_text(text)


def _check_text(text: object) -> None:
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
        raise MalformedEvent("an empty, overlong or non-text item in an event")


def _check_detail(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise MalformedEvent("a detail is a text or an integer")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise MalformedEvent("an overlong detail in an event")
