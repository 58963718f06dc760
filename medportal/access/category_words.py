"""The categories of records in plain words."""

from collections.abc import Mapping
from typing import Any

from medportal.web.i18n import _

CATEGORY_WORDS: Mapping[str, Any] = {
    "vital-signs": _("Vital signs"),
    "laboratory": _("Laboratory results"),
    "clinical-note": _("Medical record"),
    "mental-health": _("Mental health"),
    "sexual-health": _("Sexual health"),
    "substance-use": _("Substance use"),
    "genetics": _("Genetics"),
}
