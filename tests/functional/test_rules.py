"""A patient's rules: put together, looked at, saved, changed, ended; and what they do."""

import re
from datetime import timedelta
from typing import Any

import pytest
from access_helpers import posted
from care_helpers import new_staff
from functional_helpers import page_text
from sqlalchemy import delete, select, update
from test_records import enter_record
from webtest import TestResponse

from medportal.access.models import PatientRule, Representative
from medportal.access.rule_choices import TRIES
from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Outbox, PartnerBlock
from medportal.identity.models import LoginSession, Person
from medportal.mail.models import OutgoingMail

NOTE = "She is my neighbour, Zyxo"


@pytest.fixture(autouse=True)
def without_rules(portal):
    yield
    for tenant in ("hospital", "laboratory"):
        with portal.session(tenant) as session, session.begin():
            for table in (PatientRule, PartnerBlock, OutgoingMail):
                session.execute(delete(table))


def rules_of(portal, tenant="hospital") -> list[PatientRule]:
    with portal.session(tenant) as session:
        found = session.scalars(select(PatientRule).order_by(PatientRule.made_at))
        rows = list(found)
        session.expunge_all()
    return rows


def path_of(portal, tenant="hospital", more="") -> str:
    return f"/patients/{portal.person('patient', tenant)}/rules{more}"


def draft(page: TestResponse, **values: str) -> TestResponse:
    """Fill the page on which a rule is put together, and go on."""
    form = page.forms["form"]
    for name, value in values.items():
        if name in {"from", "until"}:
            for part, number in zip(("day", "month", "year"), value.split("/"), strict=True):
                form.set(part, number, {"from": 0, "until": 1}[name])
        else:
            form[name].force_value(value)
    return form.submit(expect_errors=True)


def make(portal, tenant="hospital", browser=None, **values: str) -> Any:
    """Make a rule as the patient; return the browser."""
    browser = browser or portal.signed_in("patient", tenant)
    values = {"effect": "block", "what": "everything:", **values}
    checked = draft(browser.get(path_of(portal, tenant, "/new")), **values)
    assert checked.status_int == 200, page_text(checked)
    answer = checked.forms["save"].submit()
    assert answer.status_int == 303, page_text(answer)
    return browser


def person(portal, role, tenant="hospital") -> str:
    return f"person:{portal.person(role, tenant)}"


def events(portal, action, tenant="hospital") -> list[Event]:
    with portal.session(tenant) as session:
        bodies = session.scalars(
            select(AuditEvent.body).where(AuditEvent.action == action).order_by(AuditEvent.at)
        )
        return [Event.from_bytes(body) for body in bodies]


# What rules do


def test_a_blocked_doctor_gets_the_404_of_a_missing_page_and_the_record_again_at_the_end(portal):
    _, page = enter_record(portal, "nurse", "hospital", effective="05/02/2026", notes="A note")
    doctor = portal.signed_in("doctor")
    assert "A note" in page_text(doctor.get(page.request.path))
    patient = make(portal, whom=person(portal, "doctor"))
    doctor.get(page.request.path, status=404)
    assert portal.signed_in("nurse").get(page.request.path).status_int == 200
    (rule,) = rules_of(portal)
    ending = patient.get(path_of(portal, more=f"/{rule.id}/end"))
    assert "Person doctor (Doctor)" in page_text(ending)
    assert "All records" in page_text(ending)
    end = next(f for f in ending.forms.values() if f.action.endswith("/end"))
    assert end.submit().follow().status_int == 200
    assert "A note" in page_text(doctor.get(page.request.path))


def test_a_block_of_one_record_leaves_the_others(portal):
    _, hidden = enter_record(portal, "nurse", "hospital", effective="07/02/2026", notes="Hidden")
    _, shown = enter_record(portal, "nurse", "hospital", effective="08/02/2026", notes="Shown")
    record = hidden.request.path.rsplit("/", 1)[1]
    make(portal, whom="role:doctor", what=f"record:{record}")
    doctor = portal.signed_in("doctor")
    doctor.get(hidden.request.path, status=404)
    assert "Shown" in page_text(doctor.get(shown.request.path))
    assert record not in doctor.get(f"/patients/{portal.person('patient')}").text


def test_an_exception_for_one_person_wins_over_a_block_of_their_role(portal):
    _, page = enter_record(portal, "nurse", "hospital", effective="09/02/2026", notes="Seen by one")
    make(portal, whom="role:doctor")
    doctor = portal.signed_in("doctor")
    doctor.get(page.request.path, status=404)
    make(portal, whom=person(portal, "doctor"), effect="allow")
    assert doctor.get(page.request.path).status_int == 200


def test_a_rule_lets_somebody_in_who_is_not_assigned(portal):
    _, page = enter_record(portal, "nurse", "hospital", effective="10/02/2026", notes="Allowed")
    other = portal.signed_in("other_doctor")
    other.get(page.request.path, status=404)
    make(portal, name="person  OTHER_doctor", effect="allow")
    assert "Allowed" in page_text(other.get(page.request.path))


def test_no_rule_lifts_a_porter_above_what_porters_may(portal):
    _, page = enter_record(portal, "nurse", "hospital", effective="11/02/2026", notes="Not for")
    browser = portal.signed_in("patient")
    checked = draft(
        browser.get(path_of(portal, more="/new")),
        effect="allow",
        whom=person(portal, "porter"),
        what="everything:",
    )
    assert "Nothing changes for anybody" in page_text(checked)
    checked.forms["save"].submit(status=303)
    portal.signed_in("porter").get(page.request.path, status=404)


# The way there


def test_before_saving_the_patient_sees_who_could_open_it_and_what_changes(portal):
    browser = portal.signed_in("patient")
    page = browser.get(path_of(portal))
    assert "Person doctor (Doctor) All records Treating doctor" in page_text(page)
    assert "Person nurse (Nurse) All records but the sensitive ones" in page_text(page)
    assert "Person porter (Porter) Name and place only" in page_text(page)
    checked = draft(
        page.click("Make a rule"),
        effect="block",
        whom=person(portal, "doctor"),
        what="category:mental-health",
        note=NOTE,
    )
    text = page_text(checked)
    assert "Person doctor (Doctor): may not see. This goes for: Mental health." in text
    assert "Person doctor (Doctor) Can open it Cannot open it" in text
    assert NOTE in text
    assert rules_of(portal) == []
    again = next(
        f
        for f in checked.forms.values()
        if "again" in [each.value for each in f.fields.get("__formid__", [])]
    )
    back = again.submit()
    assert back.forms["form"]["note"].value == NOTE
    assert back.forms["form"]["what"].value == "category:mental-health"
    checked.forms["save"].submit(status=303)
    (rule,) = rules_of(portal)
    assert (rule.effect, rule.whom, rule.what_id) == ("block", "person", "mental-health")


def test_the_note_is_sealed_and_the_log_holds_a_commitment_to_it(portal):
    browser = make(portal, whom="role:nurse", note=NOTE)
    assert NOTE in page_text(browser.get(path_of(portal)))
    (rule,) = rules_of(portal)
    assert rule.note is not None and b"Zyxo" not in rule.note
    made = events(portal, "rule-changed")[-1]
    assert made.object == rule.id and made.patient == portal.person("patient")
    assert len(str(made.details["commitment"])) == 64
    assert "Zyxo" not in str(made.to_bytes())


def test_the_patient_is_told_by_mail_without_a_word_of_the_rule(portal):
    patient = portal.person("patient")
    with portal.session("hospital") as session, session.begin():
        session.execute(update(Person).where(Person.id == patient).values(email="a@example.org"))
    make(portal, whom="role:nurse", note=NOTE)
    assert [kind for kind, _state in posted(portal, "hospital", patient)] == ["rule-changed"]
    with portal.session("hospital") as session:
        (mail,) = session.scalars(select(OutgoingMail).where(OutgoingMail.person_id == patient))
        assert mail.params == "{}"


def test_a_damaged_note_does_not_hide_the_rule(portal):
    browser = make(portal, whom="role:nurse", note=NOTE)
    with portal.session("hospital") as session, session.begin():
        session.execute(update(PatientRule).values(note=b"x" * 80))
    text = page_text(browser.get(path_of(portal)))
    assert "Everybody who works as: Nurse" in text and "it is damaged" in text


def test_a_changed_rule_is_an_ended_one_and_a_new_one(portal):
    browser = make(portal, whom="role:nurse", note=NOTE)
    (old,) = rules_of(portal)
    page = browser.get(path_of(portal, more=f"/{old.id}"))
    assert page.forms["form"]["whom"].value == "role:nurse"
    assert page.forms["form"]["note"].value == NOTE
    checked = draft(page, what="category:laboratory")
    assert "Instead of" in page_text(checked)
    checked.forms["save"].submit(status=303)
    ended, new = rules_of(portal)
    assert ended.id == old.id and ended.ended_at == new.made_at
    assert (new.what, new.what_id, new.ended_at) == ("category", "laboratory", None)
    assert events(portal, "rule-ended")[-1].details["replaced-by"] == new.id
    assert events(portal, "rule-changed")[-1].details["instead-of"] == old.id
    browser.get(path_of(portal, more=f"/{old.id}"), status=404)


def test_a_rule_with_dates(portal):
    browser = make(portal, whom="role:nurse", **{"from": "1/3/2190", "until": "2/3/2190"})
    (rule,) = rules_of(portal)
    assert (rule.until - rule.since).days == 2
    text = page_text(browser.get(path_of(portal)))
    assert "Rules that begin later" in text and "2 March 2190" in text
    page = draft(
        browser.get(path_of(portal, more="/new")),
        effect="block",
        whom="role:doctor",
        until="1/3/2020",
    )
    assert page.status_int == 422
    assert "The last day lies before the first one, or is over." in page_text(page)


def test_the_same_form_twice_makes_one_rule(portal):
    browser = portal.signed_in("patient")
    checked = draft(
        browser.get(path_of(portal, more="/new")),
        effect="block",
        whom="role:nurse",
        what="everything:",
    )
    for _ in range(2):
        checked.forms["save"].submit(status=303)
    assert len(rules_of(portal)) == 1
    again = draft(
        browser.get(path_of(portal, more="/new")),
        effect="block",
        whom="role:nurse",
        what="everything:",
    )
    refused = again.forms["save"].submit(expect_errors=True)
    assert refused.status_int == 422
    assert "There is a rule that says this already." in page_text(refused)


def test_ending_twice_ends_once(portal):
    browser = make(portal, whom="role:nurse")
    (rule,) = rules_of(portal)
    for _ in range(2):
        answer = browser.post(path_of(portal, more=f"/{rule.id}/end"), {}, status=303)
        assert answer.location.endswith(path_of(portal))
    assert [event.object for event in events(portal, "rule-ended")].count(rule.id) == 1
    browser.get(path_of(portal, more=f"/{rule.id}/end"), status=404)


# Names


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("Person", "Nobody who works here has exactly this name."),
        ("Person other", "Nobody who works here has exactly this name."),
        ("%", "Nobody who works here has exactly this name."),
        ("' OR 1=1 --", "Nobody who works here has exactly this name."),
        ("Amanda Júlio", "Nobody who works here has exactly this name."),
        ("Person admin", "Nobody who works here has exactly this name."),
        ("<script>alert(1)</script>", "Nobody who works here has exactly this name."),
        ("Ρerson other doctor", "Nobody who works here has exactly this name."),
    ],
    ids=["first", "part", "wildcard", "quote", "patient", "admin", "script", "greek-rho"],
)
def test_nobody_is_found_by_less_than_their_whole_name(portal, typed, words):
    browser = portal.signed_in("patient")
    with portal.session("hospital") as session, session.begin():
        session.execute(delete(AuditEvent).where(AuditEvent.action == "person-sought"))
    page = draft(browser.get(path_of(portal, more="/new")), effect="block", name=typed)
    assert page.status_int == 422
    assert words in page_text(page)
    assert "<script>alert" not in page.text


def test_two_of_one_name_are_told_apart_by_nobody(portal):
    browser = portal.signed_in("patient")
    other = portal.person("other_doctor")
    with portal.session("hospital") as session, session.begin():
        session.execute(update(Person).where(Person.id == other).values(name="Person doctor"))
    try:
        page = draft(
            browser.get(path_of(portal, more="/new")), effect="block", name="Person doctor"
        )
        assert "Several people who work here have this name." in page_text(page)
    finally:
        with portal.session("hospital") as session, session.begin():
            session.execute(
                update(Person).where(Person.id == other).values(name="Person other_doctor")
            )


def test_names_cannot_be_tried_for_ever_and_every_try_is_in_the_log(portal):
    browser = portal.signed_in("patient")
    with portal.session("hospital") as session, session.begin():
        session.execute(delete(AuditEvent).where(AuditEvent.action == "person-sought"))
    page = browser.get(path_of(portal, more="/new"))
    for _ in range(TRIES):
        assert "Nobody who works" in page_text(draft(page, effect="block", name="Dr. No"))
    refused = draft(page, effect="block", name="Person other_doctor")
    assert "Too many names were tried." in page_text(refused)
    assert len(events(portal, "person-sought")) == TRIES
    assert all("No" not in str(event.details) for event in events(portal, "person-sought"))


def test_the_list_offers_those_whom_the_patient_has_to_do_with(portal):
    browser = portal.signed_in("patient")
    page = browser.get(path_of(portal, more="/new"))
    values = {value for value, _selected, _words in page.forms["form"]["whom"].options}
    assert person(portal, "doctor") in values
    offered = {value for value in values if value.startswith("person:")}
    strangers = {person(portal, role) for role in ("admin", "auditor", "patient")}
    assert not offered & strangers
    assert {"department:Cardiology", "role:nurse", "institution:hospital"} <= values


# Who stands for the patient


@pytest.fixture
def mother(portal):
    """Give the id and the browser of somebody who represents the patient."""
    person_id, browser = new_staff(portal, "representative", "Mother of the patient")
    now = utcnow()
    row = Representative(
        id=new_id(),
        patient_id=portal.person("patient"),
        person_id=person_id,
        ground="parent",
        approved_by=portal.person("ward_clerk"),
        since=now - timedelta(days=1),
    )
    with portal.session("hospital") as session, session.begin():
        session.add(row)
    yield person_id, browser
    with portal.session("hospital") as session, session.begin():
        session.execute(delete(Representative).where(Representative.person_id == person_id))


def test_whom_the_patient_keeps_out_of_a_record_gets_round_it_by_no_page_of_rules(portal, mother):
    """Not by ending the rule, not by an exception for themselves; and they learn nothing of it."""
    mother_id, browser = mother
    _, page = enter_record(portal, "nurse", "hospital", effective="12/02/2026", notes="Private")
    path = page.request.path
    record = path.rsplit("/", 1)[1]
    browser.get(path, status=200)
    offered = browser.get(path_of(portal, more="/new")).forms["form"]["what"].options
    assert f"record:{record}" in {value for value, *_ in offered}

    patient = portal.signed_in("patient")
    what = f"record:{record}"
    checked = draft(
        patient.get(path_of(portal, more="/new")),
        effect="block",
        whom=f"person:{mother_id}",
        what=what,
        note=NOTE,
    )
    checked.forms["save"].submit(status=303)
    (rule,) = rules_of(portal)
    browser.get(path, status=404)
    shown = browser.get(path_of(portal))
    assert "Zyxo" not in shown.text and rule.id not in shown.text
    assert "Zyxo" in patient.get(path_of(portal)).text

    new = browser.get(path_of(portal, more="/new"))
    assert record not in new.text and f"person:{mother_id}" not in new.text
    for more in (f"/{rule.id}", f"/{rule.id}/end"):
        browser.get(path_of(portal, more=more), status=404)
        browser.post(path_of(portal, more=more), {}, status=404)
    for whom, about in ((f"person:{mother_id}", "everything:"), ("role:doctor", what)):
        made = {"effect": "allow", "whom": whom, "what": about, "rule_id": new_id()}
        browser.post(path_of(portal, more="/new"), {**made, "__formid__": "save"}, status="*")
    assert [one.id for one in rules_of(portal)] == [rule.id]
    assert rules_of(portal)[0].ended_at is None
    browser.get(path, status=404)

    day = "12 February 2026"
    for more in ("access-log?who=all", "access-log/download?who=all&format=csv"):
        log = f"/patients/{portal.person('patient')}/{more}"
        assert day in patient.get(log).text, more
        assert day not in browser.get(log).text, more


# Hostile and clumsy


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({}, 422),
        ({"effect": "block"}, 422),
        ({"effect": "destroy", "whom": "role:nurse"}, 422),
        ({"effect": "block", "whom": "role:patient"}, 422),
        ({"effect": "block", "whom": "role:admin"}, 422),
        ({"effect": "block", "whom": "person:" + "0" * 32}, 422),
        ({"effect": "block", "whom": "department:Moon"}, 422),
        ({"effect": "block", "whom": "institution:nowhere"}, 422),
        ({"effect": "block", "whom": "role:nurse", "what": "category:horoscopes"}, 422),
        ({"effect": "block", "whom": "role:nurse", "what": "record:" + "0" * 32}, 422),
        ({"effect": "block", "whom": "role:nurse", "name": "Person doctor"}, 422),
        ({"effect": "block", "whom": "role:nurse", "note": "x" * 501}, 422),
        ({"effect": "block", "whom": "role:nurse", "note": "right\u202eto left"}, 422),
        ({"effect": "block", "whom": "role:nurse", "note": "nul\x00"}, 400),
        ({"effect": "block", "whom": "role:nurse", "note": "x" * 20_001}, 400),
        ({"effect": "block", "name": "x" * 201}, 422),
        ({"effect": "block", "whom": "institution:laboratory", "what": "category:genetics"}, 422),
        ({"effect": "allow", "whom": "institution:laboratory"}, 422),
    ],
    ids=range(18),
)
def test_what_makes_no_rule_is_refused_in_words(portal, values, status):
    browser = portal.signed_in("patient")
    page = browser.post(
        path_of(portal, more="/new"),
        {"__formid__": "form", "what": "everything:", **values},
        expect_errors=True,
    )
    assert page.status_int == status
    assert rules_of(portal) == []


@pytest.mark.parametrize(
    "values",
    [
        {"whom": "person:{patient}"},
        {"whom": "person:{admin}"},
        {"whom": "role:admin"},
        {"whom": "nobody"},
        {"whom": "department:"},
        {"what": "record:{patient}"},
        {"what": "category:"},
        {"what": "everything:more"},
        {"effect": "destroy"},
        {"rule_id": "not-an-id"},
        {"from": "yesterday"},
        {"until": "2020-01-01"},
        {"whom": "institution:laboratory", "what": "category:genetics"},
    ],
    ids=range(13),
)
def test_what_was_not_looked_at_is_not_saved(portal, values):
    browser = portal.signed_in("patient")
    sound = {
        "__formid__": "save",
        "effect": "block",
        "whom": "role:nurse",
        "what": "everything:",
        "rule_id": new_id(),
    }
    ids = {role: portal.person(role) for role in ("patient", "admin")}
    changed = {name: value.format(**ids) for name, value in values.items()}
    page = browser.post(path_of(portal, more="/new"), {**sound, **changed}, expect_errors=True)
    assert page.status_int == 422
    assert rules_of(portal) == []
    browser.post(path_of(portal, more="/new"), sound, status=303)
    assert len(rules_of(portal)) == 1


def test_an_id_that_another_rule_has_makes_nothing(portal):
    make(portal, whom="role:nurse")
    (rule,) = rules_of(portal)
    browser = portal.signed_in("patient")
    sound = {"__formid__": "save", "effect": "allow", "whom": "role:doctor", "what": "everything:"}
    browser.post(path_of(portal, more="/new"), {**sound, "rule_id": rule.id}, status=303)
    assert [one.id for one in rules_of(portal)] == [rule.id]


@pytest.mark.parametrize("more", ["", "/new", "/{rule}", "/{rule}/end"])
@pytest.mark.parametrize("role", ["doctor", "nurse", "ward_clerk", "admin", "privacy_officer"])
def test_nobody_else_sees_or_makes_rules(portal, role, more):
    make(portal, whom="role:nurse")
    (rule,) = rules_of(portal)
    path = path_of(portal, more=more.format(rule=rule.id))
    browser = portal.signed_in(role)
    browser.get(path, status=404)
    browser.post(path, {"__formid__": "save"}, status=404)
    assert rules_of(portal)[0].ended_at is None


@pytest.mark.parametrize("rule", ["0" * 32, "new-rule", "x" * 40])
def test_a_rule_that_is_nobodys_is_the_one_404(portal, rule):
    browser = portal.signed_in("patient")
    for more in ("", "/end"):
        browser.get(path_of(portal, more=f"/{rule}{more}"), status=404)
        browser.post(path_of(portal, more=f"/{rule}{more}"), {}, status=404)


def test_the_laboratorys_rule_is_missing_at_the_hospital(portal):
    make(portal, "laboratory", whom="role:responsible")
    (rule,) = rules_of(portal, "laboratory")
    portal.signed_in("patient").get(path_of(portal, more=f"/{rule.id}"), status=404)


# Partners


def test_a_rule_at_the_laboratory_stops_the_transfer_visibly_and_ending_it_releases_it(portal):
    _, waiting = enter_record(
        portal, "responsible", "laboratory", effective="04/02/2026", glucose="90"
    )
    assert "Waiting to be sent" in page_text(waiting)
    browser = portal.signed_in("patient", "laboratory")
    checked = draft(
        browser.get(path_of(portal, "laboratory", "/new")),
        effect="block",
        whom="institution:hospital",
        what="everything:",
    )
    text = page_text(checked)
    assert "Not sent to Riverside Hospital: everything." in text
    assert "Records that wait or are withheld, and which this is about:" in text
    checked.forms["save"].submit(status=303)
    responsible = portal.signed_in("responsible", "laboratory")
    for page in (
        responsible.get(waiting.request.path),
        enter_record(portal, "responsible", "laboratory", effective="05/02/2026", glucose="91")[1],
    ):
        assert "Not sent" in page_text(page)
        assert "A rule of the patient stops this transfer." in page_text(page)
    assert {"delivery-withheld"} <= {
        e.action for e in events(portal, "delivery-withheld", "laboratory")
    }
    text = page_text(responsible.get("/deliveries"))
    assert "Not sent" in text and "a rule of the patient" in text
    (rule,) = rules_of(portal, "laboratory")
    browser.post(path_of(portal, "laboratory", f"/{rule.id}/end"), {}, status=303)
    assert "Waiting to be sent" in page_text(responsible.get(waiting.request.path))
    with portal.session("laboratory") as session:
        assert set(session.scalars(select(Outbox.state))) == {"waiting"}


def test_at_the_hospital_a_rule_about_the_laboratory_says_what_is_taken_in(portal):
    browser = make(portal, whom="institution:laboratory")
    text = page_text(browser.get(path_of(portal)))
    assert "Nothing that Meridian Laboratory sends is taken in here." in text
    with portal.session("hospital") as session:
        (block,) = session.scalars(select(PartnerBlock))
    assert (block.partner, block.effect, block.what) == ("laboratory", "block", "everything")


def test_proof_of_who_one_is_comes_first(portal):
    browser = portal.signed_in("patient")
    with portal.session("hospital") as session, session.begin():
        session.execute(update(LoginSession).values(confirmed_at=utcnow() - timedelta(hours=1)))
    for more in ("/new", "/" + "0" * 32):
        answer = browser.get(path_of(portal, more=more), expect_errors=True)
        assert answer.status_int == 303 and "/account/confirm" in answer.location
    assert re.search("Who may see my record", browser.get(path_of(portal)).text)


def test_jobs_withhold_and_release_as_rules_begin_and_run_out(portal):
    enter_record(portal, "responsible", "laboratory", effective="06/02/2026", glucose="92")
    make(
        portal,
        "laboratory",
        whom="institution:hospital",
        **{"from": "1/3/2190", "until": "2/3/2190"},
    )
    (rule,) = rules_of(portal, "laboratory")
    jobs = portal.jobs("laboratory")

    def after(moment) -> set[str]:
        jobs._apply_rules(moment)
        with portal.session("laboratory") as session:
            return set(session.scalars(select(Outbox.state)))

    instant = timedelta(microseconds=1)
    assert after(rule.since - instant) == {"waiting"}
    assert after(rule.since) == {"withheld"}
    assert after(rule.until - instant) == {"withheld"}
    assert after(rule.until) == {"waiting"}
    with portal.session("laboratory") as session:
        assert session.scalars(select(PartnerBlock)).all() == []
    ended = events(portal, "rule-ended", "laboratory")[-1]
    assert (ended.actor, ended.object, ended.reasons) == ("process:jobs", rule.id, ("expired",))
    released = events(portal, "delivery-released", "laboratory")[-1]
    assert (released.actor, released.reasons) == ("process:jobs", ("rule-lifted",))
