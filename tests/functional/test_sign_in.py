"""Signing in and out, in a browser's terms, at both institutions."""

import json
import re
from dataclasses import replace
from datetime import date, timedelta

import pytest
from argon2 import PasswordHasher
from functional_helpers import page_text
from sqlalchemy import select, update

from medportal.core.clock import utcnow
from medportal.identity import credentials, known_device, passwords, people, throttle
from medportal.identity.credentials import set_password
from medportal.identity.models import Account, LoginSession
from medportal.identity.views import sign_in as views
from medportal.mail.models import OutgoingMail

PASSWORD = "quiet rivers carry small boats"
NUMBERS = {"nurse": "16240817", "porter": "17564920", "volunteer": "17564532"}


def test_healthz_answers_for_each_institution(portal):
    for tenant in ("hospital", "laboratory"):
        answer = portal.browser(tenant).get("/healthz")
        assert answer.json == {"status": "ok", "tenant": tenant}


def test_an_unknown_host_is_421(portal):
    browser = portal.browser()
    answer = browser.get("/", headers={"Host": "elsewhere.example"}, status=421)
    assert "Riverside" not in answer.text


def test_the_form_has_the_labels_that_people_know(portal):
    page = portal.browser().get("/sign-in").html
    labels = {label.get_text(strip=True) for label in page.find_all("label")}
    assert {"Citizen card number", "Password"} <= labels
    assert page.find("button", class_="btn-primary").get_text(strip=True) == "Sign in"


def test_signing_in_lands_where_the_work_is(portal):
    browser = portal.signed_in("doctor")
    page = browser.get("/").follow()
    assert page.request.path == "/results"
    page = portal.signed_in("porter").get("/").follow()
    assert page.request.path == "/patients"
    assert "Amanda Júlio" in page_text(page)


@pytest.mark.parametrize(
    ("number", "password"),
    [
        ("19573526", "not the password of anybody"),
        ("99999999", "quiet rivers carry small boats"),
        ("1957352", "quiet rivers carry small boats"),
        ("' OR 1=1 --", "x"),
        ("19573526\r\nSet-Cookie: a=b", "x"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("1957\u200b3526", "quiet rivers carry small boats"),
        ("١٩٥٧٣٥٢٦", "quiet rivers carry small boats"),
        ("19573526", "quiet rivers carry small boats "),
        ("19573526", "Quiet rivers carry small boats"),
        ("19573526", "quiet rivers carry small boаts"),  # a Cyrillic letter
        ("019573526", "quiet rivers carry small boats"),
        ("１９５７３５２６", "wrong in full width digits"),
    ],
)
def test_wrong_credentials_get_one_answer(portal, number, password):
    browser = portal.browser()
    answer = browser.sign_in(number, password)
    assert answer.status_int == 401
    assert "The citizen card number or the password is not right." in answer.text
    assert "__Host-hospital-session" not in browser.cookies


def test_the_database_holds_no_token(portal):
    browser = portal.signed_in("porter")
    token = browser.cookies["__Host-hospital-session"]
    with portal.session("hospital") as session:
        hashes = session.scalars(select(LoginSession.token_hash)).all()
    assert token.encode() not in b"".join(bytes(h) for h in hashes)


def test_a_new_session_at_each_sign_in(portal):
    browser = portal.signed_in("porter")
    first = browser.cookies["__Host-hospital-session"]
    csrf = browser.cookies["__Host-csrf"]
    browser.post("/sign-out", {}, status=303)
    browser.sign_in("17564920")
    assert browser.cookies["__Host-hospital-session"] != first
    assert browser.cookies["__Host-csrf"] != csrf


def test_signing_out_ends_the_session_in_the_database(portal):
    browser = portal.signed_in("volunteer")
    token = browser.cookies["__Host-hospital-session"]
    browser.post("/sign-out", {}, status=303)
    browser.app.set_cookie("__Host-hospital-session", token)
    assert browser.get("/patients", status=303).location.endswith("/sign-in?next=%2Fpatients")


def test_the_neighbours_cookie_is_nobody_here(portal):
    browser = portal.signed_in("admin", "laboratory")
    token = browser.cookies["__Host-laboratory-session"]
    thief = portal.browser("hospital")
    for name in ("__Host-laboratory-session", "__Host-hospital-session"):
        thief.app.set_cookie(name, token)
    assert thief.get("/deliveries", status=303).location.endswith("/sign-in?next=%2Fdeliveries")


def test_many_failures_make_one_wait_and_lock_nobody_else_out(portal):
    browser = portal.browser()
    answers = [browser.sign_in("16240817", "no such password here") for _ in range(7)]
    assert answers[-1].status_int == 429
    assert int(answers[-1].headers["Retry-After"]) > 0
    elsewhere = portal.browser()
    elsewhere.app.extra_environ["REMOTE_ADDR"] = "127.0.0.77"
    assert elsewhere.sign_in("16240817").status_int == 303


def test_a_link_to_a_stranger_is_not_followed_after_sign_in(portal):
    browser = portal.browser()
    form = browser.get("/sign-in?next=//evil.example/").forms["form"]
    assert form["next"].value == "/"
    form["next"].force_value("https://evil.example/")
    form["number"], form["password"] = "17564920", "quiet rivers carry small boats"
    assert form.submit().location == "https://hospital.localhost:8443/"


def test_changing_the_password_ends_other_sessions(portal):
    here, there = portal.signed_in("clinical_assistant"), portal.signed_in("clinical_assistant")
    form = here.get("/account/password").forms["form"]
    form["old"] = "quiet rivers carry small boats"
    form["new"] = form["again"] = "seven lamps over the harbour"
    assert form.submit().status_int == 303
    assert here.get("/account").status_int == 200
    assert "sign-in" in there.get("/account", status=303).location
    back = here.get("/account/password").forms["form"]
    back["old"] = "seven lamps over the harbour"
    back["new"] = back["again"] = "quiet rivers carry small boats"
    assert back.submit().status_int == 303


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("too short", "too short"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "repeats"),
        ("Person-patient-17645234", "mostly made of"),
    ],
)
def test_weak_passwords_are_refused_with_a_reason(portal, new, words):
    browser = portal.signed_in("patient")
    form = browser.get("/account/password").forms["form"]
    form["old"] = "quiet rivers carry small boats"
    form["new"] = form["again"] = new.replace("Person-patient", "Amanda-Júlio")
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    assert words in answer.text


def test_the_wrong_old_password_changes_nothing(portal):
    browser = portal.signed_in("patient")
    form = browser.get("/account/password").forms["form"]
    form["old"] = "something else entirely"
    form["new"] = form["again"] = "seven lamps over the harbour"
    assert form.submit(expect_errors=True).status_int == 422
    assert portal.browser().sign_in("17645234").status_int == 303


def test_a_post_without_the_token_is_refused(portal):
    browser = portal.signed_in("patient")
    answer = browser.app.post("/sign-out", {}, expect_errors=True)
    assert answer.status_int == 403
    assert browser.get("/account").status_int == 200


def test_a_post_from_another_site_is_refused(portal):
    browser = portal.signed_in("patient")
    answer = browser.post(
        "/sign-out", {}, headers={"Sec-Fetch-Site": "cross-site"}, expect_errors=True
    )
    assert answer.status_int == 403


def test_sign_ins_and_failures_are_in_the_audit_log(portal):
    portal.signed_in("auditor")
    portal.browser().sign_in("15960273", "not my password at all")
    events = [
        (a, o) for a, o, actor, _p in portal.events("hospital") if actor == portal.person("auditor")
    ]
    assert ("sign-in", "allowed") in events
    assert ("sign-in-failed", "denied") in events


def test_a_session_ends_without_use(portal):
    browser = portal.signed_in("auditor")
    with portal.session("hospital") as session, session.begin():
        for row in session.scalars(select(LoginSession)):
            row.last_used_at -= timedelta(minutes=31)
    assert "sign-in" in browser.get("/audit", status=303).location


def test_a_password_changed_during_a_sign_in_wins(portal, monkeypatch):
    """The check runs on a snapshot; what is committed meanwhile decides."""
    real = views.verify_password

    def verify_then_change(policy, stored, password):
        right = real(policy, stored, password)
        with portal.session("hospital") as session, session.begin():
            session.execute(
                update(Account)
                .where(Account.person_id == portal.person("nurse"))
                .values(status="suspended")
            )
        return right

    monkeypatch.setattr(views, "verify_password", verify_then_change)
    browser = portal.browser()
    browser.app.extra_environ["REMOTE_ADDR"] = "127.0.0.78"
    assert browser.sign_in("16240817").status_int == 401
    monkeypatch.undo()
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(Account)
            .where(Account.person_id == portal.person("nurse"))
            .values(status="active")
        )
    assert browser.sign_in("16240817").status_int == 303


def test_an_ipv6_customer_has_one_address(portal):
    browsers = [portal.browser() for _ in range(7)]
    for number, browser in enumerate(browsers):
        browser.app.extra_environ["REMOTE_ADDR"] = f"2001:db8:0:1::{number:x}"
    answers = [browser.sign_in("18509738", "not the right one") for browser in browsers]
    assert answers[-1].status_int == 429


def test_wrong_old_passwords_are_throttled(portal):
    browser = portal.signed_in("volunteer")
    for _ in range(6):
        form = browser.get("/account/password").forms["form"]
        form["old"] = "something else entirely"
        form["new"] = form["again"] = "seven lamps over the harbour"
        answer = form.submit(expect_errors=True)
    assert answer.status_int == 429


# -- clumsy and hostile input ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [" 1478 9078 ", "14.789.078", "14789078\t", "１４７８９０７８"])
def test_a_number_is_taken_as_people_write_it(portal, number):
    browser = portal.browser()
    # Nobody failed from here, or under this number: who did has to wait.
    browser.app.extra_environ["REMOTE_ADDR"] = "127.0.0.9"
    assert browser.sign_in(number).status_int == 303


@pytest.mark.parametrize("field", ["number", "password"])
def test_what_no_browser_sends(portal, field):
    browser = portal.browser()
    values = {"number": "19573526", "password": PASSWORD, "next": "/"}
    for sent, status in (("a\0b", 400), ("x" * 20_001, 400), ("x" * 10_000_000, 413)):
        answer = browser.post("/sign-in", {**values, field: sent}, expect_errors=True)
        assert answer.status_int == status
    too_long = browser.post("/sign-in", {**values, field: "x" * 19_000}, expect_errors=True)
    assert too_long.status_int == 422
    assert "x" * 300 not in too_long.text or field == "number"
    assert browser.cookies.get("__Host-hospital-session") is None


def test_a_password_is_never_shown_again(portal):
    answer = portal.browser().sign_in("19573526", "my secret that was mistyped")
    assert "my secret that was mistyped" not in answer.text


# -- what a sign-in costs tells nothing ------------------------------------------------------------


@pytest.fixture
def argon2(monkeypatch):
    """Count what argon2 is asked for: kinds of work and parameters, in order."""
    done = []
    for name in ("hash", "verify"):
        real = getattr(PasswordHasher, name)

        def counted(self, *given, real=real, name=name):
            done.append((name, self.time_cost, self.memory_cost, self.parallelism))
            return real(self, *given)

        monkeypatch.setattr(PasswordHasher, name, counted)
    return done


@pytest.fixture
def strangers(portal):
    """Give people with each kind of account: number by what is special about it."""
    tenant = portal.settings.tenant("hospital")
    numbers = {
        "none": "30000001",
        "suspended": "30000002",
        "usual": "30000003",
        "attacked": "30000004",
    }
    with portal.session("hospital") as session, session.begin():
        for kind, number in numbers.items():
            if people.find_person(session, "citizen-card", number):
                continue
            person = people.register_person(
                session,
                scheme="citizen-card",
                number=number,
                profile=people.Profile("A B", date(1980, 1, 1), "female", email="a@mail.example"),
                role="auditor",
                by=None,
                now=utcnow(),
            ).person_id
            session.flush()
            if kind != "none":
                set_password(session, person, tenant.passwords, PASSWORD, utcnow())
            if kind == "suspended":
                session.execute(
                    update(Account).where(Account.person_id == person).values(status="suspended")
                )
    return {**numbers, "unknown": "99999998", "malformed": "no number"}


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    ("kind", "password"),
    [
        ("none", PASSWORD),
        ("none", "the password of nobody"),
        ("suspended", PASSWORD),
        ("suspended", "wrong"),
        ("usual", "wrong"),
        ("usual", "x" * 250),
        ("unknown", PASSWORD),
        ("unknown", "x" * 250),
        ("unknown", "the password of nobody"),
        ("malformed", "wrong"),
    ],
)
def test_whoever_is_asked_for_the_work_is_the_same(portal, strangers, argon2, kind, password, warm):
    """Counted, not timed: one comparison with the same parameters, also the first of a process."""
    browser = portal.browser()
    browser.app.extra_environ["REMOTE_ADDR"] = f"127.1.{len(password)}.{len(kind)}"
    if not warm:
        passwords._nobodys_hash.cache_clear()
    assert browser.sign_in(strangers[kind], password).status_int == 401
    work = [name for name, *_cost in argon2]
    assert work == (["verify"] if warm else ["hash", "verify"])
    assert len({tuple(cost) for _name, *cost in argon2}) == 1


def test_the_page_is_the_same_whoever_is_asked_for(portal, strangers):
    pages = set()
    for number, kind in enumerate(("none", "suspended", "usual", "unknown")):
        browser = portal.browser()
        browser.app.extra_environ["REMOTE_ADDR"] = f"127.2.0.{number}"
        answer = browser.sign_in(strangers[kind], "wrong all the same")
        text = re.sub(r'name="csrf_token" value="[^"]*"', "", answer.text)
        pages.add((answer.status, text.replace(strangers[kind], "")))
        assert set(answer.headers) == set(portal.browser().sign_in("99999997", "x").headers)
    assert len(pages) == 1


def test_a_password_is_hashed_anew_under_new_parameters(portal, strangers, argon2):
    def stored():
        with portal.session("hospital") as session:
            found = credentials.credentials(session, "citizen-card", strangers["usual"])
            return found.password_hash

    policy = portal.settings.tenant("hospital").passwords
    old = passwords.hash_password(replace(policy, time_cost=2), PASSWORD)
    with portal.session("hospital") as session, session.begin():
        person = people.find_person(session, "citizen-card", strangers["usual"])
        credentials.store_hash(session, person, old, utcnow())
    browser = portal.browser()
    browser.app.extra_environ["REMOTE_ADDR"] = "127.3.0.1"
    assert browser.sign_in(strangers["usual"], "wrong").status_int == 401
    assert stored() == old
    assert browser.sign_in(strangers["usual"]).status_int == 303
    assert stored() != old
    assert not passwords.needs_rehash(policy, stored())
    assert passwords.verify_password(policy, stored(), PASSWORD)


# -- many failures --------------------------------------------------------------------------------


def attack(portal, number, times):
    """Count failures of strangers, each on a network of their own, as sign-in does."""
    with portal.session("hospital") as session, session.begin():
        for stranger in range(times):
            keys = throttle.keys("sign-in", number, f"203.0.113.{stranger}")
            throttle.note_failure(session, keys, utcnow())


def mails_to(portal, number):
    with portal.session("hospital") as session:
        person = people.find_person(session, "citizen-card", number)
        return session.execute(
            select(OutgoingMail.kind, OutgoingMail.params, OutgoingMail.address).where(
                OutgoingMail.person_id == person
            )
        ).all()


def test_the_owner_of_an_attacked_account_is_told_once_and_not_locked_out(portal, strangers):
    number = strangers["attacked"]
    attack(portal, number, throttle.MANY)
    there = portal.browser()
    there.app.extra_environ["REMOTE_ADDR"] = "127.4.0.1"
    assert there.sign_in(number, "wrong").status_int == 401
    ((kind, params, address),) = mails_to(portal, number)
    assert (kind, address) == ("many-failures", "a@mail.example")
    assert json.loads(params)["count"] > throttle.MANY
    assert there.sign_in(number, "wrong").status_int == 429, "one try and a long wait"
    elsewhere = portal.browser()
    elsewhere.app.extra_environ["REMOTE_ADDR"] = "127.4.0.2"
    assert elsewhere.sign_in(number).status_int == 303
    third = portal.browser()
    third.app.extra_environ["REMOTE_ADDR"] = "127.4.0.3"
    assert third.sign_in(number, "wrong").status_int == 401
    assert len(mails_to(portal, number)) == 1


def test_nobody_is_mailed_about_a_number_that_is_nobodys(portal, strangers):
    attack(portal, strangers["unknown"], throttle.MANY)
    browser = portal.browser()
    browser.app.extra_environ["REMOTE_ADDR"] = "127.5.0.1"
    with portal.session("hospital") as session:
        before = session.scalars(select(OutgoingMail.id)).all()
    assert browser.sign_in(strangers["unknown"], "wrong").status_int == 401
    with portal.session("hospital") as session:
        assert session.scalars(select(OutgoingMail.id)).all() == before


def test_a_colleague_behind_the_same_address_holds_nobody_up(portal):
    """A browser in which somebody signed in before is counted by itself."""
    mine = portal.browser()
    mine.app.extra_environ["REMOTE_ADDR"] = "127.6.0.1"
    assert mine.sign_in(NUMBERS["porter"]).status_int == 303
    mine.post("/sign-out", {}, status=303)
    colleague = portal.browser()
    colleague.app.extra_environ["REMOTE_ADDR"] = "127.6.0.1"
    for _ in range(7):
        answer = colleague.sign_in(NUMBERS["porter"], "not the password")
    assert answer.status_int == 429
    assert colleague.sign_in(NUMBERS["porter"]).status_int == 429
    assert mine.sign_in(NUMBERS["porter"]).status_int == 303


def test_a_browser_is_known_for_its_own_person_alone(portal):
    mine = portal.browser()
    mine.app.extra_environ["REMOTE_ADDR"] = "127.6.0.2"
    assert mine.sign_in(NUMBERS["volunteer"]).status_int == 303
    mine.post("/sign-out", {}, status=303)
    answers = [mine.sign_in(NUMBERS["nurse"], "wrong").status_int for _ in range(6)]
    assert answers[-1] == 429
    fresh = portal.browser()
    fresh.app.extra_environ["REMOTE_ADDR"] = "127.6.0.2"
    assert fresh.sign_in(NUMBERS["nurse"]).status_int == 429, "they were the network's"


@pytest.mark.parametrize("cookie", ["", "x", "é", "A" * 5_000, "Z0FBQUFB", "%00"])
def test_a_made_up_browser_is_a_stranger(portal, cookie):
    browser = portal.browser()
    browser.app.extra_environ["HTTP_COOKIE"] = f"__Host-hospital-browser={cookie}"
    assert browser.get("/sign-in", expect_errors=True).status_int in (200, 400)
    browser.app.extra_environ.pop("HTTP_COOKIE")
    assert browser.sign_in(NUMBERS["porter"]).status_int == 303


def test_the_cookie_of_a_known_browser_is_no_key(portal):
    """It opens nothing, says nothing, is of one institution and no browser of a second factor."""
    browser = portal.signed_in("porter")
    kept = browser.cookies["__Host-hospital-browser"]
    assert portal.person("porter") not in kept
    thief = portal.browser()
    for name in ("__Host-hospital-browser", "__Host-hospital-session", "__Host-hospital-device"):
        thief.app.set_cookie(name, kept)
    assert "sign-in" in thief.get("/patients", status=303).location
    vault = portal.keys("hospital").vault
    with portal.session("hospital") as session:
        account = session.get(Account, portal.person("porter"))
        since = known_device.of_when(account.password_changed_at)

    def read(vault, owner):
        return known_device.read_cookie(vault, owner, since, kept, utcnow())

    assert read(vault, portal.person("porter")) is None
    mine = f"{portal.person('porter')} password"
    assert read(vault, mine)
    assert read(vault, f"{portal.person('volunteer')} password") is None
    assert read(portal.keys("laboratory").vault, mine) is None


def test_a_program_behind_the_same_address_keeps_nobody_out(portal):
    """More failures than thirty: somebody in a new browser is let in all the same."""
    with portal.session("hospital") as session, session.begin():
        for number in range(throttle.FIRST_FAILURES - 100):
            keys = throttle.keys("sign-in", f"{number:08}", "127.9.0.1")
            throttle.note_failure(session, keys, utcnow())
    browser = portal.browser()
    browser.app.extra_environ["REMOTE_ADDR"] = "127.9.0.1"
    assert browser.sign_in(NUMBERS["porter"]).status_int == 303
    # With its whole budget used up, those whose browser is known are.
    browser.post("/sign-out", {}, status=303)
    with portal.session("hospital") as session, session.begin():
        for number in range(throttle.FIRST_FAILURES):
            keys = throttle.keys("sign-in", f"1{number:07}", "127.9.0.1")
            throttle.note_failure(session, keys, utcnow())
    assert browser.sign_in(NUMBERS["porter"]).status_int == 303


def test_a_changed_password_makes_known_browsers_strangers(portal, strangers):
    number = strangers["usual"]
    thief = portal.browser()
    thief.app.extra_environ["REMOTE_ADDR"] = "127.9.0.2"
    assert thief.sign_in(number).status_int == 303
    thief.post("/sign-out", {}, status=303)
    policy = portal.settings.tenant("hospital").passwords
    with portal.session("hospital") as session, session.begin():
        person = people.find_person(session, "citizen-card", number)
        credentials.set_password(session, person, policy, PASSWORD + " x", utcnow())
    colleague = portal.browser()
    colleague.app.extra_environ["REMOTE_ADDR"] = "127.9.0.2"
    for _ in range(throttle.FREE_TRIES_PAIR + 2):
        answer = colleague.sign_in(number, "not the password")
    assert answer.status_int == 429
    assert thief.sign_in(number, "another guess").status_int == 429, "counted with the others"
    with portal.session("hospital") as session, session.begin():
        credentials.set_password(session, person, policy, PASSWORD, utcnow())


def test_a_right_password_among_many_guesses_at_once_is_not_told(portal, strangers, monkeypatch):
    """All were let try while none had failed; each is looked at again before it is answered."""
    real = views.verify_password

    def verify_while_others_fail(policy, stored, password):
        with portal.session("hospital") as session, session.begin():
            keys = throttle.keys("sign-in", strangers["usual"], "127.7.0.1")
            for _ in range(throttle.FREE_TRIES_PAIR + 1):
                throttle.note_failure(session, keys, utcnow())
        return real(policy, stored, password)

    monkeypatch.setattr(views, "verify_password", verify_while_others_fail)
    browser = portal.browser()
    browser.app.extra_environ["REMOTE_ADDR"] = "127.7.0.1"
    answer = browser.sign_in(strangers["usual"])
    assert answer.status_int == 429
    assert "__Host-hospital-session" not in browser.cookies


def test_waiting_is_said_in_words_and_as_a_header(portal):
    browser = portal.browser()
    browser.app.extra_environ["REMOTE_ADDR"] = "127.8.0.1"
    answers = [browser.sign_in("99999996", "wrong") for _ in range(6)]
    assert [answer.status_int for answer in answers] == [401] * 5 + [429]
    assert "Too many tries. Please wait" in page_text(answers[-1])
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 2
