"""Patients and where they are."""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class PatientStatus(StrEnum):
    """Whether a patient's registration stands."""

    ACTIVE = "active"
    DECEASED = "deceased"
    MERGED = "merged"


class Patient(Base):
    """A person who is a patient here."""

    __tablename__ = "patient"

    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    ward: Mapped[str] = mapped_column(String(60), index=True)
    bed: Mapped[str] = mapped_column(String(20))
    registered_at: Mapped[datetime] = mapped_column(UTCDateTime)
    registered_by: Mapped[str | None] = mapped_column(Id)


class Admission(Base):
    """A patient lay in a bed of a ward for a time; the patient's row repeats the one in force."""

    __tablename__ = "admission"
    __table_args__ = (Index("ix_admission_patient", "patient_id", "since"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"))
    ward: Mapped[str] = mapped_column(String(60))
    bed: Mapped[str] = mapped_column(String(20))
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    admitted_by: Mapped[str | None] = mapped_column(Id)
    discharged_by: Mapped[str | None] = mapped_column(Id)


class SupportNeeds(Base):
    """How to move a patient, what they eat, what they are allergic to: one version.

    The newest counts; none is overwritten. ``sealed`` is under the patient's key.
    """

    __tablename__ = "support_needs"
    __table_args__ = (Index("ix_support_needs_patient", "patient_id", "at", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    by: Mapped[str | None] = mapped_column(Id)


class DetailsChange(Base):
    """Another number, name or date of birth that one at the desk asked for.

    It waits for a second person, and is deleted once it is decided. ``seen`` tells who the
    patient was when it was asked for.
    """

    __tablename__ = "details_change"

    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"), primary_key=True)
    id: Mapped[str] = mapped_column(Id)
    number: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    birth_date: Mapped[date]
    seen: Mapped[str] = mapped_column(String(64))
    asked_at: Mapped[datetime] = mapped_column(UTCDateTime)
    asked_by: Mapped[str | None] = mapped_column(Id)


class Destination(Base):
    """A partner institution that is named to receive a patient's results."""

    __tablename__ = "patient_destination"

    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"), primary_key=True)
    partner: Mapped[str] = mapped_column(String(32), primary_key=True)
    named_at: Mapped[datetime] = mapped_column(UTCDateTime)
    named_by: Mapped[str | None] = mapped_column(Id)
