"""Admission and discharge with what they mean for who looks after the patient.

A patient who moves is looked after by the team of the new ward and no longer by that of the
old one; one who goes home, by nobody.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from medportal.access.care import Ended, assign_team, end_all, end_team
from medportal.access.errors import AssignmentRefused
from medportal.patients import admissions
from medportal.patients.admissions import Place


@dataclass(frozen=True, slots=True)
class Admitted:
    """What came of an admission: the stay, the team assigned to the patient, what has ended."""

    stay: str
    assignment: str | None
    ended: tuple[Ended, ...]


def admit(
    session: Session,
    patient_id: str,
    place: Place,
    *,
    with_team: bool,
    by: str | None,
    now: datetime,
) -> Admitted:
    """Put a patient into a ward and bed; ``with_team`` assigns the ward's team to them.

    Raises ``AdmissionRefused``, and ``AssignmentRefused`` for a team that ``by`` is in.
    """
    before = admissions.place_of(session, patient_id)
    stay = admissions.admit(session, patient_id, place, by=by, now=now)
    moved = before.ward and before.ward != place.ward
    ended = end_team(session, patient_id, before.ward, now) if moved else []
    assignment = _assign(session, patient_id, place.ward, by, now) if with_team else None
    return Admitted(stay, assignment, tuple(ended))


def _assign(
    session: Session, patient_id: str, ward: str, by: str | None, now: datetime
) -> str | None:
    try:
        return assign_team(session, patient_id=patient_id, ward=ward, by=by, now=now)
    except AssignmentRefused as error:
        # Another bed in the ward whose team looks after the patient already.
        if error.code == "already-assigned":
            return None
        raise


def discharge(
    session: Session, patient_id: str, *, by: str | None, now: datetime
) -> tuple[Place, list[Ended]]:
    """End a patient's stay and with it every care assignment; return place and assignments.

    Raises ``AdmissionRefused`` for one who is in no ward.
    """
    place = admissions.discharge(session, patient_id, by=by, now=now)
    return place, end_all(session, patient_id, now)
