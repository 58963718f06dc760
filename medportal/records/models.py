"""The index of records: what exists about whom, from where; never content."""

from datetime import date, datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class Record(Base):
    """One record of one patient, as its newest version says.

    ``origin`` is the institution that created it. ``origin_record_id`` is its id there, and the
    one that is signed; ``id`` was made here, so that no partner chooses ids in this database.
    ``local_author_id`` names the person of this institution who wrote the first version, whoever
    signed later ones; a record that came from a partner has none. ``head`` says under the
    patient's key which version is the newest and who the author is (:mod:`medportal.records.head`);
    a record that was filed before there were later versions may have none.
    """

    __tablename__ = "record"
    __table_args__ = (
        Index("ix_record_timeline", "patient_id", "effective_on", "id"),
        UniqueConstraint("origin", "origin_record_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Id, ForeignKey("patient.person_id"))
    origin: Mapped[str] = mapped_column(String(32))
    origin_record_id: Mapped[str] = mapped_column(Id)
    kind: Mapped[str] = mapped_column(String(16))
    category: Mapped[str] = mapped_column(String(32))
    effective_on: Mapped[date]
    local_author_id: Mapped[str | None] = mapped_column(Id, index=True)
    current_version: Mapped[int]
    status: Mapped[str] = mapped_column(String(20), server_default=text("'final'"))
    head: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)


class RecordVersion(Base):
    """One version of a record: where its sealed document lies, and the hashes that pin it.

    ``document_digest`` is SHA-256 of the ciphertext in the document store, ``content_digest``
    of the exact content bytes; ``replaces`` is the content digest of the version before, as it
    is signed, whether that one is held here or never came. Category and day are those of this
    version: whether somebody may open it is decided from them. ``local_signer_id`` is the person
    of this institution who signed it, which by itself lets nobody read.
    """

    __tablename__ = "record_version"

    record_id: Mapped[str] = mapped_column(Id, ForeignKey("record.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[str] = mapped_column(Id, unique=True)
    document_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    content_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    replaces: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    category: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(20))
    effective_on: Mapped[date]
    local_signer_id: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
