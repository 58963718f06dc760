"""The outbox of mails."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class MailState(StrEnum):
    """Where a mail is."""

    WAITING = "waiting"
    #: Claimed by a sender until ``next_at``; if that passes, the sender is taken for dead.
    SENDING = "sending"
    SENT = "sent"
    #: Refused for good, or too old to be worth anything.
    FAILED = "failed"


class OutgoingMail(Base):
    """One mail. ``params`` is a JSON object of what its words need; no secret stands in it.

    ``address`` is emptied once the mail was sent or given up.
    """

    __tablename__ = "outgoing_mail"
    __table_args__ = (
        Index("ix_outgoing_mail_due", "state", "next_at", "id"),
        Index("ix_outgoing_mail_person", "person_id", "kind", "created_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    person_id: Mapped[str | None] = mapped_column(Id)
    address: Mapped[str] = mapped_column(String(254))
    language: Mapped[str] = mapped_column(String(5))
    params: Mapped[str] = mapped_column(String(2000))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    next_at: Mapped[datetime] = mapped_column(UTCDateTime)
    claimed_by: Mapped[str | None] = mapped_column(Id)
    sent_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    #: A code of what went wrong last: no text of a server, which may repeat the address.
    problem: Mapped[str | None] = mapped_column(String(40))
