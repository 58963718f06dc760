"""What mails there are, and what each is told (PURE).

Kinds with a link name which token the link needs; it is made when the mail is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

#: What the words of a mail are made from: codes, ids, counts and times, never a secret.
Params = Mapping[str, str | int]


class MailKind(StrEnum):
    """The occasion of a mail."""

    #: Somebody was registered: a link with which, and with the code from the desk, they
    #: choose a password.
    ACTIVATION = "activation"
    #: Somebody asked for a new password: a link, to be used with a second factor or a code.
    RESET = "reset"
    #: To a new address, asked for by its holder: a link that confirms it.
    EMAIL_CONFIRM = "email-confirm"
    #: To the old address: the holder asked for another one.
    EMAIL_REQUESTED = "email-requested"
    #: To the old address: staff changes it on a day; how to object.
    EMAIL_BY_STAFF = "email-by-staff"
    #: To old and new address: it has been changed.
    EMAIL_CHANGED = "email-changed"
    PASSWORD_CHANGED = "password-changed"  # noqa: S105  (a name)
    SECOND_FACTOR_ADDED = "second-factor-added"
    SECOND_FACTOR_REMOVED = "second-factor-removed"
    RECOVERY_CODES_MADE = "recovery-codes-made"
    RECOVERY_CODE_USED = "recovery-code-used"
    ROLES_CHANGED = "roles-changed"
    ACCOUNT_SUSPENDED = "account-suspended"
    ACCOUNT_REINSTATED = "account-reinstated"
    #: Many sign-ins failed of late.
    MANY_FAILURES = "many-failures"
    #: Somebody gave the right password and failed at the second step, again and again.
    SECOND_STEP_FAILED = "second-step-failed"
    #: To a patient: a rule about who may see their record was made, changed or ended.
    RULE_CHANGED = "rule-changed"
    #: A member of staff opened the patient's record by emergency access.
    GLASS_BROKEN = "glass-broken"
    #: To a patient: somebody was put in charge of them who sees sensitive records too.
    CARE_CHANGED = "care-changed"
    #: The privacy officer answered what looked wrong to somebody in an access log.
    COMPLAINT_ANSWERED = "complaint-answered"
    #: The desk corrected name, number, date of birth, or where a patient's results go.
    DETAILS_CHANGED = "details-changed"
    #: The desk is to make another person of a patient's entry, once a second one agrees.
    DETAILS_ASKED = "details-asked"
    #: To a patient: somebody stands for them now, or no longer does.
    REPRESENTATIVE_CHANGED = "representative-changed"
    #: To a patient and to who looks after them: there is a new result, no word about which.
    RESULT_ARRIVED = "result-arrived"
    #: To the ward's team: a result that cannot wait was seen by nobody in time.
    RESULT_WAITS = "result-waits"
    #: To a patient: what is kept about them is to be erased; how to take it along before.
    ERASURE_ASKED = "erasure-asked"
    #: To admins: a certificate of the institution, or its revocation list, ends in some days.
    CERTIFICATE_ENDS = "certificate-ends"
    #: To admins: one has ended, and what needs it stands still.
    CERTIFICATE_ENDED = "certificate-ended"


#: Mails whose link carries a token.
WITH_TOKEN = frozenset({MailKind.ACTIVATION, MailKind.RESET, MailKind.EMAIL_CONFIRM})

#: Where such a link leads, below the portal's address.
PATHS: Mapping[MailKind, str] = {
    MailKind.ACTIVATION: "/activate",
    MailKind.RESET: "/reset/finish",
    MailKind.EMAIL_CONFIRM: "/email/confirm",
}

#: How long such a link works from its sending, as the mail says. Identity makes it so.
LIFETIMES: Mapping[MailKind, timedelta] = {
    MailKind.ACTIVATION: timedelta(days=7),
    MailKind.RESET: timedelta(hours=24),
    MailKind.EMAIL_CONFIRM: timedelta(hours=24),
}

#: The parameters that a kind knows; each may be left out, and is then not mentioned.
#: ``asked`` and ``change`` are for whoever makes the token and stand in no words. ``at`` is an
#: instant in microseconds since the Unix epoch (``core.clock.to_micros``); ``factor`` is one
#: of :data:`FACTORS`; ``added`` and ``removed`` are the id of a role; the others are counts.
PARAMS: Mapping[MailKind, frozenset[str]] = {
    MailKind.ACTIVATION: frozenset({"asked"}),
    MailKind.RESET: frozenset({"asked"}),
    MailKind.EMAIL_CONFIRM: frozenset({"asked", "change"}),
    MailKind.EMAIL_BY_STAFF: frozenset({"at"}),
    MailKind.SECOND_FACTOR_ADDED: frozenset({"factor"}),
    MailKind.SECOND_FACTOR_REMOVED: frozenset({"factor"}),
    MailKind.RECOVERY_CODE_USED: frozenset({"left"}),
    MailKind.ROLES_CHANGED: frozenset({"added", "removed"}),
    MailKind.MANY_FAILURES: frozenset({"count"}),
    MailKind.ERASURE_ASKED: frozenset({"at"}),
    MailKind.SECOND_STEP_FAILED: frozenset({"count"}),
    MailKind.CERTIFICATE_ENDS: frozenset({"count"}),
}

#: Second factors as mails name them; ``all`` is a reset by the institution.
FACTORS = ("totp", "passkey", "all")


def check_params(kind: MailKind, params: Params) -> None:
    """Raise ``ValueError`` for parameters that the words of this kind do not know."""
    unknown = set(params) - PARAMS.get(kind, frozenset())
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ValueError(f"a mail of kind {kind} knows no {names}: see medportal.mail.kinds")
    if params.get("factor", "all") not in FACTORS:
        raise ValueError(f"the factor of a mail is one of {', '.join(FACTORS)}")


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail is composed from, as it lay in the outbox; ``at`` is when it was posted."""

    id: str
    kind: MailKind
    to: str = field(repr=False)
    language: str
    params: Params = field(repr=False)
    at: datetime
