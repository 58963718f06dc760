"""The privacy officer's queue of emergency access: what it shows, who closes it, and how."""

import threading

import pytest
from admin_helpers import employ, every_event
from functional_helpers import page_text
from glass_helpers import MARKER, WORDS, doctor_of, fall_ill, smash
from installation import CAST
from second_factor_helpers import told
from sqlalchemy import update

from medportal.access.models import BrokenGlass
from medportal.access.views import reviews
from medportal.core.ids import new_id
from medportal.identity.models import RoleGrant

QUEUE = "/oversight/reviews"
NOTE = "The head of the ward confirms that nobody else was there."


@pytest.fixture
def ill(portal, clock):
    return fall_ill(portal, clock)


@pytest.fixture
def doctor(portal, clock):
    return doctor_of(portal, name="Ivo Quaresma")


@pytest.fixture
def officer(portal, clock):
    return employ(portal, "privacy_officer", name="Teresa Mourão")


@pytest.fixture
def opened(ill, doctor):
    """Break the glass; give the path of the review."""
    smash(doctor.signed_in(), ill)
    return path_of(ill)


@pytest.fixture
def over(opened, clock):
    """Let the time of the broken glass run out."""
    clock.forward(minutes=61)
    return opened


def path_of(ill):
    return f"{QUEUE}/{ill.steps()[-1].id}"


def close(browser, path, finding="justified", words=NOTE):
    form = browser.get(path, status=200).forms["form"]
    form["finding"].force_value(finding)
    form["words"].force_value(words)
    return form.submit(expect_errors=True)


def test_the_queue_names_who_and_why_and_no_patient(portal, ill, over, officer):
    browser = officer.signed_in()
    page = browser.get(QUEUE)
    link = page.html.find("a", href=over)
    assert "Ivo Quaresma" in link.get_text()
    assert "An emergency" in link.find_parent("li").get_text()
    assert ill.name not in page.text and ill.number not in page.text and WORDS not in page.text
    # Signed in, it is one of the places where the officer's work is.
    assert browser.get("/").follow().html.find("nav").find("a", href=QUEUE) is not None


def test_one_review_shows_what_there_is_to_compare(ill, doctor, officer, portal, clock):
    record = ill.write_record(doctor_of(portal, name="Ana Albuquerque"))
    browser = doctor.signed_in()
    smash(browser, ill)
    browser.get(record)
    browser.get(record)
    clock.forward(minutes=61)
    page = officer.signed_in().get(path_of(ill))
    words = page_text(page)
    assert ill.name in words and "Ivo Quaresma, Doctor" in words and WORDS in words
    assert "Records read 2" in words
    assert "did not look after this patient" in words
    assert "30 days before: 0, found not right: 0" in words
    assert "not the words" not in words
    # No clinical content, whatever was read.
    assert MARKER not in page.text
    (seen,) = ill.events("oversight-viewed")
    assert (seen.actor, seen.object) == (officer.id, ill.steps()[0].id)


def test_closing_is_told_to_the_log_and_done_once(ill, over, officer, portal):
    browser = officer.signed_in()
    page = browser.get(over)
    answer = close(browser, over, "not-justified")
    assert answer.status_int == 303 and answer.location.endswith(QUEUE)
    (event,) = ill.events("glass-reviewed")
    (step,) = ill.steps()
    assert (event.actor, event.object, event.reasons) == (officer.id, step.id, ("not-justified",))
    assert event.details["basis"] == step.id and len(event.details["commitment"]) == 64
    assert NOTE not in every_event(portal, "hospital") and NOTE.encode() not in step.finding_text
    words = page_text(browser.get(over))
    assert "The access was not right" in words and NOTE in words and "Teresa Mourão" in words
    assert "form" not in browser.get(over).forms
    # The form that was open before is too late, in whoever's hands.
    again = page.forms["form"]
    again["finding"] = "justified"
    answer = again.submit(expect_errors=True)
    assert answer.status_int == 422 and "closed this already" in page_text(answer)
    denied = ill.events("glass-reviewed")[-1]
    assert (denied.outcome, denied.reasons[-1]) == ("denied", "nothing-new")
    assert ill.steps()[0].finding == "not-justified"


def test_two_officers_at_once_close_it_once(ill, over, officer, portal):
    people = [officer, employ(portal, "privacy_officer")]
    forms = [person.signed_in().get(over).forms["form"] for person in people]
    answers = []

    def send(form):
        form["finding"], form["words"] = "followed-up", NOTE
        answers.append(form.submit(expect_errors=True).status_int)

    threads = [threading.Thread(target=send, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [303, 422]
    outcomes = sorted(event.outcome for event in ill.events("glass-reviewed"))
    assert outcomes == ["allowed", "denied"]


def test_what_goes_on_is_ended_before_it_is_closed(ill, opened, doctor, officer):
    clinician, browser = doctor.signed_in(), officer.signed_in()
    clinician.get(ill.path, status=200)
    page = browser.get(opened)
    assert "form" not in page.forms and "still goes on" in page_text(page)
    fields = {"finding": "justified", "words": NOTE, "__formid__": "form"}
    answer = browser.post(opened, fields, expect_errors=True)
    assert answer.status_int == 422 and ill.steps()[0].finding is None
    assert page.forms["stop"].submit().location.endswith(opened)
    clinician.get(ill.path, status=404)
    (ended,) = ill.events("glass-closed")
    assert (ended.actor, ended.reasons) == (officer.id, ("role-any",))
    assert close(browser, opened).status_int == 303


def test_each_step_is_reviewed_by_itself(ill, doctor, officer, clock):
    browser = doctor.signed_in()
    smash(browser, ill)
    smash(browser, ill, form="sensitive")
    clock.forward(minutes=61)
    first, second = ill.steps()
    reviewer = officer.signed_in()
    close(reviewer, f"{QUEUE}/{first.id}")
    page = reviewer.get(f"{QUEUE}/{second.id}")
    assert "Sensitive records, by the second step" in page_text(page)
    assert "form" in page.forms
    assert [step.finding for step in ill.steps()] == ["justified", None]


def test_nobody_reviews_their_own_access(ill, doctor, clock, portal):
    with portal.session("hospital") as session, session.begin():
        session.add(
            RoleGrant(
                person_id=doctor.id, role="privacy_officer", granted_at=clock(), granted_by=None
            )
        )
    browser = doctor.signed_in()
    smash(browser, ill)
    path = path_of(ill)
    for name, words in (("stop", "your own access"), ("form", "your own access")):
        page = browser.get(path)
        assert not {"form", "stop"} & set(page.forms) and words in page_text(page)
        assert "What was done meanwhile" not in page_text(page)
        fields = {"finding": "justified", "words": NOTE, "__formid__": name}
        assert browser.post(path, fields, expect_errors=True).status_int == 422
    assert ill.steps()[0].finding is None
    assert [e.outcome for e in ill.events("glass-reviewed", "glass-closed")] == ["denied"] * 2


def test_nobody_reviews_access_to_their_own_record(portal, clock, doctor, ill):
    with portal.session("hospital") as session, session.begin():
        session.add(
            RoleGrant(person_id=ill.id, role="privacy_officer", granted_at=clock(), granted_by=None)
        )
    smash(doctor.signed_in(), ill)
    path = path_of(ill)
    clock.forward(minutes=61)
    browser = ill.signed_in()
    page = browser.get(path)
    assert "about your own record" in page_text(page) and "form" not in page.forms
    # What the doctor wrote for the reviewer is not for whom it is about.
    assert WORDS not in page.text
    fields = {"finding": "not-justified", "words": NOTE, "__formid__": "form"}
    assert browser.post(path, fields, expect_errors=True).status_int == 422
    assert ill.steps()[0].finding is None


def test_words_that_somebody_changed_in_the_database_are_told(ill, over, officer, portal):
    vault = portal.keys("hospital").vault
    (step,) = ill.steps()
    forged = bytes(32) + b"The patient asked me to."
    with portal.session("hospital") as session, session.begin():
        sealed = vault.seal_note(session, ill.id, "glass-reason", step.id, forged)
        session.execute(update(BrokenGlass).where(BrokenGlass.id == step.id).values(text=sealed))
    page = officer.signed_in().get(over)
    assert "not the words that the audit log was told of" in page_text(page)
    with portal.session("hospital") as session, session.begin():
        session.execute(update(BrokenGlass).where(BrokenGlass.id == step.id).values(text=b"torn"))
    page = officer.signed_in().get(over)
    assert "cannot be opened any more" in page_text(page)


@pytest.mark.parametrize("role", [r for r in CAST["hospital"] if r != "privacy_officer"])
def test_nobody_else_sees_the_queue(portal, over, clock, role):
    browser = portal.signed_in(role)
    hidden = browser.get(over, status=404)
    missing = browser.get(f"{QUEUE}/{new_id()}", status=404)
    assert page_text(hidden) == page_text(missing)
    browser.get(QUEUE, status=404)
    fields = {"finding": "justified", "words": NOTE, "__formid__": "form"}
    browser.post(over, fields, status=404)


def test_a_neighbours_officer_sees_none_of_it(portal, over, clock):
    browser = portal.signed_in("privacy_officer", "laboratory")
    browser.get(over, status=404)
    browser.get(f"{QUEUE}?after={over.rpartition('/')[2]}", status=404)
    assert "No emergency access waits" in page_text(browser.get(QUEUE))


@pytest.mark.parametrize("junk", ["0" * 32, "x", "1.5", "%27", "A" * 32])
def test_junk_in_an_address_is_not_found(portal, clock, officer, junk):
    browser = officer.signed_in()
    browser.get(f"{QUEUE}/{junk}", status=404)
    browser.get(f"{QUEUE}?after={junk}", status=404)


def test_a_long_queue_goes_on_from_where_it_was(portal, clock, officer):
    doctor = doctor_of(portal)
    browser = doctor.signed_in()
    people = [fall_ill(portal, clock) for _one in range(27)]
    for person in people:
        assert smash(browser, person).status_int == 303
    reader, found, page = officer.signed_in(), [], None
    while page is None or (more := page.html.find("a", rel="next")):
        page = reader.get(QUEUE if page is None else more["href"])
        cards = page.html.select("ul.cards h3 a")
        found += [card["href"] for card in cards if "Checked" not in card.get_text()]
        assert all(card["href"].startswith(QUEUE) for card in cards)
    wanted = [path_of(person) for person in people]
    assert [path for path in found if path in wanted] == wanted


CLUMSY = {
    "no finding": {"finding": ""},
    "a reason in place of a finding": {"finding": "emergency"},
    "not right, and no word why": {"finding": "not-justified", "words": ""},
    "looked into, and no word how": {"finding": "followed-up", "words": "  "},
    "too short": {"words": "ok"},
    "too long": {"words": "x" * 501},
    "backwards": {"words": "Asked \u202edna\u202c confirmed"},
}


@pytest.mark.parametrize("what", CLUMSY)
def test_clumsy_findings_close_nothing(ill, over, officer, what):
    answer = close(officer.signed_in(), over, **CLUMSY[what])
    assert answer.status_int == 422
    assert answer.html.find(class_="error-summary") is not None
    assert ill.steps()[0].finding is None and ill.events("glass-reviewed") == []


def test_what_was_right_needs_no_words(ill, over, officer):
    browser = officer.signed_in()
    assert close(browser, over, words="").status_int == 303
    assert told(browser)[0][1] == "The review is closed."
    (event,) = ill.events("glass-reviewed")
    assert "commitment" not in event.details
    assert "The access was right" in page_text(browser.get(over))


def test_it_asks_who_one_is_where_that_was_long_ago(over, officer, clock):
    browser = officer.signed_in()
    clock.forward(minutes=11)
    assert "/account/confirm" in browser.get(over, status=303).location
    assert browser.get(QUEUE).status_int == 200


def test_everything_that_was_checked_can_be_reached(portal, clock, doctor, officer, monkeypatch):
    monkeypatch.setattr(reviews, "PAGE", 2)
    browser, mine = doctor.signed_in(), set()
    for _one in range(5):
        person = fall_ill(portal, clock)
        smash(browser, person)
        mine.add(path_of(person))
    clock.forward(minutes=61)
    desk, found = officer.signed_in(), []
    for path in sorted(mine):
        assert close(desk, path, words="").status_int == 303
    page = desk.get(QUEUE)
    while True:
        listed = page.html.find("h2", string="Checked").find_next("ul")
        found += [str(link["href"]) for link in listed.select("h3 a")]
        links = [link for link in page.html.select("a") if "closed=" in str(link.get("href"))]
        if not links:
            break
        page = desk.get(links[0]["href"])
        assert "To be checked" not in page_text(page)
    assert len(found) == len(set(found))
    assert mine <= {f"{QUEUE}/{path.rpartition('/')[2]}" for path in found}
    for junk in ("0" * 32, "", "%27"):
        assert desk.get(f"{QUEUE}?closed={junk}", expect_errors=True).status_int == 404


def test_who_represents_patients_is_not_said_either(portal, ill, over, doctor, officer):
    with portal.session("hospital") as session, session.begin():
        for role in ("patient", "representative"):
            session.add(RoleGrant(person_id=doctor.id, role=role, granted_at=ill.clock()))
    text = page_text(officer.signed_in().get(over))
    assert "Ivo Quaresma, Doctor Patient" in text
