"""Mailed links: asked for here, their tokens made when the mail is sent, kept as hashes.

The outbox holds no token, so that whoever reads the database finds none. The kind of link is
part of what is hashed: a link for one purpose is nothing at the page of another.
"""

import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from medportal.core.clock import to_micros
from medportal.db.dialect import insert_or
from medportal.identity.models import Account, AccountStatus, Activation, EmailChange, Person
from medportal.mail.kinds import LIFETIMES, MailKind, Params
from medportal.mail.models import OutgoingMail
from medportal.mail.outbox import post

#: How many mails with a link one person gets: a stranger who asks in their name is a nuisance
#: three times an hour, and the newest mail works all the while.
MOST_MAILS = 3
MAILS_WITHIN = timedelta(hours=1)
#: So long a link that was mailed is not replaced because somebody asks for another: a stranger
#: who asks in a person's name does not end the link that the person is about to open.
UNTOUCHED = timedelta(minutes=15)
#: The mails that are counted together.
LINK_KINDS = frozenset({MailKind.ACTIVATION, MailKind.RESET})
#: The parameter of a mail that says when it was asked for, in microseconds.
ASKED = "asked"


def send_link(session: Session, person_id: str, now: datetime) -> bool:
    """Post a mail with a link with which somebody chooses a password, the first or a new one.

    Returns whether there is a mail: not without an address, not for a suspended account, and
    not more than :data:`MOST_MAILS` an hour.
    """
    # The lock makes the count of mails exact when two ask at once.
    found = session.execute(
        select(
            Account.password_hash,
            Account.password_changed_at,
            Account.status,
            Person.email,
            Person.language,
        )
        .join(Person, Person.id == Account.person_id)
        .where(Account.person_id == person_id)
        .with_for_update(of=Account)
    ).one_or_none()
    if found is None or found.status != AccountStatus.ACTIVE or not found.email:
        return False
    kind, since = link_kind(found.password_hash), found.password_changed_at
    if mails_of_late(session, person_id, kind, now, since) >= MOST_MAILS:
        return False
    post(
        session,
        kind,
        to=found.email,
        language=found.language,
        now=now,
        person_id=person_id,
        params={ASKED: to_micros(now)},
    )
    return True


def link_kind(password_hash: str | None) -> MailKind:
    """Return which link an account gets: its first, or one for a forgotten password."""
    return MailKind.ACTIVATION if password_hash is None else MailKind.RESET


def mails_of_late(
    session: Session,
    person_id: str,
    kind: MailKind,
    now: datetime,
    since: datetime | None = None,
) -> int:
    """Return how many mails of a kind were posted for somebody within the hour.

    Those from before ``since`` have served their purpose, and do not count.
    """
    begun = now - MAILS_WITHIN
    return (
        session.scalar(
            select(func.count())
            .select_from(OutgoingMail)
            .where(
                OutgoingMail.person_id == person_id,
                OutgoingMail.kind == kind,
                OutgoingMail.created_at > begun,
                OutgoingMail.created_at >= (since or begun),
            )
        )
        or 0
    )


def has_new_link(session: Session, person_id: str, kind: MailKind, now: datetime) -> bool:
    """Tell whether somebody has a link that works and was mailed a moment ago."""
    found = session.scalar(
        select(func.count())
        .select_from(OutgoingMail)
        .join(Activation, Activation.person_id == OutgoingMail.person_id)
        .where(
            OutgoingMail.person_id == person_id,
            OutgoingMail.kind == kind,
            OutgoingMail.sent_at > now - UNTOUCHED,
            Activation.link_hash.is_not(None),
            Activation.link_expires_at > now,
        )
    )
    return bool(found)


def mint(
    session: Session,
    kind: MailKind,
    person_id: str,
    params: Params,
    now: datetime,
) -> str | None:
    """Return the token for a mail that is about to be sent, and store its hash.

    ``None`` says that the mail has no reason to be sent any more: the account was suspended
    or activated since, the address changed, the request was called off. A token that was
    made for the same purpose before ends.
    """
    token = secrets.token_urlsafe(32)
    hashed = link_hash(kind, token)
    if kind is MailKind.EMAIL_CONFIRM:
        stored = _keep_for_change(session, person_id, str(params.get("change", "")), hashed, now)
    elif kind in LINK_KINDS:
        stored = _is_wanted(session, kind, person_id, params)
        if stored:
            _keep_for_account(session, kind, person_id, hashed, now)
    else:
        raise ValueError(f"no link belongs into a mail of kind {kind}")
    return token if stored else None


def link_hash(kind: MailKind, token: str) -> bytes:
    """Return what the database holds of a token."""
    text = f"medportal link\0{kind}\0{token}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def forget_link(session: Session, person_id: str) -> None:
    """End the link that somebody was mailed, if there is one; a code from the desk stays."""
    session.execute(
        update(Activation)
        .where(Activation.person_id == person_id)
        .values(link_hash=None, link_expires_at=None)
    )


def _is_wanted(session: Session, kind: MailKind, person_id: str, params: Params) -> bool:
    account = session.execute(
        select(Account.password_hash, Account.status).where(Account.person_id == person_id)
    ).one_or_none()
    return (
        account is not None
        and account.status == AccountStatus.ACTIVE
        and kind is link_kind(account.password_hash)
        and not _address_changed_since(session, person_id, int(params.get(ASKED, 0)))
    )


def _address_changed_since(session: Session, person_id: str, asked_at: int) -> bool:
    """Tell whether the mail lies in the outbox under an address that is no longer theirs."""
    changed_at = session.scalar(
        select(func.max(EmailChange.done_at)).where(EmailChange.person_id == person_id)
    )
    return changed_at is not None and to_micros(changed_at) >= asked_at


def _keep_for_account(
    session: Session, kind: MailKind, person_id: str, hashed: bytes, now: datetime
) -> None:
    half = {"link_hash": hashed, "link_expires_at": now + LIFETIMES[kind]}
    insert = insert_or(session, Activation).values(person_id=person_id, **half)
    session.execute(insert.on_conflict_do_update(index_elements=[Activation.person_id], set_=half))


def _keep_for_change(
    session: Session, person_id: str, change: str, hashed: bytes, now: datetime
) -> bool:
    kept = session.scalar(
        update(EmailChange)
        .where(
            EmailChange.id == change,
            EmailChange.person_id == person_id,
            EmailChange.approved_by.is_(None),
            EmailChange.done_at.is_(None),
            EmailChange.cancelled_at.is_(None),
        )
        .values(link_hash=hashed, expires_at=now + LIFETIMES[MailKind.EMAIL_CONFIRM])
        .returning(EmailChange.id)
    )
    return kept is not None
