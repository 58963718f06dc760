"""Whom did this account look at? Pages, counts and the table for the report of a breach."""

import csv
from datetime import datetime, timedelta
from io import StringIO

import pytest
from admin_helpers import employ, events_of
from functional_helpers import page_text
from installation import CAST
from log_helpers import Someone, rows_of
from sqlalchemy.exc import OperationalError

from medportal.access.views import looked_at
from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.core.clock import utcnow
from medportal.core.ids import new_id

NOBODY = "0" * 32


@pytest.fixture
def suspect(portal):
    """Give a nurse of one test alone, who has done nothing yet."""
    return employ(portal, "nurse", name="Sara Suspect")


@pytest.fixture
def auditor(portal):
    return portal.signed_in("auditor")


def path_of(person):
    return f"/oversight/people/{person.id}"


def did(suspect, someone, action=Action.PATIENT_VIEWED, outcome=Outcome.ALLOWED, **more):
    return someone.note(action, outcome, actor=suspect.id, **more)


def note(portal, suspect, action, patient=None, at=None):
    event = Event.create(action, now=at or utcnow(), actor=suspect.id, patient=patient)
    with portal.session("hospital") as session, session.begin():
        append(session, event)


def test_whom_and_how_often(portal, suspect, auditor):
    ana, rui = Someone(portal, name="Ana Alva"), Someone(portal, name="Rui Roda")
    record = new_id()
    for _ in range(3):
        did(suspect, ana)
    for object_ in (record, record, new_id()):
        did(suspect, ana, Action.RECORD_READ, object=object_)
    did(suspect, ana, Action.RECORD_READ, Outcome.FAILED, object=new_id())
    did(suspect, ana, Action.ACCESS_DENIED, Outcome.DENIED)
    did(suspect, rui)
    ana.note()  # by the nurse of the cast
    page = auditor.get(path_of(suspect))
    first, second = rows_of(page)
    assert first.startswith("Ana Alva 6 2 1 "), first
    assert second.startswith("Rui Roda 1 0 0 "), second
    text = page_text(page)
    assert "Whom did Sara Suspect look at?" in text
    assert "Patients 2" in text and "Entries about them 9" in text
    assert ana.number not in page.text


def test_lists_and_guesses_are_counted_too(portal, suspect, auditor):
    note(portal, suspect, Action.PATIENTS_LISTED)
    note(portal, suspect, Action.PATIENTS_LISTED)
    note(portal, suspect, Action.ACCESS_DENIED, patient=new_id())
    text = page_text(auditor.get(path_of(suspect)))
    assert "Lists of patients opened 2" in text
    assert "Tries at patients who do not exist 1" in text
    assert "whoever could be on it may have been seen by name" in text
    assert "Patients 0" in text and "Nothing about any patient in this time." in text


def test_a_period_at_the_institutions_clock(portal, suspect, auditor):
    """Summer in Lisbon: the second of July begins at 23:00 UTC of the first."""
    for name, when in (
        ("Before", "2026-07-01T22:59:59"),
        ("First", "2026-07-01T23:00:00"),
        ("Last", "2026-07-02T22:59:59"),
        ("After", "2026-07-02T23:00:00"),
    ):
        did(suspect, Someone(portal, name=name), at=datetime.fromisoformat(f"{when}+00:00"))
    query = {"from": "2026-07-02", "until": "2026-07-02"}
    page = auditor.get(path_of(suspect), params=query)
    assert [row.split()[0] for row in rows_of(page)] == ["First", "Last"]
    before = auditor.get(path_of(suspect), params={"until": "2026-07-01"})
    assert [row.split()[0] for row in rows_of(before)] == ["Before"]


def test_the_usual_period_is_a_month(portal, suspect, auditor):
    did(suspect, Someone(portal, name="Lately"), at=utcnow() - timedelta(days=29))
    did(suspect, Someone(portal, name="Formerly"), at=utcnow() - timedelta(days=32))
    assert [row.split()[0] for row in rows_of(auditor.get(path_of(suspect)))] == ["Lately"]


@pytest.mark.parametrize(
    "day", ["31/03/2026", "2026-02-30", "0001-01-01", "9999-12-31", "<script>"]
)
def test_days_that_are_none(suspect, auditor, day):
    page = auditor.get(path_of(suspect), params={"from": day}, status=422)
    assert "Write a day as year, month and day" in page_text(page)
    auditor.get(path_of(suspect), params={"until": day, "format": "csv"}, status=404)


def test_pages_join_without_gap_or_double(portal, suspect, auditor, monkeypatch):
    monkeypatch.setattr(looked_at, "PAGE", 2)
    wanted = ["Same Name"] * 3 + ["Other Name", "Zé Name"]
    for name in wanted:
        did(suspect, Someone(portal, name=name))
    page, found = auditor.get(path_of(suspect)), []
    while True:
        found += [row.rpartition(" Name")[0] for row in rows_of(page)]
        links = page.html.select("a[rel=next]")
        if not links:
            break
        assert "Name" not in links[0]["href"], "no name stands in an address"
        page = auditor.get(links[0]["href"])
    assert found == ["Other", "Same", "Same", "Same", "Zé"]


def test_no_page_begins_behind_somebody_who_is_not_on_the_list(portal, suspect, auditor):
    stranger = Someone(portal)
    stranger.note()
    for after in (stranger.id, NOBODY, "0", "", "%27"):
        auditor.get(path_of(suspect), params={"after": after}, status=404)


@pytest.mark.parametrize("role", CAST["hospital"])
@pytest.mark.parametrize("query", ["", "?format=csv"])
def test_who_may_ask(portal, suspect, role, query):
    answer = portal.signed_in(role).get(path_of(suspect) + query, expect_errors=True)
    expected = 200 if role in {"auditor", "privacy_officer"} else 404
    assert answer.status_int == expected


@pytest.mark.parametrize("person", [NOBODY, "0", "x" * 3000, "%27", "%C3%A9"])
def test_accounts_that_are_none(auditor, person):
    auditor.get(f"/oversight/people/{person}", status=404)
    auditor.get(f"/oversight/people/{person}?format=csv", status=404)


def test_accounts_of_the_neighbour_are_not_there(portal, suspect):
    portal.signed_in("auditor", "laboratory").get(path_of(suspect), status=404)


def test_the_table_has_all_of_them(portal, suspect, auditor):
    for name in ("Ana Alva", "=Soma A1", "Rui Roda"):
        did(suspect, Someone(portal, name=name))
    answer = auditor.get(path_of(suspect)).click("Take the whole list along")
    assert answer.content_type == "text/csv"
    rows = list(csv.DictReader(StringIO(answer.body.decode("utf-8-sig"))))
    assert [row["Patient"] for row in rows] == ["'=Soma A1", "Ana Alva", "Rui Roda"]
    assert {row["Done"] for row in rows} == {"1"}


def test_looking_is_an_event(portal, suspect, auditor):
    auditor.get(path_of(suspect))
    auditor.get(path_of(suspect) + "?format=csv")
    for action in (Action.OVERSIGHT_VIEWED, Action.AUDIT_EXPORTED):
        (event,) = [e for e in events_of(portal, action) if e.object == suspect.id]
        assert event.actor == portal.person("auditor") and event.reasons == ("role-any",)


@pytest.mark.parametrize(
    ("query", "action"),
    [("", Action.OVERSIGHT_VIEWED), ("?format=csv", Action.AUDIT_EXPORTED)],
    ids=["page", "table"],
)
def test_each_patient_who_is_named_is_told(portal, suspect, auditor, query, action):
    people = [Someone(portal, name=name) for name in ("Ana Alva", "Rui Roda")]
    for someone in people:
        did(suspect, someone)
    auditor.get(path_of(suspect) + query)
    for someone in people:
        (event,) = [e for e in someone.events() if e.action is action]
        assert event.actor == portal.person("auditor")
        assert event.object is None and event.details["roles"] == "auditor"


@pytest.mark.parametrize("query", ["", "?format=csv"])
def test_no_event_no_look(portal, suspect, auditor, monkeypatch, query):
    did(suspect, Someone(portal, name="Ana Alva"))

    def broken(session, event):
        raise OperationalError("insert", {}, OSError("full"))

    monkeypatch.setattr("medportal.audit.requests.append_all", broken)
    answer = auditor.get(path_of(suspect) + query, expect_errors=True)
    assert answer.status_int >= 500 and "Ana Alva" not in answer.text
