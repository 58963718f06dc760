"""Authenticator apps: time-based one-time passwords (RFC 6238) through pyotp.

Thirty seconds, six digits, SHA-1: what every app has. One step before and after is taken for
now. The secret lies in the database sealed by the vault, bound to the person. A step that
was accepted is never accepted again, nor one before it (RFC 6238, section 5.2).
"""

import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import pyotp
import segno
from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.orm import Session

from medportal.core.reasons import Reason
from medportal.db.dialect import insert_or
from medportal.identity.errors import CodeRefused, SetupReplaced
from medportal.identity.models import Totp
from medportal.identity.notices import notify
from medportal.identity.recovery import LONGEST_TYPED, is_separator
from medportal.mail.kinds import MailKind
from medportal.vault.errors import VaultError
from medportal.vault.service import Vault

STEP_SECONDS = 30
DIGITS = 6
#: How long somebody may take to set an app up.
SETUP_LIFETIME = timedelta(minutes=30)
#: So many wrong codes in a row are nobody's mistakes. Six digits do not withstand somebody who
#: knows the password and has months, however slowly they are let try: each try is right in
#: three cases of a million, so a hundred in all are right in three cases of ten thousand.
MOST_IN_A_ROW = 100
_PURPOSE = "totp"
_SECRET_BYTES = 20
#: Steps that count, the likeliest first.
_WINDOW = (0, -1, 1)
#: Codes as old as that are told from wrong ones in the audit log: a clock that is off.
_OLD = range(-20, -1)
_LONGEST_LABEL = 64


@dataclass(frozen=True, slots=True)
class Setup:
    """An app that is being set up: the secret in base 32, and by what a form names it."""

    secret: str = field(repr=False)
    mark: str


@dataclass(frozen=True, slots=True)
class CheckedSetup:
    """A setup whose code was right: what :func:`finish_setup` needs."""

    sealed: bytes = field(repr=False)
    step: int


@dataclass(frozen=True, slots=True)
class Resealed:
    """A batch of secrets: how many were sealed anew, how many do not open, its last person."""

    done: int
    damaged: int
    last: str | None


def begin_setup(session: Session, vault: Vault, person_id: str, now: datetime) -> None:
    """Make a new secret for somebody who sets an app up.

    An app that is in force stays so until the new one is confirmed; a setup that was begun
    before is over.
    """
    secret = pyotp.random_base32(_SECRET_BYTES * 8 // 5)
    sealed = vault.seal_secret(_PURPOSE, person_id, secret.encode("ascii"))
    values = {"pending_secret": sealed, "pending_at": now}
    insert = insert_or(session, Totp).values(person_id=person_id, **values)
    session.execute(insert.on_conflict_do_update(index_elements=[Totp.person_id], set_=values))


def setup_of(session: Session, vault: Vault, person_id: str, now: datetime) -> Setup | None:
    """Return the setup that somebody is in the middle of, or ``None``."""
    sealed = _pending(session, person_id, now)
    if sealed is None:
        return None
    return Setup(_open(vault, person_id, sealed), _mark(sealed))


def check_setup(
    session: Session, vault: Vault, person_id: str, mark: str, code: str, now: datetime
) -> CheckedSetup:
    """Check the first code of an app that is being set up; writes nothing.

    Raises ``SetupReplaced`` if ``mark`` is not the present setup's, or ``CodeRefused``.
    """
    sealed = _pending(session, person_id, now)
    if sealed is None or not hmac.compare_digest(
        _mark(sealed).encode(), mark.encode("utf-8", "replace")
    ):
        raise SetupReplaced("another setup was begun, or none")
    return CheckedSetup(sealed, _step_of(_open(vault, person_id, sealed), code, now))


def finish_setup(session: Session, person_id: str, checked: CheckedSetup, now: datetime) -> bool:
    """Let a checked setup count, and tell the person by mail; return whether it replaced an app.

    Raises ``SetupReplaced`` if it was finished or replaced since it was checked.
    """
    before = app_since(session, person_id)
    done = session.execute(
        update(Totp)
        .where(Totp.person_id == person_id, Totp.pending_secret == checked.sealed)
        .values(
            sealed_secret=checked.sealed,
            confirmed_at=now,
            last_step=checked.step,
            wrong_in_a_row=0,
            pending_secret=None,
            pending_at=None,
        )
    )
    if not _changed(done):
        raise SetupReplaced("another setup was begun, or none")
    notify(session, person_id, MailKind.SECOND_FACTOR_ADDED, now, factor=_PURPOSE)
    return before is not None


def app_since(session: Session, person_id: str) -> datetime | None:
    """Return since when somebody has an app in force, or ``None``."""
    return session.scalar(select(Totp.confirmed_at).where(Totp.person_id == person_id))


def verify(session: Session, vault: Vault, person_id: str, code: str, now: datetime) -> None:
    """Use up a code of somebody's app.

    Raises ``CodeRefused`` for a wrong, used or old one, and for whoever has no app. Of two
    requests with one code at once, one succeeds.
    """
    sealed = session.scalar(
        select(Totp.sealed_secret).where(
            Totp.person_id == person_id, Totp.confirmed_at.is_not(None)
        )
    )
    # Whoever has no app takes as long, with a secret of nobody; no code of it counts.
    secret = pyotp.random_base32() if sealed is None else _open(vault, person_id, sealed)
    step = _step_of(secret, code, now)
    if sealed is None:
        raise CodeRefused(Reason.WRONG_CODE)
    used = session.execute(
        update(Totp)
        .where(
            Totp.person_id == person_id,
            Totp.sealed_secret == sealed,
            Totp.confirmed_at.is_not(None),
            or_(Totp.last_step.is_(None), Totp.last_step < step),
        )
        .values(last_step=step, wrong_in_a_row=0)
    )
    if not _changed(used):
        raise CodeRefused(Reason.USED_CODE)


def count_wrong(session: Session, person_id: str) -> int:
    """Count a code that was wrong; return how many there are since the last that was right."""
    counted = session.scalar(
        update(Totp)
        .where(Totp.person_id == person_id, Totp.confirmed_at.is_not(None))
        .values(wrong_in_a_row=Totp.wrong_in_a_row + 1)
        .returning(Totp.wrong_in_a_row)
    )
    return counted or 0


def is_for_known_only(session: Session, person_id: str) -> bool:
    """Tell whether so many codes were wrong that only known browsers may give another.

    Recovery codes and passkeys stay what they were, so that nobody is kept out.
    """
    wrong = session.scalar(select(Totp.wrong_in_a_row).where(Totp.person_id == person_id))
    return (wrong or 0) >= MOST_IN_A_ROW


def remove(session: Session, person_id: str) -> bool:
    """Delete somebody's app; tell whether it was there.

    Whether it may go, and what goes with it, is for ``factors.remove_factor`` to say.
    """
    return _changed(
        session.execute(
            delete(Totp).where(Totp.person_id == person_id, Totp.confirmed_at.is_not(None))
        )
    )


def read_code(typed: str) -> str | None:
    """Return six digits in their plain form, or ``None`` for what cannot be a code.

    Digits of every script count; spaces and hyphens between them do not.
    """
    if len(typed) > LONGEST_TYPED:
        return None
    kept = [ch for ch in typed if not is_separator(ch)]
    digits = [unicodedata.decimal(ch, None) for ch in kept]
    if len(digits) != DIGITS or None in digits:
        return None
    return "".join(str(digit) for digit in digits)


def provisioning_uri(secret: str, person: str, institution: str) -> str:
    """Return what the QR code says: key, who gave it and for whom.

    The name tells somebody with several accounts which one this is; a number would tell
    everybody who sees the screen.
    """
    totp = pyotp.TOTP(secret)
    return totp.provisioning_uri(name=_label(person), issuer_name=_label(institution))


def qr_code(uri: str) -> str:
    """Return a QR code as an SVG element without styles or scripts: dark on white anywhere."""
    code = segno.make(uri, error="m", micro=False)
    return str(
        code.svg_inline(
            border=4, light="#fff", dark="#000", svgclass="qr", lineclass=None, omitsize=True
        )
    )


def in_groups(secret: str) -> str:
    """Return a secret as people copy it: in groups of four."""
    return " ".join(re.findall("....", secret))


def _step_of(secret: str, code: str, now: datetime) -> int:
    """Return the step whose code this is. Raises ``CodeRefused``."""
    present = int(now.timestamp()) // STEP_SECONDS
    totp = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_SECONDS, digest=hashlib.sha1)
    for offset in _WINDOW:
        if _fits(totp, present + offset, code):
            return present + offset
    is_old = any(_fits(totp, present + offset, code) for offset in _OLD)
    raise CodeRefused(Reason.EXPIRED if is_old else Reason.WRONG_CODE)


def reseal(session: Session, vault: Vault, after: str, limit: int) -> Resealed:
    """Bring the secrets of up to ``limit`` people behind ``after`` under the current tenant key.

    A secret that changed meanwhile is left; one that does not open is counted.
    """
    rows = session.execute(
        select(Totp.person_id, Totp.sealed_secret, Totp.pending_secret)
        .where(Totp.person_id > after)
        .order_by(Totp.person_id)
        .limit(limit)
    ).all()
    done = damaged = 0
    for person_id, *secrets in rows:
        for column, sealed in zip((Totp.sealed_secret, Totp.pending_secret), secrets, strict=True):
            if sealed is None:
                continue
            try:
                fresh = vault.reseal_secret(_PURPOSE, person_id, sealed)
            except VaultError:
                damaged += 1
                continue
            if fresh is not None:
                done += _put(session, person_id, column, sealed, fresh)
    return Resealed(done, damaged, rows[-1].person_id if rows else None)


def _put(session: Session, person_id: str, column: Any, sealed: bytes, fresh: bytes) -> bool:
    return _changed(
        session.execute(
            update(Totp)
            .where(Totp.person_id == person_id, column == sealed)
            .values({column: fresh})
        )
    )


def _fits(totp: pyotp.TOTP, step: int, code: str) -> bool:
    return hmac.compare_digest(totp.generate_otp(step).encode(), code.encode("utf-8", "replace"))


def _pending(session: Session, person_id: str, now: datetime) -> bytes | None:
    return session.scalar(
        select(Totp.pending_secret).where(
            Totp.person_id == person_id, Totp.pending_at > now - SETUP_LIFETIME
        )
    )


def _open(vault: Vault, person_id: str, sealed: bytes) -> str:
    return vault.open_secret(_PURPOSE, person_id, sealed).decode("ascii")


def _mark(sealed: bytes) -> str:
    """Return by what a form names a setup: of the sealed bytes, so that it tells nothing."""
    return hashlib.sha256(sealed).hexdigest()[:32]


def _label(text: str) -> str:
    """Return a name as the label of an account may hold it: a colon would part it in two."""
    kept = "".join(ch for ch in text if ch.isprintable() and ch != ":")
    return " ".join(kept.split())[:_LONGEST_LABEL]


def _changed(result: Any) -> bool:
    return cast("CursorResult[Any]", result).rowcount > 0
