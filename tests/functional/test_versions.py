"""Later versions of records: corrected, added to, taken back; nothing is overwritten."""

import re

import pytest
from functional_helpers import page_text
from sqlalchemy import select, update
from version_helpers import (
    amend,
    entered,
    events_about,
    record_of,
    retract,
    send,
    versions_of,
)

from medportal.core.clock import utcnow
from medportal.delivery.models import Outbox
from medportal.records.models import Record, RecordVersion
from medportal.vault.models import Document

MARKER = "Zyxomorph fever of the left knee"


def test_a_correction_shows_the_new_and_keeps_the_old(portal):
    path = entered(portal, height="171", notes="Tall for her age")
    doctor = portal.signed_in("doctor")
    answer = amend(doctor, path, height="161", change_reason="Read the wrong line.")
    assert answer.status_int == 303, page_text(answer)
    page = page_text(answer.follow())
    assert "161" in page and "171" not in page and "The signature is right." in page
    assert "Corrected by Person doctor" in page and "Read the wrong line." in page
    history = page_text(doctor.get(f"{path}/versions"))
    assert "Version 2" in history and "Version 1" in history and "What changed" in history
    assert "171" in history and "161" in history and "Changed" in history
    assert "Tall for her age" not in history
    old = page_text(doctor.get(f"{path}/versions/1"))
    assert "171" in old and "This is an older version" in old and "Tall for her age" in old
    rows = versions_of(portal, path)
    assert [row.status for row in rows] == ["final", "corrected"]
    assert rows[1].replaces == rows[0].content_digest and rows[0].replaces is None
    record = record_of(portal, path)
    assert (record.current_version, record.status) == (2, "corrected")


def test_the_patient_reads_every_version_and_who_made_it_why(portal):
    path = entered(portal, weight="70")
    amend(portal.signed_in("nurse"), path, weight="71", change_reason="The scales were off.")
    patient = portal.signed_in("patient")
    page = page_text(patient.get(path))
    assert "Corrected by Person nurse" in page and "The scales were off." in page
    assert "Is something wrong here?" not in page
    history = page_text(patient.get(f"{path}/versions"))
    assert "70" in history and "71" in history and "Person nurse" in history


def test_what_changed_is_told_row_by_row(portal):
    path = entered(portal, height="171", weight="68.5", notes="Old words")
    values = {"height": "", "weight": "69", "body-temperature": "37,2", "effective": "04/02/2026"}
    doctor = portal.signed_in("doctor")
    assert amend(doctor, path, notes="", **values).status_int == 303
    rows = [
        [cell.get_text(" ", strip=True) for cell in row.find_all("td")]
        for row in doctor.get(f"{path}/versions/2").html.select("table")[-1].select("tbody tr")
    ]
    assert ["Date", "Changed", "3 February 2026", "4 February 2026"] in rows
    assert ["Notes", "Removed", "Old words", "–"] in rows
    assert [row[1:] for row in rows if row[0] == "Height"] == [["Removed", "171 cm", "–"]]
    assert [row[1:] for row in rows if row[0] == "Weight"] == [["Changed", "68.5 kg", "69 kg"]]
    assert [row[1] for row in rows if row[0] == "Body temperature"] == ["Added"]
    assert len(rows) == 5
    assert record_of(portal, path).effective_on.isoformat() == "2026-02-04"


def test_adding_is_called_so(portal):
    path = entered(portal, notes="First words")
    answer = amend(portal.signed_in("doctor"), path, status="amended", diagnosis=MARKER)
    page = page_text(answer.follow())
    assert "Amended by" in page and MARKER in page and "First words" in page


def test_the_form_begins_with_what_the_record_says(portal):
    path = entered(portal, height="171", notes="Two\nlines", diagnosis=MARKER)
    form = portal.signed_in("doctor").get(f"{path}/amend").forms["form"]
    assert form["height"].value == "171" and form["effective"].value == "03/02/2026"
    assert form["notes"].value.replace("\r", "") == "Two\nlines"
    assert form["diagnosis"].value == MARKER and form["base"].value == "1"
    assert form["change_reason"].value == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "This says what the record says already."),
        ({"height": "161", "change_reason": ""}, "Fill this in."),
        ({"height": "161", "change_reason": "   "}, "Fill this in."),
        ({"height": "161", "change_reason": "x" * 501}, "at most 500"),
        ({"height": "161", "change_reason": "a\u202eb"}, "signs that cannot be printed"),
        ({"height": "9000"}, "Check this value: possible are"),
        ({"height": "tall"}, "Enter a number"),
        ({"effective": "01/01/2999"}, "in the future"),
        ({"effective": "01/01/1950"}, "before the patient was born"),
        ({"height": "", "notes": ""}, "Enter at least one value or text."),
        ({"notes": "right\u202eto left"}, "signs that cannot be printed"),
    ],
)
def test_bad_input_is_told_and_nothing_typed_is_lost(portal, values, words):
    path = entered(portal, height="171", notes="Kept words")
    answer = amend(portal.signed_in("doctor"), path, **values)
    assert answer.status_int == 422
    assert words in page_text(answer)
    form = answer.forms["form"]
    for name, value in {"notes": "Kept words", **values}.items():
        assert form[name].value.strip() == value.strip()
    assert form["status"].value == "corrected"
    assert len(versions_of(portal, path)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"base": "0"},
        {"base": "-1"},
        {"base": "1e3"},
        {"base": "99999999999999999999"},
        {"base": ""},
        {"status": "final"},
        {"status": "entered-in-error"},
        {"status": ""},
    ],
    ids=lambda fields: "-".join(f"{name}={value}" for name, value in fields.items()),
)
def test_a_forged_form_makes_no_version(portal, fields):
    path = entered(portal, height="171")
    doctor = portal.signed_in("doctor")
    page = doctor.get(f"{path}/amend")
    sent = dict(page.forms["form"].submit_fields())
    asked = {"height": "150", "status": "corrected", "change_reason": "Because", **fields}
    ordered = [(name, asked.get(name, value)) for name, value in page.forms["form"].submit_fields()]
    ordered += [(name, value) for name, value in asked.items() if name not in sent]
    answer = doctor.app.post(f"{path}/amend", ordered, expect_errors=True)
    assert answer.status_int in (400, 422), page_text(answer)
    assert len(versions_of(portal, path)) == 1


def test_taking_back_leaves_a_trace_and_nothing_else(portal):
    path = entered(portal, height="171", notes=MARKER)
    doctor = portal.signed_in("doctor")
    ask = doctor.get(f"{path}/retract")
    assert "171" in ask.text and "This cannot be undone." in ask.text
    assert "Fill this in." in page_text(retract(doctor, path, ""))
    answer = retract(doctor, path, "Entered while training.")
    page = page_text(answer.follow())
    assert "Taken back by Person doctor" in page and "Entered while training." in page
    assert "171" not in page and MARKER not in page and "Take it back" not in page
    assert "171" in page_text(doctor.get(f"{path}/versions/1"))
    assert "Taken back" in page_text(portal.signed_in("patient").get(path))
    assert record_of(portal, path).status == "entered-in-error"


@pytest.mark.parametrize("what", ["amend", "retract", "move"])
def test_what_was_taken_back_gets_no_further_version(portal, what):
    path = entered(portal, height="171")
    doctor = portal.signed_in("doctor")
    before = doctor.get(f"{path}/amend")
    retract(doctor, path)
    answers = [doctor.get(f"{path}/{what}"), send(before, height="180")]
    assert [(a.status_int, a.location.endswith(path)) for a in answers] == [(303, True)] * 2
    assert len(versions_of(portal, path)) == 2


@pytest.mark.parametrize("what", ["amend", "retract", "move", "versions", "versions/1"])
@pytest.mark.parametrize(
    "role", ["porter", "volunteer", "other_doctor", "admin", "ward_clerk", "clinical_assistant"]
)
def test_those_without_care_get_the_one_404(portal, role, what):
    path = entered(portal, notes=MARKER)
    browser = portal.signed_in(role)
    hidden = browser.get(f"{path}/{what}", status=404)
    missing = browser.get(f"{re.sub('/[0-9a-f]{32}$', '/' + '0' * 32, path)}/{what}", status=404)
    token = re.compile(r'value="[A-Za-z0-9_-]{43}"|/patients/[0-9a-z/]*')
    assert token.sub("", hidden.text) == token.sub("", missing.text)
    assert MARKER not in hidden.text


@pytest.mark.parametrize("what", ["amend", "retract", "move"])
def test_the_patient_changes_nothing(portal, what):
    path = entered(portal, notes=MARKER)
    patient = portal.signed_in("patient")
    patient.get(f"{path}/{what}", status=404)
    patient.post(f"{path}/{what}", {"base": "1", "change_reason": "Mine"}, status=404)
    assert len(versions_of(portal, path)) == 1


@pytest.mark.parametrize(
    "version", ["0", "2", "-1", "01", "1.0", "x", "9" * 9, "9" * 40, "%D9%A1", "1%0a"]
)
def test_a_version_that_is_none_is_the_one_404(portal, version):
    path = entered(portal, notes=MARKER)
    portal.signed_in("doctor").get(f"{path}/versions/{version}", status=404)


@pytest.mark.parametrize("before", ["0", "-1", "x", "", "1; drop", "9" * 30])
def test_a_history_from_nowhere_is_the_one_404(portal, before):
    path = entered(portal, notes=MARKER)
    portal.signed_in("doctor").get(f"{path}/versions", params={"before": before}, status=404)


def test_an_older_version_is_decided_about_from_what_it_says(portal):
    """A nurse of the ward reads the ordinary newest version, and not the sensitive one before."""
    path = entered(portal, notes=MARKER, category="mental-health")
    doctor, nurse = portal.signed_in("doctor"), portal.signed_in("nurse")
    nurse.get(path, status=404)
    assert amend(doctor, path, notes="Slept well", category="").status_int == 303
    assert record_of(portal, path).category == "clinical-note"
    assert [row.category for row in versions_of(portal, path)] == ["mental-health", "clinical-note"]
    assert "Slept well" in page_text(nurse.get(path))
    history = nurse.get(f"{path}/versions")
    assert MARKER not in history.text and "Version 2" in page_text(history)
    assert f"{path}/versions/1" not in history.text
    assert "What changed" not in page_text(history)
    nurse.get(f"{path}/versions/1", status=404)
    assert MARKER not in nurse.get(f"{path}/versions/2").text
    assert MARKER in doctor.get(f"{path}/versions").text


def test_a_record_that_becomes_sensitive_closes_and_its_history_with_it(portal):
    path = entered(portal, notes="Ordinary words")
    doctor, nurse = portal.signed_in("doctor"), portal.signed_in("nurse")
    assert amend(doctor, path, category="mental-health").status_int == 303
    for what in ("", "/versions", "/versions/1", "/versions/2", "/amend", "/retract", "/move"):
        nurse.get(f"{path}{what}", status=404)
    assert "Ordinary words" in doctor.get(f"{path}/versions/1").text
    assert "Ordinary words" in portal.signed_in("patient").get(f"{path}/versions/1").text


def test_a_correction_is_in_the_log_and_says_nothing_there(portal):
    path = entered(portal, height="171")
    doctor = portal.signed_in("doctor")
    amend(doctor, path, height="161", change_reason=MARKER)
    doctor.get(f"{path}/versions/1")
    retract(doctor, path, MARKER)
    events = events_about(portal, path)
    made = [e.details for e in events if e.action == "record-amended"]
    assert [(d["status"], d["version"]) for d in made] == [
        ("corrected", 2),
        ("entered-in-error", 3),
    ]
    assert 1 in [e.details.get("version") for e in events if e.action == "record-read"]
    assert MARKER.encode() not in b"".join(e.to_bytes() for e in events)
    assert all(e.reasons for e in events if e.action == "record-amended")


def test_nothing_of_a_reason_lies_open_in_the_database(portal):
    path = entered(portal, height="171")
    amend(portal.signed_in("doctor"), path, height="161", change_reason=MARKER)
    with portal.session("hospital") as session:
        rows = versions_of(portal, path)
        wanted = [row.document_id for row in rows]
        sealed = session.scalars(select(Document.sealed).where(Document.id.in_(wanted))).all()
        queued = session.scalars(select(Outbox.sealed)).all()
    assert len(sealed) == 2
    assert not any(MARKER.encode() in each for each in (*sealed, *queued))


@pytest.mark.parametrize("thief", ["status", "replaces", "category", "older-document"])
def test_a_version_that_was_tampered_with_shows_nothing(portal, thief):
    path = entered(portal, notes=MARKER)
    record_id = path.rsplit("/", 1)[1]
    amend(portal.signed_in("doctor"), path, notes=f"{MARKER} is better")
    first, second = versions_of(portal, path)
    with portal.session("hospital") as session, session.begin():
        row = session.get(RecordVersion, (record_id, 2))
        if thief == "status":
            session.execute(update(Record).where(Record.id == record_id).values(status="final"))
        elif thief == "replaces":
            row.replaces = b"\0" * 32
        elif thief == "category":
            old = session.get(RecordVersion, (record_id, 1))
            old.category = "laboratory"
        else:
            # The document and the pins of the first version in place of the second one's.
            row.document_id, old_id = "e" * 32, first.document_id
            session.get(RecordVersion, (record_id, 1)).document_id = second.document_id
            session.flush()
            row.document_id = old_id
            row.document_digest, row.content_digest = first.document_digest, first.content_digest
    address = f"{path}/versions/1" if thief == "category" else path
    page = portal.signed_in("patient").get(address)
    assert "This record cannot be trusted" in page.text and MARKER not in page.text
    if thief != "category":
        answer = portal.signed_in("doctor").get(f"{path}/amend")
        assert answer.status_int == 303 and len(versions_of(portal, path)) == 2


def test_a_history_has_pages(portal, monkeypatch):
    monkeypatch.setattr("medportal.records.store.PAGE", 2)
    path = entered(portal, height="150")
    doctor = portal.signed_in("doctor")
    for height in range(151, 155):
        assert amend(doctor, path, height=str(height)).status_int == 303
    page, seen = doctor.get(f"{path}/versions"), []
    while True:
        seen.append([h.get_text(" ", strip=True)[:9] for h in page.html.select(".version h2")])
        older = page.html.find("a", rel="next")
        if older is None:
            break
        page = doctor.get(older["href"])
    assert seen == [["Version 5", "Version 4"], ["Version 3", "Version 2"], ["Version 1"]]


def test_the_laboratory_corrects_and_the_correction_is_queued(portal):
    path = entered(portal, "laboratory", glucose="95")
    browser = portal.signed_in("responsible", "laboratory")
    assert amend(browser, path, glucose="59", change_reason="Digits turned.").status_int == 303
    page = page_text(browser.get(path))
    assert "59" in page and "Waiting to be sent" in page
    with portal.session("laboratory") as session:
        record_id = path.rsplit("/", 1)[1]
        rows = session.scalars(
            select(Outbox).where(Outbox.record_id == record_id).order_by(Outbox.version)
        ).all()
    assert [(r.version, r.chain, r.partner) for r in rows] == [
        (1, record_id, "hospital"),
        (2, record_id, "hospital"),
    ]
    assert page.count("Waiting to be sent") == 1
    assert "Waiting to be sent" in page_text(browser.get(f"{path}/versions/1"))


def test_a_record_of_elsewhere_is_not_amended_here(portal):
    path = entered(portal, notes=MARKER)
    with portal.session("hospital") as session, session.begin():
        row = session.get(Record, path.rsplit("/", 1)[1])
        row.origin, row.created_at = "laboratory", utcnow()
    doctor = portal.signed_in("doctor")
    for what in ("amend", "retract", "move"):
        doctor.get(f"{path}/{what}", status=404)
    assert "Is something wrong here?" not in doctor.get(path).text


def test_pages_of_versions_speak_portuguese(portal):
    """The words are there to be translated: none of the pages fails in the other language."""
    path = entered(portal, height="171")
    doctor = portal.signed_in("doctor")
    amend(doctor, path, height="161")
    doctor.post("/language", {"language": "pt", "next": "/"})
    for what in ("", "/versions", "/versions/1", "/versions/2", "/amend", "/retract", "/move"):
        page = doctor.get(f"{path}{what}")
        assert page.html.find("html")["lang"] == "pt" and len(page.html.find_all("h1")) == 1
