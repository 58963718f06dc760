"""Mails to people about their own account."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.identity.models import Person
from medportal.mail.kinds import MailKind
from medportal.mail.outbox import post


def notify(
    session: Session, person_id: str, kind: MailKind, now: datetime, **params: str | int
) -> None:
    """Post a mail to the address that somebody has now; without an address there is none.

    It is committed with its cause. ``params`` are what its words need, never a secret.
    """
    notify_at(session, person_id, None, kind, now, **params)


def notify_at(
    session: Session,
    person_id: str,
    address: str | None,
    kind: MailKind,
    now: datetime,
    **params: str | int,
) -> None:
    """Post a mail to an address of somebody that is not, or no longer, the one they have."""
    person = session.execute(
        select(Person.email, Person.language).where(Person.id == person_id)
    ).one_or_none()
    if person is None:
        return
    to = person.email if address is None else address
    post(
        session,
        kind,
        to=to,
        language=person.language,
        now=now,
        person_id=person_id,
        params=params,
    )
