"""Erasure over the pages: one asks, the patient is told, another agrees, jobs carries it out."""

from datetime import UTC, date, datetime, timedelta

import pytest
from installation import NUMBERS, Installation
from second_factor_helpers import Clock
from sqlalchemy import select, update

from medportal.core.clock import utcnow
from medportal.erasure import service
from medportal.erasure.errors import AlreadyAsked, LedgerDamaged, SamePerson
from medportal.erasure.ledger import ledger_path, read, replay
from medportal.erasure.models import Erasure
from medportal.mail.models import OutgoingMail
from medportal.records.models import Record, RecordVersion
from medportal.vault.errors import PatientKeyDestroyed
from medportal.vault.models import Document, PatientKey
from medportal.vault.stores import documents_of

HOSPITAL = "hospital"


def enter(portal: Installation) -> None:
    browser, patient = portal.signed_in("doctor"), portal.person("patient")
    form = browser.get(f"/patients/{patient}/records/new").forms["form"]
    form["effective"], form["body-temperature"] = "03/02/2026", "38.4"
    assert form.submit().status_int == 303


def age_everything(portal: Installation) -> None:
    """Let what is filed be older than any duty to keep."""
    with portal.session(HOSPITAL) as session, session.begin():
        session.execute(update(Record).values(effective_on=date(1990, 1, 1)))
        session.execute(update(RecordVersion).values(created_at=datetime(1990, 1, 1, tzinfo=UTC)))


def test_from_asking_to_a_restore(portal: Installation, clock: Clock) -> None:
    clock.now = utcnow()
    patient = portal.person("patient")
    enter(portal)
    officer = portal.signed_in("privacy_officer")
    # Nobody is found by a number that nobody has, and a doctor finds no such page.
    form = officer.get("/erasures").forms["form"]
    form["number"] = "10000001"
    assert "Nobody with this number" in form.submit(expect_errors=True).text
    assert portal.signed_in("doctor").get("/erasures", expect_errors=True).status_int == 404
    form = officer.get("/erasures").forms["form"]
    form["number"] = NUMBERS["patient"]
    asked = form.submit().follow()
    assert "Amanda Júlio" in asked.text
    # While the duty holds there is a date and no form.
    assert "wants these records to be kept" in asked.text
    assert "form" not in asked.forms

    age_everything(portal)
    path = f"/patients/{patient}/erasure"
    form = officer.get(path).forms["form"]
    form["reason"] = "person-asked"
    assert "Tick this" in form.submit(expect_errors=True).text
    form["checked"] = True
    page = form.submit().follow()
    assert "Waits for a second person" in page.text
    with portal.session(HOSPITAL) as session:
        row = session.scalars(select(Erasure)).one()
        mails = session.scalars(select(OutgoingMail.kind)).all()
        assert "erasure-asked" in mails or not mails
        erasure = row.id
    # Whoever asked does not decide; and a week has to pass.
    decide = f"/erasures/{erasure}"
    assert "You asked for it" in officer.get(decide).text
    officer.post(decide, {"deed": "refuse"}, expect_errors=True)
    admin = portal.signed_in("admin")
    assert "You can agree from" in admin.get(decide).text
    early = admin.post(decide, {"checked": "true"}, expect_errors=True)
    assert "still has time" in early.text

    clock.now += timedelta(days=7, minutes=1)
    admin = portal.signed_in("admin")
    form = admin.get(decide).forms["form"]
    form["checked"] = True
    assert form.submit().status_int == 303
    with portal.session(HOSPITAL) as session:
        sealed = session.get(PatientKey, patient)
        before = (sealed.tenant_key_version, sealed.wrapped)
    portal.jobs(HOSPITAL).turn(utcnow())

    with portal.session(HOSPITAL) as session:
        assert session.scalars(select(Record)).all() == []
        assert session.scalars(select(Document)).all() == []
        with pytest.raises(PatientKeyDestroyed):
            portal.keys(HOSPITAL).vault.patient_key(session, patient)
    ledger = ledger_path(portal.keys(HOSPITAL).places.pki)
    assert [entry.patient_id for entry in read(ledger)] == [patient]
    told = [event[0] for event in portal.events(HOSPITAL) if event[3] == patient]
    assert "patient-key-destroyed" in told
    assert "Erased" in admin.get("/erasures").text
    # Nothing opens, nothing new is filed, and the page says why.
    doctor = portal.signed_in("doctor")
    form = doctor.get(f"/patients/{patient}/records/new").forms["form"]
    form["effective"], form["body-temperature"] = "03/02/2026", "38.4"
    gone = form.submit(expect_errors=True)
    assert gone.status_int == 410 and "are erased" in gone.text

    # A backup of before brings the key back; the ledger takes it away again, once.
    with portal.session(HOSPITAL) as session, session.begin():
        session.execute(
            update(PatientKey)
            .where(PatientKey.patient_id == patient)
            .values(tenant_key_version=before[0], wrapped=before[1], destroyed_at=None)
        )
    tenant = portal.settings.tenant(HOSPITAL)
    for back in (1, 0):
        with portal.session(HOSPITAL) as session, session.begin():
            assert replay(session, documents_of(tenant, session), ledger) == back
    # A line that was changed, and a ledger without its first line, stop the restore.
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:50] + (b"A" if whole[50:51] != b"A" else b"B") + whole[51:])
    with pytest.raises(LedgerDamaged):
        read(ledger)
    # A line without its end was never in force.
    ledger.write_bytes(whole + whole[:40])
    assert len(read(ledger)) == 1
    ledger.write_bytes(whole)


def test_the_rules_hold_in_the_service(portal: Installation) -> None:
    tenant, laboratory = portal.settings.tenant("laboratory"), "laboratory"
    patient = portal.person("patient", laboratory)
    officer = portal.person("privacy_officer", laboratory)
    now = utcnow()
    with portal.session(laboratory) as session, session.begin():
        with pytest.raises(SamePerson):
            service.ask(session, tenant, patient, service.REASONS[0], patient, now)
        made = service.ask(session, tenant, patient, service.REASONS[0], officer, now)
        with pytest.raises(AlreadyAsked):
            service.ask(session, tenant, patient, service.REASONS[0], officer, now)
        for who in (officer, patient):
            with pytest.raises(SamePerson):
                service.agree(session, tenant, made, who, now + timedelta(days=30))
        assert service.withdraw(session, patient, now).id == made
