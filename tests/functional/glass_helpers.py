"""Patients whom nobody looks after yet, with records, and clinicians who break the glass."""

from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import Any

from admin_helpers import employ
from installation import PASSWORD
from second_factor_helpers import Clock
from sqlalchemy import select, update
from webtest import TestResponse

from medportal.access.models import BrokenGlass, CareAssignment, CareKind
from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.core.ids import new_id
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile
from medportal.mail.models import OutgoingMail
from medportal.patients.service import Registration, register_patient
from medportal.records.models import Record, RecordVersion

#: What an honest clinician writes, and nobody may find in a log.
WORDS = "Found unconscious in the lift, and nobody of the ward was near."
MARKER = "Zyxomorph fever of the left knee"
_numbers = count(71_000_001)


@dataclass
class Ill:
    """A patient of the hospital who was registered for one test."""

    portal: Any
    clock: Clock
    id: str
    number: str
    name: str

    @property
    def path(self) -> str:
        return f"/patients/{self.id}"

    @property
    def glass(self) -> str:
        return f"{self.path}/glass"

    def signed_in(self) -> Any:
        browser = self.portal.browser("hospital")
        assert browser.sign_in(self.number).status_int == 303
        return browser

    def mails(self) -> list[str]:
        with self.portal.session("hospital") as session:
            query = select(OutgoingMail.kind).where(OutgoingMail.person_id == self.id)
            return sorted(session.scalars(query))

    def steps(self) -> list[BrokenGlass]:
        with self.portal.session("hospital") as session:
            query = select(BrokenGlass).where(BrokenGlass.patient_id == self.id)
            return list(session.scalars(query.order_by(BrokenGlass.since, BrokenGlass.sensitive)))

    def events(self, *actions: str) -> list[Event]:
        """Return the events about this patient, oldest first."""
        with self.portal.session("hospital") as session:
            rows = session.scalars(
                select(AuditEvent.body)
                .where(AuditEvent.patient == self.id)
                .order_by(AuditEvent.at, AuditEvent.id)
            )
            found = [Event.from_bytes(body) for body in rows]
        return [event for event in found if not actions or event.action in actions]

    def look_after(self, staff_id: str) -> None:
        """Assign somebody to the patient from now on."""
        with self.portal.session("hospital") as session, session.begin():
            session.add(
                CareAssignment(
                    id=new_id(),
                    patient_id=self.id,
                    staff_id=staff_id,
                    kind=CareKind.TEAM,
                    since=self.clock(),
                )
            )

    def write_record(self, doctor: Any) -> str:
        """Let a doctor look after the patient, write a record and go; return its path."""
        self.look_after(doctor.id)
        form = doctor.signed_in().get(f"{self.path}/records/new").forms["form"]
        form["effective"], form["height"], form["diagnosis"] = "05/02/2026", "171", MARKER
        assert form.submit().status_int == 303
        with self.portal.session("hospital") as session, session.begin():
            session.execute(
                update(CareAssignment)
                .where(CareAssignment.patient_id == self.id)
                .values(until=self.clock())
            )
            record = session.scalars(
                select(Record.id).where(Record.patient_id == self.id, Record.kind == "medical")
            ).one()
        return f"{self.path}/records/{record}"

    def index_record(self, category: str) -> str:
        """Put a record of a category into the index, without a document; return its path."""
        record = new_id()
        with self.portal.session("hospital") as session, session.begin():
            session.add(
                Record(
                    id=record,
                    patient_id=self.id,
                    origin="hospital",
                    origin_record_id=record,
                    kind="medical",
                    category=category,
                    effective_on=date(2026, 1, 2),
                    local_author_id=None,
                    current_version=1,
                    status="final",
                    created_at=self.clock(),
                )
            )
            session.flush()
            session.add(
                RecordVersion(
                    record_id=record,
                    version=1,
                    document_id=new_id(),
                    document_digest=bytes(32),
                    content_digest=bytes(32),
                    category=category,
                    status="final",
                    effective_on=date(2026, 1, 2),
                    created_at=self.clock(),
                )
            )
        return f"{self.path}/records/{record}"


def fall_ill(
    portal: Any, clock: Clock, *, email: str = "ill@example.org", name: str = "Carlota Reis"
) -> Ill:
    """Register a patient of the hospital with an account, in nobody's care."""
    number = str(next(_numbers))
    profile = Profile(name, date(1941, 2, 3), "female", email=email, language="en")
    tenant = portal.settings.tenant("hospital")
    with portal.session("hospital") as session, session.begin():
        registration = Registration("citizen-card", number, profile)
        keys = portal.keys("hospital").partner_keys()
        patient, _ = register_patient(session, registration, keys, by=None, now=clock())
        set_password(session, patient, tenant.passwords, PASSWORD, clock())
    return Ill(portal, clock, patient, number, name)


def doctor_of(portal: Any, *, role: str = "doctor", name: str = "Duarte Figueira") -> Any:
    """Employ a clinician who looks after nobody."""
    return employ(portal, role, name=name)


def smash(
    browser: Any, ill: Ill, *, form: str = "form", reason: str = "emergency", words: str = WORDS
) -> TestResponse:
    """State a reason on the page of emergency access, and send it."""
    filled = browser.get(ill.glass).forms[form]
    filled["reason"].force_value(reason)
    filled["words"].force_value(words)
    return filled.submit(expect_errors=True)


def seek(browser: Any, number: str) -> TestResponse:
    """Look a patient up by number."""
    form = browser.get("/patients/find").forms["form"]
    form["number"] = number
    return form.submit(expect_errors=True)
