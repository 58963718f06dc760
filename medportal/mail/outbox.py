"""The outbox: mails are rows, committed with their cause.

A sender claims a mail for as long as no conversation with a server can last. So two senders
never hold one mail, and one that dies leaves it to the next when its claim has run out.

What cannot be had: a server takes a mail, and the sender dies before it has noted that. The
mail is then sent again, and arrives twice. Both copies have the same ``Message-ID``, by which
mail programs and people can tell; the link in the first one no longer works, since a new token
was made for the second. The other order, to note first and send then, would lose mails.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.orm import Session

from medportal.core.ids import new_id
from medportal.mail.errors import LostClaim, Problem
from medportal.mail.kinds import WITH_TOKEN, Letter, MailKind, Params, check_params
from medportal.mail.models import MailState, OutgoingMail

#: Much longer than :data:`medportal.mail.smtp.MAIL_SECONDS`.
LEASE = timedelta(minutes=10)
#: After the server put a mail off: doubled from the first to the longest wait.
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=4)
#: With these waits, three days and some hours.
MOST_ATTEMPTS = 26
#: A mail that waited this long, because there was no server to be reached, is given up.
OLDEST = timedelta(days=30)
#: The same where the institution has no mail at all: it may be getting some just now.
OLDEST_WITHOUT_SERVER = timedelta(days=1)
KEPT = timedelta(days=90)

OPEN = (MailState.WAITING, MailState.SENDING)
SETTLED = (MailState.SENT, MailState.FAILED)
_KNOWN = tuple(MailKind)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A mail that this sender alone may send until the lease ends."""

    letter: Letter
    person_id: str | None
    attempts: int
    sender_id: str


@dataclass(frozen=True, slots=True)
class Queue:
    """How many mails are in which state; ``oldest`` is when the oldest open one was posted.

    ``problem`` is the last code of the oldest open mail that has one, else of the last mail
    that was given up.
    """

    waiting: int
    sending: int
    sent: int
    failed: int
    oldest: datetime | None
    problem: str | None


# Putting in


def post(
    session: Session,
    kind: MailKind,
    *,
    to: str,
    language: str,
    now: datetime,
    person_id: str | None = None,
    params: Params | None = None,
) -> str | None:
    """Put a mail into the outbox; return its id, or ``None`` without an address.

    ``params`` are what the words need: codes, numbers and times, never a secret, never
    anything clinical; :data:`medportal.mail.kinds.PARAMS` lists those that each kind knows, and
    another raises ``ValueError``. So does a mail with a link that is for no person.
    """
    check_params(kind, params or {})
    if kind in WITH_TOKEN and person_id is None:
        raise ValueError("a mail with a link is for a person")
    if not to:
        return None
    mail = OutgoingMail(
        id=new_id(),
        kind=kind,
        person_id=person_id,
        address=to,
        language=language,
        params=json.dumps(dict(params or {}), sort_keys=True),
        state=MailState.WAITING,
        attempts=0,
        created_at=now,
        next_at=now,
        claimed_by=None,
        sent_at=None,
        problem=None,
    )
    session.add(mail)
    return mail.id


# Claiming


def has_due(session: Session, now: datetime) -> bool:
    """Tell whether a mail is to be sent now."""
    return any(session.scalar(_due(state, now)) is not None for state in OPEN)


def claim(
    session: Session, sender_id: str, now: datetime, lease: timedelta = LEASE
) -> Claimed | None:
    """Lease one due mail, or return ``None``; what another sender holds is passed over.

    Send only after the caller's commit.
    """
    # First what a sender left behind when it died: it has waited longer.
    for state in reversed(OPEN):
        mail_id = session.scalar(_due(state, now).with_for_update(skip_locked=True))
        if mail_id is not None:
            return _lease(session, mail_id, state, sender_id, now, lease)
    return None


def _due(state: MailState, now: datetime) -> Select[str]:
    return (
        select(OutgoingMail.id)
        .where(
            OutgoingMail.state == state,
            OutgoingMail.next_at <= now,
            # While programs are being replaced a newer one may post what this one cannot word.
            OutgoingMail.kind.in_(_KNOWN),
        )
        .order_by(OutgoingMail.next_at, OutgoingMail.id)
        .limit(1)
    )


def _lease(
    session: Session,
    mail_id: str,
    state: MailState,
    sender_id: str,
    now: datetime,
    lease: timedelta,
) -> Claimed | None:
    """Take a mail if it still is as it was seen: a compare-and-swap, whatever the engine."""
    row = session.execute(
        update(OutgoingMail)
        .where(OutgoingMail.id == mail_id, OutgoingMail.state == state, OutgoingMail.next_at <= now)
        .values(
            state=MailState.SENDING,
            claimed_by=sender_id,
            next_at=now + lease,
            attempts=OutgoingMail.attempts + 1,
        )
        .returning(*_COLUMNS)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if row is None else _claimed(row)


_COLUMNS = (
    OutgoingMail.id,
    OutgoingMail.kind,
    OutgoingMail.person_id,
    OutgoingMail.address,
    OutgoingMail.language,
    OutgoingMail.params,
    OutgoingMail.attempts,
    OutgoingMail.created_at,
    OutgoingMail.claimed_by,
)


def _claimed(row: Any) -> Claimed:
    letter = Letter(
        id=row.id,
        kind=MailKind(row.kind),
        to=row.address,
        language=row.language,
        params=json.loads(row.params),
        at=row.created_at,
    )
    return Claimed(letter, row.person_id, row.attempts, row.claimed_by)


# What came of it; each raises ``LostClaim`` if another has the mail by now


def sent(session: Session, held: Claimed, now: datetime) -> None:
    """Note that a server has taken the mail, and forget the address."""
    _write(session, held, state=MailState.SENT, sent_at=now, problem=None, **_settled(now))


def fail(session: Session, held: Claimed, problem: Problem, now: datetime) -> None:
    """Give the mail up, and forget the address."""
    _write(session, held, state=MailState.FAILED, problem=problem, **_settled(now))


def retry_later(
    session: Session, held: Claimed, problem: Problem, now: datetime, *, for_ever: bool = False
) -> MailState:
    """Put the mail off, each time for longer; give it up after days unless ``for_ever``."""
    if held.attempts >= MOST_ATTEMPTS and not for_ever:
        fail(session, held, problem, now)
        return MailState.FAILED
    _write(session, held, next_at=now + wait_after(held.attempts), **_waiting(problem))
    return MailState.WAITING


def release(session: Session, held: Claimed, problem: Problem, now: datetime) -> None:
    """Give the mail back as if it had not been claimed: nothing was said of it."""
    _write(session, held, next_at=now, attempts=held.attempts - 1, **_waiting(problem))


def drop(session: Session, held: Claimed) -> None:
    """Take a mail out that has no reason to be sent any more."""
    _only_one(
        session.execute(delete(OutgoingMail).where(*_is_held(held)).returning(OutgoingMail.id))
    )


def note_fault(session: Session, problem: Problem, now: datetime) -> None:
    """Note with the next due mail why nothing is being sent."""
    mail_id = session.scalar(_due(MailState.WAITING, now).with_for_update(skip_locked=True))
    if mail_id is not None:
        session.execute(
            update(OutgoingMail)
            .where(OutgoingMail.id == mail_id, OutgoingMail.state == MailState.WAITING)
            .values(problem=problem)
            .execution_options(synchronize_session=False)
        )


def wait_after(attempts: int) -> timedelta:
    """Return how long a mail waits after so many attempts (1 or more)."""
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(attempts - 1, 20)))


def _settled(now: datetime) -> dict[str, Any]:
    # The time of settling stands in next_at, by which old rows are found.
    return {"address": "", "claimed_by": None, "next_at": now}


def _waiting(problem: Problem) -> dict[str, Any]:
    return {"state": MailState.WAITING, "claimed_by": None, "problem": problem}


def _write(session: Session, held: Claimed, **values: Any) -> None:
    _only_one(
        session.execute(
            update(OutgoingMail)
            .where(*_is_held(held))
            .values(**values)
            .returning(OutgoingMail.id)
            .execution_options(synchronize_session=False)
        )
    )


def _is_held(held: Claimed) -> tuple[ColumnElement[bool], ...]:
    # The count of attempts tells two claims of one sender apart.
    return (
        OutgoingMail.id == held.letter.id,
        OutgoingMail.state == MailState.SENDING,
        OutgoingMail.claimed_by == held.sender_id,
        OutgoingMail.attempts == held.attempts,
    )


def _only_one(result: Any) -> None:
    if result.one_or_none() is None:
        raise LostClaim("the mail was claimed by another sender")


# Keeping house, and looking


def keep_house(session: Session, now: datetime, *, has_server: bool) -> None:
    """Give up what waited too long, and delete what was settled long ago."""
    if not has_server:
        _give_up_before(session, now - OLDEST_WITHOUT_SERVER, Problem.NO_SERVER, now)
    _give_up_before(session, now - OLDEST, Problem.TOO_OLD, now)
    session.execute(
        delete(OutgoingMail)
        .where(OutgoingMail.state.in_(SETTLED), OutgoingMail.next_at < now - KEPT)
        .execution_options(synchronize_session=False)
    )


def _give_up_before(session: Session, moment: datetime, problem: Problem, now: datetime) -> None:
    session.execute(
        update(OutgoingMail)
        .where(OutgoingMail.state == MailState.WAITING, OutgoingMail.created_at < moment)
        .values(state=MailState.FAILED, problem=problem, **_settled(now))
        .execution_options(synchronize_session=False)
    )


def queue(session: Session) -> Queue:
    """Return how the outbox stands."""
    rows = session.execute(
        select(OutgoingMail.state, func.count(), func.min(OutgoingMail.created_at)).group_by(
            OutgoingMail.state
        )
    )
    found = {MailState(state): (count, first) for state, count, first in rows}
    counts = {str(state): found[state][0] if state in found else 0 for state in MailState}
    oldest = min((found[state][1] for state in OPEN if state in found), default=None)
    return Queue(oldest=oldest, problem=_last_problem(session), **counts)


def _last_problem(session: Session) -> str | None:
    with_problem = select(OutgoingMail.problem).where(OutgoingMail.problem.is_not(None)).limit(1)
    return session.scalar(
        with_problem.where(OutgoingMail.state.in_(OPEN)).order_by(OutgoingMail.created_at)
    ) or session.scalar(
        with_problem.where(OutgoingMail.state == MailState.FAILED).order_by(
            OutgoingMail.next_at.desc()
        )
    )
