"""People who work at the institutions of the tests, and what is written about them."""

import itertools
from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import Any

from sqlalchemy import select
from webtest import TestResponse

from medportal.access.care import assign
from medportal.access.models import CareKind
from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.identity.credentials import set_password
from medportal.identity.models import AccountNote, Totp
from medportal.identity.people import Profile, register_person, roles_of
from medportal.mail.models import OutgoingMail

PASSWORD = "quiet rivers carry small boats"
_numbers = count(51_000_001)


@dataclass
class Employee:
    """Somebody who was registered for one test."""

    portal: Any
    tenant: str
    id: str
    number: str
    name: str
    email: str

    @property
    def path(self) -> str:
        return f"/people/{self.id}"

    def session(self) -> Any:
        return self.portal.session(self.tenant)

    def signed_in(self) -> Any:
        browser = self.portal.browser(self.tenant)
        answer = browser.sign_in(self.number)
        assert answer.status_int == 303, answer.text
        return browser

    def can_sign_in(self) -> bool:
        return bool(self.portal.browser(self.tenant).sign_in(self.number).status_int == 303)

    def roles(self) -> frozenset[str]:
        with self.session() as session:
            return roles_of(session, self.id)

    def mails(self) -> list[str]:
        with self.session() as session:
            query = select(OutgoingMail.kind).where(OutgoingMail.person_id == self.id)
            return sorted(session.scalars(query))

    def notes(self) -> list[tuple[str, str, str]]:
        with self.session() as session:
            query = select(AccountNote).where(AccountNote.person_id == self.id)
            rows = session.scalars(query.order_by(AccountNote.at, AccountNote.action))
            return [(row.action, row.reason, row.note) for row in rows]

    def add_app(self) -> None:
        """Give this person a second factor."""
        with self.session() as session, session.begin():
            session.add(Totp(person_id=self.id, sealed_secret=b"s", confirmed_at=utcnow()))

    def events(self) -> list[Event]:
        """Return the events about this person, oldest first."""
        return events_about(self.portal, self.tenant, self.id)


def employ(
    portal: Any,
    *roles: str,
    tenant: str = "hospital",
    name: str = "Benedita Sá Couto",
    email: str = "benedita@example.org",
    active: bool = True,
    phone: str = "",
) -> Employee:
    """Register somebody in roles, activated unless said otherwise."""
    number = str(next(_numbers))
    known = portal.settings.tenant(tenant)
    profile = Profile(name, date(1980, 2, 3), "female", email=email, phone=phone, language="en")
    with portal.session(tenant) as session, session.begin():
        for role in roles:
            person_id = register_person(
                session,
                scheme=known.identifiers.scheme,
                number=number,
                profile=profile,
                role=role,
                by=None,
                now=utcnow(),
            ).person_id
            session.flush()
        if active:
            set_password(session, person_id, known.passwords, PASSWORD, utcnow())
    return Employee(portal, tenant, person_id, number, name, email)


def look_after(portal: Any, staff_id: str, patient_id: str) -> None:
    """Assign somebody to a patient of the hospital, as the ward clerk does."""
    with portal.session("hospital") as session, session.begin():
        assign(
            session,
            patient_id=patient_id,
            staff_id=staff_id,
            kind=CareKind.TEAM,
            assignable_roles=("doctor", "nurse", "porter", "volunteer"),
            treating_roles=("doctor",),
            by=None,
            now=utcnow(),
        )


def events_about(portal: Any, tenant: str, person_id: str) -> list[Event]:
    """Return the events whose object somebody is, oldest first."""
    with portal.session(tenant) as session:
        rows = session.scalars(
            select(AuditEvent.body)
            .where(AuditEvent.object == person_id)
            .order_by(AuditEvent.at, AuditEvent.id)
        )
        return [Event.from_bytes(body) for body in rows]


def events_of(portal: Any, action: Action, tenant: str = "hospital") -> list[Event]:
    """Return the events of one action, oldest first."""
    with portal.session(tenant) as session:
        rows = session.scalars(
            select(AuditEvent.body)
            .where(AuditEvent.action == str(action))
            .order_by(AuditEvent.at, AuditEvent.id)
        )
        return [Event.from_bytes(body) for body in rows]


def every_event(portal: Any, tenant: str) -> str:
    """Return everything that the audit log of an institution says, as one text."""
    with portal.session(tenant) as session:
        rows = session.scalars(select(AuditEvent.body)).all()
    return "\n".join(str(Event.from_bytes(body)) for body in rows)


def do(browser: Any, path: str, *, form: str = "form", **fields: str) -> TestResponse:
    """Open a page, fill its form and send it."""
    filled = browser.get(path).forms[form]
    for name, value in fields.items():
        filled[name].force_value(value)
    return filled.submit(expect_errors=True)


#: In a stretch of their own: no test writes such a number out, and two at random may be one.
_NUMBERS = itertools.count(65_000_000)


def unused_number() -> str:
    """Return a citizen number that nobody has."""
    return str(next(_NUMBERS))
