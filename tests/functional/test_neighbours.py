"""What belongs to one institution is to the other as if it did not exist.

Every route, form, cursor, identifier, cookie, cached response and download of the neighbour is
replayed with the identities of this one: each answer is compared, whole, with that for a
thing that nobody has. And hidden here is compared with missing, in the same way.
"""

import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from access_helpers import enter
from installation import NUMBERS, PASSWORD
from sqlalchemy import event as sql_events
from sqlalchemy import select
from webtest import TestResponse

from medportal.access.models import (
    BrokenGlass,
    CareAssignment,
    Complaint,
    PatientRule,
    Representative,
    WardTeamMember,
)
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Outbox
from medportal.identity.models import LoginSession
from medportal.identity.notices import notify
from medportal.mail.kinds import MailKind
from medportal.records.models import Record
from medportal.routes import ROUTES

NOBODY = "0" * 32
OTHER = {"hospital": "laboratory", "laboratory": "hospital"}
#: What differs between two answers to the same question: tokens, and the address itself.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
# A cookie's expiry is the second of the answer plus its age, and the age stays in the comparison.
_EXPIRY = re.compile(r"(?<=expires=)[^;]+")
_ROUND = ("Date", "Content-Length")
#: One of each kind: who runs the house, oversees, reads, keeps the desk, carries, is a patient.
PEOPLE = [
    *(("hospital", r) for r in ("admin", "privacy_officer", "doctor", "ward_clerk", "patient")),
    *(("laboratory", r) for r in ("admin", "privacy_officer", "responsible", "patient")),
    ("hospital", "porter"),
]
#: Routes that answer everybody alike, and those whose placeholders are no ids.
WITH_IDS = [
    (name, path)
    for name, path, *_ in ROUTES
    if "{" in path and name not in {"static", "theme", "demonstration-mail-one"}
]


@dataclass(frozen=True)
class Things:
    """One id of everything that an address can name, at one institution."""

    ids: dict[str, str]

    def path(self, path: str, **more: str) -> str:
        return path.format(**{**self.ids, **more})


#: What nobody has, of everything.
ABSENT = {
    placeholder: NOBODY for _name, path in WITH_IDS for placeholder in re.findall(r"{(\w+)}", path)
}


def _rows(patient: str, staff: str, event: str, ward: str) -> dict[str, Any]:
    """Return a row of each table of care, rules and oversight, by what addresses call its id."""
    now = utcnow()
    until = now + timedelta(hours=1)
    kept = {"patient_id": patient, "since": now - timedelta(hours=1)}
    glass = BrokenGlass(
        id=new_id(), staff_id=staff, reason="emergency", text=b"sealed", until=until, **kept
    )
    return {
        "assignment": CareAssignment(id=new_id(), staff_id=staff, kind="team", **kept),
        "representative": Representative(id=new_id(), person_id=staff, ground="parent", **kept),
        "rule": PatientRule(
            id=new_id(),
            effect="block",
            whom="person",
            whom_id=staff,
            what="everything",
            what_id="",
            made_at=now,
            made_by=patient,
            **kept,
        ),
        "glass": glass,
        "review": glass,
        "member": WardTeamMember(
            id=new_id(), ward=ward, staff_id=staff, since=now - timedelta(hours=1)
        ),
        "complaint": Complaint(
            id=new_id(),
            patient_id=patient,
            event_id=event,
            text=b"sealed",
            made_at=now,
            made_by=patient,
        ),
    }


@pytest.fixture(scope="module")
def things(portal):
    """Give something of everything at both institutions, made by their people where it can be."""
    found = {}
    for tenant, role in (("hospital", "doctor"), ("laboratory", "responsible")):
        patient = portal.person("patient", tenant)
        form = portal.signed_in(role, tenant).get(f"/patients/{patient}/records/new").forms["form"]
        form["effective"], form["body-temperature"] = "03/02/2026", "37.1"
        assert form.submit().status_int == 303
        # Nobody whom the tests sign in: what follows must not change what they may see.
        with portal.session(tenant) as session, session.begin():
            event = session.scalars(select(AuditEvent.id).limit(1)).one()
            ward = "Cardiology" if tenant == "hospital" else "Theirs"
            rows = _rows(patient, portal.person("auditor", tenant), event, ward)
            session.add_all(set(rows.values()))
            ids = {name: row.id for name, row in rows.items()}
            record = session.scalars(select(Record.id)).first()
            tid = session.scalars(select(Outbox.tid)).first()
            login = session.scalars(select(LoginSession.id)).first()
        found[tenant] = Things(
            {
                **ABSENT,
                **ids,
                "patient": patient,
                "record": record,
                "tid": tid or NOBODY,
                "session": login,
                "event": event,
                "person": portal.person("auditor", tenant),
                "ward": ward,
            }
        )
    return found


def whole(answer: TestResponse, *paths: str) -> tuple[Any, ...]:
    """Return everything about an answer but what is new in every one: status, headers, body."""
    body = answer.text
    headers = {name: value for name, value in answer.headers.items() if name not in _ROUND}
    for path in sorted(paths, key=len, reverse=True):
        body = body.replace(path, "PATH").replace(path.replace("/", "%2F"), "PATH")
        headers = {
            name: value.replace(path, "PATH").replace(path.replace("/", "%2F"), "PATH")
            for name, value in headers.items()
        }
    headers = {
        name: _EXPIRY.sub("TIME", _TOKEN.sub("TOKEN", value)) for name, value in headers.items()
    }
    return answer.status_int, sorted(headers.items()), _TOKEN.sub("TOKEN", body)


def send_form(browser: Any, path: str, fields: Any = None) -> TestResponse:
    """Send a form as from a page that was just opened: what the deed before had to say is read."""
    token = browser.get("/help").forms[0]["csrf_token"].value
    fields = {"csrf_token": token, **(fields or {"__formid__": "form"})}
    return browser.app.post(path, fields, expect_errors=True)


def assert_alike(browser: Any, method: str, path: str, absent: str, fields: Any = None) -> None:
    """Ask for two things and compare the answers."""
    answers = []
    for each in (path, absent):
        if method == "GET":
            answer = browser.get(each, expect_errors=True)
        else:
            answer = send_form(browser, each, fields)
        answers.append(whole(answer, each.split("?")[0], each))
    assert answers[0] == answers[1], f"{method} {path}"


def foreign_paths(mine: Things, theirs: Things, path: str) -> list[tuple[str, str]]:
    """Return (address with something of the neighbour, the same with nothing), in all mixtures."""
    named = re.findall(r"{(\w+)}", path)
    found = [(theirs.path(path), mine.path(path, **ABSENT))]
    for one in named:
        if len(named) > 1:
            foreign, absent = {one: theirs.ids[one]}, {one: NOBODY}
            found.append((mine.path(path, **foreign), mine.path(path, **absent)))
    return found


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("tenant", "role"), PEOPLE, ids=lambda value: value)
def test_every_address_with_what_is_the_neighbours(portal, things, tenant, role, method):
    browser = portal.signed_in(role, tenant)
    mine, theirs = things[tenant], things[OTHER[tenant]]
    for _name, path in WITH_IDS:
        for foreign, absent in foreign_paths(mine, theirs, path):
            assert_alike(browser, method, foreign, absent)


@pytest.mark.parametrize("tenant", sorted(OTHER))
def test_every_address_with_the_neighbours_cookies(portal, things, tenant):
    """Under their own names and under ours: whoever brings them is nobody here."""
    visitor = portal.signed_in("patient", OTHER[tenant])
    stranger, anonymous = portal.browser(tenant), portal.browser(tenant)
    for name, value in visitor.cookies.items():
        stranger.app.set_cookie(name, value)
        stranger.app.set_cookie(name.replace(OTHER[tenant], tenant), value)
    own = things[tenant]
    for _name, path, *_ in ROUTES:
        if "{fingerprint}" in path or "{mail}" in path:
            continue
        address = path.format(**own.ids)
        answers = [
            whole(browser.get(address, expect_errors=True), address)
            for browser in (stranger, anonymous)
        ]
        assert _without_cookies(answers[0]) == _without_cookies(answers[1]), address
        deeds = [whole(send_form(browser, address), address) for browser in (stranger, anonymous)]
        assert _without_cookies(deeds[0]) == _without_cookies(deeds[1]), address


def _without_cookies(answer: tuple[Any, ...]) -> tuple[Any, ...]:
    status, headers, body = answer
    return status, [(name, value) for name, value in headers if name != "Set-Cookie"], body


#: Lists that page by a key: who sees them, and what names the key.
LISTS = [
    ("hospital", "ward_clerk", "/patients", "after"),
    ("laboratory", "responsible", "/patients", "after"),
    ("hospital", "doctor", "/patients", "after"),
    ("hospital", "patient", "/patients/{patient}", "before"),
    ("hospital", "patient", "/patients/{patient}/access-log", "after"),
    ("hospital", "admin", "/people", "after"),
    ("hospital", "admin", "/approvals", "after"),
    ("hospital", "auditor", "/audit", "after"),
    ("hospital", "privacy_officer", "/oversight/reviews", "after"),
    ("hospital", "privacy_officer", "/oversight/complaints", "after"),
    ("hospital", "privacy_officer", "/oversight/people/{person}", "after"),
]


@pytest.mark.parametrize(("tenant", "role", "path", "name"), LISTS)
def test_a_cursor_of_the_neighbour_is_one_that_nobody_has(portal, things, tenant, role, path, name):
    browser = portal.signed_in(role, tenant)
    page = things[tenant].path(path)
    assert browser.get(page).status_int == 200
    theirs = things[OTHER[tenant]].ids
    # The day before anything happened here, so that only what is looked up could matter.
    for form in ("{}", "2019-02-03.{}", "2019-02-03T00:00:00.000000Z.{}"):
        for kind in ("patient", "record", "event", "person", "complaint", "review"):
            foreign = f"{page}?{name}={form.format(theirs[kind])}"
            absent = f"{page}?{name}={form.format(NOBODY)}"
            assert_alike(browser, "GET", foreign, absent)


def test_a_number_that_only_the_neighbour_knows_is_nobodys(portal, things):
    """At the desk and at the door. The responsible is registered at the laboratory alone."""
    clerk = portal.signed_in("ward_clerk")
    answers = []
    for number in (NUMBERS["responsible"], "29999991"):
        form = clerk.get("/patients/find").forms["form"]
        form["number"] = number
        answer = form.submit(expect_errors=True)
        answers.append(whole(answer, number))
        body = answers[-1][2].replace(number, "NUMBER")
        answers[-1] = (*answers[-1][:2], body)
    assert answers[0] == answers[1]
    doors = []
    for number in (NUMBERS["responsible"], "29999991"):
        answer = portal.browser("hospital").sign_in(number, PASSWORD)
        status, headers, body = _without_cookies(whole(answer))
        doors.append((status, headers, body.replace(number, "NUMBER")))
    assert doors[0] == doors[1]
    assert doors[0][0] != 303


def test_a_form_of_the_neighbour_is_filled_in_for_nobody(portal, things):
    """The laboratory's form for a new record, with all that it hides, sent to the hospital."""
    theirs = things["laboratory"].ids
    page = portal.signed_in("responsible", "laboratory").get(
        f"/patients/{theirs['patient']}/records/new"
    )
    fields = dict(page.forms["form"].submit_fields())
    doctor = portal.signed_in("doctor")
    sent = {name: value for name, value in fields.items() if name != "csrf_token"}
    foreign, absent = (f"/patients/{each}/records/new" for each in (theirs["patient"], NOBODY))
    assert_alike(doctor, "POST", foreign, absent, sent)
    # And with their token, which is in no cookie of ours: refused before anybody is looked up.
    answer = doctor.app.post(f"/patients/{NOBODY}/records/new", fields, expect_errors=True)
    assert answer.status_int == 403


def test_what_browsers_may_keep_is_each_institutions_own(portal):
    """A look of the neighbour's is under no address here, and no answer of theirs is confirmed."""
    pages = {tenant: portal.browser(tenant).get("/help") for tenant in OTHER}
    links = {
        tenant: sorted(set(re.findall(r'"(/theme/[^"]+)"', page.text)))
        for tenant, page in pages.items()
    }
    for tenant, own in links.items():
        assert own
        browser = portal.browser(tenant)
        for link in own:
            kept = portal.browser(tenant).get(link)
            assert kept.status_int == 200
        for link in set(links[OTHER[tenant]]) - set(own):
            absent = link.replace(link.split("/")[2], "0" * len(link.split("/")[2]))
            assert_alike(browser, "GET", link, absent)
            tagged = portal.browser(OTHER[tenant]).get(link).headers.get("ETag")
            headers = {"If-None-Match": tagged or "*"}
            answer = browser.get(link, headers=headers, expect_errors=True)
            assert answer.status_int != 304


@pytest.mark.parametrize(
    ("tenant", "role", "path"),
    [
        ("hospital", "patient", "/patients/{patient}"),
        ("hospital", "doctor", "/patients/{patient}/records/{record}"),
        ("hospital", "patient", "/patients/{patient}/access-log/download?format=csv"),
        ("hospital", "patient", "/patients/{patient}/access-log"),
        ("hospital", "auditor", "/audit"),
        ("laboratory", "responsible", "/patients"),
    ],
)
def test_what_is_about_people_is_kept_by_no_cache(portal, things, tenant, role, path):
    answer = portal.signed_in(role, tenant).get(things[tenant].path(path))
    assert answer.status_int == 200
    assert "no-store" in answer.headers["Cache-Control"]
    assert "ETag" not in answer.headers


@pytest.mark.parametrize("kind", [MailKind.ACTIVATION, MailKind.RESET])
def test_a_mailed_link_of_the_neighbour_opens_nothing(portal, clock, kind):
    password = None if kind is MailKind.ACTIVATION else PASSWORD
    waiting = enter(portal, clock, "laboratory", password=password)
    with portal.session("laboratory") as session, session.begin():
        notify(session, waiting.id, kind, clock.now)
    link = waiting.link(kind)
    path = link.split("=")[0]
    assert portal.browser("laboratory").get(link).status_int == 200
    answers = []
    for each in (link, f"{path}={secrets.token_urlsafe(32)}"):
        answer = portal.browser("hospital").get(each, expect_errors=True)
        answers.append(whole(answer, each))
    assert answers[0] == answers[1]


# --- Hidden, and missing ---


def test_what_is_hidden_answers_as_what_is_missing(portal, things):
    """Somebody's patient against nobody's, address by address, for those who may not look."""
    own = things["hospital"]
    for role in ("admin", "other_doctor", "porter", "privacy_officer"):
        browser = portal.signed_in(role)
        for _name, path in WITH_IDS:
            address, absent = own.path(path), own.path(path, **ABSENT)
            answer = browser.get(address, expect_errors=True)
            if answer.status_int == 404:
                assert_alike(browser, "GET", address, absent)


def test_what_is_hidden_takes_the_same_questions_to_the_database_as_what_is_missing(portal, things):
    """No time can tell them apart that the database does not take for both."""
    browser = portal.signed_in("other_doctor")
    asked: list[str] = []
    engine = portal.app.registry["tenants"].database("hospital").engine

    def note(_connection, _cursor, statement, *_rest):
        # The settings are looked after every two seconds, whoever asks for what.
        if "settings_version" not in statement:
            asked.append(statement)

    sql_events.listen(engine, "before_cursor_execute", note)
    try:
        said = []
        for patient in (portal.person("patient"), NOBODY):
            for path in (f"/patients/{patient}", f"/patients/{patient}/records/{NOBODY}"):
                browser.get(path, status=404)
                asked.clear()
                browser.get(path, status=404)
                said.append(list(asked))
    finally:
        sql_events.remove(engine, "before_cursor_execute", note)
    assert said[0]
    assert said[0] == said[2]
    assert said[1] == said[3]
