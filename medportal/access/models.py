"""Care assignments: who looks after whom, from when until when."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class CareKind(StrEnum):
    """In what capacity somebody looks after a patient."""

    TREATING = "treating"
    TEAM = "team"


class CareAssignment(Base):
    """One member of staff looks after one patient for a time."""

    __tablename__ = "care_assignment"
    __table_args__ = (Index("ix_care_assignment_staff", "staff_id", "patient_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"), index=True)
    staff_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"))
    kind: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    assigned_by: Mapped[str | None] = mapped_column(Id)
