"""Use-cases of later versions: add to a record, correct it, take it back, move it.

Nothing is overwritten: each makes one more version, signed by who makes it, which goes to every
partner that holds the record. The record is locked first, and whoever began from a version that
is not the newest any more is told (``VersionChanged``) before anything is written.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlalchemy.orm import Session

from medportal.access.errors import NotPermitted
from medportal.access.grants import Grant
from medportal.access.standing import is_standing
from medportal.core.permissions import Permission
from medportal.delivery import outbox
from medportal.keys import TenantKeys
from medportal.records import statement, store
from medportal.records.catalogue import Catalogue
from medportal.records.changes import changes
from medportal.records.content import (
    ClinicalRecord,
    RecordStatus,
    Subject,
    effective_date,
    validate,
)
from medportal.records.entry import Entry, not_in_form
from medportal.records.errors import InvalidContent, NotAmendable, Problem, VersionChanged
from medportal.records.fhir import read, to_fhir
from medportal.records.opening import Opened, open_record
from medportal.records.service import category_of, sign_and_file
from medportal.vault.documents import DocumentStore


@dataclass(frozen=True, slots=True)
class Desk:
    """Where versions are made: the keys to sign with, the documents, the catalogue, the moment."""

    documents: DocumentStore
    keys: TenantKeys
    catalogue: Catalogue
    now: datetime


@dataclass(frozen=True, slots=True)
class Amender:
    """Who makes a version: the name that is signed, and the grants to read and to amend."""

    name: str
    reading: Grant
    amending: Grant


@dataclass(frozen=True, slots=True)
class Person:
    """Of whom a version is: as registered here, with the partners named for their results."""

    subject: Subject
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Amended:
    """A later version, the transfers queued for it, and the partners that get nothing."""

    record_id: str
    version: int
    status: RecordStatus
    transfers: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]


def amend(
    session: Session,
    desk: Desk,
    by: Amender,
    person: Person,
    *,
    began_from: int,
    status: RecordStatus,
    reason: str,
    entry: Entry,
) -> Amended:
    """Make a version that says what ``entry`` says, and queue it for those who hold the record.

    Values that the form does not show stay as they are. Raises ``VersionChanged``,
    ``NotAmendable``, ``RecordDamaged``, and ``InvalidContent`` with every problem, also for a
    version that would say nothing new ("nothing-changed").
    """
    opened = _begin(session, desk, by, began_from)
    before = opened.reading.record
    observations = (*entry.observations, *not_in_form(before, desk.catalogue))
    after = validate(
        replace(
            _next(desk, by, opened, status, reason),
            category=category_of(before.kind, observations, desk.catalogue, entry.category),
            effective=_effective(before, entry.effective),
            observations=observations,
            diagnosis=entry.diagnosis,
            diagnosis_code=entry.diagnosis_code,
            notes=entry.notes,
        ),
        desk.catalogue,
        now=desk.now,
        subject=person.subject,
    )
    if not changes(opened.reading, read(to_fhir(after, person.subject, desk.catalogue))):
        raise InvalidContent((Problem("", "nothing-changed"),))
    return _file(session, desk, after, person, by.amending.patient_id)


def retract(
    session: Session,
    desk: Desk,
    by: Amender,
    person: Person,
    *,
    began_from: int,
    reason: str,
) -> Amended:
    """Take a record back: a version that says nothing but why.

    Raises ``VersionChanged``, ``NotAmendable``, ``RecordDamaged`` and ``InvalidContent``.
    """
    opened = _begin(session, desk, by, began_from)
    return _file(
        session,
        desk,
        _taken_back(desk, by, opened, reason),
        person,
        by.amending.patient_id,
    )


def move(
    session: Session,
    desk: Desk,
    by: Amender,
    wrong: Person,
    right: Person,
    creating: Grant,
    *,
    began_from: int,
    record_id: str,
    reason: str,
) -> tuple[Amended, Amended]:
    """Take a record back from the wrong patient, and make it anew for the right one.

    ``creating`` is the grant for the right patient, ``record_id`` the id of the new record. Both
    commit together or not at all. Whoever moves it looks after both: the new one is theirs to
    read for good. Raises what :func:`retract` raises, and ``NotPermitted``; ``InvalidContent``
    also where the content cannot be the right patient's, as from before they were born.
    """
    if creating.permission is not Permission.RECORD_CREATE:
        raise NotPermitted(creating.permission)
    for grant in (by.reading, by.amending, creating):
        if not is_standing(grant.because):
            raise NotPermitted(grant.permission)
    opened = _begin(session, desk, by, began_from)
    if creating.patient_id == by.amending.patient_id:
        raise NotAmendable("same-patient")
    anew = validate(
        replace(
            opened.reading.record,
            id=record_id,
            version=1,
            status=RecordStatus.FINAL,
            author_id=creating.identity.person_id,
            author_name=by.name,
            replaces=None,
            change_reason=None,
        ),
        desk.catalogue,
        now=desk.now,
        subject=right.subject,
    )
    retracted = _file(
        session, desk, _taken_back(desk, by, opened, reason), wrong, by.amending.patient_id
    )
    return retracted, _file(session, desk, anew, right, creating.patient_id)


def _begin(session: Session, desk: Desk, by: Amender, began_from: int) -> Opened:
    """Lock and open the newest version.

    1. The grants are to amend and to read this one record.
    2. It was made here, and was not taken back.
    3. It is the version that the person began from.
    """
    grants = (by.amending, by.reading)
    if [g.permission for g in grants] != [Permission.RECORD_AMEND, Permission.RECORD_READ]:  # 1
        raise NotPermitted(by.amending.permission)
    if by.amending.record_id != by.reading.record_id:
        raise NotPermitted(by.amending.permission)
    entry = store.lock(session, by.amending.patient_id, by.amending.record_id or "")
    if entry is None:
        raise NotAmendable("missing")
    if entry.origin != desk.keys.tenant.id:  # 2
        raise NotAmendable("made-elsewhere")
    if entry.version != began_from:  # 3
        raise VersionChanged("there is a newer version")
    if entry.is_taken_back:
        raise NotAmendable("taken-back")
    return open_record(session, desk.documents, desk.keys, by.reading, entry)


def _next(
    desk: Desk, by: Amender, opened: Opened, status: RecordStatus, reason: str
) -> ClinicalRecord:
    """Return the version after the one opened, saying the same, by another author."""
    return replace(
        opened.reading.record,
        version=opened.entry.version + 1,
        status=status,
        author_id=by.amending.identity.person_id,
        author_name=by.name,
        replaces=statement.digest(opened.content).hex(),
        change_reason=reason,
    )


def _taken_back(desk: Desk, by: Amender, opened: Opened, reason: str) -> ClinicalRecord:
    # Not held against the patient's dates: what was entered in error may be beyond them. The
    # category stays, so that it tells those whom the content did not concern nothing new.
    return validate(
        replace(
            _next(desk, by, opened, RecordStatus.ENTERED_IN_ERROR, reason),
            observations=(),
            diagnosis=None,
            diagnosis_code=None,
            notes=None,
        ),
        desk.catalogue,
        now=desk.now,
    )


def _effective(before: ClinicalRecord, typed: date) -> date | datetime:
    """Return the moment of the version: the form shows days, and an instant is not to lose
    its hour by that."""
    return before.effective if typed == effective_date(before) else typed


def _file(
    session: Session, desk: Desk, record: ClinicalRecord, person: Person, patient_id: str
) -> Amended:
    held_by = outbox.partners_of(session, record.id)
    partners = tuple(dict.fromkeys((*person.destinations, *held_by)))
    transfers = sign_and_file(
        session,
        desk.documents,
        desk.keys,
        record,
        person.subject,
        desk.catalogue,
        patient_id=patient_id,
        destinations=partners,
        now=desk.now,
    )
    queued = {partner for partner, _tid in transfers}
    return Amended(
        record_id=record.id,
        version=record.version,
        status=record.status,
        transfers=transfers,
        left_out=tuple(partner for partner in partners if partner not in queued),
    )


def says(
    record: ClinicalRecord,
    catalogue: Catalogue,
    *,
    status: RecordStatus,
    reason: str,
    entry: Entry,
) -> bool:
    """Tell whether a version is what somebody asks for: their form came twice."""
    observations = {*entry.observations, *not_in_form(record, catalogue)}
    return (
        record.status,
        record.change_reason,
        effective_date(record),
        set(record.observations),
        record.diagnosis,
        record.diagnosis_code,
        record.notes,
    ) == (
        status,
        reason,
        entry.effective,
        observations,
        entry.diagnosis,
        entry.diagnosis_code,
        entry.notes,
    )
