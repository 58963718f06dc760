"""Tables by which partners' pseudonyms find a patient."""

from datetime import datetime

from sqlalchemy import Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class PartnerIndex(Base):
    """One identifier of one patient as one partner would ask for it.

    Holds no number and no name: ``pseudonym`` and ``tag`` are keyed hashes, and the key is not
    in this database.
    """

    __tablename__ = "partner_index"

    partner: Mapped[str] = mapped_column(String(31), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    pseudonym: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id)
    tag: Mapped[bytes] = mapped_column(LargeBinary(32))

    __table_args__ = (Index(None, "patient_id"),)


class PartnerIndexState(Base):
    """Whether the index for a partner's key holds every patient.

    ``generation`` grows whenever a patient is changed by a process that lacks this key: what
    was being built, or was complete, no longer is.
    """

    __tablename__ = "partner_index_state"

    partner: Mapped[str] = mapped_column(String(31), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    generation: Mapped[int] = mapped_column(Integer, default=0)
    complete_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
