"""What each role may know of an assigned patient: exactly so much, on the list and on the page.

The table is written by hand from the model of access, not derived from the catalogue.
"""

from datetime import timedelta

import pytest
from care_helpers import (
    ALLERGIES,
    DIET,
    TRANSPORT,
    new_patient,
    new_staff,
    note_needs,
    put_in_charge,
)
from functional_helpers import page_text
from sqlalchemy import select

from medportal.access.models import CareKind, PatientRule
from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.identity.models import LoginSession
from medportal.records.models import Record

NAME, WARD, BED = "Zulmira Quaresma", "Orthopaedics", "BED-77"
BORN, NUMBER, PHONE = "5 April 1951", "61000001", "+351 900 123 987"
DIAGNOSIS, NOTES = "Zyxomorph fever", "Slept little"
TEMPERATURE, PULSE = "38.4", "97"
EVERYTHING = {
    "name": NAME,
    "ward": WARD,
    "bed": BED,
    "transport": TRANSPORT,
    "diet": DIET,
    "allergies": ALLERGIES,
    "temperature": f"{TEMPERATURE} °C",
    "pulse": f"{PULSE} /min",
    "born": BORN,
    "number": NUMBER,
    "phone": PHONE,
    "diagnosis": DIAGNOSIS,
    "notes": NOTES,
    "category": "Medical record",
}
PORTER = {"name", "ward", "bed", "transport"}
ASSISTANT = PORTER | {"diet", "allergies"}
DETAILS = ASSISTANT | {"born", "number", "phone"}
ON_THE_PAGE = {
    "volunteer": {"name", "ward"},
    "porter": PORTER,
    "patient_assistant": ASSISTANT,
    "clinical_assistant": ASSISTANT | {"temperature", "pulse"},
    # Who may read the records sees the first line and what is not as usual on the cards.
    "nurse": DETAILS | {"category", "diagnosis", "temperature"},
    "doctor": DETAILS | {"category", "diagnosis", "temperature"},
    "ward_clerk": DETAILS,
}
ON_THE_LIST = {
    "volunteer": {"name", "ward"},
    "porter": PORTER,
    "patient_assistant": ASSISTANT,
    "clinical_assistant": ASSISTANT,
    "nurse": ASSISTANT | {"born"},
    "doctor": ASSISTANT | {"born"},
}


def enter(browser, patient, **values):
    """Enter a record through the form; return its id."""
    form = browser.get(f"/patients/{patient}/records/new").forms["form"]
    for name, value in values.items():
        form[name.replace("_", "-")] = value
    answer = form.submit()
    assert answer.status_int == 303
    return answer.location.rsplit("/", 1)[1]


@pytest.fixture(scope="module")
def ward(portal):
    """Give a patient with everything, and for each role a browser of somebody assigned."""
    patient = new_patient(portal, NAME, WARD, BED, number=NUMBER, phone=PHONE)
    note_needs(portal, patient)
    browsers = {}
    for role in ("doctor", "nurse", "porter", "volunteer", "patient_assistant"):
        staff, browsers[role] = new_staff(portal, role, f"Summary {role}")
        kind = CareKind.TREATING if role == "doctor" else CareKind.TEAM
        put_in_charge(portal, patient, staff, kind=kind)
    staff, browsers["clinical_assistant"] = new_staff(portal, "clinical_assistant", "Summary CA")
    put_in_charge(portal, patient, staff)
    browsers["ward_clerk"] = portal.signed_in("ward_clerk")
    doctor = browsers["doctor"]
    enter(doctor, patient, effective="03/02/2026", body_temperature="36.1", heart_rate=PULSE)
    newest = {"body_temperature": TEMPERATURE, "diagnosis": DIAGNOSIS, "notes": NOTES}
    record = enter(doctor, patient, effective="04/02/2026", **newest)
    return patient, browsers, record


def shown(text):
    """Return which of everything stands on a page."""
    return {what for what, words in EVERYTHING.items() if words in text}


@pytest.mark.parametrize("role", sorted(ON_THE_PAGE))
def test_the_page_of_one_patient(portal, ward, role):
    patient, browsers, _record = ward
    page = browsers[role].get(f"/patients/{patient}")
    # Hidden words are not in the source either.
    assert shown(page.text) == shown(page_text(page)) == ON_THE_PAGE[role]


@pytest.mark.parametrize("role", sorted(ON_THE_LIST))
def test_the_cards_are_where_one_starts(portal, ward, role):
    _patient, browsers, _record = ward
    page = browsers[role].get("/").follow()
    if role in {"doctor", "nurse"}:
        # What is new comes first for them.
        assert page.request.path == "/results"
        page = browsers[role].get("/patients")
    assert page.request.path == "/patients"
    assert "My patients" in page_text(page)
    assert shown(page.text) == ON_THE_LIST[role]


@pytest.mark.parametrize("role", ["volunteer", "porter", "patient_assistant", "clinical_assistant"])
def test_no_way_leads_on_to_the_record(portal, ward, role):
    patient, browsers, record = ward
    browser = browsers[role]
    page = browser.get(f"/patients/{patient}")
    assert "/records/" not in page.text and "What you can do here" not in page.text
    for path in (
        f"/patients/{patient}/records/{record}",
        f"/patients/{patient}/records/new",
        f"/patients/{patient}/support",
        f"/patients/{patient}/care",
        f"/patients/{patient}/admission",
        f"/patients/{patient}/discharge",
        f"/patients/{patient}/details",
        f"/patients/{patient}/representatives",
    ):
        browser.get(path, status=404)


def test_the_newest_value_of_each_sign_counts(portal, ward):
    patient, browsers, _record = ward
    text = page_text(browsers["clinical_assistant"].get(f"/patients/{patient}"))
    assert "36.1" not in text
    assert "4 February 2026" in text and "3 February 2026" in text


def events_of(portal, patient, actor=None):
    with portal.session("hospital") as session:
        query = select(AuditEvent).where(AuditEvent.patient == patient)
        if actor:
            query = query.where(AuditEvent.actor == actor)
        return session.scalars(query.order_by(AuditEvent.at, AuditEvent.id)).all()


def test_looking_at_vital_signs_is_told_for_each_record(portal, ward):
    patient, browsers, record = ward
    staff, browser = new_staff(portal, "clinical_assistant", "Told CA")
    put_in_charge(portal, patient, staff)
    browser.get(f"/patients/{patient}")
    events = events_of(portal, patient, staff)
    reads = [e for e in events if e.action == "record-read"]
    assert len(reads) == 2 and record in {e.object for e in reads}
    assert {e.action for e in events} == {"patient-viewed", "record-read"}


def test_a_list_with_words_about_health_is_told_of_each_patient(portal, ward):
    patient, _browsers, _record = ward
    porter, browser = new_staff(portal, "porter", "Told porter")
    volunteer, other = new_staff(portal, "volunteer", "Told volunteer")
    for staff in (porter, volunteer):
        put_in_charge(portal, patient, staff)
    browser.get("/patients")
    other.get("/patients")
    assert [e.action for e in events_of(portal, patient, porter)] == ["patient-viewed"]
    assert events_of(portal, patient, volunteer) == []


def test_a_list_that_says_of_nobody_that_anything_is_noted_is_told_too(portal):
    """Whoever reads that there is no allergy has learnt it."""
    patient = new_patient(portal, "Nothing Noted")
    porter, browser = new_staff(portal, "porter", "Nothing's porter")
    put_in_charge(portal, patient, porter)
    browser.get("/patients")
    assert [e.action for e in events_of(portal, patient, porter)] == ["patient-viewed"]


def clinic(portal, name):
    """Give a patient, and the browsers of their doctor and of a clinical assistant."""
    patient = new_patient(portal, name)
    doctor, writes = new_staff(portal, "doctor", f"{name}'s doctor")
    put_in_charge(portal, patient, doctor, kind=CareKind.TREATING)
    assistant, reads = new_staff(portal, "clinical_assistant", f"{name}'s assistant")
    put_in_charge(portal, patient, assistant)
    return patient, writes, reads


def test_signs_of_a_sensitive_record_are_not_in_the_summary(portal):
    patient, writes, reads = clinic(portal, "Sensitive Sá")
    secret = enter(writes, patient, effective="05/02/2026", body_temperature="39.9")
    enter(writes, patient, effective="04/02/2026", body_temperature="38.2")
    assert "39.9 °C" in reads.get(f"/patients/{patient}").text
    with portal.session("hospital") as session, session.begin():
        # As it would be indexed had the author signed it so.
        session.get(Record, secret).category = "mental-health"
    page = reads.get(f"/patients/{patient}")
    assert "39.9 °C" not in page.text and "38.2 °C" in page.text
    assert "cannot be trusted" not in page.text


def test_a_session_elsewhere_lists_no_sensitive_record_until_who_it_is_was_proved(portal):
    patient, writes, _reads = clinic(portal, "Elsewhere Esteves")
    secret = enter(writes, patient, effective="05/02/2026", body_temperature="39.9")
    plain = enter(writes, patient, effective="04/02/2026", body_temperature="38.2")
    with portal.session("hospital") as session, session.begin():
        session.get(Record, secret).category = "mental-health"
    page = writes.get(f"/patients/{patient}")
    assert secret in page.text and plain in page.text and "You are not on site" not in page.text
    with portal.session("hospital") as session, session.begin():
        for row in session.scalars(select(LoginSession)):
            row.confirmed_at = utcnow() - timedelta(hours=1)
    assert secret in writes.get(f"/patients/{patient}").text
    writes.app.extra_environ["REMOTE_ADDR"] = "198.51.100.9"
    page = writes.get(f"/patients/{patient}")
    assert secret not in page.text and plain in page.text
    # The filter names every category there is, whatever the patient has.
    cards = [card.get_text().lower() for card in page.html.select(".card")]
    assert cards and not any("mental" in card for card in cards)
    assert "Some records are listed only after you prove again" in page_text(page)


def test_a_reading_and_a_refusal_say_on_what_they_rest(portal):
    patient = new_patient(portal, "Rests Rocha")
    doctor, browser = new_staff(portal, "doctor", "Rests' doctor")
    care = put_in_charge(portal, patient, doctor, kind=CareKind.TREATING)
    record = enter(browser, patient, effective="05/02/2026", body_temperature="37.1")
    browser.get(f"/patients/{patient}/records/{record}")
    by_action = {
        e.action: Event.from_bytes(e.body).details for e in events_of(portal, patient, doctor)
    }
    assert by_action["record-read"]["basis"] == by_action["record-created"]["basis"] == care
    block = new_id()
    with portal.session("hospital") as session, session.begin():
        now = utcnow()
        session.add(
            PatientRule(
                id=block,
                patient_id=patient,
                effect="block",
                whom="role",
                whom_id="doctor",
                what="category",
                what_id=session.get(Record, record).category,
                since=now,
                made_at=now,
                made_by=patient,
            )
        )
    # Who wrote it goes on reading it.
    colleague, other = new_staff(portal, "doctor", "Rests' other doctor")
    put_in_charge(portal, patient, colleague)
    browser.get(f"/patients/{patient}/records/{record}")
    other.get(f"/patients/{patient}/records/{record}", status=404)
    (denied,) = [e for e in events_of(portal, patient, colleague) if e.action == "access-denied"]
    assert Event.from_bytes(denied.body).details["basis"] == block


def test_a_record_that_was_changed_is_left_out_and_said(portal):
    patient, writes, reads = clinic(portal, "Damaged Dias")
    broken = enter(writes, patient, effective="06/02/2026", body_temperature="40.2")
    with portal.session("hospital") as session, session.begin():
        session.get(Record, broken).effective_on -= timedelta(days=1)
    page = reads.get(f"/patients/{patient}")
    assert "40.2 °C" not in page.text
    assert "One record cannot be trusted" in page_text(page)
    told = [(e.action, e.outcome) for e in events_of(portal, patient) if e.object == broken]
    assert told[-1] == ("record-read", "failed")


def test_looking_stops_after_so_many_records(portal):
    """Neither does a record without vital signs make an event, nor an old one a value."""
    patient, writes, reads = clinic(portal, "Many Mota")
    enter(writes, patient, effective="01/01/2026", heart_rate="61")
    for day in range(1, 13):
        enter(writes, patient, effective=f"{day:02}/02/2026", notes="Nothing was measured")
    page = reads.get(f"/patients/{patient}")
    assert "61 /min" not in page.text
    assert "No vital signs are noted here." in page_text(page)
    assert "Nothing was measured" not in page.text


def test_a_block_of_everything_takes_the_patient_off_the_list(portal):
    patient = new_patient(portal, "Blocked Ferreira", "Paediatrics", "1")
    staff, browser = new_staff(portal, "porter", "Blocked porter")
    put_in_charge(portal, patient, staff)
    assert "Blocked Ferreira" in browser.get("/patients").text
    with portal.session("hospital") as session, session.begin():
        session.add(
            PatientRule(
                id=new_id(),
                patient_id=patient,
                effect="block",
                whom="person",
                whom_id=staff,
                what="everything",
                what_id="",
                since=utcnow() - timedelta(minutes=1),
                made_at=utcnow(),
                made_by=patient,
            )
        )
    answer = browser.get("/patients")
    assert "Blocked Ferreira" not in answer.text
    assert "Nobody is assigned to you now" in page_text(answer)
    browser.get(f"/patients/{patient}", status=404)
    browser.get(f"/patients?after={patient}", status=404)
    # The desk goes on working.
    assert "Blocked Ferreira" in portal.signed_in("ward_clerk").get(f"/patients/{patient}").text


def test_my_list_is_paged_by_key_and_by_what_i_may_see(portal):
    staff, browser = new_staff(portal, "volunteer", "Paging volunteer")
    names = [f"Paged {number:02}" for number in range(28)]
    ids = {name: new_patient(portal, name) for name in names}
    for patient in ids.values():
        put_in_charge(portal, patient, staff)
    first = browser.get("/patients")
    second = first.click("Further patients")
    listed = [h2.text.strip() for page in (first, second) for h2 in page.html.select("li.card h2")]
    assert listed == names
    assert "Further patients" not in second.text
    stranger = new_patient(portal, "Paged 00 bis")
    for after in (stranger, "0" * 32, staff, "x"):
        browser.get(f"/patients?after={after}", status=404)


def test_nobody_sees_themselves_on_the_list(portal):
    clerk = portal.signed_in("ward_clerk")
    assert "Person ward_clerk" not in page_text(clerk.get("/patients")).replace(
        "Summary ward_clerk", ""
    )


def test_the_patient_sees_all_of_it_and_where_to_go(portal):
    patient = portal.person("patient")
    note_needs(portal, patient)
    page = portal.signed_in("patient").get(f"/patients/{patient}")
    text = page_text(page)
    for words in (TRANSPORT, DIET, ALLERGIES, "Who may see my record", "Who looked at my record"):
        assert words in text
    assert page.html.find("a", href=f"/patients/{patient}/rules") is not None
    assert page.html.find("a", href=f"/patients/{patient}/access-log") is not None
    for words in ("Emergency access", "Change the details", "New code", "Ward and bed"):
        assert words not in page_text(page)
