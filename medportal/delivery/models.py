"""Tables of the delivery room.

Partial indexes hold open rows only, so that what has been delivered over the years costs the
sender nothing. Their conditions have no literals: a condition on a value would not be
recognised behind a bound parameter.
"""

from datetime import date, datetime

from sqlalchemy import BigInteger, Date, Index, Integer, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime

SLUG = String(31)
CODE = String(40)


class Outbox(Base):
    """One record version on its way to one partner; made in the record's own transaction.

    ``attempts`` counts attempts that ended the same way in a row, it drives the back-off.
    While a lease is in force ``next_at`` equals ``lease_until``: one index answers both "due"
    and "free". ``fence`` grows with every claim and recall; a writer must show it.
    """

    __tablename__ = "outbox"

    tid: Mapped[str] = mapped_column(Id, primary_key=True)
    partner: Mapped[str] = mapped_column(SLUG)
    record_id: Mapped[str] = mapped_column(Id)
    version: Mapped[int] = mapped_column(Integer)
    chain: Mapped[str] = mapped_column(Id)
    patient_id: Mapped[str] = mapped_column(Id)
    category: Mapped[str] = mapped_column(CODE, default="", server_default=text("''"))
    pseudonym: Mapped[bytes] = mapped_column(LargeBinary(32))
    key_id: Mapped[str] = mapped_column(String(64))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(CODE)
    reason: Mapped[str] = mapped_column(CODE)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    next_at: Mapped[datetime] = mapped_column(UTCDateTime)
    asked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    receipt: Mapped[bytes | None] = mapped_column(LargeBinary)
    receipt_sequence: Mapped[int | None] = mapped_column(Integer)
    receipt_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    receipt_epoch: Mapped[str | None] = mapped_column(Id)

    __table_args__ = (
        UniqueConstraint("partner", "chain", "version"),
        Index(None, "record_id"),
        Index(None, "state", "settled_at"),
    )


Index(
    "ix_outbox_due",
    Outbox.partner,
    Outbox.next_at,
    sqlite_where=Outbox.settled_at.is_(None),
    postgresql_where=Outbox.settled_at.is_(None),
)
Index(
    "ix_outbox_chain",
    Outbox.chain,
    Outbox.version,
    sqlite_where=Outbox.settled_at.is_(None),
    postgresql_where=Outbox.settled_at.is_(None),
)
Index(
    "ix_outbox_patient",
    Outbox.patient_id,
    sqlite_where=Outbox.settled_at.is_(None),
    postgresql_where=Outbox.settled_at.is_(None),
)
Index(
    "ix_outbox_receipted",
    Outbox.partner,
    Outbox.receipt_sequence,
    sqlite_where=Outbox.receipt_sequence.is_not(None),
    postgresql_where=Outbox.receipt_sequence.is_not(None),
)


class PartnerBlock(Base):
    """A rule of a patient here about a partner: what is theirs is not sent, or not taken in.

    Kept beside the patient's rules for the processes that face partners and read no rules.
    ``effect`` is "block" or "allow", an exception; ``what`` is "everything", "category" or
    "record"; ``what_id`` which.
    """

    __tablename__ = "partner_block"
    __table_args__ = (
        Index("ix_partner_block_patient", "patient_id", "partner"),
        Index("ix_partner_block_until", "until"),
    )

    rule_id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id)
    partner: Mapped[str] = mapped_column(SLUG)
    effect: Mapped[str] = mapped_column(CODE)
    what: Mapped[str] = mapped_column(CODE)
    what_id: Mapped[str] = mapped_column(CODE)
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    until: Mapped[datetime | None] = mapped_column(UTCDateTime)


class BlockChanges(Base):
    """One row: how often a rule about a partner was made, ended, or ran out."""

    __tablename__ = "block_changes"

    only: Mapped[int] = mapped_column(Integer, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class RecalledReceipt(Base):
    """A receipt whose effect the partner lost in a restore; kept, because it was signed."""

    __tablename__ = "recalled_receipt"

    tid: Mapped[str] = mapped_column(Id, primary_key=True)
    fence: Mapped[int] = mapped_column(Integer, primary_key=True)
    partner: Mapped[str] = mapped_column(SLUG)
    sequence: Mapped[int] = mapped_column(Integer)
    receipt: Mapped[bytes] = mapped_column(LargeBinary)
    recalled_at: Mapped[datetime] = mapped_column(UTCDateTime)


class PartnerMark(Base):
    """The receipt mark that a partner stated last: its storage epoch and our last sequence."""

    __tablename__ = "partner_mark"

    partner: Mapped[str] = mapped_column(SLUG, primary_key=True)
    epoch: Mapped[str] = mapped_column(Id)
    sequence: Mapped[int] = mapped_column(Integer)
    stated_at: Mapped[datetime] = mapped_column(UTCDateTime)


class PartnerHead(Base):
    """The newest verified head of a partner's audit log."""

    __tablename__ = "partner_head"

    partner: Mapped[str] = mapped_column(SLUG, primary_key=True)
    size: Mapped[int] = mapped_column(Integer)
    root: Mapped[bytes] = mapped_column(LargeBinary(32))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    held_at: Mapped[datetime] = mapped_column(UTCDateTime)


class PartnerHeadPast(Base):
    """A head that was held of a partner before, one a day: after a restore of the partner, the
    last of them within what it kept is what its log has to continue.

    ``lost_at`` is when people believed that this head lies in what the partner lost.
    """

    __tablename__ = "partner_head_past"

    partner: Mapped[str] = mapped_column(SLUG, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    root: Mapped[bytes] = mapped_column(LargeBinary(32))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    lost_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class PartnerHeadConflict(Base):
    """Evidence: a partner signed a head (``held``) and later one that does not continue it.

    ``shown`` is the first such head, signed too, or empty if the partner showed none any more;
    ``proof`` is what came with it. Later ones under the same held head are counted.
    """

    __tablename__ = "partner_head_conflict"

    partner: Mapped[str] = mapped_column(SLUG, primary_key=True)
    held_root: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    held_size: Mapped[int] = mapped_column(BigInteger)
    held: Mapped[bytes] = mapped_column(LargeBinary)
    kind: Mapped[str] = mapped_column(CODE)
    shown_size: Mapped[int] = mapped_column(BigInteger)
    shown: Mapped[bytes] = mapped_column(LargeBinary)
    proof: Mapped[bytes] = mapped_column(LargeBinary)
    first_at: Mapped[datetime] = mapped_column(UTCDateTime)
    last_at: Mapped[datetime] = mapped_column(UTCDateTime)
    times: Mapped[int] = mapped_column(Integer)
    settled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Inbox(Base):
    """One transfer that a partner handed over and got, or will get, a receipt for.

    ``awaiting`` is "intake", "person", "undoing" or nothing. ``sealed`` opens with the inbox key,
    which the receiver does not have, and is dropped once the record is filed under the patient's
    key, or some time after a person declined it at ``filed_at``; until then that can be undone.
    ``told`` is for a person who decides: what the partner says of who the patient is, and no
    content, sealed by intake so that the portal opens it, which does not have the inbox key.
    """

    __tablename__ = "inbox"

    sender: Mapped[str] = mapped_column(SLUG, primary_key=True)
    tid: Mapped[str] = mapped_column(Id, primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    patient_id: Mapped[str | None] = mapped_column(Id)
    pseudonym: Mapped[bytes] = mapped_column(LargeBinary(32))
    key_id: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    outcome: Mapped[str] = mapped_column(CODE)
    reason: Mapped[str] = mapped_column(CODE)
    sequence: Mapped[int] = mapped_column(Integer)
    received_at: Mapped[datetime] = mapped_column(UTCDateTime)
    receipt: Mapped[bytes | None] = mapped_column(LargeBinary)
    awaiting: Mapped[str | None] = mapped_column(CODE)
    filed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    record_id: Mapped[str | None] = mapped_column(Id)
    told: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (UniqueConstraint("sender", "sequence"), Index(None, "sender", "digest"))


Index(
    "ix_inbox_awaiting",
    Inbox.awaiting,
    Inbox.received_at,
    sqlite_where=Inbox.awaiting.is_not(None),
    postgresql_where=Inbox.awaiting.is_not(None),
)


class PartnerHold(Base):
    """An administrator holds what goes to a partner: nothing new is sent until it is let go."""

    __tablename__ = "partner_hold"

    partner: Mapped[str] = mapped_column(SLUG, primary_key=True)
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    by: Mapped[str] = mapped_column(Id)
    reason: Mapped[str] = mapped_column(CODE)


class TrafficHour(Base):
    """How many transfers came to an end in an hour, counted once by ``medportal jobs``.

    ``direction`` is "sent" or "received". The row with an empty ``partner`` is the sum of all of
    them, so that a picture of everything costs the same however many partners there are.
    """

    __tablename__ = "traffic_hour"

    partner: Mapped[str] = mapped_column(SLUG, primary_key=True)
    hour: Mapped[datetime] = mapped_column(UTCDateTime, primary_key=True)
    direction: Mapped[str] = mapped_column(CODE, primary_key=True)
    outcome: Mapped[str] = mapped_column(CODE, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class TrafficMark(Base):
    """How far transfers are counted.

    What was sent is counted up to a time, under an empty ``partner``; what was received from a
    partner up to one of its receipt sequences, which have no gaps.
    """

    __tablename__ = "traffic_mark"

    direction: Mapped[str] = mapped_column(CODE, primary_key=True)
    partner: Mapped[str] = mapped_column(SLUG, primary_key=True)
    until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    sequence: Mapped[int] = mapped_column(BigInteger, default=0)


class BoxKey(Base):
    """A key pair of inbox or outbox, known by its id since a command renewed that box.

    ``destroyed_at``: nothing that is sealed to it may be taken in any more, it would never open.
    A pair that no command has renewed yet has no row.
    """

    __tablename__ = "box_key"

    box: Mapped[str] = mapped_column(CODE, primary_key=True)
    key_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    destroyed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class ReceiptCounter(Base):
    """The last receipt sequence given to a sender; its row lock orders the sender's commits."""

    __tablename__ = "receipt_counter"

    sender: Mapped[str] = mapped_column(SLUG, primary_key=True)
    last: Mapped[int] = mapped_column(Integer, default=0)


class StorageEpoch(Base):
    """One row: the random name of this database's life; a restore gives it a new one."""

    __tablename__ = "storage_epoch"

    only: Mapped[int] = mapped_column(Integer, primary_key=True)
    epoch: Mapped[str] = mapped_column(Id)
    since: Mapped[datetime] = mapped_column(UTCDateTime)
