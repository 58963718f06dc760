"""What an erasure takes away, and what it leaves: the one list of both.

Away go the patient's key, and with it everything sealed under it wherever a copy may lie; the
sealed documents and the index of the records, whose categories alone would tell; support needs;
the words of rules, of emergency access and of complaints; and what waits to be sent or filed.

What stays: name, number and date of birth, as the account needs them; stays on wards and who
looked after the patient; rules without their notes; who broke the glass and when, without the
words; receipts given to partners; and the audit log, which holds ids and codes.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.orm import Session

from medportal.access.models import BrokenGlass, Complaint, PatientRule
from medportal.delivery.models import Inbox, Outbox
from medportal.patients.models import SupportNeeds
from medportal.patients.models_index import PartnerIndex
from medportal.records.models import Record, RecordVersion
from medportal.records.models_results import Result
from medportal.vault.documents import DocumentStore
from medportal.vault.store import destroy_patient_key

#: Stands where words were that a column must have: it opens under no key.
GONE = b""


def remove(session: Session, documents: DocumentStore, patient_id: str, when: datetime) -> bool:
    """Erase what is kept about a patient; return whether their key was still there.

    In the caller's transaction; may be repeated. Documents of a store outside the database are
    gone at once, which is harmless: without the key they say nothing, and if the transaction
    fails it is repeated.
    """
    # The key first: whoever seals something waits for this row, and then finds it destroyed.
    was_there = destroy_patient_key(session, patient_id, when)
    for ids in _documents(session, patient_id):
        documents.remove(ids)
    _drop_records(session, patient_id)
    session.execute(delete(SupportNeeds).where(SupportNeeds.patient_id == patient_id))
    _drop_words(session, patient_id)
    _drop_on_the_way(session, patient_id)
    return was_there


def _documents(session: Session, patient_id: str, batch: int = 500) -> Iterator[list[str]]:
    found = session.scalars(
        select(RecordVersion.document_id)
        .join(Record, Record.id == RecordVersion.record_id)
        .where(Record.patient_id == patient_id)
    ).all()
    for start in range(0, len(found), batch):
        yield list(found[start : start + batch])


def _drop_records(session: Session, patient_id: str) -> None:
    own = select(Record.id).where(Record.patient_id == patient_id)
    session.execute(delete(Result).where(Result.patient_id == patient_id))
    session.execute(delete(RecordVersion).where(RecordVersion.record_id.in_(own)))
    session.execute(delete(Record).where(Record.patient_id == patient_id))


def _drop_words(session: Session, patient_id: str) -> None:
    session.execute(
        update(PatientRule).where(PatientRule.patient_id == patient_id).values(note=None)
    )
    session.execute(
        update(BrokenGlass)
        .where(BrokenGlass.patient_id == patient_id)
        .values(text=GONE, finding_text=None)
    )
    session.execute(
        update(Complaint).where(Complaint.patient_id == patient_id).values(text=GONE, answer=None)
    )


def _drop_on_the_way(session: Session, patient_id: str) -> None:
    """Drop what partners have not got yet; what they gave a receipt for is theirs.

    A row of the inbox stays without its content: its number closes the row of receipts. What
    came before the patient was registered here names none, and is theirs by its pseudonym.
    """
    session.execute(delete(Outbox).where(Outbox.patient_id == patient_id))
    theirs = select(PartnerIndex.pseudonym).where(
        PartnerIndex.patient_id == patient_id,
        PartnerIndex.partner == Inbox.sender,
        PartnerIndex.key_id == Inbox.key_id,
        PartnerIndex.pseudonym == Inbox.pseudonym,
    )
    session.execute(
        update(Inbox)
        .where(
            or_(
                Inbox.patient_id == patient_id,
                and_(Inbox.patient_id.is_(None), theirs.exists()),
            )
        )
        .values(sealed=None, told=None, awaiting=None)
        .execution_options(synchronize_session=False)
    )
