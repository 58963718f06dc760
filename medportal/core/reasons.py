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
    SIGNED_IN = "signed-in"
    # Decisions that deny.
    NOT_SIGNED_IN = "not-signed-in"
    NO_ROLE = "no-role"
    NOT_ASSIGNED = "not-assigned"
    NOT_OWN = "not-own"
    SENSITIVE = "sensitive-category"
    OWN_RECORD_ONLY_AS_PATIENT = "own-record-only-as-patient"
    NO_SUCH_THING = "no-such-thing"
    # Sign-in.
    WRONG_CREDENTIALS = "wrong-credentials"
    SUSPENDED = "suspended"
    THROTTLED = "throttled"
