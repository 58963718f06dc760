"""A forgotten password: asking for a link, and choosing another with it.

The link goes to the mailbox; besides it the person shows a second factor, or, without one, a
code from the desk. Asking says the same and does the same work whoever is asked for. Each
wrong answer costs the link an eighth of its time, so that somebody who reads the mailbox
cannot go on guessing six digits from a thousand addresses.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medportal.core.clock import to_micros
from medportal.core.ids import new_id
from medportal.identity import codes
from medportal.identity.codes import Shown
from medportal.identity.links import (
    ASKED,
    MOST_MAILS,
    has_new_link,
    link_kind,
    mails_of_late,
)
from medportal.identity.models import Account, AccountStatus, Activation, Person, PersonIdentifier
from medportal.identity.notices import notify
from medportal.mail.kinds import LIFETIMES, MailKind
from medportal.mail.outbox import post
from medportal.tenancy.tenant import Tenant

WRONG_ANSWERS = 8
# What stands in the place of an address in the row that is taken back at once.
_NOBODY = "nobody@invalid"


@dataclass(frozen=True, slots=True)
class Asked:
    """For whom a link was asked, if there is such a person, and whether a mail goes out."""

    person_id: str | None
    mail_sent: bool


def request_link(session: Session, tenant: Tenant, number: str, now: datetime) -> Asked:
    """Post a mail with a link to whoever has this number, if there is somebody it can go to.

    Somebody who has not activated the account gets the link for that. A link that was mailed a
    moment ago and works stays the one that does. The same statements run whoever is asked for,
    known or not, with an address or without, suspended or not.
    """
    found = session.execute(
        select(
            Person.id,
            Person.email,
            Person.language,
            Account.password_hash,
            Account.password_changed_at,
            Account.status,
        )
        .join(Account, Account.person_id == Person.id)
        .join(PersonIdentifier, PersonIdentifier.person_id == Person.id)
        .where(
            PersonIdentifier.scheme == tenant.identifiers.scheme,
            PersonIdentifier.value == number,
        )
        .with_for_update(of=Account)
    ).one_or_none()
    somebody: str = found.id if found else new_id()
    kind = link_kind(found and found.password_hash)
    since = found and found.password_changed_at
    few = mails_of_late(session, somebody, kind, now, since) < MOST_MAILS
    has_one = has_new_link(session, somebody, kind, now)
    wanted = (
        found is not None
        and bool(found.email)
        and tenant.mail is not None
        and found.status == AccountStatus.ACTIVE
        and few
        and not has_one
    )
    with session.begin_nested() as attempt:
        post(
            session,
            kind,
            to=(found and found.email) or _NOBODY,
            language=found.language if found else tenant.default_language,
            now=now,
            person_id=somebody,
            params={ASKED: to_micros(now)},
        )
        # The row is written whoever is asked for, and taken back if nobody gets the mail.
        session.flush()
        if not wanted:
            attempt.rollback()
    return Asked(somebody if found else None, wanted)


def finish(session: Session, shown: Shown, password_hash: str, now: datetime) -> None:
    """Use up what was shown, store the password, end sessions, tell the person by mail.

    The caller has checked the second half: a factor, or the code that ``shown`` carries.
    Raises ``ActivationRefused`` if the link or code is no longer good.
    """
    codes.use(session, shown, password_hash, now)
    notify(session, shown.person_id, MailKind.PASSWORD_CHANGED, now)


def count_wrong_answer(session: Session, shown: Shown) -> None:
    """Take an eighth of its time from a link after a wrong answer."""
    # Wrong answers at the same moment wait for one another here, so that each is counted.
    expires_at = session.scalar(
        select(Activation.link_expires_at)
        .where(Activation.person_id == shown.person_id, Activation.link_hash == shown.link_hash)
        .with_for_update()
    )
    if expires_at is not None:
        session.execute(
            update(Activation)
            .where(Activation.person_id == shown.person_id)
            .values(link_expires_at=expires_at - LIFETIMES[MailKind.RESET] / WRONG_ANSWERS)
        )
