"""The pages of care: support needs, ward and bed, assignments, teams."""

import threading
from datetime import timedelta

import pytest
from care_helpers import new_patient, new_staff, note_needs, put_in_charge
from functional_helpers import page_text
from sqlalchemy import select

from medportal.access.care import carers
from medportal.access.models import CareAssignment, CareKind, WardTeamMember
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.patients import support
from medportal.patients.models import Admission, Patient, SupportNeeds
from medportal.patients.support import Needs

# Words about health that shall stand in no table, log or event.
SECRET = "Xylophone allergy, swells"


def needs_of(portal, patient):
    with portal.session("hospital") as session:
        return support.current(session, portal.keys("hospital").vault, patient).needs


def events_of(portal, patient):
    with portal.session("hospital") as session:
        found = select(AuditEvent).where(AuditEvent.patient == patient)
        return session.scalars(found.order_by(AuditEvent.at, AuditEvent.id)).all()


def fill(page, **values):
    form = page.forms["form"]
    for name, value in values.items():
        form[name].force_value(value)
    return form.submit(expect_errors=True)


# Support needs


def test_a_clerk_notes_and_a_nurse_mends(portal):
    patient = new_patient(portal, "Support Santos")
    clerk = portal.signed_in("ward_clerk")
    path = f"/patients/{patient}/support"
    done = fill(clerk.get(path), transport=" By bed \r\nwith oxygen ", allergies=SECRET)
    assert done.status_int == 303
    assert needs_of(portal, patient) == Needs("By bed \nwith oxygen", "", SECRET)
    assert SECRET in page_text(done.follow())
    staff, nurse = new_staff(portal, "nurse", "Support nurse")
    nurse.get(path, status=404)
    put_in_charge(portal, patient, staff)
    page = nurse.get(path)
    assert "Person ward_clerk" in page_text(page)
    assert fill(page, diet="No nuts").status_int == 303
    assert needs_of(portal, patient) == Needs("By bed \nwith oxygen", "No nuts", SECRET)
    with portal.session("hospital") as session:
        kept = session.scalars(
            select(SupportNeeds.sealed).where(SupportNeeds.patient_id == patient)
        ).all()
    assert len(kept) == 2 and not any(b"Xylophone" in sealed for sealed in kept)
    changed = [e for e in events_of(portal, patient) if e.action == "support-changed"]
    assert len(changed) == 2
    assert not any(b"Xylophone" in e.body for e in events_of(portal, patient))


def test_saving_the_same_twice_makes_one_version(portal):
    patient = new_patient(portal, "Twice Teles")
    page = portal.signed_in("ward_clerk").get(f"/patients/{patient}/support")
    for _time in range(2):
        assert fill(page, diet="Soft").status_int == 303
    with portal.session("hospital") as session:
        found = session.scalars(select(SupportNeeds).where(SupportNeeds.patient_id == patient))
        assert len(found.all()) == 1


def test_an_old_page_overwrites_nothing(portal):
    """Two have the page open: whoever saves second is shown what the first one wrote."""
    patient = new_patient(portal, "Meanwhile Melo")
    page = portal.signed_in("ward_clerk").get(f"/patients/{patient}/support")
    note_needs(portal, patient, Needs(allergies=SECRET))
    answer = fill(page, diet="Soft")
    assert answer.status_int == 422
    assert "Somebody changed this while you were writing" in page_text(answer)
    assert SECRET in page_text(answer) and answer.forms["form"]["diet"].value == "Soft"
    # The answer carries the old version still: sent again it is refused again.
    assert answer.forms["form"].submit(expect_errors=True).status_int == 422
    assert needs_of(portal, patient) == Needs(allergies=SECRET)


@pytest.mark.parametrize(
    ("text", "status", "kept"),
    [
        ("x" * 500, 303, "x" * 500),
        ("x" * 501, 422, ""),
        ("<script>alert(1)</script>", 303, "<script>alert(1)</script>"),
        ("=cmd|'/C calc'!A0", 303, "=cmd|'/C calc'!A0"),
        ("latex\u202eallergy", 422, ""),
        ("bell\x07", 422, ""),
        ("cafe\u0301", 303, "caf\u00e9"),
        ("\u200d" * 3, 303, "\u200d" * 3),
        ("ПЕНИЦИЛЛИН 😀", 303, "ПЕНИЦИЛЛИН 😀"),
        ("nul\x00", 400, ""),
        ("x" * 10_000_000, 413, ""),
    ],
    ids=[
        "longest",
        "too-long",
        "script",
        "formula",
        "turned",
        "bell",
        "composed",
        "zero-width",
        "other-alphabets",
        "nul",
        "ten-megabytes",
    ],
)
def test_what_is_typed_clumsily_or_with_malice(portal, text, status, kept):
    patient = new_patient(portal, "Hostile Horta")
    clerk = portal.signed_in("ward_clerk")
    page = clerk.get(f"/patients/{patient}/support")
    answer = fill(page, allergies=text)
    assert answer.status_int == status
    assert needs_of(portal, patient).allergies == kept
    shown = clerk.get(f"/patients/{patient}")
    assert "<script>alert" not in shown.text


def test_damaged_support_needs_are_not_shown_as_none(portal):
    """An allergy that cannot be read is no "not given"."""
    patient = new_patient(portal, "Damaged Duarte")
    version = note_needs(portal, patient)
    with portal.session("hospital") as session, session.begin():
        row = session.get(SupportNeeds, version)
        row.sealed = row.sealed[:-1] + bytes([row.sealed[-1] ^ 1])
    clerk = portal.signed_in("ward_clerk")
    staff, porter = new_staff(portal, "porter", "Damaged porter")
    put_in_charge(portal, patient, staff)
    pages = [
        clerk.get(f"/patients/{patient}"),
        clerk.get(f"/patients/{patient}/support"),
        porter.get(f"/patients/{patient}"),
        porter.get("/patients"),
    ]
    for page in pages:
        assert "cannot be trusted" in page_text(page)
        assert "Penicillin" not in page.text
    volunteer, browser = new_staff(portal, "volunteer", "Damaged volunteer")
    put_in_charge(portal, patient, volunteer)
    assert "cannot be trusted" not in browser.get(f"/patients/{patient}").text
    # Written anew, it counts.
    assert fill(pages[1], allergies=SECRET).status_int == 303
    assert SECRET in clerk.get(f"/patients/{patient}").text


# Ward and bed


def test_admitted_moved_discharged(portal):
    patient = new_patient(portal, "Moving Moura")
    clerk = portal.signed_in("ward_clerk")
    staff, nurse = new_staff(portal, "nurse", "Moving nurse")
    with portal.session("hospital") as session, session.begin():
        session.add(
            WardTeamMember(
                id="a" * 32, ward="Maternity", staff_id=staff, since=utcnow() - timedelta(hours=1)
            )
        )
    nurse.get(f"/patients/{patient}", status=404)
    done = fill(clerk.get(f"/patients/{patient}/admission"), ward="Maternity", bed="M-1")
    assert done.status_int == 303
    assert "M-1" in page_text(done.follow())
    assert "Moving Moura" in nurse.get("/patients").text
    nurse.get(f"/patients/{patient}")
    # Another ward: the team of the old one sees the patient no longer.
    page = clerk.get(f"/patients/{patient}/admission")
    assert page.forms["form"]["ward"].value == "Maternity"
    assert fill(page, ward="Cardiology", bed="C-1").status_int == 303
    nurse.get(f"/patients/{patient}", status=404)
    assert "Moving Moura" not in nurse.get("/patients").text
    put_in_charge(portal, patient, staff)
    nurse.get(f"/patients/{patient}")
    ask = clerk.get(f"/patients/{patient}/discharge")
    assert "Moving nurse" in page_text(ask) and "Team of Cardiology" in page_text(ask)
    gone = clerk.post(f"/patients/{patient}/discharge", {}, status=303)
    assert "Nobody is assigned to this patient now." in page_text(gone.follow())
    nurse.get(f"/patients/{patient}", status=404)
    # A double click, or the back button: it is so already.
    clerk.post(f"/patients/{patient}/discharge", {}, status=303)
    assert "in no ward" in page_text(clerk.get(f"/patients/{patient}/admission"))
    actions = [e.action for e in events_of(portal, patient)]
    assert actions.count("patient-admitted") == 2
    assert actions.count("patient-discharged") == 1
    assert actions.count("care-ended") == 3
    with portal.session("hospital") as session:
        assert carers(session, patient, utcnow()) == []
        assert session.get(Patient, patient).bed == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ward": "Maternity", "bed": "TAKEN"}, "Somebody lies in this bed"),
        ({"ward": "Nowhere", "bed": "1"}, "Ward"),
        ({"ward": "", "bed": "1"}, "Ward"),
        ({"ward": "Maternity", "bed": "x" * 21}, "Bed"),
        ({"ward": "Maternity", "bed": "\u202e1"}, "ordinary signs"),
    ],
    ids=["taken", "no-such-ward", "no-ward", "long-bed", "turned-bed"],
)
def test_a_bed_that_cannot_be(portal, values, words):
    with portal.session("hospital") as session:
        lies_there = session.scalar(
            select(Patient.person_id).where(Patient.ward == "Maternity", Patient.bed == "TAKEN")
        )
    if lies_there is None:
        new_patient(portal, "Lying Lima", "Maternity", "TAKEN")
    patient = new_patient(portal, "Bedless Braga")
    clerk = portal.signed_in("ward_clerk")
    answer = fill(clerk.get(f"/patients/{patient}/admission"), **values)
    assert answer.status_int == 422 and words in page_text(answer)
    with portal.session("hospital") as session:
        assert session.get(Patient, patient).ward == ""
        found = select(Admission).where(Admission.patient_id == patient)
        assert session.scalars(found).all() == []


def test_an_institution_without_wards_admits_nobody(portal):
    patient = portal.person("patient", "laboratory")
    browser = portal.signed_in("responsible", "laboratory")
    for path in ("admission", "discharge", "support", "care"):
        browser.get(f"/patients/{patient}/{path}", status=404)
    browser.get("/wards", status=404)
    assert "Ward" not in page_text(browser.get(f"/patients/{patient}"))


# Assignments


def assign_by_form(browser, patient, **values):
    page = browser.get(f"/patients/{patient}/care")
    sensitive = values.pop("opens_sensitive", False)
    form = page.forms["form"]
    form["opens_sensitive"] = sensitive
    return fill(page, **values)


def parts(prefix, day):
    """Return the three fields of a date; the second date's are told apart by their place."""
    return {"year": str(day.year), "month": str(day.month), "day": str(day.day)}


def post_assignment(browser, patient, staff, since=None, until=None, **more):
    """Send the form as a browser does, with the parts of both dates."""
    fields = [("csrf_token", browser.token()), ("_charset_", "UTF-8"), ("__formid__", "form")]
    fields += [("staff", staff), ("kind", more.pop("kind", "team"))]
    for name, day in (("from", since), ("until", until)):
        fields.append(("__start__", f"{name}:mapping"))
        values = parts(name, day) if day else dict.fromkeys(("year", "month", "day"), "")
        fields += list(values.items())
        fields.append(("__end__", f"{name}:mapping"))
    fields += list(more.items())
    return browser.app.post(f"/patients/{patient}/care", fields, expect_errors=True)


def test_from_tomorrow_until_next_week(portal):
    patient = new_patient(portal, "Dated Dinis")
    clerk = portal.signed_in("ward_clerk")
    staff, nurse = new_staff(portal, "nurse", "Dated nurse")
    tomorrow = utcnow().date() + timedelta(days=2)
    week = tomorrow + timedelta(days=7)
    done = post_assignment(clerk, patient, staff, tomorrow, week)
    assert done.status_int == 303, page_text(done)
    assert "Not begun yet" in page_text(done.follow())
    nurse.get(f"/patients/{patient}", status=404)
    with portal.session("hospital") as session:
        found = session.scalars(
            select(CareAssignment).where(CareAssignment.patient_id == patient)
        ).one()
    # The institution's clock is that of Lisbon: midnight there, and the last day is a whole one.
    assert found.since.date() in (tomorrow, tomorrow - timedelta(days=1))
    assert found.until - found.since in {
        timedelta(days=8) + timedelta(hours=shift) for shift in (-1, 0, 1)
    }


def test_sensitive_categories_are_opened_by_an_assignment_that_says_so(portal):
    patient = new_patient(portal, "Opened Oliveira")
    clerk = portal.signed_in("ward_clerk")
    staff, _nurse = new_staff(portal, "nurse", "Opened nurse")
    done = assign_by_form(clerk, patient, staff=staff, kind="team", opens_sensitive=True)
    assert done.status_int == 303
    assert "Also for mental health" in page_text(done.follow())
    with portal.session("hospital") as session:
        (carer,) = carers(session, patient, utcnow())
        assert carer.opens_sensitive and carer.kind is CareKind.TEAM
    event = next(e for e in events_of(portal, patient) if e.action == "care-assigned")
    assert b"opens-sensitive" in event.body


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        (-3, None, "This day is over"),
        (None, -3, "The last day is before the first"),
        (5, 3, "The last day is before the first"),
    ],
    ids=["begun", "ended", "backwards"],
)
def test_days_that_cannot_be(portal, since, until, words):
    patient = new_patient(portal, "Backward Brito")
    clerk = portal.signed_in("ward_clerk")
    today = utcnow().date()
    dates = [None if days is None else today + timedelta(days=days) for days in (since, until)]
    answer = post_assignment(clerk, patient, portal.person("nurse"), *dates)
    assert answer.status_int == 422 and words in page_text(answer)
    with portal.session("hospital") as session:
        assert carers(session, patient, utcnow()) == []


def test_a_team_is_no_treating_doctor(portal):
    patient = new_patient(portal, "Treated Tavares")
    clerk = portal.signed_in("ward_clerk")
    answer = assign_by_form(clerk, patient, staff="team:Cardiology", kind="treating")
    assert answer.status_int == 422 and "Only a doctor" in page_text(answer)
    answer = assign_by_form(clerk, patient, staff="team:No such ward", kind="team")
    assert answer.status_int == 422
    done = assign_by_form(clerk, patient, staff="team:Cardiology", kind="team")
    assert "Team of Cardiology" in page_text(done.follow())
    twice = assign_by_form(clerk, patient, staff="team:Cardiology", kind="team")
    assert twice.status_int == 422 and "already" in page_text(twice)


def test_two_clerks_at_once_assign_once(portal):
    patient = new_patient(portal, "Atonce Alves")
    staff = portal.person("nurse")
    browsers = [portal.signed_in("ward_clerk") for _clerk in range(2)]
    forms = [browser.get(f"/patients/{patient}/care").forms["form"] for browser in browsers]
    answers = []

    def send(form):
        form["staff"] = staff
        answers.append(form.submit(expect_errors=True).status_int)

    threads = [threading.Thread(target=send, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [303, 422]
    with portal.session("hospital") as session:
        assert len(carers(session, patient, utcnow())) == 1


def test_another_patients_assignment_is_not_ended(portal):
    one, other = new_patient(portal, "One Osório"), new_patient(portal, "Other Osório")
    made = put_in_charge(portal, one, portal.person("nurse"))
    clerk = portal.signed_in("ward_clerk")
    for path in (f"{other}/care/{made}", f"{one}/care/{'0' * 32}", f"{one}/care/x"):
        clerk.post(f"/patients/{path}/end", {}, status=404)
    with portal.session("hospital") as session:
        assert len(carers(session, one, utcnow())) == 1


# Teams


def test_the_team_of_a_ward(portal):
    clerk = portal.signed_in("ward_clerk")
    staff, nurse = new_staff(portal, "nurse", "Teamed nurse")
    patient = new_patient(portal, "Teamed Torres")
    assert (
        assign_by_form(clerk, patient, staff="team:Internal Medicine", kind="team").status_int
        == 303
    )
    nurse.get(f"/patients/{patient}", status=404)
    wards = clerk.get("/wards")
    page = wards.click("Internal Medicine")
    assert "Nobody is in this team now." in page_text(page)
    done = fill(page, staff=staff)
    assert done.status_int == 303
    assert "Teamed nurse" in page_text(done.follow())
    assert "1 person in the team" in page_text(clerk.get("/wards"))
    assert "Teamed Torres" in nurse.get("/patients").text
    twice = fill(page, staff=staff)
    assert twice.status_int == 422 and "in the team already" in page_text(twice)
    item = next(li for li in done.follow().html.select("li.card") if "Teamed nurse" in li.text)
    gone = clerk.post(item.find("form")["action"], {}, status=303)
    assert "Nobody is in this team now." in page_text(gone.follow())
    nurse.get(f"/patients/{patient}", status=404)
    # Ending it again changes nothing and says the same.
    clerk.post(item.find("form")["action"], {}, status=303)
    changes = [e for e in portal.events("hospital") if e[0] == "team-changed"]
    assert len(changes) >= 2


def test_nobody_puts_themselves_into_a_team(portal):
    """A ward clerk who is a nurse too: a colleague has to do it."""
    both, browser = new_staff(portal, "ward_clerk", "Both Barros")
    with portal.session("hospital") as session, session.begin():
        from medportal.identity.models import RoleGrant

        session.add(RoleGrant(person_id=both, role="nurse", granted_at=utcnow(), granted_by=None))
    patient = new_patient(portal, "Tempting Teixeira")
    page = browser.get("/wards/Paediatrics/team")
    answer = fill(page, staff=both)
    assert answer.status_int == 422 and "cannot put yourself" in page_text(answer)
    answer = assign_by_form(browser, patient, staff=both, kind="team")
    assert answer.status_int == 422 and "cannot assign yourself" in page_text(answer)
    # A colleague puts them into the team: now they may not assign it.
    clerk = portal.signed_in("ward_clerk")
    assert fill(clerk.get("/wards/Paediatrics/team"), staff=both).status_int == 303
    answer = assign_by_form(browser, patient, staff="team:Paediatrics", kind="team")
    assert answer.status_int == 422 and "You are in this team" in page_text(answer)
    answer = fill(browser.get(f"/patients/{patient}/admission"), ward="Paediatrics", bed="P-9")
    assert answer.status_int == 422 and "You are in this team" in page_text(answer)
    with portal.session("hospital") as session:
        assert session.get(Patient, patient).ward == ""
        assert carers(session, patient, utcnow()) == []


@pytest.mark.parametrize("ward", ["Nowhere", "Cardiology%00", "..%2f..", "%F0%9F%98%80"])
def test_a_ward_that_is_none(portal, ward):
    clerk = portal.signed_in("ward_clerk")
    answer = clerk.get(f"/wards/{ward}/team", expect_errors=True)
    assert answer.status_int in (400, 404)


def test_another_wards_membership_is_not_ended(portal):
    staff, _browser = new_staff(portal, "nurse", "Foreign nurse")
    clerk = portal.signed_in("ward_clerk")
    assert fill(clerk.get("/wards/Orthopaedics/team"), staff=staff).status_int == 303
    with portal.session("hospital") as session:
        member = session.scalars(
            select(WardTeamMember.id).where(WardTeamMember.staff_id == staff)
        ).one()
    clerk.post(f"/wards/Cardiology/team/{member}/end", {}, status=404)
    clerk.post("/wards/Orthopaedics/team/x/end", {}, status=404)
    clerk.get("/wards/Orthopaedics/team/x/end", status=404)
    with portal.session("hospital") as session:
        assert session.get(WardTeamMember, member).until is None


@pytest.mark.parametrize(
    "role", ["doctor", "nurse", "porter", "admin", "privacy_officer", "auditor", "patient"]
)
def test_only_the_desk_keeps_wards_care_and_details(portal, role):
    browser = portal.signed_in(role)
    patient = portal.person("patient")
    pages = ["/wards", "/wards/Cardiology/team"]
    pages += [f"/patients/{patient}/{p}" for p in ("care", "admission", "discharge", "details")]
    for path in pages:
        browser.get(path, status=404)
        if path != "/wards":
            browser.post(path, {"ward": "Cardiology"}, status=404)
