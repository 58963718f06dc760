"""Corrections go where the record went, and both sides show the newest and keep every version."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from care_helpers import new_patient
from exchange_helpers import exchange, parcels_of
from functional_helpers import page_text
from sqlalchemy import select
from test_jobs import deliver, inbox_row
from version_helpers import amend, entered, events_about, retract, versions_of

from medportal.core.clock import utcnow
from medportal.delivery import inbox
from medportal.delivery.inbox import Awaiting
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.states import DeliveryReason
from medportal.patients.models import Destination
from medportal.pki.partners import restore_partner, revoke_partner
from medportal.records import catalogue as catalogues
from medportal.records import service
from medportal.records.content import Quantity
from medportal.records.fhir import read, to_fhir
from medportal.records.models import Record, RecordVersion

MARKER = "Zyxomorph fever of the left knee"


def chain(portal, *glucoses):
    """Enter a record at the laboratory and correct it; return its path and all its parcels."""
    path = entered(portal, "laboratory", glucose=glucoses[0])
    browser = portal.signed_in("responsible", "laboratory")
    for glucose in glucoses[1:]:
        answer = amend(browser, path, glucose=glucose, change_reason=f"It was {glucose}.")
        assert answer.status_int == 303, page_text(answer)
    return path, parcels_of(portal, path)


def take_in(portal, parcel, **more):
    """Deliver a parcel and file it; return its row of the inbox."""
    tid = deliver(portal, parcel, **more)
    portal.jobs("hospital").turn(utcnow())
    return inbox_row(portal, tid)


def at_the_hospital(portal, path):
    """Return the path of a laboratory's record where it was received, ``None`` if it was not."""
    with portal.session("hospital") as session:
        row = session.scalars(
            select(Record).where(Record.origin_record_id == path.rsplit("/", 1)[1])
        ).one_or_none()
    return None if row is None else f"/patients/{row.patient_id}/records/{row.id}"


def test_a_correction_travels_over_the_wire_and_supersedes(portal):
    path = entered(portal, "laboratory", glucose="95", notes=MARKER)
    exchange(portal)
    there = at_the_hospital(portal, path)
    patient = portal.signed_in("patient")
    assert "95" in page_text(patient.get(there))
    laboratory = portal.signed_in("responsible", "laboratory")
    amend(laboratory, path, glucose="59", change_reason="Digits turned.")
    exchange(portal)
    page = page_text(patient.get(there))
    assert "59" in page and "95" not in page and "Digits turned." in page
    assert "Corrected by Person responsible" in page and "The signature is right." in page
    history = page_text(patient.get(f"{there}/versions"))
    assert "95" in history and "59" in history and "never arrived" not in history
    assert "95" in page_text(patient.get(f"{there}/versions/1"))
    assert "Delivered" in page_text(laboratory.get(path))
    retract(laboratory, path, "Another person's blood.")
    exchange(portal)
    page = page_text(patient.get(there))
    assert "Taken back by" in page and "Another person's blood." in page and MARKER not in page
    rows = versions_of(portal, there)
    assert [row.status for row in rows] == ["final", "corrected", "entered-in-error"]
    assert [row.replaces for row in rows] == [None, rows[0].content_digest, rows[1].content_digest]
    with portal.session("hospital") as session:
        assert (
            session.scalars(select(Inbox.awaiting).where(Inbox.awaiting.is_not(None))).all() == []
        )


def test_a_hospital_corrects_what_it_made_itself_only(portal):
    path, parcels = chain(portal, "95")
    take_in(portal, parcels[0])
    there = at_the_hospital(portal, path)
    doctor = portal.signed_in("doctor")
    assert "came from" in page_text(doctor.get(there))
    for what in ("amend", "retract", "move"):
        doctor.get(f"{there}/{what}", status=404)


def test_a_correction_whose_first_version_never_came_is_taken_and_marked(portal):
    path, parcels = chain(portal, "95", "96")
    assert take_in(portal, parcels[1]).filed_at is not None
    there = at_the_hospital(portal, path)
    patient = portal.signed_in("patient")
    assert "The version before this one never arrived here." in page_text(patient.get(there))
    assert "96" in page_text(patient.get(there))
    # It comes after all: it joins the history, and what counts does not go back.
    assert take_in(portal, parcels[0]).filed_at is not None
    page = page_text(patient.get(there))
    assert "96" in page and "95" not in page and "never arrived" not in page
    assert [row.version for row in versions_of(portal, there)] == [1, 2]


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_in_whatever_order_they_come_the_newest_counts(portal, order):
    path, parcels = chain(portal, "91", "92", "93")
    for position in order:
        assert take_in(portal, parcels[position]).filed_at is not None
    there = at_the_hospital(portal, path)
    page = page_text(portal.signed_in("patient").get(there))
    assert "93" in page and "91" not in page
    history = page_text(portal.signed_in("patient").get(f"{there}/versions"))
    assert "never arrived" not in history and history.count("What changed") == 2


@pytest.mark.parametrize("held_first", [0, 2])
def test_a_gap_waits_for_a_person_who_may_let_it_be(portal, held_first):
    """A number far ahead would hide every correction that follows what is held."""
    path, parcels = chain(portal, "81", "82", "83")
    assert take_in(portal, parcels[held_first]).filed_at is not None
    row = take_in(portal, parcels[2 - held_first])
    assert (row.awaiting, row.reason) == (Awaiting.PERSON, DeliveryReason.ORIGINAL_MISSING)
    there = at_the_hospital(portal, path)
    assert len(versions_of(portal, there)) == 1
    with portal.session("hospital") as session, session.begin():
        inbox.approve(session, row.sender, row.tid, portal.person("patient"))
    portal.jobs("hospital").turn(utcnow())
    assert inbox_row(portal, row.tid).filed_at is not None
    assert [version.version for version in versions_of(portal, there)] == [1, 3]
    page = page_text(portal.signed_in("patient").get(there))
    assert "83" in page and "The version before this one never arrived here." in page


@pytest.mark.parametrize("gap", [900, 999_999_999])
def test_a_version_far_ahead_waits_for_a_person(portal, gap):
    path, parcels = chain(portal, "81", "82")
    assert take_in(portal, parcels[0]).filed_at is not None
    row = take_in(portal, fork(portal, path, "83", version=gap))
    assert (row.awaiting, row.reason) == (Awaiting.PERSON, DeliveryReason.ORIGINAL_MISSING)
    assert take_in(portal, parcels[1]).filed_at is not None


@pytest.mark.parametrize("when", [date(9999, 12, 31), date(1869, 12, 31), date(1, 1, 1)])
def test_a_time_that_cannot_be_is_not_filed(portal, when):
    """It would stand above all others, and keep the patient's records from being erased."""
    path, parcels = chain(portal, "81", "82")
    unfit = fork(portal, path, "83", effective=when)
    row = take_in(portal, unfit)
    assert (row.awaiting, row.reason) == (Awaiting.PERSON, DeliveryReason.CONTENT_INVALID)
    assert at_the_hospital(portal, path) is None
    assert take_in(portal, parcels[0]).filed_at is not None


def test_an_instant_a_little_ahead_is_a_clock_that_is(portal):
    path, _parcels = chain(portal, "81", "82")
    soon = utcnow().replace(microsecond=0) + timedelta(minutes=3)
    assert take_in(portal, fork(portal, path, "83", effective=soon)).filed_at is not None


def test_an_instant_of_tomorrow_is_not_filed(portal):
    path, _parcels = chain(portal, "81", "82")
    later = utcnow().replace(microsecond=0) + timedelta(hours=1)
    row = take_in(portal, fork(portal, path, "83", effective=later))
    assert (row.awaiting, row.reason) == (Awaiting.PERSON, DeliveryReason.CONTENT_INVALID)


def test_a_second_version_of_another_first_is_not_filed(portal):
    """The laboratory was restored from a backup, or lies: there are two second versions."""
    path, parcels = chain(portal, "71", "72")
    forked = fork(portal, path, "73")
    assert take_in(portal, parcels[0]).filed_at is not None
    assert take_in(portal, parcels[1]).filed_at is not None
    row = take_in(portal, forked)
    assert (row.awaiting, row.reason) == (Awaiting.PERSON, DeliveryReason.DIGEST_CONFLICT)
    there = at_the_hospital(portal, path)
    page = page_text(portal.signed_in("patient").get(there))
    assert "72" in page and "73" not in page


@pytest.mark.parametrize("held_first", [True, False], ids=["the-first-held", "the-second-held"])
def test_what_does_not_continue_what_is_held_is_not_filed(portal, held_first):
    """A version that names another predecessor, before and after the one that it would follow."""
    path, parcels = chain(portal, "61", "62")
    unfit = fork(portal, path, "63", replaces="ab" * 32)
    held, late = (parcels[0], unfit) if held_first else (unfit, parcels[0])
    assert take_in(portal, held).filed_at is not None
    row = take_in(portal, late)
    assert (row.awaiting, row.reason) == (Awaiting.PERSON, DeliveryReason.CORRECTION_UNFIT)
    assert len(versions_of(portal, at_the_hospital(portal, path))) == 1


def fork(portal, path, glucose, **changes):
    """Return a parcel with another second version of a record, signed by the laboratory."""
    second = parcels_of(portal, path)[1]
    reading = read(second.content)
    (one,) = reading.record.observations
    value = Quantity(Decimal(glucose), one.value.unit)
    record = replace(reading.record, observations=(replace(one, value=value),), **changes)
    content = to_fhir(record, reading.subject, catalogues.load())
    statement = service._sign(portal.keys("laboratory"), record, content, utcnow())
    return replace(second, content=content, statement=statement)


def test_a_correction_that_changes_the_patient_is_not_filed(portal):
    """Its sender moved the record to another patient under the same id."""
    path, parcels = chain(portal, "51", "52")
    assert take_in(portal, parcels[0]).filed_at is not None
    number, name = "57000009", "Benedita Prazeres"
    other = new_patient(portal, name, number=number)
    moved = about_another(portal, parcels[1], number, name, "1951-04-05")
    row = take_in(portal, moved, patient=other)
    assert (row.awaiting, row.reason) == (Awaiting.PERSON, DeliveryReason.CORRECTION_UNFIT)
    there = at_the_hospital(portal, path)
    assert len(versions_of(portal, there)) == 1 and portal.person("patient") in there


def about_another(portal, parcel, number, name, birth):
    """Return a parcel that says the same of somebody else, signed by the laboratory."""
    reading = read(parcel.content)
    born = date.fromisoformat(birth)
    subject = replace(reading.subject, number=number, name=name, birth_date=born)
    content = to_fhir(reading.record, subject, catalogues.load())
    statement = service._sign(portal.keys("laboratory"), reading.record, content, utcnow())
    return replace(
        parcel, content=content, statement=statement, number=number, name=name, birth=birth
    )


def test_the_same_version_twice_makes_no_second_one(portal):
    path, parcels = chain(portal, "95", "96")
    for parcel in parcels:
        assert take_in(portal, parcel).filed_at is not None
    again = take_in(portal, parcels[1])
    assert (again.awaiting, again.reason) == (Awaiting.PERSON, DeliveryReason.DIGEST_CONFLICT)
    assert len(versions_of(portal, at_the_hospital(portal, path))) == 2


def test_a_correction_goes_also_to_who_is_not_named_any_more(portal):
    path = entered(portal, "laboratory", glucose="95")
    with portal.session("laboratory") as session, session.begin():
        row = session.scalars(
            select(Destination).where(
                Destination.patient_id == portal.person("patient", "laboratory")
            )
        ).one()
        named = {"patient_id": row.patient_id, "partner": row.partner, "named_at": row.named_at}
        session.delete(row)
    amend(portal.signed_in("responsible", "laboratory"), path, glucose="96")
    with portal.session("laboratory") as session, session.begin():
        session.add(Destination(named_by=None, **named))
    assert len(parcels_of(portal, path)) == 2


def test_a_partner_that_is_not_trusted_any_more_gets_no_correction_and_it_is_said(portal):
    path = entered(portal, "laboratory", glucose="95")
    pki = portal.keys("laboratory").places.pki
    revoke_partner(pki, "hospital", utcnow(), "test")
    try:
        browser = portal.signed_in("responsible", "laboratory")
        assert amend(browser, path, glucose="96").status_int == 303
    finally:
        restore_partner(pki, "hospital")
    with portal.session("laboratory") as session:
        versions = session.scalars(
            select(Outbox.version).where(Outbox.record_id == path.rsplit("/", 1)[1])
        ).all()
    assert versions == [1]
    assert ("delivery-queued", "denied") in {e[:2] for e in portal.events("laboratory")}


def test_a_correction_of_before_the_index_knew_of_versions_opens_and_is_told_as_signed(portal):
    """The migration cannot look into what is sealed: it says "final", which none ever signed."""
    path, parcels = chain(portal, "95", "96")
    assert take_in(portal, parcels[1]).filed_at is not None
    there = at_the_hospital(portal, path)
    record_id = there.rsplit("/", 1)[1]
    with portal.session("hospital") as session, session.begin():
        record = session.get_one(Record, record_id)
        record.head, record.status = None, "final"
        version = session.get_one(RecordVersion, (record_id, 2))
        version.status, version.replaces = "final", None
    patient = portal.signed_in("patient")
    for address in (there, f"{there}/versions", f"{there}/versions/2"):
        page = page_text(patient.get(address))
        assert "96" in page and "Corrected" in page
        assert "The version before this one never arrived here." in page
    timeline = patient.get(there.rpartition("/records/")[0])
    (card,) = (li for li in timeline.html.select("li.record") if li.find("a", href=there))
    assert "Cannot be trusted" not in card.get_text()
    # The version before it comes after all.
    assert take_in(portal, parcels[0]).filed_at is not None
    assert "96" in page_text(patient.get(there)) and "95" in page_text(
        patient.get(f"{there}/versions/1")
    )


def test_what_is_filed_of_a_correction_is_in_the_log(portal):
    path, parcels = chain(portal, "95", "96")
    take_in(portal, parcels[1])
    take_in(portal, parcels[0])
    filed = [
        e.details
        for e in events_about(portal, at_the_hospital(portal, path))
        if e.action == "record-filed"
    ]
    told = [(d.get("version"), d.get("status"), d.get("follows")) for d in filed]
    assert told == [(2, "corrected", 0), (None, None, None)]
