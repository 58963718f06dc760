"""Wards and beds: admit a patient, move them, discharge them.

The patient's row says where they are now; the table of admissions, where they were and when.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from medportal.core.ids import new_id
from medportal.patients.errors import AdmissionRefused
from medportal.patients.models import Admission, Patient, PatientStatus

LIMIT = 50
_LOCK = 0x6D70_6265  # "mpbe", the advisory lock's number on PostgreSQL.


@dataclass(frozen=True, slots=True)
class Place:
    """A ward, and a bed that may be empty."""

    ward: str = ""
    bed: str = ""


@dataclass(frozen=True, slots=True)
class Stay:
    """A time in one bed of one ward; ``until`` is ``None`` while it lasts."""

    id: str
    ward: str
    bed: str
    since: datetime
    until: datetime | None


def place_of(session: Session, patient_id: str) -> Place:
    """Return where a patient is now; of one who is nowhere, empty texts."""
    row = session.execute(
        select(Patient.ward, Patient.bed).where(Patient.person_id == patient_id)
    ).one()
    return Place(row.ward, row.bed)


def stays(session: Session, patient_id: str, limit: int = LIMIT) -> list[Stay]:
    """Return where a patient was, newest first."""
    rows = session.scalars(
        select(Admission)
        .where(Admission.patient_id == patient_id)
        .order_by(Admission.since.desc(), Admission.id)
        .limit(limit)
    )
    return [Stay(row.id, row.ward, row.bed, row.since, row.until) for row in rows]


def admit(session: Session, patient_id: str, place: Place, *, by: str | None, now: datetime) -> str:
    """Put a patient into a ward and bed, out of the one they were in; return the stay's id.

    Raises ``AdmissionRefused``: somebody else lies in the bed, the patient is there already, or
    has died.
    """
    lock_beds(session)
    before = _lock(session, patient_id)
    if _status(session, patient_id) != PatientStatus.ACTIVE:
        raise AdmissionRefused("deceased")
    if place == before and _running(session, patient_id) is not None:
        raise AdmissionRefused("there-already")
    if is_taken(session, place, besides=patient_id):
        raise AdmissionRefused("bed-taken")
    _end(session, patient_id, by, now)
    return _begin(session, patient_id, place, by, now)


def begin_with(
    session: Session, patient_id: str, place: Place, *, by: str | None, now: datetime
) -> None:
    """Note the first stay of a patient who was registered with a ward; without one, nothing."""
    if place.ward:
        _begin(session, patient_id, place, by, now)


def discharge(session: Session, patient_id: str, *, by: str | None, now: datetime) -> Place:
    """End the stay of a patient; return where they were.

    Raises ``AdmissionRefused`` for one who is in no ward.
    """
    before = _lock(session, patient_id)
    if not before.ward:
        raise AdmissionRefused("not-admitted")
    _end(session, patient_id, by, now)
    _place(session, patient_id, Place())
    return before


def is_taken(session: Session, place: Place, besides: str | None = None) -> bool:
    """Tell whether somebody else lies in a bed; of a ward without bed numbers nobody does."""
    if not place.bed:
        return False
    there = select(Patient.person_id).where(Patient.ward == place.ward, Patient.bed == place.bed)
    if besides is not None:
        there = there.where(Patient.person_id != besides)
    return session.scalar(there.limit(1)) is not None


def lock_beds(session: Session) -> None:
    """Let two who give a bed away at once come one after the other."""
    # SQLite's writing transactions begin IMMEDIATE and are alone anyway.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def _lock(session: Session, patient_id: str) -> Place:
    """Let nobody else move this patient meanwhile; return where they are."""
    row = session.execute(
        select(Patient.ward, Patient.bed).where(Patient.person_id == patient_id).with_for_update()
    ).one()
    return Place(row.ward, row.bed)


def _status(session: Session, patient_id: str) -> str | None:
    return session.scalar(select(Patient.status).where(Patient.person_id == patient_id))


def _running(session: Session, patient_id: str) -> str | None:
    return session.scalar(
        select(Admission.id)
        .where(Admission.patient_id == patient_id, Admission.until.is_(None))
        .limit(1)
    )


def _end(session: Session, patient_id: str, by: str | None, now: datetime) -> None:
    session.execute(
        update(Admission)
        .where(Admission.patient_id == patient_id, Admission.until.is_(None))
        .values(until=now, discharged_by=by)
    )


def _begin(session: Session, patient_id: str, place: Place, by: str | None, now: datetime) -> str:
    _place(session, patient_id, place)
    stay = Admission(
        id=new_id(),
        patient_id=patient_id,
        ward=place.ward,
        bed=place.bed,
        since=now,
        until=None,
        admitted_by=by,
    )
    session.add(stay)
    return stay.id


def _place(session: Session, patient_id: str, place: Place) -> None:
    session.execute(
        update(Patient)
        .where(Patient.person_id == patient_id)
        .values(ward=place.ward, bed=place.bed)
    )
