"""A record under the wrong person: taken back there and made anew here, both or neither."""

from datetime import date

import pytest
from care_helpers import new_patient, put_in_charge
from functional_helpers import page_text
from sqlalchemy import func, select
from version_helpers import amend, entered, events_about, record_of, retract, versions_of

from medportal.core.ids import new_id
from medportal.delivery.models import Outbox
from medportal.records import amending
from medportal.records.models import Record

MARKER = "Zyxomorph fever of the left knee"


@pytest.fixture
def right(portal):
    """Give (id, number) of somebody whom the doctor looks after too."""
    number = str(58_000_000 + int(new_id()[:5], 16))
    patient = new_patient(portal, "Benedita Prazeres", number=number)
    put_in_charge(portal, patient, portal.person("doctor"))
    return patient, number


def find(browser, path, number):
    form = browser.get(f"{path}/move").forms["find"]
    form["number"] = number
    return form.submit(expect_errors=True)


def confirm(page):
    page.forms["confirm"]["compared"] = True
    return page.forms["confirm"].submit(expect_errors=True)


def records_of(portal, patient, tenant="hospital"):
    with portal.session(tenant) as session:
        query = select(func.count()).where(Record.patient_id == patient)
        return session.scalar(query)


def test_both_people_are_shown_and_the_record_goes_to_the_right_one(portal, right):
    patient, number = right
    path = entered(portal, height="171", notes=MARKER)
    doctor = portal.signed_in("doctor")
    page = find(doctor, path, number)
    words = page_text(page)
    assert "Amanda Júlio" in words and "Benedita Prazeres" in words
    assert "3 February 1980" in words and "5 April 1951" in words
    assert number not in page.request.url
    answer = confirm(page)
    assert answer.status_int == 303
    made = answer.location.partition("8443")[2]
    assert made.startswith(f"/patients/{patient}/records/")
    there = page_text(doctor.get(made))
    assert "171" in there and MARKER in there and "Benedita Prazeres" in there
    assert "The signature is right." in there and "Corrected" not in there
    here = page_text(portal.signed_in("patient").get(path))
    assert "Taken back by Person doctor" in here and "filed under the wrong person" in here
    assert MARKER not in here and "Benedita" not in here
    assert record_of(portal, path).status == "entered-in-error"
    assert versions_of(portal, made)[0].replaces is None


def test_neither_patients_log_names_the_other(portal, right):
    patient, number = right
    path = entered(portal, notes=MARKER)
    made = confirm(find(portal.signed_in("doctor"), path, number)).location
    record = made.rsplit("/", 1)[1]
    wrong = [e for e in events_about(portal, path) if e.action == "record-amended"]
    new = [e for e in events_about(portal, made) if e.action == "record-created"]
    assert [(e.patient, e.details["moved"]) for e in wrong] == [(portal.person("patient"), 1)]
    assert [(e.patient, e.details["moved"]) for e in new] == [(patient, 1)]
    assert all(e.reasons for e in (*wrong, *new))
    assert record.encode() not in wrong[0].to_bytes()
    assert path.rsplit("/", 1)[1].encode() not in new[0].to_bytes()


def test_the_same_confirmation_twice_is_one_record(portal, right):
    patient, number = right
    path = entered(portal, notes=MARKER)
    page = find(portal.signed_in("doctor"), path, number)
    answers = [confirm(page) for _ in range(2)]
    assert [a.status_int for a in answers] == [303, 303]
    assert answers[0].location == answers[1].location
    assert records_of(portal, patient) == 1 and len(versions_of(portal, path)) == 2


@pytest.mark.parametrize("who", ["nobody", "not-in-care", "the-same", "nonsense"])
def test_those_for_whom_one_enters_nothing_are_not_shown(portal, who):
    path = entered(portal, notes=MARKER)
    stranger = str(59_000_000 + int(new_id()[:5], 16))
    new_patient(portal, "Estranha Pessoa", number=stranger)
    numbers = {"nobody": "99887766", "not-in-care": stranger, "the-same": "17645234"}
    answer = find(portal.signed_in("doctor"), path, numbers.get(who, "x' or 1=1"))
    assert answer.status_int == 422 and "Estranha" not in answer.text
    if who in ("nobody", "not-in-care"):
        assert "There is nobody with this number" in page_text(answer)
    assert len(versions_of(portal, path)) == 1


def test_nobody_and_a_stranger_are_told_alike(portal):
    path = entered(portal, notes=MARKER)
    stranger = str(59_000_000 + int(new_id()[:5], 16))
    new_patient(portal, "Estranha Pessoa", number=stranger)
    doctor = portal.signed_in("doctor")
    texts = [page_text(find(doctor, path, number)) for number in (stranger, "99887765")]
    assert texts[0] == texts[1]


def test_without_comparing_nothing_happens(portal, right):
    patient, number = right
    path = entered(portal, notes=MARKER)
    page = find(portal.signed_in("doctor"), path, number)
    answer = page.forms["confirm"].submit(expect_errors=True)
    assert answer.status_int == 422 and "Compare both people first" in answer.text
    assert "Benedita Prazeres" in answer.text
    assert records_of(portal, patient) == 0 and len(versions_of(portal, path)) == 1


@pytest.mark.parametrize("target", ["stranger", "nobody", "malformed", "the-same"])
def test_a_forged_target_is_the_one_404(portal, right, target):
    patient, number = right
    path = entered(portal, notes=MARKER)
    page = find(portal.signed_in("doctor"), path, number)
    stranger = new_patient(portal, "Estranha Pessoa")
    ids = {"stranger": stranger, "nobody": "0" * 32, "malformed": "../../x"}
    field = page.forms["confirm"]["right"]
    field.force_value(ids.get(target, portal.person("patient")))
    answer = confirm(page)
    assert answer.status_int == 404
    assert len(versions_of(portal, path)) == 1 and records_of(portal, stranger) == 0


def test_what_cannot_be_the_other_persons_is_said_and_nothing_happens(portal):
    number = str(58_000_000 + int(new_id()[:5], 16))
    child = new_patient(portal, "Criança Nova", number=number, born=date(2026, 9, 1))
    put_in_charge(portal, child, portal.person("doctor"))
    path = entered(portal, notes=MARKER)
    answer = confirm(find(portal.signed_in("doctor"), path, number))
    assert answer.status_int == 422
    assert "The date is before the patient was born." in page_text(answer)
    assert records_of(portal, child) == 0 and len(versions_of(portal, path)) == 1


def test_a_record_that_changed_meanwhile_is_shown_before_it_moves(portal, right):
    patient, number = right
    path = entered(portal, height="171")
    doctor = portal.signed_in("doctor")
    page = find(doctor, path, number)
    amend(portal.signed_in("nurse"), path, height="161")
    answer = confirm(page)
    assert answer.status_int == 422 and "161" in answer.html.find(id="now").get_text()
    assert records_of(portal, patient) == 0
    assert not answer.forms["confirm"]["compared"].checked
    assert confirm(answer).status_int == 303
    assert records_of(portal, patient) == 1 and len(versions_of(portal, path)) == 3


def test_what_was_taken_back_meanwhile_does_not_move(portal, right):
    patient, number = right
    path = entered(portal, height="171")
    page = find(portal.signed_in("doctor"), path, number)
    retract(portal.signed_in("nurse"), path)
    assert confirm(page).status_int == 303
    assert records_of(portal, patient) == 0 and len(versions_of(portal, path)) == 2


def test_if_the_second_half_fails_the_first_is_undone(portal, right, monkeypatch):
    """Neither is the record lost, nor is it there twice."""
    patient, number = right
    path = entered(portal, notes=MARKER)
    page = find(portal.signed_in("doctor"), path, number)
    real, filed = amending.sign_and_file, []

    def full(*args, **kwargs):
        filed.append(args)
        if len(filed) == 2:
            raise OSError("the disk is full")
        return real(*args, **kwargs)

    monkeypatch.setattr(amending, "sign_and_file", full)
    assert confirm(page).status_int >= 500
    assert len(filed) == 2
    assert records_of(portal, patient) == 0 and len(versions_of(portal, path)) == 1
    assert MARKER in portal.signed_in("patient").get(path).text


def test_the_laboratory_moves_and_both_go_where_they_belong(portal):
    """Retracted where it had been sent; the right person's hospital gets the new one."""
    path = entered(portal, "laboratory", glucose="95")
    number = str(58_000_000 + int(new_id()[:5], 16))
    browser = portal.signed_in("responsible", "laboratory")
    form = browser.get("/patients/register").forms["form"]
    form["number"], form["name"], form["sex"] = number, "Benedita Prazeres", "female"
    form["day"], form["month"], form["year"] = "5", "4", "1951"
    assert form.submit().status_int in (200, 303)
    made = confirm(find(browser, path, number)).location
    assert made.partition("8443")[2].startswith("/patients/")
    with portal.session("laboratory") as session:
        queued = session.execute(
            select(Outbox.record_id, Outbox.version).where(
                Outbox.record_id.in_([path.rsplit("/", 1)[1], made.rsplit("/", 1)[1]])
            )
        ).all()
    assert (path.rsplit("/", 1)[1], 2) in queued


def test_who_may_not_enter_records_is_offered_no_move(portal):
    path = entered(portal, notes=MARKER)
    page = portal.signed_in("patient").get(path)
    assert "It belongs to another person" not in page.text
    assert "It belongs to another person" in portal.signed_in("doctor").get(path).text
