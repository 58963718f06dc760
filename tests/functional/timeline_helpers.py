"""Records filed without a form: many at once, of any category, day and origin."""

from datetime import date
from decimal import Decimal

from installation import NUMBERS

from medportal.core.categories import Category
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import catalogue as catalogues
from medportal.records import service, statement
from medportal.records.content import (
    BloodPressure,
    ClinicalRecord,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
)
from medportal.records.fhir import to_fhir
from medportal.records.statement import SealedContent
from medportal.vault.stores import documents_of

SUBJECT = Subject("citizen-card", NUMBERS["patient"], "Amanda Júlio", date(1980, 2, 3), Sex.FEMALE)


def value(key: str, number: str) -> Observation:
    """Return a value by its key in the catalogue; a pressure as ``120/80``."""
    definition = catalogues.load().by_key(key)
    if "/" in number:
        high, low = number.split("/")
        return Observation(definition.code, BloodPressure(Decimal(high), Decimal(low)))
    return Observation(definition.code, Quantity(Decimal(number), definition.unit))


def file(
    portal,
    day: date,
    *observations: Observation,
    category=Category.CLINICAL_NOTE,
    origin="hospital",
    author="doctor",
    status=RecordStatus.FINAL,
    at="hospital",
    **texts: str,
) -> str:
    """File a record about the patient and return its id; signed by its origin's real key."""
    keys, signer = portal.keys(at), portal.keys(origin)
    author_id = portal.ids.get((origin, author), "a" * 32)
    record = ClinicalRecord(
        id=new_id(),
        version=1 if status is RecordStatus.FINAL else 2,
        kind=RecordKind.MEDICAL if origin == "hospital" else RecordKind.CLINICAL,
        category=category,
        status=status,
        effective=day,
        author_id=author_id,
        author_name=f"Person {author}",
        institution=origin,
        observations=observations,
        replaces=None if status is RecordStatus.FINAL else "0" * 64,
        change_reason=None if status is RecordStatus.FINAL else "Another patient's.",
        **texts,
    )
    content, now = to_fhir(record, SUBJECT, catalogues.load()), utcnow()
    fields = statement.statement_fields(
        content, record.id, record.version, origin, author_id, record.category, now
    )
    signed = sign_statement(signer.signer(Purpose.RECORD), statement.LABEL, fields).to_bytes()
    local_id = new_id()
    with portal.session(at) as session, session.begin():
        service.file_record(
            session,
            documents_of(keys.tenant, session),
            keys,
            record,
            SealedContent(content, signed),
            patient_id=portal.person("patient", at),
            origin=origin,
            local_id=record.id if origin == at else local_id,
            now=now,
        )
    return record.id if origin == at else local_id


def cards(page) -> dict[str, str]:
    """Return what stands on each card of a page, by the id of its record, in order."""
    return {
        card.find("a")["href"].rsplit("/", 1)[1]: card.get_text(" ", strip=True)
        for card in page.html.select("ul.records > li")
    }


def events_of(portal, action, tenant="hospital"):
    """Return the events of one kind, oldest first."""
    from sqlalchemy import select

    from medportal.audit.events import Event
    from medportal.audit.models import AuditEvent

    with portal.session(tenant) as session:
        rows = session.scalars(
            select(AuditEvent)
            .where(AuditEvent.action == action)
            .order_by(AuditEvent.at, AuditEvent.id)
        )
        return [Event.from_bytes(row.body) for row in rows]
