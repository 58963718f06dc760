"""Erasure over the pages: one asks, the patient is told, another agrees, jobs carries it out."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from installation import NUMBERS, Installation
from second_factor_helpers import Clock
from sqlalchemy import select, update

from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Inbox
from medportal.erasure import service
from medportal.erasure.errors import (
    AlreadyAsked,
    LedgerDamaged,
    NotOffered,
    NotYetProven,
    SamePerson,
)
from medportal.erasure.ledger import is_in, ledger_path, read, replay
from medportal.erasure.models import Erasure
from medportal.erasure.removal import remove
from medportal.identity.models import Person
from medportal.mail.models import OutgoingMail
from medportal.patients.models_index import PartnerIndex
from medportal.pki.profiles import Purpose
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
    # No mail reaches the patient: nobody says that they were told unless they were.
    assert "No mail reaches this patient" in form.submit(expect_errors=True).text
    with portal.session(HOSPITAL) as session:
        assert session.scalars(select(Erasure)).all() == []
    form["on_paper"] = True
    page = form.submit().follow()
    assert "Waits for a second person" in page.text
    with portal.session(HOSPITAL) as session:
        row = session.scalars(select(Erasure)).one()
        assert "erasure-asked" not in session.scalars(select(OutgoingMail.kind)).all()
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
    portal.jobs(HOSPITAL).turn(clock.now)

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
    now, why = utcnow(), service.REASONS[0]
    with portal.session(laboratory) as session, session.begin():
        with pytest.raises(SamePerson):
            service.ask(session, tenant, patient, why, patient, now)
        with pytest.raises(NotOffered):
            service.ask(session, tenant, patient, why, officer, now)
        made = service.ask(session, tenant, patient, why, officer, now, on_paper=True)
        with pytest.raises(AlreadyAsked):
            service.ask(session, tenant, patient, why, officer, now, on_paper=True)
        for who in (officer, patient):
            with pytest.raises(SamePerson):
                service.agree(session, tenant, made, who, now + timedelta(days=30))
        assert service.withdraw(session, patient, now).id == made


def test_a_mail_is_posted_where_there_is_an_address_and_a_server(portal: Installation) -> None:
    tenant, laboratory = portal.settings.tenant("laboratory"), "laboratory"
    with_server = replace(tenant, mail=portal.settings.tenant(HOSPITAL).mail or object())
    patient = portal.person("patient", laboratory)
    officer = portal.person("privacy_officer", laboratory)
    with portal.session(laboratory) as session:
        session.execute(update(Person).where(Person.id == patient).values(email="a@mail.example"))
        without_server = replace(tenant, mail=None)
        assert not service.gets_mail(session, without_server, patient)
        service.ask(session, with_server, patient, service.REASONS[0], officer, utcnow())
        session.flush()
        kinds = session.scalars(select(OutgoingMail.kind)).all()
        assert kinds.count("erasure-asked") == 1
        session.rollback()


#: What is wrong with a row that says "agreed", and when jobs looks at it.
FORGED = {
    "no-event": {},
    "one-person": {"decided_by": "asker"},
    "the-patient": {"decided_by": "patient"},
    "nobody": {"decided_by": None, "decided_at": None},
    "in-a-hurry": {"decided_at": timedelta(days=6)},
}


def settle(portal: Installation, now: datetime) -> None:
    jobs = portal.jobs("laboratory")
    while jobs.turn(now):
        pass


def agreed_row(portal: Installation, now: datetime, **other: Any) -> str:
    """Put an erasure that is agreed to into the database, without a person's deed."""
    people = {
        "asker": portal.person("privacy_officer", "laboratory"),
        "patient": portal.person("patient", "laboratory"),
        "second": portal.person("admin", "laboratory"),
    }
    values = {"decided_by": "second", "decided_at": timedelta(days=8), **other}
    wait = values["decided_at"]
    made = Erasure(
        id=new_id(),
        patient_id=people["patient"],
        state="agreed",
        reason="person-asked",
        asked_by=people["asker"],
        asked_at=now,
        offered_at=now,
        decided_by=people[values["decided_by"]] if values["decided_by"] else None,
        decided_at=now + wait if wait is not None else None,
    )
    with portal.session("laboratory") as session, session.begin():
        session.add(made)
        return str(made.id)


def log_it(portal: Installation, erasure: str, **other: Any) -> None:
    """Write the two events that people's deeds would have written."""
    with portal.session("laboratory") as session, session.begin():
        row = session.get(Erasure, erasure)
        for action, actor, at in (
            (Action.ERASURE_ASKED, row.asked_by, row.asked_at),
            (Action.ERASURE_AGREED, row.decided_by, row.decided_at),
        ):
            event = {"actor": actor, "patient": row.patient_id, "now": at, **other}
            append(session, Event.create(action, object=erasure, **event))


def outcome(portal: Installation, erasure: str) -> tuple[str, list[str], bool, bool]:
    """Return the state, what the log says of it, whether the key lives, and the ledger's line."""
    ledger = ledger_path(portal.keys("laboratory").places.pki)
    with portal.session("laboratory") as session:
        row = session.get(Erasure, erasure)
        key = session.get(PatientKey, row.patient_id)
        told = session.scalars(
            select(AuditEvent.outcome).where(
                AuditEvent.object == erasure,
                AuditEvent.action == str(Action.PATIENT_KEY_DESTROYED),
            )
        ).all()
        return row.state, list(told), key.wrapped is not None, is_in(ledger, erasure)


def give_a_key(portal: Installation) -> None:
    vault = portal.keys("laboratory").vault
    with portal.session("laboratory") as session, session.begin():
        vault.patient_key(session, portal.person("patient", "laboratory"), create=True)


@pytest.mark.parametrize("what", FORGED)
def test_a_row_that_only_says_agreed_erases_nothing(portal: Installation, what: str) -> None:
    give_a_key(portal)
    now = utcnow()
    erasure = agreed_row(portal, now, **FORGED[what])
    if what not in ("no-event", "nobody"):
        log_it(portal, erasure)
    settle(portal, now + timedelta(days=9))
    assert outcome(portal, erasure) == ("stopped", ["failed"], True, False)
    # Once: it is not tried, and told, every two seconds.
    settle(portal, now + timedelta(days=10))
    assert outcome(portal, erasure)[1] == ["failed"]


@pytest.mark.parametrize(
    "other",
    [{"actor": "somebody-else"}, {"patient": "f" * 32}, {"outcome": Outcome.DENIED}],
    ids=["another-person", "another-patient", "denied"],
)
def test_events_of_something_else_do_not_count(portal: Installation, other: Any) -> None:
    give_a_key(portal)
    now = utcnow()
    erasure = agreed_row(portal, now)
    log_it(portal, erasure, **other)
    settle(portal, now + timedelta(days=9))
    assert outcome(portal, erasure) == ("stopped", ["failed"], True, False)


def test_an_event_without_its_number_is_waited_for(portal: Installation) -> None:
    give_a_key(portal)
    now = utcnow()
    erasure = agreed_row(portal, now)
    log_it(portal, erasure)
    with portal.session("laboratory") as session:
        shown = service.find(session, erasure)
        keys = portal.keys("laboratory")
        with pytest.raises(NotYetProven):
            service.carry_out(
                session,
                keys.tenant,
                documents_of(keys.tenant, session),
                keys.signer(Purpose.HEAD),
                ledger_path(keys.places.pki),
                shown,
                now + timedelta(days=9),
            )
        session.rollback()
    with portal.session("laboratory") as session, session.begin():
        session.delete(session.get(Erasure, erasure))


def test_a_record_that_came_after_the_agreement_stops_the_erasure(
    portal: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_a_key(portal)
    now = utcnow()
    erasure = agreed_row(portal, now)
    log_it(portal, erasure)
    monkeypatch.setattr(service, "kept_until", lambda *_all: date.max)
    settle(portal, now + timedelta(days=9))
    assert outcome(portal, erasure) == ("stopped", ["failed"], True, False)


def test_a_record_dated_beyond_every_calendar_breaks_no_page() -> None:
    assert service._years_later(date(9999, 12, 31), 20) == date.max
    assert service._years_later(date(2024, 2, 29), 1) == date(2025, 3, 1)


def test_what_was_held_before_the_patient_was_registered_is_dropped_too(
    portal: Installation,
) -> None:
    patient, mine, others = portal.person("patient", "laboratory"), b"m" * 32, b"o" * 32
    with portal.session("laboratory") as session:
        index = {"partner": "hospital", "key_id": "k", "tag": b"t" * 32}
        session.add(PartnerIndex(pseudonym=mine, patient_id=patient, **index))
        for number, pseudonym in enumerate((mine, others), start=100_000):
            session.add(
                Inbox(
                    sender="hospital",
                    tid=f"{number:032x}",
                    digest=b"d" * 32,
                    pseudonym=pseudonym,
                    key_id="k",
                    sealed=b"sealed",
                    outcome="held-for-review",
                    reason="unknown-patient",
                    sequence=number,
                    received_at=utcnow(),
                    awaiting="person",
                    told=b"told",
                )
            )
        session.flush()
        tenant = portal.settings.tenant("laboratory")
        remove(session, documents_of(tenant, session), patient, utcnow())
        rows = session.execute(
            select(Inbox.pseudonym, Inbox.sealed, Inbox.told, Inbox.awaiting).where(
                Inbox.sequence >= 100_000
            )
        ).all()
        assert sorted(map(tuple, rows)) == [
            (mine, None, None, None),
            (others, b"sealed", b"told", "person"),
        ]
        session.rollback()
