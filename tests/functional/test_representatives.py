"""Somebody stands for a patient: named by one at the desk, agreed to by another."""

import re
from datetime import date, timedelta

import pytest
from admin_helpers import employ
from care_helpers import GOOD, new_patient, new_staff, note_needs
from functional_helpers import page_text
from sqlalchemy import select

from medportal.access.models import Representative
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.identity.credentials import set_password
from medportal.identity.models import Person
from medportal.identity.people import roles_of
from medportal.mail.models import OutgoingMail

OTHER = "seven lamps over the harbour"
PARENT = {
    "number": "64000001",
    "name": "Parent Pereira",
    "day": "1",
    "month": "2",
    "year": "1985",
    "sex": "male",
    "ground": "parent",
}


@pytest.fixture(scope="module")
def second_clerk(portal):
    return new_staff(portal, "ward_clerk", "Second clerk")[1]


def name_somebody(browser, patient, until=None, **values):
    """Send the form as a browser does; both dates have parts of the same names."""
    given = {**PARENT, **values}
    fields = [("csrf_token", browser.token()), ("_charset_", "UTF-8"), ("__formid__", "form")]
    fields += [(name, given[name]) for name in ("number", "name", "sex", "ground")]
    fields += [("language", "en")]
    born = [(part, given[part]) for part in ("day", "month", "year")]
    last = (until.day, until.month, until.year) if until else ("", "", "")
    ends = [(part, str(v)) for part, v in zip(("day", "month", "year"), last, strict=True)]
    for node, parts in (("birth_date", born), ("until", ends)):
        fields += [("__start__", f"{node}:mapping"), *parts, ("__end__", f"{node}:mapping")]
    return browser.app.post(f"/patients/{patient}/representatives", fields, expect_errors=True)


def agree(browser, patient, **contact):
    """Agree to the first one who waits, as somebody who has looked at the papers."""
    page = browser.get(f"/patients/{patient}/representatives")
    form = page.click("Check the papers", index=0).forms["form"]
    for name, value in contact.items():
        form[name] = value
    return form.submit(expect_errors=True)


def rows_of(portal, patient):
    with portal.session("hospital") as session:
        found = select(Representative).where(Representative.patient_id == patient)
        return session.scalars(found).all()


def test_named_agreed_read_and_ended(portal, second_clerk):
    child = new_patient(portal, "Child Pereira", born=date(2019, 5, 6), email="c@example.org")
    note_needs(portal, child)
    first = portal.signed_in("ward_clerk")
    done = name_somebody(first, child)
    assert done.status_int == 303, page_text(done)
    page = done.follow()
    assert "Waits for a colleague to agree" in page_text(page)
    assert "Check the papers" not in page_text(page)
    (row,) = rows_of(portal, child)
    # Not even with the address of the button does one person do it alone.
    path = f"/patients/{child}/representatives/{row.id}"
    first.post(f"{path}/agree", {}, status=303)
    assert rows_of(portal, child)[0].approved_by is None
    with portal.session("hospital") as session:
        assert roles_of(session, row.person_id) == frozenset()

    agreed = agree(second_clerk, child)
    code = agreed.html.find(id="activation-code").get_text(strip=True)
    parent = portal.browser()
    form = parent.get("/activate").forms["form"]
    form["number"], form["code"] = PARENT["number"], code
    form["new"] = form["again"] = GOOD
    assert form.submit().status_int == 303
    assert parent.sign_in(PARENT["number"], GOOD).status_int == 303
    # There is one record to go to.
    record = parent.get("/").follow()
    assert record.request.path == f"/patients/{child}"
    text = page_text(record)
    assert "Penicillin" in text and "Who may see this record" in text
    assert "Record of Child Pereira" in record.text
    # What a representative sees is one patient's, and nothing that staff do.
    for path_ in ("support", "care", "admission", "details", "representatives", "records/new"):
        parent.get(f"/patients/{child}/{path_}", status=404)
    parent.get(f"/patients/{portal.person('patient')}", status=404)
    parent.get("/patients", status=404)

    second_clerk.post(f"{path}/end", {}, status=303)
    parent.get(f"/patients/{child}", expect_errors=True)
    again = portal.browser()
    again.sign_in(PARENT["number"], GOOD)
    again.get(f"/patients/{child}", status=404)
    with portal.session("hospital") as session:
        assert roles_of(session, row.person_id) == frozenset()
        mails = session.scalars(
            select(OutgoingMail.kind).where(OutgoingMail.person_id == child)
        ).all()
        events = session.scalars(select(AuditEvent).where(AuditEvent.patient == child)).all()
    assert mails == ["representative-changed"] * 2
    steps = [e for e in events if e.action.startswith("representative")]
    assert [(e.action, e.outcome) for e in sorted(steps, key=lambda e: e.at)] == [
        ("representative-made", "allowed"),
        ("representative-made", "denied"),
        ("representative-made", "allowed"),
        ("representative-ended", "allowed"),
    ]
    assert not any(b"Pereira" in e.body or b"64000001" in e.body for e in events)


def test_a_row_that_nobody_agreed_to_opens_nothing(portal):
    """The role alone, or a row alone, as somebody with the database might write them."""
    child = new_patient(portal, "Unagreed Uva")
    person, browser = new_staff(portal, "representative", "Unagreed parent")
    with portal.session("hospital") as session, session.begin():
        row = Representative(
            id=new_id(),
            patient_id=child,
            person_id=person,
            ground="parent",
            since=utcnow() - timedelta(hours=1),
            made_by=portal.person("ward_clerk"),
        )
        session.add(row)
        row_id = row.id
    browser.get(f"/patients/{child}", status=404)
    assert "Unagreed Uva" not in browser.get("/").text
    with portal.session("hospital") as session, session.begin():
        session.get(Representative, row_id).approved_by = portal.person("admin")
    browser.get(f"/patients/{child}", status=200)
    # The end is an end at once.
    with portal.session("hospital") as session, session.begin():
        session.get(Representative, row_id).until = utcnow()
    browser.get(f"/patients/{child}", status=404)


def test_a_patient_stands_for_another_and_begins_anew(portal, second_clerk):
    """One at the desk alone may have registered somebody else under the parent's number."""
    child = new_patient(portal, "Sibling Seixas")
    number = "64000010"
    adult = new_patient(
        portal, "Adult Seixas", number=number, born=date(1980, 2, 3), email="old@example.org"
    )
    policy = portal.settings.tenant("hospital").passwords
    with portal.session("hospital") as session, session.begin():
        set_password(session, adult, policy, GOOD, utcnow())
    before = portal.browser()
    assert before.sign_in(number, GOOD).status_int == 303
    first = portal.signed_in("ward_clerk")
    mine = {"number": number, "name": "Adult Seixas", "day": "3", "year": "1980"}
    until = utcnow().date() + timedelta(days=30)
    assert name_somebody(first, child, until, ground="court", **mine).status_int == 303
    agreed = agree(second_clerk, child, phone="+351 900 000 009")
    code = agreed.html.find(id="activation-code").get_text(strip=True)
    assert "activated anew" in page_text(agreed)
    (row,) = rows_of(portal, child)
    assert row.person_id == adult and row.until > utcnow() + timedelta(days=29)
    with portal.session("hospital") as session:
        person = session.get(Person, adult)
        assert (person.email, person.phone) == ("", "+351 900 000 009")
        told = session.scalars(
            select(OutgoingMail.kind).where(OutgoingMail.person_id == adult)
        ).all()
    assert "email-changed" in told
    before.get(f"/patients/{child}", status=303)
    assert portal.browser().sign_in(number, GOOD).status_int == 401
    activated(portal, number, code)
    home = portal.browser()
    assert home.sign_in(number, OTHER).status_int == 303
    page = home.get("/")
    assert "My record" in page_text(page) and "Record of Sibling Seixas" in page_text(page)

    # For another child nothing is to be made anew: two people stood behind the account.
    other = new_patient(portal, "Sister Seixas")
    assert name_somebody(first, other, **mine).status_int == 303
    again = agree(second_clerk, other)
    assert again.html.find(id="activation-code") is None
    assert "sign in as before" in page_text(again)
    assert portal.browser().sign_in(number, OTHER).status_int == 303
    for patient in (child, other):
        (row,) = rows_of(portal, patient)
        second_clerk.post(f"/patients/{patient}/representatives/{row.id}/end", {}, status=303)
    with portal.session("hospital") as session:
        assert roles_of(session, adult) == frozenset({"patient"})


def activated(portal, number, code):
    """Choose a password with a code from the desk."""
    form = portal.browser().get("/activate").forms["form"]
    form["number"], form["code"] = number, code
    form["new"] = form["again"] = OTHER
    assert form.submit().status_int == 303


def test_staff_of_one_administrator_begin_anew_and_those_vouched_for_do_not(portal, second_clerk):
    child = new_patient(portal, "Colleague's Child")
    first = portal.signed_in("ward_clerk")
    for role, anew in (("porter", True), ("doctor", False)):
        person = employ(portal, role, name=f"Parent and {role}")
        parent = {"number": person.number, "name": person.name, "day": "3", "year": "1980"}
        assert name_somebody(first, child, **parent).status_int == 303
        agreed = agree(second_clerk, child)
        assert agreed.status_int == 200 and agreed.html.find(id="activation-code") is None
        assert ("ask the administration" in page_text(agreed)) is anew
        assert person.can_sign_in() is not anew


def test_whoever_agrees_sees_the_number_and_types_a_good_address(portal, second_clerk):
    child = new_patient(portal, "Careful Cabral")
    named = {"number": "64000011", "name": "Cabral Parent"}
    assert name_somebody(portal.signed_in("ward_clerk"), child, **named).status_int == 303
    page = second_clerk.get(f"/patients/{child}/representatives").click("Check the papers")
    text = page_text(page)
    assert "64000011" in text and "Cabral Parent" in text and "1985" in text
    answer = agree(second_clerk, child, email="no address")
    assert answer.status_int == 422 and "email address" in page_text(answer)
    assert rows_of(portal, child)[0].approved_by is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"number": "15378965", "name": "Person ward_clerk"}, "by your own hand"),
        ({"number": "17645234", "name": "Somebody Else"}, "another name or date of birth"),
        ({"number": "17645234", "name": "Amanda Julio"}, "another name or date of birth"),
        ({"number": "123"}, "digits"),
        ({"name": "A\u202eB"}, "whole name"),
        ({"ground": "friend"}, "Why this person"),
        ({"year": "2999"}, "future"),
        ({"until": date(2020, 1, 1)}, "This day is over."),
    ],
    ids=[
        "oneself",
        "another-name",
        "another-birth-date",
        "short-number",
        "turned",
        "no-ground",
        "unborn",
        "over",
    ],
)
def test_who_cannot_be_named(portal, values, words):
    child = new_patient(portal, "Refused Reis")
    first = portal.signed_in("ward_clerk")
    answer = name_somebody(first, child, **values)
    assert answer.status_int == 422 and words in page_text(answer)
    assert rows_of(portal, child) == []


def test_named_twice_or_for_themselves(portal):
    child = new_patient(portal, "Twice Taveira", number="64000009", born=date(1990, 1, 2))
    first = portal.signed_in("ward_clerk")
    own = {"number": "64000009", "name": "Twice Taveira", "day": "2", "month": "1", "year": "1990"}
    answer = name_somebody(first, child, **own)
    assert answer.status_int == 422 and "Nobody stands for themselves" in page_text(answer)
    other = {"number": "64000008", "name": "Somebody New"}
    assert name_somebody(first, child, **other).status_int == 303
    answer = name_somebody(first, child, **other)
    assert answer.status_int == 422 and "named for the patient already" in page_text(answer)
    assert len(rows_of(portal, child)) == 1


def test_ids_of_others_are_missing(portal, second_clerk):
    child, other = new_patient(portal, "Mine Matos"), new_patient(portal, "Other Matos")
    first = portal.signed_in("ward_clerk")
    named = {"number": "64000007", "name": "Matos Parent"}
    assert name_somebody(first, child, **named).status_int == 303
    (row,) = rows_of(portal, child)
    for bad in (f"{other}/representatives/{row.id}", f"{child}/representatives/{'0' * 32}"):
        for deed in ("agree", "end"):
            second_clerk.post(f"/patients/{bad}/{deed}", {}, status=404)
    second_clerk.post(f"/patients/{child}/representatives/x/end", {}, status=404)
    (row,) = rows_of(portal, child)
    assert (row.approved_by, row.until) == (None, None)
    for role in ("doctor", "nurse", "admin", "patient"):
        browser = portal.signed_in(role)
        browser.get(f"/patients/{child}/representatives", status=404)
        browser.post(f"/patients/{child}/representatives/{row.id}/agree", {}, status=404)


def test_administrators_neither_give_nor_see_the_role_to_give(portal):
    admin = portal.signed_in("admin")
    porter = portal.person("porter")
    page = admin.get(f"/people/{porter}", expect_errors=True)
    assert not re.search(r'value="representative"', page.text)
