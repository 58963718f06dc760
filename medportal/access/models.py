"""Tables of care, of the patient's rules, and of what follows from looking."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Index, LargeBinary, String, false
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime

#: As long as the name of a ward may be.
WARD = String(60)
CODE = String(40)


class CareKind(StrEnum):
    """In what capacity somebody looks after a patient."""

    TREATING = "treating"
    TEAM = "team"


class CareAssignment(Base):
    """One member of staff, or the team of one ward, looks after one patient for a time.

    ``opens_sensitive``: the assignment goes for sensitive categories too.
    """

    __tablename__ = "care_assignment"
    __table_args__ = (
        Index("ix_care_assignment_staff", "staff_id", "patient_id"),
        Index("ix_care_assignment_ward", "ward", "patient_id"),
        CheckConstraint("(staff_id IS NULL) != (ward IS NULL)", name="person_or_ward"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"), index=True)
    staff_id: Mapped[str | None] = mapped_column(Id, ForeignKey("person.id"))
    ward: Mapped[str | None] = mapped_column(WARD)
    kind: Mapped[str] = mapped_column(String(16))
    opens_sensitive: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    assigned_by: Mapped[str | None] = mapped_column(Id)


class WardTeamMember(Base):
    """One member of staff belongs to the team of one ward for a time."""

    __tablename__ = "ward_team_member"
    __table_args__ = (Index("ix_ward_team_member_staff", "staff_id", "ward"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    ward: Mapped[str] = mapped_column(WARD, index=True)
    staff_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"))
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    added_by: Mapped[str | None] = mapped_column(Id)


class Representative(Base):
    """One person stands for a patient for a time: a parent, a guardian, somebody chosen."""

    __tablename__ = "representative"
    __table_args__ = (Index("ix_representative_person", "person_id", "patient_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"), index=True)
    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"))
    ground: Mapped[str] = mapped_column(CODE)
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    made_by: Mapped[str | None] = mapped_column(Id)
    approved_by: Mapped[str | None] = mapped_column(Id)
    ended_by: Mapped[str | None] = mapped_column(Id)


class PatientRule(Base):
    """One rule of one patient, see :mod:`medportal.access.rules`.

    A changed rule is ended and made anew. The note is sealed under the patient's key.
    """

    __tablename__ = "patient_rule"
    __table_args__ = (
        Index("ix_patient_rule_patient", "patient_id", "until"),
        Index("ix_patient_rule_whom", "whom", "whom_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"))
    effect: Mapped[str] = mapped_column(CODE)
    whom: Mapped[str] = mapped_column(CODE)
    whom_id: Mapped[str] = mapped_column(WARD)
    what: Mapped[str] = mapped_column(CODE)
    what_id: Mapped[str] = mapped_column(WARD)
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    note: Mapped[bytes | None] = mapped_column(LargeBinary)
    made_at: Mapped[datetime] = mapped_column(UTCDateTime)
    made_by: Mapped[str] = mapped_column(Id)
    ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    ended_by: Mapped[str | None] = mapped_column(Id)


class BrokenGlass(Base):
    """Somebody broke the glass to one patient for a time, and what the review found.

    ``text`` is the reason in their words, sealed under the patient's key; the audit log holds a
    salted commitment to it. ``sensitive`` is the second, explicit step.
    """

    __tablename__ = "broken_glass"
    __table_args__ = (
        Index("ix_broken_glass_patient", "patient_id", "staff_id", "until"),
        Index("ix_broken_glass_staff", "staff_id", "until"),
        Index("ix_broken_glass_review", "reviewed_at", "since", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"))
    staff_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"))
    sensitive: Mapped[bool] = mapped_column(Boolean, default=False)
    reason: Mapped[str] = mapped_column(CODE)
    text: Mapped[bytes] = mapped_column(LargeBinary)
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    until: Mapped[datetime] = mapped_column(UTCDateTime)
    reviewed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    reviewed_by: Mapped[str | None] = mapped_column(Id)
    finding: Mapped[str | None] = mapped_column(CODE)
    finding_text: Mapped[bytes | None] = mapped_column(LargeBinary)


class Complaint(Base):
    """What looks wrong to a patient: a patient about one event of their access log, and the answer.

    Both texts are sealed under the patient's key.
    """

    __tablename__ = "complaint"
    __table_args__ = (
        Index("ix_complaint_patient", "patient_id", "made_at"),
        Index("ix_complaint_open", "answered_at", "made_at", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"))
    #: The event complained about, and who it was; no reference leads into the audit log.
    event_id: Mapped[str] = mapped_column(Id)
    actor: Mapped[str | None] = mapped_column(String(200))
    text: Mapped[bytes] = mapped_column(LargeBinary)
    made_at: Mapped[datetime] = mapped_column(UTCDateTime)
    made_by: Mapped[str] = mapped_column(Id)
    answered_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    answered_by: Mapped[str | None] = mapped_column(Id)
    finding: Mapped[str | None] = mapped_column(CODE)
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
