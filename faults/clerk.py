"""The laboratory's clerk: enters records and corrections, and again whatever did not go in.

It files as the portal does, in one transaction a record. Where the database or its disk is gone,
a person would press the button again; whether the first time went in after all is looked up, as
the portal's form does by the record's id.
"""

import random
import time
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from faults.houses import HOSPITAL, LABORATORY, House
from medportal.core.categories import Category
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.identity.people import Profile
from medportal.patients.service import Registration, register_patient
from medportal.records import catalogue as catalogues
from medportal.records import statement
from medportal.records.content import (
    ClinicalRecord,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
)
from medportal.records.fhir import to_fhir
from medportal.records.models import RecordVersion
from medportal.records.service import sign_and_file
from medportal.vault.stores import documents_of

SCHEME = "citizen-card"
FAMILY = "Quillwort Zyxomorph"
NOTES = "Ambergris in the left knapsack"
GLUCOSE = "2823-3"
_GIVE_UP_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Patient:
    """Somebody who is registered at both institutions."""

    subject: Subject
    id: str


@dataclass
class Clerk:
    """Enters what a run asks for. ``entered`` is the digest of every version that went in."""

    laboratory: House
    dice: random.Random
    patients: list[Patient] = field(default_factory=list)
    entered: dict[tuple[str, int], bytes] = field(default_factory=dict)
    newest: list[tuple[ClinicalRecord, Patient]] = field(default_factory=list)
    again: int = 0

    def register(self, hospital: House, count: int) -> None:
        """Register patients at both institutions, in each in one transaction."""
        subjects = [self._subject(number) for number in range(count)]
        ids = {house.id: _register(house, subjects) for house in (hospital, self.laboratory)}
        known = zip(subjects, ids[LABORATORY], strict=True)
        self.patients = [Patient(subject, id_) for subject, id_ in known]

    def _subject(self, number: int) -> Subject:
        day = date(1931, 3, 4) + timedelta(days=29 * number)
        return Subject(SCHEME, str(17_000_101 + 37 * number), f"{FAMILY} {number}", day, Sex.FEMALE)

    @property
    def corrections(self) -> int:
        """Return how many of what went in are later versions."""
        return sum(version > 1 for _record, version in self.entered)

    def enter(self, count: int) -> None:
        """Enter so many versions: two of three are new records, the others correct one."""
        for _ in range(count):
            if self.newest and self.dice.random() < 1 / 3:
                # Rather one of the last: its first version is likely to be on its way still.
                place = max(0, len(self.newest) - 1 - int(self.dice.expovariate(0.3)))
                record, patient = self.newest.pop(place)
                version = self._correction(record, patient)
            else:
                patient = self.dice.choice(self.patients)
                version = self._record()
            self._enter(version, patient)
            self.newest.append((version, patient))

    def _record(self) -> ClinicalRecord:
        return ClinicalRecord(
            id=new_id(),
            version=1,
            kind=RecordKind.CLINICAL,
            category=Category.LABORATORY,
            status=RecordStatus.FINAL,
            effective=date(2026, 5, 1),
            author_id="a" * 32,
            author_name=f"{FAMILY} of the laboratory",
            institution=LABORATORY,
            observations=(Observation(GLUCOSE, Quantity(self._value(), "mmol/L")),),
            notes=NOTES,
        )

    def _value(self) -> Decimal:
        return Decimal(self.dice.randrange(30, 90)) / 10

    def _correction(self, record: ClinicalRecord, patient: Patient) -> ClinicalRecord:
        return replace(
            record,
            version=record.version + 1,
            status=RecordStatus.CORRECTED,
            observations=(Observation(GLUCOSE, Quantity(self._value(), "mmol/L")),),
            replaces=statement.digest(_content(record, patient)).hex(),
            change_reason=f"{NOTES}, again",
        )

    def _enter(self, record: ClinicalRecord, patient: Patient) -> None:
        until = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                if not self._is_in(record):
                    self._file(record, patient)
                break
            except SQLAlchemyError:
                self.again += 1
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        self.entered[record.id, record.version] = statement.digest(_content(record, patient))

    def _is_in(self, record: ClinicalRecord) -> bool:
        query = select(RecordVersion.version).where(
            RecordVersion.record_id == record.id, RecordVersion.version == record.version
        )
        with self.laboratory.reading() as session:
            return session.scalar(query) is not None

    def _file(self, record: ClinicalRecord, patient: Patient) -> None:
        house = self.laboratory
        tenant = house.settings.tenant(house.id)
        with house.database.writer() as session, session.begin():
            sign_and_file(
                session,
                documents_of(tenant, session),
                house.keys,
                record,
                patient.subject,
                catalogues.load(),
                patient_id=patient.id,
                destinations=(HOSPITAL,),
                now=utcnow(),
            )


def _content(record: ClinicalRecord, patient: Patient) -> bytes:
    return to_fhir(record, patient.subject, catalogues.load())


def _register(house: House, subjects: list[Subject]) -> list[str]:
    partners = (HOSPITAL,) if house.id == LABORATORY else ()
    with house.database.writer() as session, session.begin():
        return [
            register_patient(
                session,
                Registration(
                    subject.identifier_scheme,
                    subject.number,
                    Profile(subject.name, subject.birth_date, subject.sex),
                    destinations=partners,
                ),
                house.keys.partner_keys(),
                by=None,
                now=utcnow(),
            )[0]
            for subject in subjects
        ]
