"""An institution's clerk: enters records and corrections, and again whatever did not go in.

It files as the portal does, in one transaction a record. Where the database or its disk is gone,
a person would press the button again; whether the first time went in after all is looked up, as
the portal's form does by the record's id.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from faults.cast import Way
from faults.houses import House
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
#: A version, by its record and its number.
Version = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Patient:
    """Somebody who is registered at an institution, and to which partners their records go."""

    subject: Subject
    id: str
    destinations: tuple[str, ...]


@dataclass
class Clerk:
    """Enters what a run asks for.

    ``entered`` is, for every partner, the digest of each version that went in for it.
    """

    house: House
    dice: random.Random
    patients: list[Patient]
    entered: dict[str, dict[Version, bytes]] = field(default_factory=dict)
    newest: list[tuple[ClinicalRecord, Patient]] = field(default_factory=list)
    versions: set[Version] = field(default_factory=set)
    again: int = 0

    def enter(self, count: int, partner: str = "") -> None:
        """Enter so many versions, all of them for a partner if one is named.

        Two of three are new records, the others correct one.
        """
        for _ in range(count):
            fit = [n for n, (_, patient) in enumerate(self.newest) if _goes(patient, partner)]
            if fit and self.dice.random() < 1 / 3:
                # Rather one of the last: its first version is likely to be on its way still.
                place = max(0, len(fit) - 1 - int(self.dice.expovariate(0.3)))
                record, patient = self.newest.pop(fit[place])
                version = self._correction(record, patient)
            else:
                patient = self.dice.choice([p for p in self.patients if _goes(p, partner)])
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
            author_name=f"{FAMILY} of the staff",
            institution=self.house.id,
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
        version = record.id, record.version
        self.versions.add(version)
        for partner in patient.destinations:
            digest = statement.digest(_content(record, patient))
            self.entered.setdefault(partner, {})[version] = digest

    def _is_in(self, record: ClinicalRecord) -> bool:
        query = select(RecordVersion.version).where(
            RecordVersion.record_id == record.id, RecordVersion.version == record.version
        )
        with self.house.reading() as session:
            return session.scalar(query) is not None

    def _file(self, record: ClinicalRecord, patient: Patient) -> None:
        house = self.house
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
                destinations=patient.destinations,
                now=house.now(),
            )


def _content(record: ClinicalRecord, patient: Patient) -> bytes:
    return to_fhir(record, patient.subject, catalogues.load())


def _goes(patient: Patient, partner: str) -> bool:
    """Tell whether records of a patient go to a partner; where none is named, all do."""
    return not partner or partner in patient.destinations


def register(house: House, ways: Sequence[Way], count: int) -> list[Patient]:
    """Register so many patients at an institution, in one transaction: everywhere the same."""
    partners = [way.receiver for way in ways if way.sender == house.id]
    patients = [(_subject(n), _destinations(partners, n)) for n in range(count)]
    with house.database.writer() as session, session.begin():
        return [
            Patient(subject, _register(session, house, subject, destinations), destinations)
            for subject, destinations in patients
        ]


def _subject(number: int) -> Subject:
    day = date(1931, 3, 4) + timedelta(days=29 * number)
    return Subject(SCHEME, str(17_000_101 + 37 * number), f"{FAMILY} {number}", day, Sex.FEMALE)


def _destinations(partners: Sequence[str], number: int) -> tuple[str, ...]:
    """Return to whom records of a patient go: every third patient's to all, others' to one."""
    if number % 3 == 0 or not partners:
        return tuple(partners)
    return (partners[number // 3 % len(partners)],)


def _register(
    session: Session, house: House, subject: Subject, destinations: tuple[str, ...]
) -> str:
    return register_patient(
        session,
        Registration(
            subject.identifier_scheme,
            subject.number,
            Profile(subject.name, subject.birth_date, subject.sex),
            destinations=destinations,
        ),
        house.keys.partner_keys(),
        by=None,
        now=utcnow(),
    )[0]
