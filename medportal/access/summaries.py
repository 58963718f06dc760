"""What somebody may know of a patient besides the records, made from the decision.

A porter learns where the patient lies and how to move them, and nothing else; the words of
others are not even handed to the page.
"""

from dataclasses import dataclass

from medportal.access.decisions import Decision
from medportal.core.permissions import Permission
from medportal.patients.support import Needs


@dataclass(frozen=True, slots=True)
class Sees:
    """Which parts of a patient's page somebody may see; name and ward they see in any case."""

    birth: bool
    bed: bool
    transport: bool
    alerts: bool
    vitals: bool
    records: bool

    @property
    def tells_more(self) -> bool:
        """Tell whether a card on a list shows more than name and ward."""
        return self.birth or self.bed or self.transport or self.alerts

    def of(self, needs: Needs) -> Needs:
        """Return as much of the support needs as may be seen."""
        return Needs(
            needs.transport if self.transport else "",
            needs.diet if self.alerts else "",
            needs.allergies if self.alerts else "",
        )


def sees_of(decision: Decision) -> Sees:
    """Return which parts a decision opens."""
    records = decision.allows(Permission.RECORD_LIST)
    return Sees(
        birth=decision.allows(Permission.PATIENT_DEMOGRAPHICS),
        bed=decision.allows(Permission.PATIENT_BED),
        transport=decision.allows(Permission.PATIENT_TRANSPORT),
        alerts=decision.allows(Permission.PATIENT_ALERTS),
        # Whoever sees the records finds them there, each with what belongs to it.
        vitals=decision.allows(Permission.PATIENT_VITALS) and not records,
        records=records,
    )
