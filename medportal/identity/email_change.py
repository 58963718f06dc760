"""Changing a mail address, which is half of every new password.

It takes the holder, signed in and confirmed of late, and a link that was mailed to the new
address and is opened in the holder's own session: somebody who got the mail by a slip of the
keyboard cannot use it. Or it takes two members of staff and a delay, in which the holder is
told at the old address and can object. Whoever has an address keeps one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from medportal.core.clock import to_micros
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.identity.emails import same_address
from medportal.identity.errors import EmailChangeRefused
from medportal.identity.links import forget_link, link_hash, mails_of_late
from medportal.identity.models import Account, AccountStatus, EmailChange, Person
from medportal.identity.notices import notify, notify_at
from medportal.mail.kinds import MailKind

#: Confirmations one person may ask for within an hour: each goes to an address of their choice.
MOST_CONFIRMATIONS = 3
#: A change that nobody confirmed, because its mail never left or was never read.
GIVEN_UP_AFTER = timedelta(days=7)
#: How long a change that is over is kept: an address that somebody had is personal.
KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that has not happened yet. ``effective_at`` is there if staff asked for it."""

    id: str
    new_email: str
    requested_at: datetime
    effective_at: datetime | None


@dataclass(frozen=True, slots=True)
class Changed:
    """A change that has just happened; ``by_staff`` tells who began it."""

    id: str
    person_id: str
    by_staff: bool


def pending_changes(session: Session, person_id: str, now: datetime) -> list[Pending]:
    """Return what is about to become of somebody's address, oldest first."""
    rows = session.scalars(
        select(EmailChange)
        .where(EmailChange.person_id == person_id, _is_pending(now))
        .order_by(EmailChange.requested_at, EmailChange.id)
    )
    return [_pending(row) for row in rows]


def request_own(session: Session, person_id: str, new_email: str, now: datetime) -> str:
    """Note that somebody wants another address for themselves; return the change's id.

    The new address gets a link, the old one a notice. An earlier wish of theirs ends. Raises
    ``EmailChangeRefused`` for the address that they have, or after too many mails.
    """
    old = _email_of(session, person_id)
    if same_address(old, new_email):
        raise EmailChangeRefused(Reason.NOTHING_NEW)
    if mails_of_late(session, person_id, MailKind.EMAIL_CONFIRM, now) >= MOST_CONFIRMATIONS:
        raise EmailChangeRefused(Reason.TOO_MANY)
    _cancel(session, now, EmailChange.person_id == person_id, EmailChange.approved_by.is_(None))
    change_id = _add(session, person_id, new_email, person_id, now)
    notify_at(session, person_id, new_email, MailKind.EMAIL_CONFIRM, now, change=change_id)
    notify(session, person_id, MailKind.EMAIL_REQUESTED, now)
    return change_id


def request_by_staff(
    session: Session,
    person_id: str,
    new_email: str,
    requested_by: str,
    approved_by: str,
    now: datetime,
    delay: timedelta,
) -> str:
    """Note a change that one member of staff asked for and another approved; return its id.

    It happens after ``delay`` unless the holder objects; the old address is told at once.
    Raises ``EmailChangeRefused`` unless these are three different people, and for the address
    that the person has.
    """
    if person_id in {requested_by, approved_by}:
        raise EmailChangeRefused(Reason.OWN_ACCOUNT)
    if requested_by == approved_by:
        raise EmailChangeRefused(Reason.SECOND_PERSON_NEEDED)
    if same_address(_email_of(session, person_id), new_email):
        raise EmailChangeRefused(Reason.NOTHING_NEW)
    by_staff = EmailChange.approved_by.is_not(None)
    _cancel(session, now, EmailChange.person_id == person_id, by_staff)
    at = now + delay
    change_id = _add(session, person_id, new_email, requested_by, now, approved_by, at)
    notify(session, person_id, MailKind.EMAIL_BY_STAFF, now, at=to_micros(at))
    return change_id


def find_by_link(session: Session, person_id: str, token: str, now: datetime) -> Pending | None:
    """Return the person's own change whose link this is, if it can still be confirmed."""
    hashed = link_hash(MailKind.EMAIL_CONFIRM, token)
    row = session.scalar(
        select(EmailChange).where(
            EmailChange.link_hash == hashed,
            EmailChange.person_id == person_id,
            EmailChange.expires_at > now,
            _is_pending(now),
        )
    )
    return None if row is None else _pending(row)


def confirm(session: Session, person_id: str, token: str, now: datetime) -> Changed | None:
    """Change the address, after its link was opened; ``None`` if that link is no good."""
    found = find_by_link(session, person_id, token, now)
    return _apply(session, found.id, now) if found else None


def cancel(session: Session, person_id: str, change_id: str, now: datetime) -> Pending | None:
    """Call off a change of the person's address; return it, or ``None`` if it was not there."""
    found = next((c for c in pending_changes(session, person_id, now) if c.id == change_id), None)
    if found is None or not _cancel(session, now, EmailChange.id == found.id):
        return None
    return found


def cancel_all(session: Session, person_id: str, now: datetime) -> None:
    """Call off every change of somebody's address, by whomever it was asked for."""
    _cancel(session, now, EmailChange.person_id == person_id)


def cancel_everybodys(session: Session, now: datetime) -> None:
    """Call off every change that waits, whosever it is: after a restore."""
    _cancel(session, now)


def change_by_staff(session: Session, person_id: str, now: datetime) -> Pending | None:
    """Return the change that staff asked for and that has not happened yet."""
    changes = pending_changes(session, person_id, now)
    return next((change for change in changes if change.effective_at is not None), None)


def cancel_by_staff(session: Session, person_id: str, now: datetime) -> Pending | None:
    """Call off the change that staff asked for; return it, or ``None`` if there is none."""
    found = change_by_staff(session, person_id, now)
    return None if found is None else cancel(session, person_id, found.id, now)


def apply_due(session: Session, now: datetime) -> list[Changed]:
    """Carry out what staff asked for and nobody objected to in time.

    Whoever is suspended cannot object: theirs do not happen.
    """
    due = session.scalars(
        select(EmailChange.id)
        .where(EmailChange.effective_at <= now, _is_pending(now), _is_active())
        .order_by(EmailChange.effective_at, EmailChange.id)
        .limit(100)
    ).all()
    applied = [_apply(session, change_id, now) for change_id in due]
    return [change for change in applied if change is not None]


def has_due(session: Session, now: datetime) -> bool:
    """Tell whether :func:`apply_due` has something to do."""
    due = select(EmailChange.id).where(
        EmailChange.effective_at <= now, _is_pending(now), _is_active()
    )
    return session.scalar(due.limit(1)) is not None


def forget_old_changes(session: Session, now: datetime) -> None:
    """Give up changes that nobody confirmed, and delete those that are long over."""
    abandoned = and_(
        EmailChange.approved_by.is_(None), EmailChange.requested_at <= now - GIVEN_UP_AFTER
    )
    _cancel(session, now, or_(abandoned, EmailChange.expires_at <= now))
    session.execute(
        delete(EmailChange).where(
            or_(EmailChange.done_at <= now - KEPT_FOR, EmailChange.cancelled_at <= now - KEPT_FOR)
        )
    )


def _apply(session: Session, change_id: str, now: datetime) -> Changed | None:
    """Make the new address the person's; of two that try at once one does it."""
    row = session.execute(
        update(EmailChange)
        .where(EmailChange.id == change_id, _is_pending(now), _is_active())
        .values(done_at=now, link_hash=None)
        .returning(EmailChange.person_id, EmailChange.new_email, EmailChange.approved_by)
    ).one_or_none()
    if row is None:
        return None
    old = _email_of(session, row.person_id)
    session.execute(update(Person).where(Person.id == row.person_id).values(email=row.new_email))
    _cancel(session, now, EmailChange.person_id == row.person_id)
    # A link in a mailbox that is no longer theirs opens nothing.
    forget_link(session, row.person_id)
    for address in (old, row.new_email):
        notify_at(session, row.person_id, address, MailKind.EMAIL_CHANGED, now)
    return Changed(change_id, row.person_id, row.approved_by is not None)


def _add(
    session: Session,
    person_id: str,
    new_email: str,
    requested_by: str,
    now: datetime,
    approved_by: str | None = None,
    effective_at: datetime | None = None,
) -> str:
    change = EmailChange(
        id=new_id(),
        person_id=person_id,
        new_email=new_email,
        requested_by=requested_by,
        requested_at=now,
        approved_by=approved_by,
        effective_at=effective_at,
    )
    session.add(change)
    return change.id


def _cancel(session: Session, now: datetime, *which: ColumnElement[bool]) -> bool:
    """Call off the changes that match and have not happened; tell whether there was one."""
    cancelled = session.scalars(
        update(EmailChange)
        .where(EmailChange.done_at.is_(None), EmailChange.cancelled_at.is_(None), *which)
        .values(cancelled_at=now, link_hash=None)
        .returning(EmailChange.id)
    )
    return bool(cancelled.all())


def _pending(row: EmailChange) -> Pending:
    return Pending(row.id, row.new_email, row.requested_at, row.effective_at)


def _is_pending(now: datetime) -> ColumnElement[bool]:
    return and_(
        EmailChange.done_at.is_(None),
        EmailChange.cancelled_at.is_(None),
        or_(EmailChange.expires_at.is_(None), EmailChange.expires_at > now),
    )


def _is_active() -> ColumnElement[bool]:
    active = select(Account.person_id).where(Account.status == AccountStatus.ACTIVE)
    return EmailChange.person_id.in_(active)


def _email_of(session: Session, person_id: str) -> str:
    return session.scalar(select(Person.email).where(Person.id == person_id)) or ""
