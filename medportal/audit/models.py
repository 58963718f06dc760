"""Tables of the audit log. No foreign key leads out of them or into them, and no cascade."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from medportal.audit.events import MAX_TEXT
from medportal.db import Base, Id, UTCDateTime


class AuditEvent(Base):
    """One event. ``body`` is what counts; the other columns repeat parts of it for searching,
    and the verifier compares them. ``sequence`` is given by the sequencer, from 0, gapless.
    """

    __tablename__ = "audit_event"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    action: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))
    actor: Mapped[str | None] = mapped_column(String(MAX_TEXT))
    patient: Mapped[str | None] = mapped_column(String(MAX_TEXT))
    object: Mapped[str | None] = mapped_column(String(MAX_TEXT))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    sequence: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ix_audit_event_time", at, id),
        Index("ix_audit_event_patient_time", patient, at, id),
        Index("ix_audit_event_actor_time", actor, at, id),
        Index("ix_audit_event_object_time", object, at, id),
        Index("ix_audit_event_action_time", action, at, id),
        # Two partial indexes, not one whole: numbers are unique and found by number, and the
        # sequencer finds what waits, in order of time, without looking at what is old.
        Index(
            "uq_audit_event_sequence",
            sequence,
            unique=True,
            sqlite_where=text("sequence IS NOT NULL"),
            postgresql_where=text("sequence IS NOT NULL"),
        ),
        Index(
            "ix_audit_event_unsequenced",
            at,
            id,
            sqlite_where=text("sequence IS NULL"),
            postgresql_where=text("sequence IS NULL"),
        ),
    )


class AuditNode(Base):
    """A complete node of the Merkle tree; level 0 are the leaf hashes, by sequence number."""

    __tablename__ = "audit_node"

    level: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class AuditHead(Base):
    """A head. ``signatures`` refer to credentials by digest."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("size > 0", name="not_empty"),)

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    signatures: Mapped[bytes] = mapped_column(LargeBinary)


class AuditCredential(Base):
    """A chain with its CRL, kept once for the many heads signed under it."""

    __tablename__ = "audit_credential"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class AuditStatement(Base):
    """A signed statement about the log: a restore from a backup, or a checkpoint for pruning."""

    __tablename__ = "audit_statement"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    signatures: Mapped[bytes] = mapped_column(LargeBinary)
