"""Recovery codes: ten, each good once, for when phone or passkey is not at hand.

Sixty random bits each, so that nobody guesses one. The database holds them as argon2id
hashes with a random salt, bound to the person: with less than 112 bits a plain hash would
not keep whoever has the database from trying them all (ASVS 5.0, 6.5.2; NIST SP 800-63B-4,
3.1.2). Making ten takes a moment: callers do it before the transaction that stores them.
"""

import secrets
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from argon2 import Type
from argon2.low_level import hash_secret_raw
from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from medportal.audit.events import Action, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.reasons import Reason
from medportal.identity.errors import CodeRefused, TooManyCodes
from medportal.identity.models import RecoveryCode
from medportal.identity.notices import notify
from medportal.identity.passwords import TURNS
from medportal.mail.kinds import MailKind

COUNT = 10
#: How often somebody gets new ones within the hour: each time they are told by mail.
MOST_MAKINGS = 3
MAKINGS_WITHIN = timedelta(hours=1)
#: With so few left it is time to make new ones.
FEW = 3
# Crockford's alphabet: no letter that is taken for a digit when read aloud or copied.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 12
#: What is longer than this as it was typed is no code of any kind.
LONGEST_TYPED = 200
_LOOK_ALIKES = str.maketrans("OIL", "011")
_SALT_BYTES = 8
_HASH_BYTES = 24
# OWASP's least parameters for argon2id: the codes are random, and ten are made at once.
_TIME_COST = 2
_MEMORY_KIB = 19_456


@dataclass(frozen=True, slots=True)
class FreshCodes:
    """Codes that were made and are not stored yet, each with what the database will hold."""

    codes: tuple[str, ...] = field(repr=False)
    hashes: tuple[bytes, ...] = field(repr=False)


def make_codes(person_id: str) -> FreshCodes:
    """Return ten new codes; slow, and without any database."""
    salt = secrets.token_bytes(_SALT_BYTES)
    codes = ["".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for _ in range(COUNT)]
    return FreshCodes(
        tuple("-".join(code[i : i + 4] for i in range(0, LENGTH, 4)) for code in codes),
        tuple(_hash(person_id, code, salt) for code in codes),
    )


def replace_codes(
    session: Session, person_id: str, now: datetime, made: FreshCodes | None = None
) -> list[str]:
    """Store new codes in the place of all older ones; return them, to be shown once."""
    made = made or make_codes(person_id)
    session.execute(delete(RecoveryCode).where(RecoveryCode.person_id == person_id))
    session.add_all(
        RecoveryCode(person_id=person_id, code_hash=hashed, created_at=now, used_at=None)
        for hashed in made.hashes
    )
    notify(session, person_id, MailKind.RECOVERY_CODES_MADE, now)
    return list(made.codes)


def ensure_codes(
    session: Session,
    person_id: str,
    now: datetime,
    made: FreshCodes | None = None,
    *,
    is_first: bool,
) -> list[str] | None:
    """Return new codes for somebody who has none left that is unused, else ``None``.

    For whoever just got a second factor. With the ``is_first`` one the codes are new whatever
    there was: codes from before it stood in for nothing, and may be in anybody's hands. ``made``
    are codes from :func:`make_codes`, made before the transaction: here they would take their
    time while others wait for the lock.
    """
    if not is_first and codes_left(session, person_id):
        return None
    return replace_codes(session, person_id, now, made)


def require_room(session: Session, person_id: str, now: datetime) -> None:
    """Raise ``TooManyCodes`` for somebody who got new codes too often of late."""
    makings = session.scalar(
        select(func.count())
        .select_from(AuditEvent)
        .where(
            AuditEvent.actor == person_id,
            AuditEvent.at > now - MAKINGS_WITHIN,
            AuditEvent.action == Action.RECOVERY_CODES_MADE,
            AuditEvent.outcome == Outcome.ALLOWED,
        )
    )
    if (makings or 0) >= MOST_MAKINGS:
        raise TooManyCodes("too many recovery codes of late")


def codes_left(session: Session, person_id: str) -> int:
    """Return how many codes somebody has left."""
    counted = session.scalar(
        select(func.count())
        .select_from(RecoveryCode)
        .where(RecoveryCode.person_id == person_id, RecoveryCode.used_at.is_(None))
    )
    return counted or 0


def read_code(typed: str) -> str | None:
    """Return a recovery code in its one form, or ``None`` for what cannot be one."""
    if len(typed) > LONGEST_TYPED:
        return None
    text = unicodedata.normalize("NFKC", typed).upper()
    kept = "".join(ch for ch in text if not is_separator(ch)).translate(_LOOK_ALIKES)
    return kept if len(kept) == LENGTH and set(kept) <= set(ALPHABET) else None


def is_separator(character: str) -> bool:
    """Tell whether a character only parts groups: a space, a hyphen, an invisible mark."""
    return character.isspace() or unicodedata.category(character) in {"Pd", "Cf"}


def hash_of(session: Session, person_id: str, code: str) -> bytes:
    """Return what the database holds if ``code`` is one of this person's; slow, reads only."""
    stored = session.scalar(
        select(RecoveryCode.code_hash).where(RecoveryCode.person_id == person_id).limit(1)
    )
    # Whoever has no codes takes as long as others.
    return _hash(person_id, code, (stored or bytes(_SALT_BYTES))[:_SALT_BYTES])


def use_code(session: Session, person_id: str, hashed: bytes, now: datetime) -> int:
    """Use up a code by what :func:`hash_of` returned; return how many are left.

    Of two who use one code at once, one succeeds. Raises ``CodeRefused``.
    """
    mine = (RecoveryCode.person_id == person_id, RecoveryCode.code_hash == hashed)
    used = session.execute(
        update(RecoveryCode).where(*mine, RecoveryCode.used_at.is_(None)).values(used_at=now)
    )
    if not cast("CursorResult[Any]", used).rowcount:
        known = session.scalar(select(RecoveryCode.created_at).where(*mine))
        raise CodeRefused(Reason.USED_CODE if known else Reason.WRONG_CODE)
    left = codes_left(session, person_id)
    notify(session, person_id, MailKind.RECOVERY_CODE_USED, now, left=left)
    return left


def _hash(person_id: str, code: str, salt: bytes) -> bytes:
    secret = "\0".join(("medportal recovery code", person_id, code)).encode("ascii")
    with TURNS:
        hashed = hash_secret_raw(
            secret,
            salt,
            time_cost=_TIME_COST,
            memory_cost=_MEMORY_KIB,
            parallelism=1,
            hash_len=_HASH_BYTES,
            type=Type.ID,
        )
    return salt + hashed
