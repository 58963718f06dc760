"""Taking records along: whose records go into a file, who is told, and that the file is right."""

import io
import json
import re
from datetime import timedelta
from pathlib import Path

import pypdf
import pytest
from click.testing import CliRunner
from fhir.resources.R4B.bundle import Bundle
from functional_helpers import page_text
from sqlalchemy import delete, select, update
from version_helpers import amend, entered, retract

from medportal.access.care import assign
from medportal.access.models import CareAssignment, CareKind
from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.cli import main
from medportal.core.clock import utcnow
from medportal.db import Base
from medportal.exports import service
from medportal.exports.verify import Authority, verify
from medportal.records.models import Record, RecordVersion

MARKER = "Zyxomorph fever of the left knee"


def enter(portal, role, tenant, **values):
    """Enter a record through the form; return its id."""
    browser = portal.signed_in(role, tenant)
    patient = portal.person("patient", tenant)
    form = browser.get(f"/patients/{patient}/records/new").forms["form"]
    for name, value in values.items():
        form[name] = value
    answer = form.submit()
    assert answer.status_int == 303, page_text(answer)
    return answer.location.rsplit("/", 1)[1]


@pytest.fixture(scope="module")
def record(portal):
    return enter(
        portal,
        "doctor",
        "hospital",
        effective="05/02/2026",
        weight="68.5",
        diagnosis=MARKER,
        notes="Água, pão — e descanso.",
    )


@pytest.fixture(autouse=True)
def begun_anew(portal, monkeypatch):
    """What other tests took along does not count here."""
    monkeypatch.setattr(service, "FILES_AN_HOUR", 10_000)


def path_of(portal, record, kind="json", tenant="hospital"):
    return f"/patients/{portal.person('patient', tenant)}/records/{record}/file.{kind}"


def ask(browser, portal, tenant="hospital", **values):
    page = browser.get(f"/patients/{portal.person('patient', tenant)}/records/export")
    form = page.forms["form"]
    for name, value in values.items():
        form[name] = value
    return form.submit(expect_errors=True)


def trusted(portal):
    return [
        Authority(name, portal.keys(name).keystore.ca, portal.keys(name).keystore.crl_der)
        for name in ("hospital", "laboratory")
    ]


def exported(portal, tenant="hospital"):
    """Return the events about exports, oldest first."""
    query = select(AuditEvent.body).where(AuditEvent.action == "record-exported")
    with portal.session(tenant) as session:
        bodies = session.scalars(query.order_by(AuditEvent.at, AuditEvent.id))
        return [Event.from_bytes(body) for body in bodies]


def printed(answer):
    """Return the text of a paper."""
    pages = pypdf.PdfReader(io.BytesIO(answer.body)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def forget(session, record_id):
    """Take a record out of the index, with everything that names it."""
    for table in reversed(Base.metadata.sorted_tables):
        if "record_id" in table.columns and table.columns["record_id"].foreign_keys:
            session.execute(table.delete().where(table.c.record_id == record_id))
    session.execute(delete(Record).where(Record.id == record_id))


def told(events):
    return [(str(e.outcome), e.object, e.details.get("format")) for e in events]


def test_one_record_as_fhir_is_valid_and_checks(portal, record):
    before = len(exported(portal))
    answer = portal.signed_in("patient").get(path_of(portal, record))
    assert answer.content_type == "application/fhir+json"
    assert re.fullmatch(
        r'attachment; filename="records-\d{4}-\d\d-\d\d\.json"', answer.content_disposition
    )
    assert answer.headers["Cache-Control"] == "no-store"
    Bundle.model_validate_json(answer.body)
    report = verify(answer.body, trusted(portal))
    assert report.is_right
    (found,) = report.records
    assert found.reading.record.id == record and found.reading.record.diagnosis == MARKER
    (event,) = exported(portal)[before:]
    assert told([event]) == [("allowed", record, "json")]
    assert event.actor == event.patient == portal.person("patient")
    assert MARKER.encode() not in b"".join(e.to_bytes() for e in exported(portal))


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["From the health record", "Usual range", "Diagnosis", "5 February 2026"]),
        ("pt", ["5 de fevereiro de 2026"]),
    ],
)
def test_one_record_as_pdf_reads_well_and_holds_the_signed_file(portal, record, language, words):
    browser = portal.signed_in("patient")
    answer = browser.get(path_of(portal, record, "pdf"), params={"language": language})
    assert answer.content_type == "application/pdf"
    paper = pypdf.PdfReader(io.BytesIO(answer.body))
    text = " ".join("\n".join(page.extract_text() for page in paper.pages).split())
    for word in [*words, MARKER, "Água, pão — e descanso.", "Amanda Júlio", "68"]:
        assert word in text
    (bundle,) = paper.attachments["records.json"]
    report = verify(bundle, trusted(portal))
    assert report.is_right
    assert report.records[0].digest.hex() in text.replace(" ", "")


def test_the_pages_offer_it_to_those_who_may(portal, record):
    patient = portal.person("patient")
    for role, offered in (("doctor", True), ("patient", True), ("nurse", False)):
        browser = portal.signed_in(role)
        page = browser.get(f"/patients/{patient}")
        assert ("Take records along" in page.text) is offered, role
        shown = browser.get(f"/patients/{patient}/records/{record}").text
        assert ("Take it along" in shown) is offered, role
    page = portal.signed_in("patient").get(f"/patients/{patient}").click("Take records along")
    assert page.request.path.endswith("/records/export")


@pytest.mark.parametrize(
    "role",
    ["nurse", "other_doctor", "porter", "ward_clerk", "admin", "privacy_officer", "volunteer"],
)
def test_others_get_the_one_404(portal, record, role):
    browser = portal.signed_in(role)
    before = len(exported(portal))
    for path in (
        path_of(portal, record),
        path_of(portal, record, "pdf"),
        f"/patients/{portal.person('patient')}/records/export",
    ):
        assert MARKER not in browser.get(path, status=404).text
    assert len(exported(portal)) == before


def test_another_institutions_patient_and_a_strange_address_are_404(portal, record):
    browser = portal.signed_in("patient")
    other = portal.signed_in("patient", "laboratory")
    other.get(path_of(portal, record), status=404)
    other.get(path_of(portal, record, tenant="laboratory"), status=404)
    browser.get(path_of(portal, "0" * 32), status=404)
    browser.get(path_of(portal, record, "exe"), status=404)
    browser.get(path_of(portal, record, "pdf"), params={"language": "../en"}, status=404)
    anonymous = portal.browser().get(path_of(portal, record), expect_errors=True)
    assert anonymous.status_int in {302, 303} and "/sign-in" in anonymous.location


def test_everything_in_either_form_is_noted_record_by_record(portal, record):
    other = enter(portal, "doctor", "hospital", effective="06/02/2026", height="171")
    browser = portal.signed_in("patient")
    before = len(exported(portal))
    answer = ask(browser, portal, format="json")
    Bundle.model_validate_json(answer.body)
    report = verify(answer.body, trusted(portal))
    assert report.is_right
    ids = [one.reading.record.id for one in report.records]
    assert ids.index(other) < ids.index(record)
    noted = exported(portal)[before:]
    (whole,) = (event for event in noted if event.object is None)
    each = [event for event in noted if event is not whole]
    assert whole.details["count"] == len(each) == len(ids)
    assert {event.object for event in each} == set(ids)
    paper = ask(browser, portal, format="pdf", language="pt")
    assert paper.content_type == "application/pdf"
    bundle = pypdf.PdfReader(io.BytesIO(paper.body)).attachments["records.json"][0]
    assert [one.reading.record.id for one in verify(bundle, trusted(portal)).records] == ids
    log = browser.get(f"/patients/{portal.person('patient')}/access-log", params={"who": "all"})
    assert "took a copy of your records along" in page_text(log)


def test_every_version_goes_into_the_file_and_the_newest_on_paper(portal, record):
    path = entered(portal, weight="68.5", notes="The first words.")
    doctor = portal.signed_in("doctor")
    assert amend(doctor, path, notes="The second words.").status_int == 303
    record_id = path.rsplit("/", 1)[1]
    patient = portal.signed_in("patient")
    report = verify(patient.get(path_of(portal, record_id)).body, trusted(portal))
    assert report.is_right
    said = [(one.reading.record.version, one.reading.record.notes) for one in report.records]
    assert said == [(1, "The first words."), (2, "The second words.")]
    text = printed(patient.get(path_of(portal, record_id, "pdf"), params={"language": "en"}))
    assert "The second words." in text and "The first words." not in text
    assert "Corrected: this replaces" in text and "A slip of the pen." in text
    assert retract(doctor, path, "Another patient's.").status_int == 303
    text = printed(patient.get(path_of(portal, record_id, "pdf"), params={"language": "en"}))
    assert "Taken back: this record should never have been made" in text
    assert "Another patient's." in text and "words." not in text
    report = verify(patient.get(path_of(portal, record_id)).body, trusted(portal))
    assert report.is_right and len(report.records) == 3
    Bundle.model_validate_json(patient.get(path_of(portal, record_id)).body)


def test_a_shorter_time_leaves_out_what_is_older(portal, record):
    old = enter(portal, "doctor", "hospital", effective="07/03/2015", height="170")
    browser = portal.signed_in("patient")
    everything = verify(ask(browser, portal, format="json").body, trusted(portal))
    lately = verify(ask(browser, portal, format="json", span="1").body, trusted(portal))
    held = [{one.reading.record.id for one in found.records} for found in (everything, lately)]
    assert old in held[0] and old not in held[1] and record in held[1]


def test_a_sensitive_record_stays_out_of_the_file_of_a_doctor(portal, record):
    sensitive = enter(portal, "doctor", "hospital", effective="09/02/2026", weight="70")
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(RecordVersion)
            .where(RecordVersion.record_id == sensitive)
            .values(category="mental-health", local_author_id="9" * 32)
        )
        session.execute(
            update(Record)
            .where(Record.id == sensitive)
            .values(category="mental-health", local_author_id="9" * 32)
        )
    with portal.session("hospital") as session, session.begin():
        assign(
            session,
            patient_id=portal.person("patient"),
            staff_id=portal.person("other_doctor"),
            kind=CareKind.TEAM,
            assignable_roles=("doctor",),
            treating_roles=("doctor",),
            by=None,
            now=utcnow(),
        )
    browser = portal.signed_in("other_doctor")
    before = len(exported(portal))
    assert browser.get(path_of(portal, record)).status_int == 200
    browser.get(path_of(portal, sensitive), status=404)
    answer = ask(browser, portal, format="json")
    assert sensitive.encode() not in answer.body
    assert sensitive not in {event.object for event in exported(portal)[before:]}
    # Nothing tells that something was left out.
    parsed = json.loads(answer.body)
    kinds = {entry["resource"]["resourceType"] for entry in parsed["entry"]}
    assert "OperationOutcome" not in kinds
    with portal.session("hospital") as session, session.begin():
        forget(session, sensitive)


def test_a_damaged_record_is_left_out_and_both_file_and_log_say_so(portal, record):
    damaged = enter(portal, "doctor", "hospital", effective="10/02/2026", weight="71")
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(RecordVersion)
            .where(RecordVersion.record_id == damaged)
            .values(document_digest=b"0" * 32)
        )
    browser = portal.signed_in("patient")
    before = len(exported(portal))
    answer = ask(browser, portal, format="json")
    report = verify(answer.body, trusted(portal))
    assert report.is_right and report.listing.left_out == (damaged,)
    assert ("failed", damaged, None) in told(exported(portal)[before:])
    paper = ask(browser, portal, format="pdf", language="en")
    text = pypdf.PdfReader(io.BytesIO(paper.body)).pages[0].extract_text()
    assert "Something is missing" in text
    with portal.session("hospital") as session, session.begin():
        forget(session, damaged)


def test_enough_is_enough_for_an_hour(portal, record, monkeypatch):
    browser = portal.signed_in("patient")
    ask(browser, portal, format="json")
    monkeypatch.setattr(service, "FILES_AN_HOUR", 1)
    refused = ask(browser, portal, format="json")
    assert refused.status_int == 429 and refused.headers["Retry-After"] == "3600"
    assert "within an hour" in page_text(refused)
    assert told(exported(portal)[-1:]) == [("denied", None, None)]
    one = browser.get(path_of(portal, record), status=429)
    assert one.headers["Retry-After"] == "3600" and "Too many" in page_text(one)
    assert told(exported(portal)[-1:]) == [("denied", record, None)]
    monkeypatch.setattr(service, "FILES_AN_HOUR", 10_000)
    monkeypatch.setattr(service, "RECORDS_AN_HOUR", 1)
    browser.get(path_of(portal, record), status=429)
    # Somebody else is not kept waiting by that.
    monkeypatch.setattr(service, "RECORDS_AN_HOUR", 2_000)
    assert portal.signed_in("doctor").get(path_of(portal, record)).status_int == 200


def test_too_many_for_a_paper_is_told(portal, record, monkeypatch):
    monkeypatch.setattr(service, "MOST_ON_PAPER", 1)
    browser = portal.signed_in("patient")
    refused = ask(browser, portal, format="pdf")
    assert refused.status_int == 422
    assert "more than 1 records" in page_text(refused)
    assert ask(browser, portal, format="json").status_int == 200
    monkeypatch.setattr(service, "MOST_VERSIONS", 1)
    assert ask(browser, portal, format="json").status_int == 422


@pytest.mark.parametrize(
    "values", [{"format": "exe"}, {"language": "xx"}, {"span": "-1"}, {"format": ""}]
)
def test_what_no_form_of_ours_sends_is_refused(portal, record, values):
    browser = portal.signed_in("patient")
    path = f"/patients/{portal.person('patient')}/records/export"
    fields = {"__formid__": "form", "span": "all", "format": "json", "language": "en", **values}
    assert browser.post(path, fields, expect_errors=True).status_int == 422
    without = browser.app.post(path, fields, expect_errors=True)
    assert without.status_int in {400, 403}


def test_whoever_signed_in_long_ago_proves_who_they_are(portal, record, clock):
    browser = portal.signed_in("patient")
    clock.now += timedelta(minutes=11)
    answer = browser.get(f"/patients/{portal.person('patient')}/records/export")
    assert answer.status_int == 303 and "/account/confirm" in answer.location


def test_care_that_ended_takes_nothing_along(portal, record):
    browser = portal.signed_in("doctor")
    assert browser.get(path_of(portal, record)).status_int == 200
    doctor = portal.person("doctor")
    with portal.session("hospital") as session, session.begin():
        kept = session.scalars(
            select(CareAssignment.until).where(CareAssignment.staff_id == doctor)
        ).all()
        session.execute(
            update(CareAssignment)
            .where(CareAssignment.staff_id == doctor)
            .values(until=CareAssignment.since)
        )
    browser.get(path_of(portal, record), status=404)
    assert browser.get(f"/patients/{portal.person('patient')}/records/export", status=404)
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(CareAssignment).where(CareAssignment.staff_id == doctor).values(until=kept[0])
        )


def test_the_command_checks_a_file_offline(portal, record, tmp_path: Path):
    file, ca = tmp_path / "records.pdf", tmp_path / "ca.crt"
    paper = portal.signed_in("patient").get(path_of(portal, record, "pdf"))
    file.write_bytes(paper.body)
    ca.write_bytes((portal.settings.home("hospital") / "pki" / "ca.crt").read_bytes())
    words = ["record", "verify", str(file), "--ca", str(ca)]
    result = CliRunner().invoke(main, [*words, "--show", "--extract", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    assert "RIGHT: 2026-02-05 hospital" in result.output and "COMPLETE" in result.output
    assert MARKER in result.output and "pages of a PDF are not signed" in result.output
    assert verify((tmp_path / "out.json").read_bytes(), trusted(portal)).is_right
