"""What one can do from a patient's page: links, made from the decision."""

from typing import Any

from pyramid.request import Request

from medportal.access.resources import PatientContext
from medportal.core.permissions import Permission
from medportal.web.i18n import _

#: Permission, words for the patient, words for others, route.
WAYS: tuple[tuple[Permission, Any, Any, str], ...] = (
    (Permission.RULES_MANAGE, _("Who may see my record"), _("Who may see this record"), "rules"),
    (
        Permission.ACCESS_LOG_VIEW,
        _("Who looked at my record"),
        _("Who looked at this record"),
        "access-log",
    ),
    (
        Permission.SUPPORT_KEEP,
        _("Transport, diet, allergies"),
        _("Transport, diet, allergies"),
        "support",
    ),
    (Permission.CARE_MANAGE, _("Ward and bed"), _("Ward and bed"), "admission"),
    (
        Permission.DEMOGRAPHICS_KEEP,
        _("Change the details"),
        _("Change the details"),
        "demographics",
    ),
    (
        Permission.DEMOGRAPHICS_KEEP,
        _("Who stands for this patient"),
        _("Who stands for this patient"),
        "representatives",
    ),
    (
        Permission.PATIENTS_REGISTER,
        _("New code, for a patient who cannot get into the account"),
        _("New code, for a patient who cannot get into the account"),
        "patient-code",
    ),
    (
        Permission.GLASS_BREAK,
        _("Emergency access to this record"),
        _("Emergency access to this record"),
        "glass",
    ),
)
#: Routes of institutions that have wards.
OF_WARDS = frozenset({"admission"})
#: Routes that nobody takes to themselves, though the permission names no patient.
OF_OTHERS = frozenset({"patient-code"})


def ways_on(context: PatientContext, request: Request) -> list[tuple[str, str]]:
    """Return (words, address) of what the person can do about this patient, besides records."""
    is_self = context.patient.is_self
    found = []
    for permission, own, others, route in WAYS:
        if not context.decision.allows(permission):
            continue
        if (is_self and route in OF_OTHERS) or (route in OF_WARDS and not request.tenant.wards):
            continue
        address = request.route_path(route, patient=context.patient_id)
        found.append((own if is_self else others, address))
    return found
