"""Registering patients, entering records, reading them, and damage that shows."""

import hashlib
import re
from datetime import date, timedelta

import pytest
from functional_helpers import page_text
from sqlalchemy import event, select, update

from medportal.core.clock import utcnow
from medportal.delivery.models import Outbox
from medportal.identity.models import Person
from medportal.pki.partners import restore_partner, revoke_partner
from medportal.records.models import Record, RecordVersion
from medportal.vault.models import Document

MARKER = "Zyxomorph fever of the left knee"


def enter_record(portal, role, tenant, **values):
    """Enter a record through the form; return (browser, page of the record)."""
    browser = portal.signed_in(role, tenant)
    patient = portal.person("patient", tenant)
    form = browser.get(f"/patients/{patient}/records/new").forms["form"]
    for name, value in values.items():
        form[name] = value
    answer = form.submit()
    assert answer.status_int == 303, page_text(answer)
    return browser, answer.follow()


def test_a_laboratory_record_is_signed_sealed_shown_and_queued(portal):
    browser, page = enter_record(
        portal,
        "responsible",
        "laboratory",
        effective="03/02/2026",
        **{"blood-pressure__systolic": "128", "blood-pressure__diastolic": "81"},
        **{"body-temperature": "37,2", "glucose": "180", "blood-type": "A+"},
    )
    text = page_text(page)
    assert "128" in text and "81" in text and "37.2" in text and "A+" in text
    assert "High" in text
    assert "The signature is right." in text
    assert "Waiting to be sent" in text
    with portal.session("laboratory") as session:
        queued = session.scalars(select(Outbox)).all()[-1]
        assert queued.partner == "hospital"
        stored = b"".join(session.scalars(select(Document.sealed)))
    assert b"37.2" not in stored and b"Amanda" not in queued.sealed


def test_the_patient_reads_it_at_the_laboratory(portal):
    enter_record(
        portal, "responsible", "laboratory", effective="04/02/2026", **{"body-temperature": "36.6"}
    )
    browser = portal.signed_in("patient", "laboratory")
    home = browser.get("/").follow()
    assert home.request.path == f"/patients/{portal.person('patient', 'laboratory')}"
    record = home.click("Laboratory results, 4 February 2026")
    assert "36.6" in page_text(record)


def test_a_doctor_adds_a_diagnosis_that_the_patient_reads(portal):
    enter_record(
        portal,
        "doctor",
        "hospital",
        effective="05/02/2026",
        height="171",
        weight="68.5",
        diagnosis=MARKER,
    )
    browser = portal.signed_in("patient")
    home = browser.get("/").follow()
    assert MARKER in page_text(home.click("Medical record, 5 February 2026"))


@pytest.mark.parametrize(
    "role", ["porter", "volunteer", "other_doctor", "admin", "ward_clerk", "clinical_assistant"]
)
def test_those_without_care_get_the_one_404(portal, role):
    _, page = enter_record(portal, "doctor", "hospital", effective="06/02/2026", notes="For few")
    path = page.request.path
    browser = portal.signed_in(role)
    hidden = browser.get(path, status=404)
    missing = browser.get(re.sub(r"/[0-9a-f]{32}$", "/" + "0" * 32, path), status=404)
    token = re.compile(r'value="[A-Za-z0-9_-]{43}"|/patients/[0-9a-f/]*')
    same = [token.sub("", a.text.replace(a.request.path, "")) for a in (hidden, missing)]
    assert same[0] == same[1]
    assert "For few" not in hidden.text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "Enter at least one value or text."),
        ({"body-temperature": "98"}, "Check this value: possible are"),
        ({"body-temperature": "<37"}, "without a sign"),
        ({"body-temperature": "warm"}, "Enter a number"),
        ({"body-temperature": "NaN"}, "Enter a number"),
        ({"body-temperature": "1e400"}, "Enter a number"),
        ({"effective": "31/02/2026", "body-temperature": "37"}, "Enter a date"),
        ({"effective": "01/01/2999", "body-temperature": "37"}, "in the future"),
        ({"effective": "01/01/1950", "body-temperature": "37"}, "before the patient was born"),
        ({"blood-pressure__systolic": "80", "blood-pressure__diastolic": "120"}, "below"),
        ({"blood-pressure__systolic": "120"}, "Enter a value, or empty the other part"),
        ({"notes": "right\u202eto left"}, "signs that cannot be printed"),
        ({"notes": "x" * 8001}, "at most 8000"),
    ],
)
def test_bad_values_are_told_and_nothing_typed_is_lost(portal, values, words):
    browser = portal.signed_in("responsible", "laboratory")
    patient = portal.person("patient", "laboratory")
    form = browser.get(f"/patients/{patient}/records/new").forms["form"]
    form["effective"] = "03/02/2026"
    for name, value in values.items():
        form[name] = value
    with portal.session("laboratory") as session:
        before = len(session.scalars(select(Record.id)).all())
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    assert words in answer.text
    for name, value in values.items():
        assert answer.forms["form"][name].value == value
    with portal.session("laboratory") as session:
        assert len(session.scalars(select(Record.id)).all()) == before


@pytest.mark.parametrize("what", ["document", "document-and-pin", "content-pin"])
def test_a_changed_byte_is_said_and_nothing_is_shown(portal, what):
    _, page = enter_record(portal, "doctor", "hospital", effective="07/02/2026", notes=MARKER)
    record_id = page.request.path.rsplit("/", 1)[1]
    with portal.session("hospital") as session, session.begin():
        version = session.scalars(
            select(RecordVersion).where(RecordVersion.record_id == record_id)
        ).one()
        if what == "content-pin":
            version.content_digest = b"\0" * 32
        else:
            document = session.get(Document, version.document_id)
            changed = bytearray(document.sealed)
            changed[-20] ^= 1
            session.execute(
                update(Document).where(Document.id == document.id).values(sealed=bytes(changed))
            )
            if what == "document-and-pin":
                version.document_digest = hashlib.sha256(bytes(changed)).digest()
    browser = portal.signed_in("patient")
    answer = browser.get(page.request.path)
    assert "This record cannot be trusted" in answer.text
    assert MARKER not in answer.text
    assert "The signature is right." not in answer.text
    assert ("record-read", "failed") in {e[:2] for e in portal.events("hospital")}


def test_another_patients_document_does_not_open(portal):
    """A document swapped with that of another record is refused."""
    _, one = enter_record(portal, "doctor", "hospital", effective="08/02/2026", notes="Mine")
    _, other = enter_record(portal, "doctor", "hospital", effective="08/02/2026", notes="Other")
    ids = [page.request.path.rsplit("/", 1)[1] for page in (one, other)]
    with portal.session("hospital") as session, session.begin():
        first, second = (
            session.scalars(select(RecordVersion).where(RecordVersion.record_id == i)).one()
            for i in ids
        )
        first.document_digest, first.content_digest = second.document_digest, second.content_digest
        wanted, second.document_id = second.document_id, "f" * 32
        session.flush()
        first.document_id = wanted
    browser = portal.signed_in("patient")
    answer = browser.get(one.request.path)
    assert "This record cannot be trusted" in answer.text
    assert "Other" not in page_text(answer)


def test_reading_is_in_the_audit_log_with_its_reason(portal):
    _, page = enter_record(portal, "nurse", "hospital", effective="09/02/2026", notes="Logged")
    portal.signed_in("patient").get(page.request.path)
    reads = [e for e in portal.events("hospital") if e[0] == "record-read"]
    patient = portal.person("patient")
    assert reads[-1] == ("record-read", "allowed", patient, patient)


def test_no_audit_no_read(portal, monkeypatch):
    _, page = enter_record(portal, "doctor", "hospital", effective="10/02/2026", notes=MARKER)
    browser = portal.signed_in("patient")

    def broken(session, event):
        raise OSError("the disk is full")

    monkeypatch.setattr("medportal.audit.requests.append_all", broken)
    answer = browser.get(page.request.path, expect_errors=True)
    assert answer.status_int == 500
    assert MARKER not in answer.text and "disk" not in answer.text


def test_a_ward_clerk_registers_somebody_who_then_activates(portal):
    clerk = portal.signed_in("ward_clerk")
    form = clerk.get("/patients/register").forms["form"]
    form["number"] = "4455 6677"
    form["name"] = "  Zulmira   do Amaral "
    form["day"], form["month"], form["year"] = "9", "3", "1944"
    form["sex"] = "female"
    form["ward"] = "Maternity"
    done = form.submit()
    code = done.html.find(id="activation-code").get_text(strip=True)
    patient = portal.browser()
    form = patient.get("/activate").forms["form"]
    form["number"], form["code"] = "44556677", code.lower().replace("-", " ")
    form["new"] = form["again"] = "five cats under one table"
    assert form.submit().status_int == 303
    assert patient.sign_in("44556677", "five cats under one table").status_int == 303
    assert "Zulmira do Amaral" in page_text(patient.get("/").follow())
    again = portal.browser().get("/activate").forms["form"]
    again["number"], again["code"] = "44556677", code
    again["new"] = again["again"] = "another password for the thief"
    answer = again.submit(expect_errors=True)
    assert answer.status_int == 422 and "do not fit together" in answer.text


def test_registering_somebody_known_touches_nothing_but_the_role(portal):
    clerk = portal.signed_in("ward_clerk")
    form = clerk.get("/patients/register").forms["form"]
    form["number"] = "17564920"
    form["name"] = "Person Porter"
    form["day"], form["month"], form["year"] = "2", "2", "1980"
    form["sex"] = "male"
    wrong = form.submit(expect_errors=True)
    assert wrong.status_int == 422 and "under another name or date of birth" in wrong.text
    form["day"] = "3"
    done = form.submit()
    # The porter's account gave no record until now: it begins anew, and not by the clerk alone.
    assert done.html.find(id="activation-code") is None
    assert "This person has a role here already" in done.text
    with portal.session("hospital") as session:
        person = session.get(Person, portal.person("porter"))
        assert person.name == "Person porter"
    again = clerk.get("/patients/register").forms["form"]
    again["number"] = "17564920"
    again["name"] = "Another Name"
    again["day"], again["month"], again["year"] = "1", "1", "1970"
    again["sex"] = "male"
    assert "registered as a patient already" in again.submit(expect_errors=True).text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("number", "1234567", "Enter the 8 digits"),
        ("number", "00000000", "Enter the 8 digits"),
        ("number", "1234567a", "Enter the 8 digits"),
        ("name", "1234", "whole name"),
        ("name", "Ana\u202e Maria", "whole name"),
        ("email", "nobody", "not an email address"),
        ("email", "a@b.pt\r\nBcc: x@y.pt", ""),
        ("year", "2999", "in the future"),
        ("month", "13", ""),
    ],
)
def test_clumsy_registrations_are_explained(portal, field, value, words):
    clerk = portal.signed_in("ward_clerk")
    form = clerk.get("/patients/register").forms["form"]
    form["number"], form["name"] = "55667788", "Zulmira do Amaral"
    form["day"], form["month"], form["year"] = "9", "3", "1944"
    form["sex"] = "female"
    form[field] = value
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    assert words in answer.text


def test_assignment_gives_access_and_its_end_takes_it(portal):
    _, page = enter_record(portal, "doctor", "hospital", effective="11/02/2026", notes="Later")
    other, clerk = portal.signed_in("other_doctor"), portal.signed_in("ward_clerk")
    patient = portal.person("patient")
    other.get(page.request.path, status=404)
    form = clerk.get(f"/patients/{patient}/care").forms["form"]
    form["staff"] = portal.person("other_doctor")
    form["kind"] = "team"
    assert form.submit().status_int == 303
    assert "Later" in other.get(page.request.path).text
    care = clerk.get(f"/patients/{patient}/care")
    item = next(li for li in care.html.select("li.card") if "other_doctor" in li.text)
    clerk.post(item.find("form")["action"], {}, status=303)
    other.get(page.request.path, status=404)


def test_nobody_assigns_themselves(portal):
    clerk = portal.signed_in("ward_clerk")
    patient = portal.person("patient")
    answer = clerk.post(
        f"/patients/{patient}/care",
        {"staff": portal.person("ward_clerk"), "kind": "team", "__formid__": "form"},
        expect_errors=True,
    )
    assert answer.status_int == 422


def test_staff_who_are_patients_see_their_own_record_as_patients_only(portal):
    """The porter was registered as a patient above; the doctor is now put through it whole."""
    clerk = portal.signed_in("ward_clerk")
    form = clerk.get("/patients/register").forms["form"]
    form["number"], form["name"] = "19573526", "Person doctor"
    form["day"], form["month"], form["year"], form["sex"] = "3", "2", "1980", "female"
    form.submit()
    doctor_id = portal.person("doctor")
    answer = clerk.post(
        f"/patients/{doctor_id}/care",
        {"staff": doctor_id, "kind": "treating"},
        expect_errors=True,
    )
    assert "Nobody looks after themselves" in answer.text
    doctor = portal.signed_in("doctor")
    own = doctor.get(f"/patients/{doctor_id}")
    assert "New record" not in own.text
    doctor.get(f"/patients/{doctor_id}/records/new", status=404)


def test_what_is_hidden_shows_in_no_list_no_count_and_no_address(portal):
    """A nurse's timeline is filled with what she may read; the next page's key is of that."""
    browser = portal.signed_in("doctor")
    patient = portal.person("patient")
    with portal.session("hospital") as session, session.begin():
        for number in range(30):
            record_id = f"{number:032x}"
            session.add(
                Record(
                    id=record_id,
                    patient_id=patient,
                    origin="hospital",
                    origin_record_id=record_id,
                    kind="medical",
                    category="mental-health" if number % 3 == 0 else "clinical-note",
                    effective_on=date(2025, 1, 1) + timedelta(days=number),
                    local_author_id=None,
                    current_version=1,
                    status="final",
                    created_at=utcnow(),
                )
            )
            session.flush()
            session.add(
                RecordVersion(
                    record_id=record_id,
                    version=1,
                    document_id=f"{number + 4096:032x}",
                    document_digest=b"d" * 32,
                    content_digest=b"c" * 32,
                    category="clinical-note",
                    status="final",
                    effective_on=date(2025, 1, 1) + timedelta(days=number),
                    created_at=utcnow(),
                )
            )
    hidden = {f"{number:032x}" for number in range(0, 30, 3)}

    def walk(browser):
        page, texts, sizes = browser.get(f"/patients/{patient}"), "", []
        while True:
            texts += page.text
            sizes.append(len(page.html.select("ul.cards li")))
            if page.html.find("a", rel="next") is None:
                return texts, sizes
            page = page.click("Older records")

    seen_by_nurse, sizes = walk(portal.signed_in("nurse"))
    assert not [record_id for record_id in hidden if record_id in seen_by_nurse]
    assert set(sizes[:-1]) == {20}
    seen_by_doctor, _ = walk(browser)
    assert all(record_id in seen_by_doctor for record_id in hidden)


def test_the_timeline_costs_the_same_for_one_record_and_for_many(portal):
    """Deliveries are asked for in one query, not one a record."""
    browser = portal.signed_in("responsible", "laboratory")
    path = f"/patients/{portal.person('patient', 'laboratory')}"
    engine = portal.app.registry["tenants"].database("laboratory").engine
    statements = []
    listener = lambda *args: statements.append(args[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listener)
    try:
        browser.get(path)
    finally:
        event.remove(engine, "before_cursor_execute", listener)
    assert sum("FROM outbox" in statement for statement in statements) == 1


def test_the_same_form_sent_twice_is_one_record(portal):
    browser = portal.signed_in("doctor")
    form = browser.get(f"/patients/{portal.person('patient')}/records/new").forms["form"]
    form["effective"], form["notes"] = "12/02/2026", "Once"
    first, second = form.submit(), form.submit()
    assert first.status_int == second.status_int == 303
    assert first.location == second.location
    with portal.session("hospital") as session:
        found = session.scalars(select(Record).where(Record.effective_on == date(2026, 2, 12)))
        assert len(found.all()) == 1


def test_an_index_that_says_other_than_what_is_signed_is_not_believed(portal):
    """With the database in hand somebody makes a record ordinary that is not, or redates it."""
    _, page = enter_record(portal, "doctor", "hospital", effective="13/02/2026", notes=MARKER)
    record_id = page.request.path.rsplit("/", 1)[1]
    with portal.session("hospital") as session, session.begin():
        session.get(Record, record_id).category = "vital-signs"
    answer = portal.signed_in("nurse").get(page.request.path)
    assert "This record cannot be trusted" in answer.text and MARKER not in answer.text


def test_a_revoked_partner_stops_no_entry_and_is_told(portal):
    pki = portal.keys("laboratory").places.pki
    revoke_partner(pki, "hospital", utcnow(), "test")
    try:
        _, page = enter_record(
            portal, "responsible", "laboratory", effective="14/02/2026", notes="Kept here"
        )
        assert "was not sent there" in page_text(page) and "Kept here" in page_text(page)
    finally:
        restore_partner(pki, "hospital")


def test_pages_about_a_patient_are_audited(portal):
    clerk, doctor = portal.signed_in("ward_clerk"), portal.signed_in("doctor")
    patient = portal.person("patient")
    for browser, path in ((clerk, "care"), (doctor, "records/new")):
        before = len(portal.events("hospital"))
        browser.get(f"/patients/{patient}/{path}")
        fresh = portal.events("hospital")[before:]
        assert ("patient-viewed", "allowed", patient) in [(a, o, p) for a, o, _, p in fresh]
