"""Who looked, and why: what patients read, narrow down, page through and take along."""

import csv
import json
from datetime import datetime, timedelta
from io import StringIO

import pytest
from admin_helpers import employ
from functional_helpers import page_text
from installation import CAST
from log_helpers import Someone, entries_of, rows_of
from sqlalchemy.exc import OperationalError

from medportal.access.explanations import NEVER, TOLD
from medportal.access.log import PAGE
from medportal.access.models import BrokenGlass, CareAssignment, PatientRule, Representative
from medportal.access.views import access_log
from medportal.audit.events import Action, Outcome
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.delivery.states import DeliveryReason
from medportal.records.models import Record

NOBODY = "0" * 32
LONG_AGO = timedelta(days=400)


@pytest.fixture
def patient(portal):
    """Give a patient of one test alone."""
    return Someone(portal)


def add(patient, *rows):
    with patient.session() as session, session.begin():
        session.add_all(rows)


def read(patient, **query):
    return patient.browser().get(patient.path, params=query)


# -- who is this, and why --------------------------------------------------------------------------


def test_who_is_this_and_why(portal, patient):
    patient.note(Action.RECORD_READ, reasons=[Reason.TREATING], details={"roles": "doctor"})
    (row,) = rows_of(read(patient))
    for words in (
        "Person nurse (Doctor) read one of your records.",
        "They were your treating doctor at that time.",
        "Inside Riverside Hospital",
        "Done",
    ):
        assert words in row, row


def test_what_was_refused_is_told_as_a_try(patient):
    patient.note(
        Action.ACCESS_DENIED,
        Outcome.DENIED,
        reasons=[Reason.NOT_ASSIGNED, Reason.PATIENT_BLOCKS],
        details={"route": "record", "method": "GET", "place": "remote"},
    )
    page = read(patient)
    (row,) = rows_of(page)
    for words in (
        "Person nurse (Nurse) tried to open a page about you.",
        "They were not assigned to your care. A rule of yours blocked it.",
        "Outside, signed in at Riverside Hospital",
        "Refused",
    ):
        assert words in row, row
    entry = page_text(page.click(href=entries_of(page)[0]))
    assert "What they wanted to see One of your records" in entry


def test_what_staff_really_do_is_in_the_log(portal):
    """The doctor opens the page of a patient; the patient reads who, what and why."""
    doctor, patient = portal.signed_in("doctor"), portal.person("patient")
    doctor.get(f"/patients/{patient}")
    portal.signed_in("other_doctor").get(f"/patients/{patient}", status=404)
    rows = rows_of(portal.signed_in("patient").get(f"/patients/{patient}/access-log"))
    opened = next(row for row in rows if "opened your page" in row)
    assert "Person doctor (Doctor)" in opened
    assert "They were your treating doctor at that time." in opened
    refused = next(row for row in rows if "tried to open a page about you" in row)
    assert "Person other_doctor (Doctor)" in refused
    assert "They were not assigned to your care." in refused


def test_partners_and_programs_are_named(patient):
    patient.note(Action.QUERY_RECEIVED, actor="partner:laboratory", details={"roles": None})
    patient.note(
        Action.RECORD_FILED,
        actor="process:intake",
        details={"origin": "laboratory", "roles": None, "place": None},
    )
    patient.note(
        Action.DELIVERY_ATTEMPTED,
        Outcome.FAILED,
        actor="process:sender",
        reasons=[DeliveryReason.UNREACHABLE],
        details={"partner": "laboratory", "roles": None, "place": None},
    )
    page = read(patient)
    attempt, filed, query = rows_of(page)
    assert "Meridian Laboratory asked whether you are a patient here" in query
    assert "Our computer system filed a record from another institution among yours." in filed
    assert "By itself, without a person" in filed
    assert "The other institution could not be reached." in attempt and "It failed" in attempt
    assert "Other institution Meridian Laboratory" in page_text(
        page.click(href=entries_of(page)[1])
    )


def test_a_stranger_with_an_account_is_not_named(portal, patient):
    """That somebody else is a patient here is theirs to tell, also when they tried."""
    stranger = Someone(portal, name="Zacarias Curioso")
    stranger.browser().get(f"/patients/{patient.id}", status=404)
    page = read(patient)
    (row,) = rows_of(page)
    assert "Somebody with an account here tried to open a page about you." in row
    entry = page.click(href=entries_of(page)[0])
    for shown in (page.text, entry.text):
        assert "Zacarias" not in shown and stranger.id not in shown and stranger.number not in shown
    copies = [patient.browser().get(f"{patient.path}/download?format={f}") for f in ("csv", "json")]
    assert not any("Zacarias" in copy.text or stranger.id in copy.text for copy in copies)


def test_staff_whose_roles_did_not_count_are_named(patient):
    patient.note(Action.ACCESS_DENIED, Outcome.DENIED, details={"roles": ""})
    (row,) = rows_of(read(patient))
    assert "Person nurse tried to open a page about you." in row


def test_who_did_it_without_an_account_is_told(patient):
    patient.note(Action.ACCOUNT_ACTIVATED, actor=None, details={"roles": None, "place": None})
    (row,) = rows_of(read(patient))
    assert "Somebody who had not signed in activated your account." in row


def test_a_representative_reads_the_log_of_whom_they_represent(portal, patient):
    ana = Someone(portal, name="Ana Velho")
    now = utcnow()
    add(
        patient,
        Representative(
            id=new_id(),
            patient_id=patient.id,
            person_id=ana.id,
            ground="parent",
            since=now - LONG_AGO,
            until=None,
            made_by=None,
            approved_by=portal.person("ward_clerk"),
            ended_by=None,
        ),
    )
    patient.note()
    browser = ana.browser()
    page = browser.get(patient.path)
    assert "You represent this patient. On this page, “you” is the patient." in page_text(page)
    assert len(rows_of(page)) == 1, "what one does oneself is left out"
    mine = rows_of(read(patient))
    assert any("Ana Velho, who represents you looked at this log." in row for row in mine)
    with patient.session() as session, session.begin():
        session.query(Representative).filter_by(patient_id=patient.id).update({"until": now})
    browser.get(patient.path, status=404)
    assert any("Ana Velho, who represents you" in row for row in rows_of(read(patient)))


@pytest.mark.parametrize("language", ["en", "pt"])
def test_every_action_and_reason_can_be_told(portal, patient, language):
    """No page breaks on any event that may be about a patient, in any outcome and language."""
    told = [action for action in Action if action not in NEVER]
    assert set(told) == set(TOLD)
    reasons = [*map(str, Reason), *map(str, DeliveryReason), "some-other-code"]
    for number, action in enumerate(told):
        some = reasons[number::20]
        for outcome in Outcome:
            patient.note(action, outcome, reasons=some, object=patient.id, details={"count": 3})
    browser = patient.browser()
    browser.post("/language", {"language": language, "next": "/"})
    page, seen = browser.get(patient.path), []
    while True:
        seen += rows_of(page)
        links = page.html.select("a[rel=next]")
        if not links:
            break
        page = browser.get(links[0]["href"])
    assert len(seen) == 3 * len(told)
    assert all("${" not in row and "Person nurse" in row for row in seen)
    for entry in entries_of(page):
        assert "${" not in page_text(browser.get(f"{patient.path}/{entry}"))


# -- on what it rested -----------------------------------------------------------------------------


def rests(patient, event):
    text = page_text(patient.browser().get(f"{patient.path}/{event.id}"))
    return text.partition("On what it rested ")[2]


def assignment(portal, patient, **more):
    values = {
        "id": new_id(),
        "patient_id": patient.id,
        "staff_id": portal.person("nurse"),
        "ward": None,
        "kind": "team",
        "since": datetime.fromisoformat("2026-03-01T08:30:00+00:00"),
        "until": None,
        "assigned_by": None,
        **more,
    }
    return CareAssignment(**values)


def test_it_rested_on_an_assignment(portal, patient):
    clerk = portal.person("ward_clerk")
    until = datetime.fromisoformat("2026-03-04T20:00:00+00:00")
    made = [
        assignment(portal, patient, assigned_by=clerk, until=until),
        assignment(portal, patient),
        assignment(portal, patient, staff_id=None, ward="Cardiology", assigned_by=clerk),
    ]
    ids = [row.id for row in made]
    add(patient, *made)
    by_clerk, by_nobody, team = (
        rests(patient, patient.note(reasons=[Reason.ASSIGNED_CARE], details={"basis": basis}))
        for basis in ids
    )
    assert by_clerk.startswith(
        "Person ward_clerk put them in charge of you on 1 March 2026, 08:30. "
        "It counts until 4 March 2026, 20:00."
    )
    assert by_nobody.startswith("They were put in charge of you on 1 March 2026, 08:30.")
    assert team.startswith("The team of the ward Cardiology was put in charge of you on 1 March")


def test_it_rested_on_a_rule_or_a_broken_glass(portal, patient):
    since = datetime.fromisoformat("2026-03-01T08:30:00+00:00")
    rule = PatientRule(
        id=new_id(),
        patient_id=patient.id,
        effect="allow",
        whom="person",
        whom_id=portal.person("nurse"),
        what="everything",
        what_id="",
        since=since,
        until=None,
        note=None,
        made_at=since,
        made_by=patient.id,
    )
    glass = BrokenGlass(
        id=new_id(),
        patient_id=patient.id,
        staff_id=portal.person("nurse"),
        sensitive=False,
        reason="emergency",
        text=b"sealed",
        since=since,
        until=since + timedelta(hours=1),
    )
    rule_id, glass_id = rule.id, glass.id
    add(patient, rule, glass)
    by_rule = patient.note(reasons=[Reason.PATIENT_ALLOWS], details={"basis": rule_id})
    by_glass = patient.note(reasons=[Reason.BROKEN_GLASS], details={"basis": glass_id})
    assert rests(patient, by_rule).startswith("Your rule, in force since 1 March 2026, 08:30.")
    assert rests(patient, by_glass).startswith(
        "Emergency access, begun 1 March 2026, 08:30. Reason given: an emergency. "
        "It counts until 1 March 2026, 09:30."
    )


def test_it_never_rested_on_what_belongs_to_another_patient(portal, patient):
    other = assignment(portal, Someone(portal), staff_id=None, ward="Maternity")
    basis = other.id
    add(patient, other)
    assert rests(patient, patient.note(details={"basis": basis})) == ""


def record(patient, category="mental-health"):
    made = Record(
        id=new_id(),
        patient_id=patient.id,
        origin="hospital",
        origin_record_id=new_id(),
        kind="medical",
        category=category,
        effective_on=datetime.fromisoformat("2026-02-03").date(),
        local_author_id=None,
        current_version=1,
        status="final",
        created_at=utcnow(),
    )
    found = made.id
    add(patient, made)
    return found


def test_a_record_is_named_and_can_be_opened(portal, patient):
    mine = record(patient)
    foreign = record(Someone(portal), "genetics")
    patient.note(Action.RECORD_READ, object=mine)
    patient.note(Action.RECORD_READ, object=foreign)
    patient.note(Action.DELIVERY_QUEUED, object=new_id(), details={"record": mine})
    page = read(patient)
    queued, read_foreign, read_mine = rows_of(page)
    assert "Mental health, 3 February 2026" in queued
    assert "Mental health, 3 February 2026" in read_mine
    assert "Genetics" not in read_foreign
    entry = page.click(href=entries_of(page)[2])
    assert entry.html.select(f"a[href='/patients/{patient.id}/records/{mine}']")


def test_whom_it_concerned_is_named(portal, patient):
    event = patient.note(
        Action.CARE_ASSIGNED, object=portal.person("porter"), details={"ward": "Cardiology"}
    )
    text = page_text(patient.browser().get(f"{patient.path}/{event.id}"))
    assert "Whom it concerns Person porter" in text and "Ward Cardiology" in text


# -- narrowed --------------------------------------------------------------------------------------


def test_ones_own_visits_are_left_out_unless_asked_for(patient):
    browser = patient.browser()
    assert "No entry fits." in page_text(browser.get(patient.path))
    assert rows_of(browser.get(patient.path)) == []
    rows = rows_of(browser.get(patient.path, params={"who": "all"}))
    assert len(rows) == 2
    assert all("You looked at this log." in row and "It is your own record." in row for row in rows)


def test_narrowed_to_one_who_did_it(portal, patient):
    patient.note()
    patient.note(actor=portal.person("doctor"), details={"roles": "doctor"})
    page = read(patient)
    nurse = entries_of(page)[1]
    narrowed = page.click(href=nurse).click("Show all their entries")
    assert entries_of(narrowed) == [nurse]
    assert narrowed.html.select_one("#who option[selected]").text == "Person nurse (Nurse)"
    assert len(rows_of(narrowed.click("Show everybody again"))) == 2


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("looked", ["patient-viewed", "record-read", "access-denied"]),
        ("shared", ["query-received"]),
        ("emergency", ["glass-broken"]),
        ("refused", ["access-denied"]),
        ("care", []),
    ],
)
def test_narrowed_to_a_topic(patient, topic, expected):
    made = {
        str(action): patient.note(action, outcome).id
        for action, outcome in (
            (Action.PATIENT_VIEWED, Outcome.ALLOWED),
            (Action.RECORD_READ, Outcome.ALLOWED),
            (Action.QUERY_RECEIVED, Outcome.ALLOWED),
            (Action.GLASS_BROKEN, Outcome.ALLOWED),
            (Action.ACCESS_DENIED, Outcome.DENIED),
        )
    }
    assert sorted(entries_of(read(patient, topic=topic))) == sorted(made[a] for a in expected)


def test_narrowed_to_days_at_the_institutions_clock(patient):
    """Summer in Lisbon: a day begins at 23:00 UTC of the day before."""
    at = [
        datetime.fromisoformat(f"2026-{when}+00:00")
        for when in ("07-01T22:59:59", "07-01T23:00:00", "07-02T22:59:59", "07-02T23:00:00")
    ]
    before, first, last, after = (patient.note(at=moment).id for moment in at)
    found = entries_of(read(patient, **{"from": "2026-07-02", "until": "2026-07-02"}))
    assert found == [last, first]
    assert entries_of(read(patient, until="2026-07-01")) == [before]
    assert entries_of(read(patient, **{"from": "2026-07-03"})) == [after]


@pytest.mark.parametrize(
    "day",
    [
        "31/03/2026",
        "2026-02-30",
        "0001-01-01",
        "9999-12-31",
        "x",
        "２０２６-03-31",
        "<script>",
        "9" * 999,
    ],
    ids=["slashes", "february", "first", "last", "letter", "wide", "script", "long"],
)
@pytest.mark.parametrize("name", ["from", "until"])
def test_days_that_are_none(patient, name, day):
    browser = patient.browser()
    page = browser.get(patient.path, params={name: day}, status=422)
    assert "Write a day as year, month and day" in page_text(page)
    assert "<script>" not in page.text.replace("<script src", "")
    browser.get(f"{patient.path}/download", params={"format": "csv", name: day}, status=404)


def test_days_in_the_wrong_order(patient):
    query = {"from": "2026-03-02", "until": "2026-03-01"}
    page = patient.browser().get(patient.path, params=query, status=422)
    assert "The first day lies after the last one." in page_text(page)


@pytest.mark.parametrize(
    "query",
    [
        {"topic": "everything"},
        {"topic": "record-read"},
        {"who": "Ana"},
        {"who": "partner:" + "x" * 200},
        {"who": "' OR 1=1"},
        {"after": "0"},
        {"after": NOBODY},
        {"after": "x" * 5000},
        {"after": ""},
    ],
    ids=str,
)
def test_what_no_link_of_ours_says(patient, query):
    if "x" * 200 in str(query):
        query = {key: value[:4000] for key, value in query.items()}
    patient.browser().get(patient.path, params=query, status=404)


# -- pages -----------------------------------------------------------------------------------------


def test_pages_join_without_gap_or_double(patient, monkeypatch):
    monkeypatch.setattr(access_log, "PAGE", 3)
    same = utcnow()
    made = [patient.note(at=same if n < 5 else same + timedelta(seconds=n)) for n in range(10)]
    wanted = [e.id for e in sorted(made, key=lambda e: (e.at, e.id), reverse=True)]
    browser, found = patient.browser(), []
    page = browser.get(patient.path, params={"topic": "looked"})
    while True:
        found += entries_of(page)
        links = page.html.select("a[rel=next]")
        if not links:
            break
        assert "topic=looked" in links[0]["href"], "what is narrowed stays so"
        page = browser.get(links[0]["href"])
    assert found == wanted
    assert "Back to the newest entries" in page_text(page)


def test_a_page_is_full_and_says_that_more_follows(patient):
    for _ in range(PAGE + 1):
        patient.note()
    page = read(patient)
    assert len(rows_of(page)) == PAGE and "Older entries" in page_text(page)


def test_no_page_begins_behind_an_entry_of_somebody_else(portal, patient):
    """A cursor of another patient, or of an event about nobody, is like one that does not exist."""
    patient.note()
    foreign = Someone(portal).note()
    browser = patient.browser()
    missing = browser.get(patient.path, params={"after": NOBODY}, status=404)
    answer = browser.get(patient.path, params={"after": foreign.id}, status=404)
    assert page_text(answer) == page_text(missing)


def test_entries_of_somebody_else_are_not_there(portal, patient):
    foreign = Someone(portal).note()
    neighbour = Someone(portal, "laboratory").note(actor=portal.person("responsible", "laboratory"))
    browser = patient.browser()
    missing = page_text(browser.get(f"{patient.path}/{NOBODY}", status=404))
    for event_id in (foreign.id, neighbour.id, "0", "x" * 3000, "%27", "%C3%A9"):
        assert page_text(browser.get(f"{patient.path}/{event_id}", status=404)) == missing
        fields = {"__formid__": "form", "text": "This looks wrong to me."}
        browser.post(f"{patient.path}/{event_id}", fields, status=404)


# -- who may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", CAST["hospital"])
@pytest.mark.parametrize("page", ["", "/download?format=csv", "/download?format=json", "/entry"])
def test_the_log_is_the_patients_alone(portal, role, page):
    patient = portal.person("patient")
    me = portal.signed_in("patient")
    log = f"/patients/{patient}/access-log"
    me.get(f"/patients/{patient}")
    entry = entries_of(me.get(log, params={"who": "all"}))[0]
    path = log + page.replace("entry", entry)
    answer = portal.signed_in(role).get(path, expect_errors=True)
    assert answer.status_int == (200 if role == "patient" else 404)


def test_staff_who_are_patients_read_their_own_log(portal):
    nurse = employ(portal, "nurse", "patient", name="Both Nurse")
    browser = nurse.signed_in()
    assert browser.get(f"/patients/{nurse.id}/access-log", expect_errors=True).status_int in {
        200,
        404,
    }
    browser.get(f"/patients/{portal.person('patient')}/access-log", status=404)


# -- looking is an event too -----------------------------------------------------------------------


def test_looking_at_the_log_is_in_the_log(patient):
    event = patient.note()
    browser = patient.browser()
    for path in ("", f"/{event.id}", "/download?format=csv"):
        browser.get(patient.path + path)
    looks = [e for e in patient.events() if e.action is Action.ACCESS_LOG_VIEWED]
    assert [dict(e.details).keys() & {"count", "entry", "format"} for e in looks] == [
        {"count"},
        {"entry"},
        {"format"},
    ]
    assert {e.reasons for e in looks} == {(str(Reason.OWN_RECORD),)}
    rows = rows_of(browser.get(patient.path, params={"who": "all", "topic": "rules"}))
    assert "You took a copy of this log along." in rows[0]


@pytest.mark.parametrize("page", ["", "/entry", "/download?format=csv", "/download?format=json"])
def test_no_event_no_look(patient, monkeypatch, page):
    event = patient.note(Action.RECORD_READ)
    browser = patient.browser()

    def broken(session, event):
        raise OperationalError("insert", {}, OSError("full"))

    monkeypatch.setattr("medportal.audit.requests.append_all", broken)
    path = patient.path + page.replace("entry", event.id)
    answer = browser.get(path, expect_errors=True)
    assert answer.status_int >= 500 and "one of your records" not in answer.text


# -- to take along ---------------------------------------------------------------------------------


def table(answer):
    text = answer.body.decode("utf-8-sig")
    return list(csv.DictReader(StringIO(text)))


def test_a_table_has_every_entry_however_many(patient, monkeypatch):
    monkeypatch.setattr(access_log, "BATCH", 3)
    made = [patient.note(at=utcnow() - LONG_AGO + timedelta(hours=n)) for n in range(7)]
    answer = patient.browser().get(f"{patient.path}/download?format=csv")
    assert answer.content_type == "text/csv" and answer.charset == "utf-8"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="access-log-')
    assert answer.headers["Cache-Control"] == "no-store"
    assert [row["Entry"] for row in table(answer)] == [e.id for e in reversed(made)]
    assert table(answer)[0]["What happened"] == "Person nurse (Nurse) opened your page."


def test_what_the_page_is_narrowed_to_counts_for_the_copy(patient):
    patient.note(Action.GLASS_BROKEN, reasons=[Reason.EMERGENCY])
    patient.note()
    page = read(patient, topic="emergency")
    (row,) = table(page.click("For a spreadsheet"))
    assert row["Why"] == "Reason given: an emergency." and row["Outcome"] == "Done"


def test_no_cell_is_a_formula(portal, patient):
    evil = employ(portal, "nurse", name="=HYPERLINK(1)")
    patient.note(actor=evil.id)
    patient.note(reasons=["@SUM(1)"], details={"ward": "+1 Cardiology"})
    noted, named = table(patient.browser().get(f"{patient.path}/download?format=csv"))
    assert named["Who"] == "'=HYPERLINK(1) (Nurse)"
    assert noted["More"] == "Ward: +1 Cardiology", "within a cell it is no formula"
    assert not any(
        cell.startswith(tuple("=+-@")) for row in (noted, named) for cell in row.values()
    )


def test_the_same_for_programs(patient):
    event = patient.note(
        Action.RECORD_READ, object=record(patient), reasons=[Reason.TREATING], details={"x": "y"}
    )
    answer = patient.browser().get(f"{patient.path}/download?format=json")
    assert answer.content_type == "application/json"
    told = json.loads(answer.body)
    assert told["institution"] == "hospital" and told["narrowed"] == {}
    (entry,) = told["entries"]
    assert entry == {
        "id": event.id,
        "at": event.at.isoformat(),
        "action": "record-read",
        "outcome": "allowed",
        "reasons": ["treating-doctor"],
        "who": "Person nurse (Nurse)",
        "what": "Person nurse (Nurse) read one of your records.",
        "why": ["They were your treating doctor at that time."],
        "where": "Inside Riverside Hospital",
        "record": "Mental health, 3 February 2026",
        "more": [],
    }


def test_an_empty_log_is_a_table_too(patient):
    browser = patient.browser()
    assert table(browser.get(f"{patient.path}/download?format=csv")) == []
    assert browser.get(f"{patient.path}/download?format=json").json["entries"] == []


@pytest.mark.parametrize("kind", ["", "xls", "CSV", "../csv"])
def test_no_other_kind_of_copy(patient, kind):
    patient.browser().get(f"{patient.path}/download", params={"format": kind}, status=404)
