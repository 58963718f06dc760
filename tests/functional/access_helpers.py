"""People who wait for an account, their mails, and the forms in which they get in."""

from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Any

from second_factor_helpers import Clock
from webtest import TestResponse

from medportal.identity import codes, credentials
from medportal.identity.links import mint
from medportal.identity.models import Account, Activation, Person
from medportal.identity.people import Profile, register_person
from medportal.mail import outbox
from medportal.mail.kinds import PATHS, WITH_TOKEN, MailKind
from medportal.mail.models import OutgoingMail

GOOD = "quiet rivers carry small boats"
OTHER = "seven lamps over the harbour"
_numbers = count(41_000_001)


@dataclass
class Waiting:
    """Somebody who was registered for one test, and what the desk gave them."""

    portal: Any
    clock: Clock
    tenant: str
    id: str
    number: str
    email: str
    code: str | None
    mails: list[tuple[MailKind, str, str]] = field(default_factory=list)

    def browser(self) -> Any:
        return self.portal.browser(self.tenant)

    def session(self) -> Any:
        return self.portal.session(self.tenant)

    def read_mail(self) -> list[tuple[MailKind, str, str]]:
        """Send what is due as the jobs do; return (kind, address, link), newest last."""
        self.mails += deliver(self.portal, self.tenant, self.clock.now, self.id)
        return self.mails

    def link(self, kind: MailKind = MailKind.ACTIVATION) -> str:
        """Return the path of the newest link of a kind."""
        return [path for found, _to, path in self.read_mail() if found is kind][-1]

    def new_code(self) -> str:
        with self.session() as session, session.begin():
            self.code = codes.issue_code(session, self.id, None, self.clock.now)
        return self.code

    def has_password(self) -> bool:
        with self.session() as session:
            return bool(session.get(Account, self.id).password_hash)

    def address(self) -> str:
        with self.session() as session:
            return str(session.get(Person, self.id).email)

    def halves(self) -> Activation | None:
        with self.session() as session:
            found: Activation | None = session.get(Activation, self.id)
            return found

    def events(self) -> list[tuple[str, str]]:
        return [
            (action, outcome)
            for action, outcome, actor, patient in self.portal.events(self.tenant)
            if self.id in (actor, patient)
        ]

    def signed_in(self, password: str = GOOD) -> Any:
        browser = self.browser()
        answer = browser.sign_in(self.number, password)
        assert answer.status_int == 303, answer.text
        return browser


def enter(
    portal: Any,
    clock: Clock,
    tenant: str = "hospital",
    *,
    email: str = "ana@example.org",
    role: str = "patient",
    password: str | None = None,
) -> Waiting:
    """Register somebody as the desk does; with a password they have activated already."""
    number = str(next(_numbers))
    known = portal.settings.tenant(tenant)
    with portal.session(tenant) as session, session.begin():
        person_id = register_person(
            session,
            scheme=known.identifiers.scheme,
            number=number,
            profile=Profile(
                "Benedita Sá Couto", date(1941, 2, 3), "female", email=email, language="en"
            ),
            role=role,
            by=None,
            now=clock(),
        ).person_id
        code = None
        if password is None:
            code = codes.welcome(session, known, person_id, clock()).code
        else:
            credentials.set_password(session, person_id, known.passwords, password, clock())
    return Waiting(portal, clock, tenant, person_id, number, email, code)


def deliver(portal: Any, tenant: str, now: Any, person_id: str) -> list[tuple[MailKind, str, str]]:
    """Take every due mail out of the outbox; return those of one person with their links."""
    found = []
    with portal.session(tenant) as session, session.begin():
        while (held := outbox.claim(session, "s" * 32, now)) is not None:
            letter = held.letter
            token = None
            if letter.kind in WITH_TOKEN:
                token = mint(session, letter.kind, held.person_id, letter.params, now)
                if token is None:
                    outbox.drop(session, held)
                    continue
            outbox.sent(session, held, now)
            if held.person_id == person_id:
                path = f"{PATHS[letter.kind]}?link={token}" if token else ""
                found.append((letter.kind, letter.to, path))
    return found


def posted(portal: Any, tenant: str, person_id: str) -> list[tuple[str, str]]:
    """Return kind and state of every mail for somebody."""
    with portal.session(tenant) as session:
        found = session.query(OutgoingMail).filter_by(person_id=person_id)
        return sorted((mail.kind, mail.state) for mail in found)


def fill(page: TestResponse, **values: str) -> TestResponse:
    """Fill the form of a page and send it; ``new`` is typed twice."""
    form = page.forms["form"]
    if "new" in values:
        values.setdefault("again", values["new"])
    for name, value in values.items():
        form[name].force_value(value)
    return form.submit(expect_errors=True)
