"""Audit events in words: what was done, how it ended, why."""

from typing import Any

from medportal.audit.events import Action, Outcome
from medportal.core.reasons import Reason
from medportal.web.i18n import _

ACTIONS = {
    Action.SIGN_IN: _("Signed in"),
    Action.SIGN_IN_FAILED: _("Sign-in failed"),
    Action.SIGN_OUT: _("Signed out"),
    Action.SESSION_ENDED: _("Session ended"),
    Action.PASSWORD_CHANGED: _("Password change"),
    Action.ACCOUNT_CREATED: _("Account created"),
    Action.ACCOUNT_ACTIVATED: _("Account activation"),
    Action.ACCOUNT_SUSPENDED: _("Account suspended"),
    Action.ROLES_CHANGED: _("Roles changed"),
    Action.PATIENT_REGISTERED: _("Patient registered"),
    Action.PATIENT_CHANGED: _("Patient's data changed"),
    Action.PATIENTS_LISTED: _("List of patients seen"),
    Action.PATIENT_SOUGHT: _("Patient looked up by number"),
    Action.PATIENT_VIEWED: _("Patient's page seen"),
    Action.CARE_ASSIGNED: _("Put in charge of the patient"),
    Action.CARE_ENDED: _("Charge of the patient ended"),
    Action.RECORD_CREATED: _("Record signed"),
    Action.RECORD_READ: _("Record read"),
    Action.RECORDS_LISTED: _("List of records seen"),
    Action.RECORD_RECEIVED: _("Record received from a partner"),
    Action.RECORD_FILED: _("Received record filed"),
    Action.QUERY_RECEIVED: _("A partner asked for the patient"),
    Action.DELIVERY_QUEUED: _("Record queued for a partner"),
    Action.DELIVERY_ATTEMPTED: _("Delivery to a partner tried"),
    Action.DELIVERY_RECEIPTED: _("Partner's receipt"),
    Action.DELIVERIES_VIEWED: _("Deliveries seen"),
    Action.PEER_REFUSED: _("Partner refused"),
    Action.ACCESS_DENIED: _("Access refused"),
    Action.AUDIT_VIEWED: _("Audit log seen"),
    Action.PARTNER_TRUSTED: _("Partner trusted"),
    Action.PARTNER_REVOKED: _("Partner revoked"),
    Action.KEYS_CREATED: _("Keys created"),
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
    Reason.THROTTLED: _("too many tries"),
}
PROCESSES = {
    "process:intake": _("Intake"),
    "process:sender": _("Sender"),
    "process:receiver": _("Receiver"),
    "process:demo": _("Demonstration"),
    "process:command-line": _("Command line"),
}


def action_words(action: Action) -> Any:
    """Return what was done; an action that has no page yet keeps its code."""
    return ACTIONS.get(action, str(action))


def reason_words(code: str) -> Any:
    """Return a reason in words; a code of a partner or of the transfer keeps its form."""
    return REASONS.get(Reason(code), code) if code in set(Reason) else code
