"""Breaking the glass: access for a short time, told to the patient and reviewed afterwards.

A clinician who is not assigned, or whom a rule of the patient blocks, states a reason. That
opens one patient for as long as the institution says. Sensitive categories take a second step,
with a reason of its own, while the first is open. Each step is a row, an audit event, a mail to
the patient, and a review that somebody else closes (:mod:`medportal.access.reviews`).

The reason's words are sealed under the patient's key together with a random salt, so that they
go when the key goes. The audit event has the salted commitment to them: whoever opens the words
can show that they are what was written then; whoever has the log alone can guess nothing.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medportal.access.errors import GlassRefused
from medportal.access.models import BrokenGlass
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.identity.accounts import SALT_BYTES, commitment
from medportal.identity.notices import notify
from medportal.mail.kinds import MailKind
from medportal.patients.models import Patient
from medportal.vault.service import Vault

#: What somebody may give as the reason; "other" and all of them want words besides.
REASONS = (Reason.EMERGENCY, Reason.COVERING, Reason.REFERRAL, Reason.SAFETY, Reason.OTHER)
#: What sealed words are bound to.
REASON_NOTE = "glass-reason"


@dataclass(frozen=True, slots=True)
class Words:
    """Words as they are kept: sealed with their salt, and what the audit log says of them."""

    sealed: bytes = field(repr=False)
    commitment: str


@dataclass(frozen=True, slots=True)
class Opened:
    """Sealed words, opened again; ``commitment`` is worked out from what was found."""

    text: str = field(repr=False)
    commitment: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of breaking the glass that is in force."""

    id: str
    sensitive: bool
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Stated:
    """Why somebody breaks the glass: a code, and their words."""

    reason: Reason
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Broken:
    """A step just taken, with what its audit event carries of the words."""

    step: Step
    commitment: str


def break_glass(
    session: Session,
    vault: Vault,
    patient_id: str,
    staff_id: str,
    why: Stated,
    now: datetime,
    *,
    lasts: timedelta,
    sensitive: bool = False,
) -> Broken:
    """Open one patient to one member of staff for a while; the patient gets a mail.

    Who may is the caller's to have decided. Raises ``GlassRefused``: nobody to themselves
    ("not-to-yourself"); while the same step is open there is nothing to open ("already-open"),
    so that a form sent twice is one step; ``sensitive`` needs the first step ("first-step").
    """
    if staff_id == patient_id:
        raise GlassRefused("not-to-yourself")
    # The same form sent twice at once: the second waits here, then sees what the first opened.
    session.execute(
        select(Patient.person_id).where(Patient.person_id == patient_id).with_for_update()
    )
    _require_next(steps_of(session, patient_id, staff_id, now), sensitive)
    step = Step(new_id(), sensitive, now, now + lasts)
    words = seal_words(session, vault, patient_id, REASON_NOTE, step.id, why.text)
    session.add(
        BrokenGlass(
            id=step.id,
            patient_id=patient_id,
            staff_id=staff_id,
            sensitive=sensitive,
            reason=str(why.reason),
            text=words.sealed,
            since=step.since,
            until=step.until,
        )
    )
    notify(session, patient_id, MailKind.GLASS_BROKEN, now)
    return Broken(step, words.commitment)


def _require_next(open_steps: Sequence[Step], sensitive: bool) -> None:
    if any(step.sensitive is sensitive for step in open_steps):
        raise GlassRefused("already-open")
    if sensitive and not open_steps:
        raise GlassRefused("first-step")


def steps_of(session: Session, patient_id: str, staff_id: str, now: datetime) -> list[Step]:
    """Return the steps of somebody on a patient that have not ended, the first one first.

    Of two requests at once the one that comes second may have begun first: so a step that was
    taken a moment after ``now`` counts too.
    """
    rows = session.scalars(
        select(BrokenGlass)
        .where(
            BrokenGlass.patient_id == patient_id,
            BrokenGlass.staff_id == staff_id,
            BrokenGlass.until > now,
        )
        .order_by(BrokenGlass.sensitive, BrokenGlass.since, BrokenGlass.id)
    )
    return [Step(row.id, row.sensitive, row.since, row.until) for row in rows]


def end_glass(
    session: Session, patient_id: str, staff_id: str, step_id: str, now: datetime
) -> list[str] | None:
    """End all that somebody has open on a patient, by one of the steps; return whose ids ended.

    The second step would open the same as the first, and more: so they end together. Returns
    an empty list if nothing was open any more, ``None`` if the step is not one of theirs.
    """
    own = (BrokenGlass.patient_id == patient_id, BrokenGlass.staff_id == staff_id)
    if session.scalar(select(BrokenGlass.id).where(BrokenGlass.id == step_id, *own)) is None:
        return None
    ended = session.scalars(
        update(BrokenGlass)
        .where(*own, BrokenGlass.until > now)
        .values(until=now)
        .returning(BrokenGlass.id)
    )
    return sorted(ended)


def seal_words(
    session: Session, vault: Vault, patient_id: str, purpose: str, note_id: str, text: str
) -> Words:
    """Seal words about a patient with a new salt, and commit to both."""
    salt = secrets.token_bytes(SALT_BYTES)
    sealed = vault.seal_note(session, patient_id, purpose, note_id, salt + text.encode("utf-8"))
    return Words(sealed, commitment(salt, text))


def open_words(
    session: Session, vault: Vault, patient_id: str, purpose: str, note_id: str, sealed: bytes
) -> Opened:
    """Return what :func:`seal_words` sealed; raises what ``Vault.open_note`` does."""
    found = vault.open_note(session, patient_id, purpose, note_id, sealed)
    salt, text = found[:SALT_BYTES], found[SALT_BYTES:].decode("utf-8")
    return Opened(text, commitment(salt, text))
