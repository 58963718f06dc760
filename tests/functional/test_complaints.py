"""What looks wrong to a patient, and the answer: asked, queued, answered, read."""

import threading
from datetime import timedelta

import pytest
from admin_helpers import employ
from functional_helpers import page_text
from installation import CAST
from log_helpers import Someone, rows_of
from sqlalchemy import delete, select, update

from medportal.access import complaints
from medportal.access.models import Complaint, Representative
from medportal.access.views import access_log
from medportal.access.views import complaints as views
from medportal.audit.events import Action, Outcome
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.identity.accounts import commitment

NOBODY = "0" * 32
WRONG = "I was never in that ward. Who is this?"
ANSWER = "We asked the nurse: she took your page for that of another patient."


@pytest.fixture
def patient(portal):
    """Give a patient with one entry in the log; no complaint of another test waits."""
    with portal.session("hospital") as session, session.begin():
        session.execute(delete(Complaint))
    someone = Someone(portal)
    someone.entry = someone.note(Action.RECORD_READ, reasons=[Reason.ASSIGNED_CARE])
    return someone


@pytest.fixture
def officer(portal):
    """Give a privacy officer of one test alone."""
    return employ(portal, "privacy_officer", name="Olga Officer")


def page_of(patient, entry=None):
    return f"{patient.path}/{(entry or patient.entry).id}"


def ask(patient, text=WRONG, entry=None, browser=None):
    """Fill in and send the form of an entry, as a browser does."""
    form = (browser or patient.browser()).get(page_of(patient, entry)).forms["form"]
    form["text"].force_value(text)
    return form.submit(expect_errors=True)


def send(browser, path, **fields):
    return browser.post(path, {"__formid__": "form", **fields}, expect_errors=True)


def kept(patient):
    with patient.session() as session:
        query = select(Complaint).where(Complaint.patient_id == patient.id)
        rows = session.scalars(query.order_by(Complaint.made_at, Complaint.id)).all()
        session.expunge_all()
    return rows


def asked(patient, **more):
    """Ask, and return the path of the complaint for the privacy officer."""
    assert ask(patient, **more).status_int == 303
    return f"/oversight/complaints/{kept(patient)[-1].id}"


def reply(browser, path, finding="not-justified", text=ANSWER):
    return send(browser, path, finding=finding, answer=text)


def last(patient, action):
    return [event for event in patient.events() if event.action is action][-1]


# -- from question to answer -----------------------------------------------------------------------


def test_from_a_doubt_to_its_answer(portal, patient, officer):
    browser, oversight = patient.browser(), officer.signed_in()
    done = ask(patient, browser=browser).follow()
    assert WRONG in page_text(done) and "Not answered yet" in page_text(done)
    assert "form" not in done.forms, "one question about an entry at a time"
    assert "Not answered yet" in page_text(browser.get(patient.path))

    queue = oversight.get("/oversight/complaints")
    page = queue.click("Question of Quitéria Velho")
    text = page_text(page)
    for words in (WRONG, "Person nurse (Nurse) read one of your records.", "Asked by Quitéria"):
        assert words in text, words
    form = page.forms["form"]
    form["finding"], form["answer"] = "not-justified", ANSWER
    after = form.submit().follow()
    assert "No question waits for an answer." in page_text(after)
    assert "complaint-answered" in patient.mails()

    answered = page_text(browser.get(page_of(patient)))
    for words in (WRONG, ANSWER, "The access was not right.", "Answered"):
        assert words in answered, words
    assert "Answered" in page_text(browser.get(patient.path))
    shown = oversight.get("/oversight/complaints", params={"show": "answered"})
    again = shown.click("Question of Quitéria Velho")
    assert ANSWER in page_text(again) and "Olga Officer" in page_text(again)
    assert "form" not in again.forms


def test_an_answer_outlives_the_entry_that_it_is_about(portal, patient, officer):
    """The log forgets what is older than it is kept; what was asked and answered stays."""
    reply(officer.signed_in(), asked(patient))
    with patient.session() as session, session.begin():
        session.execute(delete(AuditEvent).where(AuditEvent.id == patient.entry.id))
    browser = patient.browser()
    page = browser.get(patient.path).click("Asked on")
    text = page_text(page)
    assert "The entry is not in the log any more" in text
    assert WRONG in text and ANSWER in text and "form" not in page.forms
    assert send(browser, page_of(patient), text=WRONG).status_int == 404
    # To others it is as if there had been nothing.
    stranger = Someone(portal)
    path = page_of(patient).replace(patient.id, stranger.id)
    assert stranger.browser().get(path, expect_errors=True).status_int == 404


def test_all_questions_can_be_reached(portal, patient, monkeypatch):
    monkeypatch.setattr(access_log, "QUESTIONS", 2)
    browser, found = patient.browser(), []
    for entry in (patient.note() for _one in range(5)):
        ask(patient, entry=entry, browser=browser)
    page = browser.get(patient.path)
    while True:
        listed = page.html.find("h2", string="Your questions").find_next("ul")
        found += [link["href"] for link in listed.select("a")]
        if "Further questions" not in page.text:
            break
        page = page.click("Further questions")
    assert len(found) == len(set(found)) == 5
    stranger = Someone(portal)
    for question in (kept(patient)[0].id, NOBODY, "", "%27"):
        path = f"{stranger.path}?questions={question}"
        assert stranger.browser().get(path, expect_errors=True).status_int == 404


def test_who_is_not_content_asks_again(patient, officer):
    reply(officer.signed_in(), asked(patient))
    again = ask(patient, "But she looked twice.")
    assert again.status_int == 303
    text = page_text(again.follow())
    assert WRONG in text and "But she looked twice." in text and ANSWER in text


def test_what_is_written_of_it_in_the_log(portal, patient, officer):
    path = asked(patient)
    reply(officer.signed_in(), path)
    made, answered = last(patient, Action.COMPLAINT_MADE), last(patient, Action.COMPLAINT_ANSWERED)
    assert made.actor == patient.id and answered.actor == officer.id
    assert made.object == answered.object == path.rpartition("/")[2]
    assert made.details["entry"] == answered.details["entry"] == patient.entry.id
    assert answered.reasons == ("not-justified",)
    told = b"".join(event.to_bytes() for event in patient.events())
    assert WRONG.encode() not in told and ANSWER.encode() not in told
    # The commitments are to the words as they are kept, with their salts.
    (row,), vault = kept(patient), portal.keys("hospital").vault
    with patient.session() as session:
        for event, purpose, sealed, text in (
            (made, complaints.TEXT, row.text, WRONG),
            (answered, complaints.ANSWER, row.answer, ANSWER),
        ):
            words = vault.open_note(session, patient.id, purpose, row.id, sealed)
            salt = words[: -len(text.encode())]
            assert event.details["commitment"] == commitment(salt, text)


def test_whoever_has_the_database_reads_no_word(patient, officer):
    path = asked(patient)
    reply(officer.signed_in(), path)
    (row,) = kept(patient)
    assert WRONG.encode() not in row.text and ANSWER.encode() not in row.answer


def test_words_cannot_be_moved_to_another_complaint(portal, patient, officer):
    """Sealed words are bound to their complaint: a swapped row shows nothing, and says so."""
    path = asked(patient)
    other = Someone(portal)
    other.entry = other.note()
    asked(other)
    with patient.session() as session, session.begin():
        foreign = kept(other)[0].text
        session.execute(
            update(Complaint).where(Complaint.patient_id == patient.id).values(text=foreign)
        )
    text = page_text(officer.signed_in().get(path))
    assert "cannot be opened any more" in text and WRONG not in text
    assert "cannot be shown here" in page_text(patient.browser().get(page_of(patient)))


# -- what is typed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Required"),
        ("   \r\n ", "Required"),
        ("?!…", "Write a few words."),
        ("a" * 4001, "4000"),
        ("right \u202e left", "ordinary signs"),
        ("bell \x07", "ordinary signs"),
    ],
    ids=["empty", "blank", "signs", "long", "turned", "bell"],
)
def test_what_cannot_be_asked(patient, text, words):
    answer = ask(patient, text)
    assert answer.status_int == 422 and kept(patient) == []
    assert words.lower() in page_text(answer).lower() or words == "Required"
    assert "form" in answer.forms, "it can be asked again at once"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script> was here",
        "${context} {{7*7}} %(x)s",
        "аdmin in Cyrillic, ｗｉｄｅ and e\u0301",
        "'; DROP TABLE complaint; --",
        "first line\nsecond line",
    ],
    ids=["script", "template", "look-alikes", "sql", "lines"],
)
def test_words_are_shown_as_they_were_typed(patient, officer, text):
    path = asked(patient, text=text)
    mine, theirs = patient.browser().get(page_of(patient)), officer.signed_in().get(path)
    for page in (mine, theirs):
        assert page.html.select_one("blockquote.said").text == text
        assert "<script>alert" not in page.text


def test_ten_megabytes_are_too_much(patient):
    browser = patient.browser()
    fields = {"csrf_token": browser.token(), "__formid__": "form", "text": "x" * 10_000_000}
    assert browser.app.post(page_of(patient), fields, expect_errors=True).status_int == 413
    assert send(browser, page_of(patient), text="a\x00b").status_int == 400
    assert kept(patient) == []


def test_the_same_form_twice_is_one_question(patient):
    browser = patient.browser()
    form = browser.get(page_of(patient)).forms["form"]
    form["text"] = WRONG
    assert form.submit().status_int == 303
    second = form.submit(expect_errors=True)
    assert second.status_int == 422
    assert "You have asked about this entry already." in page_text(second)
    assert len(kept(patient)) == 1


def at_once(*works):
    """Run all at the same moment; return what each returned."""
    barrier, found = threading.Barrier(len(works)), [None] * len(works)

    def run(number, work):
        barrier.wait()
        found[number] = work()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_two_tabs_at_once_are_one_question(patient):
    forms = [patient.browser().get(page_of(patient)).forms["form"] for _ in range(2)]
    for form in forms:
        form["text"] = WRONG
    answers = at_once(*(lambda f=form: f.submit(expect_errors=True) for form in forms))
    assert sorted(answer.status_int for answer in answers) == [303, 422]
    assert len(kept(patient)) == 1


def test_not_too_many_wait_at_once(patient, monkeypatch, officer):
    monkeypatch.setattr(complaints, "MOST_OPEN", 2)
    entries = [patient.note() for _ in range(3)]
    paths = [asked(patient, entry=entry) for entry in entries[:2]]
    answer = ask(patient, entry=entries[2])
    assert answer.status_int == 422
    assert "Many of your questions wait for an answer." in page_text(answer)
    reply(officer.signed_in(), paths[0])
    assert ask(patient, entry=entries[2]).status_int == 303


# -- who may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", CAST["hospital"])
def test_who_sees_the_queue_and_who_asks(portal, patient, role):
    path = asked(patient)
    browser = portal.signed_in(role)
    expected = 200 if role == "privacy_officer" else 404
    for page in ("/oversight/complaints", path):
        assert browser.get(page, expect_errors=True).status_int == expected
    if role != "privacy_officer":
        assert reply(browser, path).status_int == 404
    assert send(browser, page_of(patient), text=WRONG).status_int == 404
    assert len(kept(patient)) == 1 and kept(patient)[0].answered_at is None


@pytest.mark.parametrize("complaint", [NOBODY, "0", "x" * 3000, "%27", "%C3%A9"])
def test_complaints_that_are_none(officer, complaint):
    browser = officer.signed_in()
    missing = page_text(browser.get("/no/such/page", status=404))
    path = f"/oversight/complaints/{complaint}"
    for answer in (browser.get(path, expect_errors=True), reply(browser, path)):
        assert answer.status_int == 404 and page_text(answer) == missing


def test_complaints_of_the_neighbour_are_not_there(portal, patient):
    path = asked(patient)
    neighbour = portal.signed_in("privacy_officer", "laboratory")
    neighbour.get(path, status=404)
    assert reply(neighbour, path).status_int == 404
    text = page_text(neighbour.get("/oversight/complaints"))
    assert "No question waits for an answer." in text and "Quitéria" not in text


def test_nobody_answers_a_complaint_about_themselves(portal, patient, officer):
    """Neither their words nor the way to them: a colleague answers, and the officer knows of it."""
    entry = patient.note(actor=officer.id, details={"roles": "privacy_officer"})
    path = asked(patient, entry=entry)
    browser = officer.signed_in()
    browser.get(path, status=404)
    assert reply(browser, path).status_int == 404
    queue = browser.get("/oversight/complaints")
    assert "A question in which you have a part" in page_text(queue)
    assert path not in queue.text
    colleague = employ(portal, "privacy_officer", name="Other Officer").signed_in()
    assert reply(colleague, path).status_int == 303


def test_a_representative_sees_that_the_patient_asked_and_not_what(portal, patient):
    """Whoever is represented may complain about their representative."""
    ana = Someone(portal, name="Ana Velho")
    with patient.session() as session, session.begin():
        session.add(
            Representative(
                id=new_id(),
                patient_id=patient.id,
                person_id=ana.id,
                ground="parent",
                since=utcnow() - timedelta(days=1),
                until=None,
                made_by=None,
                approved_by=portal.person("ward_clerk"),
                ended_by=None,
            )
        )
    asked(patient)
    other = patient.note()
    browser = ana.browser()
    page = page_text(browser.get(page_of(patient)))
    assert WRONG not in page and "Not answered yet" in page
    assert ask(patient, "Asked by Ana.", entry=other, browser=browser).status_int == 303
    assert "Asked by Ana." in page_text(browser.get(page_of(patient, other)))
    assert "Asked by Ana." in page_text(patient.browser().get(page_of(patient, other)))


# -- answering -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        ("", ANSWER),
        ("emergency", ANSWER),
        ("justified", ""),
        ("justified", "…"),
        ("justified", "x" * 4001),
    ],
    ids=["no-finding", "foreign-finding", "no-words", "signs", "long"],
)
def test_what_is_no_answer(patient, officer, finding, text):
    path = asked(patient)
    answer = reply(officer.signed_in(), path, finding, text)
    assert answer.status_int == 422 and WRONG in page_text(answer)
    assert kept(patient)[0].answered_at is None and patient.mails() == []


def test_answered_once(portal, patient, officer):
    path = asked(patient)
    browsers = [officer.signed_in(), employ(portal, "privacy_officer", name="Two").signed_in()]
    answers = at_once(
        lambda: reply(browsers[0], path, text="The first answer."),
        lambda: reply(browsers[1], path, text="The second answer."),
    )
    assert sorted(answer.status_int for answer in answers) == [303, 422]
    late = next(answer for answer in answers if answer.status_int == 422)
    assert "A colleague has answered this already." in page_text(late)
    assert patient.mails() == ["complaint-answered"]
    outcomes = [e.outcome for e in patient.events() if e.action is Action.COMPLAINT_ANSWERED]
    assert sorted(outcomes) == [Outcome.ALLOWED, Outcome.DENIED]


def test_looking_at_it_is_told_to_the_patient(patient, officer):
    officer.signed_in().get(asked(patient))
    look = last(patient, Action.OVERSIGHT_VIEWED)
    assert look.actor == officer.id and look.reasons == ("role-any",)
    rows = rows_of(patient.browser().get(patient.path, params={"topic": "oversight"}))
    assert any("Olga Officer (Privacy officer) checked accesses to your data." in r for r in rows)


def test_the_officer_gets_on_from_there(patient, officer):
    page = officer.signed_in().get(asked(patient))
    assert page.html.select(f"a[href='/audit/events/{patient.entry.id}']")
    looked = page.click("Whom did this account look at?")
    assert "Whom did Person nurse look at?" in page_text(looked)


def test_no_content_is_shown_to_the_officer(portal, patient, officer):
    """The entry is told as the patient reads it, without what the record is about."""
    text = page_text(officer.signed_in().get(asked(patient)))
    assert "read one of your records" in text
    assert "/records/" not in text and "Mental health" not in text


# -- pages of the queue ----------------------------------------------------------------------------


def test_the_queue_page_by_page(portal, patient, officer, monkeypatch):
    monkeypatch.setattr(views, "PAGE", 2)
    paths = []
    for number in range(5):
        someone = Someone(portal, name=f"Paged Patient {number}")
        someone.entry = someone.note()
        paths.append(asked(someone))
    browser = officer.signed_in()

    def walk(query):
        page, found = browser.get("/oversight/complaints", params=query), []
        while True:
            found += [link["href"] for link in page.html.select(".cards h3 a")]
            links = page.html.select("a[rel=next]")
            if not links:
                return found
            page = browser.get(links[0]["href"])

    assert walk({}) == paths, "the oldest first"
    for path in paths:
        assert reply(browser, path).status_int == 303
    assert walk({"show": "answered"}) == paths[::-1], "the newest answer first"
    assert walk({}) == []


@pytest.mark.parametrize("query", ["show=all", "after=0", f"after={NOBODY}", "after=", "after=%27"])
def test_what_no_link_of_the_queue_says(officer, query):
    officer.signed_in().get(f"/oversight/complaints?{query}", status=404)


def test_no_page_of_answers_begins_behind_what_is_not_answered(patient, officer):
    complaint = asked(patient).rpartition("/")[2]
    query = {"show": "answered", "after": complaint}
    officer.signed_in().get("/oversight/complaints", params=query, status=404)
