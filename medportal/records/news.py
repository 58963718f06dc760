"""Records as news: each version that is filed waits until somebody has noted it.

How urgent one is was worked out from what its author signed, and lies sealed under the
patient's key: that a value is critical is content. Whatever cannot be opened is taken for
critical, so that nobody makes an alarm silent by damaging it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import ColumnElement, Select, select, tuple_, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from medportal.access.question import RecordFacts
from medportal.records.fhir import read
from medportal.records.interpret import Urgency
from medportal.records.models import Record, RecordVersion
from medportal.records.models_results import Result
from medportal.vault.errors import PatientKeyDestroyed, PatientKeyMissing, VaultError
from medportal.vault.models import PatientKey
from medportal.vault.service import Vault

PURPOSE = "result"
#: Every sealed urgency is as long as any other: its length shall tell nothing.
_LENGTH = 16
#: What counts of a result of which nothing can be opened.
_UNSURE = Urgency.CRITICAL


@dataclass(frozen=True, slots=True)
class News:
    """A version of a record as something that was filed; of the record, what it says now.

    Once there is a newer version it is no news any more. ``author_id`` wrote the record,
    ``signer_id`` this version; both are empty unless that was here.
    """

    record_id: str
    version: int
    is_newest: bool
    patient_id: str
    origin: str
    category: str
    status: str
    effective_on: date
    author_id: str | None
    signer_id: str | None
    filed_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    urgency: bytes | None

    @property
    def place(self) -> tuple[datetime, str]:
        """Return where it stands among others: when it was filed, and which it is."""
        return (self.filed_at, self.record_id)

    @property
    def facts(self) -> RecordFacts:
        """Return what a decision needs about it."""
        return RecordFacts(self.record_id, True, self.author_id, self.category, self.origin)


def note(
    session: Session,
    vault: Vault,
    content: bytes,
    *,
    patient_id: str,
    record_id: str,
    version: int,
    now: datetime,
) -> None:
    """Note that a version of a record was filed; ``content`` is what its author signed.

    The record's own row must have been written.
    """
    urgency = read(content).urgency()
    session.add(
        Result(
            record_id=record_id,
            version=version,
            patient_id=patient_id,
            filed_at=now,
            urgency=_seal(session, vault, patient_id, record_id, version, urgency),
        )
    )


def _seal(
    session: Session,
    vault: Vault,
    patient_id: str,
    record_id: str,
    version: int,
    urgency: Urgency,
) -> bytes:
    plain = urgency.encode("ascii").ljust(_LENGTH)
    return vault.seal_note(session, patient_id, PURPOSE, note_name(record_id, version), plain)


def note_name(record_id: str, version: int) -> str:
    """Return the name to which the sealed urgency of a version is bound."""
    return f"{record_id}.{version}"


def urgency(session: Session, vault: Vault, one: News) -> Urgency | None:
    """Open how urgent a result is; ``None`` if the patient's records were erased.

    What was changed, or put there from elsewhere, is critical: somebody shall look.
    """
    return urgencies(session, vault, [one])[0]


def urgencies(session: Session, vault: Vault, found: Sequence[News]) -> list[Urgency | None]:
    """Open how urgent results of any patients are, in their order, as :func:`urgency` does."""
    sealed = [
        (one.patient_id, note_name(one.record_id, one.version), one.urgency or b"") for one in found
    ]
    return [_meant(plain) for plain in vault.open_notes(session, PURPOSE, sealed)]


def _meant(opened: bytes | VaultError) -> Urgency | None:
    if isinstance(opened, PatientKeyDestroyed | PatientKeyMissing):
        return None
    try:
        return Urgency(opened.decode("ascii").rstrip()) if isinstance(opened, bytes) else _UNSURE
    except ValueError:
        return _UNSURE


# Finding


def find(session: Session, patient_id: str, record_id: str) -> News | None:
    """Return the newest version of a record of this patient as news."""
    query = _query().where(Result.record_id == record_id, Result.patient_id == patient_id)
    return next(iter(_read(session, query)), None)


def find_any(session: Session, record_id: str) -> News | None:
    """Return the newest version of any record as news; the caller decides who may know of it."""
    return next(iter(_read(session, _query().where(Result.record_id == record_id))), None)


def waiting(
    session: Session,
    patients: Select[str],
    *,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[News]:
    """Return what nobody has noted of some patients, newest first, from behind ``before``."""
    # Of a patient whose records were erased there is nothing to see.
    living = select(PatientKey.patient_id).where(
        PatientKey.patient_id == Result.patient_id, PatientKey.wrapped.is_not(None)
    )
    query = _query().where(
        Result.acknowledged_at.is_(None), Result.patient_id.in_(patients), living.exists()
    )
    if before is not None:
        query = query.where(_place < tuple_(*before))
    return _read(session, query.order_by(*_NEWEST).limit(limit))


def unseen(session: Session, patient_id: str) -> Iterator[News]:
    """Give what the patient has not opened of their own records, newest first."""
    query = _query().where(Result.seen_by_patient_at.is_(None), Result.patient_id == patient_id)
    before: tuple[datetime, str] | None = None
    while True:
        behind = query if before is None else query.where(_place < tuple_(*before))
        batch = _read(session, behind.order_by(*_NEWEST).limit(_BATCH))
        yield from batch
        if len(batch) < _BATCH:
            return
        before = batch[-1].place


def untold(session: Session, limit: int) -> list[News]:
    """Return what nobody was sent a mail about, the longest waiting first, locked."""
    return _take(session, Result.told_at.is_(None), limit)


def overdue(session: Session, filed_by: datetime, limit: int) -> list[News]:
    """Return what was filed by then and never looked at for it, the oldest first, locked."""
    return _take(session, Result.escalated_at.is_(None) & (Result.filed_at <= filed_by), limit)


def unnoted_before(session: Session, one: News, filed_by: datetime) -> list[News]:
    """Return the versions before this one that were filed by then and that nobody noted.

    Only such as were looked at for it by now: of the others that is still to come.
    """
    query = _all().where(
        Result.record_id == one.record_id,
        Result.version < one.version,
        Result.acknowledged_at.is_(None),
        Result.escalated_at.is_not(None),
        Result.filed_at <= filed_by,
    )
    return _read(session, query.order_by(Result.version))


def has_untold(session: Session) -> bool:
    """Tell whether there is something that nobody was sent a mail about."""
    query = select(Result.version).where(Result.told_at.is_(None))
    return session.scalar(query.limit(1)) is not None


def has_overdue(session: Session, filed_by: datetime) -> bool:
    """Tell whether there is something filed by then that was never looked at for it."""
    query = select(Result.version).where(Result.escalated_at.is_(None), Result.filed_at <= filed_by)
    return session.scalar(query.limit(1)) is not None


_NEWEST = (Result.filed_at.desc(), Result.record_id.desc())
_place = tuple_(Result.filed_at, Result.record_id)
_BATCH = 25


def _all() -> Select[Result, Record, str | None]:
    # Outer: that the index lost a version hides no alarm.
    is_this = (RecordVersion.record_id == Result.record_id) & (
        RecordVersion.version == Result.version
    )
    return (
        select(Result, Record, RecordVersion.local_signer_id)
        .join(Record, Record.id == Result.record_id)
        .join(RecordVersion, is_this, isouter=True)
    )


def _query() -> Select[Result, Record, str | None]:
    """Ask for what is the newest version of its record: an older one is no news any more."""
    return _all().where(Result.version == Record.current_version)


def _take(session: Session, which: ColumnElement[bool], limit: int) -> list[News]:
    """Return rows that no other process works on; also those that are no news any more."""
    query = _all().where(which).order_by(Result.filed_at, Result.record_id, Result.version)
    return _read(session, query.limit(limit).with_for_update(skip_locked=True, of=Result))


def _read(session: Session, query: Select[Result, Record, str | None]) -> list[News]:
    # Rows are changed behind the identity map's back.
    rows = session.execute(query.execution_options(populate_existing=True))
    return [
        News(
            record_id=record.id,
            version=result.version,
            is_newest=result.version == record.current_version,
            patient_id=record.patient_id,
            origin=record.origin,
            category=record.category,
            status=record.status,
            effective_on=record.effective_on,
            author_id=record.local_author_id,
            signer_id=signer_id,
            filed_at=result.filed_at,
            acknowledged_at=result.acknowledged_at,
            acknowledged_by=result.acknowledged_by,
            urgency=result.urgency,
        )
        for result, record, signer_id in rows
    ]


# What becomes of it


def acknowledge(session: Session, one: News, by: str, now: datetime) -> bool:
    """Note for all who look after the patient that somebody has seen a result.

    Of two at once one comes first; returns false for the other, and changes nothing.
    """
    noted = session.execute(
        update(Result)
        .where(
            Result.record_id == one.record_id,
            Result.version == one.version,
            Result.acknowledged_at.is_(None),
        )
        .values(acknowledged_at=now, acknowledged_by=by)
        .returning(Result.record_id)
        .execution_options(synchronize_session=False)
    )
    return noted.one_or_none() is not None


def mark_seen(session: Session, record_id: str, version: int, now: datetime) -> None:
    """Note that the patient has opened a version of a record of theirs."""
    _mark(session, record_id, version, Result.seen_by_patient_at, now)


def mark_told(session: Session, one: News, now: datetime) -> None:
    """Note that mails about a result were posted, or that none are due."""
    _mark(session, one.record_id, one.version, Result.told_at, now)


def mark_escalated(session: Session, one: News, now: datetime) -> None:
    """Note that a result was looked at because nobody had noted it in time."""
    _mark(session, one.record_id, one.version, Result.escalated_at, now)


def _mark(
    session: Session,
    record_id: str,
    version: int,
    column: InstrumentedAttribute[datetime | None],
    now: datetime,
) -> None:
    session.execute(
        update(Result)
        .where(Result.record_id == record_id, Result.version == version, column.is_(None))
        .values({column.key: now})
        .execution_options(synchronize_session=False)
    )


def take_for_known(session: Session, before: date, now: datetime) -> None:
    """Let history that was taken over from elsewhere be no news.

    What is from before ``before`` waits for nobody; of what is newer no mail is sent.
    """
    old = select(Record.id).where(Record.effective_on < before)
    known = {"acknowledged_at": now, "escalated_at": now, "seen_by_patient_at": now}
    for which, values in ((Result.record_id.in_(old), known), (Result.told_at.is_(None), {})):
        session.execute(
            update(Result)
            .where(which, Result.acknowledged_at.is_(None))
            .values(told_at=now, **values)
            .execution_options(synchronize_session=False)
        )
