"""Taking records along: whose records go into a file, who is told, and that the file is right."""

import io
import json
import re
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pypdf
import pytest
from admin_helpers import employ
from click.testing import CliRunner
from fhir.resources.R4B.bundle import Bundle
from functional_helpers import page_text
from sqlalchemy import delete, select, update
from timeline_helpers import file
from version_helpers import amend, entered, retract

from medportal.access.care import assign
from medportal.access.decisions import decide
from medportal.access.facts import asker_facts
from medportal.access.grants import mint
from medportal.access.models import BrokenGlass, CareAssignment, CareKind, PatientRule
from medportal.access.question import PatientFacts
from medportal.access.resources import why_of
from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.cli import main
from medportal.core.categories import Category
from medportal.core.clock import utcnow
from medportal.core.identity import Identity
from medportal.core.ids import new_id
from medportal.core.permissions import Permission
from medportal.db import Base
from medportal.exports import service
from medportal.exports.verify import Authority, verify
from medportal.records import store
from medportal.records.models import Record, RecordVersion
from medportal.vault.models import Document
from medportal.vault.stores import documents_of

MARKER = "Zyxomorph fever of the left knee"
SECRET = "Quixotic melancholy"


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


def path_of(portal, record, tenant="hospital"):
    return f"/patients/{portal.person('patient', tenant)}/records/{record}/file"


def take(browser, path, kind="json", language="en"):
    """Ask for a file by what the form sends, whatever the answer is."""
    fields = {"__formid__": "form", "format": kind, "language": language}
    return browser.post(path, fields, expect_errors=True)


def file_of(browser, portal, record, kind="json", language="en"):
    """Take one record along through its page."""
    form = browser.get(path_of(portal, record)).forms["form"]
    form["format"], form["language"] = kind, language
    return form.submit()


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
    answer = file_of(portal.signed_in("patient"), portal, record)
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
    answer = file_of(browser, portal, record, "pdf", language)
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
        assert (f"/records/{record}/file" in shown) is offered, role
    page = portal.signed_in("patient").get(f"/patients/{patient}").click("Take records along")
    assert page.request.path.endswith("/records/export")


@pytest.mark.parametrize(
    "role",
    ["nurse", "other_doctor", "porter", "ward_clerk", "admin", "privacy_officer", "volunteer"],
)
def test_others_get_the_one_404(portal, record, role):
    browser = portal.signed_in(role)
    before = len(exported(portal))
    for path in (path_of(portal, record), f"/patients/{portal.person('patient')}/records/export"):
        assert MARKER not in browser.get(path, status=404).text
        denied = take(browser, path)
        assert denied.status_int == 404 and MARKER not in denied.text
    assert len(exported(portal)) == before


def test_another_institutions_patient_and_a_strange_address_are_404(portal, record):
    browser = portal.signed_in("patient")
    other = portal.signed_in("patient", "laboratory")
    other.get(path_of(portal, record), status=404)
    other.get(path_of(portal, record, tenant="laboratory"), status=404)
    browser.get(path_of(portal, "0" * 32), status=404)
    assert take(browser, path_of(portal, "0" * 32)).status_int == 404
    assert take(browser, path_of(portal, record), "exe").status_int == 422
    assert take(browser, path_of(portal, record), language="../en").status_int == 422
    assert "Bundle" not in browser.get(path_of(portal, record), params={"format": "json"}).text
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
    report = verify(file_of(patient, portal, record_id).body, trusted(portal))
    assert report.is_right
    said = [(one.reading.record.version, one.reading.record.notes) for one in report.records]
    assert said == [(1, "The first words."), (2, "The second words.")]
    text = printed(file_of(patient, portal, record_id, "pdf"))
    assert "The second words." in text and "The first words." not in text
    assert "Corrected: this replaces" in text and "A slip of the pen." in text


def test_of_what_was_taken_back_nothing_older_goes_along(portal, record):
    """What it said before may be about somebody else."""
    path = entered(portal, weight="68.5", notes="About somebody else.")
    doctor = portal.signed_in("doctor")
    assert amend(doctor, path, notes="Still about them.").status_int == 303
    assert retract(doctor, path, "Another patient's.").status_int == 303
    record_id = path.rsplit("/", 1)[1]
    for browser in (portal.signed_in("patient"), doctor):
        answer = file_of(browser, portal, record_id)
        Bundle.model_validate_json(answer.body)
        report = verify(answer.body, trusted(portal))
        (only,) = report.records
        assert report.is_right and only.reading.record.version == 3
        assert b"bout " not in answer.body
        paper = file_of(browser, portal, record_id, "pdf")
        assert "Taken back: this record should never have been made" in printed(paper)
        assert "Another patient's." in printed(paper)
        (inside,) = pypdf.PdfReader(io.BytesIO(paper.body)).attachments["records.json"]
        assert len(verify(inside, trusted(portal)).records) == 1
        everything = verify(ask(browser, portal, format="json").body, trusted(portal))
        held = [one.reading.record for one in everything.records]
        assert [one.version for one in held if one.id == record_id] == [3]


def test_a_shorter_time_leaves_out_what_is_older(portal, record):
    old = enter(portal, "doctor", "hospital", effective="07/03/2015", height="170")
    browser = portal.signed_in("patient")
    everything = verify(ask(browser, portal, format="json").body, trusted(portal))
    lately = verify(ask(browser, portal, format="json", span="1").body, trusted(portal))
    held = [{one.reading.record.id for one in found.records} for found in (everything, lately)]
    assert old in held[0] and old not in held[1] and record in held[1]


@pytest.fixture
def secretly(portal):
    """File records with a secret in them, which go when the test is over."""
    made = []

    def filed(category, author="doctor"):
        made.append(file(portal, date(2026, 2, 9), category=category, author=author, notes=SECRET))
        return made[-1]

    yield filed
    with portal.session("hospital") as session, session.begin():
        for each in made:
            forget(session, each)


@pytest.fixture
def sensitive(secretly):
    """A record of a sensitive category, by somebody else than who asks below."""
    return secretly(Category.MENTAL_HEALTH)


@pytest.fixture
def team_doctor(portal):
    """Somebody who looks after the patient, and treats them not."""
    doctor = employ(portal, "doctor", name="Tomé Vaz")
    with portal.session("hospital") as session, session.begin():
        assign(
            session,
            patient_id=portal.person("patient"),
            staff_id=doctor.id,
            kind=CareKind.TEAM,
            assignable_roles=("doctor",),
            treating_roles=("doctor",),
            by=None,
            now=utcnow(),
        )
    return doctor


def break_glass(portal, doctor):
    """Take both steps, whatever it leads to."""
    patient, now = portal.person("patient"), utcnow()
    with portal.session("hospital") as session, session.begin():
        for step in (False, True):
            session.add(
                BrokenGlass(
                    id=new_id(),
                    patient_id=patient,
                    staff_id=doctor.id,
                    sensitive=step,
                    reason="emergency",
                    text=b"",
                    since=now,
                    until=now + timedelta(hours=1),
                )
            )


def nothing_of(portal, browser, record_id, readable):
    """Tell that a record goes into no file, though it can (or cannot) be read."""
    page = browser.get(f"/patients/{portal.person('patient')}/records/{record_id}", status="*")
    assert (page.status_int == 200) is readable
    if readable:
        assert SECRET in page.text and f"{record_id}/file" not in page.text
    before = len(exported(portal))
    path = path_of(portal, record_id)
    browser.get(path, status=404)
    assert take(browser, path).status_int == 404
    answer = ask(browser, portal, format="json")
    assert answer.status_int == 200
    assert record_id.encode() not in answer.body and SECRET.encode() not in answer.body
    # Nothing tells that something was left out.
    kinds = {one["resource"]["resourceType"] for one in json.loads(answer.body)["entry"]}
    assert "OperationOutcome" not in kinds
    assert record_id not in {event.object for event in exported(portal)[before:]}


def test_a_sensitive_record_stays_out_of_the_file_of_a_doctor(
    portal, record, sensitive, team_doctor
):
    browser = team_doctor.signed_in()
    assert file_of(browser, portal, record).status_int == 200
    nothing_of(portal, browser, sensitive, readable=False)
    # Whom the patient's treating doctor is, and the patient, it goes along with.
    for role in ("doctor", "patient"):
        answer = file_of(portal.signed_in(role), portal, sensitive)
        assert verify(answer.body, trusted(portal)).is_right and SECRET.encode() in answer.body


def test_what_broken_glass_opens_is_not_taken_along(portal, record, sensitive, team_doctor):
    """Care lets them take the rest along; the glass lets them read alone."""
    break_glass(portal, team_doctor)
    browser = team_doctor.signed_in()
    nothing_of(portal, browser, sensitive, readable=True)
    assert record.encode() in ask(browser, portal, format="json").body


@pytest.mark.parametrize("with_glass", [False, True])
def test_what_the_patient_blocks_is_not_taken_along(
    portal, record, secretly, team_doctor, with_glass
):
    blocked = secretly(Category.LABORATORY)
    rule = PatientRule(
        id=new_id(),
        patient_id=portal.person("patient"),
        effect="block",
        whom="person",
        whom_id=team_doctor.id,
        what="record",
        what_id=blocked,
        since=utcnow(),
        made_at=utcnow(),
        made_by=portal.person("patient"),
    )
    with portal.session("hospital") as session, session.begin():
        session.add(rule)
    if with_glass:
        break_glass(portal, team_doctor)
    nothing_of(portal, team_doctor.signed_in(), blocked, readable=with_glass)


def test_who_wrote_a_record_reads_it_and_does_not_take_it_along(
    portal, record, secretly, team_doctor
):
    portal.ids["hospital", "writer"] = team_doctor.id
    own = secretly(Category.GENETICS, author="writer")
    nothing_of(portal, team_doctor.signed_in(), own, readable=True)


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
    one = take(browser, path_of(portal, record))
    assert one.status_int == 429
    assert one.headers["Retry-After"] == "3600" and "within an hour" in page_text(one)
    assert told(exported(portal)[-1:]) == [("denied", record, None)]
    monkeypatch.setattr(service, "FILES_AN_HOUR", 10_000)
    monkeypatch.setattr(service, "RECORDS_AN_HOUR", 1)
    assert take(browser, path_of(portal, record)).status_int == 429
    # Somebody else is not kept waiting by that.
    monkeypatch.setattr(service, "RECORDS_AN_HOUR", 2_000)
    assert file_of(portal.signed_in("doctor"), portal, record).status_int == 200


def test_too_many_for_a_paper_is_told(portal, record, monkeypatch):
    monkeypatch.setattr(service, "MOST_ON_PAPER", 1)
    browser = portal.signed_in("patient")
    refused = ask(browser, portal, format="pdf")
    assert refused.status_int == 422
    assert "more than 1 records" in page_text(refused)
    assert ask(browser, portal, format="json").status_int == 200
    monkeypatch.setattr(service, "MOST_VERSIONS", 1)
    assert ask(browser, portal, format="json").status_int == 422


def test_one_record_of_too_many_versions_is_told(portal, record, monkeypatch):
    path = entered(portal, weight="68.5", notes="The first words.")
    doctor = portal.signed_in("doctor")
    assert amend(doctor, path, notes="The second words.").status_int == 303
    record_id = path.rsplit("/", 1)[1]
    before = len(exported(portal))
    monkeypatch.setattr(service, "MOST_VERSIONS", 1)
    for kind in ("json", "pdf"):
        refused = take(doctor, path_of(portal, record_id), kind)
        assert refused.status_int == 422
        assert "more than 1 versions" in page_text(refused)
    assert told(exported(portal)[before:]) == [("denied", record_id, None)] * 2
    monkeypatch.setattr(service, "MOST_VERSIONS", 2)
    assert len(verify(file_of(doctor, portal, record_id).body, trusted(portal)).records) == 2


@pytest.mark.parametrize(("limit", "value"), [("VERSIONS", 1), ("BYTES", 3_000)])
def test_a_paper_holds_so_many_versions_and_bytes_and_no_more(
    portal, record, monkeypatch, limit, value
):
    path = entered(portal, weight="68.5", notes="x" * 2_000)
    doctor = portal.signed_in("doctor")
    assert amend(doctor, path, notes="y" * 2_000).status_int == 303
    record_id = path.rsplit("/", 1)[1]
    monkeypatch.setattr(service, f"MOST_{limit}_ON_PAPER", value)
    before = len(exported(portal))
    for answer in (
        take(doctor, path_of(portal, record_id), "pdf"),
        ask(doctor, portal, format="pdf"),
    ):
        assert answer.status_int == 422
        assert "This is too much for a PDF. Choose FHIR." in page_text(answer)
    assert told(exported(portal)[before:]) == [("denied", record_id, None), ("denied", None, None)]
    assert verify(file_of(doctor, portal, record_id).body, trusted(portal)).is_right


class Watched:
    """A database that knows how many of its readers are open, and how often one was opened."""

    def __init__(self, database):
        self.database, self.now, self.ever = database, 0, 0

    def __getattr__(self, name):
        return getattr(self.database, name)

    @contextmanager
    def reader(self):
        self.now, self.ever = self.now + 1, self.ever + 1
        try:
            with self.database.reader() as session:
                yield session
        finally:
            self.now -= 1


@pytest.fixture
def many(portal):
    """More versions than are read at once, several of them of one record."""
    ids = [file(portal, date(2014, 1, day), notes=f"Visit {day}") for day in range(1, 8)]
    yield ids
    with portal.session("hospital") as session, session.begin():
        for each in ids:
            forget(session, each)


def packed(portal):
    """Return a packing, what everything of the patient comes to, and the database watched."""
    tenant, patient = portal.settings.tenant("hospital"), portal.person("patient")
    keys = portal.keys("hospital")
    with portal.session("hospital") as session:
        entries = store.timeline(session, patient, limit=1_000)
    who = Identity(patient, "hospital", frozenset({"patient"}), "s", utcnow())
    facts = replace(asker_facts(tenant, who), patient=PatientFacts(patient, True, True))
    decision = decide(who, facts, utcnow())
    picked = [
        service.Picked(
            entry,
            mint(who, decision, Permission.RECORD_READ, patient, utcnow(), entry.id),
            why_of(decision, Permission.RECORD_EXPORT),
        )
        for entry in entries
    ]
    return service.Packing(keys, utcnow()), picked, Watched(portal.registry.database("hospital"))


def test_nothing_is_held_open_while_a_file_is_taken_and_reading_goes_in_batches(
    portal, record, many, monkeypatch
):
    monkeypatch.setattr(service, "BATCH", 4)
    packing, picked, watched = packed(portal)

    @contextmanager
    def source():
        with watched.reader() as session:
            yield session, documents_of(portal.settings.tenant("hospital"), session)

    count = 0
    for count, _opened in enumerate(packing.opened(source, picked), 1):  # noqa: B007
        assert watched.now == 0
    assert count == len(picked) > 7
    assert watched.ever == -(-count // 4)
    assert [one.record_id for one in packing.listed] == [one.entry.id for one in picked]


def test_what_is_sealed_anew_while_a_file_is_taken_goes_along_all_the_same(portal, record, many):
    packing, picked, watched = packed(portal)
    with portal.session("hospital") as session, session.begin():
        moved = session.get(RecordVersion, (many[0], 1))
        old = session.get(Document, moved.document_id)
        session.add(Document(id=new_id(), sealed=old.sealed, created_at=old.created_at))
        session.flush()
        fresh = session.scalars(
            select(Document.id).where(Document.sealed == old.sealed, Document.id != old.id)
        ).one()
        moved.document_id = fresh
        session.delete(old)

    @contextmanager
    def source():
        with watched.reader() as session:
            yield session, documents_of(portal.settings.tenant("hospital"), session)

    ids = [one.entry.id for one in packing.opened(source, picked)]
    assert many[0] in ids and not packing.damaged


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
    everything = f"/patients/{portal.person('patient')}/records/export"
    for path in (path_of(portal, record), everything):
        answer = browser.get(path)
        assert answer.status_int == 303 and "/account/confirm" in answer.location
    # A form that was open stays good a little longer.
    assert take(browser, path_of(portal, record)).content_type == "application/fhir+json"
    clock.now += timedelta(minutes=20)
    before = len(exported(portal))
    for path in (path_of(portal, record), everything):
        answer = take(browser, path)
        assert answer.status_int == 303 and "/account/confirm" in answer.location
    assert len(exported(portal)) == before


def test_care_that_ended_takes_nothing_along(portal, record):
    browser = portal.signed_in("doctor")
    assert file_of(browser, portal, record).status_int == 200
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
    assert take(browser, path_of(portal, record)).status_int == 404
    assert browser.get(f"/patients/{portal.person('patient')}/records/export", status=404)
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(CareAssignment).where(CareAssignment.staff_id == doctor).values(until=kept[0])
        )


def test_the_command_checks_a_file_offline(portal, record, tmp_path: Path):
    file, ca = tmp_path / "records.pdf", tmp_path / "ca.crt"
    paper = file_of(portal.signed_in("patient"), portal, record, "pdf")
    file.write_bytes(paper.body)
    ca.write_bytes((portal.settings.home("hospital") / "pki" / "ca.crt").read_bytes())
    words = ["record", "verify", str(file), "--ca", str(ca)]
    result = CliRunner().invoke(main, [*words, "--show", "--extract", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    assert "RIGHT: 2026-02-05 hospital" in result.output and "COMPLETE" in result.output
    assert MARKER in result.output and "pages of a PDF are not signed" in result.output
    assert verify((tmp_path / "out.json").read_bytes(), trusted(portal)).is_right
