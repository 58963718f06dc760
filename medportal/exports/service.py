"""Use-cases of taking records along: what goes into a file, how often, and the file itself.

What a file holds is settled from the index, with a decision for each version, and noted in the
audit log before the first byte leaves. The content is opened afterwards, record by record, in a
transaction of its own: a long file takes no more memory than a short one, and holds no lock. A
record that turns out to be damaged is left out, which the file says and a further event notes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.access.grants import Grant, mint
from medportal.access.resources import PatientContext
from medportal.audit.events import Action, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.ids import new_id
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.exports.bundle import LABEL, MOST_VERSIONS, Copy, Envelope, Listed, manifest
from medportal.exports.errors import TooManyExports, TooManyRecords
from medportal.keys import TenantKeys
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import store
from medportal.records.errors import RecordDamaged
from medportal.records.opening import Opened, open_record
from medportal.records.store import IndexEntry
from medportal.vault.documents import DocumentStore

#: A paper of more records than these is a book; it takes some twenty milliseconds for each.
MOST_ON_PAPER = 200
#: What one person may take along in an hour: files with everything of somebody, and records.
FILES_AN_HOUR = 10
RECORDS_AN_HOUR = 2_000
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Picked:
    """One version of a record that goes into a file, and the grant that lets it."""

    entry: IndexEntry
    grant: Grant


@dataclass(slots=True)
class Packing:
    """A file in the making: whose keys sign it, what has gone in, and what had to stay out."""

    keys: TenantKeys
    made_at: datetime
    file_id: str = field(default_factory=new_id)
    listed: list[Listed] = field(default_factory=list)
    damaged: list[IndexEntry] = field(default_factory=list)

    def opened(
        self, session: Session, documents: DocumentStore, picked: Sequence[Picked]
    ) -> Iterator[Opened]:
        """Give the records that open and verify, and remember the others as damaged."""
        for one in picked:
            try:
                opened = open_record(session, documents, self.keys, one.grant, one.entry)
            except RecordDamaged:
                self.damaged.append(one.entry)
                continue
            record = opened.reading.record
            since = one.entry.kept_since
            self.listed.append(Listed(record.id, record.version, one.entry.content_digest, since))
            yield opened

    def envelope(self) -> Envelope:
        """Return what is said of the file as a whole, signed, once everything has gone in."""
        left_out = tuple(dict.fromkeys(entry.id for entry in self.damaged))
        tenant = self.keys.tenant.id
        fields = manifest(self.file_id, tenant, self.made_at, self.listed, left_out)
        signed = sign_statement(self.keys.signer(Purpose.RECORD), LABEL, fields)
        return Envelope(
            self.file_id,
            tenant,
            self.made_at,
            signed.to_bytes(),
            tuple(self.listed),
            left_out,
        )


def copy_of(opened: Opened) -> Copy:
    """Return an opened record as it goes into a file."""
    return Copy(
        opened.reading,
        opened.content,
        opened.signed_statement,
        opened.statement.created_at,
        opened.entry.kept_since,
    )


def pick_record(context: PatientContext, session: Session, record_id: str) -> list[Picked]:
    """Return the versions of one record that go into a file, oldest first; none, if it is not
    to be read."""
    newest = store.find(session, context.patient_id, record_id)
    return [] if newest is None else _with_older(context, session, newest)


def pick_all(context: PatientContext, session: Session, since: date | None = None) -> list[Picked]:
    """Return every version that goes into a file of everything, the newest record first.

    ``since`` keeps to records of that day and later. Raises ``TooManyRecords``.
    """
    picked: list[Picked] = []
    for entry in _timeline(context, session):
        if since is not None and entry.effective_on < since:
            break
        picked += _with_older(context, session, entry)
        if len(picked) > MOST_VERSIONS:
            raise TooManyRecords(MOST_VERSIONS)
    return picked


def newest_of(picked: Sequence[Picked]) -> list[Picked]:
    """Return what is printed: of each record what it says now."""
    return [one for one in picked if one.entry.is_newest]


def check_paper(picked: Sequence[Picked]) -> None:
    """Raise ``TooManyRecords`` for more than a paper takes."""
    if len(newest_of(picked)) > MOST_ON_PAPER:
        raise TooManyRecords(MOST_ON_PAPER)


def check_pace(session: Session, person_id: str, now: datetime) -> None:
    """Raise ``TooManyExports`` for somebody who took along as much as they may in an hour.

    Counted are the events about it, which nobody can take back. Two files asked for at the same
    moment may both pass: the next one does not.
    """
    count = func.count()
    query = select(count.filter(AuditEvent.object.is_(None)), count).where(
        AuditEvent.actor == person_id,
        AuditEvent.at > now - _HOUR,
        AuditEvent.action == Action.RECORD_EXPORTED,
        AuditEvent.outcome == Outcome.ALLOWED,
    )
    files, events = session.execute(query).one()
    if files >= FILES_AN_HOUR or events - files >= RECORDS_AN_HOUR:
        raise TooManyExports("enough for an hour")


def _timeline(context: PatientContext, session: Session) -> Iterator[IndexEntry]:
    """Give a patient's records, newest first."""
    before: tuple[date, str] | None = None
    while True:
        found = store.timeline(session, context.patient_id, before=before)
        yield from found
        if len(found) < store.PAGE:
            return
        before = (found[-1].effective_on, found[-1].id)


def _with_older(context: PatientContext, session: Session, newest: IndexEntry) -> list[Picked]:
    """Return a record's versions, oldest first, each by its own decision.

    Whoever may not read what a record says now gets none of it: an older version alone would
    pass for the record.
    """
    last = _picked(context, newest)
    if last is None:
        return []
    older = [_picked(context, entry) for entry in _older(context, session, newest)]
    return [*(one for one in reversed(older) if one is not None), last]


def _older(context: PatientContext, session: Session, newest: IndexEntry) -> Iterator[IndexEntry]:
    before = newest.version
    while before > 1:
        found = store.versions(session, context.patient_id, newest.id, before=before)
        yield from found
        if len(found) < store.PAGE:
            return
        before = found[-1].version


def _picked(context: PatientContext, entry: IndexEntry) -> Picked | None:
    decision = context.record_decision(store.facts_of(entry))
    if not decision.allows(Permission.RECORD_READ) or decision.demands(
        Permission.RECORD_READ, Obligation.CONFIRM_FIRST
    ):
        return None
    request = context.request
    grant = mint(
        request.identity,
        decision,
        Permission.RECORD_READ,
        context.patient_id,
        request.now,
        entry.id,
    )
    return Picked(entry, grant)
