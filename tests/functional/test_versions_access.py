"""What an hour of emergency access leaves behind, what closes a history, what a thief changes."""

import pytest
from care_helpers import new_patient, put_in_charge
from functional_helpers import page_text
from glass_helpers import MARKER, doctor_of, fall_ill, smash
from sqlalchemy import delete, update
from test_wrong_person import confirm, find, records_of
from version_helpers import amend, entered, record_of, retract, versions_of

from medportal.access.models import CareAssignment
from medportal.core.ids import new_id
from medportal.records.models import Record, RecordVersion

WAYS = ("", "/versions", "/versions/1", "/versions/2", "/amend", "/retract", "/move")


@pytest.fixture
def ill(portal, clock):
    return fall_ill(portal, clock)


@pytest.fixture
def author(portal, clock):
    return doctor_of(portal, name="Autora Fonseca")


@pytest.fixture
def path(ill, author):
    """Return the record of a patient whom nobody looks after any more."""
    return ill.write_record(author)


@pytest.fixture
def stranger(portal, clock):
    return doctor_of(portal)


@pytest.fixture
def broken(stranger, ill, path):
    """Give a doctor who has broken the glass to that patient."""
    browser = stranger.signed_in()
    assert smash(browser, ill).status_int == 303
    return browser


# -- emergency access -----------------------------------------------------------------------------


@pytest.mark.parametrize("deed", ["amend", "retract"])
def test_who_amends_in_an_emergency_reads_no_longer_than_that(
    broken, stranger, author, path, clock, portal, deed
):
    made = amend(broken, path, notes="Seen") if deed == "amend" else retract(broken, path)
    assert made.status_int == 303 and broken.get(path).status_int == 200
    clock.forward(hours=3)
    browser = stranger.signed_in()
    for what in WAYS:
        browser.get(f"{path}{what}", status=404)
    browser.get(f"{path}/file.json", status=404)
    # Whoever wrote it still has it, with what was added and who added it.
    page = page_text(author.signed_in().get(path))
    assert "by Duarte Figueira" in page and "The signature is right." in page
    assert MARKER in author.signed_in().get(f"{path}/versions/1").text
    assert [row.local_signer_id for row in versions_of(portal, path)] == [author.id, stranger.id]
    assert record_of(portal, path).local_author_id == author.id


@pytest.fixture
def own(portal, stranger):
    """Give (id, number) of a patient of the doctor who breaks the glass elsewhere."""
    number = str(58_000_000 + int(new_id()[:5], 16))
    patient = new_patient(portal, "Benedita Prazeres", number=number)
    put_in_charge(portal, patient, stranger.id)
    return patient, number


def test_in_an_emergency_nothing_is_carried_away(broken, path, own, portal):
    assert "It belongs to another person" not in page_text(broken.get(path))
    broken.get(f"{path}/move", status=404)
    sent = {"__formid__": "confirm", "right": own[0], "record_id": new_id()}
    sent |= {"compared": "true", "base": "1"}
    broken.post(f"{path}/move", sent, status=404)
    assert records_of(portal, own[0]) == 0 and len(versions_of(portal, path)) == 1


def test_whoever_wrote_it_alone_does_not_carry_it_away(author, path, ill, portal):
    number = str(58_000_000 + int(new_id()[:5], 16))
    put_in_charge(portal, new_patient(portal, "Benedita Prazeres", number=number), author.id)
    browser = author.signed_in()
    assert smash(browser, ill).status_int == 303
    assert browser.get(f"{path}/amend").status_int == 200
    browser.get(f"{path}/move", status=404)


def test_nothing_is_carried_to_whom_one_reaches_for_an_hour(portal, ill, clock):
    path = entered(portal, notes=MARKER)
    browser = portal.signed_in("doctor")
    assert smash(browser, ill).status_int == 303
    answer = find(browser, path, ill.number)
    assert answer.status_int == 422 and "There is nobody with this number" in page_text(answer)
    assert ill.name not in answer.text and len(versions_of(portal, path)) == 1


def test_care_that_ended_while_the_page_was_open_moves_nothing(portal, own, stranger, clock):
    path = entered(portal, notes=MARKER)
    put_in_charge(portal, portal.person("patient"), stranger.id)
    page = find(stranger.signed_in(), path, own[1])
    with portal.session("hospital") as session, session.begin():
        session.execute(
            delete(CareAssignment).where(
                CareAssignment.staff_id == stranger.id, CareAssignment.patient_id == own[0]
            )
        )
    assert confirm(page).status_int == 404
    assert records_of(portal, own[0]) == 0 and len(versions_of(portal, path)) == 1


def test_a_form_sent_twice_tells_nothing_of_strangers(portal, ill, path, own, stranger):
    """The address of a stranger's record is not found out by a form that says it made it."""
    mine = entered(portal, notes=MARKER)
    put_in_charge(portal, portal.person("patient"), stranger.id)
    browser = stranger.signed_in()
    page = find(browser, mine, own[1])
    page.forms["confirm"]["right"].force_value(ill.id)
    page.forms["confirm"]["record_id"].force_value(path.rsplit("/", 1)[1])
    assert confirm(page).status_int == 404


# -- what closes a history ------------------------------------------------------------------------


def test_what_was_taken_back_stays_open_to_those_who_look_after_the_patient(portal):
    path = entered(portal, notes=MARKER)
    assert retract(portal.signed_in("doctor"), path).status_int == 303
    for who in ("doctor", "nurse"):
        browser = portal.signed_in(who)
        assert MARKER in browser.get(f"{path}/versions/1").text
        assert MARKER in browser.get(f"{path}/versions").text
    patient = portal.signed_in("patient")
    history = patient.get(f"{path}/versions")
    assert "Version 2" in page_text(history) and MARKER not in history.text
    assert f"{path}/versions/1" not in history.text
    assert MARKER not in patient.get(f"{path}/versions/2").text
    patient.get(f"{path}/versions/1", status=404)


def test_after_a_move_the_wrong_person_reads_nothing_of_it(portal, own, stranger):
    path = entered(portal, notes=MARKER)
    put_in_charge(portal, portal.person("patient"), stranger.id)
    assert confirm(find(stranger.signed_in(), path, own[1])).status_int == 303
    patient = portal.signed_in("patient")
    assert all(MARKER not in patient.get(f"{path}{what}").text for what in ("", "/versions"))
    patient.get(f"{path}/versions/1", status=404)


# -- a thief in the database ----------------------------------------------------------------------


def _rolled_back(session, record_id):
    """Let the index name the first version again, which lies there and is signed."""
    first = session.get_one(RecordVersion, (record_id, 1))
    session.execute(
        update(Record)
        .where(Record.id == record_id)
        .values(
            current_version=1,
            status=first.status,
            category=first.category,
            effective_on=first.effective_on,
        )
    )


def _without_the_second(session, record_id):
    _rolled_back(session, record_id)
    session.delete(session.get_one(RecordVersion, (record_id, 2)))


def _without_a_head(session, record_id):
    _rolled_back(session, record_id)
    session.execute(update(Record).where(Record.id == record_id).values(head=None))


def _without_a_head_alone(session, record_id):
    session.execute(update(Record).where(Record.id == record_id).values(head=None))


def _another_author(session, record_id):
    signer = session.get_one(RecordVersion, (record_id, 2)).local_signer_id
    session.execute(update(Record).where(Record.id == record_id).values(local_author_id=signer))


def _not_taken_back(session, record_id):
    """Let it look like what was filed before the index knew how a version stands."""
    session.execute(update(Record).where(Record.id == record_id).values(status="final"))
    values = {"status": "final", "replaces": None}
    session.execute(
        update(RecordVersion)
        .where(RecordVersion.record_id == record_id, RecordVersion.version == 2)
        .values(**values)
    )


@pytest.mark.parametrize(
    "thief",
    [
        _rolled_back,
        _without_the_second,
        _without_a_head,
        _without_a_head_alone,
        _another_author,
        _not_taken_back,
    ],
)
def test_an_index_that_names_another_newest_version_or_author_shows_nothing(portal, thief):
    path = entered(portal, notes=MARKER)
    record_id = path.rsplit("/", 1)[1]
    assert amend(portal.signed_in("nurse"), path, notes=f"{MARKER} is over").status_int == 303
    with portal.session("hospital") as session, session.begin():
        thief(session, record_id)
    page = portal.signed_in("patient").get(path)
    assert "This record cannot be trusted" in page.text and MARKER not in page.text
    overview = portal.signed_in("patient").get(path.rpartition("/records/")[0])
    assert f"{MARKER} is over" not in overview.text
    doctor = portal.signed_in("doctor")
    assert doctor.get(f"{path}/amend").status_int == 303
    assert MARKER not in doctor.get(f"{path}/versions/1").text


def test_a_head_of_another_record_does_not_fit(portal):
    paths = [entered(portal, notes=MARKER) for _ in range(2)]
    ids = [path.rsplit("/", 1)[1] for path in paths]
    with portal.session("hospital") as session, session.begin():
        session.get_one(Record, ids[0]).head = session.get_one(Record, ids[1]).head
    patient = portal.signed_in("patient")
    assert "This record cannot be trusted" in patient.get(paths[0]).text
    assert MARKER in patient.get(paths[1]).text


# -- from before there were later versions --------------------------------------------------------


def test_a_record_of_before_opens_and_gets_its_head_with_the_next_version(portal):
    path = entered(portal, notes=MARKER)
    with portal.session("hospital") as session, session.begin():
        session.get_one(Record, path.rsplit("/", 1)[1]).head = None
    assert MARKER in portal.signed_in("patient").get(path).text
    assert amend(portal.signed_in("nurse"), path, notes="Better now").status_int == 303
    assert record_of(portal, path).head is not None
    assert "Better now" in portal.signed_in("patient").get(path).text
