"""Every permission there is, ``scope:resource:action`` (PURE).

A role's catalogue entry in ``tenants/*.toml`` maps a permission to a :class:`Reach`.
"""

from enum import StrEnum


class Permission(StrEnum):
    """What may be done, in one list that a privacy officer can read."""

    HOME_VIEW = "portal:home:view"
    ACCOUNT_CHANGE = "account:password:change"
    PATIENTS_LIST = "patients:list:view"
    PATIENTS_REGISTER = "patients:registry:register"
    PATIENTS_FIND = "patients:registry:find"
    TEAMS_MANAGE = "patients:teams:manage"
    PATIENT_SEE = "patient:summary:view"
    PATIENT_BED = "patient:bed:view"
    PATIENT_TRANSPORT = "patient:transport:view"
    PATIENT_ALERTS = "patient:alerts:view"
    PATIENT_VITALS = "patient:vitals:view"
    PATIENT_DEMOGRAPHICS = "patient:demographics:view"
    DEMOGRAPHICS_KEEP = "patient:demographics:keep"
    SUPPORT_KEEP = "patient:support:keep"
    CARE_MANAGE = "patient:care:manage"
    RECORD_LIST = "patient:records:list"
    RECORD_READ = "patient:record:read"
    RECORD_CREATE = "patient:record:create"
    RECORD_AMEND = "patient:record:amend"
    RECORD_EXPORT = "patient:record:export"
    RESULT_ACKNOWLEDGE = "patient:result:acknowledge"
    GLASS_BREAK = "patient:glass:break"
    RULES_MANAGE = "patient:rules:manage"
    ACCESS_LOG_VIEW = "patient:access-log:view"
    COMPLAINT_MAKE = "patient:complaint:make"
    DELIVERY_FOLLOW = "delivery:state:view"
    DELIVERIES_VIEW = "delivery:queue:view"
    HELD_DECIDE = "delivery:held:decide"
    ERASURE_DECIDE = "patients:erasure:decide"
    AUDIT_VIEW = "audit:log:view"
    AUDIT_EXPORT = "audit:log:export"
    REVIEWS_DECIDE = "oversight:reviews:decide"
    COMPLAINTS_ANSWER = "oversight:complaints:answer"
    PEOPLE_MANAGE = "accounts:people:manage"
    APPROVALS_DECIDE = "accounts:approvals:decide"
    SETTINGS_MANAGE = "institution:settings:manage"
    PARTNERS_MANAGE = "institution:partners:manage"


class Reach(StrEnum):
    """Over whom a role holds a permission."""

    ANY = "any"
    ASSIGNED = "assigned"
    OWN = "own"
