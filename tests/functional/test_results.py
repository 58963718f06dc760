"""New results: who sees them, who notes them, who is told by mail, what nobody can hide."""

import hashlib
import re
from datetime import date, timedelta
from decimal import Decimal
from itertools import count

import pytest
from admin_helpers import do, employ, every_event
from care_helpers import new_patient, put_in_charge
from functional_helpers import page_text
from installation import NUMBERS
from sqlalchemy import Engine, event, select, update

from medportal.access.care import assign_team, end_all
from medportal.access.models import CareKind, PatientRule, WardTeamMember
from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.core.categories import Category
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.identity.credentials import set_password
from medportal.identity.models import Account, Person, RoleGrant
from medportal.mail.models import MailState, OutgoingMail
from medportal.records import catalogue as catalogues
from medportal.records import news
from medportal.records.content import (
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
)
from medportal.records.models import Record, RecordVersion
from medportal.records.models_results import Result
from medportal.records.service import category_of, sign_and_file
from medportal.results import telling
from medportal.vault.documents import SqlDocumentStore
from medportal.vault.models import Document

HOUR = timedelta(hours=1)
CRITICAL, USUAL = "200", "75"
POSITIVE, NEGATIVE = "positive", "negative"
_numbers = count(81_000_001)


class Sick:
    """A patient of the hospital for one test, with an account, a doctor, and a ward's team."""

    def __init__(self, portal, *, ward=""):
        self.portal, self.number = portal, str(next(_numbers))
        self.name = f"Florbela {self.number}"
        self.id = new_patient(
            portal, self.name, ward=ward, number=self.number, email="florbela@example.org"
        )
        with portal.session("hospital") as session, session.begin():
            policy = portal.settings.tenant("hospital").passwords
            set_password(session, self.id, policy, "quiet rivers carry small boats", utcnow())
        self.doctor = employ(portal, "doctor", name=f"Doctor {self.number}")
        self.charge = put_in_charge(portal, self.id, self.doctor.id, kind=CareKind.TREATING)

    @property
    def path(self):
        return f"/patients/{self.id}"

    def browser(self):
        browser = self.portal.browser("hospital")
        assert browser.sign_in(self.number).status_int == 303
        return browser

    def file(self, rate=USUAL, *, author="0" * 32, category=None, at=None, day=3, **later):
        """File a record with a heart rate, written here by somebody; return its path.

        With ``at`` it was signed and filed now, and is news since then.
        """
        catalogue, keys = catalogues.load(), self.portal.keys("hospital")
        rate_of = catalogue.by_key("heart-rate")
        values = later.pop("values", None) or (
            Observation(rate_of.code, Quantity(Decimal(rate), rate_of.unit)),
        )
        kind = RecordKind.MEDICAL
        record = ClinicalRecord(
            id=later.pop("id", None) or new_id(),
            version=later.pop("version", 1),
            kind=kind,
            category=category or category_of(kind, values, catalogue),
            status=later.pop("status", RecordStatus.FINAL),
            effective=date(2026, 2, day),
            author_id=author,
            author_name="Somebody",
            institution="hospital",
            observations=values,
            **later,
        )
        subject = Subject("citizen-card", self.number, self.name, date(1951, 4, 5), Sex.FEMALE)
        with self.portal.session("hospital") as session, session.begin():
            sign_and_file(
                session,
                SqlDocumentStore(session),
                keys,
                record,
                subject,
                catalogue,
                patient_id=self.id,
                destinations=(),
                now=utcnow(),
            )
            this = (Result.record_id == record.id, Result.version == record.version)
            session.execute(update(Result).where(*this).values(filed_at=at or utcnow()))
        return f"{self.path}/records/{record.id}"

    def correct(self, path, rate, **how):
        """File a second version of a record, by somebody else."""
        record_id = path.rpartition("/")[2]
        with self.portal.session("hospital") as session:
            which = RecordVersion.record_id == record_id
            first = session.scalars(select(RecordVersion.content_digest).where(which)).one()
        return self.file(
            rate,
            id=record_id,
            version=2,
            status=RecordStatus.CORRECTED,
            replaces=first.hex(),
            change_reason="The cuff had slipped.",
            **how,
        )

    def mails(self, person=None):
        with self.portal.session("hospital") as session:
            query = select(OutgoingMail.kind).where(OutgoingMail.person_id == (person or self.id))
            return sorted(session.scalars(query))

    def events(self, *actions):
        with self.portal.session("hospital") as session:
            rows = session.scalars(
                select(AuditEvent.body)
                .where(AuditEvent.patient == self.id)
                .order_by(AuditEvent.at, AuditEvent.id)
            )
            found = [Event.from_bytes(body) for body in rows]
        return [event for event in found if not actions or event.action in actions]

    def result(self, path):
        with self.portal.session("hospital") as session:
            query = select(Result).where(Result.record_id == path.rpartition("/")[2])
            return session.scalars(query.order_by(Result.version.desc())).first()

    def end_care(self):
        with self.portal.session("hospital") as session, session.begin():
            end_all(session, self.id, utcnow())


@pytest.fixture
def sick(portal):
    return Sick(portal)


def house_of(portal):
    return telling.House(portal.settings.tenant("hospital"), portal.keys("hospital").vault)


def tell(portal, now=None):
    with portal.session("hospital") as session, session.begin():
        while telling.tell(session, house_of(portal), now or utcnow()):
            pass


def escalate(portal, now):
    with portal.session("hospital") as session, session.begin():
        while telling.escalate(session, house_of(portal), now):
            pass


def listed(browser):
    """Return the texts of the cards of the list."""
    page = browser.get("/results")
    return [card.get_text(" ", strip=True) for card in page.html.select("li.card")]


# The list


def test_a_new_result_is_where_the_doctors_work_begins_until_somebody_notes_it(portal, sick):
    path = sick.file()
    doctor = sick.doctor.signed_in()
    home = doctor.get("/").follow()
    assert home.request.path == "/results"
    assert "New results (1)" in home.text and sick.name in page_text(home)
    record = home.click(sick.name)
    assert record.request.path == path and "Nobody has noted this yet" in record.text
    answer = note(record)
    assert answer.location.endswith("/results")
    empty = answer.follow()
    assert "No result waits for you" in empty.text and "Noted." in empty.text
    again = doctor.get(path)
    assert f"{sick.doctor.name}, " in page_text(again) and "Seen by" in again.text
    assert "I have seen this" not in again.text
    noted = sick.events("result-acknowledged")
    assert [(e.actor, e.outcome, e.object) for e in noted] == [
        (sick.doctor.id, "allowed", path.rpartition("/")[2])
    ]


def note(page):
    """Press the button of a record's page that says that one has seen it."""
    form = next(f for f in page.forms.values() if str(f.action).endswith("/acknowledge"))
    return form.submit(expect_errors=True)


def test_what_cannot_wait_stands_first_and_says_so_in_words(portal, sick):
    sick.file(day=1, at=utcnow() - 2 * HOUR)
    sick.file(CRITICAL, day=2, at=utcnow() - 3 * HOUR)
    sick.file(day=4)
    cards = listed(sick.doctor.signed_in())
    assert [re.search(r"(\d) February", card)[1] for card in cards] == ["2", "4", "1"]
    assert "!! Critical value" in cards[0]
    assert not any("Critical" in card for card in cards[1:])


def test_the_list_pages_by_key_and_a_strangers_key_is_no_key(portal, sick):
    for day in range(1, 24):
        sick.file(day=day, at=utcnow() - timedelta(days=1, minutes=day))
    sick.file(CRITICAL, day=25, at=utcnow() - HOUR)
    browser = sick.doctor.signed_in()
    first = browser.get("/results")
    assert "New results (24)" in first.text
    second = first.click("Further results")
    days = [
        re.search(r"(\d+) February", card.get_text())[1]
        for page in (first, second)
        for card in page.html.select("li.card")
    ]
    assert days == ["25", *(str(day) for day in range(1, 24))]
    other = Sick(portal)
    theirs = other.file().rpartition("/")[2]
    for key in (theirs, new_id(), "x", "' OR 1=1", "\u202e"):
        browser.get("/results", params={"after": key}, status=404)
    # The last one of the page was noted meanwhile: the next page begins in the same place.
    last = browser.get(first.html.select("li.card a")[-1]["href"])
    assert "Noted." in note(last).follow().text
    assert page_text(browser.get(second.request.path_qs)) == page_text(second)


def test_what_one_wrote_oneself_is_no_news_unless_it_cannot_wait(portal, sick):
    sick.file(author=sick.doctor.id)
    browser = sick.doctor.signed_in()
    assert listed(browser) == []
    sick.file(CRITICAL, author=sick.doctor.id)
    assert len(listed(browser)) == 1


@pytest.mark.parametrize("role", ["porter", "volunteer", "ward_clerk", "admin", "patient"])
def test_who_notes_no_results_has_no_such_page(portal, role):
    browser = portal.signed_in(role)
    assert "New results" not in browser.get("/help").text
    browser.get("/results", status=404)


def test_nothing_of_the_other_institution_is_listed_or_noted(portal, sick):
    path = sick.file()
    for role in ("responsible", "admin"):
        browser = portal.signed_in(role, "laboratory")
        browser.get("/results", status=404)
        browser.post(f"{path}/acknowledge", {"version": "1"}, status=404)
    assert sick.result(path).acknowledged_at is None


def test_each_patient_of_a_list_learns_of_it_and_no_event_tells_what_is_critical(portal, sick):
    sick.file(CRITICAL)
    listed(sick.doctor.signed_in())
    (seen,) = sick.events("results-viewed")
    assert seen.actor == sick.doctor.id and seen.details["count"] == 1
    log = sick.browser().get(f"{sick.path}/access-log")
    assert "saw on a list that there are new results about you" in log.text
    assert sick.name not in every_event(portal, "hospital")


# Who may


def test_care_that_has_ended_ends_the_list_and_the_noting(portal, sick):
    path = sick.file(CRITICAL)
    browser = sick.doctor.signed_in()
    page = browser.get(path)
    sick.end_care()
    assert listed(browser) == []
    assert note(page).status_int == 404
    assert sick.result(path).acknowledged_at is None


def test_a_colleague_who_looks_after_nobody_neither_sees_nor_notes(portal, sick):
    path = sick.file()
    browser = employ(portal, "nurse").signed_in()
    assert listed(browser) == []
    browser.post(f"{path}/acknowledge", {"version": "1"}, status=404)
    assert sick.result(path).acknowledged_at is None


def test_what_is_sensitive_is_in_no_list_and_no_count_of_who_may_not_open_it(portal, sick):
    path = sick.file(CRITICAL, category=Category.MENTAL_HEALTH)
    nurse = employ(portal, "nurse")
    put_in_charge(portal, sick.id, nurse.id)
    browser = nurse.signed_in()
    page = browser.get("/results")
    assert "No result waits" in page.text and "New results (" not in page.text
    browser.post(f"{path}/acknowledge", {"version": "1"}, status=404)
    assert len(listed(sick.doctor.signed_in())) == 1


def block(portal, sick, person):
    with portal.session("hospital") as session, session.begin():
        session.add(
            PatientRule(
                id=new_id(),
                patient_id=sick.id,
                effect="block",
                whom="person",
                whom_id=person,
                what="everything",
                what_id="",
                since=utcnow() - HOUR,
                made_at=utcnow(),
                made_by=sick.id,
            )
        )


def test_whom_the_patient_blocks_sees_nothing_and_hears_nothing(portal, sick):
    block(portal, sick, sick.doctor.id)
    path = sick.file(CRITICAL, at=utcnow() - 2 * HOUR)
    browser = sick.doctor.signed_in()
    assert listed(browser) == []
    browser.post(f"{path}/acknowledge", {"version": "1"}, status=404)
    tell(portal)
    escalate(portal, utcnow())
    assert sick.mails(sick.doctor.id) == []
    assert sick.mails() == ["result-arrived"]


def test_staff_note_nothing_about_themselves(portal):
    doctor = employ(portal, "doctor")
    sick = Sick(portal)
    with portal.session("hospital") as session, session.begin():
        session.add(
            RoleGrant(person_id=sick.id, role="nurse", granted_at=utcnow(), granted_by=None)
        )
    put_in_charge(portal, sick.id, doctor.id)
    path = sick.file()
    browser = sick.browser()
    assert listed(browser) == []
    browser.post(f"{path}/acknowledge", {"version": "1"}, status=404)
    assert "I have seen this" not in browser.get(path).text


# Noting


def test_of_two_who_note_at_once_the_second_is_told_of_the_first(portal, sick):
    path = sick.file()
    nurse = employ(portal, "nurse", name="Nurse Of The Night")
    put_in_charge(portal, sick.id, nurse.id)
    pages = [person.signed_in().get(path) for person in (nurse, sick.doctor)]
    first, second = [note(page) for page in pages]
    assert first.location.endswith("/results") and second.location.endswith(path)
    assert "Somebody had noted this before" in second.follow().text
    assert sick.result(path).acknowledged_by == nurse.id
    assert [e.outcome for e in sick.events("result-acknowledged")] == ["allowed", "denied"]
    with portal.session("hospital") as session, session.begin():
        one = news.find(session, sick.id, path.rpartition("/")[2])
        assert not news.acknowledge(session, one, sick.doctor.id, utcnow())
    assert sick.result(path).acknowledged_by == nurse.id


@pytest.mark.parametrize(
    "version",
    ["", "0", "2", "01", " 1", "1 ", "-1", "1.0", "٣", "9" * 400, "one", "1\x00", "\u202e1"],
)
def test_a_version_that_is_not_the_one_shown_notes_nothing(portal, sick, version):
    path = sick.file()
    browser = sick.doctor.signed_in()
    answer = browser.post(f"{path}/acknowledge", {"version": version}, expect_errors=True)
    assert answer.status_int in (303, 400)
    assert sick.result(path).acknowledged_at is None


def test_noting_takes_a_post_with_a_token_and_a_record_of_this_patient(portal, sick):
    path, other = sick.file(), Sick(portal)
    theirs = other.file().rpartition("/")[2]
    browser = sick.doctor.signed_in()
    browser.get(f"{path}/acknowledge", status=404)
    bare = browser.app.post(f"{path}/acknowledge", {"version": "1"}, expect_errors=True)
    assert bare.status_int in (400, 403)
    for record in (theirs, new_id(), "x", "0" * 31):
        target = f"{sick.path}/records/{record}/acknowledge"
        browser.post(target, {"version": "1"}, status=404)
    assert sick.result(path).acknowledged_at is None
    assert other.result(f"/{theirs}").acknowledged_at is None


def test_a_correction_is_news_again_and_what_it_corrects_is_none(portal, sick):
    path = sick.file(CRITICAL)
    browser = sick.doctor.signed_in()
    stale = browser.get(path)
    sick.correct(path, USUAL)
    (card,) = listed(browser)
    assert "Corrected" in card and "Critical" not in card
    answer = note(stale)
    assert "has changed since you opened it" in answer.follow().text
    escalate(portal, utcnow() + 2 * HOUR)
    assert sick.events("result-escalated") == []
    assert note(browser.get(path)).location.endswith("/results")
    assert listed(browser) == []


# The thief and the vandal


def test_the_database_does_not_tell_what_is_critical(portal, sick):
    long_ago = utcnow() - 3 * HOUR
    paths = [sick.file(rate, at=long_ago) for rate in (CRITICAL, USUAL)]
    tell(portal)
    escalate(portal, utcnow())
    critical, usual = [sick.result(path) for path in paths]
    assert len(critical.urgency) == len(usual.urgency)
    assert b"critical" not in critical.urgency
    for column in ("told_at", "escalated_at", "acknowledged_at", "seen_by_patient_at"):
        assert (getattr(critical, column) is None) == (getattr(usual, column) is None)


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "gone", "another-record", "noise"])
def test_an_alarm_that_somebody_tampered_with_is_an_alarm(portal, sick, how):
    calm, alarm = sick.file(at=utcnow() - 2 * HOUR), sick.file(CRITICAL, at=utcnow() - 2 * HOUR)
    sealed = sick.result(alarm).urgency
    new = {
        "flipped": sealed[:-1] + bytes([sealed[-1] ^ 1]),
        "cut": sealed[:-1],
        "empty": b"",
        "gone": None,
        "another-record": sick.result(calm).urgency,
        "noise": hashlib.sha256(sealed).digest() * 4,
    }[how]
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(Result).where(Result.record_id == alarm.rpartition("/")[2]).values(urgency=new)
        )
    assert "Critical" in listed(sick.doctor.signed_in())[0]
    escalate(portal, utcnow())
    assert len(sick.events("result-escalated")) == 1


def test_of_an_erased_patient_nothing_is_listed_and_nobody_is_told(portal, sick):
    sick.file(CRITICAL, at=utcnow() - 2 * HOUR)
    with portal.session("hospital") as session, session.begin():
        portal.keys("hospital").vault.destroy_patient_key(session, sick.id, utcnow())
    assert listed(sick.doctor.signed_in()) == []
    tell(portal)
    escalate(portal, utcnow())
    assert sick.mails() == [] and sick.events("result-escalated") == []


# Mail


def test_patient_and_treating_doctor_get_a_mail_that_says_nothing(portal, sick):
    nurse = employ(portal, "nurse")
    put_in_charge(portal, sick.id, nurse.id)
    sick.file(CRITICAL)
    portal.jobs("hospital").turn(utcnow())
    assert sick.mails() == ["result-arrived"]
    assert sick.mails(sick.doctor.id) == ["result-arrived"]
    assert sick.mails(nurse.id) == []
    with portal.session("hospital") as session:
        rows = session.scalars(
            select(OutgoingMail).where(OutgoingMail.kind == "result-arrived")
        ).all()
        assert {row.params for row in rows} == {"{}"}


def test_nobody_gets_more_than_one_mail_in_an_hour_and_nothing_is_lost(portal, sick):
    now = utcnow()
    sick.file(at=now)
    tell(portal, now)
    sick.file(at=now)
    tell(portal, now)
    # The first still lies in the outbox: it speaks for both.
    assert sick.mails() == ["result-arrived"]
    _sent(portal, sick.id)
    for minute in (5, 10, 59):
        sick.file(at=now)
        tell(portal, now + timedelta(minutes=minute))
    with portal.session("hospital") as session:
        query = select(OutgoingMail.next_at).where(OutgoingMail.person_id == sick.id)
        times = sorted(session.scalars(query))
    assert len(times) == 2 and times[1] == now + HOUR
    _sent(portal, sick.id)
    sick.file(at=now)
    tell(portal, now + 3 * HOUR)
    assert len(sick.mails()) == 3


def _sent(portal, person):
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(OutgoingMail)
            .where(OutgoingMail.person_id == person)
            .values(state=MailState.SENT)
        )


@pytest.mark.parametrize("why", ["author", "suspended", "old", "address"])
def test_who_gets_no_mail(portal, sick, why):
    author, at = "0" * 32, utcnow()
    with portal.session("hospital") as session, session.begin():
        if why == "suspended":
            session.get(Account, sick.doctor.id).status = "suspended"
        if why == "address":
            session.get(Person, sick.doctor.id).email = ""
    if why == "author":
        author = sick.doctor.id
    if why == "old":
        at -= timedelta(days=8)
    path = sick.file(author=author, at=at)
    tell(portal)
    assert sick.mails(sick.doctor.id) == []
    assert sick.mails() == ([] if why == "old" else ["result-arrived"])
    assert sick.result(path).told_at is not None


# In time


def test_a_critical_result_that_nobody_notes_reaches_the_team_once(portal):
    sick = Sick(portal, ward="Cardiology")
    inside, outside = employ(portal, "nurse"), employ(portal, "nurse")
    put_in_charge_of_team(portal, sick, "Cardiology", inside)
    at = utcnow()
    path = sick.file(CRITICAL, at=at)
    sick.file(USUAL, at=at)
    escalate(portal, at + timedelta(minutes=59))
    assert sick.events("result-escalated") == []
    for _turn in range(2):
        escalate(portal, at + timedelta(minutes=61))
    assert sick.mails(inside.id) == sick.mails(sick.doctor.id) == ["result-waits"]
    assert sick.mails(outside.id) == [] and sick.mails() == []
    (event,) = sick.events("result-escalated")
    assert (event.outcome, event.object) == ("allowed", path.rpartition("/")[2])
    assert event.details["told"] == 2 and event.actor == "process:jobs"
    log = sick.browser().get(f"{sick.path}/access-log")
    assert "reminded the team that one of your results waits" in log.text


def put_in_charge_of_team(portal, sick, ward, *members):
    with portal.session("hospital") as session, session.begin():
        for member in members:
            session.add(
                WardTeamMember(
                    id=new_id(), ward=ward, staff_id=member.id, since=utcnow() - HOUR, until=None
                )
            )
        session.flush()
        assign_team(session, patient_id=sick.id, ward=ward, by=None, now=utcnow())


def test_a_result_that_was_noted_in_time_escalates_to_nobody(portal, sick):
    path = sick.file(CRITICAL, at=utcnow() - 2 * HOUR)
    assert note(sick.doctor.signed_in().get(path)).status_int == 303
    escalate(portal, utcnow())
    assert sick.mails(sick.doctor.id) == [] and sick.events("result-escalated") == []


def test_that_nobody_could_be_told_is_an_event_that_says_so(portal, sick):
    sick.end_care()
    sick.file(CRITICAL, at=utcnow() - 2 * HOUR)
    escalate(portal, utcnow())
    (event,) = sick.events("result-escalated")
    assert event.outcome == "failed" and event.details["told"] == 0


def test_the_jobs_escalate_by_themselves(portal, sick):
    sick.file(CRITICAL, at=utcnow() - 2 * HOUR)
    portal.jobs("hospital").turn(utcnow())
    assert "result-waits" in sick.mails(sick.doctor.id)


# The patient


def test_the_patient_sees_what_is_new_until_they_have_opened_it(portal, sick):
    path = sick.file(CRITICAL)
    browser = sick.browser()
    page = browser.get("/").follow()
    assert "New since you last looked" in page.text
    assert "New since" not in sick.doctor.signed_in().get(sick.path).text
    sick.doctor.signed_in().get(path)
    assert sick.result(path).seen_by_patient_at is None
    record = browser.get(path)
    assert "Nobody has noted this yet" not in record.text
    assert sick.result(path).seen_by_patient_at is not None
    assert "New since" not in browser.get(sick.path).text
    assert sick.result(path).acknowledged_at is None


def test_the_patient_reads_who_has_seen_it(portal, sick):
    path = sick.file()
    note(sick.doctor.signed_in().get(path))
    assert sick.doctor.name in page_text(sick.browser().get(path))


# Besides


def test_history_that_was_taken_over_is_no_news(portal, sick):
    old, new = sick.file(day=1), sick.file(day=20)
    with portal.session("hospital") as session, session.begin():
        news.take_for_known(session, date(2026, 2, 10), utcnow())
    assert sick.result(old).acknowledged_at and sick.result(old).seen_by_patient_at
    assert sick.result(new).acknowledged_at is None and sick.result(new).told_at
    assert len(listed(sick.doctor.signed_in())) == 1
    assert "from before it was kept here" in sick.doctor.signed_in().get(old).text


def test_every_record_that_is_written_is_news(portal):
    answer = do(
        portal.signed_in("doctor"),
        f"/patients/{portal.person('patient')}/records/new",
        effective="05/02/2026",
        diagnosis="Sprained ankle",
    )
    assert answer.status_int == 303
    with portal.session("hospital") as session:
        newest = session.scalars(select(Record.id).order_by(Record.created_at.desc())).first()
        assert session.get(Result, (newest, 1)) is not None
    assert NUMBERS["doctor"] not in every_event(portal, "hospital")


# However many there are


def test_a_critical_result_never_falls_off_the_list(portal, sick, monkeypatch):
    """Hundreds of usual ones came after it: they are cut off, and it is not."""
    monkeypatch.setattr("medportal.results.service.MOST", 3)
    monkeypatch.setattr("medportal.results.service.BATCH", 2)
    sick.file(CRITICAL, day=20, at=utcnow() - 9 * HOUR)
    for day in (1, 2, 3):
        sick.file(day=day, at=utcnow() - day * HOUR)
    browser = sick.doctor.signed_in()
    assert "More results wait" not in browser.get("/results").text
    sick.file(day=4, at=utcnow() - 4 * HOUR)
    cards = listed(browser)
    days = [re.search(r"(\d+) February", card)[1] for card in cards]
    assert days == ["20", "1", "2", "3"] and "!! Critical value" in cards[0]
    assert "More results wait" in browser.get("/results").text


def test_what_one_may_not_note_makes_no_list_partial(portal, sick, monkeypatch):
    monkeypatch.setattr("medportal.results.service.MOST", 1)
    nurse = employ(portal, "nurse")
    put_in_charge(portal, sick.id, nurse.id)
    sick.file(day=1, at=utcnow() - HOUR)
    for _one in range(3):
        sick.file(category=Category.MENTAL_HEALTH)
    browser = nurse.signed_in()
    assert len(listed(browser)) == 1
    assert "More results wait" not in browser.get("/results").text


def test_what_one_wrote_oneself_takes_no_place_on_the_list(portal, sick, monkeypatch):
    monkeypatch.setattr("medportal.results.service.MOST", 2)
    monkeypatch.setattr("medportal.results.service.BATCH", 2)
    sick.file(day=7, at=utcnow() - HOUR)
    for _one in range(5):
        sick.file(author=sick.doctor.id)
    browser = sick.doctor.signed_in()
    page = browser.get("/results")
    assert len(listed(browser)) == 1 and "More results wait" not in page.text
    assert "New results (1)" in page.text and "New results (1)" in browser.get("/patients").text


def test_a_long_list_asks_for_all_keys_at_once(portal, sick):
    """Twelve results of four patients cost as many queries as two of the same."""
    others = [Sick(portal) for _one in range(3)]
    for other in others:
        put_in_charge(portal, other.id, sick.doctor.id)
    browser = sick.doctor.signed_in()
    for each in (sick, *others):
        each.file()
    few = asked_for_keys(browser)
    for each in (sick, *others):
        each.file()
        each.file(author=sick.doctor.id)
    assert asked_for_keys(browser) == few


def asked_for_keys(browser):
    """Return how many queries for patients' keys the list took."""
    statements = []

    def hear(_connection, _cursor, statement, *_rest):
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        browser.get("/results")
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
    return sum(
        statement.partition("FROM ")[2].startswith("patient_key") for statement in statements
    )


# Noting what one has read


def test_nobody_notes_what_they_have_not_read(portal, sick):
    path = sick.file(CRITICAL)
    nurse = employ(portal, "nurse")
    put_in_charge(portal, sick.id, nurse.id)
    nurse.signed_in().get(path)
    browser = sick.doctor.signed_in()
    for _try in range(2):
        answer = browser.post(f"{path}/acknowledge", {"version": "1"})
        assert answer.location.endswith(path)
        assert sick.result(path).acknowledged_at is None
    denied = sick.events("result-acknowledged")
    assert [(e.outcome, e.reasons) for e in denied] == [("denied", ("not-read",))] * 2
    assert note(answer.follow()).location.endswith("/results")
    assert sick.result(path).acknowledged_by == sick.doctor.id


def test_having_read_an_older_version_is_not_having_read_the_newest(portal, sick):
    path = sick.file(CRITICAL)
    browser = sick.doctor.signed_in()
    browser.get(path)
    sick.correct(path, CRITICAL)
    browser.get(f"{path}/versions/1")
    answer = browser.post(f"{path}/acknowledge", {"version": "2"})
    assert answer.location.endswith(path)
    assert sick.result(path).acknowledged_at is None
    assert note(answer.follow()).location.endswith("/results")


def test_what_is_damaged_is_noted_and_seen_by_nobody(portal, sick):
    path = sick.file(CRITICAL)
    browser = sick.doctor.signed_in()
    page = browser.get(path)
    with portal.session("hospital") as session, session.begin():
        which = RecordVersion.record_id == path.rpartition("/")[2]
        document = session.scalars(select(RecordVersion.document_id).where(which)).one()
        session.get(Document, document).sealed = b"something else"
    answer = note(page)
    shown = answer.follow()
    assert "cannot be trusted" in shown.text
    assert not any(str(f.action).endswith("/acknowledge") for f in shown.forms.values())
    (failed,) = sick.events("result-acknowledged")
    assert failed.outcome == "failed" and failed.details["damaged"] == "document-digest"
    assert sick.result(path).acknowledged_at is None and len(listed(browser)) == 1
    assert "cannot be trusted" in sick.browser().get(path).text
    assert sick.result(path).seen_by_patient_at is None


# Corrections and the clock


def test_a_correction_starts_no_new_hour(portal, sick):
    at = utcnow()
    path = sick.file(CRITICAL, at=at - timedelta(minutes=61))
    sick.correct(path, CRITICAL, at=at - timedelta(minutes=5))
    escalate(portal, at)
    assert sick.mails(sick.doctor.id) == ["result-waits"]
    (event_,) = sick.events("result-escalated")
    assert event_.details["version"] == 2


def test_a_correction_that_comes_after_the_hour_reaches_the_team_at_once(portal, sick):
    at = utcnow()
    path = sick.file(CRITICAL, at=at - timedelta(minutes=90))
    tell(portal, at - timedelta(minutes=89))
    escalate(portal, at - timedelta(minutes=20))
    sick.correct(path, CRITICAL, at=at)
    tell(portal, at)
    assert [e.details["version"] for e in sick.events("result-escalated")] == [1, 2]


@pytest.mark.parametrize("what", ["noted", "calm-before", "calm-after"])
def test_a_correction_of_no_open_alarm_has_an_hour_of_its_own(portal, sick, what):
    at = utcnow()
    first = USUAL if what == "calm-before" else CRITICAL
    path = sick.file(first, at=at - timedelta(minutes=61))
    if what == "noted":
        note(sick.doctor.signed_in().get(path))
    sick.correct(path, USUAL if what == "calm-after" else CRITICAL, at=at - timedelta(minutes=5))
    escalate(portal, at)
    tell(portal, at)
    assert sick.events("result-escalated") == []
    escalate(portal, at + HOUR)
    assert len(sick.events("result-escalated")) == (what != "calm-after")


def test_a_colleagues_correction_is_news_to_who_wrote_the_record(portal, sick):
    path = sick.file(author=sick.doctor.id)
    browser = sick.doctor.signed_in()
    assert listed(browser) == []
    sick.correct(path, USUAL)
    assert len(listed(browser)) == 1


def test_the_patients_own_news_are_given_one_batch_after_the_other(portal, sick, monkeypatch):
    monkeypatch.setattr(news, "_BATCH", 2)
    paths = [sick.file(at=utcnow() - place * HOUR) for place in range(5)]
    with portal.session("hospital") as session:
        found = [one.record_id for one in news.unseen(session, sick.id)]
    assert found == [path.rpartition("/")[2] for path in paths]


@pytest.mark.parametrize("key", ["legionella-antigen", "malaria-antigen"])
@pytest.mark.parametrize("answer", [POSITIVE, NEGATIVE])
def test_an_answer_in_words_can_be_as_urgent_as_a_number(portal, sick, key, answer):
    definition = catalogues.load().by_key(key)
    assert (answer in definition.critical) == (answer == POSITIVE)
    sick.file(values=(Observation(definition.code, Coded(answer)),))
    (card,) = listed(sick.doctor.signed_in())
    assert ("!! Critical value" in card) == (answer == POSITIVE)


def test_where_there_is_more_the_next_batch_does_not_wait_for_the_next_time(portal, sick):
    tell(portal)
    paths = [sick.file() for _one in range(telling.BATCH + 3)]
    jobs, now = portal.jobs("hospital"), utcnow()
    assert jobs.turn(now)
    assert sum(sick.result(path).told_at is not None for path in paths) == telling.BATCH
    jobs.turn(now)
    assert all(sick.result(path).told_at for path in paths)
    # Now that there is no more, the step waits for its time.
    late = sick.file()
    jobs.turn(now)
    assert sick.result(late).told_at is None
    jobs.turn(now + timedelta(seconds=2))
    assert sick.result(late).told_at
