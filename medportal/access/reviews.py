"""Reviews: every step of breaking the glass is looked at by somebody else, and closed once.

A reviewer closes neither what they opened themselves nor what was opened of their own record.
What was found is a code, which the patient is told, and words for colleagues, sealed like the
reason's. A closed review stays as it is.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from medportal.access.errors import ReviewRefused
from medportal.access.facts import departments_of, rule_of
from medportal.access.glass import REASON_NOTE, end_glass, open_words, seal_words
from medportal.access.models import BrokenGlass, CareAssignment, PatientRule
from medportal.access.parties import representatives
from medportal.access.rules import Effect, Subject, names
from medportal.audit.events import Action, Outcome
from medportal.audit.models import AuditEvent
from medportal.audit.search import Query
from medportal.audit.search import find as find_events
from medportal.audit.statements import Checkpoint
from medportal.audit.store import statements
from medportal.core.reasons import Reason
from medportal.identity.models import Person
from medportal.identity.people import roles_of
from medportal.vault.errors import PatientKeyDestroyed, VaultError
from medportal.vault.service import Vault

PAGE = 25
#: How far back a reviewer is told of other emergency access by the same person.
BEFORE = timedelta(days=30)
FINDINGS = (Reason.JUSTIFIED, Reason.NOT_JUSTIFIED, Reason.FOLLOWED_UP)
FINDING_NOTE = "glass-finding"


@dataclass(frozen=True, slots=True)
class Review:
    """One step of breaking the glass, as its review shows it.

    ``finding`` and what goes with it are ``None`` while nobody has closed the review.
    """

    id: str
    patient_id: str
    staff_id: str
    staff_name: str
    sensitive: bool
    reason: Reason
    since: datetime
    until: datetime
    finding: Reason | None = None
    reviewed_at: datetime | None = None
    reviewer_name: str | None = None

    def is_open(self, now: datetime) -> bool:
        """Tell whether the access that is reviewed still goes on."""
        return self.since <= now < self.until


@dataclass(frozen=True, slots=True)
class Told:
    """Words that were opened, and whether they are those that the audit log was told of.

    ``text`` is ``None`` where they cannot be opened: the patient's key was destroyed, or
    somebody touched what was sealed. ``is_pruned``: the log's event was older than what is
    kept, so that nothing is left to compare with.
    """

    text: str | None = field(repr=False)
    matches: bool
    is_pruned: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a reviewer compares the reason with.

    ``deeds`` are how often what was done to the patient's data meanwhile; ``in_care`` tells
    whether the person looked after the patient then, and ``blocked`` whether a rule of the
    patient named them to keep them out of something; ``others`` and ``unjustified`` count the
    person's emergency access to whomever in the time before, this one not among them.
    """

    deeds: tuple[tuple[Action, Outcome, int], ...]
    in_care: bool
    blocked: bool
    others: int
    unjustified: int


@dataclass(frozen=True, slots=True)
class Closed:
    """What the audit event of a closed review carries."""

    patient_id: str
    finding: Reason
    commitment: str | None


_Reviewer = aliased(Person)


def waiting(session: Session, *, after: tuple[datetime, str] | None, limit: int) -> list[Review]:
    """Return the reviews that nobody has closed, the oldest first, paged by key."""
    query = _query().where(BrokenGlass.reviewed_at.is_(None))
    if after is not None:
        query = query.where(tuple_(BrokenGlass.since, BrokenGlass.id) > after)
    found = session.execute(query.order_by(BrokenGlass.since, BrokenGlass.id).limit(limit))
    return [_review(*row) for row in found]


def closed(
    session: Session, limit: int, *, after: tuple[datetime, str] | None = None
) -> list[Review]:
    """Return the reviews closed last, the newest first, from behind ``after``."""
    query = _query().where(BrokenGlass.reviewed_at.is_not(None))
    if after is not None:
        query = query.where(tuple_(BrokenGlass.reviewed_at, BrokenGlass.id) < after)
    newest = (BrokenGlass.reviewed_at.desc(), BrokenGlass.id.desc())
    return [_review(*row) for row in session.execute(query.order_by(*newest).limit(limit))]


def list_key(session: Session, review_id: str) -> tuple[datetime, str] | None:
    """Return the key (time, id) by which the open ones are ordered, also of one just closed."""
    since = session.scalar(select(BrokenGlass.since).where(BrokenGlass.id == review_id))
    return None if since is None else (since, review_id)


def closed_key(session: Session, review_id: str) -> tuple[datetime, str] | None:
    """Return the key (time, id) by which the closed ones are ordered."""
    at = session.scalar(select(BrokenGlass.reviewed_at).where(BrokenGlass.id == review_id))
    return None if at is None else (at, review_id)


def find(session: Session, review_id: str) -> Review | None:
    """Return one review, or ``None``."""
    row = session.execute(_query().where(BrokenGlass.id == review_id)).one_or_none()
    return None if row is None else _review(*row)


def _query() -> Select[BrokenGlass, str, str]:
    return (
        select(BrokenGlass, Person.name, _Reviewer.name)
        .join(Person, Person.id == BrokenGlass.staff_id)
        .outerjoin(_Reviewer, _Reviewer.id == BrokenGlass.reviewed_by)
    )


def _review(row: BrokenGlass, staff_name: str, reviewer_name: str | None) -> Review:
    return Review(
        id=row.id,
        patient_id=row.patient_id,
        staff_id=row.staff_id,
        staff_name=staff_name,
        sensitive=row.sensitive,
        reason=Reason(row.reason),
        since=row.since,
        until=row.until,
        finding=Reason(row.finding) if row.finding else None,
        reviewed_at=row.reviewed_at,
        reviewer_name=reviewer_name,
    )


def why_not(session: Session, review: Review, by: str) -> str | None:
    """Return why somebody may not close a review, ``None`` if they may."""
    if review.staff_id == by:
        return "own-access"
    if review.patient_id == by:
        return "about-you"
    if by in representatives(session, review.patient_id):
        return "represents"
    return "closed-already" if review.finding else None


def stated(session: Session, vault: Vault, review: Review) -> Told:
    """Return the words of the reason."""
    sealed = session.scalar(select(BrokenGlass.text).where(BrokenGlass.id == review.id))
    return _told(session, vault, review, REASON_NOTE, sealed, Action.GLASS_BROKEN, review.since)


def found_words(session: Session, vault: Vault, review: Review) -> Told | None:
    """Return what the reviewer wrote for colleagues, ``None`` if that was nothing."""
    sealed = session.scalar(select(BrokenGlass.finding_text).where(BrokenGlass.id == review.id))
    if sealed is None:
        return None
    at = session.scalar(select(BrokenGlass.reviewed_at).where(BrokenGlass.id == review.id))
    assert at is not None  # Words of a finding are written together with its time.
    return _told(session, vault, review, FINDING_NOTE, sealed, Action.GLASS_REVIEWED, at)


def _told(
    session: Session,
    vault: Vault,
    review: Review,
    purpose: str,
    sealed: bytes | None,
    action: Action,
    at: datetime,
) -> Told:
    try:
        words = open_words(session, vault, review.patient_id, purpose, review.id, sealed or b"")
    except VaultError:
        return Told(None, matches=False)
    logged = find_events(session, Query(object=review.id, action=action, outcome=Outcome.ALLOWED))
    if not logged.events and _is_pruned(session, at):
        return Told(words.text, matches=False, is_pruned=True)
    committed = [event.details.get("commitment") for event in logged.events]
    return Told(words.text, matches=committed == [words.commitment])


def _is_pruned(session: Session, at: datetime) -> bool:
    """Tell whether an event of that moment lies in the part of the log that was forgotten.

    One that is missing from what is kept was taken away.
    """
    forgotten = max(
        (
            signed.statement.size
            for signed in statements(session)
            if signed is not None and isinstance(signed.statement, Checkpoint)
        ),
        default=0,
    )
    first_kept = session.scalar(select(AuditEvent.at).where(AuditEvent.sequence == forgotten))
    return forgotten > 0 and first_kept is not None and at <= first_kept


def surroundings(session: Session, review: Review, institution: str) -> Surroundings:
    """Return what there is to compare a reason with."""
    wards = departments_of(session, review.staff_id, review.since)
    others, unjustified = _before(session, review)
    return Surroundings(
        _deeds(session, review),
        _in_care(session, review, wards),
        _blocked(session, review, wards, institution),
        others,
        unjustified,
    )


def _deeds(session: Session, review: Review) -> tuple[tuple[Action, Outcome, int], ...]:
    rows = session.execute(
        select(AuditEvent.action, AuditEvent.outcome, func.count())
        .where(
            AuditEvent.patient == review.patient_id,
            AuditEvent.actor == review.staff_id,
            AuditEvent.at >= review.since,
            AuditEvent.at < review.until,
            # The step itself, and its end, are what the page is about.
            AuditEvent.action.not_in([Action.GLASS_BROKEN, Action.GLASS_CLOSED]),
        )
        .group_by(AuditEvent.action, AuditEvent.outcome)
        .order_by(AuditEvent.action, AuditEvent.outcome)
    )
    return tuple((Action(action), Outcome(outcome), count) for action, outcome, count in rows)


def _in_care(session: Session, review: Review, wards: frozenset[str]) -> bool:
    then = review.since
    assigned = select(CareAssignment.id).where(
        CareAssignment.patient_id == review.patient_id,
        or_(CareAssignment.staff_id == review.staff_id, CareAssignment.ward.in_(sorted(wards))),
        CareAssignment.since <= then,
        or_(CareAssignment.until.is_(None), CareAssignment.until > then),
    )
    return session.scalar(assigned.limit(1)) is not None


def _blocked(session: Session, review: Review, wards: frozenset[str], institution: str) -> bool:
    then = review.since
    # Roles are those of now: what somebody held at a time in the past is in the log alone.
    roles = roles_of(session, review.staff_id)
    subject = Subject(review.staff_id, institution, roles, wards)
    rows = session.scalars(
        select(PatientRule).where(
            PatientRule.patient_id == review.patient_id,
            PatientRule.effect == str(Effect.BLOCK),
            or_(PatientRule.ended_at.is_(None), PatientRule.ended_at > then),
        )
    )
    return any(rule.in_force(then) and names(rule, subject) for rule in map(rule_of, rows))


def _before(session: Session, review: Review) -> tuple[int, int]:
    is_wrong: ColumnElement[bool] = BrokenGlass.finding == str(Reason.NOT_JUSTIFIED)
    row = session.execute(
        select(func.count(), func.count().filter(is_wrong)).where(
            BrokenGlass.staff_id == review.staff_id,
            BrokenGlass.id != review.id,
            BrokenGlass.since > review.since - BEFORE,
            BrokenGlass.since <= review.since,
        )
    ).one()
    return row[0], row[1]


def close(
    session: Session,
    vault: Vault,
    review: Review,
    finding: Reason,
    text: str,
    by: str,
    now: datetime,
) -> Closed:
    """Close a review with what was found, for good.

    Raises ``ReviewRefused``: for what :func:`why_not` says, also where somebody else was
    faster, while the access still goes on ("still-open"), and for words that cannot be kept
    because the patient's key was destroyed ("no-words").
    """
    refused = why_not(session, review, by) or ("still-open" if review.is_open(now) else None)
    if refused:
        raise ReviewRefused(refused)
    sealed, commitment = None, None
    if text:
        try:
            words = seal_words(session, vault, review.patient_id, FINDING_NOTE, review.id, text)
        except PatientKeyDestroyed as error:
            raise ReviewRefused("no-words") from error
        sealed, commitment = words.sealed, words.commitment
    # Of two at once the first writes, and the second finds nothing left to close.
    taken = session.scalars(
        update(BrokenGlass)
        .where(BrokenGlass.id == review.id, BrokenGlass.reviewed_at.is_(None))
        .values(reviewed_at=now, reviewed_by=by, finding=str(finding), finding_text=sealed)
        .returning(BrokenGlass.id)
    ).one_or_none()
    if taken is None:
        raise ReviewRefused("closed-already")
    return Closed(review.patient_id, finding, commitment)


def stop(session: Session, review: Review, by: str, now: datetime) -> list[str]:
    """End access that still goes on, all that the person has open on the patient.

    Returns the ids of the steps that ended, none if it was over already. Raises
    ``ReviewRefused`` for somebody who may not close the review either.
    """
    refused = why_not(session, review, by)
    if refused:
        raise ReviewRefused(refused)
    return end_glass(session, review.patient_id, review.staff_id, review.id, now) or []
