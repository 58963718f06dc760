"""A patient's rules: made, ended, listed. A changed rule is one that ended and a new one.

Who is named and what about is checked by whoever offers the choice
(:mod:`medportal.access.rule_choices`); here stands what must hold whoever asks.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import ColumnElement, literal, or_, select, update
from sqlalchemy.orm import Session

from medportal.access import partner_rules
from medportal.access.errors import RuleRefused
from medportal.access.facts import rule_of
from medportal.access.models import PatientRule
from medportal.access.partner_rules import Moved
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.ids import new_id
from medportal.delivery import blocks
from medportal.identity.accounts import SALT_BYTES, commitment
from medportal.identity.notices import notify
from medportal.mail.kinds import MailKind
from medportal.patients.models import Patient
from medportal.vault.errors import VaultError
from medportal.vault.service import Vault

PURPOSE = "patient-rule"
LONGEST_NOTE = 500
#: More rules in force than anybody keeps in mind; each costs every decision a little.
MOST = 100
#: How many rules of the past are listed.
PAST = 20


@dataclass(frozen=True, slots=True)
class Wish:
    """A rule as a patient wants it; ``since`` is ``None`` for at once.

    ``id`` is the rule's, so that the same form sent twice makes one rule.
    """

    effect: Effect
    whom: Whom
    whom_id: str
    what: What
    what_id: str
    since: datetime | None = None
    until: datetime | None = None
    note: str = field(default="", repr=False)
    id: str = field(default_factory=new_id)

    def rule(self, now: datetime) -> Rule:
        """Return the rule that saving this now would make; none acts on the past."""
        since = now if self.since is None else max(self.since, now)
        return Rule(
            self.id,
            self.effect,
            self.whom,
            self.whom_id,
            self.what,
            self.what_id,
            since,
            self.until,
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """A rule that was made or ended, and the deliveries that this turned.

    ``commitment`` tells of the note and is empty without one.
    """

    rule: Rule
    moved: Moved
    commitment: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """One rule on a patient's list, as it is shown to somebody.

    ``note`` is ``None`` if it cannot be opened, and empty if it is not theirs to read;
    ``may_change`` tells whether they may change the rule, or end it.
    """

    rule: Rule
    made_at: datetime
    ended_at: datetime | None
    note: str | None = field(default="", repr=False)
    may_change: bool = True


@dataclass(frozen=True, slots=True)
class RuleList:
    """A patient's rules: those that count now, those to come, and some of the past."""

    in_force: tuple[Listed, ...]
    to_come: tuple[Listed, ...]
    over: tuple[Listed, ...]


def make(
    session: Session,
    vault: Vault,
    patient_id: str,
    wish: Wish,
    *,
    by: str,
    now: datetime,
) -> Saved:
    """Make a rule; it counts at the next decision, and at the next delivery.

    Raises ``RuleRefused``.
    """
    _lock(session, patient_id)
    saved = _make(session, vault, patient_id, wish, by, now)
    notify(session, patient_id, MailKind.RULE_CHANGED, now)
    return replace(saved, moved=partner_rules.settle(session, patient_id, now))


def change(
    session: Session,
    vault: Vault,
    patient_id: str,
    rule_id: str,
    wish: Wish,
    *,
    by: str,
    now: datetime,
) -> tuple[Saved, Saved]:
    """End a rule and make another in its place; return both.

    There is no moment between the two. Raises ``RuleRefused``.
    """
    _lock(session, patient_id)
    old = _end(session, patient_id, rule_id, by, now)
    saved = _make(session, vault, patient_id, wish, by, now)
    notify(session, patient_id, MailKind.RULE_CHANGED, now)
    moved = partner_rules.settle(session, patient_id, now)
    return Saved(old, Moved()), replace(saved, moved=moved)


def end(session: Session, patient_id: str, rule_id: str, *, by: str, now: datetime) -> Saved:
    """End a rule now, or before it begins. Raises ``RuleRefused``."""
    _lock(session, patient_id)
    ended = _end(session, patient_id, rule_id, by, now)
    notify(session, patient_id, MailKind.RULE_CHANGED, now)
    return Saved(ended, partner_rules.settle(session, patient_id, now))


def exists(session: Session, patient_id: str, rule_id: str) -> bool:
    """Tell whether a rule of this patient has this id, ended or not."""
    query = select(PatientRule.id).where(
        PatientRule.id == rule_id, PatientRule.patient_id == patient_id
    )
    return session.scalar(query) is not None


def may_change(session: Session, patient_id: str, rule_id: str, asker: str) -> bool:
    """Tell whether a rule of this patient, ended or not, is somebody's to change or to end.

    To who stands for the patient it is not if the patient made it, or if it names them: a rule
    that keeps a mother out would otherwise be hers to end.
    """
    query = select(PatientRule.id).where(
        PatientRule.id == rule_id,
        PatientRule.patient_id == patient_id,
        _is_theirs(patient_id, asker),
    )
    return session.scalar(query) is not None


def find(
    session: Session, vault: Vault, patient_id: str, rule_id: str, asker: str, now: datetime
) -> Listed | None:
    """Return a rule of this patient that is not over, as the asker may see it."""
    row = session.scalar(
        select(PatientRule).where(
            PatientRule.id == rule_id, PatientRule.patient_id == patient_id, _is_not_over(now)
        )
    )
    return None if row is None else _listed(session, vault, row, asker)


def rules(session: Session, vault: Vault, patient_id: str, asker: str, now: datetime) -> RuleList:
    """Return a patient's rules as the asker may see them, the newest first."""
    of_patient = select(PatientRule).where(PatientRule.patient_id == patient_id)
    newest = (PatientRule.made_at.desc(), PatientRule.id)
    standing = session.scalars(of_patient.where(_is_not_over(now)).order_by(*newest))
    past = session.scalars(of_patient.where(~_is_not_over(now)).order_by(*newest).limit(PAST))
    listed = [_listed(session, vault, row, asker) for row in standing]
    return RuleList(
        tuple(each for each in listed if each.rule.in_force(now)),
        tuple(each for each in listed if not each.rule.in_force(now)),
        tuple(_listed(session, vault, row, asker) for row in past),
    )


def _make(
    session: Session, vault: Vault, patient_id: str, wish: Wish, by: str, now: datetime
) -> Saved:
    rule = wish.rule(now)
    if rule.until is not None and rule.until <= rule.since:
        raise RuleRefused("over-already")
    if rule.whom is Whom.PERSON and rule.whom_id == patient_id:
        raise RuleRefused("about-oneself")
    if rule.whom is Whom.PERSON and rule.whom_id == by:
        # One record allowed to oneself would outrank what the patient forbids.
        raise RuleRefused("names-oneself")
    _refuse_again(session, patient_id, rule, now)
    sealed, told = _seal(session, vault, patient_id, wish)
    session.add(
        PatientRule(
            id=rule.id,
            patient_id=patient_id,
            effect=rule.effect,
            whom=rule.whom,
            whom_id=rule.whom_id,
            what=rule.what,
            what_id=rule.what_id,
            since=rule.since,
            until=rule.until,
            note=sealed,
            made_at=now,
            made_by=by,
        )
    )
    if partner_rules.is_about_partner(rule, vault.tenant_id):
        partner_rules.mirror(session, patient_id, rule)
    return Saved(rule, Moved(), told)


def _end(session: Session, patient_id: str, rule_id: str, by: str, now: datetime) -> Rule:
    row = session.scalars(
        update(PatientRule)
        .where(
            PatientRule.id == rule_id,
            PatientRule.patient_id == patient_id,
            _is_theirs(patient_id, by),
            _is_not_over(now),
        )
        .values(ended_at=now, ended_by=by)
        .returning(PatientRule)
    ).one_or_none()
    if row is None:
        raise RuleRefused("ended-already")
    blocks.drop(session, rule_id)
    return rule_of(row)


def _refuse_again(session: Session, patient_id: str, rule: Rule, now: datetime) -> None:
    """Refuse a second rule that says the same, and more of them than anybody oversees."""
    standing = session.scalars(
        select(PatientRule).where(PatientRule.patient_id == patient_id, _is_not_over(now))
    ).all()
    if len(standing) >= MOST:
        raise RuleRefused("too-many")
    if any(_says(rule_of(row)) == _says(rule) for row in standing):
        raise RuleRefused("there-already")


def _says(rule: Rule) -> Sequence[str]:
    return rule.effect, rule.whom, rule.whom_id, rule.what, rule.what_id


def _lock(session: Session, patient_id: str) -> None:
    # Two forms at once: the second waits here and then sees what the first made.
    session.execute(
        select(Patient.person_id).where(Patient.person_id == patient_id).with_for_update()
    )


def _seal(session: Session, vault: Vault, patient_id: str, wish: Wish) -> tuple[bytes | None, str]:
    """Return the sealed note and the commitment to it; a salt is sealed with the words."""
    if not wish.note:
        return None, ""
    salt = secrets.token_bytes(SALT_BYTES)
    plain = salt + wish.note.encode("utf-8")
    sealed = vault.seal_note(session, patient_id, PURPOSE, wish.id, plain)
    return sealed, commitment(salt, wish.note)


def _listed(session: Session, vault: Vault, row: PatientRule, asker: str) -> Listed:
    is_patient = asker == row.patient_id
    names_asker = row.whom == Whom.PERSON and row.whom_id == asker
    return Listed(
        rule_of(row),
        row.made_at,
        row.ended_at,
        # A note is for whoever wrote it; the patient's record is the patient's.
        _note(session, vault, row) if asker in {row.patient_id, row.made_by} else "",
        is_patient or not (names_asker or row.made_by == row.patient_id),
    )


def _note(session: Session, vault: Vault, row: PatientRule) -> str | None:
    """Return a note, ``None`` for one that cannot be opened: the rule counts all the same."""
    if row.note is None:
        return ""
    try:
        plain = vault.open_note(session, row.patient_id, PURPOSE, row.id, row.note)
    except VaultError:
        return None
    return plain[SALT_BYTES:].decode("utf-8")


def _is_theirs(patient_id: str, asker: str) -> ColumnElement[bool]:
    """Return the SQL condition under which a rule is somebody's to change, see above."""
    names_asker = (PatientRule.whom == Whom.PERSON) & (PatientRule.whom_id == asker)
    return or_(literal(asker == patient_id), (PatientRule.made_by != patient_id) & ~names_asker)


def _is_not_over(now: datetime) -> ColumnElement[bool]:
    return PatientRule.ended_at.is_(None) & or_(
        PatientRule.until.is_(None), PatientRule.until > now
    )
