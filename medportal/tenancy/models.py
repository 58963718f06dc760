"""What admins changed of their institution's file."""

from datetime import datetime

from sqlalchemy import Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class SettingsVersion(Base):
    """One version of the edited settings; the newest one counts.

    ``changes`` is a JSON object of what differs from the file, whole, so that any version
    can be read and taken back without those before it.
    """

    __tablename__ = "settings_version"

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    changes: Mapped[str] = mapped_column(String(8000))
    logo: Mapped[bytes | None] = mapped_column(LargeBinary)
    by: Mapped[str] = mapped_column(Id)
    at: Mapped[datetime] = mapped_column(UTCDateTime)
