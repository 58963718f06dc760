"""Passkeys of a person: list, add, name, use, remove.

A ceremony has two requests: the browser asks for a challenge, and answers it within minutes.
A challenge is answered once, in the browser session it was given to, for the purpose it was
given for. Verifying reads only (:func:`check_use`, :func:`check_new`); then, in the
transaction that changes something, the challenge is taken away, and whoever finds none to
take has lost. A wrong answer takes it away too (:func:`discard`).

Only so many challenges are open of one network, or of one session. Whoever asks for another
gets it, and the oldest of them ends: so strangers neither fill the table nor keep anybody from
asking.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, Select, delete, select, update
from sqlalchemy.orm import Session

from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.db.dialect import insert_or
from medportal.identity.ceremonies import (
    MINUTES,
    Known,
    NewAnswer,
    NewKey,
    Purpose,
    Site,
    UseAnswer,
    challenge_of,
    creation_options,
    handle_of,
    request_options,
    verify_new,
    verify_use,
)
from medportal.identity.errors import PasskeyRefused, TooManyPasskeys
from medportal.identity.factors import lock_account
from medportal.identity.models import Account, AccountStatus, Passkey, PasskeyChallenge, Person

LIFETIME = timedelta(minutes=MINUTES)
CHALLENGE_BYTES = 32
#: Open challenges that one network has for signing in. So many that a program behind the same
#: address has to ask for a hundred a second before the challenge of somebody who takes ten
#: seconds to answer is among the oldest.
MOST_OPEN = 1000
#: Open challenges of one session, where it is known who is asked. Nobody else has that session.
MOST_OPEN_OF_SESSION = 10
MOST_PASSKEYS = 20
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class PasskeyLine:
    """One of a person's passkeys, as a list shows it."""

    id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None
    #: Whether the device's maker keeps a copy, so that losing the device does not lose it.
    backed_up: bool


@dataclass(frozen=True, slots=True)
class Ceremony:
    """Who is asked for a passkey, and what for.

    ``person_id`` is ``None`` where nobody is known yet; ``bound_to`` the session, or the
    browser's token before there is one; ``sent_to`` what open challenges are counted under.
    """

    purpose: Purpose
    person_id: str | None
    bound_to: str
    sent_to: bytes


@dataclass(frozen=True, slots=True)
class _Challenge:
    id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """A verified passkey, before its challenge is spent."""

    challenge_id: str
    key: NewKey


@dataclass(frozen=True, slots=True)
class Proof:
    """A verified use of a passkey, before its challenge is spent."""

    challenge_id: str
    person_id: str
    passkey_id: str
    old_count: int
    new_count: int
    backed_up: bool


def passkeys_of(session: Session, person_id: str) -> list[PasskeyLine]:
    """Return a person's passkeys, oldest first."""
    return [_line(row) for row in session.scalars(_of(person_id))]


def find_passkey(session: Session, person_id: str, passkey_id: str) -> PasskeyLine | None:
    """Return one of a person's passkeys."""
    row = session.scalar(_of(person_id).where(Passkey.id == passkey_id))
    return None if row is None else _line(row)


def rename(session: Session, person_id: str, passkey_id: str, name: str) -> bool:
    """Give one of a person's passkeys another name; tell whether it was there."""
    changed = session.execute(
        update(Passkey)
        .where(Passkey.id == passkey_id, Passkey.person_id == person_id)
        .values(name=name)
    )
    return _count(changed) > 0


def remove(session: Session, person_id: str, passkey_id: str) -> bool:
    """Delete one of a person's passkeys; tell whether it was there.

    Whether it may go, and what goes with it, is for ``factors.remove_factor`` to say.
    """
    gone = session.execute(
        delete(Passkey).where(Passkey.id == passkey_id, Passkey.person_id == person_id)
    )
    return _count(gone) > 0


def owner_of(session: Session, credential_id: bytes) -> str | None:
    """Return whose passkey an answer names, if it is known here; it proves nothing."""
    return session.scalar(select(Passkey.person_id).where(Passkey.credential_id == credential_id))


def use_options(session: Session, site: Site, ceremony: Ceremony, now: datetime) -> dict[str, Any]:
    """Remember a challenge and return what the browser needs to use a passkey.

    Where nobody is known yet, no passkey is named: what an account has is told to nobody.
    """
    allowed = [] if ceremony.person_id is None else _known(session, ceremony.person_id)
    return request_options(site, _new_challenge(session, ceremony, now), allowed)


def new_options(
    session: Session, site: Site, ceremony: Ceremony, person_id: str, now: datetime
) -> dict[str, Any]:
    """Remember a challenge and return what the browser needs to make a passkey.

    Raises ``TooManyPasskeys``.
    """
    known = _known(session, person_id)
    if len(known) >= MOST_PASSKEYS:
        raise TooManyPasskeys("too many passkeys")
    name = session.scalars(select(Person.name).where(Person.id == person_id)).one()
    challenge = _new_challenge(session, ceremony, now)
    return creation_options(site, person_id, name, challenge, known)


def check_use(
    session: Session, site: Site, ceremony: Ceremony, answer: UseAnswer, now: datetime
) -> Proof:
    """Verify a use of a passkey; writes nothing. Raises ``PasskeyRefused``.

    1. It answers a challenge of this ceremony that is open: sent to this session, or this
       browser, for this purpose and person, not long ago, and not answered yet.
    2. The passkey is known here, and of the person who is asked, if it is known who.
    3. The authenticator keeps it for that person. Where nobody is known it has to say for whom.
    4. What :func:`medportal.identity.ceremonies.verify_use` checks.
    5. The account is active; the counter of the passkey, if it has one, went on.
    """
    challenge = _open_challenge(session, ceremony, answer.client_data, now)  # 1
    row = session.execute(
        select(Passkey, Account.status)
        .join(Account, Account.person_id == Passkey.person_id)
        .where(Passkey.credential_id == answer.credential_id)
    ).one_or_none()
    if row is None or ceremony.person_id not in {None, row.Passkey.person_id}:
        raise PasskeyRefused(Reason.UNKNOWN_PASSKEY, ceremony.person_id)  # 2
    passkey: Passkey = row.Passkey
    if not _is_kept_for(ceremony, passkey, answer):
        raise PasskeyRefused(Reason.UNKNOWN_PASSKEY, ceremony.person_id)  # 3
    try:
        used = verify_use(site, challenge.value, answer, passkey.public_key)  # 4
    except PasskeyRefused as refused:
        raise PasskeyRefused(refused.reason, passkey.person_id, passkey.id) from refused
    if row.status != AccountStatus.ACTIVE:
        raise PasskeyRefused(Reason.SUSPENDED, passkey.person_id, passkey.id)  # 5
    if passkey.sign_count > 0 and used.sign_count <= passkey.sign_count:
        raise PasskeyRefused(Reason.POSSIBLE_CLONE, passkey.person_id, passkey.id)  # 5
    return Proof(
        challenge.id,
        passkey.person_id,
        passkey.id,
        passkey.sign_count,
        used.sign_count,
        used.backed_up,
    )


def accept_use(session: Session, proof: Proof, now: datetime) -> None:
    """Spend the challenge of a verified use and note the use.

    Raises ``PasskeyRefused`` if another answer was faster, or the account was suspended or
    the passkey removed or used since it was verified. Nothing is to be granted then.
    """
    _spend(session, proof.challenge_id)
    status = session.scalar(
        select(Account.status).where(Account.person_id == proof.person_id).with_for_update()
    )
    if status != AccountStatus.ACTIVE:
        raise PasskeyRefused(Reason.SUSPENDED, proof.person_id, proof.passkey_id)
    noted = session.execute(
        update(Passkey)
        .where(Passkey.id == proof.passkey_id, Passkey.sign_count == proof.old_count)
        .values(sign_count=proof.new_count, backed_up=proof.backed_up, last_used_at=now)
    )
    if _count(noted) == 0:
        raise PasskeyRefused(Reason.UNKNOWN_PASSKEY, proof.person_id, proof.passkey_id)


def check_new(
    session: Session, site: Site, ceremony: Ceremony, answer: NewAnswer, now: datetime
) -> NewPasskey:
    """Verify a passkey that was just made; writes nothing. Raises ``PasskeyRefused``."""
    challenge = _open_challenge(session, ceremony, answer.client_data, now)
    return NewPasskey(challenge.id, verify_new(site, challenge.value, answer))


def add(session: Session, person_id: str, made: NewPasskey, name: str, now: datetime) -> str:
    """Spend the challenge of a verified passkey and store it under a name; return its id.

    Raises ``PasskeyRefused`` if another answer was faster, or if it is known here already,
    whosever it is, and ``TooManyPasskeys``.
    """
    _spend(session, made.challenge_id)
    key = made.key
    lock_account(session, person_id)
    if len(_known(session, person_id)) >= MOST_PASSKEYS:
        raise TooManyPasskeys("too many passkeys")
    passkey_id = new_id()
    added = session.execute(
        insert_or(session, Passkey)
        .values(
            id=passkey_id,
            person_id=person_id,
            credential_id=key.credential_id,
            public_key=key.public_key,
            sign_count=key.sign_count,
            transports=key.transports,
            backed_up=key.backed_up,
            name=name,
            created_at=now,
            last_used_at=None,
        )
        .on_conflict_do_nothing(index_elements=[Passkey.credential_id])
        .returning(Passkey.id)
    )
    if added.one_or_none() is None:
        raise PasskeyRefused(Reason.WRONG_CREDENTIALS, person_id)
    return passkey_id


def discard(session: Session, ceremony: Ceremony, client_data: bytes) -> None:
    """Take away the challenge that a refused answer was for, if there is one: no second try."""
    try:
        value = challenge_of(client_data)
    except PasskeyRefused:
        # It names none that we could take away.
        return
    challenge_id = _challenge_id(ceremony, value)
    session.execute(delete(PasskeyChallenge).where(PasskeyChallenge.id == challenge_id))


def forget_stale_challenges(session: Session, now: datetime) -> None:
    """Delete challenges that nobody answered in time."""
    session.execute(delete(PasskeyChallenge).where(PasskeyChallenge.expires_at <= now))


def _open_challenge(
    session: Session, ceremony: Ceremony, client_data: bytes, now: datetime
) -> _Challenge:
    value = challenge_of(client_data)
    challenge = _Challenge(_challenge_id(ceremony, value), value)
    found = session.scalar(
        select(PasskeyChallenge.id).where(
            PasskeyChallenge.id == challenge.id,
            PasskeyChallenge.challenge == value,
            PasskeyChallenge.expires_at > now,
        )
    )
    if found is None:
        raise PasskeyRefused(Reason.EXPIRED, ceremony.person_id)
    return challenge


def _spend(session: Session, challenge_id: str) -> None:
    taken = session.execute(
        delete(PasskeyChallenge)
        .where(PasskeyChallenge.id == challenge_id)
        .returning(PasskeyChallenge.id)
    )
    if taken.one_or_none() is None:
        raise PasskeyRefused(Reason.EXPIRED)


def _is_kept_for(ceremony: Ceremony, passkey: Passkey, answer: UseAnswer) -> bool:
    if answer.user_handle is None:
        return ceremony.person_id is not None
    return answer.user_handle == handle_of(passkey.person_id)


def _new_challenge(session: Session, ceremony: Ceremony, now: datetime) -> bytes:
    _make_room(session, ceremony)
    value = secrets.token_bytes(CHALLENGE_BYTES)
    session.add(
        PasskeyChallenge(
            id=_challenge_id(ceremony, value),
            challenge=value,
            purpose=ceremony.purpose,
            person_id=ceremony.person_id,
            sent_to=ceremony.sent_to,
            expires_at=now + LIFETIME,
        )
    )
    return value


def _make_room(session: Session, ceremony: Ceremony) -> None:
    """Take the oldest challenges away where there would be more than there may be."""
    most = MOST_OPEN if ceremony.person_id is None else MOST_OPEN_OF_SESSION
    too_many = (
        select(PasskeyChallenge.id)
        .where(PasskeyChallenge.sent_to == ceremony.sent_to)
        .order_by(PasskeyChallenge.expires_at.desc(), PasskeyChallenge.id)
        .offset(most - 1)
        # Of two who do this at once neither waits for the other, who takes the same away.
        .with_for_update(skip_locked=True)
    )
    session.execute(delete(PasskeyChallenge).where(PasskeyChallenge.id.in_(too_many)))


def _challenge_id(ceremony: Ceremony, value: bytes) -> str:
    """Return the id of a challenge, which another session, person or purpose does not find."""
    parts = (ceremony.purpose, ceremony.person_id or "", ceremony.bound_to, value.hex())
    text = "\0".join(("medportal passkey challenge", *parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _known(session: Session, person_id: str) -> Sequence[Known]:
    rows = session.execute(
        select(Passkey.credential_id, Passkey.transports)
        .where(Passkey.person_id == person_id)
        .order_by(Passkey.created_at, Passkey.id)
    )
    return [Known(row.credential_id, row.transports) for row in rows]


def _of(person_id: str) -> Select[Passkey]:
    return (
        select(Passkey)
        .where(Passkey.person_id == person_id)
        .order_by(Passkey.created_at, Passkey.id)
    )


def _line(row: Passkey) -> PasskeyLine:
    return PasskeyLine(row.id, row.name, row.created_at, row.last_used_at, row.backed_up)


def _count(result: object) -> int:
    return cast("CursorResult[Any]", result).rowcount
