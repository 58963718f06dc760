"""The audit log's pages: search, one event, export, proofs, and what they must not give away."""

import json
from datetime import timedelta

import pytest
from fhir.resources.R4B.auditevent import AuditEvent as FhirAuditEvent
from functional_helpers import page_text
from log_helpers import Someone
from sqlalchemy import select, update

from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.lines import verify_lines
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.delivery.conflicts import note_conflict, settle
from medportal.delivery.receipts import HeldHead, hold_head
from medportal.identity.models import LoginSession
from medportal.ops.verify_log import CaTrust

NUMBERS = {"patient": "17645234", "doctor": "19573526"}
PAGES = ("/audit", "/audit/find", "/audit/proofs")


def last(portal, action, tenant="hospital"):
    with portal.session(tenant) as session:
        body = session.scalars(
            select(AuditEvent.body)
            .where(AuditEvent.action == str(action))
            .order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
            .limit(1)
        ).one()
    return Event.from_bytes(body)


def seen_record(portal):
    """Let the doctor look at the patient; return the newest event about it."""
    doctor = portal.signed_in("doctor")
    doctor.get(f"/patients/{portal.person('patient')}")
    with portal.session("hospital") as session:
        body = session.scalars(
            select(AuditEvent.body)
            .where(
                AuditEvent.actor == portal.person("doctor"),
                AuditEvent.patient == portal.person("patient"),
            )
            .order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
        ).first()
    return Event.from_bytes(body)


def find(browser, **fields):
    form = browser.get("/audit/find").forms["form"]
    for name, value in fields.items():
        form[name].force_value(value)
    return form.submit(expect_errors=True)


@pytest.mark.parametrize("role", ["admin", "doctor", "nurse", "ward_clerk", "porter", "patient"])
@pytest.mark.parametrize("page", [*PAGES, "/audit/export"])
def test_others_get_the_one_404(portal, role, page):
    browser = portal.signed_in(role)
    assert browser.get(page, status=404)
    event = seen_record(portal)
    assert browser.get(f"/audit/events/{event.id}", status=404)


@pytest.mark.parametrize("role", ["auditor", "privacy_officer"])
def test_a_search_by_number_becomes_ids(portal, role):
    seen_record(portal)
    browser = portal.signed_in(role)
    answer = find(browser, number=NUMBERS["doctor"], whom="person")
    assert answer.status_int == 303
    assert NUMBERS["doctor"] not in answer.location
    assert answer.location.endswith(f"/audit?person={portal.person('doctor')}")
    page = answer.follow()
    assert "Person doctor" in page_text(page) and "Person admin" not in page_text(page)
    sought = last(portal, Action.PERSON_SOUGHT)
    assert (sought.object, sought.details["found"]) == (portal.person("doctor"), 1)
    answer = find(browser, number=NUMBERS["patient"], whom="patient")
    assert answer.location.endswith(f"/audit?patient={portal.person('patient')}")
    answer.follow()
    viewed = last(portal, Action.AUDIT_VIEWED)
    # Whoever looks at a patient's events is in the patient's access log, and why.
    assert viewed.patient == portal.person("patient")
    assert viewed.reasons == ("role-any",)
    assert viewed.actor == portal.person(role)


def test_a_number_nobody_has_is_said_audited_and_slows_down(portal):
    browser = portal.signed_in("auditor")
    answers = [find(browser, number=f"6100000{turn}") for turn in range(9)]
    assert "Nobody with this number" in answers[0].text
    assert answers[0].status_int == 422
    assert last(portal, Action.PERSON_SOUGHT).details["found"] == 0
    assert answers[-1].status_int == 429
    with portal.session("hospital") as session:
        text = "".join(map(repr, session.scalars(select(AuditEvent.body))))
    assert "61000000" not in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"number": "1234"}, "Enter the 8 digits"),
        ({"number": "１２３４５６７８９"}, "Enter the 8 digits"),
        ({"number": "1" * 41}, ""),
        ({"number": "<script>alert(1)</script>"}, "Enter the 8 digits"),
        ({"action": "no-such-action"}, ""),
        ({"outcome": "maybe"}, ""),
        ({"day": "31", "month": "02", "year": "2026"}, ""),
    ],
    ids=["short", "look-alike", "long", "script", "action", "outcome", "no-day"],
)
def test_clumsy_searches_are_told(portal, fields, words):
    browser = portal.signed_in("auditor")
    form = browser.get("/audit/find").forms["form"]
    for name, value in fields.items():
        # There are two dates; the first is the one that is typed wrong.
        form.fields[name][0].force_value(value)
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    assert words in answer.text
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "action=nothing",
        "outcome=maybe",
        "person=Amanda",
        "person=partner:a%0ab",
        "person=partner:" + "a" * 90,
        "patient=1",
        "since=2026-02-31",
        "since=20260201",
        "until=yesterday",
        "after=1",
        "after=99999999999999999999999." + "0" * 32,
        "after=%D9%A3." + "0" * 32,
        "after=9999999999999999999." + "0" * 32,
    ],
)
def test_an_address_that_no_page_leads_to_is_404(portal, query):
    assert portal.signed_in("auditor").get(f"/audit?{query}", status=404)


def test_filters_fit_together_and_pages_join(portal):
    auditor = portal.signed_in("auditor")
    for _ in range(3):
        seen_record(portal)
    with portal.session("hospital") as session, session.begin():
        rows = session.execute(select(AuditEvent.id).where(AuditEvent.action == "sign-in")).all()
        assert rows
    day = utcnow().date()
    path = f"/audit?action=sign-in&outcome=allowed&since={day - timedelta(days=2)}&until=2999-12-31"
    shown = []
    page = auditor.get(path)
    while True:
        text = page_text(page)
        assert "Access refused" not in page.html.find("tbody").get_text()
        shown += [a["href"] for a in page.html.select("tbody a")]
        following = page.html.find("a", rel="next")
        if following is None:
            break
        page = page.click("Older events")
    assert len(shown) == len(set(shown)) >= len(rows)
    assert "What is shown" in text
    nothing = auditor.get("/audit?until=2001-01-01")
    assert "No event fits" in page_text(nothing)


def test_each_patient_whom_a_page_names_is_told(portal):
    people = [Someone(portal), Someone(portal), Someone(portal)]
    for someone in people[:2]:
        someone.note()
    # An account's deeds name whose account it is as what they are about.
    event = Event.create(Action.PERSON_VIEWED, now=utcnow(), object=people[2].id)
    with portal.session("hospital") as session, session.begin():
        append(session, event)
    page = portal.signed_in("auditor").get("/audit")
    assert len(page.html.select("tbody tr")) > 3
    for someone in people:
        (told,) = [each for each in someone.events() if each.action is Action.AUDIT_VIEWED]
        assert told.actor == portal.person("auditor") and told.details["list"] == "audit-log"


def test_an_export_says_in_codes_what_was_picked_out(portal):
    export(portal.signed_in("auditor"), "fhir", "?action=sign-in&outcome=allowed&until=2999-12-31")
    details = last(portal, Action.AUDIT_EXPORTED).details
    assert {"action": "sign-in", "outcome": "allowed", "until": "2999-12-31"}.items() <= (
        details.items()
    )


def test_filters_are_kept_by_the_small_form(portal):
    seen_record(portal)
    auditor = portal.signed_in("auditor")
    form = auditor.get(f"/audit?person={portal.person('doctor')}").html.find(
        "form", class_="filter"
    )
    hidden = {i["name"]: i["value"] for i in form.find_all("input", type="hidden")}
    assert hidden == {"person": portal.person("doctor")}


def test_processes_and_partners_can_be_asked_for(portal):
    with portal.session("hospital") as session, session.begin():
        append(
            session,
            Event.create(
                Action.QUERY_RECEIVED, Outcome.DENIED, now=utcnow(), actor="partner:laboratory"
            ),
        )
    page = portal.signed_in("auditor").get("/audit?person=partner:laboratory")
    assert "A partner asked for the patient" in page_text(page)
    assert len(page.html.select("tbody tr")) >= 1


def test_one_event_says_everything_and_what_covers_it(portal):
    event = seen_record(portal)
    auditor = portal.signed_in("auditor")
    page = auditor.get(f"/audit/events/{event.id}")
    text = page_text(page)
    assert "Person doctor" in text and "Amanda Júlio" in text and event.id in text
    assert "No signed head covers this event yet" in text
    assert last(portal, Action.AUDIT_VIEWED).patient == portal.person("patient")
    while portal.jobs("hospital").turn(utcnow()):
        pass
    assert "counted from 0" in page_text(auditor.get(f"/audit/events/{event.id}"))
    page.click("Everything done by the same")
    page.click("Everything about this patient")
    assert auditor.get(f"/audit/events/{'0' * 32}", status=404)
    assert auditor.get("/audit/events/x", status=404)


def test_the_other_institutions_events_are_not_there(portal):
    portal.signed_in("responsible", "laboratory")
    theirs = last(portal, Action.SIGN_IN, "laboratory")
    assert portal.signed_in("auditor").get(f"/audit/events/{theirs.id}", status=404)
    page = portal.signed_in("auditor", "laboratory").get("/audit")
    assert "Person doctor" not in page_text(page)


def export(browser, kind, query=""):
    form = browser.get(f"/audit/export{query}").forms["form"]
    form["format"] = kind
    return form.submit()


def test_the_whole_log_is_exported_and_verifies(portal):
    seen_record(portal)
    while portal.jobs("hospital").turn(utcnow()):
        pass
    auditor = portal.signed_in("auditor")
    before = last(portal, Action.SIGN_IN)
    answer = export(auditor, "lines")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="hospital-audit-')
    assert answer.content_type == "application/jsonl"
    assert "no-store" in answer.headers["Cache-Control"]
    trust = CaTrust(portal.keys("hospital").keystore.ca)
    lines = answer.body.decode("utf-8").splitlines()
    report = verify_lines(lines, tenant="hospital", trust=trust)
    assert report.ok and report.size > 0
    exported = last(portal, Action.AUDIT_EXPORTED)
    assert exported.actor == before.actor == portal.person("auditor")
    assert exported.patient is None and exported.details["format"] == "lines"
    assert "Amanda" not in answer.text


def test_fhir_audit_events_are_valid_and_only_what_fits(portal):
    seen_record(portal)
    auditor = portal.signed_in("auditor")
    patient = portal.person("patient")
    answer = export(auditor, "fhir", f"?patient={patient}")
    assert answer.content_type == "application/fhir+ndjson"
    resources = [json.loads(line) for line in answer.body.decode("utf-8").splitlines()]
    assert resources
    for resource in resources:
        FhirAuditEvent.model_validate(resource)
        patients = [
            e["what"]["identifier"]["value"]
            for e in resource["entity"]
            if e.get("role", {}).get("display") == "Patient"
        ]
        assert patients == [patient]
    assert last(portal, Action.AUDIT_EXPORTED).patient == patient
    assert "Amanda" not in answer.text


def test_every_event_there_is_can_be_exported_as_fhir(portal):
    answer = export(portal.signed_in("auditor"), "fhir")
    with portal.session("hospital") as session:
        ids = set(session.scalars(select(AuditEvent.id)))
    resources = [json.loads(line) for line in answer.body.decode("utf-8").splitlines()]
    assert ids >= {FhirAuditEvent.model_validate(r).id for r in resources}
    assert len(resources) >= len(ids) - 1


def test_an_export_wants_somebody_who_proved_who_they_are(portal):
    auditor = portal.signed_in("auditor")
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == portal.person("auditor"))
            .values(confirmed_at=utcnow() - timedelta(hours=2))
        )
    answer = auditor.get("/audit/export")
    assert answer.status_int == 303 and "/account/confirm" in answer.location
    sent = auditor.post("/audit/export", {"__formid__": "form", "format": "fhir"})
    assert sent.status_int == 303 and "/account/confirm" in sent.location


@pytest.mark.parametrize("fields", [{"format": "csv"}, {"format": ""}])
def test_no_other_format_is_exported(portal, fields):
    auditor = portal.signed_in("auditor")
    answer = auditor.post("/audit/export", {"__formid__": "form", **fields}, expect_errors=True)
    assert answer.status_int == 422 and answer.content_type == "text/html"


def test_a_hidden_field_that_somebody_changed_is_404(portal):
    auditor = portal.signed_in("auditor")
    fields = {"__formid__": "form", "format": "fhir", "patient": "' OR 1=1"}
    assert auditor.post("/audit/export", fields, expect_errors=True).status_int == 404


def test_proofs_show_heads_conflicts_and_what_to_do(portal):
    now = utcnow()
    while portal.jobs("hospital").turn(now):
        pass
    held = HeldHead(7, b"r" * 32, b"signed")
    with portal.session("hospital") as session, session.begin():
        hold_head(session, "laboratory", held, None, now)
        note_conflict(session, "laboratory", held, HeldHead(5, b"s" * 32, b"other"), (), now)
        note_conflict(session, "laboratory", held, None, (), now)
    auditor = portal.signed_in("auditor")
    text = page_text(auditor.get("/audit/proofs"))
    assert "became shorter" in text and "2 times" in text and (b"r" * 32).hex() in text
    assert "call the partner" in text
    with portal.session("hospital") as session, session.begin():
        settle(session, "laboratory", now)
    text = page_text(auditor.get("/audit/proofs"))
    assert "call the partner" not in text and "Looked into" in text


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_in_portuguese_too(portal, page):
    auditor = portal.signed_in("auditor")
    auditor.post("/language", {"language": "pt"}, expect_errors=True)
    assert auditor.get(page).status_int == 200
