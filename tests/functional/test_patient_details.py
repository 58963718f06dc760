"""The desk keeps a patient's details; partners' indexes follow in the same transaction."""

from datetime import date

import pytest
from care_helpers import new_patient, new_staff
from functional_helpers import page_text
from sqlalchemy import delete, select

from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.identity.models import Person, PersonIdentifier, RoleGrant
from medportal.mail.models import OutgoingMail
from medportal.patients.models import DetailsChange, Patient
from medportal.patients.partner_index import lookup
from medportal.patients.pseudonyms import demographic_tag, pseudonym, same_tag
from medportal.patients.service import destinations

FIRST, SECOND = "63000001", "63000002"


def details_of(browser, patient):
    return browser.get(f"/patients/{patient}/details").forms["form"]


def send(form, **values):
    for name, value in values.items():
        form[name].force_value(value)
    return form.submit(expect_errors=True)


def found_by(portal, number, tenant="hospital"):
    """Return (patient id, tag) of whom each partner finds by a number."""
    (key,) = portal.keys(tenant).partner_keys()
    with portal.session(tenant) as session:
        asked = pseudonym(key.key, "citizen-card", number)
        return lookup(session, key.partner, key.key_id, asked)


def events_of(portal, patient, action):
    with portal.session("hospital") as session:
        found = select(AuditEvent).where(AuditEvent.patient == patient, AuditEvent.action == action)
        return session.scalars(found).all()


def test_the_form_shows_what_is_known(portal):
    patient = new_patient(portal, "Known Kubitschek", phone="+351 900 000 001", number="63100001")
    form = details_of(portal.signed_in("ward_clerk"), patient)
    shown = {name: form[name].value for name in ("number", "name", "phone", "status", "year")}
    assert shown == {
        "number": "63100001",
        "name": "Known Kubitschek",
        "phone": "+351 900 000 001",
        "status": "active",
        "year": "1951",
    }
    assert "email" not in form.fields


@pytest.fixture(scope="module")
def second_clerk(portal):
    return new_staff(portal, "ward_clerk", "Second clerk")[1]


def decide(browser, patient, deed):
    """Press a button of what waits; return the answer, ``None`` if there is no such button."""
    page = browser.get(f"/patients/{patient}/details")
    found = [f["action"] for f in page.html.find_all("form") if f["action"].endswith(deed)]
    return browser.post(found[0], {}, expect_errors=True) if found else None


def mails_to(portal, patient):
    with portal.session("hospital") as session:
        return session.scalars(
            select(OutgoingMail.kind)
            .where(OutgoingMail.person_id == patient)
            .order_by(OutgoingMail.created_at, OutgoingMail.kind)
        ).all()


def test_another_number_and_name_are_what_partners_find(portal, second_clerk):
    patient = new_patient(portal, "Wrong Name", number=FIRST, email="w@example.org")
    clerk = portal.signed_in("ward_clerk")
    assert found_by(portal, FIRST).patient_id == patient
    wanted = {"number": SECOND, "name": "Right Náme", "year": "1952", "city": "Faro"}
    answer = send(details_of(clerk, patient), **wanted)
    assert answer.status_int == 303, page_text(answer)
    # Until a second person agrees it is asked for, and the patient told of it.
    assert found_by(portal, FIRST).patient_id == patient and found_by(portal, SECOND) is None
    with portal.session("hospital") as session:
        person = session.get(Person, patient)
        assert (person.name, person.city) == ("Wrong Name", "Faro")
        asked = session.get(DetailsChange, patient).id
    assert mails_to(portal, patient) == ["details-asked"]
    assert decide(clerk, patient, "agree") is None
    clerk.post(f"/patients/{patient}/details/{asked}/agree", {}, status=303)
    assert found_by(portal, SECOND) is None
    shown = page_text(second_clerk.get(f"/patients/{patient}/details"))
    assert FIRST in shown and SECOND in shown and "Right Náme" in shown
    assert decide(second_clerk, patient, "agree").status_int == 303
    assert found_by(portal, FIRST) is None
    hit = found_by(portal, SECOND)
    (key,) = portal.keys("hospital").partner_keys()
    assert hit.patient_id == patient
    assert same_tag(hit.tag, demographic_tag(key.key, "Right Náme", date(1952, 4, 5)))
    events = events_of(portal, patient, "patient-changed")
    events += events_of(portal, patient, "patient-change-asked")
    assert any(b"birth_date,name,number" in e.body for e in events)
    assert sorted(e.outcome for e in events) == ["allowed", "allowed", "allowed", "denied"]
    for personal in (FIRST, SECOND, "Right", "Wrong"):
        assert not any(personal.encode() in e.body for e in events)
    assert mails_to(portal, patient) == ["details-asked", "details-changed"]
    with portal.session("hospital") as session:
        assert session.get(DetailsChange, patient) is None


@pytest.mark.parametrize(
    ("values", "waits"),
    [
        ({"name": "Typing Mended"}, False),
        ({"year": "1952"}, False),
        ({"number": "63300009"}, True),
        ({"number": "63300009", "name": "Somebody Else"}, True),
        ({"name": "Somebody Else", "year": "1952"}, True),
    ],
    ids=["name", "birth-date", "number", "number-and-name", "name-and-birth-date"],
)
def test_what_takes_a_second_person(portal, second_clerk, values, waits):
    patient = new_patient(portal, "Typing Mistake")
    clerk = portal.signed_in("ward_clerk")
    assert send(details_of(clerk, patient), **values).status_int == 303
    with portal.session("hospital") as session:
        assert (session.get(DetailsChange, patient) is not None) is waits
    assert (decide(second_clerk, patient, "withdraw") is not None) is waits
    with portal.session("hospital") as session:
        assert session.get(DetailsChange, patient) is None
        kept = (session.get(Person, patient).name, session.get(Person, patient).birth_date)
    assert (kept == ("Typing Mistake", date(1951, 4, 5))) is waits
    assert found_by(portal, "63300009") is None


def test_the_first_number_of_somebody_takes_one(portal):
    patient = new_patient(portal, "Newborn Nobre")
    with portal.session("hospital") as session, session.begin():
        session.execute(delete(PersonIdentifier).where(PersonIdentifier.person_id == patient))
    clerk = portal.signed_in("ward_clerk")
    assert send(details_of(clerk, patient), number="63300010").status_int == 303
    assert found_by(portal, "63300010").patient_id == patient


def test_agreed_is_what_was_seen(portal, second_clerk):
    """What was changed, or asked for anew, after somebody looked does not slip in."""
    patient = new_patient(portal, "Swapped Sousa")
    clerk = portal.signed_in("ward_clerk")
    assert send(details_of(clerk, patient), number="63300011").status_int == 303
    with portal.session("hospital") as session:
        old = session.get(DetailsChange, patient).id
    assert send(details_of(clerk, patient), number="63300012").status_int == 303
    for deed in ("agree", "withdraw"):
        second_clerk.post(f"/patients/{patient}/details/{old}/{deed}", {}, status=404)
    assert send(details_of(clerk, patient), name="Swapped Silva").status_int == 303
    assert decide(second_clerk, patient, "agree").status_int == 303
    assert found_by(portal, "63300011") is None and found_by(portal, "63300012") is None


def test_a_number_of_somebody_else_changes_nothing(portal):
    taken = new_patient(portal, "Taken Telo", number="63200001")
    patient = new_patient(portal, "Taking Telo", number="63200002")
    clerk = portal.signed_in("ward_clerk")
    answer = send(details_of(clerk, patient), number="6320 0001", city="Elsewhere")
    assert answer.status_int == 422 and "known here by this number" in page_text(answer)
    assert found_by(portal, "63200001").patient_id == taken
    assert found_by(portal, "63200002").patient_id == patient
    with portal.session("hospital") as session:
        assert session.get(Person, patient).city == ""
    assert events_of(portal, patient, "patient-changed") == []


def test_who_works_here_is_not_renamed_at_the_desk(portal):
    patient = new_patient(portal, "Working Too")
    with portal.session("hospital") as session, session.begin():
        session.add(
            RoleGrant(person_id=patient, role="porter", granted_at=utcnow(), granted_by=None)
        )
    clerk = portal.signed_in("ward_clerk")
    answer = send(details_of(clerk, patient), name="Another Name")
    assert answer.status_int == 422 and "works here too" in page_text(answer)
    # Their phone is the desk's to keep.
    assert send(details_of(clerk, patient), phone="+351 900 000 002").status_int == 303


def test_an_old_page_overwrites_nothing(portal):
    patient = new_patient(portal, "Stale Serpa")
    clerk = portal.signed_in("ward_clerk")
    old = details_of(clerk, patient)
    assert send(details_of(clerk, patient), city="Évora").status_int == 303
    answer = send(old, phone="+351 900 000 003")
    assert answer.status_int == 422 and "while you were writing" in page_text(answer)
    with portal.session("hospital") as session:
        person = session.get(Person, patient)
        assert (person.city, person.phone) == ("Évora", "")


def test_sent_twice_it_is_changed_once(portal):
    patient = new_patient(portal, "Double Dourado")
    form = details_of(portal.signed_in("ward_clerk"), patient)
    for _time in range(2):
        assert send(form, city="Tomar").status_int == 303
    assert len(events_of(portal, patient, "patient-changed")) == 1


def test_somebody_has_died(portal):
    patient = new_patient(portal, "Late Lobo")
    clerk = portal.signed_in("ward_clerk")
    assert send(details_of(clerk, patient), status="deceased").status_int == 303
    assert "This patient has died." in page_text(clerk.get(f"/patients/{patient}"))
    page = clerk.get(f"/patients/{patient}/admission")
    answer = send(page.forms["form"], ward="Cardiology", bed="L-1")
    assert answer.status_int == 422 and "has died" in page_text(answer)
    assert send(details_of(clerk, patient), status="active").status_int == 303
    with portal.session("hospital") as session:
        assert session.get(Patient, patient).status == "active"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"number": "123"}, "digits"),
        ({"number": "00000000"}, "digits"),
        ({"number": "６３４０００１x"}, "digits"),
        ({"name": "   "}, "Name"),
        ({"name": "12345"}, "whole name"),
        ({"name": "Ana\u202eSilva"}, "whole name"),
        ({"name": "x" * 201}, "Name"),
        ({"year": "2999"}, "future"),
        ({"year": "1066"}, "year of birth"),
        ({"month": "13"}, "Date of birth"),
        ({"sex": "none"}, "Sex"),
        ({"status": "merged"}, "Status"),
        ({"language": "xx"}, "Language"),
        ({"phone": "1" * 41}, "Phone"),
    ],
    ids=[
        "short",
        "zeros",
        "letter",
        "no-name",
        "digits-as-name",
        "turned-name",
        "long-name",
        "unborn",
        "too-old",
        "no-month",
        "no-sex",
        "merged",
        "no-language",
        "long-phone",
    ],
)
def test_what_is_typed_clumsily_or_with_malice(portal, values, words):
    patient = new_patient(portal, "Clumsy Cunha")
    answer = send(details_of(portal.signed_in("ward_clerk"), patient), **values)
    assert answer.status_int == 422 and words in page_text(answer)
    with portal.session("hospital") as session:
        assert session.get(Person, patient).name == "Clumsy Cunha"
    assert events_of(portal, patient, "patient-changed") == []


def test_the_laboratory_says_where_results_go(portal):
    patient = portal.person("patient", "laboratory")
    browser = portal.signed_in("responsible", "laboratory")
    form = details_of(browser, patient)
    assert form.fields["checkbox"][0].checked
    form.fields["checkbox"][0].checked = False
    assert form.submit().status_int == 303
    with portal.session("laboratory") as session:
        assert destinations(session, patient) == ()
    form = details_of(browser, patient)
    form.fields["checkbox"][0].checked = True
    assert form.submit().status_int == 303
    with portal.session("laboratory") as session:
        assert destinations(session, patient) == ("hospital",)


def test_nobody_keeps_their_own_details(portal):
    """Whoever sits at the desk and is a patient asks a colleague."""
    clerk = portal.person("ward_clerk")
    browser = portal.signed_in("ward_clerk")
    browser.get(f"/patients/{clerk}/details", status=404)
