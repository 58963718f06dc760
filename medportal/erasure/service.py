"""Use-cases of erasure: ask, withdraw, decide, carry out.

One person asks, with a reason; the patient is told and has a week to take the record along;
another person agrees, who is neither the one nor the patient; ``medportal jobs`` carries it out.
While the institution must keep the records nobody can ask, nor agree.

Carrying out is two steps. First the ledger, which lies with the keys, gets its line; then one
transaction destroys the key, drops what was sealed under it, and says so. Killed in between, it
is done again: the decision stands in the database.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

from sqlalchemy import CursorResult, Select, func, select, tuple_, update
from sqlalchemy.orm import Session

from medportal.core.clock import to_micros
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.erasure.errors import (
    AlreadyAsked,
    AlreadyErased,
    NotGrounded,
    NothingAsked,
    NotOffered,
    SamePerson,
    StillToBeKept,
    TooEarly,
)
from medportal.erasure.grounds import require_two_people
from medportal.erasure.ledger import Entry, append, is_in
from medportal.erasure.models import Erasure, ErasureState
from medportal.erasure.removal import remove
from medportal.identity.models import Person
from medportal.identity.notices import notify
from medportal.mail.kinds import MailKind
from medportal.patients.models import Patient
from medportal.pki.signers import Signer
from medportal.records.models import Record, RecordVersion
from medportal.tenancy.tenant import Tenant
from medportal.vault.documents import DocumentStore
from medportal.vault.store import find_patient_key, take_patient_key

#: How long a patient has to take the record along, or to object, before anybody can agree.
WAIT = timedelta(days=7)
#: Why somebody asks: the patient wishes it, the duty to keep is over, it was never to be here.
REASONS = (Reason.PERSON_ASKED, Reason.EXPIRED, Reason.WRONG_DATA)
PAGE = 50


@dataclass(frozen=True, slots=True)
class Shown:
    """An erasure as it stands, detached from the database."""

    id: str
    patient_id: str
    state: ErasureState
    reason: Reason
    asked_by: str
    asked_at: datetime
    offered_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    settled_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Tell whether it is not settled yet."""
        return self.settled_at is None

    @property
    def decidable_at(self) -> datetime:
        """Return from when on somebody can agree."""
        return self.asked_at + WAIT


def kept_until(session: Session, tenant: Tenant, patient_id: str) -> date | None:
    """Return until when a patient's records are kept by duty; ``None`` for no records, no duty.

    It counts from the newest record: from the day that it tells of, or that it was filed here,
    whichever is later, as a calendar of the institution shows it.
    """
    told, filed = session.execute(
        select(func.max(Record.effective_on), func.max(RecordVersion.created_at))
        .join(RecordVersion, RecordVersion.record_id == Record.id)
        .where(Record.patient_id == patient_id)
    ).one()
    if told is None or tenant.retention.years == 0:
        return None
    newest: date = max(told, _day(tenant, filed))
    return _years_later(newest, tenant.retention.years)


def erased_at(session: Session, patient_id: str) -> datetime | None:
    """Return when a patient's key was destroyed, ``None`` if it was not."""
    row = find_patient_key(session, patient_id)
    return row.destroyed_at if row else None


def ask(
    session: Session,
    tenant: Tenant,
    patient_id: str,
    reason: Reason,
    by: str,
    now: datetime,
    *,
    on_paper: bool = False,
) -> str:
    """Ask for an erasure and tell the patient; return its id.

    ``on_paper``: whoever asks says that the patient was told so. Raises ``SamePerson`` (one's
    own record), ``AlreadyErased``, ``AlreadyAsked``, ``StillToBeKept`` or ``NotOffered``. Two
    who ask at once: the second meets ``IntegrityError``.
    """
    if by == patient_id:
        raise SamePerson("nobody asks for the erasure of their own record as staff")
    if erased_at(session, patient_id) is not None:
        raise AlreadyErased("this patient's key is destroyed")
    if current(session, patient_id) is not None:
        raise AlreadyAsked("an erasure is open")
    require_no_duty(session, tenant, patient_id, now)
    by_mail = gets_mail(session, tenant, patient_id)
    if not by_mail and not on_paper:
        raise NotOffered("no mail goes out, and nothing was handed over")
    row = Erasure(
        id=new_id(),
        patient_id=patient_id,
        state=ErasureState.ASKED,
        reason=str(reason),
        asked_by=by,
        asked_at=now,
        # The mail goes out with the same commit.
        offered_at=now,
    )
    session.add(row)
    if by_mail:
        notify(session, patient_id, MailKind.ERASURE_ASKED, now, at=to_micros(now + WAIT))
    return row.id


def gets_mail(session: Session, tenant: Tenant, person_id: str) -> bool:
    """Tell whether a mail to somebody goes out: they have an address, the institution a server."""
    address = session.scalar(select(Person.email).where(Person.id == person_id))
    return tenant.mail is not None and bool(address)


def require_no_duty(session: Session, tenant: Tenant, patient_id: str, now: datetime) -> None:
    """Raise ``StillToBeKept`` while the duty to keep the records has not run out."""
    until = kept_until(session, tenant, patient_id)
    if until is not None and is_kept(tenant, until, now):
        raise StillToBeKept(until)


def is_kept(tenant: Tenant, until: date, now: datetime) -> bool:
    """Tell whether a duty to keep until that day still holds, by the institution's calendar."""
    return _day(tenant, now) <= until


def withdraw(session: Session, patient_id: str, now: datetime) -> Shown:
    """Call an erasure off that nobody has agreed to yet; raises ``NothingAsked``.

    One that was agreed to is carried out within a second or two, and may be in the ledger.
    """
    shown = current(session, patient_id)
    if shown is None:
        raise NothingAsked("no erasure is open")
    _change(session, shown, ErasureState.ASKED, state=ErasureState.WITHDRAWN, settled_at=now)
    return shown


def refuse(session: Session, erasure_id: str, by: str, now: datetime) -> Shown:
    """Decide against an erasure. Raises ``NothingAsked`` or ``SamePerson``."""
    shown = _decidable(session, erasure_id, by)
    _change(
        session,
        shown,
        ErasureState.ASKED,
        state=ErasureState.REFUSED,
        decided_by=by,
        decided_at=now,
        settled_at=now,
    )
    return shown


def agree(session: Session, tenant: Tenant, erasure_id: str, by: str, now: datetime) -> Shown:
    """Let an erasure happen, as the second person.

    Raises ``NothingAsked``, ``SamePerson``, ``TooEarly`` or ``StillToBeKept``: a record may have
    come meanwhile.
    """
    shown = _decidable(session, erasure_id, by)
    if now < shown.decidable_at:
        raise TooEarly("the patient still has time")
    require_no_duty(session, tenant, shown.patient_id, now)
    _change(
        session,
        shown,
        ErasureState.ASKED,
        state=ErasureState.AGREED,
        decided_by=by,
        decided_at=now,
    )
    return shown


def has_agreed(session: Session) -> bool:
    """Tell whether an erasure waits to be carried out."""
    return session.scalar(_in_state(ErasureState.AGREED).limit(1)) is not None


def agreed(session: Session) -> list[Shown]:
    """Return what waits to be carried out, the oldest first."""
    return [_shown(row) for row in session.scalars(_in_state(ErasureState.AGREED))]


def carry_out(
    session: Session,
    tenant: Tenant,
    documents: DocumentStore,
    signer: Signer,
    ledger: Path,
    shown: Shown,
    now: datetime,
) -> Entry:
    """Carry an agreed erasure out, in the caller's transaction; return its line of the ledger.

    The line is durable before anything is destroyed. If it is there already, of a time before
    that was interrupted, it counts. Raises ``NotYetProven``, ``NotGrounded``, ``StillToBeKept``
    (a record came since it was agreed to) or ``LedgerDamaged``: then nothing was destroyed, and
    the ledger has no line.
    """
    wanted = _entry(shown, now)
    require_two_people(
        session,
        erasure_id=wanted.erasure_id,
        patient_id=wanted.patient_id,
        asked=(wanted.asked_by, wanted.asked_at),
        agreed=(wanted.decided_by, wanted.decided_at),
        wait=WAIT,
        now=now,
    )
    # Whoever files a record holds the key's row until it is there: it is seen by what follows.
    take_patient_key(session, shown.patient_id)
    if not is_in(ledger, wanted.erasure_id):
        require_no_duty(session, tenant, shown.patient_id, now)
    entry = append(ledger, signer, wanted)
    if entry.patient_id != wanted.patient_id:
        raise NotGrounded("the ledger has this erasure as another patient's")
    _change(
        session, shown, ErasureState.AGREED, state=ErasureState.ERASED, settled_at=entry.erased_at
    )
    remove(session, documents, entry.patient_id, entry.erased_at)
    return entry


def stop(session: Session, shown: Shown, now: datetime) -> None:
    """Settle an agreed erasure that must not be carried out. Raises ``NothingAsked``."""
    _change(session, shown, ErasureState.AGREED, state=ErasureState.STOPPED, settled_at=now)


def current(session: Session, patient_id: str) -> Shown | None:
    """Return the open erasure of a patient."""
    row = session.scalar(
        select(Erasure)
        .where(Erasure.patient_id == patient_id, Erasure.settled_at.is_(None))
        .execution_options(populate_existing=True)
    )
    return _shown(row) if row else None


def find(session: Session, erasure_id: str) -> Shown | None:
    """Return an erasure by its id."""
    row = session.get(Erasure, erasure_id, populate_existing=True)
    return _shown(row) if row else None


def waiting(
    session: Session, after: tuple[datetime, str] | None = None, limit: int = PAGE
) -> list[Shown]:
    """Return what is open, the oldest first; ``after`` is where the page before ended."""
    query = select(Erasure).where(Erasure.settled_at.is_(None))
    if after is not None:
        query = query.where(tuple_(Erasure.asked_at, Erasure.id) > after)
    query = query.order_by(Erasure.asked_at, Erasure.id).limit(limit)
    return [_shown(row) for row in session.scalars(query)]


def settled(session: Session, limit: int = PAGE) -> list[Shown]:
    """Return what was erased, withdrawn or refused of late, the newest first."""
    query = select(Erasure).where(Erasure.settled_at.is_not(None))
    query = query.order_by(Erasure.settled_at.desc(), Erasure.id).limit(limit)
    return [_shown(row) for row in session.scalars(query)]


def is_patient(session: Session, patient_id: str) -> bool:
    """Tell whether this is a patient here."""
    return session.get(Patient, patient_id) is not None


def _decidable(session: Session, erasure_id: str, by: str) -> Shown:
    shown = find(session, erasure_id)
    if shown is None or shown.state is not ErasureState.ASKED:
        raise NothingAsked("it is decided or withdrawn")
    if by in (shown.asked_by, shown.patient_id):
        raise SamePerson("another person decides")
    return shown


def _change(session: Session, shown: Shown, before: ErasureState, **values: Any) -> None:
    """Change an erasure that is still in a state; raises ``NothingAsked`` if it is not.

    Of two who decide at once one does.
    """
    statement = (
        update(Erasure)
        .where(Erasure.id == shown.id, Erasure.state == before)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[Any]", session.execute(statement)).rowcount != 1:
        raise NothingAsked("somebody else decided at this moment")


def _entry(shown: Shown, now: datetime) -> Entry:
    if shown.decided_by is None or shown.decided_at is None:
        raise NotGrounded("nobody agreed")
    return Entry(
        erasure_id=shown.id,
        patient_id=shown.patient_id,
        reason=str(shown.reason),
        asked_by=shown.asked_by,
        asked_at=shown.asked_at,
        offered_at=shown.offered_at,
        decided_by=shown.decided_by,
        decided_at=shown.decided_at,
        erased_at=now,
    )


def _in_state(state: ErasureState) -> Select[Erasure]:
    return (
        select(Erasure)
        .where(Erasure.state == state, Erasure.settled_at.is_(None))
        .order_by(Erasure.asked_at, Erasure.id)
    )


def _shown(row: Erasure) -> Shown:
    return Shown(
        id=row.id,
        patient_id=row.patient_id,
        state=ErasureState(row.state),
        reason=Reason(row.reason),
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        offered_at=row.offered_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        settled_at=row.settled_at,
    )


def _day(tenant: Tenant, moment: datetime) -> date:
    return moment.astimezone(ZoneInfo(tenant.time_zone)).date()


def _years_later(day: date, years: int) -> date:
    if day.year + years > date.max.year:
        # A day that a partner dated beyond every calendar shall not keep a page from opening.
        return date.max
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        # The 29th of February, and no such day in that year; the duty is not cut short.
        return date(day.year + years, 3, 1)
