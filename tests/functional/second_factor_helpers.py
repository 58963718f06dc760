"""People with a second factor, and time that a test moves on."""

import base64
import json
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

import pyotp
from sqlalchemy import select
from webtest import TestResponse

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.identity.credentials import set_password
from medportal.identity.models import LoginSession
from medportal.identity.people import Profile, register_person
from medportal.mail.models import OutgoingMail

LONG = "quiet rivers carry small boats"
SHORT = "nine oars"
_numbers = count(31_000_001)


class Clock:
    """What requests take for now."""

    def __init__(self) -> None:
        # At the beginning of a step, so that no test runs from one into the next.
        self.now = datetime.fromtimestamp(int(utcnow().timestamp()) // 30 * 30 + 1, utcnow().tzinfo)

    def __call__(self) -> datetime:
        # Each request a moment later, so that events have an order.
        self.now += timedelta(microseconds=1)
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Someone:
    """Somebody registered for one test."""

    portal: Any
    clock: Clock
    tenant: str
    id: str
    number: str
    password: str
    secret: str = ""

    def browser(self) -> Any:
        return self.portal.browser(self.tenant)

    def give_password(self, browser: Any, password: str | None = None) -> TestResponse:
        return browser.sign_in(self.number, password or self.password)

    def signed_in(self) -> Any:
        browser = self.browser()
        answer = self.give_password(browser)
        assert answer.status_int == 303, answer.text
        if self.secret:
            self.clock.forward(seconds=30)
            assert send_code(browser, self.code()).status_int == 303
        return browser

    def half_in(self) -> Any:
        """Return a browser in which the password was right and the second factor is awaited."""
        browser = self.browser()
        answer = self.give_password(browser)
        assert answer.status_int == 303 and "/sign-in/second" in answer.location
        return browser

    def code(self, **offset: float) -> str:
        return pyotp.TOTP(self.secret).at(self.clock.now + timedelta(**offset))

    def set_app_up(self, browser: Any) -> list[str]:
        """Set an app up in a browser; return the recovery codes that the page shows."""
        page = begin(browser)
        self.secret = shown_key(page)
        answer = confirm(page, self.code())
        assert answer.status_int in (200, 303), answer.text
        self.clock.forward(seconds=30)
        return shown_codes(answer)

    def session(self) -> Any:
        return self.portal.session(self.tenant)

    def sessions(self) -> list[LoginSession]:
        with self.session() as session:
            return list(
                session.scalars(select(LoginSession).where(LoginSession.person_id == self.id))
            )

    def events(self) -> list[Event]:
        with self.session() as session:
            rows = session.scalars(
                select(AuditEvent.body)
                .where(AuditEvent.actor == self.id)
                .order_by(AuditEvent.at, AuditEvent.id)
            )
            return [Event.from_bytes(body) for body in rows]

    def mails(self) -> list[tuple[str, str]]:
        with self.session() as session:
            rows = session.execute(
                select(OutgoingMail.kind, OutgoingMail.params)
                .where(OutgoingMail.person_id == self.id)
                .order_by(OutgoingMail.created_at, OutgoingMail.kind)
            )
            return [tuple(row) for row in rows]


def register(
    portal: Any, clock: Clock, tenant: str, *, role: str = "auditor", password: str = LONG
) -> Someone:
    number = str(next(_numbers))
    known = portal.settings.tenant(tenant)
    with portal.session(tenant) as session, session.begin():
        person_id = register_person(
            session,
            scheme=known.identifiers.scheme,
            number=number,
            profile=Profile(
                "Rita Lopes", date(1970, 1, 2), "female", email="rita@example.org", language="en"
            ),
            role=role,
            by=None,
            now=clock(),
        ).person_id
        set_password(session, person_id, known.passwords, password, clock())
    return Someone(portal, clock, tenant, person_id, number, password)


def begin(browser: Any) -> TestResponse:
    """Begin to set an app up; return the page with the picture."""
    answer = browser.post("/account/second-factor/app", {"__formid__": "begin"})
    assert answer.location.endswith("/account/second-factor/app"), answer.location
    return browser.get("/account/second-factor/app")


def shown_key(page: TestResponse) -> str:
    return str(page.html.find(class_="secret-key").get_text()).replace(" ", "")


def shown_codes(page: TestResponse) -> list[str]:
    return re.findall(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}\b", page.text)


def confirm(page: TestResponse, code: str) -> TestResponse:
    form = page.forms["form"]
    form["code"] = code
    return form.submit(expect_errors=True)


def send_code(browser: Any, code: str) -> TestResponse:
    form = browser.get("/sign-in/second").forms["form"]
    form["code"] = code
    return form.submit(expect_errors=True)


def told(browser: Any) -> list[Any]:
    """Return the one-time messages that the next page shows: kind, English words, numbers."""
    raw = browser.cookies.get("__Host-flash", "").strip('"')
    return json.loads(base64.urlsafe_b64decode(raw)) if raw else []
