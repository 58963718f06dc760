"""Emergency access, from the number typed to the end of the hour."""

import threading
from datetime import timedelta

import pytest
from admin_helpers import every_event
from functional_helpers import page_text, without_ids
from glass_helpers import MARKER, WORDS, doctor_of, fall_ill, seek, smash
from installation import CAST, NUMBERS
from second_factor_helpers import told
from sqlalchemy import select

from medportal.core.clock import to_micros
from medportal.core.ids import new_id
from medportal.identity.models import RoleGrant, SignInThrottle
from medportal.mail.models import OutgoingMail

CLINICIANS = ("doctor", "nurse")
EMAIL = "glass-broken"


@pytest.fixture
def ill(portal, clock):
    return fall_ill(portal, clock)


@pytest.fixture
def doctor(portal, clock):
    return doctor_of(portal)


@pytest.fixture
def browser(doctor):
    return doctor.signed_in()


# -- the way there --------------------------------------------------------------------------------


@pytest.mark.parametrize("role", CLINICIANS)
def test_a_number_leads_to_the_glass_of_somebody_elses_patient(portal, ill, clock, role):
    browser = doctor_of(portal, role=role).signed_in()
    answer = seek(browser, ill.number)
    assert answer.status_int == 303 and answer.location.endswith(ill.glass)
    page = answer.follow()
    words = page_text(page)
    assert ill.number in words
    # That somebody is registered is all there is to learn before the glass is broken.
    assert ill.name not in page.text and "1941" not in without_ids(page)
    (event,) = ill.events("patient-sought")
    assert (event.outcome, event.details["found"]) == ("allowed", 1)
    assert ill.mails() == [] and ill.steps() == []


def test_a_number_leads_to_ones_own_patient(portal, ill, doctor, browser):
    ill.look_after(doctor.id)
    answer = seek(browser, ill.number)
    assert answer.location.endswith(ill.path)
    assert ill.name in answer.follow().text


def test_a_clerk_finds_everybody_and_is_never_slowed_down(portal, ill, clock):
    browser = portal.signed_in("ward_clerk")
    for _try in range(7):
        assert seek(browser, "98989898").status_int == 422
    answer = seek(browser, ill.number)
    assert answer.location.endswith(ill.path)


def test_somebody_who_is_ill_here_finds_themselves_as_a_patient(portal, ill, clock):
    with portal.session("hospital") as session, session.begin():
        session.add(RoleGrant(person_id=ill.id, role="doctor", granted_at=clock(), granted_by=None))
    browser = ill.signed_in()
    answer = seek(browser, ill.number)
    assert answer.location.endswith(ill.path)
    browser.get(ill.glass, status=404)
    token = browser.token()
    fields = {"csrf_token": token, "reason": "emergency", "words": WORDS, "__formid__": "form"}
    browser.app.post(ill.glass, fields, status=404)
    assert ill.steps() == []


def test_misses_are_audited_without_the_number_and_slow_down(portal, ill, doctor, browser, clock):
    for _try in range(5):
        answer = seek(browser, "98989898")
        assert answer.status_int == 422
        assert "Nobody with this number" in page_text(answer)
    answer = seek(browser, "98989898")
    assert answer.status_int == 429 and int(answer.headers["Retry-After"]) >= 1
    # Not even a number that would find somebody is answered now.
    assert seek(browser, ill.number).status_int == 429
    log = every_event(portal, "hospital")
    assert "98989898" not in log and "'throttled'" in log
    # A colleague behind the same address does not wait, and neither does the same one later.
    assert seek(doctor_of(portal).signed_in(), ill.number).status_int == 303
    clock.forward(minutes=6)
    assert seek(doctor.signed_in(), ill.number).status_int == 303


def test_hits_on_strangers_slow_down_too(portal, clock, doctor, browser):
    people = [fall_ill(portal, clock) for _one in range(6)]
    answers = [seek(browser, person.number).status_int for person in people]
    assert answers == [303] * 5 + [429]


def test_a_night_with_many_emergencies_is_no_search(portal, clock, doctor, browser):
    for _one in range(7):
        person = fall_ill(portal, clock)
        assert seek(browser, person.number).status_int == 303
        assert smash(browser, person).location.endswith(person.path)


def test_one_emergency_makes_no_search_good(portal, clock, doctor, browser):
    """Only the hit on the patient whose glass was broken is forgotten."""
    people = [fall_ill(portal, clock) for _one in range(6)]
    for person in people[:5]:
        seek(browser, person.number)
    smash(browser, people[0])
    assert seek(browser, people[5].number).status_int == 303
    assert seek(browser, people[5].number).status_int == 429


def test_breaking_does_not_make_up_for_misses(portal, ill, browser):
    for _try in range(5):
        seek(browser, "98989898")
    smash(browser, ill)
    assert seek(browser, "98989898").status_int == 429


def test_who_searches_is_not_named_in_the_table_of_delays(portal, doctor, browser):
    seek(browser, "98989898")
    with portal.session("hospital") as session:
        keys = session.scalars(select(SignInThrottle.key)).all()
    assert all(doctor.id.encode() not in key for key in keys)


HOSTILE = ("1", "1" * 41, "' or 1=1", "<script>", "١٢٣٤٥٦٧٨x", "7100000\u200b1x", "\u202e12345678x")


@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_what_is_no_number_finds_nobody_and_is_not_counted(browser, index):
    for _try in range(6):
        answer = seek(browser, HOSTILE[index])
        assert answer.status_int == 422
    assert "<script>" not in answer.text


# -- what a clinician is told who meets a closed door ---------------------------------------------


@pytest.mark.parametrize("role", [*CLINICIANS, "porter", "ward_clerk", "admin", "auditor"])
def test_hidden_and_missing_say_the_same_and_only_clinicians_where_to_go(portal, ill, clock, role):
    browser = doctor_of(portal, role=role).signed_in()
    hidden = browser.get(f"{ill.path}/records/{new_id()}", status=404)
    missing = browser.get(f"/patients/{new_id()}/records/{new_id()}", status=404)
    assert page_text(hidden) == page_text(missing)
    assert ("find the patient by number" in page_text(hidden)) is (role in CLINICIANS)
    assert (hidden.html.find("main").find("a", href="/patients/find") is not None) is (
        role in CLINICIANS
    )


# -- the glass ------------------------------------------------------------------------------------


def test_a_doctor_breaks_the_glass_reads_and_is_locked_out_again(portal, ill, browser, clock):
    record = ill.write_record(doctor_of(portal, name="Ana Albuquerque"))
    for path in (ill.path, record):
        browser.get(path, status=404)
    answer = smash(browser, ill)
    assert answer.status_int == 303 and answer.location.endswith(ill.path)
    assert told(browser)[0][:2] == ["warn", "Emergency access is open for ${n} minutes."]
    page = answer.follow()
    assert ill.name in page_text(page)
    assert MARKER in page_text(browser.get(record))
    for _while in range(3):
        # Used every now and then, so that the session goes on when the access does not.
        clock.forward(minutes=19, seconds=50)
        browser.get(record, status=200)
    clock.forward(minutes=1)
    for path in (ill.path, record):
        browser.get(path, status=404)


def test_the_patient_and_the_log_are_told(portal, ill, doctor, browser, clock):
    smash(browser, ill, reason="covering-for-a-colleague")
    (step,) = ill.steps()
    (event,) = ill.events("glass-broken")
    assert (event.actor, event.patient, event.object) == (doctor.id, ill.id, step.id)
    assert event.reasons == ("covering-for-a-colleague",)
    assert event.details["basis"] == step.id
    assert event.details["sensitive"] == 0
    assert event.details["until"] == to_micros(step.until)
    assert len(event.details["commitment"]) == 64
    assert event.details["place"] == "on-site" and event.details["roles"] == "doctor"
    assert ill.mails() == [EMAIL]
    # What is read now says on what it rests.
    browser.get(ill.path)
    (seen,) = [e for e in ill.events("patient-viewed") if "route" not in e.details]
    assert seen.details["basis"] == step.id and "broken-glass" in seen.reasons


def test_the_words_stand_nowhere_in_the_clear(portal, ill, browser):
    smash(browser, ill)
    assert WORDS not in every_event(portal, "hospital")
    with portal.session("hospital") as session:
        (step,) = ill.steps()
        mail = session.scalars(select(OutgoingMail).where(OutgoingMail.person_id == ill.id)).one()
    assert b"unconscious" not in step.text
    assert "unconscious" not in str(mail.params)


def test_who_has_no_email_is_told_in_the_log_alone(portal, clock, browser):
    person = fall_ill(portal, clock, email="")
    assert smash(browser, person).status_int == 303
    assert person.mails() == [] and len(person.events("glass-broken")) == 1


def test_sensitive_records_take_the_second_step(ill, browser, clock):
    plain = ill.index_record("laboratory")
    secrets = [ill.index_record(c) for c in ("mental-health", "genetics")]
    smash(browser, ill)
    page = browser.get(ill.path)
    assert plain in page.text
    for path in secrets:
        browser.get(path, status=404)
        assert path not in page.text
    page = browser.get(ill.glass)
    assert "sensitive" in page.forms and "form" not in page.forms
    assert "second" not in page_text(page).split("Sensitive records")[0]
    assert smash(browser, ill, form="sensitive", reason="safety-of-the-patient").status_int == 303
    page = browser.get(ill.path)
    for path in secrets:
        assert path in page.text
        browser.get(path, status=200)
    first, second = ill.events("glass-broken")
    assert (first.details["sensitive"], second.details["sensitive"]) == (0, 1)
    assert first.details["commitment"] != second.details["commitment"]
    assert ill.mails() == [EMAIL, EMAIL] and len(ill.steps()) == 2
    assert not {"form", "sensitive"} & set(browser.get(ill.glass).forms)


def test_the_second_step_alone_opens_nothing(ill, browser):
    fields = {"reason": "emergency", "words": WORDS, "__formid__": "sensitive"}
    answer = browser.post(ill.glass, fields)
    assert answer.location.endswith(ill.glass)
    assert ill.steps() == [] and ill.mails() == []
    (event,) = ill.events("glass-broken")
    assert (event.outcome, event.reasons) == ("denied", ("glass-not-broken",))
    browser.get(ill.path, status=404)


def test_a_form_sent_twice_is_one_step(ill, browser):
    form = browser.get(ill.glass).forms["form"]
    form["reason"], form["words"] = "emergency", WORDS
    first, second = form.submit(), form.submit()
    assert first.location == second.location
    assert len(ill.steps()) == 1 and ill.mails() == [EMAIL]
    assert len(ill.events("glass-broken")) == 1


def test_a_form_of_before_with_errors_leads_to_the_page_as_it_is(ill, browser):
    old = browser.get(ill.glass).forms["form"]
    smash(browser, ill)
    assert old.submit().location.endswith(ill.glass)
    second = browser.get(ill.glass).forms["sensitive"]
    assert "There is a problem" in second.submit(expect_errors=True).text
    smash(browser, ill, form="sensitive")
    assert second.submit().location.endswith(ill.glass)
    assert len(ill.steps()) == 2


def test_two_at_once_are_one_step(ill, doctor):
    forms = [doctor.signed_in().get(ill.glass).forms["form"] for _one in range(2)]
    answers = []

    def send(form):
        form["reason"], form["words"] = "emergency", WORDS
        answers.append(form.submit(expect_errors=True).status_int)

    threads = [threading.Thread(target=send, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [303, 303]
    assert len(ill.steps()) == 1 and ill.mails() == [EMAIL]


def test_it_opens_to_one_person_alone(portal, ill, browser):
    smash(browser, ill)
    doctor_of(portal).signed_in().get(ill.path, status=404)


def test_it_does_not_open_the_patients_own_pages(ill, browser):
    smash(browser, ill)
    for page in ("rules", "rules/new", "access-log", "access-log/download", "care", "details"):
        browser.get(f"{ill.path}/{page}", status=404)


# -- ending it ------------------------------------------------------------------------------------


def test_ended_sooner_is_ended_at_once(ill, doctor, browser):
    secret = ill.index_record("genetics")
    smash(browser, ill)
    smash(browser, ill, form="sensitive")
    page = browser.get(ill.glass)
    end = next(f for f in page.forms.values() if f.action.endswith("/end"))
    answer = end.submit()
    assert answer.status_int == 303
    for path in (ill.path, secret):
        browser.get(path, status=404)
    closed = ill.events("glass-closed")
    assert {event.object for event in closed} == {step.id for step in ill.steps()}
    assert all(event.actor == doctor.id for event in closed)
    # Sent again, it is over already.
    assert end.submit().status_int == 303
    assert len(ill.events("glass-closed")) == 2


def test_nobody_ends_a_colleagues_access(portal, ill, browser):
    smash(browser, ill)
    (step,) = ill.steps()
    other = doctor_of(portal).signed_in()
    other.post(f"{ill.glass}/{step.id}/end", {}, status=404)
    browser.get(ill.path)
    for junk in ("0" * 32, "x", "%00"):
        browser.post(f"{ill.glass}/{junk}/end", {}, status="4*")


def test_ending_takes_a_post(ill, browser):
    smash(browser, ill)
    (step,) = ill.steps()
    browser.get(f"{ill.glass}/{step.id}/end", status=404)
    browser.app.post(f"{ill.glass}/{step.id}/end", status=403)
    browser.get(ill.path)


# -- the banner -----------------------------------------------------------------------------------


def test_while_it_is_open_every_page_says_so(portal, ill, doctor, browser, clock):
    record = ill.write_record(doctor_of(portal, name="Ana Albuquerque"))
    smash(browser, ill)
    for path in (ill.path, record, f"{ill.path}/records/new"):
        page = browser.get(path, status=200)
        notice = page.html.find("div", {"data-kind": "bad"})
        assert "Emergency access until" in notice.get_text()
        assert notice.find("a")["href"] == ill.glass
    assert "Emergency access until" not in browser.get("/account").text
    ill.look_after(doctor.id)
    for _while in range(3):
        clock.forward(minutes=20, seconds=1)
        page = browser.get(ill.path, status=200)
    assert "Emergency access until" not in page.text


# -- who may, and what it asks --------------------------------------------------------------------


@pytest.mark.parametrize("role", [r for r in CAST["hospital"] if r not in (*CLINICIANS,)])
def test_nobody_else_breaks_the_glass(portal, ill, clock, role):
    browser = portal.signed_in(role)
    if role == "other_doctor":
        browser.get(ill.glass)
        return
    browser.get(ill.glass, status=404)
    fields = {"reason": "emergency", "words": WORDS, "__formid__": "form"}
    browser.post(ill.glass, fields, status=404)
    assert ill.steps() == [] and ill.mails() == []


@pytest.mark.parametrize("role", CAST["laboratory"])
def test_a_laboratory_has_no_glass(portal, clock, role):
    patient = portal.person("patient", "laboratory")
    portal.signed_in(role, "laboratory").get(f"/patients/{patient}/glass", status=404)


def test_a_patient_of_the_neighbour_is_nobody_here(portal, clock, browser):
    patient = portal.person("patient", "laboratory")
    browser.get(f"/patients/{patient}/glass", status=404)
    fields = {"reason": "emergency", "words": WORDS, "__formid__": "form"}
    browser.post(f"/patients/{patient}/glass", fields, status=404)


def test_it_asks_who_one_is_where_that_was_long_ago(ill, doctor, browser, clock):
    form = browser.get(ill.glass).forms["form"]
    form["reason"], form["words"] = "emergency", WORDS
    clock.forward(minutes=11)
    # The form was open before, and is taken; a new one is not shown without proof.
    assert form.submit().location.endswith(ill.path)
    answer = browser.get(ill.glass, status=303)
    assert "/account/confirm" in answer.location
    clock.forward(minutes=20)
    answer = form.submit()
    assert "/account/confirm" in answer.location
    assert len(ill.steps()) == 1


CLUMSY = {
    "no words": {"words": ""},
    "blank words": {"words": " \t\n \u00a0 "},
    "too few": {"words": "help"},
    "no letters": {"words": "!!!!!!!!!! 112 112 112"},
    "too many": {"words": "x" * 501},
    "backwards": {"words": "Found \u202eeht ni\u202c lift"},
    "unseen": {"words": "Found\u200b in the lift"},
    "bell": {"words": "Found in the lift\x07"},
    "no reason": {"reason": ""},
    "look-alike reason": {"reason": "emergenсy"},
    "a reason of others": {"reason": "justified"},
    "shouted reason": {"reason": "EMERGENCY"},
}


@pytest.mark.parametrize("what", CLUMSY)
def test_clumsy_and_hostile_reasons_open_nothing(ill, browser, what):
    fields = {"reason": "emergency", "words": WORDS, **CLUMSY[what]}
    answer = smash(browser, ill, **fields)
    assert answer.status_int == 422
    assert answer.html.find(class_="error-summary") is not None
    assert ill.steps() == [] and ill.events("glass-broken") == []


def test_a_script_among_the_words_stays_words(ill, browser):
    answer = smash(browser, ill, words="<script>alert(1)</script> in the lift", reason="nothing")
    assert answer.status_int == 422 and "<script>alert" not in answer.text
    assert smash(browser, ill, words="<script>alert(1)</script> in the lift").status_int == 303


@pytest.mark.parametrize("size", [20_001, 10_000_000])
def test_what_no_browser_sends_is_refused(ill, browser, size):
    token = browser.token()
    fields = {"csrf_token": token, "reason": "emergency", "words": "x" * size}
    answer = browser.app.post(ill.glass, fields, expect_errors=True)
    assert answer.status_int in (400, 413)
    answer = browser.app.post(
        ill.glass, {**fields, "words": "a\x00b lift lift"}, expect_errors=True
    )
    assert answer.status_int == 400
    assert ill.steps() == []


def test_how_long_it_lasts_is_the_institutions(portal, ill, browser, clock):
    tenant = portal.settings.tenant("hospital")
    assert tenant.access.glass == timedelta(minutes=60)
    smash(browser, ill)
    (step,) = ill.steps()
    assert step.until - step.since == tenant.access.glass
    assert NUMBERS["doctor"] not in page_text(browser.get(ill.glass))
