"""Use-cases of taking records along: what goes into a file, how often, and the file itself.

What a file holds is settled from the index, with a decision for each version, and noted in the
audit log before the first byte leaves. The content is opened afterwards, some records at a time,
in short transactions that are over before anything of it is sent: a long file takes no more memory
than a short one, and who takes it slowly holds nothing back. A record that turns out to be damaged
is left out, which the file says and a further event notes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.access.decisions import Decision
from medportal.access.grants import Grant, mint
from medportal.access.resources import PatientContext, why_of
from medportal.audit.events import Action, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.ids import new_id
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.exports.bundle import LABEL, MOST_VERSIONS, Copy, Envelope, Listed, manifest
from medportal.exports.errors import TooLargeForPaper, TooManyExports, TooManyRecords
from medportal.keys import TenantKeys
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import store
from medportal.records.errors import RecordDamaged
from medportal.records.opening import Opened, open_whole
from medportal.records.store import IndexEntry
from medportal.vault.documents import DocumentStore

#: What is asked about each version: it is read to make the file, and taken away in it.
ABOUT_A_COPY = (Permission.RECORD_READ, Permission.RECORD_EXPORT)
#: A paper of more records than these is a book; it takes some twenty milliseconds for each.
MOST_ON_PAPER = 200
#: A paper is made in memory, with every version in the file inside it: so many, and so many bytes
#: as they are stored.
MOST_VERSIONS_ON_PAPER = 500
MOST_BYTES_ON_PAPER = 16 * 1024 * 1024
#: So many versions are read at once; each has at most half a megabyte.
BATCH = 20
#: What one person may take along in an hour: files with everything of somebody, and records.
FILES_AN_HOUR = 10
RECORDS_AN_HOUR = 2_000
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Picked:
    """One version of a record that goes into a file, the grant that opens it, and why it may go.

    ``why`` is what the audit log keeps of the decision to let it be taken along.
    """

    entry: IndexEntry
    grant: Grant
    why: Mapping[str, Any]


#: Gives a session that only reads and the documents as it sees them, for a short while.
Source = Callable[[], AbstractContextManager[tuple[Session, DocumentStore]]]


@dataclass(slots=True)
class Packing:
    """A file in the making: whose keys sign it, what has gone in, and what had to stay out."""

    keys: TenantKeys
    made_at: datetime
    file_id: str = field(default_factory=new_id)
    listed: list[Listed] = field(default_factory=list)
    damaged: list[IndexEntry] = field(default_factory=list)

    def opened(self, source: Source, picked: Sequence[Picked]) -> Iterator[Opened]:
        """Give the records that open and verify, and remember the others as damaged.

        ``source`` is asked for each batch, and given back before any of it is handed out.
        """
        for batch in _batches(picked):
            with source() as (session, documents):
                found = _opened(session, documents, self.keys, batch)
            for one, opened in zip(batch, found, strict=True):
                if isinstance(opened, RecordDamaged):
                    self.damaged.append(one.entry)
                    continue
                record = opened.reading.record
                since = one.entry.kept_since
                self.listed.append(
                    Listed(record.id, record.version, one.entry.content_digest, since)
                )
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
    """Return the versions of one record that go into a file, oldest first.

    None, if it is not to be taken along. Raises ``TooManyRecords``.
    """
    newest = store.find(session, context.patient_id, record_id)
    return [] if newest is None else _with_older(context, session, newest, MOST_VERSIONS)


def pick_all(context: PatientContext, session: Session, since: date | None = None) -> list[Picked]:
    """Return every version that goes into a file of everything, the newest record first.

    ``since`` keeps to records of that day and later. Raises ``TooManyRecords``.
    """
    picked: list[Picked] = []
    for entry in _timeline(context, session):
        if since is not None and entry.effective_on < since:
            break
        picked += _with_older(context, session, entry, MOST_VERSIONS - len(picked))
    return picked


def newest_of(picked: Sequence[Picked]) -> list[Picked]:
    """Return what is printed: of each record what it says now."""
    return [one for one in picked if one.entry.is_newest]


def check_paper(documents: DocumentStore, picked: Sequence[Picked]) -> None:
    """Raise ``TooManyRecords`` or ``TooLargeForPaper`` for more than a paper takes."""
    if len(newest_of(picked)) > MOST_ON_PAPER:
        raise TooManyRecords(MOST_ON_PAPER)
    if len(picked) > MOST_VERSIONS_ON_PAPER:
        raise TooLargeForPaper("versions")
    size = 0
    for batch in _batches(picked):
        found = documents.get_many(one.entry.document_id for one in batch)
        size += sum(map(len, found.values()))
        if size > MOST_BYTES_ON_PAPER:
            raise TooLargeForPaper("bytes")


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


def _with_older(
    context: PatientContext, session: Session, newest: IndexEntry, most: int
) -> list[Picked]:
    """Return a record's versions, oldest first, each by its own decision.

    Whoever may not take along what a record says now gets none of it: an older version alone would
    pass for the record. Of one that was taken back only that goes along: what it said before may
    be about somebody else. Raises ``TooManyRecords`` for more than ``most``.
    """
    last = _picked(context, newest)
    if last is None:
        return []
    picked = [last]
    for entry in () if newest.is_taken_back else _older(context, session, newest):
        if (one := _picked(context, entry)) is not None:
            picked.append(one)
        if len(picked) > most:
            break
    if len(picked) > most:
        raise TooManyRecords(MOST_VERSIONS)
    return picked[::-1]


def _older(context: PatientContext, session: Session, newest: IndexEntry) -> Iterator[IndexEntry]:
    before = newest.version
    while before > 1:
        found = store.versions(session, context.patient_id, newest.id, before=before)
        yield from found
        if len(found) < store.PAGE:
            return
        before = found[-1].version


def _picked(context: PatientContext, entry: IndexEntry) -> Picked | None:
    decision = context.record_decision(store.facts_of(entry), ABOUT_A_COPY)
    if not all(_is_given(decision, permission) for permission in ABOUT_A_COPY):
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
    return Picked(entry, grant, why_of(decision, Permission.RECORD_EXPORT))


def _is_given(decision: Decision, permission: Permission) -> bool:
    """Tell whether a permission is given, with no proof of identity to come first."""
    asks_first = decision.demands(permission, Obligation.CONFIRM_FIRST)
    return decision.allows(permission) and not asks_first


def _batches(picked: Sequence[Picked]) -> Iterator[Sequence[Picked]]:
    for start in range(0, len(picked), BATCH):
        yield picked[start : start + BATCH]


def _opened(
    session: Session, documents: DocumentStore, keys: TenantKeys, batch: Sequence[Picked]
) -> list[Opened | RecordDamaged]:
    """Open a batch; what is sealed anew since it was picked is looked up once more."""
    found = open_whole(session, documents, keys, [(one.grant, one.entry) for one in batch])
    for place, one in enumerate(batch):
        if isinstance(found[place], RecordDamaged):
            entry = _sealed_anew(session, one.entry)
            if entry is not None:
                (again,) = open_whole(session, documents, keys, [(one.grant, entry)])
                # What was newest when the file was asked for is so in the file.
                found[place] = (
                    again if isinstance(again, RecordDamaged) else replace(again, entry=one.entry)
                )
    return found


def _sealed_anew(session: Session, entry: IndexEntry) -> IndexEntry | None:
    """Return an entry as it is now, ``None`` if it is sealed as it was or another decision's."""
    now = store.find_version(session, entry.patient_id, entry.id, entry.version)
    if now is None or now.document_id == entry.document_id:
        return None
    if store.facts_of(now) != store.facts_of(entry):
        return None
    return now
