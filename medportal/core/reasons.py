"""Reason codes: why a decision, a refusal or an outcome came about (PURE).

Codes go into the audit log; people see a sentence made from them, in their language.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why."""

    # Decisions that allow.
    ROLE_ANY = "role-any"
    ASSIGNED_CARE = "assigned-care"
    OWN_RECORD = "own-record"
    AUTHOR = "author"
    #: Through the team of a ward.
    WARD_TEAM = "ward-team"
    TREATING = "treating-doctor"
    REPRESENTATIVE = "representative"
    #: The patient allows it.
    PATIENT_ALLOWS = "patient-allows"
    BROKEN_GLASS = "broken-glass"
    SIGNED_IN = "signed-in"
    # Decisions that deny.
    NOT_SIGNED_IN = "not-signed-in"
    NO_ROLE = "no-role"
    NOT_ASSIGNED = "not-assigned"
    NOT_OWN = "not-own"
    SENSITIVE = "sensitive-category"
    OWN_RECORD_ONLY_AS_PATIENT = "own-record-only-as-patient"
    NO_SUCH_THING = "no-such-thing"
    #: A rule of the patient blocks it.
    PATIENT_BLOCKS = "patient-blocks"
    NO_RULE_ALLOWS = "no-rule-allows"
    GLASS_NOT_BROKEN = "glass-not-broken"
    NOT_AUTHOR = "not-author"
    # Sign-in.
    WRONG_CREDENTIALS = "wrong-credentials"
    SUSPENDED = "suspended"
    #: A backup was restored, and brought back what had been ended since.
    RESTORED_FROM_BACKUP = "restored-from-backup"
    THROTTLED = "throttled"
    WRONG_CODE = "wrong-code"
    USED_CODE = "used-code"
    EXPIRED = "expired"
    #: The code was right, and the mailed link is needed too.
    LINK_NEEDED = "link-needed"
    UNKNOWN_PASSKEY = "unknown-passkey"
    #: A passkey's answer was made for another address: somebody may be fishing for it.
    WRONG_SITE = "wrong-site"
    #: A passkey's counter went back: somebody may have a copy of it.
    POSSIBLE_CLONE = "possible-clone"
    TOO_MANY = "too-many"
    # Why roles do not count in a session.
    SECOND_FACTOR_NEEDED = "second-factor-needed"
    SECOND_FACTOR_NEEDED_OFF_SITE = "second-factor-needed-off-site"
    PASSWORD_TOO_SHORT = "password-too-short"  # noqa: S105  (a name)
    NOT_CONFIRMED_LATELY = "not-confirmed-lately"
    # Why staff changed an account.
    NEW_DUTY = "new-duty"
    DUTY_ENDED = "duty-ended"
    LEFT = "left"
    PERSON_ASKED = "person-asked"
    LOST_DEVICE = "lost-device"
    SUSPECTED_MISUSE = "suspected-misuse"
    CORRECTION = "correction"
    # Why what goes to a partner is held.
    PARTNER_ASKED = "partner-asked"
    WORK_ON_SYSTEMS = "work-on-systems"
    SOMETHING_WRONG = "something-wrong"
    # Why somebody broke the glass.
    EMERGENCY = "emergency"
    COVERING = "covering-for-a-colleague"
    REFERRAL = "asked-for-advice"
    SAFETY = "safety-of-the-patient"
    OTHER = "other"
    # What a review or an answer to a complaint found.
    JUSTIFIED = "justified"
    NOT_JUSTIFIED = "not-justified"
    FOLLOWED_UP = "followed-up"
    # Rules of administration.
    OWN_ACCOUNT = "own-account"
    SECOND_PERSON_NEEDED = "second-person-needed"
    APPROVED_BY_SECOND_PERSON = "approved-by-second-person"
    LAST_ADMIN = "last-admin"
    #: What was asked for is so already.
    NOTHING_NEW = "nothing-new"
    #: What was asked for no longer makes sense: somebody left, or a role is gone.
    OVERTAKEN = "overtaken"
    #: What was looked at has changed since: another address, or other roles.
    CHANGED_MEANWHILE = "changed-meanwhile"
    #: Nobody can note that they have seen what they have not opened.
    NOT_READ = "not-read"
    #: Less strict than what the institution's file says.
    LOOSER_THAN_FILE = "looser-than-file"
    # Why a second person refused.
    WRONG_DATA = "wrong-data"
    NOT_ASKED_FOR = "not-asked-for"
    NOT_AGREED = "not-agreed"
    #: Erasure: the records must still be kept, or the patient still has time.
    KEPT_BY_DUTY = "kept-by-duty"
    TOO_EARLY = "too-early"
