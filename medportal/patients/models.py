"""Patients and where they are."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, String
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


class Destination(Base):
    """A partner institution that is named to receive a patient's results."""

    __tablename__ = "patient_destination"

    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"), primary_key=True)
    partner: Mapped[str] = mapped_column(String(32), primary_key=True)
    named_at: Mapped[datetime] = mapped_column(UTCDateTime)
    named_by: Mapped[str | None] = mapped_column(Id)
