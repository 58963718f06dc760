"""Results that were held back: whom they are about, trying again, and giving them up."""

from dataclasses import replace
from datetime import timedelta

import pytest
from admin_helpers import employ, events_of, every_event
from functional_helpers import page_text
from installation import NUMBERS
from sqlalchemy import select, update

from medportal.audit.events import Action
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.inbox import Arrival, Awaiting, register
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.parcel import Parcel, inbox_info, outbox_info
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.identity.models import Person, RoleGrant
from medportal.patients.models import Patient
from medportal.records.models import Record

NAME = "Amanda Júlio"


@pytest.fixture
def parcel(portal):
    """Give a genuine parcel from the laboratory about the patient of both institutions."""
    browser = portal.signed_in("responsible", "laboratory")
    path = f"/patients/{portal.person('patient', 'laboratory')}/records/new"
    form = browser.get(path).forms["form"]
    form["effective"], form["body-temperature"] = "03/02/2026", "38.4"
    assert form.submit().status_int == 303
    with portal.session("laboratory") as session:
        row = session.scalars(select(Outbox).order_by(Outbox.created_at.desc())).first()
    info = outbox_info("laboratory", "hospital", row.tid)
    return Parcel.from_bytes(portal.keys("laboratory").open_outgoing(row.sealed, info))


def hold(portal, parcel, *, patient=None, sealed=None, reason=DeliveryReason.DEMOGRAPHICS_DIFFER):
    """Put a parcel into the hospital's inbox, held back by its receiver; return the transfer id."""
    tid = new_id()
    keys = portal.keys("hospital")
    arrival = Arrival(
        sender="laboratory",
        tid=tid,
        digest=new_id().encode(),
        pseudonym=b"p" * 32,
        key_id="k",
        outcome=Outcome.HELD_FOR_REVIEW,
        reason=reason,
        patient_id=patient,
        sealed=sealed
        or keys.sealer("inbox").seal(parcel.to_bytes(), inbox_info("hospital", "laboratory", tid)),
    )
    with portal.session("hospital") as session, session.begin():
        register(session, [arrival], utcnow())
    return tid


def turn(portal):
    portal.jobs("hospital").turn(utcnow())


def row_of(portal, tid):
    with portal.session("hospital") as session:
        return session.scalars(select(Inbox).where(Inbox.tid == tid)).one()


def rename(portal, name):
    with portal.session("hospital") as session, session.begin():
        session.get(Person, portal.person("patient")).name = name


def path_of(tid):
    return f"/held/laboratory/{tid}"


@pytest.fixture
def clerk(portal):
    return portal.signed_in("ward_clerk")


def test_a_clerk_mends_the_name_and_the_result_is_filed(portal, parcel, clerk):
    rename(portal, "Amanda Julieta")
    tid = hold(portal, parcel, patient=portal.person("patient"))
    turn(portal)
    listed = clerk.get("/held")
    assert path_of(tid) in listed.text and NAME not in listed.text
    page = clerk.get(path_of(tid))
    text = page_text(page)
    assert NAME in text and "Amanda Julieta" in text and "Not the same" in text
    assert NUMBERS["patient"] in text
    # Tried again before anything was mended, it is back: intake asks nobody's word.
    assert page.forms["again"].submit().location.endswith("/held")
    turn(portal)
    held = row_of(portal, tid)
    assert held.awaiting == Awaiting.PERSON and held.reason == DeliveryReason.DEMOGRAPHICS_DIFFER
    rename(portal, NAME)
    page = clerk.get(path_of(tid))
    assert "Not the same" not in page_text(page)
    page.forms["again"].submit()
    turn(portal)
    filed = row_of(portal, tid)
    assert filed.record_id and filed.told is None and filed.sealed is None
    assert path_of(tid) not in clerk.get("/held").text
    decided = [e for e in events_of(portal, Action.HELD_DECIDED) if e.object == tid]
    assert [e.details["decision"] for e in decided] == ["again", "again"]
    assert {e.patient for e in decided} == {portal.person("patient")}


def test_nothing_of_what_is_in_it_is_shown_or_kept_open(portal, parcel, clerk):
    tid = hold(portal, parcel, patient=portal.person("patient"))
    turn(portal)
    page = clerk.get(path_of(tid))
    assert "38.4" not in page.text and "temperature" not in page.text.casefold()
    told = row_of(portal, tid).told
    assert NAME.encode() not in told and NUMBERS["patient"].encode() not in told
    log = every_event(portal, "hospital")
    assert NAME not in log and NUMBERS["patient"] not in log
    patient = portal.signed_in("patient")
    entries = patient.get(f"/patients/{portal.person('patient')}/access-log")
    assert "looked at whom a record is about that was sent to us" in entries.text


def test_the_portal_itself_cannot_open_what_partners_send(portal, parcel):
    """The page rests on what the jobs prepared; until then it says that it cannot be read."""
    tid = hold(portal, parcel, patient=portal.person("patient"))
    clerk = portal.signed_in("ward_clerk")
    page = clerk.get(path_of(tid))
    assert "cannot be read" in page.text and NAME not in page.text
    assert "again" not in page.forms and "not-ours" in page.forms


def test_a_number_of_nobody_here_is_tried_again_after_nothing(portal, parcel, clerk):
    stranger = replace(parcel, number="99887766")
    tid = hold(portal, stranger, reason=DeliveryReason.PATIENT_AMBIGUOUS)
    turn(portal)
    page = clerk.get(path_of(tid))
    assert "Nobody here has it" in page_text(page) and "again" not in page.forms
    answer = clerk.post(path_of(tid), {"__formid__": "again"}, expect_errors=True)
    assert answer.status_int == 422 and "Register the patient first" in answer.text
    assert row_of(portal, tid).awaiting == Awaiting.PERSON


def test_what_is_not_ours_is_deleted_here_and_the_receipt_stays(portal, parcel, clerk):
    tid = hold(portal, parcel)
    turn(portal)
    page = clerk.get(path_of(tid))
    assert "deleted here for good after" in page.text
    bare = page.forms["not-ours"].submit(expect_errors=True)
    assert bare.status_int == 422 and row_of(portal, tid).sealed
    form = clerk.get(path_of(tid)).forms["not-ours"]
    form["reason"] = "no-such-thing"
    answer = form.submit()
    assert answer.location.endswith("/held")
    row = row_of(portal, tid)
    assert row.sealed and row.told and row.awaiting == Awaiting.UNDOING
    assert row.outcome == Outcome.HELD_FOR_REVIEW and row.record_id is None
    (event,) = [e for e in events_of(portal, Action.HELD_DECIDED) if e.object == tid]
    assert event.details["decision"] == "not-ours" and event.reasons == ("no-such-thing",)
    # Pressed twice.
    assert "A colleague has decided" in form.submit().follow().text
    decided = [e.outcome for e in events_of(portal, Action.HELD_DECIDED) if e.object == tid]
    assert decided == ["allowed", "denied"]
    # After its time the content is gone, and the jobs did that by themselves.
    portal.jobs("hospital").turn(utcnow() + timedelta(days=29))
    assert row_of(portal, tid).sealed
    portal.jobs("hospital").turn(utcnow() + timedelta(days=31))
    row = row_of(portal, tid)
    assert row.sealed is None and row.told is None and row.awaiting is None and row.filed_at
    # The session ended with the month.
    later = portal.signed_in("ward_clerk")
    later.get(path_of(tid), status=404)
    answer = later.post(path_of(tid), {"__formid__": "undo"})
    assert answer.location.endswith("/held") and row_of(portal, tid).awaiting is None
    assert path_of(tid) not in later.get("/held?declined=1").text


def test_a_colleague_undoes_what_one_person_decided(portal, parcel, clerk):
    rename(portal, NAME)
    tid = hold(portal, parcel, patient=portal.person("patient"))
    turn(portal)
    form = clerk.get(path_of(tid)).forms["not-ours"]
    form["reason"] = "wrong-data"
    assert form.submit().status_int == 303
    turn(portal)
    assert row_of(portal, tid).record_id is None
    colleague = employ(portal, "ward_clerk").signed_in()
    assert path_of(tid) not in colleague.get("/held").text
    page = (
        colleague.get("/held")
        .click("What was decided not to be ours")
        .click(href=path_of(tid) + "$")
    )
    assert NAME in page.text and "again" not in page.forms and "not-ours" not in page.forms
    undo = page.forms["undo"]
    assert undo.submit().location.endswith("/held")
    assert path_of(tid) in colleague.get("/held").text
    # Pressed twice; tried on what was never declined.
    assert "A colleague has decided" in undo.submit().follow().text
    assert row_of(portal, tid).awaiting == Awaiting.PERSON and row_of(portal, tid).filed_at is None
    colleague.get(path_of(tid)).forms["again"].submit()
    turn(portal)
    assert row_of(portal, tid).record_id
    decided = [e for e in events_of(portal, Action.HELD_DECIDED) if e.object == tid]
    told = [(e.details["decision"], e.outcome) for e in decided]
    assert told == [
        ("not-ours", "allowed"),
        ("undo", "allowed"),
        ("undo", "denied"),
        ("again", "allowed"),
    ]


def test_two_who_decide_at_once_decide_once(portal, parcel):
    rename(portal, NAME)
    tid = hold(portal, parcel, patient=portal.person("patient"))
    turn(portal)
    first = portal.signed_in("ward_clerk").get(path_of(tid)).forms["again"]
    second = employ(portal, "ward_clerk").signed_in().get(path_of(tid)).forms["not-ours"]
    second["reason"] = "wrong-data"
    assert first.submit().status_int == 303
    assert "does not wait for a decision any more" in second.submit().follow().text
    assert row_of(portal, tid).sealed is not None
    turn(portal)
    assert row_of(portal, tid).record_id


def test_nobody_decides_about_their_own(portal, parcel):
    """A clerk who is the patient: neither sees what is said of them as staff nor files it."""
    me = employ(portal, "ward_clerk")
    with portal.session("hospital") as session, session.begin():
        session.add(
            Patient(person_id=me.id, status="active", ward="", bed="", registered_at=utcnow())
        )
        session.add(RoleGrant(person_id=me.id, role="patient", granted_at=utcnow()))
    tid = hold(portal, replace(parcel, number=me.number))
    turn(portal)
    browser = me.signed_in()
    page = browser.get(path_of(tid))
    assert "This is about yourself" in page.text and NAME not in page.text
    assert "again" not in page.forms and "not-ours" not in page.forms
    for fields in ({"__formid__": "again"}, {"__formid__": "not-ours", "reason": "wrong-data"}):
        answer = browser.post(path_of(tid), fields, expect_errors=True)
        assert answer.status_int == 422
    assert row_of(portal, tid).awaiting == Awaiting.PERSON
    refused = [e for e in events_of(portal, Action.HELD_DECIDED) if e.object == tid]
    assert [e.outcome for e in refused] == ["denied", "denied"]


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "Ana\u202egnorw",
        "Ana\x00\n\r",
        "A" * 5000,
        "\U0001f600" * 300,
        "",
    ],
    ids=["script", "bidi", "control", "long", "wide", "empty"],
)
def test_whatever_a_partner_calls_the_patient_is_shown_as_text(portal, parcel, clerk, name):
    tid = hold(portal, replace(parcel, name=name), patient=portal.person("patient"))
    turn(portal)
    page = clerk.get(path_of(tid))
    assert "Not the same" in page_text(page)
    assert "<script>alert" not in page.text and "\u202e" not in page.text
    assert "A" * 201 not in page.text and "\x00" not in page.text


@pytest.mark.parametrize("what", ["noise", "empty-parcel", "another-place"])
def test_what_does_not_open_says_nothing_and_holds_up_nothing(portal, parcel, clerk, what):
    keys = portal.keys("hospital")
    sealed = {
        "noise": b"\x00" * 300,
        "empty-parcel": keys.sealer("inbox").seal(b"", b"x"),
        "another-place": keys.sealer("inbox").seal(parcel.to_bytes(), b"elsewhere"),
    }[what]
    bad = hold(portal, parcel, sealed=sealed, reason=DeliveryReason.CANNOT_OPEN)
    good = hold(portal, parcel, patient=portal.person("patient"))
    turn(portal)
    assert row_of(portal, bad).told and row_of(portal, good).told
    assert "cannot be read" in clerk.get(path_of(bad)).text
    assert NAME in clerk.get(path_of(good)).text


def test_what_was_told_of_another_item_is_not_shown(portal, parcel, clerk):
    """A thief who can write swaps what two items say: neither opens."""
    one, other = (hold(portal, parcel, patient=portal.person("patient")) for _item in range(2))
    turn(portal)
    with portal.session("hospital") as session, session.begin():
        told = session.scalars(select(Inbox.told).where(Inbox.tid == other)).one()
        session.execute(update(Inbox).where(Inbox.tid == one).values(told=told))
    page = clerk.get(path_of(one))
    assert "cannot be read" in page.text and NAME not in page.text


@pytest.mark.parametrize("role", ["doctor", "nurse", "admin", "auditor", "patient", "porter"])
def test_who_does_not_decide_sees_nothing_of_it(portal, parcel, role):
    tid = hold(portal, parcel)
    browser = portal.signed_in(role)
    for path in ("/held", path_of(tid)):
        browser.get(path, status=404)
    browser.post(path_of(tid), {"__formid__": "again"}, status=404)
    assert row_of(portal, tid).awaiting == Awaiting.PERSON


def test_the_other_institutions_items_are_not_here(portal, parcel):
    tid = hold(portal, parcel)
    browser = portal.signed_in("responsible", "laboratory")
    assert path_of(tid) not in browser.get("/held").text
    browser.get(path_of(tid), status=404)
    browser.get("/held", params={"after": f"laboratory.{tid}"}, status=404)


def test_the_list_pages_by_key(portal, parcel, clerk, monkeypatch):
    monkeypatch.setattr("medportal.results.views.held.PAGE", 2)
    mine = [hold(portal, parcel) for _item in range(5)]
    page, seen = clerk.get("/held"), []
    while True:
        seen += [a["href"].rpartition("/")[2] for a in page.html.select("li.card a")]
        if "Further ones" not in page.text:
            break
        page = page.click("Further ones")
    assert [tid for tid in seen if tid in mine] == mine and len(seen) == len(set(seen))
    for key in ("x", "laboratory.x", f"hospital.{mine[0]}", f"laboratory.{new_id()}"):
        clerk.get("/held", params={"after": key}, status=404)


def test_a_forgery_is_not_filed_by_whoever_says_try_again(portal, parcel, clerk):
    forged = replace(parcel, content=parcel.content.replace(b"38.4", b"36.4"))
    tid = hold(portal, forged, patient=portal.person("patient"))
    turn(portal)
    with portal.session("hospital") as session:
        before = set(session.scalars(select(Record.id)))
    clerk.get(path_of(tid)).forms["again"].submit()
    turn(portal)
    row = row_of(portal, tid)
    assert row.awaiting == Awaiting.PERSON and row.reason == DeliveryReason.SIGNATURE_INVALID
    assert "do not rely on anything" in clerk.get(path_of(tid)).text
    with portal.session("hospital") as session:
        assert set(session.scalars(select(Record.id))) == before


def test_further_ones_are_found_after_the_last_of_a_page_was_decided(
    portal, parcel, clerk, monkeypatch
):
    monkeypatch.setattr("medportal.results.views.held.PAGE", 2)
    mine = [hold(portal, parcel) for _item in range(3)]
    page = clerk.get("/held")
    while path_of(mine[0]) not in page.text and path_of(mine[1]) not in page.text:
        page = page.click("Further ones")
    last = page.html.select("li.card a")[-1]["href"].rpartition("/")[2]
    further = page.click("Further ones")
    turn(portal)
    form = clerk.get(path_of(last)).forms["not-ours"]
    form["reason"] = "wrong-data"
    assert form.submit().status_int == 303
    assert path_of(last) not in clerk.get("/held").text
    again = page.click("Further ones")
    assert page_text(again) == page_text(further)


@pytest.mark.parametrize("number", ["99887755", "not a number"])
def test_nobody_decides_about_who_has_their_name_and_birth_date(portal, parcel, number):
    """A clerk about whom something came under a number that nobody has here."""
    me = employ(portal, "ward_clerk")
    with portal.session("hospital") as session:
        person = session.get(Person, me.id)
        mine = replace(parcel, number=number, name=person.name, birth=person.birth_date.isoformat())
    tid, other = hold(portal, mine), hold(portal, replace(mine, birth="1901-01-01"))
    turn(portal)
    browser = me.signed_in()
    assert "This is about yourself" in browser.get(path_of(tid)).text
    fields = {"__formid__": "not-ours", "reason": "wrong-data"}
    assert browser.post(path_of(tid), fields, expect_errors=True).status_int == 422
    assert row_of(portal, tid).awaiting == Awaiting.PERSON
    # Another person of the same name, as the date of birth says.
    assert "This is about yourself" not in browser.get(path_of(other)).text
    colleague = employ(portal, "ward_clerk", name="Carlota Another").signed_in()
    assert "not-ours" in colleague.get(path_of(tid)).forms
