"""No audit, no read: where the event cannot be written, no page shows anything about a patient.

Pages are taken from the application itself, so that one that is added later is tried too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from functional_helpers import page_text
from pyramid.interfaces import IRoutesMapper
from sqlalchemy import func, select, text

from medportal.audit.models import AuditEvent
from medportal.identity.models import LoginSession
from medportal.tenancy.together import Together

#: More than the time for which a session counts as just used.
MINUTES = timedelta(minutes=2)
NOTES = "Zyxomorph fever of the left knee"
TITLE = "5 February 2026"
NAME = "Amanda Júlio"
ROLES = (
    "doctor",
    "nurse",
    "ward_clerk",
    "porter",
    "volunteer",
    "patient_assistant",
    "clinical_assistant",
    "patient",
    "privacy_officer",
    "auditor",
)
#: What can be filled in; a page that wants something else is not reached by an address alone.
PARTS = ("patient", "record", "event")
#: Pages about nobody but whoever looks, and files.
ELSEWHERE = (
    "/accessibility",
    "/account",
    "/activate",
    "/demonstration",
    "/email",
    "/help",
    "/language",
    "/privacy",
    "/reset",
    "/settings",
    "/sign-",
)
#: These at least show content or names today.
AT_LEAST = {
    ("doctor", "patient"),
    ("doctor", "record"),
    ("doctor", "patients"),
    ("nurse", "record"),
    ("patient", "patient"),
    ("patient", "record"),
    ("porter", "patients"),
    ("ward_clerk", "patients"),
    ("auditor", "audit-log"),
    ("auditor", "audit-event"),
    ("privacy_officer", "audit-log"),
}


@pytest.fixture(scope="module")
def shown(portal: Any) -> dict[str, str]:
    """Let a doctor write a record; return the ids with which pages about it are reached."""
    patient = portal.person("patient")
    doctor = portal.signed_in("doctor")
    form = doctor.get(f"/patients/{patient}/records/new").forms["form"]
    form["effective"], form["diagnosis"], form["height"] = "05/02/2026", NOTES, "171"
    page = form.submit().follow()
    assert NOTES in page_text(page)
    with portal.session("hospital") as session:
        event = session.scalars(
            select(AuditEvent.id).where(AuditEvent.patient == patient).limit(1)
        ).one()
    return {"patient": patient, "record": page.request.path.rsplit("/", 1)[1], "event": event}


def addresses(portal: Any, ids: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Give name and address of every page that ids alone lead to."""
    routes = portal.app.registry.getUtility(IRoutesMapper).get_routes()
    for route in routes:
        wanted = [part.split("}")[0] for part in route.pattern.split("{")[1:]]
        if set(wanted) <= set(PARTS) and not route.pattern.startswith(ELSEWHERE):
            yield route.name, route.generate({part: ids[part] for part in wanted})


BREAK = {
    "sqlite": (
        "CREATE TRIGGER no_audit BEFORE INSERT ON audit_event"
        " BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION no_audit() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$",
        "CREATE TRIGGER no_audit BEFORE INSERT ON audit_event"
        " FOR EACH ROW EXECUTE FUNCTION no_audit()",
    ),
}
MEND = {
    "sqlite": ("DROP TRIGGER no_audit",),
    "postgresql": ("DROP TRIGGER no_audit ON audit_event", "DROP FUNCTION no_audit()"),
}


@contextmanager
def no_audit(portal: Any, tenant: str = "hospital") -> Iterator[None]:
    """Let no event be written for a while."""
    engine = portal.registry.database(tenant).engine
    for lines in (BREAK, MEND):
        if lines is MEND:
            yield
        with engine.begin() as connection:
            for line in lines[engine.dialect.name]:
                connection.execute(text(line))


def content_of(answer: Any, role: str) -> bool:
    """Tell whether an answer shows something about the patient.

    Her own name stands on every page that she sees; what is written about her does not.
    """
    if not answer.content_type.startswith(("text/", "application/")):
        return False
    body = answer.body.decode("utf-8", "replace")
    return NOTES in body or TITLE in body or (role != "patient" and NAME in body)


def count(portal: Any) -> int:
    with portal.session("hospital") as session:
        return session.scalar(select(func.count()).select_from(AuditEvent)) or 0


@pytest.mark.parametrize("role", ROLES)
def test_a_page_whose_event_cannot_be_written_shows_nothing(
    portal: Any, shown: dict[str, str], role: str
) -> None:
    browser = portal.signed_in(role)
    with_content = {}
    for name, path in addresses(portal, shown):
        before = count(portal)
        answer = browser.get(path, expect_errors=True)
        if answer.status_int == 200 and content_of(answer, role):
            with_content[name] = path
            assert count(portal) > before, f"{path} shows a patient and is not audited"
    assert {name for who, name in AT_LEAST if who == role} <= set(with_content)
    with no_audit(portal):
        for name, path in with_content.items():
            answer = browser.get(path, expect_errors=True)
            assert answer.status_int >= 500, f"{name} is shown without its event"
            assert not content_of(answer, role)
    for path in with_content.values():
        assert browser.get(path).status_int == 200


def test_a_refusal_that_cannot_be_written_is_an_error_for_hidden_and_missing(
    portal: Any, shown: dict[str, str]
) -> None:
    browser = portal.signed_in("other_doctor")
    paths = [
        f"/patients/{shown['patient']}/records/{shown['record']}",
        f"/patients/{'0' * 32}/records/{'0' * 32}",
    ]
    with no_audit(portal):
        answers = [browser.get(path, expect_errors=True) for path in paths]
    assert [answer.status_int for answer in answers] == [503, 503]


@pytest.mark.parametrize("kind", ["lines", "fhir"])
def test_an_export_that_cannot_be_written_down_is_not_handed_out(portal: Any, kind: str) -> None:
    browser = portal.signed_in("auditor")
    form = browser.get("/audit/export").forms["form"]
    form["format"] = kind
    with no_audit(portal):
        answer = form.submit(expect_errors=True)
    assert answer.status_int >= 500
    assert "AuditEvent" not in answer.text and "sequence" not in answer.text


def test_a_deed_whose_event_cannot_be_written_is_not_done(
    portal: Any, shown: dict[str, str]
) -> None:
    browser = portal.signed_in("doctor")
    form = browser.get(f"/patients/{shown['patient']}/records/new").forms["form"]
    form["effective"], form["notes"] = "06/02/2026", "Never to be seen"
    with no_audit(portal):
        assert form.submit(expect_errors=True).status_int >= 500
    page = browser.get(f"/patients/{shown['patient']}")
    assert "6 February 2026" not in page_text(page)


@pytest.mark.parametrize("is_touch_due", [False, True])
def test_events_alone_share_a_commit_and_what_changes_rows_does_not(
    portal, monkeypatch, is_touch_due
):
    browser = portal.signed_in("ward_clerk")
    browser.get("/patients")
    if is_touch_due:
        with portal.session("hospital") as session, session.begin():
            for row in session.scalars(select(LoginSession)):
                row.last_used_at -= MINUTES
    shared = []
    write = Together.write
    monkeypatch.setattr(
        Together, "write", lambda self, writes: (shared.append(len(writes)), write(self, writes))
    )
    before = len(portal.events("hospital"))
    browser.get("/patients")
    assert len(portal.events("hospital")) == before + 1
    assert shared == ([] if is_touch_due else [1])
