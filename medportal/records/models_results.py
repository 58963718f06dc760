"""The table of results that wait to be noted."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class Result(Base):
    """One version of one record as news: for who looks after the patient, and for the patient.

    ``urgency`` is sealed under the patient's key, since that a value is critical is content.
    ``told_at`` is when mails about it were posted, ``escalated_at`` when it was looked at
    because nobody had noted it in time; both are set for every result, critical or not, so
    that neither tells which. ``acknowledged_by`` noted it for all who look after the patient.
    """

    __tablename__ = "result"
    __table_args__ = (Index("ix_result_patient", "patient_id", "filed_at"),)

    record_id: Mapped[str] = mapped_column(Id, ForeignKey("record.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id)
    filed_at: Mapped[datetime] = mapped_column(UTCDateTime)
    told_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    urgency: Mapped[bytes | None] = mapped_column(LargeBinary)
    acknowledged_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    acknowledged_by: Mapped[str | None] = mapped_column(Id)
    escalated_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    seen_by_patient_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


def _open(name: str, *columns: str, where: InstrumentedAttribute[datetime | None]) -> Index:
    """Return an index of what is still open: it stays as small as that is."""
    is_open = where.is_(None)
    of = [getattr(Result, column) for column in columns]
    return Index(name, *of, sqlite_where=is_open, postgresql_where=is_open)


_open("ix_result_waiting", "patient_id", "filed_at", where=Result.acknowledged_at)
_open("ix_result_unseen", "patient_id", "filed_at", where=Result.seen_by_patient_at)
_open("ix_result_untold", "filed_at", where=Result.told_at)
_open("ix_result_unescalated", "filed_at", where=Result.escalated_at)
