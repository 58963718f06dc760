"""Use-cases of records: create one, open one."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from medportal.access.errors import NotPermitted
from medportal.access.grants import Grant
from medportal.core.canonical import NotCanonical
from medportal.core.categories import Category, is_sensitive
from medportal.core.ids import new_id
from medportal.core.permissions import Permission
from medportal.delivery.outbox import Outgoing, enqueue
from medportal.delivery.parcel import Parcel, outbox_info
from medportal.keys import Authority, TenantKeys
from medportal.patients.pseudonyms import pseudonym
from medportal.pki.errors import PkiError
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import Signed, sign_statement, verify_kept, with_newer_list
from medportal.records import statement
from medportal.records.catalogue import Catalogue
from medportal.records.content import (
    ClinicalRecord,
    Observation,
    RecordKind,
    RecordStatus,
    Subject,
    effective_date,
    validate,
)
from medportal.records.entry import Entry
from medportal.records.errors import FhirError, RecordDamaged, StatementError
from medportal.records.fhir import Reading, read, to_fhir
from medportal.records.models import Record, RecordVersion
from medportal.records.statement import AuthorStatement, SealedContent
from medportal.records.store import IndexEntry
from medportal.vault.documents import DocumentStore
from medportal.vault.errors import VaultError

#: What a grant may be of to open a record.
OPENING = frozenset({Permission.RECORD_READ, Permission.PATIENT_VITALS})


@dataclass(frozen=True, slots=True)
class Created:
    """A new record, the transfers queued for it, and the partners that get nothing."""

    record_id: str
    transfers: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A record that opened and whose signature verified."""

    entry: IndexEntry
    reading: Reading
    statement: AuthorStatement
    content: bytes


def create_record(
    session: Session,
    documents: DocumentStore,
    keys: TenantKeys,
    grant: Grant,
    catalogue: Catalogue,
    *,
    record_id: str,
    kind: RecordKind,
    entry: Entry,
    author_name: str,
    subject: Subject,
    destinations: tuple[str, ...],
    now: datetime,
) -> Created:
    """Sign, seal and index a new record, and queue it for the patient's destinations.

    All of it commits together or not at all. Raises ``InvalidContent`` with every problem,
    ``NotPermitted`` for a grant of something else.
    """
    _require(grant, Permission.RECORD_CREATE)
    record = validate(
        ClinicalRecord(
            id=record_id,
            version=1,
            kind=kind,
            category=category_of(kind, entry.observations, catalogue),
            status=RecordStatus.FINAL,
            effective=entry.effective,
            author_id=grant.identity.person_id,
            author_name=author_name,
            institution=keys.tenant.id,
            observations=entry.observations,
            diagnosis=entry.diagnosis,
            notes=entry.notes,
        ),
        catalogue,
        now=now,
        subject=subject,
    )
    transfers = sign_and_file(
        session,
        documents,
        keys,
        record,
        subject,
        catalogue,
        patient_id=grant.patient_id,
        destinations=destinations,
        now=now,
    )
    queued = {partner for partner, _tid in transfers}
    return Created(record.id, transfers, tuple(p for p in destinations if p not in queued))


def sign_and_file(
    session: Session,
    documents: DocumentStore,
    keys: TenantKeys,
    record: ClinicalRecord,
    subject: Subject,
    catalogue: Catalogue,
    *,
    patient_id: str,
    destinations: tuple[str, ...],
    now: datetime,
) -> tuple[tuple[str, str], ...]:
    """Sign a validated record, file it here and queue it; return (partner, transfer id).

    A partner that is not trusted any more gets nothing; the caller says so.
    """
    content = to_fhir(record, subject, catalogue)
    signed = _sign(keys, record, content, now)
    file_record(
        session,
        documents,
        keys,
        record,
        SealedContent(content, signed),
        patient_id=patient_id,
        origin=keys.tenant.id,
        local_id=record.id,
        now=now,
    )
    parcel = Parcel(
        content,
        signed,
        subject.identifier_scheme,
        subject.number,
        subject.name,
        subject.birth_date.isoformat(),
    )
    trusted = {partner.institution for partner in keys.partners()}
    return tuple(
        (partner, _queue(session, keys, record, parcel, patient_id, partner, now))
        for partner in destinations
        if partner in trusted
    )


def category_of(
    kind: RecordKind, observations: tuple[Observation, ...], catalogue: Catalogue
) -> Category:
    """Return the category of content: a sensitive one wins over an ordinary one."""
    found = [catalogue.by_code(one.code).category for one in observations]
    sensitive = sorted(category for category in found if is_sensitive(category))
    if sensitive:
        return sensitive[0]
    return Category.LABORATORY if kind is RecordKind.CLINICAL else Category.CLINICAL_NOTE


def file_record(
    session: Session,
    documents: DocumentStore,
    keys: TenantKeys,
    record: ClinicalRecord,
    sealed_content: SealedContent,
    *,
    patient_id: str,
    origin: str,
    local_id: str,
    now: datetime,
) -> None:
    """Put a signed record under the patient's key and into the index."""
    keys.vault.patient_key(session, patient_id, create=True)
    sealed = keys.vault.seal_record(
        session, patient_id, local_id, record.version, sealed_content.to_bytes()
    )
    document_id = new_id()
    documents.put(document_id, sealed)
    session.add(
        Record(
            id=local_id,
            patient_id=patient_id,
            origin=origin,
            origin_record_id=record.id,
            kind=record.kind,
            category=record.category,
            effective_on=effective_date(record),
            local_author_id=record.author_id if origin == keys.tenant.id else None,
            current_version=record.version,
            created_at=now,
        )
    )
    # The version refers to the record, and foreign keys are checked at each statement.
    session.flush()
    session.add(
        RecordVersion(
            record_id=local_id,
            version=record.version,
            document_id=document_id,
            document_digest=hashlib.sha256(sealed).digest(),
            content_digest=statement.digest(sealed_content.content),
            created_at=now,
        )
    )


def open_record(
    session: Session,
    documents: DocumentStore,
    keys: TenantKeys,
    grant: Grant,
    entry: IndexEntry,
) -> Opened:
    """Open one record and verify its author's signature.

    Checks: 1. the stored document is the one that the index pins; 2. it opens under the
    patient's key, bound to tenant, patient, record and version; 3. the content is the one
    that the index pins; 4. the origin's record key signed exactly this content; 5. what the
    index says of it, from which access was decided, is what was signed.

    A grant of the vital signs opens a record too: whoever holds one shows nothing else of it
    (:mod:`medportal.records.vitals`). Raises ``RecordDamaged`` with the check that failed,
    ``NotPermitted`` for a grant of something else.
    """
    if grant.permission not in OPENING:
        raise NotPermitted(grant.permission)
    if (grant.patient_id, grant.record_id) != (entry.patient_id, entry.id):
        raise NotPermitted(grant.permission)
    sealed = _open_document(session, documents, keys, entry)
    if statement.digest(sealed.content) != entry.content_digest:
        raise RecordDamaged("content-digest")  # 3
    try:
        reading = read(sealed.content)
        stated = verify_author(
            keys,
            sealed,
            reading.record,
            origin=entry.origin,
            at=entry.kept_since,
        )  # 4
    except (FhirError, PkiError, StatementError) as error:
        raise RecordDamaged("signature") from error
    _check_index(keys, entry, reading.record)  # 5
    return Opened(entry, reading, stated, sealed.content)


def _check_index(keys: TenantKeys, entry: IndexEntry, record: ClinicalRecord) -> None:
    """Refuse an index that says other than what is signed: decisions are made from it."""
    author = record.author_id if entry.origin == keys.tenant.id else None
    signed = (
        record.id,
        record.version,
        record.kind,
        record.category,
        effective_date(record),
        author,
    )
    indexed = (
        entry.origin_record_id,
        entry.version,
        entry.kind,
        entry.category,
        entry.effective_on,
        entry.local_author_id,
    )
    if signed != indexed:
        raise RecordDamaged("index")


def _open_document(
    session: Session, documents: DocumentStore, keys: TenantKeys, entry: IndexEntry
) -> SealedContent:
    try:
        sealed = documents.get(entry.document_id)
        if hashlib.sha256(sealed).digest() != entry.document_digest:
            raise RecordDamaged("document-digest")  # 1
        opened = keys.vault.open_record(
            session, entry.patient_id, entry.id, entry.version, sealed
        )  # 2
        return SealedContent.from_bytes(opened)
    except (VaultError, NotCanonical, StatementError) as error:
        raise RecordDamaged("document") from error


def verify_author(
    keys: TenantKeys,
    sealed: SealedContent,
    record: ClinicalRecord,
    *,
    origin: str,
    at: datetime,
) -> AuthorStatement:
    """Return what the author stated; ``at`` is when this institution took the record in.

    Raises a ``PkiError`` or ``StatementError``.
    """
    signed = Signed.from_bytes(sealed.signed_statement)
    authority = keys.authority(origin)
    fields = verify_kept(
        signed,
        statement.LABEL,
        ca=authority.certificate,
        purpose=Purpose.RECORD,
        institution=origin,
        crl_limits=keys.crl_limits,
        taken_in=at,
        known_crl_der=authority.crl_der,
    )
    return statement.read_statement(
        fields,
        sealed.content,
        record_id=record.id,
        version=record.version,
        institution=origin,
        author_id=record.author_id,
        category=record.category,
    )


def with_newest_list(signed_statement: bytes, authority: Authority) -> bytes:
    """Return a statement with the newer of its own and the authority's revocation list.

    A record may have waited for weeks before it could be delivered. The list is not part of
    what is signed; the one of the moment in which a record is filed is kept with it, so that
    it can be checked as of that moment for good. Raises ``MalformedStatement``, also for a
    carried list that is not the authority's.
    """
    signed = Signed.from_bytes(signed_statement)
    newest = with_newer_list(signed, authority.crl_der, ca=authority.certificate)
    return signed_statement if newest is signed else newest.to_bytes()


def _sign(keys: TenantKeys, record: ClinicalRecord, content: bytes, now: datetime) -> bytes:
    fields = statement.statement_fields(
        content,
        record.id,
        record.version,
        keys.tenant.id,
        record.author_id,
        record.category,
        now,
    )
    return sign_statement(keys.signer(Purpose.RECORD), statement.LABEL, fields).to_bytes()


def _queue(
    session: Session,
    keys: TenantKeys,
    record: ClinicalRecord,
    parcel: Parcel,
    patient_id: str,
    partner: str,
    now: datetime,
) -> str:
    key = keys.partner_key(partner)
    tid = new_id()
    sealed = keys.seal_outgoing(parcel.to_bytes(), outbox_info(keys.tenant.id, partner, tid))
    return enqueue(
        session,
        Outgoing(
            tid=tid,
            partner=partner,
            record_id=record.id,
            version=record.version,
            chain=record.id,
            patient_id=patient_id,
            pseudonym=pseudonym(key.key, parcel.scheme, parcel.number),
            key_id=key.key_id,
            digest=statement.digest(parcel.content),
            sealed=sealed,
            category=record.category,
        ),
        now,
    )


def _require(grant: Grant, permission: Permission) -> None:
    if grant.permission is not permission:
        raise NotPermitted(permission)
