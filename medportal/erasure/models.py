"""Tables of erasure."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class ErasureState(StrEnum):
    """How far an erasure has come."""

    ASKED = "asked"
    #: A second person agreed: jobs carries it out.
    AGREED = "agreed"
    ERASED = "erased"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"
    #: Agreed to, and not carried out: it did not fit the log, or the duty to keep came back.
    STOPPED = "stopped"


class Erasure(Base):
    """One request to erase what is kept of a patient; ``state`` says how far it has come.

    ``offered_at`` is when the patient was told how to take the record along before: by mail, or on
    paper by whoever asked, where there is no address. It is open until
    ``settled_at``, and one patient has at most one that is open.
    """

    __tablename__ = "erasure"
    __table_args__ = (Index("ix_erasure_state", "state", "asked_at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, index=True)
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(String(40))
    asked_by: Mapped[str] = mapped_column(Id)
    asked_at: Mapped[datetime] = mapped_column(UTCDateTime)
    offered_at: Mapped[datetime] = mapped_column(UTCDateTime)
    decided_by: Mapped[str | None] = mapped_column(Id)
    decided_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


Index(
    "uq_erasure_open",
    Erasure.patient_id,
    unique=True,
    sqlite_where=Erasure.settled_at.is_(None),
    postgresql_where=Erasure.settled_at.is_(None),
)
