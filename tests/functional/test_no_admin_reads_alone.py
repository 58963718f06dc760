"""An administrator who wants to read a record, and everything that one account can reach.

The search does what a dishonest administrator could: registers puppets in every role, adds and
takes roles of puppets, of colleagues and of patients, issues codes, changes addresses, removes
second proofs, asks for approvals and decides them with every account it controls, opens every
account for which it holds what is needed, and tries to read; again and again, until a round
brings nothing new. Meanwhile honest colleagues do their work, and do it carelessly: the ward
clerk registers whoever comes as a patient and lets anybody look after anybody, the privacy
officer approves whatever is asked for real colleagues. Two controls show that the search finds a
way where there is one.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import pyotp
import pytest
from access_helpers import deliver, fill
from admin_helpers import PASSWORD, do, employ, look_after, unused_number
from installation import NUMBERS
from second_factor_helpers import begin, confirm, shown_codes, shown_key
from sqlalchemy import select, update

from medportal.access.care import carers
from medportal.admin.models import Approval, ApprovalState
from medportal.core.clock import utcnow
from medportal.identity import codes, email_change
from medportal.identity.links import mint
from medportal.identity.models import Account, Person, PersonIdentifier
from medportal.identity.people import roles_of
from medportal.mail import outbox
from medportal.mail.kinds import PATHS, WITH_TOKEN
from medportal.mail.models import OutgoingMail
from medportal.patients.models import Patient
from medportal.records.models import Record

# A question of ways through the pages, which no engine changes; and a long one.
pytestmark = pytest.mark.parametrize("portal", ["sqlite"], indirect=True)

EVIL = "evil@example.org"
ROUNDS = 6
PUPPETS_WHO_FALL_ILL = 2
SECRET = "38.6"
#: Real colleagues, whom the search does things to.
REAL = ("doctor", "nurse", "ward_clerk", "privacy_officer", "porter", "patient")
ROLES = (
    "doctor",
    "nurse",
    "ward_clerk",
    "admin",
    "privacy_officer",
    "porter",
    "auditor",
    "patient",
)
CARING = {"doctor", "nurse", "porter", "volunteer"}
_addresses = (f"10.{n // 65_536}.{n // 256 % 256}.{n % 256}" for n in count(1))


@dataclass
class Target:
    """Somebody whom the search knows: a number, codes that it saw, links that reached it."""

    id: str
    number: str
    codes: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


@dataclass
class World:
    """The hospital, its honest people, and what there is to read."""

    portal: Any
    clerk: Any
    doctor: Any
    officer: Any
    records: list[str] = field(default_factory=list)

    def write_record(self, patient_id: str) -> None:
        """Let the honest doctor look after a patient and write a record."""
        look_after(self.portal, self.doctor.id, patient_id)
        form = self.doctor.signed_in().get(f"/patients/{patient_id}/records/new").forms["form"]
        form["effective"], form["body-temperature"] = "03/02/2026", SECRET
        assert form.submit().status_int == 303
        with self.portal.session("hospital") as session:
            made = session.scalars(select(Record.id).where(Record.patient_id == patient_id)).all()
        self.records += [f"/patients/{patient_id}/records/{record}" for record in made]

    def register_patient(self, number: str, name: str) -> str:
        """Let the honest clerk register the citizen with this number, card in hand."""
        form = self.clerk.signed_in().get("/patients/register").forms["form"]
        form["number"], form["name"], form["sex"] = number, name, "female"
        form["day"], form["month"], form["year"] = "3", "2", "1980"
        assert form.submit().status_int == 200
        with self.portal.session("hospital") as session:
            return session.scalars(
                select(Patient.person_id)
                .join(PersonIdentifier, PersonIdentifier.person_id == Patient.person_id)
                .where(PersonIdentifier.value == number)
            ).one()

    def approve_for(self, people: list[str]) -> None:
        """Let the honest officer approve what waits for real colleagues; codes go to them."""
        browser = self.officer.signed_in()
        with self.portal.session("hospital") as session:
            waiting = session.scalars(
                select(Approval.id).where(
                    Approval.state == ApprovalState.WAITING,
                    Approval.person_id.in_(people),
                )
            ).all()
        for approval in waiting:
            forms = browser.get(f"/approvals/{approval}").forms
            if "approve" not in forms:
                # The decision before this one settled it too.
                continue
            forms["approve"]["checked"] = True
            forms["approve"].submit(expect_errors=True)


class Search:
    """Everything that somebody with these accounts and mailboxes can reach."""

    def __init__(self, world: World, admins: list[Any], *, every_mailbox: bool) -> None:
        self.world, self.portal = world, world.portal
        self.every_mailbox = every_mailbox
        self.targets = {admin.id: Target(admin.id, admin.number) for admin in admins}
        for role in REAL:
            person = self.portal.person(role)
            self.targets[person] = Target(person, NUMBERS[role])
        self.puppets: list[Target] = []
        self.ill: list[str] = []
        self.controlled = {admin.id for admin in admins}
        self.browsers: dict[str, Any] = {}
        self.tokens: dict[int, str] = {}
        self.read: set[str] = set()

    def run(self, wanted: str = "") -> set[str]:
        """Go on until a round brings nothing new; return the record pages that were read.

        Stops before at the first record that is read, or at the one that is ``wanted``.
        """
        before: Any = None
        for _round in range(ROUNDS):
            self._sign_in()
            self._register()
            self._take()
            self._open()
            self._give()
            self._decide()
            self._honest_work()
            self._open()
            self._sign_in()
            self._try_to_read()
            now = self._known()
            found = wanted in self.read if wanted else bool(self.read)
            if found or now == before:
                return self.read
            before = now
        raise AssertionError("the search found something new in every round")

    def _known(self) -> Any:
        with self.portal.session("hospital") as session:
            held = {person: roles_of(session, person) for person in self.controlled}
        return held, frozenset(self.controlled)

    def _sign_in(self) -> None:
        for target in self.targets.values():
            if target.id not in self.controlled:
                continue
            browser = self._browser()
            answer = browser.sign_in(target.number)
            if answer.status_int == 303 and "/sign-in" not in answer.location:
                self.browsers[target.id] = browser
            else:
                self.controlled.discard(target.id)
                self.browsers.pop(target.id, None)

    def _browser(self) -> Any:
        """Return a browser somewhere else: nobody waits who has many addresses."""
        browser = self.portal.browser()
        browser.app.extra_environ["REMOTE_ADDR"] = next(_addresses)
        return browser

    def _managers(self) -> dict[str, Any]:
        """Return the browsers of those who manage people, by whose they are."""
        return {
            person: browser
            for person, browser in self.browsers.items()
            if browser.get("/people", expect_errors=True).status_int == 200
        }

    def _everybody(self) -> list[tuple[Any, Target]]:
        """Return everybody, each with a manager who is somebody else, if there is one."""
        managers = self._managers()
        pairs = []
        for target in self.targets.values():
            others = [browser for person, browser in managers.items() if person != target.id]
            mine = managers.get(target.id)
            pairs += [(browser, target) for browser in (others or [mine])[:1] if browser]
        return pairs

    def _post(self, browser: Any, path: str, form: str = "form", **fields: str) -> Any:
        """Send a form; a browser that was signed out meanwhile sends it in vain."""
        token = self.tokens.get(id(browser)) or browser.token()
        self.tokens[id(browser)] = token
        sent = {"csrf_token": token, "__formid__": form, "note": "", **fields}
        answer = browser.app.post(path, sent, expect_errors=True)
        assert answer.status_int < 500 and answer.status_int != 403, path
        return answer

    def _register(self) -> None:
        """Register a puppet in each role, and two whom no mail reaches."""
        managers = list(self._managers().values())
        if self.puppets or not managers:
            return
        for role in ROLES:
            self._register_one(managers[0], [role], EVIL)
        self._register_one(managers[0], ["porter"], EVIL)
        self._register_one(managers[0], ["porter"], "")
        self._register_one(managers[0], ["porter", "doctor", "ward_clerk"], EVIL)

    def _register_one(self, browser: Any, roles: list[str], email: str) -> None:
        form = browser.get("/people/register").forms["form"]
        number = unused_number()
        form["number"], form["name"], form["sex"] = number, f"Puppet {number}", "female"
        form["day"], form["month"], form["year"] = "3", "2", "1980"
        form["email"] = email
        for box in form.fields["checkbox"]:
            box.checked = box._value in roles
        page = form.submit(expect_errors=True)
        with self.portal.session("hospital") as session:
            person = session.scalar(
                select(PersonIdentifier.person_id).where(PersonIdentifier.value == number)
            )
        if person is None:
            assert "patient" in roles, page.text
            return
        target = Target(person, number)
        self.targets[person] = target
        self.puppets.append(target)
        self._see_code(target, page)

    def _see_code(self, target: Target, page: Any) -> None:
        code = page.html.select_one("#activation-code") if page.status_int == 200 else None
        if code is not None:
            target.codes.insert(0, code.get_text())

    def _take(self) -> None:
        """Do to every account that is not controlled what may help to control it."""
        for browser, target in self._everybody():
            if target.id in self.controlled:
                continue
            path = f"/people/{target.id}"
            for role in self._held(target):
                self._post(browser, f"{path}/roles/remove", role=role, reason="left")
            for deed, reason in (("suspend", "left"), ("reinstate", "correction")):
                self._post(browser, f"{path}/{deed}", reason=reason)
            self._post(browser, f"{path}/second-factor", reason="lost-device")
            self._post(browser, f"{path}/email", reason="correction", email=EVIL)
            self._post(browser, f"{path}/link", reason="person-asked")
            page = self._post(browser, f"{path}/code", reason="person-asked")
            self._see_code(target, page)

    def _held(self, target: Target) -> frozenset[str]:
        with self.portal.session("hospital") as session:
            return roles_of(session, target.id)

    def _give(self) -> None:
        """Give every role to every account, or ask for it."""
        for browser, target in self._everybody():
            for role in (*ROLES, "porter"):
                path = f"/people/{target.id}/roles/add"
                self._post(browser, path, role=role, reason="new-duty")

    def _decide(self) -> None:
        """Approve what waits with every account, and read the codes that it shows."""
        with self.portal.session("hospital") as session:
            waiting = session.execute(
                select(Approval.id, Approval.person_id).where(
                    Approval.state == ApprovalState.WAITING
                )
            ).all()
        for browser in list(self.browsers.values()):
            for approval, person in waiting:
                if not self._waits(approval):
                    continue
                shown = browser.get(f"/approvals/{approval}", expect_errors=True)
                if shown.status_int != 200 or "approve" not in shown.forms:
                    continue
                seen = shown.forms["approve"]["seen"].value
                fields = {"checked": "true", "seen": seen}
                page = self._post(browser, f"/approvals/{approval}", "approve", **fields)
                if person in self.targets:
                    self._see_code(self.targets[person], page)

    def _waits(self, approval: str) -> bool:
        """Tell whether it is undecided still; the page of what is decided offers nothing."""
        with self.portal.session("hospital") as session:
            found = session.get(Approval, approval)
            return found is not None and found.state == ApprovalState.WAITING

    def _open(self) -> None:
        """Open every account for which there is what it takes."""
        closed = [t for t in self.targets.values() if t.id not in self.controlled]
        for target in closed:
            fill(self._browser().get("/reset"), number=target.number)
        self._read_mail()
        for target in closed:
            for code in target.codes[:2]:
                for link in (*target.links[:2], "/activate"):
                    if target.id not in self.controlled and self._activate(target, link, code):
                        self.controlled.add(target.id)
                        target.links.clear()
                        target.codes.clear()

    def _read_mail(self) -> None:
        """Take the links out of the mails that reach a mailbox of the search."""
        with self.portal.session("hospital") as session, session.begin():
            # Three mails an hour are no limit for somebody who has months.
            long_ago = utcnow() - timedelta(days=2)
            session.execute(update(OutgoingMail).values(created_at=long_ago))
        for person, to, link in post_round(self.portal):
            if person in self.targets and link and (self.every_mailbox or to == EVIL):
                self.targets[person].links.insert(0, link)

    def _activate(self, target: Target, link: str, code: str) -> bool:
        page = self._browser().get(link, expect_errors=True)
        if "form" not in page.forms:
            return False
        fields = {"code": code, "new": PASSWORD}
        if "number" in page.forms["form"].fields:
            fields["number"] = target.number
        return bool(fill(page, **fields).status_int == 303)

    def _honest_work(self) -> None:
        """Let the others work: anybody looks after anybody, and puppets fall ill."""
        self.world.approve_for([self.portal.person(role) for role in ("doctor", "nurse")])
        for puppet in self.puppets:
            if puppet.id in self.controlled and len(self.ill) < PUPPETS_WHO_FALL_ILL:
                self.ill.append(
                    self.world.register_patient(puppet.number, f"Puppet {puppet.number}")
                )
                self.world.write_record(self.ill[-1])
        for person in list(self.controlled):
            with self.portal.session("hospital") as session:
                cares = roles_of(session, person) & CARING
            patient = self.portal.person("patient")
            if cares and person not in self._carers(patient):
                look_after(self.portal, person, patient)
        with self.portal.session("hospital") as session, session.begin():
            later = utcnow() + self.portal.settings.tenant("hospital").email_delay
            email_change.apply_due(session, later)

    def _carers(self, patient: str) -> set[str]:
        with self.portal.session("hospital") as session:
            return {carer.staff_id for carer in carers(session, patient, utcnow())}

    def _try_to_read(self) -> None:
        """Open every record with every account; try the pages around them too."""
        for browser in self.browsers.values():
            for path in self.world.records:
                for page in (path, path.rpartition("/records/")[0], f"{path}/delivery/0"):
                    answer = browser.get(page, expect_errors=True)
                    assert answer.status_int in (200, 303, 404)
                    if SECRET in answer.text or (page == path and answer.status_int == 200):
                        self.read.add(path)


def post_round(portal: Any) -> list[tuple[str | None, str, str]]:
    """Send what is due as the jobs do; return whose, to which address and with which link."""
    found, now = [], utcnow()
    with portal.session("hospital") as session, session.begin():
        while (held := outbox.claim(session, "s" * 32, now)) is not None:
            letter, link = held.letter, ""
            if letter.kind in WITH_TOKEN:
                token = mint(session, letter.kind, held.person_id, letter.params, now)
                if token is None:
                    outbox.drop(session, held)
                    continue
                link = f"{PATHS[letter.kind]}?link={token}"
            outbox.sent(session, held, now)
            found.append((held.person_id, letter.to, link))
    return found


@pytest.fixture
def world(portal, monkeypatch):
    """Give a hospital in which everybody has an address, and a patient a record."""
    # The search makes hundreds of codes, and none of it is about how slow that is.
    monkeypatch.setattr(codes, "_MEMORY_KIB", 8)
    monkeypatch.setattr(codes, "_TIME_COST", 1)
    with portal.session("hospital") as session, session.begin():
        for role in (*REAL, "admin"):
            session.execute(
                update(Person)
                .where(Person.id == portal.person(role))
                .values(email=f"{role}@hospital.example")
            )
    made = World(
        portal,
        employ(portal, "ward_clerk", name="Honest Clerk", email="clerk@hospital.example"),
        employ(portal, "doctor", name="Honest Doctor", email="dr@hospital.example"),
        employ(portal, "privacy_officer", name="Honest Officer", email="po@hospital.example"),
    )
    made.write_record(portal.person("patient"))
    return made


def administrator(portal, name):
    return employ(portal, "admin", name=name, email=EVIL)


def test_one_administrator_finds_no_way(world):
    """Not even with every mailbox of the hospital."""
    search = Search(world, [administrator(world.portal, "Alone")], every_mailbox=True)
    assert search.run() == set()
    assert len(search.controlled) > 3, "the search controls harmless accounts, and more than one"
    assert len(search.ill) == PUPPETS_WHO_FALL_ILL
    with world.portal.session("hospital") as session:
        powers = {role for person in search.controlled for role in roles_of(session, person)}
    assert powers <= {"admin", "porter"}, powers


def test_two_who_collude_find_one(world):
    """The control: the same search, one mailbox, and a second administrator who joins in."""
    pair = [administrator(world.portal, name) for name in ("First", "Second")]
    search = Search(world, pair, every_mailbox=False)
    # They read records of their own puppets on the way.
    assert world.records[0] in search.run(world.records[0])


def test_without_a_new_beginning_there_would_be_a_way(world, monkeypatch):
    """The other control: an account that was set up beforehand, for somebody who falls ill."""
    monkeypatch.setattr("medportal.patients.service.begin_anew", lambda *_arguments: None)
    search = Search(world, [administrator(world.portal, "Patient one")], every_mailbox=False)
    read = search.run()
    assert read and world.records[0] not in read


# -- what was planted in an account before it came to something ------------------------------------


@dataclass
class Planted:
    """An account that one administrator set up, with everything that could open it later."""

    person: Any
    code: str
    open_browser: Any
    totp: pyotp.TOTP
    recovery: list[str]
    old_link: str


@pytest.fixture
def planted(portal):
    """Give an account of somebody who will be a patient, or a doctor, one day."""
    admin = administrator(portal, "Planter")
    browser = admin.signed_in()
    person = employ(portal, "porter", name="Future Citizen", email=EVIL)
    victim = person.signed_in()
    page = begin(victim)
    totp = pyotp.TOTP(shown_key(page))
    recovery = shown_codes(confirm(page, totp.now()))
    assert recovery
    code = do(browser, f"{person.path}/code", reason="person-asked")
    fill(portal.browser().get("/reset"), number=person.number)
    links = [link for *_kind, link in deliver(portal, "hospital", utcnow(), person.id) if link]
    assert do(victim, "/account/email", email="evil2@example.org").status_int == 303
    return Planted(
        person,
        code.html.select_one("#activation-code").get_text(),
        victim,
        totp,
        recovery,
        links[-1],
    )


@pytest.mark.parametrize("destiny", ["patient", "doctor"])
def test_nothing_that_was_planted_opens_what_the_account_becomes(world, planted, destiny):
    portal, person = world.portal, planted.person
    assert planted.open_browser.get("/account").status_int == 200
    if destiny == "patient":
        world.register_patient(person.number, "Future Citizen")
        world.write_record(person.id)
    else:
        asked = do(
            administrator(portal, "Asker").signed_in(),
            f"{person.path}/roles/add",
            role="doctor",
            reason="new-duty",
        )
        assert asked.status_int == 303
        world.approve_for([person.id])
        look_after(portal, person.id, portal.person("patient"))
    assert destiny in person.roles()
    # The session, the password, the app.
    answer = planted.open_browser.get(world.records[-1], expect_errors=True)
    assert answer.status_int == 303 and "/sign-in" in answer.location
    assert portal.browser().sign_in(person.number).status_int == 401
    # Everything that reaches the mailbox, with everything that was known before.
    fill(portal.browser().get("/reset"), number=person.number)
    mails = deliver(portal, "hospital", utcnow(), person.id)
    links = [link for _kind, to, link in mails if link and to.startswith("evil")]
    # The approver was shown the address; the desk typed another one.
    assert bool(links) is (destiny == "doctor")
    for link in (planted.old_link, *links, "/activate"):
        for code in (planted.code, planted.totp.now(), *planted.recovery[:2]):
            page = portal.browser().get(link, expect_errors=True)
            if "form" not in page.forms:
                continue
            fields = {"code": code, "new": PASSWORD}
            if "number" in page.forms["form"].fields:
                fields["number"] = person.number
            assert fill(page, **fields).status_int in (410, 422, 429), (link, code)
    with portal.session("hospital") as session:
        assert session.get(Account, person.id).password_hash is None
