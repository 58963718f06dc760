"""The institution's settings in words: parts, keys, values, and why one is refused."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from chameleon.utils import Markup
from pyramid.request import Request

from medportal.core.permissions import Permission, Reach
from medportal.tenancy.logo import size
from medportal.tenancy.overlay import LOGO, Overlaid, Value, Why, values_of
from medportal.tenancy.tenant import Mail, Role, SessionPolicy, Tenant
from medportal.web.i18n import _, plural, translate

#: The parts of the settings that can be edited, one page each.
PARTS = {
    "names": _("Names"),
    "colours": _("Colours"),
    LOGO: _("Logo"),
    "contact": _("How to reach us"),
    "passwords": _("Passwords"),
    "sessions": _("Time until people are signed out"),
    "second_factor": _("Second proof"),
}
KEYS = {
    "names.en": _("Name in English"),
    "names.pt": _("Name in Portuguese"),
    "colours.brand": _("Background of the page header"),
    "colours.brand_text": _("Text on that background"),
    "colours.accent": _("Links"),
    LOGO: _("Logo"),
    "contact.phone": _("Phone"),
    "contact.email": _("Email"),
    "contact.address": _("Address"),
    "passwords.minimum_length": _("Minimum password length"),
    "passwords.minimum_with_second_factor": _("Minimum password length with a second proof"),
    "sessions.idle_minutes": _("Signed out after this time without use"),
    "sessions.absolute_minutes": _("Signed out at the latest after"),
    "second_factor.remote_staff": _("Staff need a second proof outside the institution"),
}
LEFT_OUT = {
    Why.NOT_EDITABLE: _("The institution's file no longer leaves this to you."),
    Why.UNKNOWN: _("There is no such setting any more."),
    Why.MALFORMED: _("It is damaged, or not what the institution's file allows."),
    Why.SIGNS: _("It has signs that do not belong there."),
    Why.CONTRAST: _("The colours cannot be told apart well enough."),
    Why.OUT_OF_BOUNDS: _("It is less strict than the institution's file."),
}
LOGO_REFUSED = {
    "too-large": _("This picture is too large: choose one of at most 64 KB."),
    "not-png": _("This is no PNG picture. Save your logo as PNG and choose that file."),
    "damaged": _("This picture is damaged or unusual. Save your logo as PNG again."),
    "too-wide": _("This picture has too many pixels: at most 1024 wide and 1024 high."),
    "too-small": _("This picture is too small: at least 16 pixels wide and 16 high."),
}
PERMISSIONS = {
    Permission.HOME_VIEW: _("See the start page"),
    Permission.ACCOUNT_CHANGE: _("Change the own account"),
    Permission.PATIENTS_LIST: _("See the list of patients"),
    Permission.PATIENTS_FIND: _("Find a patient by exact number"),
    Permission.PATIENTS_REGISTER: _("Register patients"),
    Permission.TEAMS_MANAGE: _("Keep the teams of the wards"),
    Permission.PATIENT_SEE: _("See a patient's name and ward"),
    Permission.PATIENT_BED: _("See a patient's bed"),
    Permission.PATIENT_DEMOGRAPHICS: _("See a patient's date of birth, sex and contact"),
    Permission.PATIENT_TRANSPORT: _("See how to move a patient"),
    Permission.PATIENT_ALERTS: _("See a patient's diet and allergies"),
    Permission.PATIENT_VITALS: _("See a patient's latest vital signs"),
    Permission.DEMOGRAPHICS_KEEP: _("Keep a patient's details up to date"),
    Permission.SUPPORT_KEEP: _("Enter transport notes, diet and allergies"),
    Permission.CARE_MANAGE: _("Say who looks after a patient"),
    Permission.RECORD_LIST: _("See which records there are"),
    Permission.RECORD_READ: _("Read records"),
    Permission.RECORD_CREATE: _("Write records"),
    Permission.RECORD_AMEND: _("Correct records, or add to them"),
    Permission.RECORD_EXPORT: _("Take records along as a file"),
    Permission.RESULT_ACKNOWLEDGE: _("Note that a result was seen"),
    Permission.GLASS_BREAK: _("Open a record in an emergency"),
    Permission.RULES_MANAGE: _("Say who may see the record"),
    Permission.ACCESS_LOG_VIEW: _("See who looked at the record"),
    Permission.COMPLAINT_MAKE: _("Ask about an access that looks wrong"),
    Permission.DELIVERY_FOLLOW: _("Follow a delivery"),
    Permission.DELIVERIES_VIEW: _("See all deliveries"),
    Permission.HELD_DECIDE: _("Decide about results that were held back"),
    Permission.ERASURE_DECIDE: _("Ask for the erasure of a patient's records"),
    Permission.AUDIT_VIEW: _("See the audit log"),
    Permission.AUDIT_EXPORT: _("Export the audit log"),
    Permission.REVIEWS_DECIDE: _("Review emergency access"),
    Permission.COMPLAINTS_ANSWER: _("Answer patients' questions about an access"),
    Permission.PEOPLE_MANAGE: _("Manage accounts and roles"),
    Permission.APPROVALS_DECIDE: _("Approve as the second person"),
    Permission.SETTINGS_MANAGE: _("Manage the institution's settings"),
    Permission.PARTNERS_MANAGE: _("See to partners and what goes to them"),
}
REACHES = {
    Reach.ANY: _("For the whole institution"),
    Reach.ASSIGNED: _("For people whom one looks after"),
    Reach.OWN: _("For oneself"),
}
_MINUTE = timedelta(minutes=1)


def key_words(keys: Mapping[str, list[str]], request: Request) -> str:
    """Return the names of changed settings, table -> keys, in one line."""
    dotted = [
        LOGO if table == LOGO else f"{table}.{key}"
        for table, names in keys.items()
        for key in names
    ]
    return ", ".join(translate(request, KEYS.get(key, key)) for key in dotted)


def lines_of(request: Request, tenant: Tenant, part: str) -> list[tuple[str, str, Any]]:
    """Return what a part of the settings says: each key, its name and its value in words."""
    if part == LOGO:
        return [(LOGO, translate(request, KEYS[LOGO]), logo_words(request, tenant))]
    return [
        (
            key,
            translate(request, KEYS[f"{part}.{key}"]),
            value_words(request, f"{part}.{key}", value),
        )
        for key, value in values_of(tenant)[part].items()
    ]


def rows_of(request: Request, tenant: Tenant, part: str) -> list[tuple[str, Any]]:
    """Return the same without the keys."""
    return [(name, value) for _key, name, value in lines_of(request, tenant, part)]


def value_words(request: Request, key: str, value: Value) -> Any:
    """Return the value of a key in words, with its unit."""
    if key.startswith("colours."):
        return swatch(str(value))
    if key.startswith("sessions."):
        return minutes(request, int(value))
    if key.startswith("passwords."):
        return plural(request, "${n} character", "${n} characters", int(value))
    if isinstance(value, bool):
        return yes_or_no(request, value)
    return str(value)


def logo_words(request: Request, tenant: Tenant) -> str:
    """Return what stands for the institution's logo."""
    if tenant.logo is None:
        return translate(request, _("The built-in symbol"))
    width, height = size(tenant.logo)
    words = _("A picture, ${width} by ${height} pixels", mapping={"width": width, "height": height})
    return translate(request, words)


def swatch(colour: str) -> Any:
    """Return a colour as a square and in writing. Only for what was checked to be a colour."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 20 20" aria-hidden="true" focusable="false">'
        f'<rect width="20" height="20" fill="{colour}"/></svg><span class="reference">{colour}'
        "</span>"
    )


def minutes(request: Request, count: int) -> str:
    """Return a time in whole minutes, or hours where they fit."""
    if count % 60 == 0:
        return plural(request, "${n} hour", "${n} hours", count // 60)
    return plural(request, "${n} minute", "${n} minutes", count)


def session_words(request: Request, policy: SessionPolicy) -> str:
    """Return both lifetimes of a session in one line."""
    words = _(
        "After ${idle} without use, at the latest after ${absolute}",
        mapping={
            "idle": minutes(request, policy.idle // _MINUTE),
            "absolute": minutes(request, policy.absolute // _MINUTE),
        },
    )
    return translate(request, words)


def mail_words(request: Request, mail: Mail | None) -> list[tuple[str, Any]]:
    """Return how mail is sent, without anything secret or where that lies."""
    if mail is None:
        return [
            (translate(request, _("Email")), translate(request, _("Not set up: none is sent.")))
        ]
    encrypted = _("From the first byte") if mail.implicit_tls else _("Demanded (STARTTLS)")
    return [
        (translate(request, _("Email server")), mail.server),
        (translate(request, _("From address")), mail.sender),
        (translate(request, _("Encryption")), translate(request, encrypted)),
        (translate(request, _("Signs in at the server")), yes_or_no(request, bool(mail.user))),
    ]


def yes_or_no(request: Request, value: bool) -> str:
    """Return yes or no."""
    return translate(request, _("Yes") if value else _("No"))


def grant_words(request: Request, role: Role) -> str:
    """Return what a role may do, and for whom, in one line."""
    by_reach = {
        reach: [
            translate(request, words)
            for permission, words in PERMISSIONS.items()
            if role.grants.get(permission) is reach
        ]
        for reach in Reach
    }
    return " ".join(
        f"{translate(request, REACHES[reach])}: {'; '.join(found)}."
        for reach, found in by_reach.items()
        if found
    )


def left_out(request: Request, overlaid: Overlaid) -> list[tuple[str, str]]:
    """Return the settings that were changed here and do not count, and why."""
    return [
        (
            translate(request, KEYS.get(key) or PARTS.get(key) or key),
            translate(request, LEFT_OUT[why]),
        )
        for key, why in overlaid.left_out.items()
    ]
