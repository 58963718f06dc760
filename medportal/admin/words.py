"""Administration in words: what was done, how it ended, why, and why not."""

from typing import Any

from pyramid.request import Request

from medportal.admin.models import ApprovalKind, ApprovalState
from medportal.audit.events import COMMAND_LINE, Action, Outcome
from medportal.core.reasons import Reason
from medportal.web.i18n import _

ACTIONS = {
    Action.SIGN_IN: _("Signed in"),
    Action.SIGN_IN_FAILED: _("Sign-in failed"),
    Action.SECOND_FACTOR_AWAITED: _("Password right, second proof awaited"),
    Action.SIGN_OUT: _("Signed out"),
    Action.SESSION_ENDED: _("Session ended"),
    Action.PASSWORD_CHANGED: _("Password change"),
    Action.ACCOUNT_CREATED: _("Account created"),
    Action.ACCOUNT_CHANGED: _("Account settings changed"),
    Action.ACCOUNT_ACTIVATED: _("Account activation"),
    Action.ACCOUNT_SUSPENDED: _("Account suspended"),
    Action.ACCOUNT_REINSTATED: _("Account reinstated"),
    Action.ROLES_CHANGED: _("Roles changed"),
    Action.PEOPLE_LISTED: _("List of people seen"),
    Action.PERSON_SOUGHT: _("Person looked up by number"),
    Action.PERSON_VIEWED: _("Person's account seen"),
    Action.CODE_ISSUED: _("Code for the desk issued"),
    Action.LINK_REQUESTED: _("Link by email asked for"),
    Action.IDENTITY_CONFIRMED: _("Identity confirmed again"),
    Action.SECOND_FACTOR_ADDED: _("Second proof added"),
    Action.SECOND_FACTOR_REMOVED: _("Second proof removed"),
    Action.PASSKEY_RENAMED: _("Passkey renamed"),
    Action.RECOVERY_CODES_MADE: _("Recovery codes made"),
    Action.EMAIL_CHANGE_REQUESTED: _("Change of the email address asked for"),
    Action.EMAIL_CHANGE_CANCELLED: _("Change of the email address called off"),
    Action.EMAIL_CHANGED: _("Email address changed"),
    Action.APPROVAL_REQUESTED: _("Approval asked for"),
    Action.APPROVAL_GRANTED: _("Approved"),
    Action.APPROVAL_REFUSED: _("Approval refused"),
    Action.APPROVAL_WITHDRAWN: _("Request withdrawn"),
    Action.APPROVAL_EXPIRED: _("Request expired"),
    Action.APPROVALS_VIEWED: _("Approvals seen"),
    Action.SETTINGS_VIEWED: _("Settings seen"),
    Action.SETTINGS_CHANGED: _("Settings changed"),
    Action.PATIENT_REGISTERED: _("Patient registered"),
    Action.PATIENT_CHANGED: _("Patient's data changed"),
    Action.PATIENT_CHANGE_ASKED: _("Change of a patient's data asked for"),
    Action.PATIENT_CHANGE_WITHDRAWN: _("Change of a patient's data not made"),
    Action.PATIENTS_LISTED: _("List of patients seen"),
    Action.PATIENT_SOUGHT: _("Patient looked up by number"),
    Action.PATIENT_VIEWED: _("Patient's page seen"),
    Action.CARE_ASSIGNED: _("Put in charge of the patient"),
    Action.CARE_ENDED: _("Charge of the patient ended"),
    Action.RULE_CHANGED: _("Patient's rules changed"),
    Action.GLASS_BROKEN: _("Emergency access"),
    Action.GLASS_CLOSED: _("Emergency access ended"),
    Action.GLASS_REVIEWED: _("Emergency access reviewed"),
    Action.COMPLAINT_MADE: _("Patient asked about an access"),
    Action.COMPLAINT_ANSWERED: _("Patient's question about an access answered"),
    Action.OVERSIGHT_VIEWED: _("Oversight page seen"),
    Action.ACCESS_LOG_VIEWED: _("Access log seen"),
    Action.RULES_VIEWED: _("Patient's rules seen"),
    Action.RULE_ENDED: _("Patient's rule ended"),
    Action.PATIENT_ADMITTED: _("Patient admitted"),
    Action.PATIENT_DISCHARGED: _("Patient discharged"),
    Action.SUPPORT_CHANGED: _("Transport, diet or allergies changed"),
    Action.TEAM_CHANGED: _("Team of a ward changed"),
    Action.WARDS_VIEWED: _("Wards seen"),
    Action.REPRESENTATIVE_MADE: _("Representative named"),
    Action.REPRESENTATIVE_ENDED: _("Representative's right ended"),
    Action.DELIVERY_WITHHELD: _("Delivery held back by the patient's rule"),
    Action.DELIVERY_RELEASED: _("Delivery no longer held back"),
    Action.RECORD_CREATED: _("Record signed"),
    Action.RECORD_AMENDED: _("Record amended"),
    Action.RECORD_READ: _("Record read"),
    Action.RECORDS_LISTED: _("List of records seen"),
    Action.RECORD_EXPORTED: _("Record exported"),
    Action.RESULTS_VIEWED: _("New results seen"),
    Action.RESULT_ACKNOWLEDGED: _("Result noted as seen"),
    Action.RESULT_ESCALATED: _("Team reminded of a result that waits"),
    Action.HELD_VIEWED: _("Results that were held back seen"),
    Action.HELD_DECIDED: _("Decision about a result that was held back"),
    Action.RECORD_RECEIVED: _("Record received from a partner"),
    Action.RECORD_FILED: _("Received record filed"),
    Action.QUERY_RECEIVED: _("A partner asked for the patient"),
    Action.DELIVERY_QUEUED: _("Record queued for a partner"),
    Action.DELIVERY_ATTEMPTED: _("Delivery to a partner tried"),
    Action.DELIVERY_RECEIPTED: _("Partner's receipt"),
    Action.DELIVERIES_VIEWED: _("Deliveries seen"),
    Action.CERTIFICATES_VIEWED: _("Certificates seen"),
    Action.PARTNERS_VIEWED: _("Partners seen"),
    Action.PARTNER_HELD: _("What goes to a partner held"),
    Action.PARTNER_LET_GO: _("What goes to a partner let go"),
    Action.DELIVERY_HURRIED: _("Delivery to a partner tried again at once"),
    Action.DELIVERY_VIEWED: _("Delivery seen"),
    Action.PEER_REFUSED: _("Partner refused"),
    Action.ACCESS_DENIED: _("Access refused"),
    Action.AUDIT_VIEWED: _("Audit log seen"),
    Action.AUDIT_EXPORTED: _("Audit log exported"),
    Action.AUDIT_PRUNED: _("Old audit events forgotten"),
    Action.PARTNER_TRUSTED: _("Partner trusted"),
    Action.PARTNER_REVOKED: _("Partner revoked"),
    Action.KEYS_CREATED: _("Keys created"),
    Action.KEYS_ROTATED: _("Keys renewed"),
    Action.PASSPHRASE_CHANGED: _("Passphrase of keys changed"),
    Action.EDGE_KEYS_GIVEN: _("Keys handed to the edge"),
    Action.DOCUMENTS_COPIED: _("Documents copied to another store"),
    Action.DOCUMENTS_SWEPT: _("Documents without a record set aside or removed"),
    Action.PATIENT_KEY_DESTROYED: _("Patient's key destroyed"),
    Action.ERASURE_ASKED: _("Erasure of a patient's records asked for"),
    Action.ERASURE_WITHDRAWN: _("Erasure called off"),
    Action.ERASURE_AGREED: _("Erasure agreed to"),
    Action.ERASURE_REFUSED: _("Erasure refused"),
    Action.ERASURES_VIEWED: _("Erasures seen"),
    Action.CERTIFICATE_ISSUED: _("Certificate issued"),
    Action.CERTIFICATE_REVOKED: _("Certificate revoked"),
    Action.BACKUP_MADE: _("Backup made"),
    Action.TENANT_CREATED: _("Institution set up"),
    Action.DEMO_LOADED: _("Demonstration data loaded"),
    Action.RESTORED: _("Restored from a backup"),
}
OUTCOMES = {
    Outcome.ALLOWED: ("ok", _("Allowed")),
    Outcome.DENIED: ("warn", _("Refused")),
    Outcome.FAILED: ("bad", _("Failed")),
}
REASONS = {
    Reason.ROLE_ANY: _("by role"),
    Reason.ASSIGNED_CARE: _("looks after the patient"),
    Reason.OWN_RECORD: _("own record"),
    Reason.AUTHOR: _("wrote it"),
    Reason.WARD_TEAM: _("in the team of the ward"),
    Reason.TREATING: _("treating doctor"),
    Reason.REPRESENTATIVE: _("represents the patient"),
    Reason.PATIENT_ALLOWS: _("the patient allows it"),
    Reason.BROKEN_GLASS: _("emergency access"),
    Reason.PATIENT_BLOCKS: _("the patient blocks it"),
    Reason.NO_RULE_ALLOWS: _("no rule of the patient allows it"),
    Reason.GLASS_NOT_BROKEN: _("no emergency access"),
    Reason.NOT_AUTHOR: _("did not write it"),
    Reason.EMERGENCY: _("emergency"),
    Reason.COVERING: _("covering for a colleague"),
    Reason.REFERRAL: _("asked for advice"),
    Reason.SAFETY: _("safety of the patient"),
    Reason.OTHER: _("another reason"),
    Reason.JUSTIFIED: _("justified"),
    Reason.NOT_JUSTIFIED: _("not justified"),
    Reason.FOLLOWED_UP: _("followed up"),
    Reason.SIGNED_IN: _("signed in"),
    Reason.NOT_SIGNED_IN: _("not signed in"),
    Reason.NO_ROLE: _("no role for it"),
    Reason.NOT_ASSIGNED: _("does not look after the patient"),
    Reason.NOT_OWN: _("not the own record"),
    Reason.SENSITIVE: _("sensitive category"),
    Reason.OWN_RECORD_ONLY_AS_PATIENT: _("own record only as a patient"),
    Reason.NO_SUCH_THING: _("no such thing"),
    Reason.WRONG_CREDENTIALS: _("wrong number, password or code"),
    Reason.SUSPENDED: _("suspended"),
    Reason.RESTORED_FROM_BACKUP: _("restored from a backup"),
    Reason.THROTTLED: _("too many tries"),
    Reason.WRONG_CODE: _("wrong code"),
    Reason.USED_CODE: _("code used already"),
    Reason.EXPIRED: _("too old"),
    Reason.LINK_NEEDED: _("the emailed link was missing"),
    Reason.UNKNOWN_PASSKEY: _("unknown passkey"),
    Reason.WRONG_SITE: _("passkey made for another address"),
    Reason.POSSIBLE_CLONE: _("passkey possibly copied"),
    Reason.TOO_MANY: _("too many at once"),
    Reason.SECOND_FACTOR_NEEDED: _("second proof needed"),
    Reason.SECOND_FACTOR_NEEDED_OFF_SITE: _("second proof needed outside the institution"),
    Reason.PASSWORD_TOO_SHORT: _("password too short to be the only proof"),
    Reason.NOT_CONFIRMED_LATELY: _("identity not confirmed lately"),
    Reason.NEW_DUTY: _("new duty"),
    Reason.DUTY_ENDED: _("duty ended"),
    Reason.LEFT: _("left the institution"),
    Reason.PERSON_ASKED: _("the person asked for it"),
    Reason.LOST_DEVICE: _("device or code lost"),
    Reason.SUSPECTED_MISUSE: _("misuse suspected"),
    Reason.CORRECTION: _("correction of a mistake"),
    Reason.OWN_ACCOUNT: _("own account"),
    Reason.SECOND_PERSON_NEEDED: _("a second person is needed"),
    Reason.APPROVED_BY_SECOND_PERSON: _("approved by a second person"),
    Reason.LAST_ADMIN: _("last person who manages accounts"),
    Reason.NOTHING_NEW: _("so already"),
    Reason.OVERTAKEN: _("no longer makes sense"),
    Reason.CHANGED_MEANWHILE: _("changed since it was looked at"),
    Reason.NOT_READ: _("not read before"),
    Reason.LOOSER_THAN_FILE: _("looser than the institution's file allows"),
    Reason.WRONG_DATA: _("the data are not right"),
    Reason.KEPT_BY_DUTY: _("the records must be kept"),
    Reason.TOO_EARLY: _("the patient still has time"),
    Reason.NOT_ASKED_FOR: _("the person did not ask for it"),
    Reason.NOT_AGREED: _("not agreed with those responsible"),
    Reason.PARTNER_ASKED: _("the partner asked for it"),
    Reason.WORK_ON_SYSTEMS: _("work on the systems"),
    Reason.SOMETHING_WRONG: _("something looks wrong there"),
}
#: Why an account is changed, as a form offers it and as pages tell it.
WHY = {
    Reason.NEW_DUTY: _("New duty"),
    Reason.DUTY_ENDED: _("The duty has ended"),
    Reason.LEFT: _("The person has left the institution"),
    Reason.PERSON_ASKED: _("The person asked for it"),
    Reason.LOST_DEVICE: _("A device or a code was lost"),
    Reason.SUSPECTED_MISUSE: _("Misuse is suspected"),
    Reason.CORRECTION: _("To correct a mistake"),
    Reason.WRONG_DATA: _("The data are not right"),
    Reason.NOT_ASKED_FOR: _("The person did not ask for it"),
    Reason.NOT_AGREED: _("Not agreed with those responsible"),
    Reason.APPROVED_BY_SECOND_PERSON: _("Approved by a second person"),
}
PROCESSES = {
    "process:intake": _("Intake"),
    "process:sender": _("Sender"),
    "process:receiver": _("Receiver"),
    "process:demo": _("Demonstration"),
    COMMAND_LINE: _("Command line"),
    "process:jobs": _("Jobs"),
}


KINDS = {
    ApprovalKind.GRANT_ROLE: _("Give a role"),
    ApprovalKind.RESET_SECOND_FACTOR: _("Remove the second proof"),
    ApprovalKind.CHANGE_EMAIL: _("Change the email address"),
    ApprovalKind.ISSUE_CODE: _("Issue a new code"),
}
STATES = {
    ApprovalState.WAITING: ("wait", _("Waiting")),
    ApprovalState.GRANTED: ("ok", _("Approved")),
    ApprovalState.REFUSED: ("bad", _("Refused")),
    ApprovalState.WITHDRAWN: ("plain", _("Withdrawn")),
    ApprovalState.EXPIRED: ("plain", _("Expired")),
}
#: Why something cannot be done to an account, in words that say what to do next.
REFUSALS = {
    Reason.OWN_ACCOUNT: _(
        "This concerns your own account. Nobody changes their own here: ask a colleague."
    ),
    Reason.LAST_ADMIN: _(
        "This is the last person who can sign in and manage accounts. Let somebody else become "
        "an administrator first."
    ),
    Reason.SUSPENDED: _(
        "This account is suspended, or held for review after a restore. Reinstate it first."
    ),
    Reason.NOTHING_NEW: _(
        "Nothing was changed: this is so already, or a colleague's approval is waited for "
        "already. Go back to the person's page to see how it stands."
    ),
    Reason.TOO_MANY: _(
        "No email was sent: several went out within the hour, or there is no email address. "
        "Try again in an hour."
    ),
    Reason.NO_SUCH_THING: _("That does not exist any more. Go back and reload the page."),
    Reason.SECOND_PERSON_NEEDED: _(
        "You asked for this yourself. Another colleague has to decide it."
    ),
    Reason.NO_ROLE: _("You cannot decide this any more. Ask a colleague."),
    Reason.CHANGED_MEANWHILE: _(
        "The person's email address or roles have changed since you opened this page. What you "
        "see now is how they are: check it again."
    ),
    Reason.OVERTAKEN: _(
        "This cannot be approved any more: the role, the person's account or the colleague who "
        "asked has changed since. Refuse it, and have it asked for anew."
    ),
}


def action_words(action: Action) -> Any:
    """Return what was done; an action that has no page yet keeps its code."""
    return ACTIONS.get(action, str(action))


def reason_words(code: str) -> Any:
    """Return a reason in words; a code of a partner or of the transfer keeps its form."""
    return REASONS.get(Reason(code), code) if code in set(Reason) else code


def why_words(code: str) -> Any:
    """Return why an account was changed."""
    return WHY.get(Reason(code), code) if code in set(Reason) else code


def kind_words(kind: ApprovalKind) -> Any:
    """Return what is asked for."""
    return KINDS[kind]


def role_words(request: Request, role: str) -> str:
    """Return a role's name in the language of the page; one that is gone keeps its id."""
    known = request.tenant.roles.get(role)
    return known.names[request.locale_name] if known else role


def person_state(active: bool, held: bool, activated: bool) -> tuple[str, Any]:
    """Return the kind of tag and the words for how an account stands."""
    if held:
        return "wait", _("Held for review after a restore")
    if not active:
        return "bad", _("Suspended")
    return ("ok", _("Active")) if activated else ("wait", _("Not activated yet"))
