"""Tables of the vault. Nothing in them can be read without the tenant's keystore."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class PatientKey(Base):
    """A patient's key, wrapped. A destroyed key keeps its row, so that it is not made again."""

    __tablename__ = "patient_key"
    __table_args__ = (
        CheckConstraint(
            "(wrapped IS NULL) = (destroyed_at IS NOT NULL)",
            name="destroyed_or_wrapped",
        ),
    )

    patient_id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_key_version: Mapped[int] = mapped_column(Integer)
    wrapped: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    destroyed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Document(Base):
    """A sealed document of the SQL document store; never changed once written.

    ``set_aside_at`` is when a sweep found that no record names it.
    """

    __tablename__ = "document"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    set_aside_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
