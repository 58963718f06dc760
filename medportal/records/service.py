"""Use-cases of records: create one, open one."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from medportal.access.errors import NotPermitted
from medportal.access.grants import Grant
from medportal.core.categories import Category
from medportal.core.ids import new_id
from medportal.core.permissions import Permission
from medportal.delivery import boxkeys
from medportal.delivery.outbox import Outgoing, enqueue
from medportal.delivery.parcel import Parcel, outbox_info
from medportal.keys import Authority, TenantKeys
from medportal.patients.pseudonyms import pseudonym
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import Signed, sign_statement, with_newer_list
from medportal.records import head, news, statement
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
from medportal.records.fhir import to_fhir
from medportal.records.models import Record, RecordVersion
from medportal.records.opening import Opened as Opened
from medportal.records.opening import open_record as open_record
from medportal.records.opening import replaced_by
from medportal.records.opening import verify_author as verify_author
from medportal.records.statement import SealedContent
from medportal.vault.documents import DocumentStore


@dataclass(frozen=True, slots=True)
class Created:
    """A new record, the transfers queued for it, and the partners that get nothing."""

    record_id: str
    transfers: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...] = ()


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
            category=category_of(kind, entry.observations, catalogue, entry.category),
            status=RecordStatus.FINAL,
            effective=entry.effective,
            author_id=grant.identity.person_id,
            author_name=author_name,
            institution=keys.tenant.id,
            observations=entry.observations,
            diagnosis=entry.diagnosis,
            diagnosis_code=entry.diagnosis_code,
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
    kind: RecordKind,
    observations: tuple[Observation, ...],
    catalogue: Catalogue,
    chosen: Category | None = None,
) -> Category:
    """Return the category of content: a sensitive one, found or chosen, wins over an ordinary one.

    Raises ``InvalidContent`` where two sensitive ones meet.
    """
    return catalogue.category_for(kind, observations, chosen)


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
    """Put a signed version of a record under the patient's key and into the index.

    A version of a record that is here already joins the others under ``local_id``; what the
    record says is what its newest version says. The caller holds the record's lock then, and
    has looked whether the version fits.
    """
    keys.vault.patient_key(session, patient_id, create=True)
    sealed = keys.vault.seal_record(
        session, patient_id, local_id, record.version, sealed_content.to_bytes()
    )
    document_id = new_id()
    documents.put(document_id, sealed)
    says = _says(record)
    signer = record.author_id if origin == keys.tenant.id else None
    found = session.get(Record, local_id)
    is_news = found is None or found.head is None or record.version > found.current_version
    if found is None:
        # Who signs later versions is no author: that may rest on an hour of emergency access.
        found = Record(
            id=local_id,
            patient_id=patient_id,
            origin=origin,
            origin_record_id=record.id,
            kind=record.kind,
            local_author_id=signer,
            current_version=record.version,
            created_at=now,
            **says,
        )
        session.add(found)
    elif record.version > found.current_version:
        for name, value in {**says, "current_version": record.version}.items():
            setattr(found, name, value)
    # The version refers to the record, and foreign keys are checked at each statement.
    session.flush()
    session.add(
        RecordVersion(
            record_id=local_id,
            version=record.version,
            document_id=document_id,
            document_digest=hashlib.sha256(sealed).digest(),
            content_digest=statement.digest(sealed_content.content),
            replaces=replaced_by(record),
            local_signer_id=signer,
            created_at=now,
            **says,
        )
    )
    session.flush()
    if is_news:
        head.renew(session, keys.vault, found)
    news.note(
        session,
        keys.vault,
        sealed_content.content,
        patient_id=patient_id,
        record_id=local_id,
        version=record.version,
        now=now,
    )


def _says(record: ClinicalRecord) -> dict[str, Any]:
    """Return what the index keeps of what a version says."""
    return {
        "category": record.category,
        "status": record.status,
        "effective_on": effective_date(record),
    }


def with_newest_list(signed_statement: bytes, authority: Authority) -> bytes:
    """Return a statement with the newer of its own and the authority's revocation list.

    A record may have waited for weeks before it could be delivered. The list is not part of
    what is signed; the one of the moment in which a record is filed is kept with it, so that
    it can be checked as of that moment for good. Raises ``MalformedStatement``, also for a
    carried list that is not the authority's.
    """
    signed = Signed.from_bytes(signed_statement)
    newest = with_newer_list(signed, authority.lists, ca=authority.certificates)
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
    info = outbox_info(keys.tenant.id, partner, tid)
    sealed = boxkeys.seal(session, keys, "outbox", parcel.to_bytes(), info)
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
