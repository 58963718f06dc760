"""Intake: what the receiver accepted goes under the patient's own key.

The receiver faces partners and may have been taken over, so nothing is filed on its word:
the author's signature, the patient's number and the content are checked again here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.canonical import NotCanonical
from medportal.core.errors import ConfigurationError
from medportal.core.ids import new_id
from medportal.delivery import boxkeys
from medportal.delivery.errors import MalformedDelivery
from medportal.delivery.inbox import InboxItem, mark_filed, pending, set_aside
from medportal.delivery.parcel import Parcel, inbox_info
from medportal.delivery.states import DeliveryReason
from medportal.keys import TenantKeys
from medportal.patients.pseudonyms import MalformedIdentifier, normal_name, normal_number
from medportal.patients.service import demographics, find_patient
from medportal.pki import errors as pki
from medportal.pki.errors import PkiError
from medportal.records import store
from medportal.records.content import ClinicalRecord, Subject, check_arrival
from medportal.records.errors import (
    AlreadyFiled,
    CorrectionUnfit,
    FhirError,
    NotForThisPatient,
    OriginalMissing,
    OtherDemographics,
    PartnerNotTrusted,
    StatementError,
)
from medportal.records.fhir import read
from medportal.records.service import file_record, verify_author, with_newest_list
from medportal.records.statement import SealedContent, digest
from medportal.records.succession import Held, check_continues
from medportal.vault import errors as vault
from medportal.vault.documents import DocumentStore
from medportal.vault.errors import DocumentsUnavailable, VaultError
from medportal.web.errors import kinds, places

log = structlog.get_logger()
ACTOR = "process:intake"
BATCH = 32


@dataclass(frozen=True, slots=True)
class Filed:
    """How many items of a batch were filed, and how many were set aside for a person."""

    filed: int
    set_aside: int


_REASONS: tuple[tuple[tuple[type[Exception], ...], DeliveryReason], ...] = (
    ((VaultError,), DeliveryReason.CANNOT_OPEN),
    ((PkiError, StatementError), DeliveryReason.SIGNATURE_INVALID),
    ((NotForThisPatient, MalformedIdentifier), DeliveryReason.IDENTIFIER_MISMATCH),
    ((FhirError, MalformedDelivery, NotCanonical), DeliveryReason.CONTENT_INVALID),
    ((AlreadyFiled,), DeliveryReason.DIGEST_CONFLICT),
    ((CorrectionUnfit,), DeliveryReason.CORRECTION_UNFIT),
    ((OriginalMissing,), DeliveryReason.ORIGINAL_MISSING),
    ((OtherDemographics,), DeliveryReason.DEMOGRAPHICS_DIFFER),
    ((PartnerNotTrusted,), DeliveryReason.PARTNER_NOT_TRUSTED),
    # What the checks did not foresee and the database refuses is the item's fault too: one
    # item must never hold up those behind it.
    ((IntegrityError, DataError), DeliveryReason.CONTENT_INVALID),
)
_EXPECTED = tuple(kind for group, _reason in _REASONS for kind in group)


def take_in(
    session: Session,
    documents_of: Callable[[Session], DocumentStore],
    keys: TenantKeys,
    now: datetime,
    limit: int = BATCH,
) -> Filed:
    """File one batch of inbox items, in the caller's transaction.

    What is wrong with an item sets that item aside; what is wrong with this machine (keys,
    database, disk) raises, and every item goes on waiting. So does an item whose author's
    certificate or list is of the future: the receiver found it in order, by a clock that went back.
    """
    keys.require_intake()
    filed = aside = 0
    for item in pending(session, now, limit):
        try:
            # A savepoint: what an item that fails wrote is undone, the others stay.
            with session.begin_nested():
                _file(session, documents_of(session), keys, item, now)
            filed += 1
        except (pki.KeyFileError, vault.KeyFileError) as error:
            raise ConfigurationError(f"intake stops, and no item is to blame: {error}") from error
        except (pki.NotYetValid, pki.CrlFromFuture) as error:
            log.warning(
                "inbox item waits for the clock", tid=item.tid, sender=item.sender, code=error.code
            )
        except _EXPECTED as error:
            reason = next(r for group, r in _REASONS if isinstance(error, group))
            set_aside(session, item.sender, item.tid, reason)
            log.warning("inbox item set aside", tid=item.tid, sender=item.sender, reason=reason)
            aside += 1
        except (SQLAlchemyError, ConfigurationError, DocumentsUnavailable, OSError):
            raise
        except Exception as error:
            # Nobody foresaw this content. It is a fault here, so it is loud, but those behind
            # it are not to wait for its mending.
            set_aside(session, item.sender, item.tid, DeliveryReason.UNSPECIFIED)
            log.error(
                "inbox item met a fault",
                tid=item.tid,
                sender=item.sender,
                kinds=kinds(error),
                places=places(error),
            )
            aside += 1
    return Filed(filed, aside)


def _file(
    session: Session, documents: DocumentStore, keys: TenantKeys, item: InboxItem, now: datetime
) -> None:
    if not keys.trusted.is_trusted(item.sender):
        raise PartnerNotTrusted("the partner was revoked before its record was filed")
    info = inbox_info(keys.tenant.id, item.sender, item.tid)
    opened = boxkeys.open_incoming(session, keys, item.sealed, info)
    parcel = Parcel.from_bytes(opened)
    reading = read(parcel.content)
    signed = with_newest_list(parcel.statement, keys.authority(item.sender))
    sealed = SealedContent(parcel.content, signed)
    verify_author(keys, sealed, reading.record, origin=item.sender, at=now)
    if check_arrival(reading.record, now=now):
        raise MalformedDelivery("content that this institution would not store")
    patient_id = _patient(session, item, parcel, reading.subject)
    held = store.held(session, item.sender, reading.record)
    if held:
        check_continues(
            held,
            reading.record,
            digest(parcel.content),
            patient_id,
            # It comes back with this reason only from somebody who let it be tried again.
            may_leave_gap=item.reason is DeliveryReason.ORIGINAL_MISSING,
        )
    local_id = held.id if held else new_id()
    file_record(
        session,
        documents,
        keys,
        reading.record,
        sealed,
        patient_id=patient_id,
        origin=item.sender,
        local_id=local_id,
        now=now,
    )
    mark_filed(session, item.sender, item.tid, local_id, now)
    append(
        session,
        Event.create(
            Action.RECORD_FILED,
            now=now,
            actor=ACTOR,
            patient=patient_id,
            object=local_id,
            details={"origin": item.sender, "tid": item.tid, **_of_version(reading.record, held)},
        ),
    )


def _of_version(record: ClinicalRecord, held: Held | None) -> dict[str, str | int]:
    """Return what the log says of a later version: which, of what kind, what it continues."""
    if record.version == 1:
        return {}
    follows = int(held is not None and held.before is not None)
    return {"version": record.version, "status": record.status.value, "follows": follows}


def _patient(session: Session, item: InboxItem, parcel: Parcel, subject: Subject) -> str:
    """Return the patient whom the number names here.

    It must be the one accepted for, the parcel and the signed content must speak of the same
    person, and name and birth date must be those registered here: all of which the receiver
    has looked at before, and nothing of which is taken on its word.
    """
    found = find_patient(session, parcel.scheme, normal_number(parcel.number))
    if found is None or found != item.patient_id:
        raise NotForThisPatient("the number is not that of the patient accepted for")
    told = (subject.identifier_scheme, subject.number, subject.name, subject.birth_date.isoformat())
    if told != (parcel.scheme, parcel.number, parcel.name, parcel.birth):
        raise NotForThisPatient("the parcel and its content speak of different people")
    here = demographics(session, found)
    same = normal_name(subject.name) == normal_name(here.name)
    if not same or subject.birth_date != here.birth_date:
        raise OtherDemographics("name or birth date are not those registered")
    return found
