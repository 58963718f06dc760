"""What waits for a second person.

The table is here and not with the pages of administration: whatever lets an account begin anew
ends what waits about it, and a patient's registration does that too.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class ApprovalKind(StrEnum):
    """What a second person is asked to approve."""

    #: Give somebody a role with power over records, people or care.
    GRANT_ROLE = "grant-role"
    #: Remove every second factor of somebody who has lost them.
    RESET_SECOND_FACTOR = "reset-second-factor"
    #: Change somebody's email address.
    CHANGE_EMAIL = "change-email"
    #: A new desk code for an account that a code alone would open or take over.
    ISSUE_CODE = "issue-code"


class ApprovalState(StrEnum):
    """How far it has come."""

    WAITING = "waiting"
    GRANTED = "granted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class Approval(Base):
    """Something that one member of staff asked for and another decides.

    ``value`` is the role, or the new address; ``note_id`` names the account note with the
    reason.
    """

    __tablename__ = "approval"
    __table_args__ = (
        Index("ix_approval_state_time", "state", "requested_at", "id"),
        Index("ix_approval_person", "person_id", "state"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"))
    value: Mapped[str] = mapped_column(String(254))
    note_id: Mapped[str] = mapped_column(Id, ForeignKey("account_note.id"))
    state: Mapped[str] = mapped_column(String(16))
    requested_by: Mapped[str] = mapped_column(Id, ForeignKey("person.id"))
    requested_at: Mapped[datetime] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
    decided_by: Mapped[str | None] = mapped_column(Id, ForeignKey("person.id"))
    decided_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
