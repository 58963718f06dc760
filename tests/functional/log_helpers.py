"""A patient of one test alone, whose access log begins empty, and what is written into it."""

from datetime import date
from itertools import count
from typing import Any

from installation import PASSWORD
from sqlalchemy import select
from webtest import TestResponse

from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile
from medportal.mail.models import OutgoingMail
from medportal.patients.service import Registration, register_patient

_numbers = count(61_000_001)


class Someone:
    """A patient who is nobody else's."""

    def __init__(self, portal: Any, tenant: str = "hospital", name: str = "Quitéria Velho"):
        self.portal, self.tenant, self.number = portal, tenant, str(next(_numbers))
        known = portal.settings.tenant(tenant)
        profile = Profile(name, date(1944, 5, 6), "female", "q@example.org", language="en")
        with portal.session(tenant) as session, session.begin():
            self.id, _ = register_patient(
                session,
                Registration("citizen-card", self.number, profile),
                portal.keys(tenant).partner_keys(),
                by=None,
                now=utcnow(),
            )
            set_password(session, self.id, known.passwords, PASSWORD, utcnow())

    @property
    def path(self) -> str:
        return f"/patients/{self.id}/access-log"

    def session(self) -> Any:
        return self.portal.session(self.tenant)

    def browser(self) -> Any:
        browser = self.portal.browser(self.tenant)
        assert browser.sign_in(self.number).status_int == 303
        return browser

    def note(
        self,
        action: Action = Action.PATIENT_VIEWED,
        outcome: Outcome = Outcome.ALLOWED,
        at: Any = None,
        **more: Any,
    ) -> Event:
        """Write an event about this patient; a nurse did it on site unless said otherwise."""
        details = {"roles": "nurse", "place": "on-site"}
        details = {k: v for k, v in {**details, **more.pop("details", {})}.items() if v is not None}
        actor = more.pop("actor") if "actor" in more else self.portal.person("nurse", self.tenant)
        event = Event.create(
            action,
            outcome,
            now=at or utcnow(),
            patient=self.id,
            actor=actor,
            details=details,
            **more,
        )
        with self.session() as session, session.begin():
            append(session, event)
        return event

    def events(self) -> list[Event]:
        """Return the events about this patient, oldest first."""
        with self.session() as session:
            query = select(AuditEvent.body).where(AuditEvent.patient == self.id)
            rows = session.scalars(query.order_by(AuditEvent.at, AuditEvent.id))
            return [Event.from_bytes(body) for body in rows]

    def mails(self) -> list[str]:
        with self.session() as session:
            query = select(OutgoingMail.kind).where(OutgoingMail.person_id == self.id)
            return sorted(session.scalars(query))


def rows_of(page: TestResponse) -> list[str]:
    """Return the text of each row of the page's table."""
    return [row.get_text(" ", strip=True) for row in page.html.select("tbody tr")]


def entries_of(page: TestResponse) -> list[str]:
    """Return the ids of the entries that a page of the log shows."""
    links = page.html.select("tbody a[href*='/access-log/']")
    return [str(link["href"]).rpartition("/")[2] for link in links]
