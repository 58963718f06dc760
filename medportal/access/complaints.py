"""What looks wrong to a patient about an entry of their access log, and the answer to it.

Both texts are sealed under the patient's key. Somebody else answers than whoever is complained
about. A complaint is answered once; whoever is not content asks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, UnaryExpression, select, tuple_, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from medportal.access.errors import ComplaintRefused
from medportal.access.glass import open_words, seal_words
from medportal.access.log import find_event
from medportal.access.models import Complaint
from medportal.access.parties import parties_of, representatives
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.identity.notices import notify
from medportal.mail.kinds import MailKind
from medportal.patients.models import Patient
from medportal.vault.service import Vault

#: What an answer can find.
FINDINGS = (Reason.JUSTIFIED, Reason.NOT_JUSTIFIED, Reason.FOLLOWED_UP)
#: As many of one patient wait at once.
MOST_OPEN = 20
PAGE = 25
#: What the sealed texts are bound to.
TEXT, ANSWER = "complaint", "complaint-answer"
Place = tuple[datetime, str]
#: What a list is sorted by: a column, or a column backwards.
Order = InstrumentedAttribute[Any] | UnaryExpression[Any]


@dataclass(frozen=True, slots=True)
class About:
    """What is complained about: an event of a patient, and who did it."""

    patient_id: str
    event_id: str
    actor: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """A text that was sealed: whose complaint it belongs to, and what tells of it in the log."""

    complaint_id: str
    about: About
    commitment: str


@dataclass(frozen=True, slots=True)
class Held:
    """One complaint as it is kept, its texts still sealed."""

    id: str
    about: About
    made_at: datetime
    made_by: str
    answered_at: datetime | None
    answered_by: str | None
    finding: str | None
    text: bytes = field(repr=False)
    answer: bytes | None = field(repr=False)

    def concerns(self, person_id: str) -> bool:
        """Tell whether somebody did it, asked, or is the patient; :func:`has_part` knows more."""
        return person_id in {self.about.actor, self.about.patient_id, self.made_by}


@dataclass(frozen=True, slots=True)
class Texts:
    """The words of a complaint and of its answer, opened."""

    text: str = field(repr=False)
    answer: str = field(repr=False)


def make(
    session: Session, vault: Vault, about: About, text: str, by: str, now: datetime
) -> Written:
    """Keep what looks wrong about an event.

    Raises ``ComplaintRefused``: one complaint about an event waits at a time, so that a form
    sent twice is one complaint ("asked-already"), and not too many of a patient ("too-many").
    """
    # The same form sent twice at once: the second waits here, then sees the first.
    session.execute(
        select(Patient.person_id).where(Patient.person_id == about.patient_id).with_for_update()
    )
    waiting = _waiting_of(session, about.patient_id)
    if about.event_id in waiting:
        raise ComplaintRefused("asked-already")
    if len(waiting) >= MOST_OPEN:
        raise ComplaintRefused("too-many")
    complaint_id = new_id()
    sealed = seal_words(session, vault, about.patient_id, TEXT, complaint_id, text)
    session.add(
        Complaint(
            id=complaint_id,
            patient_id=about.patient_id,
            event_id=about.event_id,
            actor=about.actor,
            text=sealed.sealed,
            made_at=now,
            made_by=by,
        )
    )
    return Written(complaint_id, about, sealed.commitment)


def answer(
    session: Session,
    vault: Vault,
    complaint_id: str,
    finding: Reason,
    text: str,
    by: str,
    now: datetime,
) -> Written:
    """Answer a complaint, and tell by mail whoever made it that there is an answer.

    Raises ``ComplaintRefused``: for whoever has a part in it ("your-own"), and where it is
    answered already ("answered"), or is none ("none").
    """
    found = find(session, complaint_id)
    if found is None:
        raise ComplaintRefused("none")
    if has_part(session, found, by):
        raise ComplaintRefused("your-own")
    sealed = seal_words(session, vault, found.about.patient_id, ANSWER, complaint_id, text)
    # Two at once: the row decides, and the second finds it answered.
    taken = session.execute(
        update(Complaint)
        .where(Complaint.id == complaint_id, Complaint.answered_at.is_(None))
        .values(answered_at=now, answered_by=by, finding=str(finding), answer=sealed.sealed)
        .returning(Complaint.id)
    )
    if taken.one_or_none() is None:
        raise ComplaintRefused("answered")
    notify(session, found.made_by, MailKind.COMPLAINT_ANSWERED, now)
    return Written(complaint_id, found.about, sealed.commitment)


def has_part(session: Session, held: Held, person_id: str) -> bool:
    """Tell whether somebody has a part in a complaint, and so has no business answering it."""
    patient_id = held.about.patient_id
    if held.concerns(person_id) or person_id in representatives(session, patient_id):
        return True
    event = find_event(session, patient_id, held.about.event_id)
    return event is not None and person_id in parties_of(session, patient_id, event)


def opened(session: Session, vault: Vault, held: Held) -> Texts:
    """Return the words of a complaint; raises what ``Vault.open_note`` does."""
    patient_id = held.about.patient_id
    text = open_words(session, vault, patient_id, TEXT, held.id, held.text).text
    if held.answer is None:
        return Texts(text, "")
    return Texts(text, open_words(session, vault, patient_id, ANSWER, held.id, held.answer).text)


def find(session: Session, complaint_id: str) -> Held | None:
    """Return one complaint."""
    return next(iter(_held(session, Complaint.id == complaint_id, limit=1)), None)


def waiting(session: Session, *, after: Place | None = None, limit: int = PAGE) -> list[Held]:
    """Return what waits for an answer, the oldest first, from behind ``after``."""
    conditions: list[ColumnElement[bool]] = [Complaint.answered_at.is_(None)]
    if after is not None:
        conditions.append(tuple_(Complaint.made_at, Complaint.id) > tuple_(*after))
    order = (Complaint.made_at, Complaint.id)
    return _held(session, *conditions, order=order, limit=limit)


def answered(session: Session, *, after: Place | None = None, limit: int = PAGE) -> list[Held]:
    """Return what has been answered, the newest answer first, from behind ``after``."""
    conditions: list[ColumnElement[bool]] = [Complaint.answered_at.is_not(None)]
    if after is not None:
        conditions.append(tuple_(Complaint.answered_at, Complaint.id) < tuple_(*after))
    order = (Complaint.answered_at.desc(), Complaint.id.desc())
    return _held(session, *conditions, order=order, limit=limit)


def of_patient(
    session: Session, patient_id: str, *, after: Place | None = None, limit: int = PAGE
) -> list[Held]:
    """Return the complaints of a patient, the newest first, from behind ``after``."""
    conditions: list[ColumnElement[bool]] = [Complaint.patient_id == patient_id]
    if after is not None:
        conditions.append(tuple_(Complaint.made_at, Complaint.id) < tuple_(*after))
    order = (Complaint.made_at.desc(), Complaint.id.desc())
    return _held(session, *conditions, order=order, limit=limit)


def of_event(session: Session, patient_id: str, event_id: str) -> list[Held]:
    """Return the newest complaints about one event of a patient."""
    about = (Complaint.patient_id == patient_id, Complaint.event_id == event_id)
    return _held(session, *about, order=(Complaint.made_at.desc(), Complaint.id.desc()))


def _waiting_of(session: Session, patient_id: str) -> Sequence[str]:
    """Return the events about which complaints of a patient wait."""
    return session.scalars(
        select(Complaint.event_id).where(
            Complaint.patient_id == patient_id, Complaint.answered_at.is_(None)
        )
    ).all()


def _held(
    session: Session,
    *conditions: ColumnElement[bool],
    order: Sequence[Order] = (),
    limit: int = PAGE,
) -> list[Held]:
    query = select(Complaint).where(*conditions).order_by(*order).limit(limit)
    # As they stand in the database now, and not as this session saw them before.
    rows = session.scalars(query.execution_options(populate_existing=True))
    return [
        Held(
            id=row.id,
            about=About(row.patient_id, row.event_id, row.actor),
            made_at=row.made_at,
            made_by=row.made_by,
            answered_at=row.answered_at,
            answered_by=row.answered_by,
            finding=row.finding,
            text=row.text,
            answer=row.answer,
        )
        for row in rows
    ]
