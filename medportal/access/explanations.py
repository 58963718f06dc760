"""The access log in plain words: what was done, why it was allowed or refused, from where.

The words are for the patient whom an event is about: "you" is the patient, "they" whoever did
it. ``${who}`` stands first in every sentence and is a name with its role, or "You". An event
that has no words of its own here can be about no patient (:data:`NEVER`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medportal.audit.events import COMMAND_LINE, Action, Event, Outcome
from medportal.core.reasons import Reason
from medportal.delivery.states import DeliveryReason
from medportal.web.i18n import _


class Topic(StrEnum):
    """What a patient may narrow the log to."""

    LOOKED = "looked"
    WROTE = "wrote"
    COPIED = "copied"
    SHARED = "shared"
    EMERGENCY = "emergency"
    CARE = "care"
    RULES = "rules"
    OVERSIGHT = "oversight"
    ACCOUNT = "account"


TOPICS: Mapping[Topic, Any] = {
    Topic.LOOKED: _("Looked at something, or tried to"),
    Topic.WROTE: _("Wrote or changed something"),
    Topic.COPIED: _("Took a copy along"),
    Topic.SHARED: _("Sent to, or asked by, other institutions"),
    Topic.EMERGENCY: _("Emergency access"),
    Topic.CARE: _("Who looks after you, and where"),
    Topic.RULES: _("Your rules, and this log"),
    Topic.OVERSIGHT: _("Your questions, and checks"),
    Topic.ACCOUNT: _("Your account"),
}


@dataclass(frozen=True, slots=True)
class Telling:
    """How an action is told: as done, and as tried where it was refused or failed."""

    topic: Topic
    done: Any
    tried: Any


TOLD: Mapping[Action, Telling] = {
    Action.PATIENT_VIEWED: Telling(
        Topic.LOOKED,
        _("${who} opened your page."),
        _("${who} tried to open your page."),
    ),
    Action.PATIENT_SOUGHT: Telling(
        Topic.LOOKED,
        _("${who} looked you up by your number."),
        _("${who} tried to look you up by your number."),
    ),
    Action.RECORDS_LISTED: Telling(
        Topic.LOOKED,
        _("${who} saw the list of your records."),
        _("${who} tried to see the list of your records."),
    ),
    Action.RECORD_READ: Telling(
        Topic.LOOKED,
        _("${who} read one of your records."),
        _("${who} tried to read one of your records."),
    ),
    Action.RESULTS_VIEWED: Telling(
        Topic.LOOKED,
        _("${who} saw on a list that there are new results about you."),
        _("${who} tried to see whether there are new results about you."),
    ),
    Action.RESULT_ACKNOWLEDGED: Telling(
        Topic.WROTE,
        _("${who} noted that they have seen one of your results."),
        _("${who} tried to note that they have seen one of your results."),
    ),
    Action.RESULT_ESCALATED: Telling(
        Topic.CARE,
        _("${who} reminded the team that one of your results waits to be seen."),
        _("${who} tried to remind the team that one of your results waits, and found nobody."),
    ),
    Action.HELD_VIEWED: Telling(
        Topic.SHARED,
        _(
            "${who} looked at whom a record is about that was sent to us and is not filed yet. "
            "What is in it is not shown there."
        ),
        _("${who} tried to look at a record that was sent to us and is not filed yet."),
    ),
    Action.HELD_DECIDED: Telling(
        Topic.SHARED,
        _("${who} decided about a record that was sent to us and had not been filed."),
        _("${who} tried to decide about a record that was sent to us and had not been filed."),
    ),
    Action.DELIVERY_VIEWED: Telling(
        Topic.LOOKED,
        _("${who} looked at how one of your records is sent."),
        _("${who} tried to look at how one of your records is sent."),
    ),
    Action.ACCESS_DENIED: Telling(
        Topic.LOOKED,
        _("${who} asked for a page about you."),
        _("${who} tried to open a page about you."),
    ),
    Action.PATIENT_REGISTERED: Telling(
        Topic.WROTE,
        _("${who} registered you as a patient."),
        _("${who} tried to register you as a patient."),
    ),
    Action.PATIENT_CHANGED: Telling(
        Topic.WROTE,
        _("${who} changed your personal details."),
        _("${who} tried to change your personal details."),
    ),
    Action.PATIENT_CHANGE_ASKED: Telling(
        Topic.WROTE,
        _("${who} asked for a change of your number, name or date of birth."),
        _("${who} tried to ask for a change of your number, name or date of birth."),
    ),
    Action.PATIENT_CHANGE_WITHDRAWN: Telling(
        Topic.WROTE,
        _("${who} called off a change of your number, name or date of birth."),
        _("${who} tried to call off a change of your number, name or date of birth."),
    ),
    Action.SUPPORT_CHANGED: Telling(
        Topic.WROTE,
        _("${who} changed the notes on transport, diet or allergies."),
        _("${who} tried to change the notes on transport, diet or allergies."),
    ),
    Action.RECORD_CREATED: Telling(
        Topic.WROTE,
        _("${who} wrote and signed a new record about you."),
        _("${who} tried to write a new record about you."),
    ),
    Action.RECORD_AMENDED: Telling(
        Topic.WROTE,
        _("${who} corrected one of your records."),
        _("${who} tried to correct one of your records."),
    ),
    Action.ERASURE_ASKED: Telling(
        Topic.WROTE,
        _("${who} asked that your records here be erased."),
        _("${who} tried to ask that your records here be erased."),
    ),
    Action.ERASURE_WITHDRAWN: Telling(
        Topic.WROTE,
        _("${who} called off the erasure of your records."),
        _("${who} tried to call off the erasure of your records."),
    ),
    Action.ERASURE_AGREED: Telling(
        Topic.WROTE,
        _("${who} agreed to the erasure of your records, as the second person."),
        _("${who} tried to agree to the erasure of your records."),
    ),
    Action.ERASURE_REFUSED: Telling(
        Topic.WROTE,
        _("${who} refused the erasure of your records: they stay."),
        _("${who} tried to refuse the erasure of your records."),
    ),
    Action.ERASURES_VIEWED: Telling(
        Topic.LOOKED,
        _("${who} looked at whether your records are to be erased."),
        _("${who} tried to look at whether your records are to be erased."),
    ),
    Action.PATIENT_KEY_DESTROYED: Telling(
        Topic.WROTE,
        _("${who} erased your records for good."),
        _("${who} tried to erase your records for good."),
    ),
    Action.RECORD_EXPORTED: Telling(
        Topic.COPIED,
        _("${who} took a copy of your records along."),
        _("${who} tried to take a copy of your records along."),
    ),
    Action.RECORD_RECEIVED: Telling(
        Topic.SHARED,
        _("${who} sent a record about you to us."),
        _("${who} tried to send a record about you to us."),
    ),
    Action.RECORD_FILED: Telling(
        Topic.SHARED,
        _("${who} filed a record from another institution among yours."),
        _("${who} tried to file a record from another institution among yours."),
    ),
    Action.QUERY_RECEIVED: Telling(
        Topic.SHARED,
        _("${who} asked whether you are a patient here, to send us a record, and was told so."),
        _("${who} asked whether you are a patient here, to send us a record, and was not told."),
    ),
    Action.DELIVERY_WITHHELD: Telling(
        Topic.SHARED,
        _("${who} kept one of your records from being sent to another institution."),
        _("${who} tried to keep one of your records from being sent to another institution."),
    ),
    Action.DELIVERY_RELEASED: Telling(
        Topic.SHARED,
        _("${who} let one of your records go on to another institution."),
        _("${who} tried to let one of your records go on to another institution."),
    ),
    Action.DELIVERY_QUEUED: Telling(
        Topic.SHARED,
        _("${who} had one of your records sent to another institution."),
        _("${who} would have had one of your records sent to another institution."),
    ),
    Action.DELIVERY_ATTEMPTED: Telling(
        Topic.SHARED,
        _("${who} tried to send one of your records to another institution."),
        _("${who} tried to send one of your records to another institution, without success."),
    ),
    Action.DELIVERY_RECEIPTED: Telling(
        Topic.SHARED,
        _("${who} sent one of your records to another institution, which confirmed it."),
        _("${who} sent one of your records to another institution, which did not take it."),
    ),
    Action.DELIVERY_WITHHELD: Telling(
        Topic.SHARED,
        _("${who} kept one of your records from being sent, as a rule of yours says."),
        _("${who} tried to keep one of your records from being sent, as a rule of yours says."),
    ),
    Action.DELIVERY_RELEASED: Telling(
        Topic.SHARED,
        _("${who} let one of your records be sent after all: the rule against it is over."),
        _("${who} tried to let one of your records be sent after all."),
    ),
    Action.GLASS_BROKEN: Telling(
        Topic.EMERGENCY,
        _("${who} opened your records by emergency access."),
        _("${who} tried to open your records by emergency access."),
    ),
    Action.GLASS_CLOSED: Telling(
        Topic.EMERGENCY,
        _("${who} ended an emergency access to your records."),
        _("${who} tried to end an emergency access to your records."),
    ),
    Action.GLASS_REVIEWED: Telling(
        Topic.EMERGENCY,
        _("${who} checked an emergency access to your records."),
        _("${who} tried to check an emergency access to your records."),
    ),
    Action.CARE_ASSIGNED: Telling(
        Topic.CARE,
        _("${who} put somebody in charge of looking after you."),
        _("${who} tried to put somebody in charge of looking after you."),
    ),
    Action.CARE_ENDED: Telling(
        Topic.CARE,
        _("${who} noted that somebody looks after you no longer."),
        _("${who} tried to note that somebody looks after you no longer."),
    ),
    Action.PATIENT_ADMITTED: Telling(
        Topic.CARE,
        _("${who} noted in which ward and bed you are."),
        _("${who} tried to note in which ward and bed you are."),
    ),
    Action.PATIENT_DISCHARGED: Telling(
        Topic.CARE,
        _("${who} noted that you left the ward."),
        _("${who} tried to note that you left the ward."),
    ),
    Action.REPRESENTATIVE_MADE: Telling(
        Topic.CARE,
        _("${who} noted that somebody represents you."),
        _("${who} tried to note that somebody represents you."),
    ),
    Action.REPRESENTATIVE_ENDED: Telling(
        Topic.CARE,
        _("${who} noted that somebody represents you no longer."),
        _("${who} tried to note that somebody represents you no longer."),
    ),
    Action.TEAM_CHANGED: Telling(
        Topic.CARE,
        _("${who} changed the team that looks after you."),
        _("${who} tried to change the team that looks after you."),
    ),
    Action.RULES_VIEWED: Telling(
        Topic.RULES,
        _("${who} looked at your rules."),
        _("${who} tried to look at your rules."),
    ),
    Action.RULE_CHANGED: Telling(
        Topic.RULES,
        _("${who} made or changed one of your rules."),
        _("${who} tried to make or change one of your rules."),
    ),
    Action.RULE_ENDED: Telling(
        Topic.RULES,
        _("${who} ended one of your rules."),
        _("${who} tried to end one of your rules."),
    ),
    Action.ACCESS_LOG_VIEWED: Telling(
        Topic.RULES,
        _("${who} looked at this log."),
        _("${who} tried to look at this log."),
    ),
    Action.COMPLAINT_MADE: Telling(
        Topic.OVERSIGHT,
        _("${who} asked the privacy officer about an entry of this log."),
        _("${who} tried to ask the privacy officer about an entry of this log."),
    ),
    Action.COMPLAINT_ANSWERED: Telling(
        Topic.OVERSIGHT,
        _("${who} answered a question about an entry of this log."),
        _("${who} tried to answer a question about an entry of this log."),
    ),
    Action.OVERSIGHT_VIEWED: Telling(
        Topic.OVERSIGHT,
        _("${who} checked accesses to your data."),
        _("${who} tried to check accesses to your data."),
    ),
    Action.AUDIT_VIEWED: Telling(
        Topic.OVERSIGHT,
        _("${who} looked at the institution's log for entries about you."),
        _("${who} tried to look at the institution's log for entries about you."),
    ),
    Action.AUDIT_EXPORTED: Telling(
        Topic.OVERSIGHT,
        _("${who} took a copy of the institution's log with entries about you."),
        _("${who} tried to take a copy of the institution's log with entries about you."),
    ),
    Action.ACCOUNT_CREATED: Telling(
        Topic.ACCOUNT,
        _("${who} made an account for you."),
        _("${who} tried to make an account for you."),
    ),
    Action.ACCOUNT_ACTIVATED: Telling(
        Topic.ACCOUNT,
        _("${who} activated your account."),
        _("${who} tried to activate your account."),
    ),
    Action.ACCOUNT_CHANGED: Telling(
        Topic.ACCOUNT,
        _("${who} changed settings of your account."),
        _("${who} tried to change settings of your account."),
    ),
    Action.ACCOUNT_SUSPENDED: Telling(
        Topic.ACCOUNT,
        _("${who} suspended your account."),
        _("${who} tried to suspend your account."),
    ),
    Action.ACCOUNT_REINSTATED: Telling(
        Topic.ACCOUNT,
        _("${who} opened your account again after it had been suspended."),
        _("${who} tried to open your suspended account again."),
    ),
    Action.ROLES_CHANGED: Telling(
        Topic.ACCOUNT,
        _("${who} changed what your account may do."),
        _("${who} tried to change what your account may do."),
    ),
    Action.PERSON_SOUGHT: Telling(
        Topic.ACCOUNT,
        _("${who} looked your account up by your number."),
        _("${who} tried to look your account up by your number."),
    ),
    Action.PERSON_VIEWED: Telling(
        Topic.ACCOUNT,
        _("${who} looked at how your account stands. Your records are not shown there."),
        _("${who} tried to look at how your account stands."),
    ),
    Action.SESSION_ENDED: Telling(
        Topic.ACCOUNT,
        _("${who} signed you out everywhere."),
        _("${who} tried to sign you out everywhere."),
    ),
    Action.CODE_ISSUED: Telling(
        Topic.ACCOUNT,
        _("${who} made a code with which your account is opened."),
        _("${who} tried to make a code with which your account is opened."),
    ),
    Action.LINK_REQUESTED: Telling(
        Topic.ACCOUNT,
        _("${who} had a link for your account sent to your email address."),
        _("${who} tried to have a link for your account sent to your email address."),
    ),
    Action.SECOND_FACTOR_REMOVED: Telling(
        Topic.ACCOUNT,
        _("${who} removed the second proof from your account."),
        _("${who} tried to remove the second proof from your account."),
    ),
    Action.EMAIL_CHANGE_REQUESTED: Telling(
        Topic.ACCOUNT,
        _("${who} asked for another email address for your account."),
        _("${who} tried to ask for another email address for your account."),
    ),
    Action.EMAIL_CHANGE_CANCELLED: Telling(
        Topic.ACCOUNT,
        _("${who} called off the change of your email address."),
        _("${who} tried to call off the change of your email address."),
    ),
    Action.EMAIL_CHANGED: Telling(
        Topic.ACCOUNT,
        _("${who} changed your email address."),
        _("${who} tried to change your email address."),
    ),
    Action.APPROVAL_REQUESTED: Telling(
        Topic.ACCOUNT,
        _("${who} asked a colleague to approve a change of your account."),
        _("${who} tried to ask a colleague to approve a change of your account."),
    ),
    Action.APPROVAL_GRANTED: Telling(
        Topic.ACCOUNT,
        _("${who} approved a change of your account that a colleague had asked for."),
        _("${who} tried to approve a change of your account."),
    ),
    Action.APPROVAL_REFUSED: Telling(
        Topic.ACCOUNT,
        _("${who} refused a change of your account that a colleague had asked for."),
        _("${who} tried to refuse a change of your account."),
    ),
    Action.APPROVAL_WITHDRAWN: Telling(
        Topic.ACCOUNT,
        _("${who} took back the request for a change of your account."),
        _("${who} tried to take back the request for a change of your account."),
    ),
    Action.APPROVAL_EXPIRED: Telling(
        Topic.ACCOUNT,
        _("${who} closed a request for a change of your account, because nobody had decided it."),
        _("${who} tried to close a request for a change of your account."),
    ),
    Action.APPROVALS_VIEWED: Telling(
        Topic.ACCOUNT,
        _("${who} looked at a request for a change of your account."),
        _("${who} tried to look at a request for a change of your account."),
    ),
}
#: Actions of one person about themselves, of the institution, or about many patients at once:
#: their events name no patient, and no patient's log shows them.
NEVER = frozenset(
    {
        Action.SIGN_IN,
        Action.SIGN_IN_FAILED,
        Action.SECOND_FACTOR_AWAITED,
        Action.SIGN_OUT,
        Action.PASSWORD_CHANGED,
        Action.PEOPLE_LISTED,
        Action.IDENTITY_CONFIRMED,
        Action.SECOND_FACTOR_ADDED,
        Action.PASSKEY_RENAMED,
        Action.RECOVERY_CODES_MADE,
        Action.SETTINGS_VIEWED,
        Action.SETTINGS_CHANGED,
        Action.PATIENTS_LISTED,
        Action.WARDS_VIEWED,
        Action.DELIVERIES_VIEWED,
        Action.CERTIFICATES_VIEWED,
        Action.PARTNERS_VIEWED,
        Action.PARTNER_HELD,
        Action.PARTNER_LET_GO,
        Action.DELIVERY_HURRIED,
        Action.PEER_REFUSED,
        Action.AUDIT_PRUNED,
        Action.PARTNER_TRUSTED,
        Action.PARTNER_REVOKED,
        Action.KEYS_CREATED,
        Action.KEYS_ROTATED,
        Action.PASSPHRASE_CHANGED,
        Action.EDGE_KEYS_GIVEN,
        Action.DOCUMENTS_COPIED,
        Action.DOCUMENTS_SWEPT,
        Action.CERTIFICATE_ISSUED,
        Action.CERTIFICATE_REVOKED,
        Action.TENANT_CREATED,
        Action.BACKUP_MADE,
        Action.DEMO_LOADED,
        Action.RESTORED,
    }
)
#: A downloaded log is told as such, and not as a look at it.
DOWNLOADED = Telling(
    Topic.RULES,
    _("${who} took a copy of this log along."),
    _("${who} tried to take a copy of this log along."),
)
#: For an action that came after these words.
UNTOLD = Telling(
    Topic.LOOKED,
    _("${who} did something that concerns you."),
    _("${who} tried something that concerns you."),
)

OUTCOMES: Mapping[Outcome, tuple[str, Any]] = {
    Outcome.ALLOWED: ("ok", _("Done")),
    Outcome.DENIED: ("warn", _("Refused")),
    Outcome.FAILED: ("bad", _("It failed")),
}

#: Why, as said to the patient.
REASONS: Mapping[str, Any] = {
    Reason.ROLE_ANY: _("Their work here covers all patients."),
    Reason.ASSIGNED_CARE: _("They were assigned to your care at that time."),
    Reason.OWN_RECORD: _("It is your own record."),
    Reason.AUTHOR: _("They wrote this record themselves."),
    Reason.WARD_TEAM: _("They belonged to the team of a ward that looked after you at that time."),
    Reason.TREATING: _("They were your treating doctor at that time."),
    Reason.REPRESENTATIVE: _("They represented you at that time."),
    Reason.PATIENT_ALLOWS: _("A rule of yours allowed it."),
    Reason.BROKEN_GLASS: _("They had used emergency access, which is always checked afterwards."),
    Reason.SIGNED_IN: _("Everybody who has signed in may do this."),
    Reason.NOT_SIGNED_IN: _("Nobody had signed in."),
    Reason.NO_ROLE: _("Nothing in their work here allows it."),
    Reason.NOT_ASSIGNED: _("They were not assigned to your care."),
    Reason.NOT_OWN: _("Only you, or somebody who represents you, may do this."),
    Reason.SENSITIVE: _(
        "It belongs to the sensitive part of your records, which opens to your treating doctor, "
        "and to others only where you or the assignment say so."
    ),
    Reason.OWN_RECORD_ONLY_AS_PATIENT: _(
        "Nobody uses the rights of their work here to open their own records."
    ),
    Reason.NO_SUCH_THING: _("What they asked for does not exist."),
    Reason.PATIENT_BLOCKS: _("A rule of yours blocked it."),
    Reason.NO_RULE_ALLOWS: _("No rule of yours allows it."),
    Reason.GLASS_NOT_BROKEN: _("They had not used emergency access."),
    Reason.NOT_AUTHOR: _("They had not written it."),
    Reason.WRONG_CREDENTIALS: _("Number, password or code were wrong."),
    Reason.SUSPENDED: _("The account was suspended."),
    Reason.RESTORED_FROM_BACKUP: _("The data was restored from a backup."),
    Reason.THROTTLED: _("There were too many tries within a short time."),
    Reason.WRONG_CODE: _("The code was wrong."),
    Reason.USED_CODE: _("The code had been used before."),
    Reason.EXPIRED: _("It came too late: the time for it was over."),
    Reason.LINK_NEEDED: _("The link from the email was missing."),
    Reason.UNKNOWN_PASSKEY: _("The passkey is not known here."),
    Reason.WRONG_SITE: _("The passkey was used on another address, perhaps a trap."),
    Reason.POSSIBLE_CLONE: _("Somebody may have copied the passkey."),
    Reason.TOO_MANY: _("There were too many at once."),
    Reason.SECOND_FACTOR_NEEDED: _("It takes a second proof of who they are, which was missing."),
    Reason.SECOND_FACTOR_NEEDED_OFF_SITE: _(
        "From outside the institution it takes a second proof of who they are, which was missing."
    ),
    Reason.PASSWORD_TOO_SHORT: _("The password is too short to be the only proof."),
    Reason.NOT_CONFIRMED_LATELY: _("They had not proved of late who they are."),
    Reason.NEW_DUTY: _("Reason given: a new duty."),
    Reason.DUTY_ENDED: _("Reason given: the duty has ended."),
    Reason.LEFT: _("Reason given: the person has left the institution."),
    Reason.PERSON_ASKED: _("Reason given: it was asked for."),
    Reason.LOST_DEVICE: _("Reason given: a device or a code was lost."),
    Reason.SUSPECTED_MISUSE: _("Reason given: misuse is suspected."),
    Reason.CORRECTION: _("Reason given: a mistake is corrected."),
    Reason.EMERGENCY: _("Reason given: an emergency."),
    Reason.COVERING: _("Reason given: they stood in for a colleague."),
    Reason.REFERRAL: _("Reason given: a colleague asked for their advice."),
    Reason.SAFETY: _("Reason given: your safety."),
    Reason.OTHER: _("Reason given: another one, which they had to write down."),
    Reason.JUSTIFIED: _("Found: the access was right."),
    Reason.NOT_JUSTIFIED: _("Found: the access was not right."),
    Reason.FOLLOWED_UP: _("Found: it has to be looked into further, which is being done."),
    Reason.OWN_ACCOUNT: _("Nobody does this to their own account."),
    Reason.SECOND_PERSON_NEEDED: _("A second person has to agree."),
    Reason.APPROVED_BY_SECOND_PERSON: _("A second person agreed."),
    Reason.LAST_ADMIN: _("Somebody has to be left who manages the accounts."),
    Reason.NOTHING_NEW: _("It was so already."),
    Reason.OVERTAKEN: _("It no longer made sense."),
    Reason.CHANGED_MEANWHILE: _("Something had changed since they looked at it."),
    Reason.NOT_READ: _("They had not read it, or it could not be shown to them."),
    Reason.LOOSER_THAN_FILE: _("It was less strict than the institution allows."),
    Reason.WRONG_DATA: _("Reason given: the data were not right."),
    Reason.KEPT_BY_DUTY: _("The law wants the records to be kept for now."),
    Reason.TOO_EARLY: _("You still had time to take your records along."),
    Reason.NOT_ASKED_FOR: _("Reason given: you had not asked for it."),
    Reason.NOT_AGREED: _("Reason given: it was not agreed with those responsible."),
    Reason.PARTNER_ASKED: _("Reason given: the partner asked for it."),
    Reason.WORK_ON_SYSTEMS: _("Reason given: work on the systems."),
    Reason.SOMETHING_WRONG: _("Reason given: something looks wrong there."),
}

#: What became of a record on its way between institutions, and why.
ON_THE_WAY: Mapping[str, Any] = {
    DeliveryReason.CREATED: _("The record was new."),
    DeliveryReason.REGISTERED: _("It arrived and was put with your records."),
    DeliveryReason.DUPLICATE: _("It had arrived before."),
    DeliveryReason.DEMOGRAPHICS_DIFFER: _(
        "Name or date of birth were not the same in both institutions. Somebody looks at it."
    ),
    DeliveryReason.PATIENT_AMBIGUOUS: _("It was not certain that you were meant."),
    DeliveryReason.ORIGINAL_MISSING: _("The record that this one corrects had not arrived."),
    DeliveryReason.CONTENT_INVALID: _("The content could not be read."),
    DeliveryReason.SIGNATURE_INVALID: _("The signature was not valid."),
    DeliveryReason.CORRECTION_UNFIT: _("The correction does not fit the record it corrects."),
    DeliveryReason.DIGEST_CONFLICT: _("Something else had been sent under the same number."),
    DeliveryReason.IDENTIFIER_MISMATCH: _("The patient's number was not the right one."),
    DeliveryReason.REJECTED_THERE: _("The other institution did not take it."),
    DeliveryReason.PATIENT_UNKNOWN: _("The other institution does not know you as a patient."),
    DeliveryReason.UNREACHABLE: _("The other institution could not be reached."),
    DeliveryReason.BUSY: _("The other institution was busy."),
    DeliveryReason.STALE_OFFER: _("The sending was interrupted."),
    DeliveryReason.NO_ANSWER: _("The other institution did not answer."),
    DeliveryReason.CHANNEL_REFUSED: _("There was no secure connection."),
    DeliveryReason.PROTOCOL_ERROR: _("The other institution answered something unexpected."),
    DeliveryReason.RECEIPT_INVALID: _("The other institution's receipt was not valid."),
    DeliveryReason.PARTNER_NOT_TRUSTED: _("The other institution is not trusted here any more."),
    DeliveryReason.CANNOT_OPEN: _("The record could not be prepared for sending."),
    DeliveryReason.RECEIVER_RESTORED: _("The other institution had lost it and got it once more."),
    DeliveryReason.RULE_HERE: _("A rule of yours stopped it."),
    DeliveryReason.RULE_LIFTED: _("The rule of yours that had stopped it is over."),
    DeliveryReason.UNSPECIFIED: _("The other institution gave no reason."),
}

#: What the refused page would have shown; other pages are told as pages about the patient.
PAGES: Mapping[str, Any] = {
    "patient": _("Your page with the overview"),
    "record": _("One of your records"),
    "record-new": _("The page on which records are written"),
    "record-delivery": _("How one of your records is sent"),
    "record-find": _("A search among your records"),
    "record-amend": _("The page on which a record is corrected"),
    "record-retract": _("The page on which a record is corrected"),
    "record-move": _("The page on which a record is corrected"),
    "record-versions": _("Earlier versions of one of your records"),
    "record-version": _("Earlier versions of one of your records"),
    "record-file": _("One of your records, as a file"),
    "records-export": _("Your records, as a file"),
    "result-acknowledge": _("One of your records"),
    "trends": _("How values changed over time"),
    "trend": _("How values changed over time"),
    "erasure": _("Whether your records are to be erased"),
    "erasure-withdraw": _("Whether your records are to be erased"),
    "care": _("Who looks after you"),
    "care-end": _("Who looks after you"),
    "admission": _("In which ward and bed you are"),
    "discharge": _("In which ward and bed you are"),
    "support": _("Your notes on transport, diet and allergies"),
    "demographics": _("Your personal details"),
    "details-agree": _("Your personal details"),
    "details-withdraw": _("Your personal details"),
    "representatives": _("Who represents you"),
    "representative-agree": _("Who represents you"),
    "representative-end": _("Who represents you"),
    "rules": _("Your rules"),
    "rule": _("Your rules"),
    "rule-new": _("Your rules"),
    "rule-end": _("Your rules"),
    "glass": _("The page for emergency access"),
    "glass-end": _("The page for emergency access"),
    "access-log": _("This log"),
    "access-log-event": _("This log"),
    "access-log-download": _("This log"),
    "patient-code": _("The code with which your account is opened"),
}

#: Programs that act by themselves.
PROCESSES: Mapping[str, Any] = {
    "process:intake": _("Our computer system"),
    "process:sender": _("Our computer system"),
    "process:receiver": _("Our computer system"),
    "process:demo": _("The demonstration"),
    COMMAND_LINE: _("Those who run our computer system"),
    "process:jobs": _("Our computer system"),
    "process:edge": _("Our computer system"),
}
PARTNER = "partner:"
PROCESS = "process:"
YOU = _("You")
NOBODY = _("Somebody who had not signed in")
#: Whose name is not the patient's to know: that they have an account here is private too.
SOMEBODY = _("Somebody with an account here")
BY_ITSELF = _("By itself, without a person")


def telling_of(event: Event) -> Telling:
    """Return how an event is told."""
    if event.action is Action.ACCESS_LOG_VIEWED and "format" in event.details:
        return DOWNLOADED
    return TOLD.get(event.action, UNTOLD)


def sentence_of(event: Event, who: str) -> Any:
    """Return what happened as one sentence; ``who`` is in the page's language already."""
    told = telling_of(event)
    words = told.done if event.outcome is Outcome.ALLOWED else told.tried
    return words % {"who": who}


def why(code: str) -> Any:
    """Return one reason as a sentence; a code that has none is shown as it is."""
    found = REASONS.get(code) or ON_THE_WAY.get(code)
    return found or _("Noted with the code ${code}.", mapping={"code": code})


def page_of(event: Event) -> Any | None:
    """Return what a refused page would have shown, if that is known."""
    return PAGES.get(str(event.details.get("route", "")))


def topic_actions(topic: Topic) -> tuple[Action, ...]:
    """Return the actions that belong to a topic."""
    return tuple(action for action, told in TOLD.items() if told.topic is topic)
